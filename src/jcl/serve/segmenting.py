"""What is done in the process that segments: it has the network, and does what `jcl predict` does, scan by scan."""

import struct
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jcl.config import PredictConfig
from jcl.data.geometry import Geometry
from jcl.data.intensities import window_of
from jcl.data.leftout import LeftOut
from jcl.data.notes import noted
from jcl.data.sources import SliceFiles, Source, files_of
from jcl.errors import DataError
from jcl.serve.view import View, write_view

if TYPE_CHECKING:  # PyTorch is loaded only where it is used
    from jcl.inference.segment_scan import Work

__all__ = ["Classes", "Segmented", "Task", "describe", "read_share", "segment", "setup", "single_file"]

_settings: PredictConfig | None = None
_work: "Work | None" = None


@dataclass(frozen=True)
class Classes:
    """What a run segments: names and label values of its structures; channels of its scans, and whether in grey."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    channels: int
    grey: bool = False


@dataclass(frozen=True)
class Task:
    """A scan to segment.

    Attributes:
        source: the file, or the folder with one scan.
        folder: where the result is written, and what belongs to it.
        view: whether a page will show it.
    """

    source: Path
    folder: Path
    view: bool

    @property
    def share(self) -> Path:
        """The file that says which share is done."""
        return self.folder / "share"

    @property
    def image(self) -> Path:
        """The voxels as a page shows them."""
        return self.folder / "image"

    @property
    def classes(self) -> Path:
        """The class of each voxel, turned, a byte each."""
        return self.folder / "classes"


@dataclass(frozen=True)
class Segmented:
    """A scan that is segmented.

    Attributes:
        result: the file, as `jcl predict` writes it.
        images: what it was read from.
        geometry: where its voxels lie.
        notes: what was read in one of two ways.
        view: how it is shown, if it is.
    """

    result: Path
    images: tuple[Source, ...]
    geometry: Geometry
    notes: tuple[str, ...]
    view: View | None


def setup(settings: PredictConfig, scratch: Path | None = None) -> None:
    """Say by which settings this process segments; nothing is loaded before it has to be.

    Args:
        settings: of `jcl predict`.
        scratch: folder for temporary files: what a process that is ended leaves there has to be found.
    """
    global _settings, _work
    _settings, _work = settings, None
    if scratch:
        tempfile.tempdir = str(scratch)


def _loaded() -> "Work":
    global _work
    from jcl.inference.segment_scan import begin

    if _settings is None:
        raise RuntimeError("`setup` was not called")
    _work = _work or begin(_settings, _settings.out)  # each scan comes with a folder of its own
    return _work


def describe() -> Classes:
    """Load the network; returns what it segments.

    Raises:
        JclError: see `jcl.inference.segment_scan.begin`.
    """
    preparation = _loaded().preparation
    names, values = tuple(preparation["classes"]), tuple(preparation["class_values"])
    return Classes(names, values, int(preparation["channels"]), bool(preparation.get("grey")))


def segment(task: Task) -> Segmented:
    """Segment a scan as `jcl predict` does.

    Raises:
        DataError: there is not one scan, or it cannot be segmented.
    """
    from jcl.data.volumes import read_scan
    from jcl.inference.scans import find_scans
    from jcl.inference.segment_scan import segment_scan

    work = _loaded()
    here = replace(
        work,
        source=task.source,
        config=replace(work.config, source=task.source, out=task.folder),
        tidied={},
        entries={},
    )
    with noted() as notes:
        scans = find_scans(task.source, work.preparation, LeftOut(), skip=task.folder)
        if len(scans) != 1:
            names = ", ".join(scan.name for scan in scans[:3]) + (", …" if len(scans) > 3 else "")
            raise DataError(f"{len(scans)} scans in one upload ({names}); send one at a time")
        (scan,) = scans
        with task.share.open("wb") as share:

            def within(done: float) -> None:
                share.seek(0)
                share.write(struct.pack("<d", done))
                share.flush()

            classes, geometry = segment_scan(scan, here, within)
        volume = read_scan(scan.images, work.preparation) if task.view else None
    task.classes.write_bytes(classes.tobytes())
    view = write_view(task.image, volume.array[0], geometry, window_of(work.preparation)) if volume else None
    return Segmented(scan.target(task.folder), scan.images, geometry, tuple(notes), view)


def read_share(task: Task) -> float:
    """The share that is done of a scan that is being segmented."""
    try:
        return float(struct.unpack("<d", task.share.read_bytes())[0])
    except (OSError, struct.error):
        return 0.0


def single_file(images: tuple[Source, ...]) -> Path | None:
    """The one file that a scan lies in; None for a series, several channels, or a header with voxels elsewhere."""
    if len(images) != 1 or isinstance(images[0], SliceFiles) or images[0].suffix.lower() == ".mhd":
        return None
    return files_of(images[0])[0]
