"""A case is kept whole or not at all, and never over another."""

import os
from pathlib import Path
from typing import Any

import pytest

from jcl.files import WriteError
from jcl.serve import keeping
from jcl.serve.keeping import keep_case
from jcl.serve.refusal import Refusal
from support.serving import Served


def kept(served: Served) -> list[str]:
    folder = served.config.keep
    assert folder is not None
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def keep(served: Served, number: str, name: str) -> Any:
    job = served.service.jobs.get(number)
    assert job.result is not None
    return keep_case(served.service, job, job.result, name)


def test_what_fails_half_way_leaves_nothing(served: Served, a_scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = served.segmented(a_scan)
    real, calls = os.link, []

    def link(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(keeping.os, "link", link)
        with pytest.raises(WriteError, match="No space left"):
            keep(served, number, "a")
    assert kept(served) == []
    keep(served, number, "a")
    assert kept(served) == ["images/a.nii.gz", "labels/a.nii.gz"]
    assert [path.name for path in (a_scan.parent / "kept").iterdir() if path.name.startswith(".")] == []


def test_what_another_writes_in_between_stays(served: Served, a_scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may take the name after it was looked for."""
    number = served.segmented(a_scan)
    monkeypatch.setattr(keeping, "_refuse_taken", lambda folder, name: None)
    for folder in ("labels", "images"):
        path = a_scan.parent / "kept" / folder / "a.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"theirs")
        with pytest.raises(Refusal, match="is there already"):
            keep(served, number, "a")
        assert path.read_bytes() == b"theirs"
    assert kept(served) == ["images/a.nii.gz", "labels/a.nii.gz"]


def test_on_a_disk_without_links_it_is_moved_and_replaces_nothing(
    served: Served, a_scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(keeping.os, "link", link)
    number = served.segmented(a_scan)
    assert keep(served, number, "a").image.read_bytes() == a_scan.read_bytes()
    monkeypatch.setattr(keeping, "_refuse_taken", lambda folder, name: None)
    with pytest.raises(Refusal, match="is there already"):
        keep(served, number, "a")


@pytest.mark.parametrize("other", ["a.nrrd", "A.nii", "a.nii.gz"])
def test_a_case_of_that_name_in_another_format_is_one_too(served: Served, a_scan: Path, other: str) -> None:
    number = served.segmented(a_scan)
    for folder in ("images", "labels"):
        path = a_scan.parent / "kept" / folder / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"theirs")
        with pytest.raises(Refusal, match=f"{folder}/{other} is there already"):
            keep(served, number, "a")
        path.unlink()
