"""`jcl doctor`: what it prints, as text and as JSON, and with which exit code."""

import json
import sys

import pytest

from jcl.cli.main import main
from jcl.config import DoctorConfig
from jcl.doctor import speed
from jcl.doctor.doctor import doctor


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement that takes no time."""
    monkeypatch.setattr(speed, "SIDE", 16)
    monkeypatch.setattr(speed, "SLICES", 2)


def test_everything_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JCL_KERNAL", "off")
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("processor", "cores", "memory", "GPU", "PyTorch", "C compiler", "kernels", "temporary files", "speed"):
        assert f"\n{word}" in text, word
    assert "slices of 128 x 128 a second" in text
    assert "warning: JCL_KERNAL is not a variable of jcl's; did you mean JCL_KERNELS?" in text


def test_as_json_it_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"usable", "facts", "speed", "extras", "findings"}
    assert found["usable"] is True
    assert found["extras"]["ray"]["install"] == "pip install 'jcl-seg[ray]'"
    assert all(value > 0 for value in found["speed"].values())


@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_what_is_broken_is_named_and_the_exit_code_says_so(
    flag: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["doctor", *flag]) == 2
    said = capsys.readouterr()
    assert "torch cannot be imported" in said.out
    assert said.err == "jcl: error: 1 thing broken on this machine; mend what is named as an error\n"
    assert not flag or json.loads(said.out)["usable"] is False


def test_a_device_that_cannot_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **settings: object) -> float:
        raise RuntimeError("CUDA error: no kernel image is available\nfor execution on the device")

    monkeypatch.setattr(speed, "_slices_a_second", fail)
    found = doctor(DoctorConfig())
    assert not found.usable
    (finding,) = (each for each in found.findings if each.level == "error")
    assert "no kernel image is available for execution on the device" in finding.text
    assert "--devices cpu" in finding.text
