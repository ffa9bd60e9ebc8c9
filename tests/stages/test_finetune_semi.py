"""Fine-tuning with slices without labels: whose they are, what is recorded, what goes on, and what is refused."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import SimpleITK as sitk

from jcl import semi
from jcl.cli import main as cli
from jcl.config import FinetuneConfig, PrepareConfig
from jcl.data.splits import Split, write_split
from jcl.errors import DataError, UsageError
from jcl.files import read_json
from jcl.stages.finetune import finetune
from jcl.stages.prepare import prepare
from jcl.training import technique
from jcl.training.run_folder import load_network, read_model
from support.interrupted import stopped
from support.scans import with_labels_alone_of, write_volumes
from support.shared import made_once


def config(store: Path, out: Path, **settings) -> FinetuneConfig:
    small = {"folds": 3, "patients": 1, "steps": 6, "width": 2, "batch_size": 3, "recipe": "strong", "init": "none"}
    return FinetuneConfig(**{"store": store, "out": out, "semi": "mean_teacher", **small, **settings})


@pytest.fixture(scope="module", autouse=True)
def few_steps_suffice() -> Iterator[None]:
    """The recipe's technique is taken in trainings as short as a test's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(technique, "FEWEST_STEPS", 1)
        yield


@pytest.fixture(scope="module")
def unbroken(store_path, tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "mean-teacher", lambda out: finetune(config(store_path, out)))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """A store of the same six patients under other names, and of a seventh."""

    def make(out: Path) -> None:
        scans = write_volumes(out.with_name("scans"), patients=7, labelled=0)
        for path in (scans / "images").iterdir():
            path.rename(path.with_name(f"other-{path.name}"))
        prepare(PrepareConfig(source=scans, out=out, workers=1))

    return made_once(tmp_path_factory, "elsewhere", make)


def patients(run: Path) -> list[set[str]]:
    return [set(entry["patients"]) for entry in read_json(run / "run.json")["unlabelled"]]


def test_everyone_but_those_who_are_tested_is_taken(unbroken, store_path):
    info, split = read_json(unbroken / "run.json"), read_json(unbroken / "split.json")
    (entry,) = info["unlabelled"]
    assert entry["path"] == str(store_path)
    assert entry["digest"] == info["store_digest"]
    assert len(split["train"]) == 1
    assert set(entry["patients"]) == {f"p{n}" for n in range(6)} - set(split["test"])
    assert info["settings"]["semi"] == "mean_teacher"


def test_who_validates_is_not_taken(store_path, tmp_path, capsys):
    write_split(tmp_path / "s.json", Split(("p0",), validation=("p1", "p2"), test=("p3",)))
    run = finetune(config(store_path, tmp_path / "run", split=tmp_path / "s.json", patients=None, steps=1))
    assert patients(run) == [{"p0", "p4", "p5"}]
    assert "without labels: 18 slices of 3 patients of " in capsys.readouterr().err


def test_the_model_is_that_of_a_plain_run(unbroken, store_path, tmp_path):
    plain = finetune(config(store_path, tmp_path / "plain", semi="none"))
    assert "unlabelled" not in read_json(plain / "run.json")
    assert {k: v.shape for k, v in read_model(plain).items()} == {k: v.shape for k, v in read_model(unbroken).items()}
    assert load_network(unbroken)[1]["backbone"] == load_network(plain)[1]["backbone"]


def test_labels_of_patients_without_are_never_read(unbroken, store_path, tmp_path):
    """Their files damaged, the weights are the same."""
    store = with_labels_alone_of(read_json(unbroken / "split.json")["train"], store_path, tmp_path / "store")
    run = finetune(config(store, tmp_path / "run"))
    assert (run / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", semi.available())
@pytest.mark.parametrize("recipe", ["paper", "strong"])
def test_stopped_and_resumed_equals_unbroken(store_path, tmp_path, monkeypatch, name, recipe):
    """After each of two steps, one of them in the warm-up; with more unlabelled slices than labelled ones."""
    settings = {"semi": name, "recipe": recipe, "unlabelled_batch_size": 4, "semi_settings": {"warmup": 0.34}}
    whole = finetune(config(store_path, tmp_path / "whole", **settings))
    for last in (1, 4):
        again = config(store_path, tmp_path / "run", **settings, resume=last > 1)
        stopped(monkeypatch, partial(finetune, again), last)
    finetune(config(store_path, tmp_path / "run", **settings, resume=True))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert {"loss", "supervised", "learning_rate"} <= lines[-1].keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", semi.available())
def test_two_processes(store_path, tmp_path, name):
    settings = {"semi": name, "devices": "cpu:2", "steps": 4, "semi_settings": {"warmup": 0.25}, "batch_size": 2}
    run = finetune(config(store_path, tmp_path / "run", **settings))
    assert read_json(run / "run.json")["processes"] == 2
    load_network(run)


def test_another_store_without_those_who_are_tested(unbroken, store_path, elsewhere, tmp_path, capsys):
    run = finetune(config(store_path, tmp_path / "run", unlabelled=(store_path, elsewhere), steps=1))
    test = read_json(run / "split.json")["test"]
    assert patients(run) == [*patients(unbroken), {f"other-p{n}" for n in range(7)} - {f"other-{p}" for p in test}]
    assert f"{elsewhere}: 2 patients left out, whose images are held back in {store_path}" in capsys.readouterr().err


def test_where_nobody_else_is_the_labelled_slices_serve(store_path, tmp_path, capsys):
    finetune(config(store_path, tmp_path / "run", patients=None, steps=1))
    assert "no patient beyond the labelled ones: their scans serve without labels too" in capsys.readouterr().err


def test_stores_that_do_not_fit(store_path, elsewhere, tmp_path):
    other = write_volumes(tmp_path / "scans", patients=2, labelled=0, size=64)
    prepare(PrepareConfig(source=other, out=tmp_path / "small", workers=1))
    with pytest.raises(
        DataError, match=r"slices have 1 channel of 64 x 64 pixels, those of .* 1 channel of 32 x 32 pixels"
    ):
        finetune(config(store_path, tmp_path / "run", unlabelled=(tmp_path / "small",)))
    for path in (other / "images").iterdir():
        sitk.WriteImage(sitk.Compose(*[sitk.ReadImage(str(path))] * 3), str(path))
    prepare(PrepareConfig(source=other, out=tmp_path / "colour", workers=1, channels=3))
    with pytest.raises(DataError, match="3 channels"):
        finetune(config(store_path, tmp_path / "run", unlabelled=(tmp_path / "colour",)))
    write_split(tmp_path / "s.json", Split(("p0",), test=("p1", "p2", "p3", "p4", "p5")))
    scans = write_volumes(tmp_path / "tested", patients=3, labelled=0)
    (scans / "images" / "p0.nii.gz").unlink()
    prepare(PrepareConfig(source=scans, out=tmp_path / "tested-store", workers=1))
    settings = {"split": tmp_path / "s.json", "patients": None, "unlabelled": (tmp_path / "tested-store",)}
    with pytest.raises(DataError, match="has no patient beside those who are held back"):
        finetune(config(store_path, tmp_path / "run", **settings))
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"semi": "mean-teacher"}, "no semi-supervised technique 'mean-teacher'.*did you mean mean_teacher"),
        ({"semi_settings": {"wait": 1.0}}, "technique mean_teacher has no setting 'wait'"),
        ({"semi_settings": {"warmup": 2.0}}, "warmup is 2.0; 0 to 1 is needed"),
        ({"semi": "none", "semi_settings": {"weight": 1.0}}, "--semi.NAME is for --semi, which is none here"),
        ({"semi": "none", "unlabelled": (Path("x"),)}, "--unlabelled is for --semi"),
        ({"semi": "none", "unlabelled_batch_size": 2}, "--unlabelled-batch-size is for --semi"),
        ({"unlabelled_batch_size": 0}, "unlabelled_batch_size is 0; at least 1 is needed"),
    ],
)
def test_what_is_refused_before_any_work(store_path, tmp_path, settings, said):
    if settings.get("unlabelled"):
        settings = {"unlabelled": (store_path,), "semi": "none"}
    with pytest.raises(UsageError, match=said):
        finetune(config(store_path, tmp_path / "run", **settings))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_run_goes_on_with_the_same_alone(unbroken, store_path, elsewhere, tmp_path):
    run = Path(shutil.copytree(unbroken, tmp_path / "run"))
    finetune(config(store_path, run, resume=True))
    for settings, said in (
        ({"semi": "bcp"}, "settings.semi: 'mean_teacher' -> 'bcp'"),
        ({"semi": "none"}, "settings.semi: 'mean_teacher' -> None"),
        ({"semi_settings": {"weight": 2.0}}, "settings.semi_settings.weight: None -> 2.0"),
        ({"unlabelled": (elsewhere,)}, "is another run; .*unlabelled: "),
        ({"unlabelled_batch_size": 2}, "settings.unlabelled_batch_size: None -> 2"),
    ):
        with pytest.raises(UsageError, match=said):
            finetune(config(store_path, run, resume=True, **settings))


def test_a_store_that_was_moved_is_the_same(store_path, elsewhere, tmp_path):
    run = finetune(config(store_path, tmp_path / "run", unlabelled=(elsewhere,), steps=1))
    moved = Path(shutil.copytree(elsewhere, tmp_path / "moved"))
    finetune(config(store_path, run, unlabelled=(moved,), steps=1, resume=True))
    info = read_json(run / "run.json")
    assert info["unlabelled"][0]["path"] == str(moved)
    assert info["settings"]["unlabelled"] == [str(moved)]


def test_a_run_from_before_there_were_techniques_goes_on(store_path, tmp_path):
    run = finetune(config(store_path, tmp_path / "run", semi="none", steps=2))
    recorded = read_json(run / "run.json")
    for name in ("semi", "semi_settings", "unlabelled", "unlabelled_batch_size"):
        del recorded["settings"][name]
    (run / "run.json").write_text(json.dumps(recorded))
    (run / "model.json").unlink()
    finetune(config(store_path, run, semi=None, steps=2, resume=True))
    with pytest.raises(UsageError, match=r"settings\.semi: None -> 'cps'"):
        finetune(config(store_path, run, semi="cps", steps=2, resume=True))


def test_whoever_was_seen_without_labels_is_not_tested_from_these_weights(unbroken, store_path, tmp_path):
    """The weights of a fine-tuning may begin another one."""
    init = str(unbroken / "model.safetensors")
    seen, trained = patients(unbroken)[0], read_json(unbroken / "split.json")["train"]
    (tested,) = sorted(seen - set(trained))[:1]
    write_split(tmp_path / "s.json", Split(tuple(trained), test=(tested,)))
    settings = {"semi": "none", "init": init, "split": tmp_path / "s.json", "patients": None, "steps": 1}
    with pytest.raises(UsageError, match=f"was trained on images of 1 of the 1 test patients \\({tested}\\)"):
        finetune(config(store_path, tmp_path / "run", **settings))


def test_the_command_line(store_path, elsewhere, tmp_path):
    words = ["finetune", str(store_path), "--init", "none", "--width", "2", "--folds", "3", "--patients", "1"]
    words += [
        "--steps",
        "1",
        "--semi",
        "bcp",
        "--semi.weight",
        "0.25",
        "--semi.box=0.5",
        "--out",
        str(tmp_path / "run"),
    ]
    assert cli.main([*words, "--unlabelled", str(store_path), str(elsewhere)]) == 0
    settings = read_json(tmp_path / "run" / "run.json")["settings"]
    assert settings["semi_settings"] == {"weight": 0.25, "box": 0.5}
    assert settings["unlabelled"] == [str(store_path), str(elsewhere)]


def by_default(store: Path, out: Path, **settings) -> dict:
    run = finetune(config(store, out, **{"semi": None, "steps": 2, **settings}))
    return read_json(run / "run.json")


def test_the_strong_recipe_learns_of_scans_without_labels_where_there_are_any(store_path, tmp_path, capsys):
    info = by_default(store_path, tmp_path / "run")
    assert info["settings"]["semi"] == "self_training"
    assert set(info["unlabelled"][0]["patients"]) > set(read_json(tmp_path / "run" / "split.json")["train"])
    assert "--semi none" in capsys.readouterr().err
    assert by_default(store_path, tmp_path / "paper", recipe="paper")["settings"]["semi"] is None
    assert by_default(store_path, tmp_path / "none", semi="none")["settings"]["semi"] is None
    assert by_default(store_path, tmp_path / "auto", recipe="paper", semi="auto")["settings"]["semi"] == "self_training"


def test_a_short_training_learns_of_labelled_patients_alone_by_default(store_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(technique, "FEWEST_STEPS", 7)
    assert by_default(store_path, tmp_path / "run")["settings"]["semi"] is None
    said = capsys.readouterr().err
    assert "2 steps are too few to learn of the scans without labels as well; with 7 or more, or --semi" in said
    assert by_default(store_path, tmp_path / "asked", semi="self_training")["settings"]["semi"] == "self_training"
    assert by_default(store_path, tmp_path / "longer", steps=7)["settings"]["semi"] == "self_training"


def test_where_every_patient_is_labelled_or_held_back_there_is_no_technique_by_default(store_path, tmp_path, capsys):
    write_split(tmp_path / "s.json", Split(("p0", "p1"), validation=("p2", "p3"), test=("p4", "p5")))
    everyone = {"split": tmp_path / "s.json", "patients": None}
    info = by_default(store_path, tmp_path / "run", **everyone)
    assert info["settings"]["semi"] is None
    assert "unlabelled" not in info
    assert "without labels" not in capsys.readouterr().err
    asked = by_default(store_path, tmp_path / "asked", **everyone, semi_settings={"warmup": 0.25})
    assert asked["settings"]["semi"] == "self_training"


def test_a_scan_that_is_held_back_under_another_name_is_nobody_to_learn_of(tmp_path):
    scans = write_volumes(tmp_path / "scans", patients=3, labelled=2)
    shutil.copy(scans / "images" / "p1.nii.gz", scans / "images" / "p2.nii.gz")
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1))
    write_split(tmp_path / "s.json", Split(("p0",), test=("p1",)))
    info = by_default(tmp_path / "store", tmp_path / "run", split=tmp_path / "s.json", patients=None)
    assert info["settings"]["semi"] is None


def test_a_run_that_goes_on_keeps_the_technique_that_it_began_with(store_path, tmp_path, monkeypatch):
    """A plain run of an earlier version, too, which knew no technique by default."""
    for name, begun in (("plain", "none"), ("auto", None)):
        stopped(monkeypatch, partial(by_default, store_path, tmp_path / name, semi=begun), 1)
        with monkeypatch.context() as patch:
            patch.setattr(technique, "FEWEST_STEPS", 1000)  # as if an earlier version had begun it
            info = by_default(store_path, tmp_path / name, resume=True)
        assert info["settings"]["semi"] == (None if name == "plain" else "self_training")
