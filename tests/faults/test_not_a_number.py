"""NaN or infinity in loss, weights or scores ends a command with one line and no success."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jcl.config import EvaluateConfig, FinetuneConfig, PredictConfig, PretrainConfig
from jcl.errors import DataError, JclError
from jcl.files import write_json
from jcl.inference.predictor import NotFiniteError, class_scores
from jcl.stages.evaluate import evaluate
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.pretrain import pretrain
from jcl.training.checkpoint import read_weights, write_weights

SMALL = {"width": 2, "batch_size": 2, "kernels": "off", "precision": "float32", "devices": "cpu"}


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_a_finetuning_whose_numbers_overflow_has_no_result(store_path: Path, tmp_path: Path, rate: float):
    out = tmp_path / "run"
    with pytest.raises(JclError, match=r"the loss is (nan|inf)|became NaN or infinite") as caught:
        finetune(FinetuneConfig(store=store_path, init="none", out=out, steps=12, learning_rate=rate, **SMALL))
    assert caught.value.exit_code != 0
    assert not (out / "model.json").exists()
    assert not [*out.glob("checkpoints/step-*")]


def test_a_pretraining_whose_numbers_overflow_has_no_result(store_path: Path, tmp_path: Path):
    given = {**SMALL, "method": "simclr", "learning_rate": 1e38, "steps": 12}
    with pytest.raises(JclError, match=r"the loss is (nan|inf)|became NaN or infinite"):
        pretrain(PretrainConfig(stores=(store_path,), out=tmp_path / "run", **given))
    assert not (tmp_path / "run" / "model.json").exists()


@pytest.fixture
def spoilt(store_path: Path, tmp_path: Path) -> Path:
    """A finished run one of whose weights became NaN, with the digest of that."""
    run = finetune(FinetuneConfig(store=store_path, init="none", out=tmp_path / "run", steps=1, **SMALL))
    weights = load_file(run / "model.safetensors")
    next(each for each in weights.values() if each.is_floating_point()).view(-1)[0] = float("nan")
    from hashlib import sha256

    from safetensors.torch import save

    (run / "model.safetensors").write_bytes(save(weights))
    write_json(run / "model.json", {"sha256": sha256(save(weights)).hexdigest()})
    return run


def test_spoilt_weights_are_no_ones_to_use(spoilt: Path, store_path: Path, tmp_path: Path):
    out = tmp_path / "results.json"
    with pytest.raises(DataError, match="is NaN or infinite"):
        evaluate(EvaluateConfig(run=spoilt, out=out))
    with pytest.raises(DataError, match="is NaN or infinite"):
        predict(PredictConfig(run=spoilt, source=store_path.with_name("scans"), out=tmp_path / "out"))
    init = str(spoilt / "model.safetensors")
    with pytest.raises(DataError, match="is NaN or infinite"):
        finetune(FinetuneConfig(store=store_path, init=init, out=tmp_path / "other", steps=1, **SMALL))
    assert not out.exists()
    assert not (tmp_path / "other").exists()


def test_what_is_not_finite_is_not_written(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    write_weights(path, {"a": torch.ones(2)})
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(JclError, match="a became NaN or infinite"):
            write_weights(path, {"a": torch.tensor([1.0, wrong])})
        with pytest.raises(DataError, match="NaN or an infinite number"):
            write_json(tmp_path / "scores.json", {"dice": wrong})
    assert torch.equal(read_weights(path)["a"], torch.ones(2))
    assert not (tmp_path / "scores.json").exists()


def test_scores_that_overflow(tmp_path: Path):
    network = torch.nn.Conv2d(1, 2, 1).eval()
    images = np.full((2, 1, 8, 8), 3e38, np.float32)
    torch.nn.init.constant_(network.weight, 1e3)
    with pytest.raises(NotFiniteError, match="is NaN or infinite"):
        list(class_scores(network, images, batch_size=2, device=torch.device("cpu"), precision=torch.float32))
