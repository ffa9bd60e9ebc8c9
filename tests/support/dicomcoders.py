"""Slices packed by each transfer syntax, by other programs' encoders."""

import io
from pathlib import Path

import jpeg_ls
import numpy as np
import PIL.Image
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from support.dicomfiles import compress, deflated

BASELINE, LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"
JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"


def through_itk(kind: str, pixels: np.ndarray, folder: Path) -> bytes:
    """The code stream that SimpleITK's encoder makes."""
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(folder / "encoded.tmp.dcm"))
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor(kind)
    writer.Execute(sitk.GetImageFromArray(pixels[None]))
    dataset = pydicom.dcmread(folder / "encoded.tmp.dcm")
    (folder / "encoded.tmp.dcm").unlink()
    return next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))


def baseline(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def packed(syntax: str, dataset: Dataset, folder: Path) -> Dataset:
    if syntax == "deflated":
        return deflated(dataset)
    if syntax == RLELossless:
        dataset.compress(RLELossless, encoding_plugin="pydicom")
        return dataset
    if syntax == BASELINE:
        return compress(dataset, syntax, baseline)
    if syntax == JPEG_LS:
        return compress(dataset, syntax, lambda pixels: bytes(jpeg_ls.encode(pixels.view(np.uint16))))
    kind = {LOSSLESS: "JPEG", JPEG_2000: "JPEG2000"}[syntax]
    return compress(dataset, syntax, lambda pixels: through_itk(kind, pixels, folder))
