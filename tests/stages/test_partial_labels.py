"""Voxels and slices that nobody has decided on, from the files to loss and scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from jcl.augment.label_noise import corrupt_labels
from jcl.augment.spatial import AffineRanges, random_affine, warp_with_labels
from jcl.checks.findings import NOTE
from jcl.cli import main as cli
from jcl.config import EvaluateConfig, FinetuneConfig, PrepareConfig, VerifyConfig
from jcl.data.batches import SliceBatch, SliceDataset
from jcl.data.manifest import IGNORE
from jcl.data.resampling import resample_label
from jcl.data.slices import list_slices
from jcl.data.splits import Split
from jcl.data.store import Store
from jcl.errors import UsageError
from jcl.metrics import score_case
from jcl.stages import finetune as stage
from jcl.stages.evaluate import evaluate
from jcl.stages.finetune import finetune
from jcl.stages.prepare import prepare
from jcl.stages.verify import verify
from support.thresholds import threshold_network, write_run

SHAPE = (9, 24, 20)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 4.0))
    sitk.WriteImage(image, str(path))


def write_scans(folder: Path, labels: list[np.ndarray], *, names: tuple[str, str] = ("images", "labels")) -> Path:
    """A bright block in noise for each label, wherever that has it."""
    for number, label in enumerate(labels):
        random = np.random.default_rng(number)
        block = np.zeros(SHAPE)
        block[2:8, 6:18, 5:15] = 200
        ending = "_0000" if names[0] == "imagesTr" else ""
        save(folder / names[0] / f"p{number}{ending}.nii.gz", (block + random.normal(0, 9, SHAPE)).astype(np.int16))
        save(folder / names[1] / f"p{number}.nii.gz", label)
    return folder


def block(value: int = 1) -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[2:8, 6:18, 5:15] = value
    return label


def with_ignored(value: int) -> np.ndarray:
    """The block, of which nobody has looked at the upper slices nor at some columns."""
    label = block()
    label[6:] = label[:, :, 12:16] = value
    return label


def every_third() -> np.ndarray:
    """https://github.com/MIC-DKFZ/nnUNet/issues/760: only every x-th slice is labelled."""
    label = block()
    label[[n for n in range(len(label)) if n % 3]] = 0
    return label


def labels_of(store: Store, case: int = 0) -> np.ndarray:
    return np.stack([store.label(case, n)[store.content(case)] for n in range(store.cases[case].slices)])


def prepared(source: Path, out: Path, **settings) -> Store:
    return prepare(PrepareConfig(source=source, out=out, workers=1, **settings))


@pytest.fixture(scope="module")
def ignoring(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("ignoring")
    return prepared(write_scans(folder / "scans", [with_ignored(255)] * 3), folder / "store", ignore=255, labels="1=a")


@pytest.mark.parametrize("way", ["flag", "name", "found", "nnunet", "spec"])
def test_the_ways_to_say_what_is_ignored(tmp_path: Path, way: str) -> None:
    """nnU-Net's label: https://github.com/MIC-DKFZ/nnUNet/issues/1926; it has the highest value there."""
    value, names, settings = 255, ("images", "labels"), {"labels": "1=a"}
    match way:
        case "flag":
            settings |= {"ignore": 255}
        case "name":
            settings = {"labels": "1=a,255=ignore"}
        case "found":
            settings = {"ignore": 255}
        case "spec":
            (tmp_path / "mine.toml").write_text('layout = "folder"\nignore = 255\n[labels]\n1 = "a"\n')
            settings = {"dataset": str(tmp_path / "mine.toml")}
        case "nnunet":
            value, names, settings = 2, ("imagesTr", "labelsTr"), {}
    source = write_scans(tmp_path / "scans", [with_ignored(value)], names=names)
    if way == "nnunet":
        content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1, "ignore": 2}}
        (source / "dataset.json").write_text(json.dumps(content))
    store = prepared(source, tmp_path / "store", **settings)
    assert store.class_names == (("1",) if way == "found" else ("a",))
    assert store.ignores
    read = labels_of(store)
    assert set(np.unique(read)) == {0, 1, IGNORE}
    assert (read == IGNORE).sum() == (with_ignored(value) == value).sum()
    assert store.cases[0].voxels == (int((with_ignored(9) == 1).sum()),)
    assert not (store.label(0, 0, ignored_as=0) == IGNORE).any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ignore": 0}, "ignore = 0; a label value above 0"),
        ({"ignore": 1, "labels": "1=a"}, "labels names it a: it cannot be both"),
        ({"ignore": 4, "labels": "1=a,5=ignore"}, "4 and 5 are to be ignored; one is possible"),
    ],
)
def test_what_cannot_be_ignored(tmp_path: Path, settings: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        prepared(write_scans(tmp_path / "scans", [block()]), tmp_path / "store", **settings)


def test_another_value_is_another_store(ignoring: Store) -> None:
    source = ignoring.path.with_name("scans")
    with pytest.raises(UsageError, match="ignore: 255 there, None now"):
        prepared(source, ignoring.path, labels="1=a,255=b")
    with pytest.raises(UsageError, match="sparse: None there, True now"):
        prepared(source, ignoring.path, labels="1=a", ignore=255, sparse=True)


def test_verify_shows_what_is_ignored(ignoring: Store, tmp_path: Path, capsys) -> None:
    assert {each.kind for each in verify(VerifyConfig(path=ignoring.path, out=tmp_path)).findings} == {"similar"}
    first = (tmp_path / "cases.csv").read_text().splitlines()
    ignored = int((with_ignored(255) == 255).sum())
    assert dict(zip(first[0].split(","), first[1].split(","), strict=True))["ignored voxels"] == str(ignored)
    assert cli.main(["verify", str(ignoring.path), "--out", str(tmp_path)]) == 0
    assert f"{3 * ignored:,}" in next(line for line in capsys.readouterr().out.splitlines() if "(ignored)" in line)


def test_neither_resampling_nor_augmentation_mixes_it_with_a_class() -> None:
    label = np.zeros((1, 60, 60), np.uint8)
    label[0, 10:30, 10:40], label[0, 24:50, 20:44] = 1, IGNORE
    for spacing, target in (((1.0, 1.0, 1.0), 2.3), ((1.0, 2.0, 2.0), 0.7)):
        found = resample_label(label, spacing, target)
        assert set(np.unique(found)) == {0, 1, IGNORE}
        assert (found == IGNORE).mean() == pytest.approx((label == IGNORE).mean(), rel=0.1)
    batch = torch.from_numpy(label.astype(np.int64)).repeat(8, 1, 1)
    matrices = random_affine(8, AffineRanges(), generator=torch.Generator().manual_seed(0))
    _, warped = warp_with_labels(torch.rand(8, 1, 60, 60), batch, matrices)
    assert set(warped.unique().tolist()) == {0, 1, IGNORE}


def test_label_noise_leaves_it_alone(ignoring: Store) -> None:
    slices = SliceDataset([ignoring], list_slices([ignoring], [None], labelled=True), labels=True)
    batch = slices.read(range(4))
    noisy = corrupt_labels(batch, 1.0, seed=0, ignore=IGNORE)
    assert batch.labels is not None
    assert noisy.labels is not None
    assert torch.equal(noisy.labels == IGNORE, batch.labels == IGNORE)
    assert not torch.equal(noisy.labels, batch.labels)


def test_slices_of_which_nothing_counts_are_not_trained_on(ignoring: Store) -> None:
    slices = list_slices([ignoring], [{"p1"}], labelled=True)
    assert [slices[n].slice for n in range(len(slices))] == [0, 1, 2, 3, 4, 5]
    assert len(list_slices([ignoring], [{"p1"}], labelled=False)) == SHAPE[0]


@pytest.mark.parametrize("unit", ["case", "slice"])
def test_scores_are_of_the_voxels_that_count(ignoring: Store, tmp_path: Path, unit: str) -> None:
    split = Split(("p0",), (), ("p1", "p2"))
    run = write_run(
        tmp_path / "run",
        threshold_network(0.5),
        ignoring.preparation,
        store=str(ignoring.path),
        digest=ignoring.digest,
        split=split,
    )
    results = evaluate(EvaluateConfig(run=run, out=tmp_path / "r.json", unit=unit, precision="float32"))
    image = np.stack([ignoring.image(1, n)[0][ignoring.content(1)] for n in range(SHAPE[0])]) > 0.5
    truth = with_ignored(255)
    scored = [entry["classes"] for entry in results["cases"] if entry["case"] == "p1"]
    if unit == "case":
        settings = {"classes": ["a"], "spacing": (4.0, 1.0, 1.0), "ignored": truth == 255}
        assert scored == [score_case(image.astype(int), truth, **settings)]
        assert scored[0]["a"]["dice"] > 0.99  # the block is in the ignored slices as well
    else:
        assert len(scored) == SHAPE[0]
        assert scored[7]["a"]["dice"] is None


def test_a_fine_tuning_learns_though_a_third_of_the_structure_is_ignored(ignoring: Store, tmp_path: Path) -> None:
    settings = {"store": ignoring.path, "init": "none", "width": 2, "steps": 30, "learning_rate": 3e-2}
    settings["recipe"] = "paper"  # which learns in so few steps
    plain = {"precision": "float32", "kernels": "off", "compile": "off"}
    run = finetune(FinetuneConfig(**settings, **plain, out=tmp_path / "run", fold="none"))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]


def test_only_some_slices_are_labelled(tmp_path: Path, capsys) -> None:
    """Without --sparse the others are background, and a line says what that looks like; an empty label is none."""
    empty = np.zeros(SHAPE, np.uint8)
    source = write_scans(tmp_path / "scans", [every_third(), block(), empty])
    plain = prepared(source, tmp_path / "plain", labels="1=a")
    said = capsys.readouterr().err
    assert "p0: slices with structures have none beside them" in said
    assert "--sparse" in said
    assert not plain.ignores
    (note,) = [each for each in verify(VerifyConfig(path=plain.path)).findings if "--sparse" in each.text]
    assert (note.level, note.cases) == (NOTE, ("p0",))
    store = prepared(source, tmp_path / "sparse", labels="1=a", sparse=True)
    assert "labelled are 8 of 18 slices" in capsys.readouterr().err
    assert [record.labelled for record in store.cases] == [True, True, False]
    read = labels_of(store)
    assert [n for n in range(SHAPE[0]) if not (read[n] == IGNORE).all()] == [3, 6]
    assert np.array_equal(read[3], block()[3])
    assert not [each for each in verify(VerifyConfig(path=store.path)).findings if "--sparse" in each.text]
    slices = list_slices([store], [None], labelled=True)
    assert [(slices[n].case, slices[n].slice) for n in range(len(slices))] == [
        (0, 3), (0, 6), *[(1, n) for n in range(2, 8)],
    ]  # fmt: skip


@pytest.mark.parametrize("recipe", ["paper", "strong"])
def test_kinds_of_wrong_labels_are_other_trainings(tmp_path: Path, recipe: str) -> None:
    """The kind alone, without wrong labels, is none."""
    both = block()
    both[3:5, 2:5, 2:8] = 2
    source = write_scans(tmp_path / "scans", [both, both, block()])
    store = prepared(source, tmp_path / "store", labels="1=a,2=b")
    own = {
        "clean": {},
        "kind alone": {"label_noise_kind": "flip"},
        "boundary": {"label_noise": 0.9},
        "flip": {"label_noise": 0.9, "label_noise_kind": "flip"},
        "missing": {"label_noise": 0.9, "label_noise_kind": "missing"},
    }
    plain = {"precision": "float32", "kernels": "off", "compile": "off", "width": 2, "steps": 3, "recipe": recipe}
    plain |= {"store": store.path, "init": "none", "fold": "none", "semi": "none"}
    runs = {name: finetune(FinetuneConfig(**plain, **each, out=tmp_path / name)) for name, each in own.items()}
    weights = {name: (run / "model.safetensors").read_bytes() for name, run in runs.items()}
    assert weights.pop("kind alone") == weights["clean"]
    assert len(set(weights.values())) == len(weights)


def test_a_structure_may_be_taken_for_any_other_of_the_store(tmp_path: Path, monkeypatch) -> None:
    """Also for one that no slice of the batch has, or no training patient."""
    given = []

    def watched(batch: SliceBatch, **settings: Any) -> SliceBatch:
        given.append((settings["kind"], settings["share"], settings["classes"]))
        return corrupt_labels(batch, **settings)

    monkeypatch.setattr(stage, "corrupt_labels", watched)
    store = prepared(write_scans(tmp_path / "scans", [block(), block()]), tmp_path / "store", labels="1=a,2=b,3=c")
    plain = {"precision": "float32", "kernels": "off", "compile": "off", "width": 2, "steps": 2, "recipe": "paper"}
    noise = {"label_noise": 0.5, "label_noise_kind": "flip"}
    finetune(FinetuneConfig(store=store.path, init="none", fold="none", out=tmp_path / "run", **plain, **noise))
    assert given == [("flip", 0.5, 3)] * 2


def test_classes_that_the_training_patients_lack_are_named_before_the_first_step(tmp_path: Path, capsys) -> None:
    """What if a class is absent from a case: https://github.com/MIC-DKFZ/nnUNet/issues/2438."""
    both = block()
    both[3:5, 2:5, 2:8] = 2
    source = write_scans(tmp_path / "scans", [both, block(), block()])
    store = prepared(source, tmp_path / "store", labels="1=a,2=b,3=c")
    split = tmp_path / "split.json"
    capsys.readouterr()
    split.write_text(json.dumps({"train": ["p1"], "test": ["p0", "p2"]}))
    settings = {"store": store.path, "init": "none", "width": 2, "steps": 1, "split": split, "kernels": "off"}
    run = finetune(FinetuneConfig(**settings, out=tmp_path / "run"))
    said = capsys.readouterr().err
    assert "no training patient has b, so it will not be found: take more --patients" in said
    assert "no training patient has c, so it will not be found: nor has any other" in said
    assert said.index("no training patient") < said.index("fine-tune")
    results = evaluate(EvaluateConfig(run=run, out=tmp_path / "r.json"))
    counted = [[case["classes"][name]["dice"] is not None for name in "abc"] for case in results["cases"]]
    assert counted[0][:2] == [True, True]
    assert all(np.isfinite(v) for c in results["cases"] for s in c["classes"].values() for v in s.values() if v)
    split.write_text(json.dumps({"train": ["p0", "p1"], "test": ["p2"]}))
    finetune(FinetuneConfig(**settings, out=tmp_path / "two"))
    assert "not every one of the 2 training patients has every class: b in 1" in capsys.readouterr().err
