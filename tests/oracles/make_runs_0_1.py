"""Write tests/stages/runs-0.1: what version 0.1.0 left behind, for the test that it can still be used.

Made once, by the code of commit 38d7c8a with torch 2.13 on one thread:

    git worktree add ../before 38d7c8a
    OMP_NUM_THREADS=1 PYTHONPATH=../before/src:tests python tests/oracles/make_runs_0_1.py tests/stages/runs-0.1

An unfinished run is one that was stopped as by Ctrl-C. Going on with it, version 0.1.0 ended, to the last bit, in the
weights of the finished run beside it, which is checked here. All paths are relative to the folder.
"""

import os
import shutil
import sys
from pathlib import Path
from unittest import mock

import jcl.stages.evaluate
import jcl.stages.export
import jcl.stages.finetune
import jcl.stages.predict
import jcl.stages.prepare
import jcl.stages.pretrain
from jcl import config
from jcl.errors import Interrupted
from support.scans import write_volumes

LEFT = 3
"""Steps that an unfinished run still has to take: few, since machines that sum in another order drift apart."""

PLAIN = {"precision": "float32", "kernels": "off", "compile": "off", "workers": 1, "batch_size": 4}
PRETRAIN = {**PLAIN, "width": 1, "steps": 8, "learning_rate": 0.1, "method_settings": {"projection": 8, "blocks": 1}}
FINETUNE = {**PLAIN, "init": "pretrain", "folds": 3, "patients": 2, "steps": 60, "learning_rate": 0.02}


def train(stage, make, name: str, settings: dict) -> None:
    """A finished run, and one that stopped some steps before its end and was left with its last checkpoint."""
    run, save_or_stop = getattr(stage, name), stage.save_or_stop

    def stopping(checkpointer, stop, step: int) -> None:
        stop.asked = step == settings["steps"] - LEFT
        save_or_stop(checkpointer, stop, step)

    def train_in(out: str, **more) -> Path:
        return run(config.load(make, None, {**settings, "out": Path(out), **more}))

    done = train_in(name)
    try:
        with mock.patch.object(stage, "save_or_stop", stopping):
            train_in(f"{name}-unfinished")
    except Interrupted:
        shutil.copytree(f"{name}-unfinished", "resumed")
    resumed = train_in("resumed", resume=True)
    assert (resumed / "model.safetensors").read_bytes() == (done / "model.safetensors").read_bytes()
    shutil.rmtree(resumed)


def main(out: Path) -> None:
    out.mkdir()
    os.chdir(out)
    write_volumes(Path("scans"), patients=4, labelled=4, slices=4)
    jcl.stages.prepare.prepare(
        config.PrepareConfig(source=Path("scans"), out=Path("store"), labels="1=ball", workers=1)
    )
    train(jcl.stages.pretrain, config.PretrainConfig, "pretrain", {**PRETRAIN, "stores": (Path("store"),)})
    train(jcl.stages.finetune, config.FinetuneConfig, "finetune", {**FINETUNE, "store": Path("store")})
    run = Path("finetune")
    jcl.stages.evaluate.evaluate(config.EvaluateConfig(run=run, out=Path("scores.json"), precision="float32"))
    scan = Path("scans/images/p0.nii.gz")
    predict = config.PredictConfig(run=run, source=scan, out=Path("segmentation"), precision="float32")
    jcl.stages.predict.predict(predict)
    jcl.stages.export.export(config.ExportConfig(run=run, to="hub", out=Path("hub")))
    for folder in [*Path().rglob("tensorboard"), Path("scans/labels")]:
        shutil.rmtree(folder)
    for path in Path("scans/images").iterdir():
        if path.name != scan.name:
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
