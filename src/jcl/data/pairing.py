"""Which label belongs to which image, by the names of their files and folders; what is not certain is not guessed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jcl.data.folders import LABEL, Role, folded, label_words, role_of, without_roles
from jcl.data.leftout import LeftOut
from jcl.data.sources import Structures, stem

__all__ = ["Placed", "case_name", "labels_beside", "mask_folders", "pair"]

IMAGE_WORDS = ("", "image", "images", "img", "imaging", "scan", "volume", "vol", "orig", "original", "data")
"""What the name of an image may have in the place of the word that marks its label."""


@dataclass(frozen=True)
class Placed:
    """A file and the folders it lies in.

    Attributes:
        path: the file.
        folders: names below the source.
        role: of the innermost folder that has one.
    """

    path: Path
    folders: tuple[str, ...]
    role: Role | None

    @classmethod
    def below(cls, source: Path, path: Path) -> "Placed":
        """A file below the source."""
        folders = path.relative_to(source).parts[:-1]
        return cls(path, folders, role_of(folders))

    @property
    def is_label(self) -> bool:
        """Whether its folder is one of labels."""
        return self.role is not None and self.role.kind == LABEL


def case_name(placed: Placed) -> str:
    """The name of a file's case: its folders that have no role, and its own name, joined by `_`."""
    folders = list(placed.folders)
    if placed.is_label and (place := _role_place(folders)) is not None:
        del folders[place]
    return "_".join([*without_roles(folders), stem(placed.path)])


def pair(images: dict[str, Placed], labels: Sequence[Placed]) -> tuple[dict[str, Placed], list[Placed]]:
    """The labels of the images by case, and those labels that have none.

    A label belongs to the image of the same case name; else to the only one that lies in a folder beside the label's
    (`scans/x` and `masks/x`), where the words that mark images and labels in a file's name do not count.

    Args:
        images: by case.
        labels: files in folders of labels.
    """
    found: dict[str, Placed] = {}
    rest: list[Placed] = []
    names = {folded(case): case for case in images}
    for label in labels:
        case = names.get(folded(case_name(label)))
        if case is None or case in found or not _same_part(images[case], label):
            rest.append(label)
        else:
            found[case] = label
    beside: defaultdict[tuple[tuple[str, ...], str], list[str]] = defaultdict(list)
    for case in images.keys() - found.keys():
        for key in _places(images[case]):
            beside[key].append(case)
    alone: list[Placed] = []
    for label in rest:
        wanted = _label_places(label)
        cases = sorted({case for key in wanted for case in beside[key] if _same_part(images[case], label)})
        if len(cases) == 1 and cases[0] not in found:
            found[cases[0]] = label
        else:
            alone.append(label)
    return found, alone


def mask_folders(
    images: Mapping[str, Placed], pairs: Mapping[str, Placed], alone: Sequence[Placed]
) -> tuple[dict[str, Structures], list[Placed]]:
    """Folders of labels beside a single image, none of them named as it is: each file is the mask of a structure.

    So TotalSegmentator's data set is laid out: `s0001/ct.nii.gz` and `s0001/segmentations/liver.nii.gz`.

    Args:
        images: by case.
        pairs: the cases that have a label already.
        alone: labels without an image.

    Returns:
        The masks by case, and the labels that are still alone.
    """
    inside: defaultdict[Path, list[Placed]] = defaultdict(list)
    for label in alone:
        inside[label.path.parent].append(label)
    beside: defaultdict[Path, list[str]] = defaultdict(list)
    for case, image in images.items():
        beside[image.path.parent].append(case)
    found: dict[str, Structures] = {}
    rest: list[Placed] = []
    for folder, labels in inside.items():
        owners = beside[folder.parent]
        role = role_of([folder.name])
        own = len(labels[0].folders) > 1  # each patient has a folder: not one of labels for all
        if own and len(owners) == 1 and owners[0] not in pairs and role and role.kind == LABEL and role.trains:
            found[owners[0]] = Structures(folder, tuple(sorted(label.path for label in labels)))
        else:
            rest += labels
    return found, rest


def labels_beside(images: dict[str, Placed], labelled: Iterable[str], left_out: LeftOut) -> dict[str, Placed]:
    """Take those files out of the images that are the label of another one in the same folder; returns them by case.

    A file is one if its name is that of the other with a word for labels (`p1.nii.gz` and `p1_seg.nii.gz`), or such
    a word alone beside a single image. One that may belong to several images is left out, and named.
    """
    of_folder: defaultdict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for case, placed in images.items():
        of_folder[placed.folders][case] = folded(stem(placed.path))
        if placed.path.is_dir():  # a series, beside whose files its label may lie
            of_folder[(*placed.folders, placed.path.name)][case] = folded(placed.path.name)
    found: dict[str, Placed] = {}
    taken = set(labelled)
    for stems in of_folder.values():
        marked = {case: words for case, name in stems.items() if (words := label_words(name)) is not None}
        plain = {case: name for case, name in stems.items() if case not in marked}
        candidates = _Owners(plain)
        for case, words in marked.items():
            owners = candidates.of(words)
            if not owners:
                continue
            label = images.pop(case)
            if len(owners) == 1 and owners[0] not in taken:
                taken.add(owners[0])
                found[owners[0]] = label
            else:
                why = "may be the label of several images" if len(owners) > 1 else "a second label of one image"
                left_out.name(f"{why}; say which with a data set specification (--dataset FILE.toml)", label.path)
    if found:
        names = sorted(label.path.name for label in found.values())
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        left_out.remarks.append(f"labels by their file names: {', '.join(names[:3])}{more}")
    return found


class _Owners:
    """The images of one folder, found by the name of a label without its mark."""

    def __init__(self, images: dict[str, str]) -> None:
        self.all = list(images)
        self.exact: defaultdict[str, list[str]] = defaultdict(list)
        self.begins: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for case, name in images.items():
            self.exact[_without_image_words(name)].append(case)
            parts = tuple(_parts(name))
            for end in range(1, len(parts) + 1):
                self.begins[parts[:end]].append(case)

    def of(self, words: str) -> list[str]:
        """Cases to which a label can belong, whose name without its mark is `words`."""
        if not words:
            return self.all
        return self.exact.get(words) or self.begins.get(tuple(_parts(words)), [])


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("-", "_").replace(" ", "_").replace(".", "_").split("_") if part]


def _without_image_words(name: str) -> str:
    parts = _parts(name)
    if len(parts) > 1 and parts[-1] in IMAGE_WORDS:
        return "_".join(parts[:-1])
    return "_".join(parts[1:] if len(parts) > 1 and parts[0] in IMAGE_WORDS else parts)


def _role_place(folders: Sequence[str]) -> int | None:
    """Where on a path the innermost folder with a role is."""
    return next((at for at in reversed(range(len(folders))) if role_of([folders[at]])), None)


def _same_part(image: Placed, label: Placed) -> bool:
    """Whether the folders' names say the same part of the data set, if both say one."""
    parts = {placed.role.part for placed in (image, label) if placed.role is not None and placed.role.part}
    return len(parts) < 2


def _places(image: Placed) -> set[tuple[tuple[str, ...], str]]:
    """The image's folders with each of them left out in turn, and its name with and without marks."""
    folders = tuple(map(folded, image.folders))
    name = folded(stem(image.path))
    names = {name, _without_image_words(name)}
    without = {folders[:at] + folders[at + 1 :] for at in range(len(folders))} | {folders}
    return {(rest, name) for rest in without for name in names}


def _label_places(label: Placed) -> set[tuple[tuple[str, ...], str]]:
    folders = [folded(name) for name in label.folders]
    place = _role_place(folders)
    rest = tuple(folders if place is None else folders[:place] + folders[place + 1 :])
    name = folded(stem(label.path))
    return {(rest, name), (rest, label_words(name) or name)}
