"""Batches: what they hold, that workers change nothing, and what a worker's error looks like."""

import itertools
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from jcl.cli.main import main
from jcl.data.batches import AHEAD, SliceBatch, SliceDataset, load_batches
from jcl.data.sampler import BatchSampler
from jcl.data.slices import list_slices
from jcl.data.store import Store
from jcl.data.store_writing import write_case, write_manifest
from jcl.errors import DataError


def test_a_batch_holds_what_the_store_has(store: Store):
    slices = list_slices([store], [None], labelled=True)
    order = BatchSampler([0] * len(slices), 3, seed=0)
    batch = next(load_batches(SliceDataset([store], slices, labels=True), order))
    for row, index in enumerate(order.epoch(0)[0]):
        where = slices[index]
        assert torch.equal(batch.images[row], torch.from_numpy(store.image(where.case, where.slice)))
        assert batch.labels is not None
        assert np.array_equal(batch.labels[row].numpy(), store.label(where.case, where.slice))
        assert batch.positions[row] == pytest.approx((where.slice + 1) / 5)
        assert batch.depths[row] == 5
        assert batch.volumes[row] == where.case


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> Store:
    """Cases of one slice, of two and of six, of two channels, smaller than what they are padded to; some labels."""
    path: Path = tmp_path_factory.mktemp("uneven") / "store"
    (path / "cases").mkdir(parents=True)
    records = []
    for number, slices in enumerate((1, 2, 6)):
        random = np.random.default_rng(number)
        labels = np.full((slices, 5, 7), 255, np.uint8)
        labels[slices // 2 :, 1:3] = 1
        names = {"case": f"c{number}", "patient": f"p{number}", "source": {}, "classes": 1, "spacing": (4.0, 1.0, 1.0)}
        records.append(write_case(path, random.random((2, slices, 5, 7)).astype(np.float32), labels, **names))
    write_manifest(path, {"channels": 2, "padded": [8, 8], "classes": ["a"], "sparse": True}, records, [])
    return Store.open(path)


@pytest.mark.parametrize("context", [1, 2, 4])
@pytest.mark.parametrize("labelled", [False, True])
def test_neighbours_come_along(uneven: Store, context: int, labelled: bool):
    """From the whole volume, whichever slices are listed; position, case and labels are those of the slice itself."""
    slices = list_slices([uneven], [None], labelled=labelled)
    assert len(slices) == (1 + 1 + 3 if labelled else 9)
    dataset = SliceDataset([uneven], slices, labels=labelled, context=context)
    batch = dataset.read(range(len(slices)))
    assert batch.images.shape[1] == 2 * (2 * context + 1)
    alone = SliceDataset([uneven], slices, labels=labelled).read(range(len(slices)))
    for name in ("positions", "volumes", "labels"):
        one, other = getattr(batch, name), getattr(alone, name)
        assert (one is other is None) or torch.equal(one, other)
    for row, where in zip(batch.images.numpy(), slices, strict=True):
        last = uneven.cases[where.case].slices - 1
        for place, offset in enumerate(range(-context, context + 1)):
            expected = uneven.image(where.case, min(max(where.slice + offset, 0), last))
            assert np.array_equal(row[2 * place : 2 * place + 2], expected)


@pytest.mark.parametrize("context", [0, 1])
def test_each_slice_comes_with_another_of_its_volume(uneven: Store, context: int):
    """As it is in the store, with channels of its own neighbours; other numbers of a batch, other draws."""
    slices = list_slices([uneven], [None], labelled=False)
    dataset = SliceDataset([uneven], slices, labels=False, context=context, neighbourhood=0.5)
    seen = set()
    for rows in itertools.islice(itertools.permutations(range(9)), 40):
        batch, again = dataset.read(rows), dataset.read(rows)
        assert batch.neighbours is not None
        assert torch.equal(batch.neighbours, again.neighbours)
        for row, number in zip(batch.neighbours.numpy(), rows, strict=True):
            case, own = slices[number].case, slices[number].slice
            (drawn,) = (
                other
                for other in range(uneven.cases[case].slices)
                if np.array_equal(row, uneven.image(case, other, context=context))
            )
            assert abs(drawn - own) <= 3
            assert (drawn == own) == (uneven.cases[case].slices == 1)
            seen.add((case, own, drawn))
    assert {other for case, own, other in seen if (case, own) == (2, 0)} == {1, 2, 3}
    assert dataset.read([0]).to("cpu").neighbours is not None
    assert SliceDataset([uneven], slices, labels=False).read([0]).neighbours is None


def test_without_context_a_batch_is_what_it_was(uneven: Store):
    slices = list_slices([uneven], [None], labelled=False)
    batches = [SliceDataset([uneven], slices, labels=False, **given).read([3, 0, 8]) for given in ({}, {"context": 0})]
    assert torch.equal(batches[0].images, batches[1].images)
    assert batches[0].images.shape == (3, 2, 8, 8)


def test_unlabelled_batches_read_no_labels(store: Store):
    slices = list_slices([store], [None], labelled=False)
    batch = next(load_batches(SliceDataset([store], slices, labels=False), BatchSampler([0] * 20, 4, seed=0)))
    assert batch.labels is None


def loader_threads() -> int:
    return sum(thread.name.startswith("jcl-loader") for thread in threading.enumerate())


def batches_of(store: Store, workers: int):
    slices = list_slices([store], [None], labelled=False)
    return load_batches(SliceDataset([store], slices, labels=False), BatchSampler([0] * 20, 4, seed=1), workers=workers)


def test_workers_change_nothing(store: Store):
    runs = [[batch.images for batch in itertools.islice(batches_of(store, workers), 12)] for workers in (0, 1, 3)]
    for batches in zip(*runs, strict=True):
        assert all(torch.equal(batches[0], batch) for batch in batches)


def test_a_batch_that_is_in_use_is_never_written_to(store: Store):
    """Memory is taken again only when nothing of a batch is left, be it a view of a view."""
    slices = SliceDataset([store], list_slices([store], [None], labelled=True), labels=True)
    wanted = [slices.read([number]) for number in range(10)]
    wanted = [(batch.images.clone(), batch.labels.clone()) for batch in wanted if batch.labels is not None]
    kept, places = [], set()
    for number in range(200):
        batch = slices.read([number % 10])
        places.add(batch.images.data_ptr())
        assert batch.labels is not None
        views = batch.images[0, 0][2:].T, batch.labels.numpy()[0][1:], batch.images.detach()
        kept.append((number % 10, views[number % 3], number % 3))
        kept = kept[-7:]
        del batch, views
        for which, view, kind in kept:
            images, labels = wanted[which]
            expected = (images[0, 0][2:].T, labels[0][1:], images)[kind]
            assert np.array_equal(np.asarray(view), expected.numpy())
    assert len(places) < 20  # and it is taken again


@pytest.mark.parametrize("workers", [0, 3])
def test_workers_end_with_the_iterator(store: Store, workers: int):
    before = loader_threads()
    batches = batches_of(store, workers)
    next(batches)
    assert loader_threads() > before
    del batches
    assert loader_threads() == before


def test_workers_read_ahead_and_no_further(store: Store, monkeypatch: pytest.MonkeyPatch):
    read: list[list[int]] = []
    whole = SliceDataset.read
    monkeypatch.setattr(SliceDataset, "read", lambda self, i, **more: read.append(list(i)) or whole(self, i, **more))
    batches = batches_of(store, 2)
    next(batches)
    limit = time.monotonic() + 60
    while len(read) < 1 + 2 * AHEAD and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.1)  # long enough for one batch too many
    assert len(read) == 1 + 2 * AHEAD
    next(batches)
    assert sorted(read[:5]) == sorted(BatchSampler([0] * 20, 4, seed=1).epoch(0))


@pytest.fixture
def damaged(store: Store, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the store, and its file that has one changed byte, in its last slice."""
    copy = tmp_path / "store"
    shutil.copytree(store.path, copy)
    file = copy / "cases" / store.cases[2].case / "images.slices"
    content = bytearray(file.read_bytes())
    content[-9] ^= 4
    file.write_bytes(content)
    return copy, file


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_slice_is_told_as_it_is_and_in_its_turn(damaged: tuple[Path, Path], workers: int):
    path, file = damaged
    order = BatchSampler([0] * 20, 4, seed=1).epoch(0)
    turn = next(number for number, batch in enumerate(order) if 14 in batch)
    before = loader_threads()
    batches = batches_of(Store.open(path), workers)
    for _ in range(turn):
        next(batches)
    with pytest.raises(DataError, match=r"damaged \(slice 4") as caught:
        next(batches)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert loader_threads() == before


@pytest.mark.parametrize("workers", ["0", "2"])
def test_pretraining_on_a_damaged_store_ends_in_one_line(
    damaged: tuple[Path, Path], tmp_path: Path, workers: str, capsys: pytest.CaptureFixture
):
    path, file = damaged
    command = ["pretrain", str(path), "--out", str(tmp_path / "run"), "--width", "2"]
    command += ["--steps", "20", "--batch-size", "4", "--method.projection", "8", "--workers", workers]
    assert main(command) == 3
    assert str(file) in capsys.readouterr().err.splitlines()[-1]


def make_store(path: Path, cases: int) -> Path:
    """Each case has 16 slices of 128 x 128."""
    (path / "cases").mkdir(parents=True)
    image = np.random.default_rng(0).random((1, 16, 128, 128), np.float32)
    records = [
        write_case(path, image, None, case=name, patient=name, spacing=(1.0, 1.0, 1.0), source={}, classes=0)
        for name in (f"case{number}" for number in range(cases))
    ]
    write_manifest(path, {"channels": 1, "padded": [128, 128], "classes": []}, records, [])
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_loader_takes_no_more_memory_for_more_files(tmp_path: Path):
    """Of 100 files, more than are kept open; unpacked they are 100 MiB."""
    code = (
        "import sys, itertools\nfrom pathlib import Path\nfrom jcl.data.store import Store\n"
        "from jcl.data.batches import SliceDataset, load_batches\nfrom jcl.data.sampler import BatchSampler\n"
        "from jcl.data.slices import list_slices\n"
        "store = Store.open(sys.argv[1])\nslices = list_slices([store], [None], labelled=False)\n"
        "order = BatchSampler([0] * len(slices), 16, seed=0)\n"
        "for batch in itertools.islice(load_batches(SliceDataset([store], slices, labels=False), order), 150): pass\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(line.split()[1] for line in lines if line.startswith('RssAnon')))"
    )
    taken: dict[int, int] = {}
    for cases in (1, 100):
        command = [sys.executable, "-c", code, str(make_store(tmp_path / str(cases), cases))]
        taken[cases] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) // 1024
    assert taken[100] < taken[1] + 4, f"MiB, by number of cases: {taken}"


PEAK = """
import sys
from pathlib import Path
from jcl.config import PretrainConfig
from jcl.stages.pretrain import pretrain
store, out, steps = sys.argv[1:]
small = {"method": "simclr", "width": 1, "batch_size": 16}  # the least work for each slice that is read
pretrain(PretrainConfig(stores=(Path(store),), out=Path(out), steps=int(steps), workers=1, **small))
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.long
def test_pretraining_takes_no_more_memory_on_a_store_50_times_larger(tmp_path: Path):
    """Unpacked, the larger store is 52 MiB, all of it read in 50 steps; two equal runs may differ by some MiB."""
    peaks: dict[int, int] = {}
    for cases, steps in ((1, "15"), (50, "50")):
        store = make_store(tmp_path / f"store{cases}", cases)
        command = [sys.executable, "-c", PEAK, str(store), str(tmp_path / f"run{cases}"), steps]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[cases] = int(done.stdout) // 1024
    print(f"MiB at most, by number of cases: {peaks}")
    assert peaks[50] < peaks[1] + 30


@pytest.mark.gpu
def test_pinned_batches_are_the_same(store: Store):
    slices = SliceDataset([store], list_slices([store], [None], labelled=False), labels=False)
    batch = next(load_batches(slices, BatchSampler([0] * 20, 4, seed=1), pinned=True))
    assert batch.images.is_pinned()
    assert torch.equal(batch.to("cuda").images.cpu(), next(batches_of(store, 0)).images)


@pytest.mark.parametrize(("device", "later"), [("mps", False), ("cuda:0", True), ("cpu", False)])
def test_a_copy_that_reads_memory_of_the_next_batch_is_waited_for(monkeypatch, device, later):
    """To a Mac's GPU: https://github.com/pytorch/pytorch/issues/189690,
    https://github.com/pytorch/pytorch/issues/139550, https://github.com/pytorch/pytorch/issues/83015."""
    asked = []

    def to(tensor: torch.Tensor, where: object, *, non_blocking: bool = False) -> torch.Tensor:
        asked.append((str(where), non_blocking))
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", to)
    batch = SliceBatch(torch.zeros(1, 1, 2, 2), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    batch.to(device)
    assert asked == [(device, later)] * 3
