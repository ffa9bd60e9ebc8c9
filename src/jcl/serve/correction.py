"""What somebody corrected on the page: the class of each voxel, checked, and brought back to the scan's own grid."""

from pathlib import Path

import numpy as np

from jcl.data.volumes import write_label
from jcl.serve.jobs import Job
from jcl.serve.refusal import Refusal
from jcl.serve.segmenting import Classes, Segmented

__all__ = ["check_classes", "corrected_path", "write_corrected"]

CORRECTED = "corrected"


def corrected_path(job: Job) -> Path:
    """Where the corrected classes of a job lie."""
    return job.folder / CORRECTED


def check_classes(path: Path, segmented: Segmented, classes: Classes) -> None:
    """See that a file holds a class for each voxel.

    Raises:
        Refusal: it does not.
    """
    expected = int(np.prod(segmented.geometry.shape))
    found = np.fromfile(path, np.uint8)
    if len(found) != expected:
        raise Refusal(400, f"{len(found)} bytes; the scan has {expected} voxels, a byte each")
    if (highest := int(found.max())) > len(classes.names):
        raise Refusal(400, f"a voxel has the class {highest}; the highest is {len(classes.names)}")


def write_corrected(path: Path, job: Job, segmented: Segmented, classes: Classes) -> None:
    """Write label values on the scan's own grid: the correction, or without one what was predicted.

    Raises:
        WriteError: the file cannot be written.
    """
    voxels = np.fromfile(corrected_path(job) if job.corrected else job.task.classes, np.uint8)
    values = np.array([0, *classes.values])
    write_label(path, values[voxels.reshape(segmented.geometry.shape)], segmented.geometry)
