"""Names that clients give to files, made into names that a folder can have: no path, no command, no mark."""

import re
import unicodedata

from jcl.data.sources import SUFFIXES
from jcl.serve.refusal import Refusal

__all__ = ["ARCHIVE", "case_name", "split_name"]

ARCHIVE = ".zip"

MOST = 80
"""Letters of a name."""

RESERVED = frozenset(
    ("con", "prn", "aux", "nul", *(f"com{number}" for number in range(10)), *(f"lpt{number}" for number in range(10)))
)
"""Names that Windows has for devices."""

APART = (".mhd",)
"""Suffixes of headers whose voxels lie in another file."""


def case_name(text: str) -> str:
    """A name for a case: letters, digits, `_`, `-`, `.` and spaces within; `scan` if nothing is left."""
    last = re.split(r"[/\\]", text)[-1]
    plain = re.sub(r"[^\w.\- ]+", "_", unicodedata.normalize("NFC", last))
    plain = re.sub(r"\.{2,}", ".", plain)[:MOST].strip(" .")
    if not re.search(r"\w", plain):
        return "scan"
    return f"_{plain}" if plain.split(".")[0].lower() in RESERVED else plain


def split_name(text: str) -> tuple[str, str]:
    """The name of the case and the suffix, in lower case, of an upload.

    Raises:
        Refusal: the suffix is not one of a scan that is whole in one file, or of an archive.
    """
    lower = text.lower()
    suffix = next((each for each in (*SUFFIXES, ARCHIVE) if lower.endswith(each)), "")
    if suffix in APART:
        raise Refusal(415, f"{suffix} has its voxels in another file: put both into a .zip, or save it as .mha")
    if not suffix:
        known = ", ".join(each for each in SUFFIXES if each not in APART)
        raise Refusal(415, f"not a scan by its name; one file ({known}) or a .zip with a DICOM series is needed")
    return case_name(text[: -len(suffix)]), suffix
