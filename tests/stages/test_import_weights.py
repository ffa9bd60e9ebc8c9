"""`jcl import`: checkpoints in the authors' layout become runs that a fine-tuning starts from."""

import hashlib
from collections.abc import Callable

import pytest
import torch

from jcl.backbones.macl_unet import MACLUNet
from jcl.cli import main as cli
from jcl.config import ImportConfig, VerifyConfig
from jcl.files import is_sealed, read_json
from jcl.stages.import_weights import import_weights
from jcl.stages.verify import verify
from jcl.training.run_folder import read_model
from support.checkpoints import authors_state, save


@pytest.fixture
def network() -> MACLUNet:
    """Of two channels, with statistics that are not those of a new one."""
    torch.manual_seed(0)
    made = MACLUNet(in_channels=2, width=4)
    with torch.no_grad():
        made(torch.rand(4, 2, 32, 32))
    return made.eval()


DECODER = [f"decoder.{index}" for index in range(4)]


@pytest.mark.parametrize(
    ("program", "decoder", "transfers"),
    [("macl", True, ["encoder", *DECODER]), ("pcl", False, ["encoder"]), ("pcl", True, ["encoder", *DECODER])],
)
def test_the_run_has_the_network_of_the_checkpoint(network, program, decoder, transfers, tmp_path, capsys):
    path = save(tmp_path / "latest.pth", authors_state(network, program, decoder=decoder))
    assert cli.main(["import", str(path), "--out", str(tmp_path / "pre")]) == 0
    said = capsys.readouterr()
    assert f"{program}: {', '.join(transfers)} of macl_unet, width 4, channels 2; " in said.err
    assert said.out == f"written: {tmp_path / 'pre'}\n"
    info = read_json(tmp_path / "pre" / "run.json")
    assert (info["kind"], info["transfers"], info["stores"]) == ("pretrain", transfers, [])
    assert info["backbone"] == {"name": "macl_unet", "in_channels": 2, "classes": 2, "width": 4}
    assert info["imported"] == {"program": program, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert is_sealed(tmp_path / "pre" / "run.json")
    checked = verify(VerifyConfig(path=tmp_path / "pre"))
    assert not checked.findings
    assert checked.facts["split.json"] == "none: of whom it has seen nothing is known"

    weights = {name.removeprefix("backbone."): tensor for name, tensor in read_model(tmp_path / "pre").items()}
    fresh = MACLUNet(in_channels=2, width=4).eval()
    lacking, surplus = fresh.load_state_dict(weights, strict=False)
    assert not surplus
    assert {name.split(".")[0] for name in lacking} == ({"head"} if decoder else {"head", "decoder"})
    x = torch.rand(2, 2, 32, 32)
    blocks = 4 if decoder else 0
    wanted = network.decode(network.encode(x), blocks=blocks)
    torch.testing.assert_close(fresh.decode(fresh.encode(x), blocks=blocks), wanted, rtol=1e-5, atol=1e-5)


def test_fine_tuning_starts_from_it_and_says_what_cannot_be_known(store_path, network, tmp_path, capsys):
    path = save(tmp_path / "latest.pth", {f"module.{n}": t for n, t in authors_state(network, "macl").items()})
    assert cli.main(["import", str(path), "--from", "macl", "--out", str(tmp_path / "pre")]) == 0
    command = ["finetune", str(store_path), "--init", str(tmp_path / "pre"), "--steps", "1", "--folds", "3"]
    assert cli.main([*command, "--patients", "2", "--adapt", "repeat", "--out", str(tmp_path / "fine")]) == 0
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if "whether it has test patients is open" in line]
    assert line.startswith("the data of the program macl: ")
    info = read_json(tmp_path / "fine" / "run.json")
    assert "1 adapted to the number of channels by repeat" in info["init"]["report"]
    assert "fresh: head" in info["init"]["report"]
    assert info["backbone"]["name"] == "macl_unet"
    assert any("cannot be known" in fact for fact in verify(VerifyConfig(path=tmp_path / "fine")).facts.values())

    assert cli.main([*command, "--fold", "none", "--adapt", "repeat", "--out", str(tmp_path / "all")]) == 0
    assert "is open" not in capsys.readouterr().err, "nobody is tested"


def without(name: str) -> Callable[[dict], None]:
    return lambda state: state.pop(name)


def with_(name: str, tensor: torch.Tensor) -> Callable[[dict], None]:
    return lambda state: state.update({name: tensor})


CENTRE = "share_encoder.center.2.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(CENTRE), f"{CENTRE} is missing (1 of 108 tensors of macl); it was cut short"),
        (without("share_encoder.contr_1_1.0.weight"), "share_encoder.contr_1_1.0.weight is missing or no convolution"),
        (with_("share_encoder.contr_1_1.0.weight", torch.ones(3)), "contr_1_1.0.weight is missing or no convolution"),
        (with_(CENTRE, torch.ones(8, 8, 3, 3)), f"{CENTRE} has shape (8, 8, 3, 3), where (64, 64, 3, 3) belongs to"),
        (with_("share_encoder.contr_1_1.0.bias", torch.ones(3)), "share_encoder.contr_1_1.0.bias is no tensor of macl"),
        (with_("share_encoder.contr_5_1.0.weight", torch.ones(3)), "contr_5_1.0.weight is no tensor of macl (1 such)"),
        (with_(CENTRE, torch.full((64, 64, 3, 3), torch.nan)), f"{CENTRE} is NaN or infinite"),
        (lambda state: [state.pop(name) for name in list(state)[1:]], "tensors of macl); it was cut short"),
    ],
)  # fmt: skip
def test_checkpoints_that_do_not_fit(network, change, message, tmp_path, capsys):
    state = authors_state(network, "macl")
    change(state)
    path = save(tmp_path / "latest.pth", state)
    assert cli.main(["import", str(path), "--out", str(tmp_path / "pre")]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"jcl: error: {path}: ")
    assert message in line
    assert not (tmp_path / "pre").exists()


def test_another_program_than_it_is_said_to_be(network, tmp_path, capsys):
    path = str(save(tmp_path / "latest.pth", authors_state(network, "macl")))
    assert cli.main(["import", path, "--from", "pcl", "--out", str(tmp_path / "pre")]) == 3
    assert (
        "encoder.contr_1_1.0.weight is missing or no convolution, so that this is none of pcl"
        in capsys.readouterr().err
    )
    path = str(save(tmp_path / "other.pth", {"conv1.weight": torch.ones(4, 1, 3, 3)}))
    assert cli.main(["import", path, "--out", str(tmp_path / "pre")]) == 3
    assert (
        "neither of MACL nor of PCL: it has conv1.weight, where theirs have share_encoder.c" in capsys.readouterr().err
    )


def test_a_folder_that_is_there_is_left_alone(network, tmp_path, capsys):
    (tmp_path / "pre").mkdir()
    path = save(tmp_path / "latest.pth", authors_state(network, "macl"))
    assert cli.main(["import", str(path), "--out", str(tmp_path / "pre")]) == 2
    assert "pre exists; choose another --out" in capsys.readouterr().err
    assert not list((tmp_path / "pre").iterdir())


def test_half_precision_and_from_python(network, tmp_path):
    state = {n: t.half() if t.is_floating_point() else t for n, t in authors_state(network, "pcl").items()}
    out = import_weights(ImportConfig(file=save(tmp_path / "latest.pth", state), out=tmp_path / "pre"))
    assert {t.dtype for t in read_model(out).values()} == {torch.float32, torch.int64}
