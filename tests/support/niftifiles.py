"""NIfTI headers whose statements of place are given one by one."""

import struct
from pathlib import Path

import nibabel
import numpy as np


def placed(
    array: np.ndarray,
    *,
    sform: np.ndarray | None = None,
    qform: np.ndarray | None = None,
    codes: tuple[int, int] = (1, 1),
    pixdim: tuple[float, ...] | None = None,
) -> bytes:
    """A NIfTI file (voxels x, y, z) with these forms; `codes` are of sform and qform, pixdim is that of a form."""
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.set_sform(sform, codes[0] if sform is not None else 0)
    image.set_qform(qform, codes[1] if qform is not None else 0)
    content = bytearray(image.to_bytes())
    # nibabel writes an sform of its own where none is given.
    struct.pack_into("<2h", content, 252, codes[1] if qform is not None else 0, codes[0] if sform is not None else 0)
    form = sform if qform is None else qform
    if pixdim is None and form is not None:
        pixdim = tuple(np.linalg.norm(form[:3, :3], axis=0))
    if pixdim is not None:
        struct.pack_into(f"<{len(pixdim)}f", content, 80, *pixdim)
    return bytes(content)


def save_placed(path: Path, array: np.ndarray, **forms: object) -> Path:
    """`placed`, as a file that is not packed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(placed(array, **forms))  # type: ignore[arg-type]
    return path
