"""The routes: what is sent comes back segmented as `jcl predict` segments it, and all else is refused in one line."""

import gzip
import json
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from jcl.cli import main as cli
from jcl.config import PredictConfig
from jcl.data.store import Store
from jcl.stages.predict import predict
from support.dicomfiles import write_series
from support.serving import LABELS, SHAPE, Served, save_scan, scan


def predicted(run: Path, source: Path, out: Path) -> bytes:
    """What `jcl predict` writes."""
    (path,) = predict(PredictConfig(run=run, source=source, out=out, precision="float32", batch_size=4))
    return path.read_bytes()


def unpacked(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


@pytest.mark.parametrize("name", ["p1.nii.gz", "p1.nii", "p1.nrrd", "p1.mha", "p1.png"])
def test_a_result_is_what_predict_writes_byte_for_byte(served: Served, run: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("png"):
        sitk.WriteImage(sitk.GetImageFromArray(scan()[0].astype(np.uint8)), str(path))
    else:
        save_scan(path)
    number = served.segmented(path, hold=False)
    status = served.client.get(f"/api/jobs/{number}").json()
    assert (status["state"], status["share"], status["position"], status["file"]) == ("done", 1.0, 0, name)
    answer = served.client.get(f"/api/jobs/{number}/result")
    assert unpacked(answer.content) == unpacked(predicted(run, path, tmp_path / "out"))
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert served.left() == []  # not held, so that it is removed when it was fetched
    assert served.client.get(f"/api/jobs/{number}").status_code == 404


def test_a_zip_of_a_series_is_segmented_in_its_own_geometry(served: Served, run: Path, tmp_path: Path) -> None:
    files = write_series(tmp_path / "series")
    with zipfile.ZipFile(tmp_path / "anna.zip", "w") as archive:
        for file in files:
            archive.write(file, f"DICOM/{file.name}")
    number = served.segmented(tmp_path / "anna.zip")
    found = unpacked(served.client.get(f"/api/jobs/{number}/result").content)
    assert found == unpacked(predicted(run, tmp_path / "series", tmp_path / "out"))
    kept = served.client.post(f"/api/jobs/{number}/keep", json={"name": "anna"}).json()
    image = sitk.ReadImage(kept["image"])
    files = sorted(files, key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    series = sitk.ReadImage([str(file) for file in files])
    assert (sitk.GetArrayFromImage(image) == sitk.GetArrayFromImage(series)).all()
    assert image.GetOrigin() == pytest.approx(series.GetOrigin())
    assert b"Doe" not in gzip.decompress(Path(kept["image"]).read_bytes())


def test_a_zip_with_two_scans_or_none_fails_with_a_line_that_tells_no_folder(served: Served, tmp_path: Path) -> None:
    for names, said in ({"a.nii", "b.nii"}, "2 scans in one upload (a, b)"), ({"notes.txt"}, "no images"):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for name in names:
                content = save_scan(tmp_path / name).read_bytes() if name.endswith("nii") else b"x"
                archive.writestr(name, content)
        number = served.segmented(tmp_path / "x.zip")
        status = served.client.get(f"/api/jobs/{number}").json()
        assert status["state"] == "failed"
        assert said in status["error"]
        assert str(tmp_path) not in status["error"]
        answer = served.client.get(f"/api/jobs/{number}/result")
        assert (answer.status_code, answer.json()) == (422, {"error": status["error"]})
    assert served.left() == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.nii.gz", b"no gzip", "a.nii.gz: not gzip-compressed"),
        ("a.nii", b"x" * 400, "a.nii: not a NIfTI file"),
        ("a.nii.gz", gzip.compress(b"x" * 10, mtime=0), "a.nii.gz: not a NIfTI file"),
        ("a.nrrd", b"NRRD0004\n\n", "a.nrrd: "),
        ("a.png", b"\x89PNG\r\n\x1a\n", "a.png: "),
    ],
)
def test_a_damaged_scan_fails_with_the_line_of_predict(
    served: Served, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    error = served.client.get(f"/api/jobs/{served.segmented(tmp_path / name)}").json()["error"]
    assert error.startswith(said)
    assert "\n" not in error
    assert served.left() == []


def test_what_a_page_shows_is_the_scan_and_what_it_sends_back_is_written_on_its_grid(
    served: Served, a_scan: Path
) -> None:
    number = served.segmented(a_scan)
    view = served.client.get(f"/api/jobs/{number}").json()["view"]
    image = np.frombuffer(served.client.get(f"/api/jobs/{number}/image").content, "<u2").reshape(view["shape"])
    classes = np.frombuffer(served.client.get(f"/api/jobs/{number}/classes").content, np.uint8).reshape(view["shape"])
    values = view["offset"] + view["scale"] * image
    assert (classes == np.digitize(values / 100, (0.335, 0.665))).all()
    assert served.client.get(f"/api/jobs/{number}/correction").status_code == 409
    changed = classes.copy()
    changed[1, 2, 3] = (changed[1, 2, 3] + 1) % 3
    assert served.client.put(f"/api/jobs/{number}/classes", content=changed.tobytes()).status_code == 204
    answer = served.client.get(f"/api/jobs/{number}/correction")
    assert 'filename="p1_corrected.nii.gz"' in answer.headers["content-disposition"]
    (a_scan.parent / "c.nii.gz").write_bytes(answer.content)
    corrected = sitk.ReadImage(str(a_scan.parent / "c.nii.gz"))
    assert corrected.GetDirection() == sitk.ReadImage(str(a_scan)).GetDirection()
    result = served.client.get(f"/api/jobs/{number}/result").content
    (a_scan.parent / "r.nii.gz").write_bytes(result)
    before, after = (
        sitk.GetArrayFromImage(each) for each in (sitk.ReadImage(str(a_scan.parent / "r.nii.gz")), corrected)
    )
    # in the file rows and columns run the other way
    assert [tuple(place) for place in np.argwhere(before != after)] == [(1, SHAPE[1] - 1 - 2, SHAPE[2] - 1 - 3)]
    assert set(np.unique(after)) <= {0, *LABELS}


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 400), (b"\0", 400), (b"\0" * 961, 413), (b"\3" * 960, 400), (b"\2" * 960, 204)]
)
def test_a_correction_has_a_class_for_each_voxel(served: Served, a_scan: Path, content: bytes, status: int) -> None:
    number = served.segmented(a_scan)
    assert served.client.put(f"/api/jobs/{number}/classes", content=content).status_code == status
    assert served.client.get(f"/api/jobs/{number}/correction").status_code == (200 if status == 204 else 409)


def test_a_kept_case_is_one_with_labels_for_prepare(served: Served, tmp_path: Path) -> None:
    """What is corrected in a browser is what a fine-tuning is trained on."""
    corrected = {}
    for seed, name in enumerate(("p1", "p2")):
        path = save_scan(tmp_path / f"{name}.nii.gz", seed)
        number = served.segmented(path)
        classes = np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)
        corrected[name] = classes
        assert served.client.put(f"/api/jobs/{number}/classes", content=classes.tobytes()).status_code == 204
        answer = served.client.post(f"/api/jobs/{number}/keep")
        assert answer.status_code == 201, answer.text
        assert Path(answer.json()["image"]).read_bytes() == path.read_bytes()
    words = shlex.split(answer.json()["command"])
    assert words[:3] == ["jcl", "prepare", str(tmp_path / "kept")]
    assert cli.main([*words[1:-1], str(tmp_path / "store"), "--workers", "1"]) == 0
    store = Store.open(tmp_path / "store")
    assert [(record.case, record.labelled) for record in store.cases] == [("p1", True), ("p2", True)]
    assert list(store.preparation["classes"]) == list(LABELS.values())
    for record in store.cases:
        number = store.cases.index(record)
        labels = np.stack([store.label(number, slice_number) for slice_number in range(SHAPE[0])])  # padded
        top, left = ((side - own) // 2 for side, own in zip(labels.shape[1:], SHAPE[1:], strict=True))
        assert (labels[:, top : top + SHAPE[1], left : left + SHAPE[2]] == corrected[record.case]).all()


def test_nothing_is_kept_twice_or_without_being_asked(served: Served, site: Served, a_scan: Path) -> None:
    number = served.segmented(a_scan)
    assert served.client.post(f"/api/jobs/{number}/keep", json={"name": "../../x"}).json()["name"] == "x"
    kept = {path: path.read_bytes() for path in (a_scan.parent / "kept").rglob("*") if path.is_file()}
    folder = a_scan.parent / "kept"
    assert sorted(path.relative_to(folder).as_posix() for path in kept) == ["images/x.nii.gz", "labels/x.nii.gz"]
    for name in ("x", "X"):
        again = served.client.post(f"/api/jobs/{number}/keep", json={"name": name})
        assert (again.status_code, "is there already" in again.json()["error"]) == (409, True)
    assert {path: path.read_bytes() for path in (a_scan.parent / "kept").rglob("*") if path.is_file()} == kept
    for body in (b"[]", b"{", b'{"name": 3}', b"[" * 60_000):
        assert served.client.post(f"/api/jobs/{number}/keep", content=body).status_code == 400
    assert served.client.post(f"/api/jobs/{number}/keep", content=b" " * 70_000).status_code == 413
    other = site.segmented(a_scan)
    assert site.client.post(f"/api/jobs/{other}/keep").status_code == 403
    site.client.delete(f"/api/jobs/{other}")


def test_too_large_an_upload_leaves_nothing(served: Served, tmp_path: Path) -> None:
    large = bytes(1_100_000)

    def pieces():
        for _ in range(11):
            yield bytes(100_000)

    for content in (large, pieces()):  # with its length in the header, and in pieces without
        answer = served.client.post("/api/jobs", params={"name": "a.nii"}, content=content)
        assert (answer.status_code, answer.json()["error"]) == (413, "larger than the 1 MB that are allowed")
    lie = served.client.post("/api/jobs?name=a.nii", content=b"x", headers={"Content-Length": "9" * 30})
    assert lie.status_code == 400
    assert served.client.post("/api/jobs?name=a.nii", content=b"").status_code == 400
    assert served.left() == []
    assert served.service.jobs.jobs == {}


def test_a_full_queue_sends_away_and_takes_again(served: Served, a_scan: Path) -> None:
    numbers = [served.send(a_scan).json()["id"] for _ in range(3)]
    refused = served.send(a_scan)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert [served.client.get(f"/api/jobs/{number}").json()["position"] for number in numbers] == [0, 1, 2]
    assert served.client.get(f"/api/jobs/{numbers[0]}/result").status_code == 409
    assert served.client.delete(f"/api/jobs/{numbers[1]}").status_code == 204
    assert served.client.get(f"/api/jobs/{numbers[1]}").status_code == 404
    assert served.send(a_scan).status_code == 202


@pytest.mark.parametrize(
    "name",
    ["a\r\nSet-Cookie: evil=1.nii", 'a"; filename="b.exe.nii', "<script>alert(1)</script>.nii", "../../../tmp/x.nii"],
)
def test_a_name_can_do_nothing(served: Served, a_scan: Path, name: str) -> None:
    """Header injection, scripts and paths in the name of an upload."""
    path = save_scan(a_scan.parent / "plain.nii")
    answer = served.client.get(f"/api/jobs/{served.segmented(path, name=name)}/result")
    assert "set-cookie" not in answer.headers
    disposition = answer.headers["content-disposition"]
    assert set("\r\n<>\\/").isdisjoint(disposition.replace("utf-8''", ""))
    assert all(served.service.room in file.parents for file in served.left())


def test_wrong_questions_are_answered_in_one_line(served: Served) -> None:
    for method, path, status in (
        ("POST", "/api/jobs", 422), ("POST", "/api/jobs?name=a.exe", 415), ("GET", "/api/jobs/..%2f..%2fetc", 404),
        ("GET", "/nowhere", 404), ("PUT", "/api/run", 405), ("GET", "/static/..%2fserve.py", 404),
        ("GET", "/static/index.html", 404),
    ):  # fmt: skip
        answer = served.client.request(method, path)
        assert answer.status_code == status, path
        assert set(answer.json()) == {"error"}
        assert "\n" not in answer.json()["error"]


def test_openapi_describes_what_there_is(served: Served) -> None:
    answer = served.client.get("/openapi.json")
    assert answer.status_code == 200
    described = answer.json()
    assert described["openapi"].startswith("3.")
    assert "application/octet-stream" in described["paths"]["/api/jobs"]["post"]["requestBody"]["content"]
    states = described["components"]["schemas"]["State"]["enum"]
    assert states == ["receiving", "waiting", "running", "done", "failed", "cancelled"]
    assert json.dumps(described).count("operationId") >= 9
