"""A checkpoint in MACL's layout, imported and fine-tuned on real volumes."""

from pathlib import Path

import pytest
import torch

from jcl.backbones.macl_unet import MACLUNet
from jcl.cli import main as cli
from jcl.data.store import Store
from jcl.files import read_json
from support.checkpoints import authors_state, save

pytestmark = pytest.mark.realdata


def test_an_imported_checkpoint_is_fine_tuned_and_scored(store_of, tmp_path: Path):
    store: Store = store_of("la2018")
    torch.manual_seed(0)
    path = save(tmp_path / "latest.pth", authors_state(MACLUNet(width=8), "macl"))
    assert cli.main(["import", str(path), "--out", str(tmp_path / "pre")]) == 0
    command = ["finetune", str(store.path), "--init", str(tmp_path / "pre"), "--patients", "2", "--steps", "12"]
    assert cli.main([*command, "--out", str(tmp_path / "fine")]) == 0
    report = read_json(tmp_path / "fine" / "run.json")["init"]["report"]
    assert "108 tensors loaded, 100.0% of the parameters; fresh: head" in report
    assert cli.main(["evaluate", str(tmp_path / "fine"), "--out", str(tmp_path / "results.json")]) == 0
    assert read_json(tmp_path / "results.json")["cases"]
