"""Methods of the user's own, by `package.module:Class`, and the settings of all."""

import subprocess
import sys
from pathlib import Path

import pytest

from jcl import backbones, methods
from jcl.cli.listing import show_methods
from jcl.config import PrepareConfig
from jcl.errors import UsageError
from jcl.files import read_json
from jcl.stages.prepare import prepare
from support.scans import write_volumes

SOURCE = '''
"""Mine: a slice's two views are to have the same features (nobody, 2001)."""

from typing import Unpack

from jcl.data.batches import SliceBatch
from jcl.methods import Method, ViewRanges
from jcl.ssl.collapse import collapse_monitor


class Mine(Method):
    def __init__(self, backbone, *, x: int = 1, **ranges: Unpack[ViewRanges]):
        """Nothing to set up.

        Args:
            x: how much it counts.
        """
        super().__init__(backbone, **ranges)
        self.x = x

    def forward(self, views, batch):
        first, second = (self.backbone.encode(view)[-1].mean((2, 3)) for view in views[0].chunk(2))
        return {"loss": self.x * (first - second).square().mean(), **collapse_monitor(first, second)}


class NoRanges(Mine):
    def __init__(self, backbone, y: float = 0.5):
        super().__init__(backbone)


class NoDefault(Mine):
    def __init__(self, backbone, z):
        super().__init__(backbone)


def function(backbone): ...


NUMBER = 3
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mymethods.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield tmp_path
    sys.modules.pop("mymethods", None)


def network():
    return backbones.load("unet")(in_channels=1, classes=2, width=2)


def test_a_method_in_the_current_folder(folder):
    method = methods.build("mymethods:Mine", network(), {"x": 3, "rotation": 5})
    assert isinstance(method, methods.Method)
    assert (method.x, method.affine.rotation, method.affine.scale) == (3, 5, 0.3)
    assert method.pretrained_modules == ("encoder",)


def test_its_settings_are_listed(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    show_methods("mymethods:Mine")
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("Mine: a slice's two views are to have the same features (nobody, 2001).")
    assert "--method.x 1 how much it counts. --method.rotation 30.0 degrees to either side." in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:Mine", "no module 'nowhere', neither in "),
        ("mymethods:Mien", "mymethods has no function or class 'Mien'; it has: Method, Mine, No"),
        ("mymethods:function", "mymethods:function is not a subclass of jcl.methods.Method"),
        ("mymethods:SliceBatch", "mymethods:SliceBatch is not a subclass of jcl.methods.Method"),
        ("mymethods:NUMBER", "mymethods has no function or class 'NUMBER'"),
        ("mymethods", "no method 'mymethods'; there are: byol, .*, and package.module:Class of your own"),
    ],
)
def test_what_is_no_method(folder, name, said):
    with pytest.raises(UsageError, match=said) as caught:
        methods.load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        (
            "Mine",
            {"rotatoin": 5.0},
            "mymethods:Mine has no setting 'rotatoin'; it has: x, rotation, scale, translation",
        ),
        ("Mine", {"x": "3"}, "mymethods:Mine: x is '3', which is not of type int"),
        ("NoRanges", {"rotation": 5.0}, "mymethods:NoRanges has no setting 'rotation'; it has: y"),
        ("NoDefault", {"z": 3}, "NoDefault: setting 'z' has no default"),
    ],
)
def test_settings_that_it_does_not_have(folder, name, given, said):
    with pytest.raises(UsageError, match=said):
        methods.build(f"mymethods:{name}", network(), given)


def test_the_settings_of_jcl_are_those_of_its_equations_its_ablations_and_the_ranges():
    names = [setting.name for setting in methods.settings(methods.load("jcl"))]
    assert names[:2] == ["blocks", "temperature"]
    assert names[-3:] == ["rotation", "scale", "translation"]
    assert {"connection", "stages", "dense_form", "batch_statistics", "resample", "hidden_units"} < set(names)
    assert len(set(names)) == len(names) == 24


def test_it_is_trained_and_goes_on_to_fine_tuning_in_commands_of_their_own(folder):
    scans = write_volumes(folder / "scans", patients=2, labelled=2)
    prepare(PrepareConfig(source=scans, out=folder / "store", labels="1=ball", workers=1))

    def jcl(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "jcl", *words], cwd=folder, capture_output=True, text=True)

    few = ("--batch-size", "2", "--steps", "2")
    done = jcl(
        *("pretrain", "store", "--method", "mymethods:Mine", "--method.x", "3", "--width", "2"),
        *("--fold", "0", "--folds", "2", *few, "--out", "pre"),
    )
    assert done.returncode == 0, done.stderr
    info = read_json(folder / "pre" / "run.json")
    assert info["settings"]["method"] == "mymethods:Mine"
    assert info["settings"]["method_settings"] == {"x": 3}
    tuned = jcl("finetune", "store", "--init", "pre", "--patients", "1", "--folds", "2", *few, "--out", "fine")
    assert tuned.returncode == 0, tuned.stderr
