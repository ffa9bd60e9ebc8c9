"""Real volumes with neighbours from prepare to export: what is scored is what is predicted and what ONNX answers."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import jcl
from jcl.config import EvaluateConfig, ExportConfig, FinetuneConfig, PredictConfig, PrepareConfig, PretrainConfig
from jcl.data.resampling import prepare_parts
from jcl.data.volumes import read_image, read_label
from jcl.metrics import score_case
from jcl.stages.evaluate import evaluate
from jcl.stages.export import export
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare
from jcl.stages.pretrain import pretrain

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def test_from_scans_to_scores_and_files(realdata: Path, tmp_path: Path):
    source, scans = realdata / "mscmr", tmp_path / "scans"
    labelled = [sorted((source / "labelsTr").glob("*.nii.gz"))[place] for place in (1, 7)]
    for folder in ("imagesTr", "labelsTr"):
        (scans / folder).mkdir(parents=True)
        for file in labelled:
            (scans / folder / file.name).symlink_to(source / folder / file.name)
    (scans / "dataset.json").symlink_to(source / "dataset.json")
    store = prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1))
    training = {"folds": 2, "fold": 0, "precision": "float32"}
    pre = pretrain(
        PretrainConfig(
            stores=(store.path,), out=tmp_path / "pre", method="simclr", width=4, steps=2, batch_size=4, context=1,
            **training,
        )
    )  # fmt: skip
    fine = {"init": str(pre), "steps": 60, "learning_rate": 1e-2, **training}
    run = finetune(FinetuneConfig(store=store.path, out=tmp_path / "fine", **fine))
    results = evaluate(EvaluateConfig(run=run, out=tmp_path / "r.json", precision="float32"))
    (entry,) = results["cases"]
    scan = scans / "imagesTr" / f"{entry['case']}.nii.gz"
    (written,) = predict(PredictConfig(run=run, source=scan, out=tmp_path / "out", precision="float32"))
    image = read_image([scan])
    segmenter = jcl.load(run)
    names, values = segmenter.classes, [0, *segmenter.preparation["class_values"]]
    found, truth = (read_label(path, image) for path in (written, scans / "labelsTr" / scan.name))
    classes = [np.searchsorted(values, labels) for labels in (found, truth)]
    scores = score_case(*classes, classes=names, spacing=image.spacing)
    for name in names:
        assert scores[name]["dice"] == pytest.approx(
            entry["classes"][name]["dice"], abs=0.05
        )  # on the grids of store and scan
    assert max(scores[name]["dice"] for name in names) > 0.1  # it has learned something to compare

    path = export(ExportConfig(run=run, to="onnx", out=tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for part in prepare_parts(read_image([scan]), segmenter.preparation, 16):
        slices = np.ascontiguousarray(part.swapaxes(0, 1))
        assert slices.shape[1] == 3
        with torch.no_grad():
            wanted = segmenter.network(torch.from_numpy(slices)).numpy()
        (answer,) = session.run(None, {"image": slices})
        assert np.abs(answer - wanted).max() < 1e-4
