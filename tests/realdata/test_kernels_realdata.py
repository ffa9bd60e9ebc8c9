"""Real volumes: predictions and scores on kernels are those of PyTorch, but for voxels on the edge of two classes."""

import json

import nibabel
import numpy as np
import pytest

from jcl.config import EvaluateConfig, FinetuneConfig, PredictConfig, PrepareConfig
from jcl.kernels import library
from jcl.stages.evaluate import evaluate
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare

pytestmark = pytest.mark.realdata

SPACING = {"hippocampus": 1.0, "la2018": 2.0}


@pytest.fixture
def switch(monkeypatch):
    """Turn the kernels on or off."""

    def turn(word: str) -> None:
        monkeypatch.setenv("JCL_KERNELS", word)
        library.load_library.cache_clear()

    yield turn
    library.load_library.cache_clear()


@pytest.mark.parametrize("name", ["hippocampus", "la2018"])
def test_voxels_and_scores(name, realdata, tmp_path, switch):
    source = realdata / name
    files = sorted((source / "imagesTr").glob("*.nii.gz"))[:4]
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "scans" / folder).mkdir(parents=True)
        for file in files:
            (tmp_path / "scans" / folder / file.name).symlink_to(source / folder / file.name)
    (tmp_path / "scans" / "dataset.json").symlink_to(source / "dataset.json")
    prepare(PrepareConfig(source=tmp_path / "scans", out=tmp_path / "store", spacing=SPACING[name], workers=1))
    run = finetune(
        FinetuneConfig(
            store=tmp_path / "store", init="none", folds=2, out=tmp_path / "fine", width=16, steps=260,
            learning_rate=3e-3, precision="float32", kernels="on",
        )
    )  # fmt: skip
    found: dict[str, tuple[list[np.ndarray], list[float]]] = {}
    short: dict[str, list[np.ndarray]] = {}
    for word in ("on", "off"):
        switch(word)
        asked = PredictConfig(run=run, source=tmp_path / "scans", out=tmp_path / f"{word}-16", precision="bfloat16")
        short[word] = [np.asarray(nibabel.load(path).dataobj) for path in sorted(predict(asked))]
        written = predict(PredictConfig(run=run, source=tmp_path / "scans", out=tmp_path / word, precision="float32"))
        evaluate(EvaluateConfig(run=run, out=tmp_path / f"{word}.json", precision="float32"))
        scores = json.loads((tmp_path / f"{word}.json").read_text())["cases"]
        dice = [value for case in scores for value in numbers(case)]
        found[word] = [np.asarray(nibabel.load(path).dataobj) for path in sorted(written)], dice
    voxels = sum(volume.size for volume in found["on"][0])
    other = different(found["on"][0], found["off"][0])
    assert any(volume.any() for volume in found["on"][0])  # something was segmented
    assert other <= 1e-5 * voxels
    distance = {word: different(short[word], found["off"][0]) for word in short}  # from float32, in bfloat16
    assert distance["on"] <= 1.5 * distance["off"] + 1e-5 * voxels
    assert found["on"][1] == pytest.approx(found["off"][1], rel=1e-3, abs=1e-3)


def different(ones: list[np.ndarray], others: list[np.ndarray]) -> int:
    """Voxels that are of another class."""
    return sum(int((one != other).sum()) for one, other in zip(ones, others, strict=True))


def numbers(value) -> list[float]:
    """All numbers of nested results, in order."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in numbers(value[key])]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, float) else []
