"""The requests of MONAI Label's client (0.8.5), as it writes them: forms with the whole path as the name of a file."""

import email
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np
import pytest
import SimpleITK as sitk

from support.serving import LABELS, Served, running, save_scan

LIMIT = "----------lImIt_of_THE_fIle_eW_$"


@pytest.fixture(scope="module")
def live(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("live")
    with running(run, folder / "room", keep=folder / "kept", max_mb=1) as served:
        yield served


def ask(live: Served, method: str, path: str, files: dict[str, Path] | None = None, **fields: str) -> Any:
    """As `MONAILabelUtils.http_method` and `http_multipart` do."""
    import requests

    address = f"http://127.0.0.1:{live.access.port}/monai/{live.access.token}{path}"
    if files is None:
        return requests.request(method, address, timeout=60)
    lines: list[str | bytes] = []
    for key, value in fields.items():
        lines += [f"--{LIMIT}", f'Content-Disposition: form-data; name="{key}"', "", value]
    for key, file in files.items():
        lines += [f"--{LIMIT}", f'Content-Disposition: form-data; name="{key}"; filename="{file}"']
        lines += ["Content-Type: application/octet-stream", "", file.read_bytes()]
    lines += [f"--{LIMIT}--", ""]
    body = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in lines)
    headers = {"content-type": f"multipart/form-data; boundary={LIMIT}"}
    return requests.request(method, address, data=body, headers=headers, timeout=60)


def parts(answer: Any) -> dict[str, Any]:
    """Fields and files of an answer, by their names."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    found = {}
    for part in email.message_from_bytes(head + answer.content).get_payload():
        name = part.get_param("name", header="content-disposition")
        found[name] = (part.get_filename(), part.get_payload(decode=True))
    return found


def test_it_connects(live: Served) -> None:
    info = ask(live, "GET", "/info/").json()
    assert {"name", "description", "version", "labels", "models", "trainers", "strategies"} <= set(info)
    assert info["models"]["jcl"]["type"] == "segmentation"
    assert info["models"]["jcl"]["labels"] == {name: value for value, name in LABELS.items()}
    assert ask(live, "GET", "/auth/").json() == {"enabled": False}


def test_a_volume_is_segmented_and_its_label_submitted(live: Served, tmp_path: Path) -> None:
    scan = save_scan(tmp_path / "anna 1.nii.gz")
    sent = ask(live, "PUT", "/datastore/?image=anna+1", {"file": scan}, params='{"client_id": "x"}')
    assert (sent.status_code, sent.json()) == (200, {"image": "anna 1"})
    assert list(ask(live, "GET", "/datastore/?output=all").json()["objects"]) == ["anna 1"]
    answer = ask(live, "POST", f"/infer/jcl?image={quote_plus('anna 1')}", {}, params="{}")
    assert answer.status_code == 200
    found = parts(answer)
    assert json.loads(found["params"][1])["label_names"] == {name: value for value, name in LABELS.items()}
    name, content = found["file"]
    assert name == "label.nii.gz"
    (tmp_path / name).write_bytes(content)
    label = sitk.ReadImage(str(tmp_path / name))
    array = sitk.GetArrayFromImage(label)
    assert set(np.unique(array)) == {0, *LABELS}
    array[0, 0, 0] = 3 if array[0, 0, 0] != 3 else 0
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(label)
    sitk.WriteImage(changed, str(tmp_path / "drawn.nii.gz"))
    drawn = {"label": tmp_path / "drawn.nii.gz"}
    submitted = ask(live, "PUT", "/datastore/label?image=anna+1&tag=final", drawn, params="{}")
    assert submitted.status_code == 200, submitted.text
    assert live.config.keep is not None
    kept = sitk.ReadImage(str(live.config.keep / "labels" / "anna 1.nii.gz"))
    assert (sitk.GetArrayFromImage(kept) == array).all()
    assert kept.GetOrigin() == pytest.approx(label.GetOrigin())
    array[0, 0, 0] = 99
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(label)
    sitk.WriteImage(changed, str(tmp_path / "drawn.nii.gz"))
    wrong = ask(live, "PUT", "/datastore/label?image=anna+1", drawn, params="{}")
    assert (wrong.status_code, "values 99" in wrong.json()["error"]) == (400, True)


def test_a_session_and_a_file_that_comes_along(live: Served, tmp_path: Path) -> None:
    scan = save_scan(tmp_path / "b.nii")
    number = ask(live, "PUT", "/session/", {"files": scan}).json()["session_id"]
    assert ask(live, "GET", f"/session/{number}").status_code == 200
    by_session = parts(ask(live, "POST", f"/infer/jcl?image=&session_id={number}", {}, params="{}"))["file"]
    along = parts(ask(live, "POST", "/infer/jcl?image=b", {"file": scan}, params="{}"))["file"]
    assert by_session == along
    assert by_session[0] == "label.nii"
    assert ask(live, "DELETE", f"/session/{number}").status_code == 200
    assert ask(live, "GET", f"/session/{number}").status_code == 404


def test_what_is_not_there_is_said(live: Served, tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"x" * 400)
    assert ask(live, "POST", "/infer/other?image=x").status_code == 404
    assert ask(live, "POST", "/infer/jcl?image=nobody").status_code == 404
    assert ask(live, "PUT", "/datastore/?image=a").status_code == 400
    failed = ask(live, "POST", "/infer/jcl?image=a", {"file": tmp_path / "a.nii"}, params="{}")
    assert (failed.status_code, failed.json()["error"]) == (422, "a.nii: not a NIfTI file")
    (tmp_path / "a.nii").write_bytes(b"x" * 1_100_000)
    assert ask(live, "PUT", "/datastore/?image=a", {"file": tmp_path / "a.nii"}).status_code == 413
