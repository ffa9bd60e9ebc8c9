"""A process of its own that decodes compressed images: `codec` runs this file as a script.

SimpleITK's decoders are in C++; damaged JPEG data made them crash (6 of 3000 mutated files) or take
gigabytes. Here that ends this process, and becomes the error of one file.
"""

import os
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

__all__ = ["FRAME"]

FRAME = struct.Struct("<BIII")
"""Before each answer: bytes a value (0: it is an error's text), rows, columns, bytes that follow."""


def limit_memory(size: int) -> None:
    """Let this process take so many bytes at most, where the system can do that."""
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        size = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_AS, (size, hard))
    except (ImportError, AttributeError, ValueError, OSError):  # Windows has no such limits, macOS not this one
        return


def answer(path: Path, reader: sitk.ImageFileReader, out: BinaryIO) -> None:
    """Write the voxels of a file, or why it has none."""
    reader.SetFileName(str(path))
    try:
        array: np.ndarray = sitk.GetArrayFromImage(reader.Execute())
        array = array.reshape(array.shape[-2:]).astype("<i4" if array.dtype.itemsize < 4 else "<i8")
    except (RuntimeError, MemoryError, ValueError) as error:
        # What SimpleITK says names its classes and the address of one, not what is wrong.
        message = b"not enough memory" if isinstance(error, MemoryError) else b"damaged, or not known to the decoder"
        out.write(FRAME.pack(0, 0, 0, len(message)) + message)
        return
    out.write(FRAME.pack(array.dtype.itemsize, *array.shape, array.nbytes) + array.tobytes())


def main() -> None:
    """Decode the files 0.dcm, 1.dcm, ... of a folder: arguments are folder, how many, and bytes of memory."""
    folder, count, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    # What the decoders print must not come between the answers.
    with os.fdopen(os.dup(1), "wb") as out, Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        limit_memory(limit)
        sitk.ProcessObject.GlobalWarningDisplayOff()
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        for number in range(count):
            answer(folder / f"{number}.dcm", reader, out)


if __name__ == "__main__":
    main()
