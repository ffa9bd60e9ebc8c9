"""Keeping a scan with its label as a case that `jcl prepare` reads: images/NAME and labels/NAME, whole or none."""

import contextlib
import errno
import os
import secrets
import shlex
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from jcl.data.folders import folded
from jcl.data.sources import SUFFIXES, result_suffix, stem
from jcl.data.volumes import read_image, write_map
from jcl.files import sync_folder, write_error
from jcl.serve.correction import write_corrected
from jcl.serve.jobs import Job
from jcl.serve.names import case_name
from jcl.serve.refusal import Refusal
from jcl.serve.segmenting import Segmented, single_file
from jcl.serve.service import Service

__all__ = ["Kept", "keep_case"]


NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a disk that has no links says."""


@dataclass(frozen=True)
class Kept:
    """A case that was kept: its name, its files, and the command that makes a store of all of them."""

    name: str
    image: Path
    label: Path
    command: str


def keep_case(service: Service, job: Job, segmented: Segmented, name: str) -> Kept:
    """Write image and label; a case that is there is never replaced.

    A scan that is one file is copied as it is. A DICOM series becomes a NIfTI file, which has nothing of its header.

    Raises:
        Refusal: nothing is kept here, the name is taken, or the scan is of several files for its channels.
        WriteError: the folder cannot be written.
    """
    if service.keep is None:
        raise Refusal(403, "nothing is kept here; begin the server with --keep FOLDER")
    if len(segmented.images) > 1:
        raise Refusal(409, "a scan of several files cannot be kept yet; send it as one file with all channels")
    name = case_name(name)
    file = single_file(segmented.images)
    suffix = ".nii.gz" if file is None else next(each for each in SUFFIXES if file.name.lower().endswith(each))
    ending = ".nii.gz" if file is None else result_suffix(file)
    images, labels = service.keep / "images", service.keep / "labels"
    with service.keeping, _beside(service.keep) as beside:
        for folder in (images, labels):
            _refuse_taken(folder, name)
        new = beside / f"{name}{suffix}"
        if file is None:
            volume = read_image(segmented.images, channels=service.classes.channels, grey=service.classes.grey)
            write_map(new, volume.array if len(volume.array) > 1 else volume.array[0], volume.geometry)
        else:
            shutil.copyfile(file, new)
        (beside / "label").mkdir()
        label = beside / "label" / f"{name}{ending}"
        write_corrected(label, job, segmented, service.classes)
        _link(new, images)
        try:
            _link(label, labels)
        except BaseException:
            (images / new.name).unlink(missing_ok=True)
            raise
    return Kept(name, images / new.name, labels / label.name, command_of(service))


def command_of(service: Service) -> str:
    """The command that makes a store of what was kept."""
    pairs = zip(service.classes.values, service.classes.names, strict=True)
    names = ",".join(f"{value}={name}" for value, name in pairs)
    return shlex.join(["jcl", "prepare", str(service.keep), "--labels", names, "--out", "corrected-store"])


@contextlib.contextmanager
def _beside(keep: Path) -> Generator[Path]:
    """A hidden folder on the same disk, which `jcl prepare` does not see; the folders of cases are made."""
    folder = keep / f".{secrets.token_hex(8)}.{os.getpid()}.tmp"
    try:
        for each in (keep / "images", keep / "labels", folder):
            each.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(keep, error) from error
    try:
        yield folder
    except OSError as error:
        raise write_error(keep, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_taken(folder: Path, name: str) -> None:
    taken = next((each.name for each in folder.iterdir() if folded(stem(each)) == folded(name)), None)
    if taken:
        raise Refusal(409, f"{folder.name}/{taken} is there already; give the case another name")


def _link(source: Path, folder: Path) -> None:
    """Give a file its place, unless something is there: a link, unlike a move, replaces nothing."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    try:
        try:
            os.link(source, folder / source.name)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if (folder / source.name).exists():
                raise FileExistsError from None
            source.rename(folder / source.name)
    except FileExistsError as error:
        raise Refusal(409, f"{folder.name}/{source.name} is there already; give the case another name") from error
    sync_folder(folder)
