"""The command line: what is parsed, what is said, and with which exit code."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from jcl import __version__, config
from jcl.cli import main as cli
from jcl.errors import DataError, Interrupted
from support.effort import slowness

PRETRAIN = ["pretrain", "a store", "--out", "run"]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list:
    """The settings of every command that was run; none of them really runs."""
    settings: list = []

    def keep(command: cli.Command, given: object) -> list:
        settings.append(given)
        return []

    monkeypatch.setattr(cli.Command, "run", keep)
    return settings


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **variables}
    )


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in cli.COMMANDS), ["--version"]])
def test_help_does_without_torch(arguments: list[str]):
    code = (
        "import sys; from jcl.cli.main import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'scipy', 'SimpleITK', 'matplotlib', 'pydicom', 'rich'} & set(sys.modules);"
        "sys.exit(code or ' '.join(heavy) or 0)"
    )
    done = run("-c", code, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 5


def test_help_is_quick():
    def seconds() -> float:
        begun = os.times()
        run("-m", "jcl", "pretrain", "--help")
        ended = os.times()
        return ended.children_user + ended.children_system - begun.children_user - begun.children_system

    # of the processor, since other tests run beside this one; 0.06 s where this was written
    assert min(seconds() for _ in range(3)) < 0.3 * slowness()


def test_overview_names_every_command_in_the_order_of_the_path(capsys: pytest.CaptureFixture):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    names = ["prepare", "verify", "pretrain", "finetune", "evaluate", "predict", "demo", "methods", "backbones"]
    places = [text.index(f"\n  {name} ") for name in names]
    assert places == sorted(places)


def test_every_setting_has_a_flag_with_its_help(capsys: pytest.CaptureFixture):
    for name, command in cli.COMMANDS.items():
        assert cli.main([name, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert f"jcl {name} " in text.partition("example")[2]
        for field in dataclasses.fields(command.config):
            assert field.metadata["help"].split("(")[0].split("`")[0].strip()[:40] in text


def test_arguments_become_settings(called: list):
    code = cli.main(
        [*PRETRAIN, "another", "--batch-size", "8", "--learning-rate", "1e-3", "--resume", "--split=s.json",
         "--method", "jcl", "--method.temperature", "0.2", "--method.dense-weight=0", "--method.views", "paper",
         "--method.dominant_pixel_projector", "False"]
    )  # fmt: skip
    assert code == 0
    (given,) = called
    assert given == config.PretrainConfig(
        stores=(Path("a store"), Path("another")),
        out=Path("run"),
        batch_size=8,
        learning_rate=1e-3,
        resume=True,
        split=Path("s.json"),
        method_settings={
            "temperature": 0.2, "dense_weight": 0, "views": "paper", "dominant_pixel_projector": False,
        },
    )  # fmt: skip


def test_arguments_and_flags_may_come_in_any_order(called: list):
    assert cli.main(["predict", "--out", "o", "run", "--batch-size", "2", "scan.nii.gz"]) == 0
    assert called == [config.PredictConfig(run=Path("run"), source=Path("scan.nii.gz"), out=Path("o"), batch_size=2)]


def test_flags_override_the_file_and_settings_print(called: list, tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "s.toml"
    path.write_text('stores = ["s"]\nout = "from-file"\nseed = 7\nresume = true\n[method_settings]\nblocks = 1\n')
    assert cli.main(["pretrain", "--config", str(path), "--out", "from-flag", "--no-resume"]) == 0
    (given,) = called
    assert (given.stores, given.out, given.seed, given.resume) == ((Path("s"),), Path("from-flag"), 7, False)
    assert given.method_settings == {"blocks": 1}

    assert cli.main(["pretrain", "--config", str(path), "--print-config"]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert (printed["seed"], printed["method_settings"]) == (7, {"blocks": 1})
    assert len(called) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretran", "s"], "no command 'pretran'; did you mean pretrain?"),
        (["xyz"], "no command 'xyz'; there are: prepare"),
        ([*PRETRAIN, "--epoch", "3"], "unknown: --epoch 3; did you mean --epochs?"),
        ([*PRETRAIN, "--seed", "one"], "invalid int value: 'one'"),
        ([*PRETRAIN, "--precision", "float16"], "invalid choice: 'float16'"),
        ([*PRETRAIN, "--method.temperature"], "--method.temperature: a value is needed"),
        (["pretrain", "s"], "missing: out"),
        (["prepare", "a", "b", "--out", "o"], "unknown: b"),
        (["evaluate", "--config", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (["--print-completion", "dos"], "--print-completion takes one of: bash"),
        (["methods", "nosuch"], "no method 'nosuch'; there are: "),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, called: list, capsys: pytest.CaptureFixture
):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("jcl: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not called


def test_no_command_shows_the_overview(capsys: pytest.CaptureFixture):
    assert cli.main([]) == 2
    assert "An example session" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataError("scan.nii.gz: cut short\nfetch it again"), 3, "jcl: error: scan.nii.gz: cut short fetch it again\n"),
        (Interrupted("run: stopped"), 130, "jcl: error: run: stopped\n"),
        (KeyboardInterrupt(), 130, "jcl: error: interrupted\n"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def fail(command: object, settings: object) -> None:
        raise error

    monkeypatch.setattr(cli.Command, "run", fail)
    assert cli.main(PRETRAIN) == code
    assert capsys.readouterr().err == said


def test_a_fault_of_ours_shows_where_and_asks_to_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(cli.Command, "run", lambda command, settings: 1 / 0)
    assert cli.main(PRETRAIN) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in error
    assert "please report it" in error


def test_warnings_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def warn(command: object, settings: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("the features have collapsed", stacklevel=1)

    monkeypatch.setattr(cli.Command, "run", warn)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    assert cli.main(PRETRAIN) == 0
    assert capsys.readouterr().err == "jcl: warning: the features have collapsed\n"


def test_predict_says_how_many_and_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(cli.Command, "run", lambda command, settings: [Path("a"), Path("b")])
    assert cli.main(["predict", "run", "scans", "--out", "segmentations"]) == 0
    assert capsys.readouterr().out == "2 segmented: segmentations\n"


def test_evaluate_shows_its_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path):
    scores = {"dice": 0.5, "jaccard": 0.4, "hd95": 3.0, "asd": 1.0}
    results = {"cases": [{"case": "c", "patient": "c", "classes": {"liver": scores}}]}
    monkeypatch.setattr(cli.Command, "run", lambda command, settings: settings.out.write_text(json.dumps(results)))
    assert cli.main(["evaluate", "run", "--out", str(tmp_path / "r.json")]) == 0
    said = capsys.readouterr().out
    assert "liver" in said
    assert "50.0" in said


def test_version():
    done = run("-m", "jcl", "--version")
    assert (done.returncode, done.stdout) == (0, f"jcl {__version__}\n")


def test_a_closed_pipe_is_no_fault():
    command = f"{sys.executable} -m jcl methods jcl | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.startswith("JCL")


def test_methods_are_listed_with_what_their_settings_mean(capsys: pytest.CaptureFixture):
    assert cli.main(["methods"]) == 0
    said = capsys.readouterr().out
    assert "\njcl " in said
    assert "\nmean_teacher " in said
    assert cli.main(["methods", "jcl"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--method.temperature 0.1" in text
    assert "--method.dominant-pixel-projector true" in text
    assert cli.main(["methods", "unimatch"]) == 0
    assert "--semi.threshold 0.95 probability from which a guess counts" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["backbones"]) == 0
    assert "\nunet " in capsys.readouterr().out


def test_every_setting_of_every_method_is_explained():
    from jcl import methods

    for name in methods.available():
        for setting, _, text in methods.settings(methods.load(name)):
            assert text, f"{name}.{setting} has no entry under Args"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_flags(shell: str, capsys: pytest.CaptureFixture):
    pytest.importorskip("shtab")
    assert cli.main(["--print-completion", shell]) == 0
    text = capsys.readouterr().out
    assert "pretrain" in text
    assert "batch-size" in text  # fish has no dashes before it
    assert "doctor" in text


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["pretr"], {"pretrain"}),
        (["pretrain", "--batch"], {"--batch-size"}),
        (["export", "--to", "mo"], {"monai"}),
        (["pretrain", "sto"], {"store"}),
        (["rec"], {"recipes"}),
    ],
    ids=" ".join,
)
def test_bash_completes(typed: list[str], completed: set[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    """As bash asks for it: what was typed is in its variables, and the function that was given for `jcl` is called."""
    pytest.importorskip("shtab")
    assert cli.main(["--print-completion", "bash"]) == 0
    (tmp_path / "store").mkdir()
    ask = f"""
        COMP_WORDS=(jcl {" ".join(typed)}); COMP_CWORD={len(typed)}
        $(complete -p jcl | sed 's/.*-F \\([^ ]*\\).*/\\1/') jcl "{typed[-1]}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", capsys.readouterr().out + ask], cwd=tmp_path, capture_output=True, text=True
    )
    assert {*done.stdout.split()} == completed, done.stderr


def test_completion_without_shtab_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["--print-completion", "bash"]) == 2
    assert "pip install 'jcl-seg[completion]'" in capsys.readouterr().err
