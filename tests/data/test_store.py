"""The store on disk: what was written comes back, and any changed byte is told."""

import gc
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jcl.data import store as store_module
from jcl.data import store_writing
from jcl.data.manifest import FORMAT, read_sealed, write_sealed
from jcl.data.slicefile import SliceFile, write_slices
from jcl.data.store import Store
from jcl.data.store_writing import read_case, write_case, write_manifest
from jcl.errors import DataError
from jcl.files import WriteError

SHAPES = [(5, 30, 40), (3, 32, 48), (4, 17, 21)]
CLASSES = ["liver", "spleen"]


def make_arrays(number: int, channels: int = 1) -> tuple[np.ndarray, np.ndarray | None]:
    """Image (c, d, h, w) and labels of case `number`; the last has no labels."""
    random = np.random.default_rng(number)
    smooth = np.cumsum(random.normal(size=(channels, *SHAPES[number])), axis=3)
    labels = random.integers(0, 3, SHAPES[number]).astype(np.uint8)
    return smooth.astype(np.float32), None if number == 2 else labels


def make_store(path: Path, channels: int = 1, size: tuple[int, int] = (48, 48)) -> Store:
    (path / "cases").mkdir(parents=True)
    records = []
    for number in range(3):
        image, labels = make_arrays(number, channels)
        records.append(
            write_case(
                path, image, labels, case=f"case {number} ü", patient=f"p{number}", spacing=(5.0, 1.0, 1.0),
                source={"images": [[f"{number}.nii", "0" * 64]], "label": []}, classes=2,
            )
        )  # fmt: skip
    recipe = {"channels": channels, "padded": list(size), "classes": CLASSES}
    write_manifest(path, recipe, records, [])
    return Store.open(path)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_was_written_comes_back(tmp_path: Path, channels: int) -> None:
    store = make_store(tmp_path / "store", channels)
    assert (store.channels, store.size, store.class_names) == (channels, (48, 48), ("liver", "spleen"))
    assert [record.case for record in store.cases] == ["case 0 ü", "case 1 ü", "case 2 ü"]
    for number, record in enumerate(store.cases):
        image, labels = make_arrays(number, channels)
        assert (record.slices, *record.shape) == SHAPES[number]
        assert record.labelled == (labels is not None)
        tolerance = 0.51 * np.ptp(image, axis=(1, 2, 3), keepdims=True)[:, 0] / 4095
        rows, columns = store.content(number)
        for at in range(record.slices):
            found = store.image(number, at)
            assert found.shape == (channels, 48, 48)
            assert found.dtype == np.float32
            assert (abs(found[:, rows, columns] - image[:, at]) <= tolerance).all()
            if labels is not None:
                label = store.label(number, at)
                assert label.shape == (48, 48)
                np.testing.assert_array_equal(label[rows, columns], labels[at])
        outside = np.ones((48, 48), bool)
        outside[rows, columns] = False
        assert not store.image(number, 0)[:, outside].any()
        assert (rows.start, 48 - rows.stop) in [(a, b) for a in range(25) for b in (a, a + 1)]
    assert not store.verify()


def test_a_slice_is_read_to_its_place(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", channels=2)
    batch = np.full((3, 2, 48, 48), np.nan, np.float32)
    for number in range(3):
        assert np.shares_memory(store.image(number, 1, batch[number]), batch)
        np.testing.assert_array_equal(batch[number], store.image(number, 1))
    for wrong in (np.empty((1, 48, 48), np.float32), np.empty((2, 48, 48)), np.empty((2, 48, 47), np.float32)):
        # a ValueError, or an error of the checks of shapes that tests have
        with pytest.raises(Exception, match=r"for slices that are float32 \(2, 48, 48\)|Type-check error"):
            store.image(0, 0, wrong)


def test_a_slice_is_read_with_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To its place too; and beyond an end of the volume nothing is read again."""
    (tmp_path / "cases").mkdir()
    image = np.random.default_rng(0).random((2, 4, 5, 6)).astype(np.float32)
    names = {"case": "a", "patient": "a", "source": {}, "classes": 0, "spacing": (1.0, 1.0, 1.0)}
    record = write_case(tmp_path, image, None, **names)
    write_manifest(tmp_path, {"channels": 2, "padded": [8, 8], "classes": []}, [record], [])
    store = Store.open(tmp_path)
    alone = [store.image(0, number) for number in range(4)]
    read: list[int] = []
    plain = Store._read
    monkeypatch.setattr(Store, "_read", lambda self, *which: (read.append(which[2]), plain(self, *which))[1])
    for number, seen in enumerate(([0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3])):
        read.clear()
        out = np.full((10, 8, 8), np.nan, np.float32)
        found = store.image(0, number, out, context=2)
        assert found is out
        assert np.array_equal(found, np.concatenate([alone[each] for each in seen]))
        assert read == sorted(set(seen))
    for number in (-1, 4):
        with pytest.raises(IndexError, match=f"none with number {number}"):
            store.image(0, number, context=1)
    with pytest.raises(ValueError, match=r"\(2, 8, 8\) for slices that are float32 \(6, 8, 8\)"):
        store.image(0, 0, np.empty((2, 8, 8), np.float32), context=1)


def test_counts_of_labels(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    labels = make_arrays(1)[1]
    assert labels is not None
    assert store.counted(1) == {"liver": int((labels == 1).sum()), "spleen": int((labels == 2).sum())}
    assert store.counted(2) == {}


@pytest.mark.parametrize("key", ["ignore", "sparse", None])
def test_voxels_that_are_ignored(tmp_path: Path, key: str | None) -> None:
    """The preparation says whether there are any; elsewhere 255 would be a class as any other."""
    (tmp_path / "cases").mkdir()
    labels = np.full((1, 8, 8), 255, np.uint8)
    labels[0, 0] = 1
    image = np.zeros((1, 1, 8, 8), np.float32)
    source = {"images": [], "label": []}
    named = {"case": "a", "patient": "p", "spacing": (1.0, 1.0, 1.0), "source": source}
    record = write_case(tmp_path, image, labels, classes=1, **named)
    recipe = {"channels": 1, "padded": [8, 8], "classes": ["liver"], **({key: 7} if key else {})}
    write_manifest(tmp_path, recipe, [record], [])
    store = Store.open(tmp_path)
    assert store.ignores == (key is not None)
    np.testing.assert_array_equal(store.label(0, 0), labels[0])
    assert set(np.unique(store.label(0, 0, ignored_as=0))) == ({0, 1} if key else {1, 255})


def test_a_forked_process_opens_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that share one would move it under each other's reads."""
    store, opened = make_store(tmp_path / "store"), []

    def noted(path: Path, digest: str) -> SliceFile:
        opened.append(path)
        return SliceFile(path, digest)

    monkeypatch.setattr(store_module, "SliceFile", noted)
    for number in range(3):
        store.image(0, number)
    assert len(opened) == 1
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for number in range(3):
        store.image(0, number)
    assert len(opened) == 2


def test_what_a_killed_process_left_of_a_case_is_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cases").mkdir()
    image = np.zeros((1, 2, 8, 8), np.float32)
    named = {"case": "a", "patient": "a", "spacing": (1.0, 1.0, 1.0), "source": {}, "classes": 0}

    def killed(folder: Path, *_: Any) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store_writing, "_write_slices", killed)
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)  # nor does a killed process clear away
        with pytest.raises(KeyboardInterrupt):
            write_case(tmp_path, image, None, **named)
    assert len(list((tmp_path / "cases").glob(".*"))) == 1
    write_case(tmp_path, image, None, **named)
    assert [path.name for path in (tmp_path / "cases").iterdir()] == ["a"]
    assert sorted(path.name for path in (tmp_path / "cases" / "a").iterdir()) == ["case.json", "images.slices"]


def test_what_is_not_there(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    with pytest.raises(DataError, match="case 2 ü has no labels"):
        store.label(2, 0)
    for case, at in [(0, 5), (0, -1), (9, 0)]:
        with pytest.raises(IndexError):
            store.image(case, at)
    with pytest.raises(DataError, match="no store"):
        Store.open(tmp_path)
    (tmp_path / "plan.json").touch()
    with pytest.raises(DataError, match="unfinished; run the same `jcl prepare` command again"):
        Store.open(tmp_path)


def test_the_bytes_depend_on_the_contents_alone(tmp_path: Path) -> None:
    make_store(tmp_path / "a")
    time.sleep(1.1)  # past the resolution of any time stamp
    make_store(tmp_path / "b" / "deeper")
    for path in sorted((tmp_path / "a").rglob("*")):
        other = tmp_path / "b" / "deeper" / path.relative_to(tmp_path / "a")
        assert path.is_dir() or path.read_bytes() == other.read_bytes()


def test_noise_in_16_bits_packs_below_its_raw_size(tmp_path: Path) -> None:
    """The worst case: no two neighbours alike."""
    image = np.random.default_rng(0).random((1, 8, 128, 128), np.float32)
    (tmp_path / "cases").mkdir()
    write_case(tmp_path, image, None, case="a", patient="a", spacing=(1.0, 1.0, 1.0), source={}, classes=0)
    assert sum(path.stat().st_size for path in (tmp_path / "cases" / "a").iterdir()) < 0.8 * image.size * 2


def files_of(path: Path) -> list[Path]:
    return [file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix in (".slices", ".json")]


def read_all(path: Path) -> list[np.ndarray]:
    store = Store.open(path)
    found = [store.image(case, at) for case, record in enumerate(store.cases) for at in range(record.slices)]
    labelled = [case for case, record in enumerate(store.cases) if record.labelled]
    found += [store.label(case, at) for case in labelled for at in range(store.cases[case].slices)]
    store.close()
    return found


def test_every_flipped_bit_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "store"
    whole = read_all(make_store(path).path)
    random = np.random.default_rng(0)
    for file in files_of(path):
        content = file.read_bytes()
        for at in random.integers(0, len(content), 25):
            damaged = bytearray(content)
            damaged[at] ^= 1 << int(random.integers(8))
            file.write_bytes(damaged)
            if file.name == "case.json":
                assert read_case(file.parent) is None
            else:
                with pytest.raises(DataError, match=file.name) as caught:
                    read_all(path)
                assert "\n" not in str(caught.value)
        file.write_bytes(content)
    for found, expected in zip(read_all(path), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_every_truncation_is_noticed_and_verify_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = make_store(path)
    for file in files_of(path):
        if file.name == "case.json":
            continue
        content = file.read_bytes()
        for length in (0, 7, 31, len(content) // 2, len(content) - 2):  # a manifest ends in a line feed
            file.write_bytes(content[:length])
            with pytest.raises(DataError, match=file.name):
                read_all(path)
            if file.suffix == ".slices":
                assert [str(file) in line for line in store.verify()] == [True]
        file.write_bytes(content + b"\0")
        with pytest.raises(DataError, match=file.name):
            read_all(path)
        file.unlink()
        with pytest.raises(DataError, match=file.name):
            read_all(path)
        file.write_bytes(content)
    assert not store.verify()


def test_a_file_of_another_store_is_noticed(tmp_path: Path) -> None:
    make_store(tmp_path / "a")
    store = make_store(tmp_path / "b")
    shutil.copy(
        tmp_path / "a" / "cases" / "case 0 ü" / "labels.slices", tmp_path / "b" / "cases" / "case 1 ü" / "labels.slices"
    )
    with pytest.raises(DataError, match="does not have the digest in the manifest"):
        store.label(1, 0)


def test_damage_after_opening_is_noticed(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    store.image(0, 0)
    file = tmp_path / "store" / "cases" / "case 0 ü" / "images.slices"
    content = bytearray(file.read_bytes())
    content[-10] ^= 16
    file.write_bytes(content)
    store.image(0, 0)
    with pytest.raises(DataError, match="slice 4 does not have its digest"):
        store.image(0, 4)


def test_another_format_version_is_told(tmp_path: Path) -> None:
    path = make_store(tmp_path / "store").path / "store.json"
    content = json.loads(path.read_text())
    content["format"] = FORMAT + 1
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"store\.json: format version {FORMAT + 1}, this jcl reads {FORMAT}"):
        Store.open(path.parent)


def test_a_manifest_that_lacks_what_this_jcl_needs_is_told(tmp_path: Path) -> None:
    write_sealed(tmp_path / "store.json", {"recipe": {"channels": 1, "classes": []}, "cases": [], "refused": []})
    with pytest.raises(DataError, match=r"stores lacked 'padded'; prepare it again"):
        Store.open(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "3", "{", '{"format": "x"}', "[" * 100_000, "\udcff"])
def test_a_manifest_that_is_none(tmp_path: Path, content: str) -> None:
    path = make_store(tmp_path / "store").path / "store.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"store\.json: damaged"):
        Store.open(path.parent)


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text(), st.recursive(st.none() | st.floats(allow_nan=False) | st.text(), st.lists)))
def test_sealed_files_come_back(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("sealed") / "x.json"
    kept = {key: value for key, value in content.items() if key not in ("format", "digest")}
    write_sealed(path, kept)
    found = read_sealed(path)
    assert {key: found[key] for key in kept} == kept
    assert list(path.parent.iterdir()) == [path]


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.uint16, st.tuples(*(st.integers(1, n) for n in (4, 3, 9, 9))), elements=st.integers(0, 65535))
    | arrays(np.uint8, st.tuples(*(st.integers(1, n) for n in (4, 3, 9, 9))))
)
def test_slices_come_back_in_any_order(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("slices") / "x.slices"
    digest = write_slices(path, pixels)
    file = SliceFile(path, digest)
    assert file.shape == pixels.shape
    for number in reversed(range(len(pixels))):
        np.testing.assert_array_equal(file.read(number), pixels[number])


def open_files(path: Path) -> int:
    links = [os.path.realpath(name) for name in Path("/proc/self/fd").iterdir()]
    return sum(link.startswith(str(path)) for link in links)


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_no_more_files_are_open_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_HANDLES", 2)
    store = make_store(tmp_path / "store")
    for _ in range(3):
        for case in (0, 1, 2, 1, 0):
            store.image(case, 0)
            assert open_files(tmp_path) <= 2
    store.close()
    assert open_files(tmp_path) == 0
    store.image(0, 0)
    del store
    gc.collect()


def test_threads_share_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_HANDLES", 1)
    store = make_store(tmp_path / "store")
    expected = read_all(store.path)[: sum(shape[0] for shape in SHAPES)]
    places = [(case, at) for case, shape in enumerate(SHAPES) for at in range(shape[0])]
    wrong: list[Exception | int] = []

    def work(seed: int) -> None:
        try:
            order = np.random.default_rng(seed).integers(0, len(places), 200).tolist()
            wrong.extend(at for at in order if not np.array_equal(store.image(*places[at]), expected[at]))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def read_sum(store: Store, case: int) -> float:
    return float(sum(store.image(case, at).sum(dtype=np.float64) for at in range(store.cases[case].slices)))


@pytest.mark.parametrize("method", [m for m in ("spawn", "fork") if m in multiprocessing.get_all_start_methods()])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_other_processes_read_a_store_that_is_in_use(tmp_path: Path, method: str) -> None:
    store = make_store(tmp_path / "store")
    expected = [read_sum(store, case) for case in range(3)]  # and now its files are open
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        futures = [pool.submit(read_sum, store, case) for case in (0, 1, 2) * 5]
        assert [read_sum(store, case) for case in range(3)] == expected
        assert [future.result() for future in futures] == expected * 5


def fork_and_read(store: Store, place: tuple[int, int]) -> bool:
    """Whether a child of a plain fork, which has the parent's open files, reads what the parent does."""
    child = os.fork()
    if child == 0:
        try:
            same = all(np.array_equal(store.image(*place), store.image(*place)) for _ in range(200))
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    for _ in range(200):
        store.image(*place)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_file_positions_are_not_shared_with_a_forked_process(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    store.image(0, 0)
    assert fork_and_read(store, (0, 3))


def test_a_pickle_holds_no_open_file(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    store.image(0, 0)
    again = pickle.loads(pickle.dumps(store))
    assert again.digest == store.digest
    np.testing.assert_array_equal(again.image(0, 1), store.image(0, 1))


def test_memory_stays_flat(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", size=(256, 256))
    for _ in range(300):
        store.image(0, 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2000):
        store.image(1, 1)
        store.label(1, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4000  # KiB


@pytest.mark.parametrize(("side", "limit"), [(96, 0.2e-3), (512, 4e-3)])
def test_slices_are_read_fast(tmp_path: Path, side: int, limit: float) -> None:
    """The fastest of many, for the sake of a machine that does other things too."""
    image = np.cumsum(np.random.default_rng(0).normal(size=(1, 6, side, side)), axis=3).astype(np.float32)
    (tmp_path / "cases").mkdir()
    record = write_case(tmp_path, image, None, case="a", patient="a", spacing=(1.0, 1.0, 1.0), source={}, classes=0)
    write_manifest(tmp_path, {"channels": 1, "padded": [side, side], "classes": []}, [record], [])
    code = (
        "import sys, time\nfrom jcl.data.store import Store\nstore = Store.open(sys.argv[1])\n"
        "def once(at):\n    start = time.perf_counter(); store.image(0, at); return time.perf_counter() - start\n"
        "print(min(once(number % 6) for number in range(120)))"
    )  # in a process without the checks of shapes that tests have
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < limit


def test_a_case_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A real limit on the size of files, in a process of its own."""
    (tmp_path / "cases").mkdir()
    code = (
        "import resource, sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from jcl.files import WriteError\nfrom jcl.data.store_writing import write_case\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "image = np.random.default_rng(0).random((1, 8, 64, 64), np.float32)\n"
        "arguments = dict(case='a', patient='a', spacing=(1.0, 1.0, 1.0), source={}, classes=0)\n"
        "try:\n    write_case(Path(sys.argv[1]), image, None, **arguments)\n"
        "except WriteError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "images.slices: cannot be written (File too large); free some space" in done.stdout
    assert not list((tmp_path / "cases").iterdir())
    with pytest.raises(WriteError, match="cannot be written"):
        write_sealed(tmp_path / "none" / "x.json", {})


def kept_arrays() -> tuple[np.ndarray, np.ndarray]:
    """What the kept store holds: a ramp through three slices of 12 x 16, and two structures."""
    ramp = np.arange(3 * 12 * 16, dtype=np.float32).reshape(1, 3, 12, 16) / 575
    labels = np.zeros((3, 12, 16), np.uint8)
    labels[0, 2:5, 3:9], labels[2, 6:9, 4:7] = 1, 2
    return ramp, labels


def test_a_store_of_format_1_still_opens() -> None:
    """It was written by `write_case` and `write_manifest` from `kept_arrays`, when the format was new."""
    path = Path(__file__).parent / "store-format-1"
    store = Store.open(path)
    ramp, labels = kept_arrays()
    assert not store.verify()
    assert (store.size, store.channels, store.class_names) == ((16, 16), 1, ("one", "two"))
    assert [(record.case, record.patient, record.spacing) for record in store.cases] == [("ramp", "p", (2.5, 1.0, 0.5))]
    assert store.counted(0) == {"one": 18, "two": 9}
    for at in range(3):
        np.testing.assert_allclose(store.image(0, at)[:, 2:14], ramp[:, at], atol=1.3e-4)
        np.testing.assert_array_equal(store.label(0, at)[2:14], labels[at])


def test_codes_of_a_constant_channel(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    image = np.full((1, 2, 4, 5), 0.25, np.float32)
    record = write_case(tmp_path, image, None, case="a", patient="a", spacing=(1.0, 1.0, 1.0), source={}, classes=0)
    write_manifest(tmp_path, {"channels": 1, "padded": [4, 5], "classes": []}, [record], [])
    np.testing.assert_array_equal(Store.open(tmp_path).image(0, 1), image[:, 0])
