"""What the names of folders and files say of their files: one table for all that looks through a folder.

Names are compared in Unicode NFC (macOS writes the accents of a name apart from their letters) and without regard to
case. Of several folders on a path that have a role, the innermost decides.
"""

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jcl.data.leftout import LeftOut
from jcl.errors import DataError

__all__ = [
    "IMAGE",
    "LABEL",
    "Role",
    "folded",
    "folded_words",
    "label_words",
    "refuse_label_folder",
    "role_of",
    "walk",
    "without_roles",
]

IMAGE, LABEL = "image", "label"


@dataclass(frozen=True)
class Role:
    """What the files of a folder are.

    Attributes:
        kind: `IMAGE` or `LABEL`.
        part: of the data set: "training", "validation" or "test"; empty where the name does not say.
        plain: whether the name is one that is never a patient's or a site's, and so no part of a case's name.
    """

    kind: str
    part: str = ""
    plain: bool = True

    @property
    def trains(self) -> bool:
        """Whether a store is made of its files."""
        return self.part in ("", "training")


ROLES: dict[str, Role] = {
    "images": Role(IMAGE),
    "imagestr": Role(IMAGE, "training"),
    "imagesva": Role(IMAGE, "validation"),
    "imagesval": Role(IMAGE, "validation"),
    "imagests": Role(IMAGE, "test"),
    "labels": Role(LABEL),
    "labelstr": Role(LABEL, "training"),
    "labelsva": Role(LABEL, "validation"),
    "labelsval": Role(LABEL, "validation"),
    "labelsts": Role(LABEL, "test"),
    **dict.fromkeys(
        (
            "label", "mask", "masks", "seg", "segs", "segmentation", "segmentations", "gt", "groundtruth",
            "ground_truth", "ground-truth", "ground truth", "annotation", "annotations",
        ),
        Role(LABEL, plain=False),
    ),
}  # fmt: skip
"""Folders, by their names in lower case, as users, the Decathlon, nnU-Net and AMOS name them."""

LABEL_WORDS = frozenset(
    (
        "seg",
        "segs",
        "segmentation",
        "label",
        "labels",
        "lbl",
        "mask",
        "masks",
        "gt",
        "groundtruth",
        "annotation",
        "dseg",
        "roi",
        "labelmap",
        "contour",
    )
)
"""A file whose name begins or ends in one of these words may be the label of the image beside it."""


def folded(name: str) -> str:
    """A name as names are compared."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def folded_words(name: str) -> str:
    """The same of a name of several words, whatever the spaces between them."""
    return folded(" ".join(name.split()))


def role_of(folders: Sequence[str]) -> Role | None:
    """The role of the files in a folder, by the names on its path; None where no name has one."""
    return next((role for name in reversed(folders) if (role := ROLES.get(folded(name)))), None)


def without_roles(folders: Iterable[str]) -> list[str]:
    """The names of a path that are not those of folders of images or labels."""
    return [name for name in folders if not ((role := ROLES.get(folded(name))) and role.plain)]


def refuse_label_folder(source: Path) -> None:
    """Refuse a folder that is one of labels by its own name, and has no folders of images or labels itself.

    Raises:
        DataError: it is one.
    """
    role = role_of([source.resolve().name])
    if role is None or role.kind != LABEL or not role.plain:
        return
    if not any(role_of([path.name]) for path in source.iterdir() if path.is_dir()):
        raise DataError(f"{source}: a folder of labels by its name; give the folder that has the images")


def label_words(stem: str) -> str | None:
    """What is left of a label's file name without the words that say what it is; None for other names.

    It is empty for a file that is named by such words alone, as 3D Slicer's `Segmentation.seg`.
    """
    words = re.split(r"[ _.\-]+", folded(stem))
    if words[-1] in LABEL_WORDS:
        while words and words[-1] in LABEL_WORDS:
            words.pop()
        return "_".join(words)
    return "_".join(words[1:]) if words[0] in LABEL_WORDS else None


def walk(folder: Path, left_out: LeftOut | None = None) -> Iterator[Path]:
    """Files below `folder` in a fixed order; links are followed, each folder is entered once; hidden ones are not.

    Names with a leading dot are hidden (macOS leaves some); `left_out` counts them, and names folders that cannot be
    opened.
    """
    seen: set[str] = set()

    def closed(error: OSError) -> None:
        if left_out is not None:
            left_out.name(f"cannot be opened ({error.strerror}); change its permissions", Path(error.filename))

    for root, folders, names in os.walk(folder, followlinks=True, onerror=closed):
        real = os.path.realpath(root)
        if left_out is not None:
            left_out.count("hidden files", sum(name.startswith(".") for name in names))
            left_out.count("hidden folders", sum(name.startswith(".") for name in folders))
        # A link to a folder above would make the walk endless.
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            seen.add(real)
            paths = (Path(root, name) for name in sorted(names) if not name.startswith("."))
            yield from (path for path in paths if _is_file(path, left_out))


def _is_file(path: Path, left_out: LeftOut | None) -> bool:
    """Whether a path is no pipe, socket, device or link to itself; one that leads nowhere is left to who reads it."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return True
        reason = "a pipe, a socket or a device; remove it"
    except OSError as error:
        if error.errno != errno.ELOOP:
            return True
        reason = "a link that leads to itself; remove it"
    if left_out is not None:
        left_out.name(reason, path)
    return False
