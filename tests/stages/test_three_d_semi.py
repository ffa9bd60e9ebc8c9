"""Fine-tuning in three dimensions with scans without labels: by default, recorded, resumed, in two processes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jcl import semi
from jcl.config import FinetuneConfig
from jcl.files import read_json
from jcl.semi.self_training import SelfTraining
from jcl.stages.finetune import finetune
from jcl.training import autotune, technique
from jcl.training.run_folder import load_network
from support.interrupted import same_weights, stopped
from support.scans import with_labels_alone_of
from support.shared import made_once

BLOCK = (4, 16, 16)


def config(store: Path, out: Path, **settings) -> FinetuneConfig:
    usual = {"init": "none", "backbone": "unet3d", "block": BLOCK, "width": 2, "folds": 3, "patients": 1}
    return FinetuneConfig(**{"store": store, "out": out, **usual, "steps": 4, "batch_size": 2, **settings})


@pytest.fixture(scope="module", autouse=True)
def few_steps_suffice() -> Iterator[None]:
    """The recipe's technique is taken in trainings as short as a test's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(technique, "FEWEST_STEPS", 1)
        yield


@pytest.fixture(scope="module")
def unbroken(store_path, tmp_path_factory) -> Path:
    """By default: what the strong recipe has where there are scans without labels."""
    return made_once(tmp_path_factory, "self-training-3d", lambda out: finetune(config(store_path, out)))


def test_the_strong_recipe_learns_of_scans_without_labels_where_there_are_any(unbroken, store_path, tmp_path, capsys):
    info, split = read_json(unbroken / "run.json"), read_json(unbroken / "split.json")
    assert info["settings"]["semi"] == "self_training"
    (entry,) = info["unlabelled"]
    assert set(entry["patients"]) == {f"p{n}" for n in range(6)} - set(split["test"])
    everyone = finetune(config(store_path, tmp_path / "everyone", patients=None, steps=1))
    assert read_json(everyone / "run.json")["settings"]["semi"] is None
    paper = finetune(config(store_path, tmp_path / "paper", recipe="paper", steps=1))
    assert read_json(paper / "run.json")["settings"]["semi"] is None
    assert "without labels" not in capsys.readouterr().err
    none = finetune(config(store_path, tmp_path / "none", semi="none", steps=1))
    assert read_json(none / "run.json")["settings"]["semi"] is None


def test_what_is_learned_of_is_said(store_path, tmp_path, capsys):
    finetune(config(store_path, tmp_path / "run", steps=1))
    said = capsys.readouterr().err
    assert "learned of as well, by self_training; --semi none" in said
    assert f"without labels: blocks of 4 x 16 x 16 of 4 volumes of 4 patients of {store_path}" in said


def test_labels_of_patients_without_are_never_read(unbroken, store_path, tmp_path):
    """Their files damaged, the weights are the same."""
    store = with_labels_alone_of(read_json(unbroken / "split.json")["train"], store_path, tmp_path / "store")
    assert same_weights(finetune(config(store, tmp_path / "run")), unbroken)


def test_blocks_without_labels_come_in_an_order_of_their_own(store_path, tmp_path, monkeypatch):
    """Where both kinds are of the same patients, in as large batches."""
    seen: list[tuple[list, list]] = []
    usual = SelfTraining.views

    def note(self, labelled, unlabelled, generator):
        assert unlabelled.labels is None
        seen.append(tuple([*zip(b.volumes.tolist(), b.centres.tolist(), strict=True)] for b in (labelled, unlabelled)))
        return usual(self, labelled, unlabelled, generator)

    monkeypatch.setattr(SelfTraining, "views", note)
    same = config(store_path, tmp_path / "run", patients=None, semi="self_training", foreground=0.0)
    finetune(same)
    assert len(seen) == same.steps
    assert all(labelled != unlabelled for labelled, unlabelled in seen)
    drawn = [block for _, unlabelled in seen for block in unlabelled]
    assert len({volume for volume, _ in drawn}) > 1
    assert len({tuple(centre) for _, centre in drawn}) > len(drawn) / 2  # at random places
    before, seen[:] = list(seen), []
    finetune(replace(same, out=tmp_path / "larger", unlabelled_batch_size=3))
    assert [labelled for labelled, _ in seen] == [labelled for labelled, _ in before]
    assert all(len(unlabelled) == 3 for _, unlabelled in seen)


def test_how_to_compute_is_tried_on_a_step_with_as_many_blocks_of_both_kinds(store_path, tmp_path, monkeypatch):
    monkeypatch.setattr(autotune, "TRIED_FROM", 1)
    counts: list[tuple[int, int]] = []
    usual = SelfTraining.views

    def note(self, labelled, unlabelled, generator):
        counts.append((len(labelled.aspects), len(unlabelled.aspects)))
        return usual(self, labelled, unlabelled, generator)

    monkeypatch.setattr(SelfTraining, "views", note)
    finetune(config(store_path, tmp_path / "run", steps=1, unlabelled_batch_size=3, precision="float32", compile="off"))
    assert len(counts) > 1  # the step, and what was tried before
    assert set(counts) == {(2, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("name", semi.available())
def test_stopped_and_resumed_equals_unbroken(store_path, tmp_path, monkeypatch, name):
    """After a step of the warm-up, and after one in which blocks without labels count."""
    settings = {"semi": name, "unlabelled_batch_size": 3, "semi_settings": {"warmup": 0.5}}
    whole = finetune(config(store_path, tmp_path / "whole", **settings))
    for last in (1, 3):
        again = config(store_path, tmp_path / "run", **settings, resume=last > 1)
        stopped(monkeypatch, lambda again=again: finetune(again), last)
    assert same_weights(finetune(config(store_path, tmp_path / "run", **settings, resume=True)), whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", semi.available())
def test_two_processes(store_path, tmp_path, name):
    settings = {"semi": name, "devices": "cpu:2", "semi_settings": {"warmup": 0.25}}
    run = finetune(config(store_path, tmp_path / "run", **settings))
    assert read_json(run / "run.json")["processes"] == 2
    load_network(run)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["plain_conv_unet3d", "residual_encoder_unet3d"])
def test_with_networks_of_nnunet(store_path, tmp_path, backbone):
    run = finetune(config(store_path, tmp_path / "run", backbone=backbone, semi_settings={"warmup": 0.25}))
    assert load_network(run)[1]["settings"]["semi"] == "self_training"


def test_blocks_of_both_kinds_come_with_what_lies_around_them(store_path, tmp_path, monkeypatch):
    """Twice the block along each side: else a turned one has zeros in its corners."""
    seen: list[tuple[tuple[int, ...], ...]] = []
    usual = SelfTraining.views

    def note(self, labelled, unlabelled, generator):
        seen.append((tuple(labelled.label_surroundings.shape[1:]), tuple(unlabelled.surroundings.shape[2:])))
        return usual(self, labelled, unlabelled, generator)

    monkeypatch.setattr(SelfTraining, "views", note)
    finetune(config(store_path, tmp_path / "run", steps=1))
    assert set(seen) == {((8, 32, 32), (8, 32, 32))}
