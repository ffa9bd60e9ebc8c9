"""Which patients the run that a fine-tuning starts from has seen: by its split, and by the images themselves."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from jcl.data.context import recorded_context
from jcl.data.manifest import CaseRecord
from jcl.data.splits import Split, read_split
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.files import read_json

__all__ = ["Seen", "context_taken", "images_of", "patients_seen", "run_of", "same_images", "split_of"]

Images = Mapping[str, frozenset[str]]
"""Patient -> sha256 of each file of their images."""


@dataclass(frozen=True)
class Seen:
    """What a run has seen of some patients.

    Attributes:
        patients: those of whom it saw an image.
        namesakes: those of whom it saw no image, but others under their name.
        unknown: stores that it was trained on and that are not there any more, or, of weights that were imported, the
            data of the other program, so that nobody can tell.
    """

    patients: frozenset[str] = frozenset()
    namesakes: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()

    def __or__(self, other: "Seen") -> "Seen":
        patients = self.patients | other.patients
        return Seen(patients, (self.namesakes | other.namesakes) - patients, self.unknown + other.unknown)


def run_of(init: str) -> Path | None:
    """The run folder that `--init` names, or in which the file of weights lies; None where it is no run's."""
    path = Path(init)
    folder = path if path.is_dir() else path.parent
    return folder if init != "none" and (folder / "run.json").is_file() else None


def split_of(run: Path) -> Split | None:
    """The split of a run; None where it used all patients."""
    return read_split(run / "split.json") if (run / "split.json").is_file() else None


def context_taken(init: str, asked: int | None) -> int:
    """Neighbours that the slices of a fine-tuning are seen with: as asked, or as in the run that it starts from.

    From a run that saw slices by themselves it may go on with neighbours: its first layer is adapted to them.

    Raises:
        UsageError: the run saw slices with neighbours, and others are asked for.
        DataError: what the run has recorded cannot be read.
    """
    run = run_of(init)
    before = 0 if run is None else recorded_context(read_json(run / "run.json"), run / "run.json")
    if before and asked not in (None, before):
        raise UsageError(
            f"--context {asked} does not fit {init}, which was trained with context {before}; leave it out, or "
            f"pre-train with --context {asked}"
        )
    return before if asked is None else asked


def images_of(cases: Iterable[CaseRecord]) -> dict[str, frozenset[str]]:
    """The images of each patient."""
    found: dict[str, frozenset[str]] = {}
    for record in cases:
        digests = frozenset(digest for _, digest in record.source.get("images", []))
        found[record.patient] = found.get(record.patient, frozenset()) | digests
    return found


def same_images(wanted: Images, others: Images) -> frozenset[str]:
    """Those of the wanted patients of whom one of the others has an image."""
    there = frozenset[str]().union(*others.values())
    return frozenset(patient for patient, images in wanted.items() if images & there)


def patients_seen(run: Path, images: Images, digest: str, *, before: bool = True) -> Seen:
    """Whom of some patients a run, and the one that it started from, have seen.

    The same store is known by its digest; in another one the same files are looked for.

    Args:
        run: folder of a pre-training or of a fine-tuning.
        images: the patients that are asked about.
        digest: of their store.
        before: whether to ask the run that it started from, too.

    Raises:
        DataError: what the run has recorded cannot be read.
    """
    info: object = read_json(run / "run.json")
    try:
        found = _seen(run, cast("dict[str, Any]", info), images, digest)
        initial = cast("dict[str, Any]", cast("dict[str, Any]", info).get("init") or {}).get("run")
        if before and initial and (Path(initial) / "run.json").is_file():
            found |= patients_seen(Path(initial), images, digest)
        return found
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{run / 'run.json'}: not what a training of jcl writes ({error})") from error


def _seen(run: Path, info: dict[str, Any], images: Images, digest: str) -> Seen:
    if (recorded := info.get("seen_images")) is not None:  # of weights that were exported
        return Seen(same_images(images, {"": frozenset(recorded)}))
    left_out = info.get("left_out", {})
    imported = info.get("imported")
    found = Seen() if imported is None else Seen(unknown=(f"the data of the program {imported['program']}",))
    for path, of_store, used in _stores(info, split_of(run)):
        without = frozenset(left_out.get(path, ()))
        if of_store == digest:
            found |= Seen(frozenset(p for p in images if (used is None or p in used) and p not in without))
        else:
            found |= _seen_elsewhere(path, of_store, used, without, images)
    return found


def _stores(info: dict[str, Any], split: Split | None) -> list[tuple[str, str, frozenset[str] | None]]:
    """Path, digest, and the patients that were used (None: all) of each store, of which a split is the first's."""
    trained = None if split is None else frozenset(split.train)
    if info["kind"] == "finetune":
        without = [(str(e["path"]), str(e["digest"]), frozenset(e["patients"])) for e in info.get("unlabelled", [])]
        return [(str(info["store"]), str(info["store_digest"]), trained), *without]
    stores = [(str(entry["path"]), str(entry["digest"])) for entry in info["stores"]]
    return [(*store, None if number else trained) for number, store in enumerate(stores)]


def _seen_elsewhere(
    path: str, digest: str, used: frozenset[str] | None, without: frozenset[str], images: Images
) -> Seen:
    """In another store, of which some patients were used (None: all)."""
    try:
        with closing(Store.open(path)) as store:
            if store.digest != digest:
                return Seen(unknown=(path,))
            cases = [r for r in store.cases if (used is None or r.patient in used) and r.patient not in without]
            there = images_of(cases)
            same = same_images(images, there)
            return Seen(same, frozenset(images) & frozenset(there) - same)
    except DataError:
        return Seen(unknown=(path,))
