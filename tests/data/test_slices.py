"""Lists of slices: which there are, and that a slice more costs nothing."""

import gc
import time
from pathlib import Path

import pytest

from jcl.data.batches import SliceDataset
from jcl.data.manifest import write_sealed
from jcl.data.sampler import BatchSampler
from jcl.data.slices import list_slices
from jcl.data.store import CaseRecord, Store
from jcl.errors import DataError


def test_slices_of_chosen_patients(store: Store):
    assert len(list_slices([store], [None], labelled=False)) == 20
    assert len(list_slices([store], [None], labelled=True)) == 10
    chosen = list_slices([store], [{"p1", "p3"}], labelled=False)
    assert {store.cases[s.case].patient for s in chosen} == {"p1", "p3"}
    with pytest.raises(DataError, match="no labelled slices"):
        list_slices([store], [{"p3"}], labelled=True)


def listed_case(number: int, slices: int) -> CaseRecord:
    """A case as a manifest has it; there are no files of it."""
    name = f"case{number}"
    return CaseRecord(
        case=name, patient=f"p{number % 3}", slices=slices, shape=(8, 8), spacing=(1.0, 1.0, 1.0),
        labelled=number % 2 == 0, status="ready", source={"images": [[f"{name}.nii.gz", "0" * 64]], "label": []},
        digests={"images.slices": "0" * 64}, scale=(1.0,), offset=(0.0,), voxels=(),
    )  # fmt: skip


def listed_store(path: Path, slices: list[int]) -> Path:
    """A store with so many slices in each case, to open and list, not to read."""
    path.mkdir()
    recipe = {"channels": 1, "padded": [8, 8], "classes": []}
    records = [vars(listed_case(*each)) for each in enumerate(slices)]
    write_sealed(path / "store.json", {"recipe": recipe, "cases": records, "refused": []})
    return path


@pytest.mark.parametrize("labelled", [False, True])
def test_slices_of_several_stores_are_those_that_a_loop_finds(tmp_path: Path, labelled: bool):
    counts = [3, 1, 7, 2, 5], [1, 4, 2]
    stores = [Store.open(listed_store(tmp_path / str(number), each)) for number, each in enumerate(counts)]
    expected: list[tuple[int, int, int]] = []
    for store in (0, 1):
        for case, count in enumerate(counts[store]):
            if (store == 1 or case % 3 != 2) and (case % 2 == 0 or not labelled):
                expected += [(store, case, number) for number in range(count)]
    slices = list_slices(stores, [{"p0", "p1"}, None], labelled=labelled)
    assert [(where.store, where.case, where.slice) for where in slices] == expected
    assert slices.stores().tolist() == [store for store, _, _ in expected]
    assert len(slices) == len(expected)
    for number in (-1, len(expected)):
        with pytest.raises(IndexError, match=f"none with number {number}"):
            slices[number]


def test_a_slice_more_makes_no_object_more(tmp_path: Path):
    """The garbage collector goes through all objects again and again: time would grow with their square."""
    made: list[int] = []
    for count in (10, 10_000):
        store = Store.open(listed_store(tmp_path / str(count), [count] * 10))
        gc.collect()
        before = len(gc.get_objects())
        slices = SliceDataset([store], list_slices([store], [None], labelled=False), labels=False)
        order = iter(BatchSampler(slices.slices.stores(), 16, seed=0))
        next(order)
        gc.collect()
        made.append(len(gc.get_objects()) - before)
    assert made[1] < made[0] + 1000, f"objects, for 100 and for 100,000 slices: {made}"


def test_opening_and_listing_ten_times_the_slices_takes_no_twenty_times_as_long(tmp_path: Path):
    def seconds(path: Path) -> float:
        begun = time.process_time()
        store = Store.open(path)
        SliceDataset([store], list_slices([store], [None], labelled=False), labels=False)
        return time.process_time() - begun

    paths = [listed_store(tmp_path / str(cases), [100] * cases) for cases in (100, 1000)]
    few, many = (min(seconds(path) for _ in range(7)) for path in paths)
    print(f"ms for 10^4 and 10^5 slices: {1000 * few:.2f}, {1000 * many:.2f}")
    assert many < 20 * few
