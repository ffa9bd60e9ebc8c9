"""The kind of scan that a source says it is: CT, MR. DICOM files say so; NIfTI, NRRD and pictures do not."""

from jcl.data.sources import SliceFiles, Source

__all__ = ["modality_of"]


def modality_of(source: Source) -> str:
    """As DICOM abbreviates it (`CT`, `MR`, `US`); empty where the source is no DICOM series or leaves it out."""
    if not isinstance(source, SliceFiles):
        return ""
    from jcl.data.dicom.header import read_header  # not above: loading pydicom takes long

    return read_header(source.files[0]).modality.upper()
