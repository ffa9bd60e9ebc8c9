"""Real volumes with neighbours: prediction sees what evaluation sees, and ONNX answers as the network does."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import jcl
from jcl.config import EvaluateConfig, ExportConfig, FinetuneConfig, PredictConfig, PrepareConfig, PretrainConfig
from jcl.data.resampling import prepare_parts
from jcl.data.volumes import read_image, read_label
from jcl.inference.predictor import pad_centred
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
    store = prepare(PrepareConfig(source=scans, out=tmp_path / "store", spacing=2.0, workers=1))
    training = {"folds": 2, "fold": 0, "precision": "float32"}
    pre = pretrain(
        PretrainConfig(
            stores=(store.path,), out=tmp_path / "pre", method="simclr", width=4, steps=2, batch_size=4, context=1,
            **training,
        )
    )  # fmt: skip
    fine = {"init": str(pre), "steps": 4, **training}
    run = finetune(FinetuneConfig(store=store.path, out=tmp_path / "fine", **fine))
    results = evaluate(EvaluateConfig(run=run, out=tmp_path / "r.json", precision="float32"))
    (entry,) = results["cases"]
    scan = scans / "imagesTr" / f"{entry['case']}.nii.gz"
    (written,) = predict(PredictConfig(run=run, source=scan, out=tmp_path / "out", precision="float32"))
    image, segmenter = read_image([scan]), jcl.load(run)
    assert read_label(written, image).shape == image.geometry.shape

    path = export(ExportConfig(run=run, to="onnx", out=tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    case = [record.case for record in store.cases].index(entry["case"])
    numbers = iter(range(store.cases[case].slices))
    for part in prepare_parts(image, segmenter.preparation, 4):
        slices = np.ascontiguousarray(pad_centred(part, store.size)[0].swapaxes(0, 1))
        for one in slices:  # as evaluation sees it, but for the store's 12 bits
            assert np.abs(one - store.image(case, next(numbers), context=1)).max() < 1 / 4095
        with torch.no_grad():
            wanted = segmenter.network(torch.from_numpy(slices)).numpy()
        (answer,) = session.run(None, {"image": slices})
        assert np.abs(answer - wanted).max() < 1e-4
    assert not [*numbers]
