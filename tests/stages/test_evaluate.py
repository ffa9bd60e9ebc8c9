"""Evaluation with a network that is known: scores are those of thresholded volumes, of the test patients alone."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from jcl.config import EvaluateConfig, PredictConfig, PrepareConfig
from jcl.data.context import with_context
from jcl.data.manifest import read_sealed, write_sealed
from jcl.data.splits import Split
from jcl.data.store import Store
from jcl.data.volumes import read_image, read_label
from jcl.errors import DataError, UsageError
from jcl.files import read_json, write_json
from jcl.metrics import score_case
from jcl.pooled import Pool
from jcl.report.figures.segment_again import segment_slices
from jcl.stages import evaluate as evaluate_stage
from jcl.stages.evaluate import evaluate
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare
from support.scans import write_volumes
from support.thresholds import threshold_network, write_run

SPLIT = Split(("p0", "p1"), ("p2",), ("p3", "p5"))
THRESHOLD = 0.8
"""So high that parts of the ball are missed."""


def make_run(folder: Path, store: Store, *, split: Split = SPLIT, threshold: float = THRESHOLD) -> Path:
    network = threshold_network(threshold)
    return write_run(folder, network, store.preparation, store=str(store.path), digest=store.digest, split=split)


def settings(run: Path, out: Path, **more) -> EvaluateConfig:
    return EvaluateConfig(**{"run": run, "out": out, "precision": "float32", "batch_size": 4, **more})


@pytest.fixture(scope="module")
def store(store_path) -> Store:
    return Store.open(store_path)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("evaluate") / "run", store)


def expected_scores(store: Store, case: str) -> dict:
    """Scores of the thresholded slices, straight from the store."""
    index = [record.case for record in store.cases].index(case)
    record, content = store.cases[index], store.content(index)
    images = np.stack([store.image(index, n)[0][content] for n in range(record.slices)])
    truth = np.stack([store.label(index, n)[content] for n in range(record.slices)])
    return score_case((images > THRESHOLD).astype(int), truth, classes=store.class_names, spacing=record.spacing)


def test_scores_of_the_test_patients(run, store, tmp_path):
    results = evaluate(settings(run, tmp_path / "new folder" / "results.json"))
    assert read_json(tmp_path / "new folder" / "results.json") == results
    assert [(entry["case"], entry["patient"]) for entry in results["cases"]] == [("p3", "p3"), ("p5", "p5")]
    for entry in results["cases"]:
        assert entry["classes"] == {"ball": pytest.approx(expected_scores(store, entry["case"])["ball"])}
    dice = [entry["classes"]["ball"]["dice"] for entry in results["cases"]]
    assert all(0.3 < value < 1 for value in dice)
    assert results["mean"]["dice"] == pytest.approx(np.mean(dice))
    assert results["mean"]["classes"]["ball"]["dice"] == pytest.approx(np.mean(dice))
    assert results["std"]["dice"] == pytest.approx(np.std(dice, ddof=1))
    low, high = results["interval"]["dice"]
    assert min(dice) - 1e-9 <= low <= results["mean"]["dice"] <= high <= max(dice) + 1e-9
    assert results["unit"] == "case"
    assert results["run"] == run.name
    assert results["store_digest"] == store.digest
    assert results["split"] == {"train": ["p0", "p1"], "validation": ["p2"], "test": ["p3", "p5"]}
    assert {"jcl", "torch"} <= set(results["versions"])


def test_all_slices_together_beside_the_cases(run, store, tmp_path):
    plain = evaluate(settings(run, tmp_path / "case.json"))
    results = evaluate(settings(run, tmp_path / "pooled.json", unit="pooled"))
    pool = Pool(store.class_names, batch_size=5)
    for case in ("p3", "p5"):
        index = [record.case for record in store.cases].index(case)
        content, numbers = store.content(index), range(store.cases[index].slices)
        images = np.stack([store.image(index, n)[0][content] for n in numbers])
        pool.add((images > THRESHOLD).astype(int), np.stack([store.label(index, n)[content] for n in numbers]))
    assert results["pooled"] == pool.result()
    assert results["pooled"]["mean"]["dice"] != results["mean"]["dice"]
    assert (results["unit"], results["pooled"]["slices"], results["pooled"]["batch_size"]) == ("pooled", 12, 5)
    assert {key: value for key, value in results.items() if key != "pooled"} == {**plain, "unit": "pooled"}
    assert read_json(tmp_path / "pooled.json") == results


def test_batches_of_pooled_distances_are_those_of_the_training(run, tmp_path, monkeypatch):
    there = evaluate_stage.load_members
    asked = {"settings": {"batch_size": 4}}
    monkeypatch.setattr(
        evaluate_stage,
        "load_members",
        lambda *given: [dataclasses.replace(member, info={**member.info, **asked}) for member in there(*given)],
    )
    assert evaluate(settings(run, tmp_path / "r.json", unit="pooled"))["pooled"]["batch_size"] == 4


def test_slices_one_by_one(run, store, tmp_path):
    results = evaluate(settings(run, tmp_path / "r.json", unit="slice"))
    assert [(entry["case"], entry["slice"]) for entry in results["cases"]] == [
        (c, n) for c in ("p3", "p5") for n in range(6)
    ]
    index = [record.case for record in store.cases].index("p5")
    for entry in results["cases"][6:]:
        image, truth = store.image(index, entry["slice"])[0], store.label(index, entry["slice"])
        expected = score_case((image > THRESHOLD).astype(int), truth, classes=["ball"], spacing=(1.0, 1.0))
        assert entry["classes"] == {"ball": pytest.approx(expected["ball"])}
    assert "NaN" not in (tmp_path / "r.json").read_text()


def test_a_structure_that_is_never_found(store, tmp_path):
    run = make_run(tmp_path / "run", store, threshold=2.0)
    results = evaluate(settings(run, tmp_path / "r.json"))
    diagonal = np.linalg.norm([6 * 4, 32, 32])
    assert results["mean"]["classes"]["ball"] == pytest.approx(
        {"dice": 0, "jaccard": 0, "hd95": diagonal, "asd": diagonal}
    )


def test_a_tie_goes_to_the_lowest_class(store, tmp_path):
    """All classes have the same score everywhere, so that all is background."""
    network = threshold_network(THRESHOLD)
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    where = {"store": str(store.path), "digest": store.digest, "split": SPLIT}
    run = write_run(tmp_path / "run", network, store.preparation, **where)
    results = evaluate(settings(run, tmp_path / "r.json"))
    assert results["mean"]["dice"] == 0
    write_json(run / "run.json", {**read_json(run / "run.json"), "precision": "float32"}, seal=True)
    (labels,) = segment_slices(run, store, [(0, 3)])
    assert not labels.any()


def test_batch_size_changes_nothing(run, tmp_path):
    results = [evaluate(settings(run, tmp_path / "r.json", batch_size=size)) for size in (1, 100)]
    assert results[0]["cases"] == results[1]["cases"]


def test_prediction_agrees_with_evaluation(run, store, tmp_path):
    """The same scans predicted and compared with their label files: the store's 12 bits make no difference here."""
    scans = write_volumes(tmp_path / "scans")
    predict(PredictConfig(run=run, source=scans, out=tmp_path / "out", precision="float32"))
    results = evaluate(settings(run, tmp_path / "r.json"))
    for entry in results["cases"]:
        name = f"{entry['case']}.nii.gz"
        image = read_image([scans / "images" / name])
        prediction, truth = read_label(tmp_path / "out" / name, image), read_label(scans / "labels" / name, image)
        scores = score_case(prediction, truth, classes=["ball"], spacing=image.spacing)
        assert scores["ball"] == pytest.approx(entry["classes"]["ball"], rel=0.01)


@pytest.fixture
def copied(store, tmp_path) -> Path:
    return Path(shutil.copytree(store.path, tmp_path / "copied"))


def reseal(path: Path, change) -> None:
    """Change a store's manifest as another preparation would have."""
    content = read_sealed(path / "store.json")
    content.pop("digest")
    content.pop("format", None)
    change(content)
    write_sealed(path / "store.json", content)


def test_a_moved_store_is_named(run, copied, tmp_path):
    results = evaluate(settings(run, tmp_path / "r.json", store=copied))
    assert results["store"] == copied.name
    assert len(results["cases"]) == 2


def test_a_store_that_is_gone_says_what_to_do(store, copied, tmp_path):
    moved = Store.open(copied)
    run = make_run(tmp_path / "run", moved)
    shutil.rmtree(copied)
    with pytest.raises(DataError, match="--store"):
        evaluate(settings(run, tmp_path / "r.json"))


def test_a_changed_store_is_refused_unless_named(copied, tmp_path):
    run = make_run(tmp_path / "run", Store.open(copied))
    reseal(copied, lambda content: content["recipe"].update(title="another"))
    with pytest.raises(DataError, match="--store"):
        evaluate(settings(run, tmp_path / "r.json"))
    assert len(evaluate(settings(run, tmp_path / "r.json", store=copied))["cases"]) == 2


def test_other_classes_are_refused(run, copied, tmp_path):
    reseal(copied, lambda content: content["recipe"].update(classes=["cube"]))
    with pytest.raises(DataError, match=r"cube.*ball"):
        evaluate(settings(run, tmp_path / "r.json", store=copied))


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"spacing": 2.0}, "spacing 2.0, not none"),
        ({"normalisation": "zscore"}, "normalisation zscore, not minmax"),
        ({"clip": [0.5, 99.5]}, "clip 0.5 99.5, not 1 99"),
        ({"window": [-160.0, 240.0]}, "window -160 240, not none"),
        ({"fit": True, "size": 32}, r"size of the longer side \(fit\) 32, not none"),
    ],
)
def test_a_store_that_is_prepared_otherwise_is_refused(run, copied, tmp_path, recipe, said):
    """Its slices show structures in another size or brightness: the scores would say nothing of the run."""
    reseal(copied, lambda content: content["recipe"].update(recipe))
    with pytest.raises(DataError, match=f"is prepared with {said} as .*run was trained; prepare it likewise"):
        evaluate(settings(run, tmp_path / "r.json", store=copied))


def test_a_store_of_scans_unlike_those_trained_on_is_scored_and_noted(store, copied, tmp_path, capsys):
    spacing = store.cases[3].spacing
    seen = {"pixels": [4 * spacing[1], 4 * spacing[1]], "slices": [spacing[0], spacing[0]]}
    network = threshold_network(THRESHOLD)
    run = write_run(
        tmp_path / "run", network, store.preparation, store=str(store.path), digest=store.digest, split=SPLIT,
        seen_mm=seen,
    )  # fmt: skip
    assert len(evaluate(settings(run, tmp_path / "r.json", store=copied))["cases"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(said) == 1
    assert said[0].startswith(f"note: {copied}: p3: its pixels are {spacing[1]:.3g} mm apart, those trained on ")
    assert said[0].endswith("(2 of 2 cases are unlike those trained on)")
    evaluate(settings(run, tmp_path / "r.json"))  # on the store of the training the test patients are of its kind
    assert "note: " not in capsys.readouterr().err


def test_other_patients_altogether_are_all_scored(run, tmp_path):
    """An external set: none of its patients is in the split, so none can have been trained on."""
    write_volumes(tmp_path / "scans", patients=3)
    for path in (tmp_path / "scans").rglob("*.nii.gz"):
        path.rename(path.with_name(f"x{path.name}"))
    prepare(PrepareConfig(source=tmp_path / "scans", out=tmp_path / "store", labels="1=ball", workers=1))
    results = evaluate(settings(run, tmp_path / "r.json", store=tmp_path / "store"))
    assert [entry["case"] for entry in results["cases"]] == ["xp0", "xp1", "xp2"]


def test_training_patients_are_never_scored(run, copied, tmp_path):
    """Another store that has lost the test patients must not be scored on those that were trained on."""

    def drop_tested(content):
        content["cases"] = [case for case in content["cases"] if case["patient"] not in SPLIT.test]

    reseal(copied, drop_tested)
    with pytest.raises(DataError, match="test patients"):
        evaluate(settings(run, tmp_path / "r.json", store=copied))


def test_a_missing_test_patient_is_no_smaller_mean(run, copied, tmp_path):
    reseal(copied, lambda content: content["cases"].pop())
    with pytest.raises(DataError, match="p5"):
        evaluate(settings(run, tmp_path / "r.json", store=copied))


def test_no_test_patients(store, tmp_path):
    run = make_run(tmp_path / "run", store, split=dataclasses.replace(SPLIT, test=()))
    with pytest.raises(DataError, match="test patient"):
        evaluate(settings(run, tmp_path / "r.json"))


def test_test_patients_without_labels(tmp_path):
    write_volumes(tmp_path / "scans", labelled=3)
    prepare(PrepareConfig(source=tmp_path / "scans", out=tmp_path / "store", labels="1=ball", workers=1))
    run = make_run(tmp_path / "run", Store.open(tmp_path / "store"))
    with pytest.raises(DataError, match="label"):
        evaluate(settings(run, tmp_path / "r.json"))


def test_a_damaged_store_is_named(copied, tmp_path):
    """A case is not left out of the mean: what cannot be read is an error."""
    run = make_run(tmp_path / "run", Store.open(copied))
    path = copied / "cases" / "p5" / "images.slices"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"p5.*images.slices"):
        evaluate(settings(run, tmp_path / "r.json"))
    assert not (tmp_path / "r.json").exists()


def test_what_is_refused_before_anything_is_computed(run, tmp_path, monkeypatch):
    from jcl.stages import evaluate as stage

    def compute(*args, **more):
        raise AssertionError("computed all the same")

    monkeypatch.setattr(stage, "class_scores", compute)
    with pytest.raises(UsageError, match="folder"):
        evaluate(settings(run, tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        evaluate(settings(run, tmp_path / "file" / "r.json"))
    with pytest.raises(DataError, match="not a run folder"):
        evaluate(settings(tmp_path, tmp_path / "r.json"))


def test_no_slice_at_a_time(run, tmp_path):
    with pytest.raises(UsageError, match="batch_size is 0"):
        evaluate(settings(run, tmp_path / "r.json", batch_size=0))


def test_results_are_read_by_the_report(run, tmp_path):
    from jcl.cli.tables import read_results, score_table

    results = evaluate(settings(run, tmp_path / "r.json"))
    assert read_json(tmp_path / "r.json")["mean"] == results["mean"]
    assert score_table(read_results(tmp_path / "r.json")).row_count == 2


def test_what_is_known_without_labels_is_beside_the_scores(run, store, tmp_path):
    results = evaluate(settings(run, tmp_path / "r.json"))
    for entry in results["cases"]:
        assert 0 < entry["structures"]["ball"]["doubt"] < 1
        assert entry["doubt"] == entry["structures"]["ball"]["doubt"]
        assert 0.5 < entry["structures"]["ball"]["expected_dice"] <= 1
    found = results["calibration"]
    assert 0 <= found["ece"] < 1
    assert sum(each["voxels"] for each in found["bins"]) == found["voxels"] > 0
    assert found["doubt_against_dice"] == {"case": None, "classes": {"ball": None}}  # of two cases
    # of all voxels that are or may be the ball, counted again from the store
    right = total = 0
    for number in (n for n, record in enumerate(store.cases) if record.case in ("p3", "p5")):
        for each in range(store.cases[number].slices):
            image, truth = store.image(number, each)[0], store.label(number, each)
            p = 1 / (1 + np.exp(-50 * (image - THRESHOLD)))
            counted = (truth > 0) | (p >= 0.05)
            total += counted.sum()
            right += ((p > 0.5) == truth)[counted].sum()
    assert found["voxels"] == pytest.approx(total, abs=3)
    assert sum(b["voxels"] * (b["accuracy"] or 0) for b in found["bins"]) == pytest.approx(right, abs=3)


def test_slices_have_a_doubt_of_their_own(run, tmp_path):
    results = evaluate(settings(run, tmp_path / "r.json", unit="slice"))
    assert len({entry["doubt"] for entry in results["cases"]}) > 2
    assert -1 <= results["calibration"]["doubt_against_dice"]["case"] <= 1


def test_the_mean_of_runs_is_scored(store, tmp_path):
    thresholds = (0.3, 0.5, 0.7)
    runs = tuple(make_run(tmp_path / f"run-{n}", store, threshold=t) for n, t in enumerate(thresholds))
    results = evaluate(settings(runs, tmp_path / "r.json"))
    for entry in results["cases"]:
        index = [record.case for record in store.cases].index(entry["case"])
        images = np.stack([store.image(index, n)[0] for n in range(6)])
        truth = np.stack([store.label(index, n) for n in range(6)])
        p = np.mean([1 / (1 + np.exp(-50 * (images - t))) for t in thresholds], axis=0)
        expected = score_case((p > 0.5).astype(int), truth, classes=["ball"], spacing=(4.0, 1.0, 1.0))["ball"]
        assert entry["classes"]["ball"]["dice"] == pytest.approx(expected["dice"], abs=2e-3)
    assert results["run"] == "run-0 + run-1 + run-2"
    assert results["weights_digest"].count(" + ") == 2
    assert "second_look" not in results


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Split(("p0", "p3"), (), ("p5",)), r"run-b was trained on test patients of .*run-a \(p3\)"),
        (Split(("p0",), ("p3",), ("p5",)), r"run-b was trained on test patients of .*run-a \(p3\)"),
        (Split(("p0",), (), ("p3", "p5", "p1")), r"run-a was trained on test patients of .*run-b \(p1\)"),
        (Split(("p0",), (), ("p3",)), r"run-b does not test p5, as .*run-a does"),
    ],
)
def test_nobody_is_tested_who_was_trained_on(store, tmp_path, other, said):
    runs = (make_run(tmp_path / "run-a", store), make_run(tmp_path / "run-b", store, split=other))
    with pytest.raises(DataError, match=said):
        evaluate(settings(runs, tmp_path / "r.json"))
    assert not (tmp_path / "r.json").exists()


def test_a_second_look_is_recorded(run, tmp_path):
    plain = evaluate(settings(run, tmp_path / "r.json"))
    looked = evaluate(settings(run, tmp_path / "r.json", tta=True, mirror=True, postprocess="auto"))
    assert looked["second_look"] == {"tta": True, "mirror": True, "postprocess": True}
    assert looked["mean"]["dice"] == pytest.approx(plain["mean"]["dice"], abs=0.1)
    assert looked["mean"]["dice"] != plain["mean"]["dice"]


@pytest.fixture
def looking_ahead(store, tmp_path) -> Path:
    """A run whose network looks at the slice behind each."""
    recipe = with_context(store.preparation, 1)
    where = {"store": str(store.path), "digest": store.digest, "split": SPLIT}
    return write_run(tmp_path / "ahead", threshold_network(0.5, channels=3), recipe, **where)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_neighbours_are_those_of_the_store(looking_ahead, store, tmp_path, batch_size):
    results = evaluate(settings(looking_ahead, tmp_path / "r.json", batch_size=batch_size))
    info = looking_ahead / "run.json"
    write_json(info, {**read_json(info), "precision": "float32"}, seal=True)
    for entry in results["cases"]:
        index = [record.case for record in store.cases].index(entry["case"])
        images = np.stack([store.image(index, n)[0] for n in (1, 2, 3, 4, 5, 5)])
        truth = np.stack([store.label(index, n) for n in range(6)])
        expected = score_case((images > 0.5).astype(int), truth, classes=["ball"], spacing=(4.0, 1.0, 1.0))
        assert entry["classes"]["ball"] == pytest.approx(expected["ball"])
        chosen = [(index, n) for n in range(6)]
        again = np.stack(segment_slices(looking_ahead, store, chosen))
        assert np.array_equal(again, images[:, *store.content(index)] > 0.5)


def test_prediction_with_neighbours_agrees_with_evaluation(looking_ahead, tmp_path):
    test_prediction_agrees_with_evaluation(looking_ahead, None, tmp_path)


def test_runs_of_other_contexts_are_not_scored_together(looking_ahead, run, tmp_path):
    with pytest.raises(DataError, match=r"other neighbours \(context 0 and 1\)"):
        evaluate(settings((run, looking_ahead), tmp_path / "r.json"))
