"""Suggestions by networks that are known: who is in doubt and who is typical follows from the slices themselves."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from jcl import backbones
from jcl.config import PrepareConfig, PretrainConfig, SuggestConfig
from jcl.data.context import span_of
from jcl.data.splits import Split, write_split
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.inference import slice_looks
from jcl.inference.coverage import cover
from jcl.inference.suggestions import Suggestions
from jcl.stages import suggest as stage
from jcl.stages.prepare import prepare
from jcl.stages.pretrain import pretrain
from jcl.stages.suggest import suggest
from jcl.training.run_folder import save_model, start_run
from support.shared import made_once
from support.thresholds import STEEP, make_recipe_of, threshold_network, write_run

THRESHOLD = 0.5
SOFT = {"a": 1.0, "b": 4.0, "c": 1.5, "d": 3.0, "e": 5.0, "f": 1.2, "g": 2.0, "h": 4.5}
"""Width of the edge of each patient's ball, in pixels: the softer, the more doubt."""


def write_balls(folder: Path) -> Path:
    """Eight patients, who differ in how sharp they are; `h` has two scans, the first three have labels."""
    row, column = np.mgrid[:32, :32]
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number, (name, width) in enumerate(SOFT.items()):
        for scan in (1, 2) if name == "h" else (1,):
            depth = np.arange(9)[:, None, None]
            radius = 10 - 1.2 * np.abs(depth - 3 - scan)
            distance = np.hypot(row - 15 - number % 3, column - 16)[None] - radius
            ball = 100 / (1 + np.exp(distance / width)) * (radius > 3)
            noise = np.random.default_rng(number).normal(0, 0.5, ball.shape)
            image = sitk.GetImageFromArray((100 * (ball + noise)).astype(np.int16))
            image.SetSpacing((1.0, 1.0, 4.0))
            image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, -1) if number % 2 else (1, 0, 0, 0, 1, 0, 0, 0, 1))
            sitk.WriteImage(image, str(folder / "images" / f"{name}_{scan}.nii.gz"))
            if name in "abc":
                label = sitk.GetImageFromArray((ball > 50).astype(np.uint8))
                label.CopyInformation(image)
                sitk.WriteImage(label, str(folder / "labels" / f"{name}_{scan}.nii.gz"))
    return folder


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(out: Path) -> None:
        scans = write_balls(out.with_name("scans"))
        prepare(PrepareConfig(source=scans, out=out, labels="1=ball", patient=r"(.)_\d", workers=1))

    return made_once(tmp_path_factory, "suggest", make)


@pytest.fixture
def store(path: Path) -> Store:
    return Store.open(path)


def fine(folder: Path, store: Store, split: Split, threshold: float = THRESHOLD) -> Path:
    where = {"store": str(store.path), "digest": store.digest, "split": split}
    return write_run(folder, threshold_network(threshold), store.preparation, **where)


def pre(folder: Path, store: Store, split: Split | None = None, context: int = 0) -> Path:
    """A finished pre-training, whose features are those of random weights."""
    torch.manual_seed(0)
    backbone = {"in_channels": span_of(context) * store.channels, "classes": 2, "width": 4}
    network = torch.nn.ModuleDict({"backbone": backbones.load("unet")(**backbone)})
    stores = [{"path": str(store.path), "digest": store.digest}]
    seen = {"context": context} if context else {}
    start_run(
        folder, {"kind": "pretrain", "settings": seen, "backbone": {"name": "unet", **backbone}, "stores": stores}
    )
    save_model(folder, network)
    if split is not None:
        write_split(folder / "split.json", split)
    return folder


def settings(store: Store, *runs: Path, **more) -> SuggestConfig:
    return SuggestConfig(**{"store": store.path, "run": runs, "patients": 2, "precision": "float32", **more})


def doubts_of(store: Store, case: int) -> tuple[np.ndarray, np.ndarray]:
    """Score and entropy of each pixel of a case."""
    images = np.stack([store.image(case, n)[0] for n in range(store.cases[case].slices)]).astype(float)
    p = 1 / (1 + np.exp(-STEEP * (images - THRESHOLD)))
    return p, -sum(q * np.log2(np.maximum(q, 1e-12)) for q in (p, 1 - p))


def test_the_choice_is_among_twice_as_many_those_with_the_most_doubt(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[dict] = []

    def keep(distances: np.ndarray, count: int, **how) -> list[int]:
        asked.append(how)
        return cover(distances, count, **how)

    monkeypatch.setattr(stage, "cover", keep)
    suggest(settings(store, fine(tmp_path / "run", store, Split(("a", "b"), (), ("c", "e"))), patients=1))
    assert [("d", "f", "g", "h")[one] for one in asked[0]["allowed"]] == ["h", "d"]
    assert list(asked[0]["given"]) == [4, 5]  # a and b, behind the candidates
    assert len(asked[1]["allowed"]) == 6  # of nine slices, where three are wanted


def test_by_a_fine_tuning_those_in_doubt(store: Store, tmp_path: Path):
    run = fine(tmp_path / "run", store, Split(("a", "b"), (), ("c", "e")))
    found = suggest(settings(store, run))
    assert (found.candidates, found.trained, found.held_back, found.labelled) == (4, 2, 2, 0)
    doubts = {each.patient: each.doubt for each in suggest(settings(store, run, patients=4)).suggestions}
    assert sorted(doubts, key=lambda name: doubts[name] or 0) == sorted("dfgh", key=lambda name: SOFT[name])
    one = suggest(settings(store, run, patients=1)).patients
    assert set(one) <= {"h", "d"}  # twice as many as are asked for, with the most doubt
    for each in suggest(settings(store, run, patients=4)).suggestions:
        for case in each.cases:
            number = [record.case for record in store.cases].index(case.case)
            entropy = doubts_of(store, number)[1].mean((1, 2))
            doubtful = np.argsort(-entropy)[:6]
            assert len(case.chosen) == 3
            assert {one.slice for one in case.chosen} <= set(doubtful.tolist())
            for one in case.chosen:
                assert one.doubt == pytest.approx(entropy[one.slice], abs=1e-3)


def test_slices_are_seen_with_the_neighbours_that_the_run_takes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[torch.Tensor] = []

    def keep(looker: slice_looks.Looker, images: torch.Tensor, inside: torch.Tensor):
        seen.append(images)
        return run_networks(looker, images, inside)

    run_networks = slice_looks._run
    monkeypatch.setattr(slice_looks, "_run", keep)
    assert len(suggest(settings(store, pre(tmp_path / "run", store, context=1))).patients) == 2
    first = [record.patient for record in store.cases].index("d")  # of those without labels
    own = torch.from_numpy(np.stack([store.image(first, number)[0] for number in range(store.cases[first].slices)]))
    before, behind = own[[0, *range(len(own) - 1)]], own[[*range(1, len(own)), -1]]
    torch.testing.assert_close(seen[0], torch.stack([before, own, behind], 1), rtol=0, atol=0, check_stride=False)


def test_a_patient_has_the_mean_doubt_of_his_scans(store: Store, tmp_path: Path):
    run = fine(tmp_path / "run", store, Split(("a", "b"), (), ("c",)))
    found = suggest(settings(store, run, patients=5, slices=2))
    (h,) = (each for each in found.suggestions if each.patient == "h")
    assert [case.case for case in h.cases] == ["h_1", "h_2"]
    assert h.doubt == pytest.approx(np.mean([case.doubt for case in h.cases]), abs=1e-5)


def test_nothing_found_is_the_most_doubt(store: Store, tmp_path: Path):
    run = fine(tmp_path / "run", store, Split(("a",), (), ("b",)), threshold=3.0)
    found = suggest(settings(store, run))
    assert [each.doubt for each in found.suggestions] == [1.0, 1.0]
    assert found.suggestions[0].cases[0].doubt is None


def test_of_several_runs_the_mean(store: Store, tmp_path: Path):
    split = Split(("a", "b"), (), ("c",))
    runs = [fine(tmp_path / f"run-{n}", store, split, t) for n, t in enumerate((0.4, 0.6))]
    both, one = suggest(settings(store, *runs, patients=5)), suggest(settings(store, runs[0], patients=5))
    assert both.runs == ("run-0", "run-1")
    doubts = [{each.patient: each.doubt for each in found.suggestions} for found in (both, one)]
    assert all(doubts[0][name] > doubts[1][name] for name in "defgh")  # between the two each is sure, and they differ


def test_a_cold_start_asks_for_those_who_stand_for_the_rest(store: Store, tmp_path: Path):
    run = pre(tmp_path / "pre", store, Split(("a", "b", "d", "e", "f", "g", "h"), (), ("c",)))
    found = suggest(settings(store, run))
    assert set(found.patients) < set("defgh")
    assert (found.candidates, found.held_back, found.labelled) == (5, 1, 2)
    for each in found.suggestions:
        assert each.doubt is None
        assert each.covers >= 1
        assert 0 <= each.typicality <= 1
        assert each.distance is not None
        assert each.distance > 0
        assert all(one.doubt is None for case in each.cases for one in case.chosen)
    everyone = suggest(settings(store, run, among="all", patients=3))
    assert (everyone.candidates, everyone.labelled) == (7, 0)
    assert sum(each.covers for each in everyone.suggestions) == 7


@pytest.mark.slow
def test_nobody_is_asked_for_who_is_like_one_with_labels(path: Path, tmp_path: Path):
    """Two kinds of patients; one of either has labels in turn, and the other kind is asked for."""
    scans = tmp_path / "scans"
    (scans / "images").mkdir(parents=True)
    (scans / "labels").mkdir()
    row, column = np.mgrid[:32, :32]
    kinds = {"stripes": 100.0 * (row % 8 < 4), "ball": 100.0 * (np.hypot(row - 16, column - 16) < 9)}
    for kind, pattern in kinds.items():
        for number in range(4):
            noise = np.random.default_rng(number).normal(0, 5, (5, 32, 32))
            image = sitk.GetImageFromArray((pattern[None] + noise).astype(np.int16))
            sitk.WriteImage(image, str(scans / "images" / f"{kind}{number}.nii.gz"))
    for kind, other in (("stripes", "ball"), ("ball", "stripes")):
        shutil.rmtree(scans / "labels")
        (scans / "labels").mkdir()
        label = sitk.GetImageFromArray(np.ones((5, 32, 32), np.uint8))
        sitk.WriteImage(label, str(scans / "labels" / f"{kind}0.nii.gz"))
        prepare(PrepareConfig(source=scans, out=tmp_path / f"{kind} store", labels="1=x", workers=1))
        store = Store.open(tmp_path / f"{kind} store")
        run = pre(tmp_path / f"{kind} pre", store)
        assert suggest(settings(store, run, patients=1)).patients[0][:-1] == other
        two = suggest(settings(store, run, patients=2, among="all")).patients
        assert {name[:-1] for name in two} == set(kinds)


def test_the_same_command_gives_the_same(store: Store, tmp_path: Path):
    run = pre(tmp_path / "pre", store)
    one, other = (suggest(settings(store, run, seed=3, batch_size=size)) for size in (4, 4))
    assert one == other


def test_a_run_of_the_program_itself(store: Store, tmp_path: Path):
    """With every part that a pre-training leaves out or adds, and a fold."""
    pretrain(PretrainConfig(stores=(store.path,), out=tmp_path / "pre", fold=0, folds=3, width=2, steps=1))
    found = suggest(settings(store, tmp_path / "pre"))
    assert found.held_back == 1
    assert len(set(found.patients)) == 2


def test_files_and_numbers_of_the_source(store: Store, tmp_path: Path):
    run = fine(tmp_path / "run", store, Split(("a", "b"), (), ("c",)))
    source = store.path.with_name("scans")
    out, picture = tmp_path / "new folder" / "s.csv", tmp_path / "o.png"
    found = suggest(settings(store, run, patients=5, source=source, out=out, overview=picture))
    rows = [line.split(",") for line in out.read_text().splitlines()]
    assert len(rows) == 1 + 3 * 6
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    reversed_ones = 0
    for row in table:
        number = [record.case for record in store.cases].index(row["case"])
        image = sitk.ReadImage(str(source / row["file"]))
        voxels = sitk.GetArrayFromImage(image)[int(row["index"])].astype(float)
        stored = store.image(number, int(row["slice"]))[0]
        assert np.corrcoef(stored.ravel(), voxels.ravel())[0, 1] > 0.99
        reversed_ones += int(row["index"]) != int(row["slice"])
        assert float(row["head_mm"]) == pytest.approx(
            image.TransformIndexToPhysicalPoint((0, 0, int(row["index"])))[2], abs=1e-3
        )
    assert reversed_ones
    suggest(settings(store, run, out=tmp_path / "s.json", patients=5, source=source))
    assert json.loads((tmp_path / "s.json").read_text()) == json.loads(json.dumps(found.as_mapping()))


def test_more_slices_than_there_are(store: Store, tmp_path: Path):
    found = suggest(settings(store, pre(tmp_path / "pre", store), slices=99))
    assert [one.slice for one in found.suggestions[0].cases[0].chosen] == list(range(9))


Made = Callable[[Store, Path], SuggestConfig]

SPLIT = Split(("a", "b"), (), ("c",))

REFUSED: dict[str, tuple[Made, type[Exception], str]] = {
    "more than there are": (
        lambda store, tmp: settings(store, fine(tmp / "run", store, SPLIT), patients=6),
        UsageError,
        r"6 patients asked for; of its 8 patients 5 may be suggested \(1 held back by the run's split, 2 trained on\)"
        "; take a smaller -n$",
    ),
    "all have labels": (
        lambda store, tmp: settings(store, pre(tmp / "run", store), patients=6),
        UsageError,
        r"may be suggested \(3 with labels\); take a smaller -n, or --among all",
    ),
    "none": (
        lambda store, tmp: settings(store, fine(tmp / "run", store, Split(tuple("abcdefg"), (), ("h",)))),
        UsageError,
        "0 may be suggested .*; add scans without labels$",
    ),
    "-n 0": (lambda store, tmp: settings(store, tmp, patients=0), UsageError, "patients is 0"),
    "--slices 0": (lambda store, tmp: settings(store, tmp, slices=0), UsageError, "slices is 0"),
    "no run": (lambda store, tmp: settings(store), UsageError, "at least one run folder"),
    "a store instead of a run": (lambda store, tmp: settings(store, store.path), DataError, "not a run folder"),
    "nothing there": (lambda store, tmp: settings(store, tmp / "x"), DataError, "no such folder"),
    "a pre-training among others": (
        lambda store, tmp: settings(store, fine(tmp / "fine", store, SPLIT), pre(tmp / "pre", store)),
        UsageError,
        "pre: a pre-training, which is given alone",
    ),
    "another format": (
        lambda store, tmp: settings(store, tmp, out=tmp / "s.xlsx"),
        UsageError,
        r"s\.xlsx: give a file whose name ends with \.csv or \.json",
    ),
    "a folder": (lambda store, tmp: settings(store, tmp, overview=tmp), UsageError, r"ends with \.png"),
    "no source": (lambda store, tmp: settings(store, tmp, source=tmp / "x"), UsageError, "--source .*: no folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(store: Store, tmp_path: Path, name: str):
    made, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message) as caught:
        suggest(made(store, tmp_path))
    assert "\n" not in str(caught.value)


def test_a_run_without_its_weights(store: Store, tmp_path: Path):
    run = pre(tmp_path / "pre", store)
    (run / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors"):
        suggest(settings(store, run))
    (run / "model.json").unlink()
    with pytest.raises(DataError, match="not finished"):
        suggest(settings(store, run))


def test_a_run_of_other_slices(store: Store, store_path: Path, tmp_path: Path):
    other = Store.open(store_path)
    for recipe, message in (
        ({"padded": (64, 64)}, "have 32 x 32 pixels, those of .*run-0 64 x 64"),
        ({"padded": (32, 32), "spacing": 2.0}, "are not prepared as those of .*run-1"),
        ({"padded": (32, 32), "channels": 3}, "has 1 channels, .*run-2 3"),
    ):
        number = message[-1] if message.endswith("1") else ("0" if "64" in message else "2")
        network = threshold_network(0.5, channels=recipe.get("channels", 1))
        run = write_run(
            tmp_path / f"run-{number}", network, make_recipe_of({1: "ball"}, **{"clip": (1.0, 99.0), **recipe})
        )
        with pytest.raises(DataError, match=message):
            suggest(settings(other, run))


def test_a_pre_training_of_other_slices_is_known_while_its_store_is_there(store: Store, tmp_path: Path):
    scans = store.path.with_name("scans")
    prepare(PrepareConfig(source=scans, out=tmp_path / "large", labels="1=ball", size=48, workers=1))
    large = Store.open(tmp_path / "large")
    run = pre(tmp_path / "pre", large)
    with pytest.raises(DataError, match=r"have 32 x 32 pixels, those of .*pre 48 x 48"):
        suggest(settings(store, run))
    shutil.rmtree(tmp_path / "large")
    assert suggest(settings(store, run)).patients


def test_one_patient_is_no_choice(tmp_path: Path):
    scans = tmp_path / "scans"
    scans.mkdir()
    array = np.random.default_rng(0).integers(0, 99, (4, 16, 16)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(scans / "anna.nii.gz"))
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1))
    store = Store.open(tmp_path / "store")
    with pytest.raises(UsageError, match="anna is the only patient"):
        suggest(settings(store, pre(tmp_path / "pre", store), patients=1))


def test_a_model_for_the_hub_does_not_say_whom_it_saw(store: Store, tmp_path: Path):
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(DataError, match="give the run's own folder"):
        suggest(settings(store, folder))


def test_what_a_spreadsheet_would_compute_is_text(store: Store, tmp_path: Path):
    found = suggest(settings(store, pre(tmp_path / "pre", store)))
    first = replace(found.suggestions[0], patient="=1+1")
    changed: Suggestions = replace(found, suggestions=(first,))
    assert ",'=1+1," in changed.as_sheet()
