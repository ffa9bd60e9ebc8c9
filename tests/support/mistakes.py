"""The likely mistakes of a first hour, each made with the program itself; docs/errors.md shows what it says.

`PYTHONPATH=src:tests python -m support.mistakes` writes the page anew.
"""

import contextlib
import gzip
import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import SimpleITK as sitk

from jcl.cli import main as cli
from jcl.data.store import Store
from jcl.files import read_json, write_json
from support.scans import write_volumes
from support.thresholds import threshold_network, write_run

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
SHAPE = (4, 24, 20)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4917\nsize 261136\n"
ERROR = "jcl: error: "

INTRODUCTION = """\
# What is said when something is wrong

{count} mistakes that a first hour is likely to bring, the command that was typed, and the line that is said. Exit code
2: the command or a setting has to be changed; 3: the data. `tests/test_mistakes.py` makes each of them and compares.

A scan or label that cannot be used ends a command only where it is the only one. Else it is skipped, the rest goes on,
and its line is among those that are said at the end; with `--strict` the first of them ends the command. Files that are
not used are counted there, and those that may be scans are named.
"""


@dataclass(frozen=True)
class Answer:
    """What the program says, on its lines of errors, and its exit code."""

    lines: tuple[str, ...]
    code: int


def put(name: str, content: str | bytes = "x") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def scan(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.int16)


PICTURE = np.random.default_rng(0).integers(0, 255, SHAPE[1:]).astype(np.uint8)


def mask(value: float = 1, kind: type[np.generic] = np.uint8) -> np.ndarray:
    array = np.zeros(SHAPE, kind)
    array[1:3, 4:12, 5:15] = value
    return array


def save(name: str, array: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 3.0)) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[: image.GetDimension()])
    sitk.WriteImage(image, str(path))
    return path


def pair(folder: str, label: np.ndarray, name: str = "anna.nii.gz", **more: tuple[float, ...]) -> None:
    save(f"{folder}/images/{name.replace('.jpg', '.png')}", scan() if label.ndim == 3 else PICTURE)
    save(f"{folder}/labels/{name}", label, **more)


def nan() -> np.ndarray:
    array = scan().astype(np.float32)
    array[0, 0, :3] = np.nan
    return array


def packed(name: str, *, pack: bool) -> None:
    content = save("sound.nii", scan()).read_bytes()
    put(name, gzip.compress(content) if pack else content)


def cut(name: str) -> None:
    path = save(name, scan())
    path.write_bytes(path.read_bytes()[:900])


def replaced(name: str, *words: tuple[str, str]) -> None:
    """A scan with other words in its header."""
    path = save(name, scan())
    content = path.read_bytes()
    for before, after in words:
        assert before.encode() in content
        content = content.replace(before.encode(), after.encode(), 1)
    path.write_bytes(content)


def detached(folder: str) -> None:
    """Voxels beside their header, of which one scan's are a link to another folder."""
    save(f"{folder}/anna.mhd", scan())
    away = Path(folder, "anna.raw").rename(put("elsewhere/anna.raw"))
    Path(folder, "anna.raw").symlink_to(Path("..", away))


def large(folder: str) -> None:
    """Some hundred bytes whose header tells of terabytes."""
    replaced(f"{folder}/anna.nrrd", ("sizes: 20 24 4", "sizes: 20000 24000 4000"))


def film(name: str) -> None:
    put(name)
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(scan(seed)) for seed in range(3)]), name)


def colours(name: str) -> None:
    put(name)
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([PICTURE, PICTURE, PICTURE[::-1]], -1), isVector=True), name)


def listed(folder: str, content: object, *names: str) -> None:
    put(f"{folder}/dataset.json", content if isinstance(content, str) else json.dumps(content))
    for name in names:
        save(f"{folder}/{name}", scan())


def unfinished(folder: str) -> None:
    shutil.copytree("fine", folder)
    Path(folder, "model.json").unlink()


def changed(folder: str, *, sealed: bool = False, **values: object) -> None:
    """A copy of the run with other values in its `run.json`."""
    shutil.copytree("fine", folder)
    write_json(Path(folder, "run.json"), {**read_json(Path(folder, "run.json")), **values}, seal=sealed)


def edited(folder: str) -> None:
    shutil.copytree("fine", folder)
    path = Path(folder, "run.json")
    path.write_text(path.read_text().replace('"ball"', '"bell"'))


LIST = {"background": 0, "liver": 1}
TWO = {"labels": LIST, "channel_names": {"0": "T1", "1": "T2"}}

MADE: dict[str, Callable[[], object]] = {
    "typo.toml": lambda: put("typo.toml", "sed = 3"),
    "hollow": lambda: Path("hollow").mkdir(),
    "zipped": lambda: put("zipped/scans.zip"),
    "surfer": lambda: put("surfer/anna.mgz"),
    "labelsTr": lambda: save("labelsTr/anna.nii.gz", mask()),
    "lonely": lambda: (save("lonely/images/anna.nii.gz", scan()), save("lonely/labels/ben.nii.gz", mask())),
    "twice": lambda: (save("twice/anna.nii.gz", scan()), save("twice/anna.nrrd", scan())),
    "capitals": lambda: (save("capitals/anna.nii.gz", scan()), save("capitals/Anna.nii.gz", scan())),
    "void": lambda: put("void/anna.nii.gz", ""),
    "packed": lambda: packed("packed/anna.nii", pack=True),
    "plain": lambda: packed("plain/anna.nii.gz", pack=False),
    "pointer": lambda: put("pointer/anna.nii.gz", POINTER),
    "page": lambda: put("page/anna.nii.gz", "<!DOCTYPE html>"),
    "cut": lambda: cut("cut/anna.nii.gz"),
    "text": lambda: put("text/anna.nrrd", "no scan"),
    "nan": lambda: save("nan/anna.nii.gz", nan()),
    "flat": lambda: save("flat/anna.nii.gz", scan() * 0),
    "film": lambda: film("film/anna.nii.gz"),
    "photos": lambda: colours("photos/anna.png"),
    "beside": lambda: replaced("beside/anna.nrrd", ("encoding: ", "data file: ../anna.raw\nencoding: ")),
    "rows": lambda: replaced("rows/anna.nrrd", ("type: ", "rows: 3\ntype: ")),
    "double": lambda: replaced("double/anna.mha", ("DimSize", "DimSize = 20 24 5\nDimSize")),
    "list": lambda: replaced("list/anna.mha", ("ElementDataFile = LOCAL", "ElementDataFile = LIST")),
    "above": lambda: replaced("above/anna.mhd", ("ElementDataFile = anna.raw", "ElementDataFile = ../anna.raw")),
    "unmoved": lambda: (save("unmoved/anna.mhd", scan()), Path("unmoved/anna.raw").unlink()),
    "detached": lambda: detached("detached"),
    "large": lambda: large("large"),
    "big": lambda: save("big/anna.nii.gz", np.zeros((10, 512, 512), np.int16)),
    "pipe": lambda: (Path("pipe").mkdir(), os.mkfifo("pipe/anna.nii.gz")),
    "other": lambda: pair("other", mask(7)),
    "shares": lambda: pair("shares", mask(0.5, np.float32)),
    "lossy": lambda: pair("lossy", mask()[1], "anna.jpg"),
    "crop": lambda: pair("crop", mask()[:, :20]),
    "moved": lambda: pair("moved", mask(), spacing=(1.0, 1.0, 5.0)),
    "bracket": lambda: listed("bracket", '{"labels": {"liver": 1}'),
    "regions": lambda: listed("regions", {"labels": {"whole": [1, 2]}}),
    "tiff": lambda: listed("tiff", {"labels": LIST, "file_ending": ".tif"}),
    "channel": lambda: listed("channel", TWO, "imagesTr/anna_0000.nii.gz"),
    "outside": lambda: listed("outside", {"labels": LIST, "training": ["../anna.nii.gz"]}),
    "key.toml": lambda: put("key.toml", "spacings = 1"),
    "bare.toml": lambda: put("bare.toml", "title = knees"),
    "none.toml": lambda: put("none.toml", "layout = 'files'\nimages = ['(?P<case>knee.*)']"),
    "group.toml": lambda: put("group.toml", "layout = 'files'\nimages = ['.*']"),
    "weights.pth": lambda: put("weights.pth", b"PK\x03\x04"),
    "begun": lambda: unfinished("begun"),
    "lent": lambda: changed("lent", backbone={"name": "theirs:Net", "in_channels": 1, "classes": 2, "width": 2}),
    "theirs.toml": lambda: put("theirs.toml", "backbone = 'theirs:Net'"),
    "edited": lambda: edited("edited"),
    "alone": lambda: changed("alone", sealed=True, store="old-disk/store"),
    "small": lambda: write_run(
        Path("small"), threshold_network(0.5), {**Store.open("store").preparation, "padded": [16, 16]}
    ),
    "notes.txt": lambda: put("notes.txt"),
    "old.hdr": lambda: put("old.hdr"),
    "notes": lambda: put("notes/notes.txt"),
}
"""What writes the files and folders that a command names, into the current folder."""

MISTAKES: dict[str, list[tuple[str, str]]] = {
    "Typing": [
        ("a command misspelt", "jcl pretran store --out new"),
        ("a flag misspelt", "jcl prepare scans --worker 2 --out new"),
        ("--out forgotten", "jcl prepare scans"),
        ("a word where a number is needed", "jcl pretrain store --steps many --out new"),
        ("a settings file that is not there", "jcl pretrain --config mine.toml"),
        ("a settings file with a key misspelt", "jcl pretrain --config typo.toml"),
    ],
    "The folder of scans": [
        ("its name misspelt", "jcl prepare scan --out new"),
        ("a file instead of it", "jcl prepare scans/images/p0.nii.gz --out new"),
        ("it is empty", "jcl prepare hollow --out new"),
        ("the archive was not unpacked", "jcl prepare zipped --out new"),
        ("a format that is not read", "jcl prepare surfer --out new"),
        ("the folder of labels instead of it", "jcl prepare labelsTr --out new"),
        ("a label without its image", "jcl prepare lonely --out new"),
        ("the same case in two formats", "jcl prepare twice --out new"),
        ("names that differ in capitals only", "jcl prepare capitals --out new"),
    ],
    "Files that are not what they seem": [
        ("an empty file", "jcl prepare void --out new"),
        ("a packed file without .gz", "jcl prepare packed --out new"),
        ("a plain file named .gz", "jcl prepare plain --out new"),
        ("a pointer of Git LFS", "jcl prepare pointer --out new"),
        ("a web page instead of a download", "jcl prepare page --out new"),
        ("a file cut short", "jcl prepare cut --out new"),
        ("text under the name of a scan", "jcl prepare text --out new"),
        ("a NRRD header whose voxels are in another file", "jcl prepare beside --out new"),
        ("a NRRD header with a field of another program", "jcl prepare rows --out new"),
        ("a MetaImage header that says a thing twice", "jcl prepare double --out new"),
        ("a MetaImage header with a list of files", "jcl prepare list --out new"),
        ("a MetaImage header whose voxels are in another folder", "jcl prepare above --out new"),
        ("its voxels were not copied with it", "jcl prepare unmoved --out new"),
        ("its voxels are a link to another folder", "jcl prepare detached --out new"),
        ("more voxels in the header than there are", "jcl prepare large --out new"),
        ("a scan that needs more memory than it may take", "JCL_MEMORY_GB=0.01 jcl prepare big --out new"),
        ("a word where the memory in GB is needed", "JCL_MEMORY_GB=much jcl prepare bare --out new"),
        ("a pipe instead of a file", "jcl prepare pipe --out new"),
        ("NaN in the voxels", "jcl prepare nan --out new"),
        ("the same value everywhere", "jcl prepare flat --out new"),
        ("a film instead of a volume", "jcl prepare film --out new"),
        ("colours where one channel is wanted", "jcl prepare photos --out new"),
        ("a grey picture where colours are wanted", "jcl prepare scans --channels 3 --out new"),
    ],
    "Labels": [
        ("names without values", "jcl prepare scans --labels liver --out new"),
        ("the background named", "jcl prepare scans --labels 0=background,1=liver --out new"),
        ("values that were not named", "jcl prepare other --labels 1=liver --out new"),
        ("shares instead of whole numbers", "jcl prepare shares --out new"),
        ("labels saved as JPEG", "jcl prepare lossy --out new"),
        ("labels of another size", "jcl prepare crop --out new"),
        ("labels in another place", "jcl prepare moved --out new"),
    ],
    "dataset.json": [
        ("a bracket forgotten", "jcl prepare bracket --out new"),
        ("none is there", "jcl prepare scans --dataset msd --out new"),
        ("regions of nnU-Net", "jcl prepare regions --out new"),
        ("files that are not read", "jcl prepare tiff --out new"),
        ("a channel is missing", "jcl prepare channel --out new"),
        ("it names files elsewhere", "jcl prepare outside --out new"),
    ],
    "Settings of a data set": [
        ("the name of a set misspelt", "jcl prepare scans --dataset acdcc --out new"),
        ("a specification that is not there", "jcl prepare scans --dataset mine.toml --out new"),
        ("a key of it misspelt", "jcl prepare scans --dataset key.toml --out new"),
        ("a text without quotes in it", "jcl prepare scans --dataset bare.toml --out new"),
        ("an expression that fits no file", "jcl prepare scans --dataset none.toml --out new"),
        ("an expression without its group", "jcl prepare scans --dataset group.toml --out new"),
        ("patients that are found in no name", "jcl prepare scans --patient '^(knee)' --out new"),
        ("slices larger than the size", "jcl prepare scans --size 16 --out new"),
        ("a spacing of 0", "jcl prepare scans --spacing 0 --out new"),
        ("other options for the same store", "jcl prepare scans --labels 1=ball --spacing 2 --out store"),
        ("--out is a folder of other things", "jcl prepare scans --out scans"),
    ],
    "Stores and runs": [
        ("scans instead of a store", "jcl pretrain scans --out new"),
        ("a store that is not there", "jcl pretrain stroe --out new"),
        ("scans verified", "jcl verify scans"),
        ("a method misspelt", "jcl pretrain store --method jlc --out new"),
        ("a setting of the method misspelt", "jcl pretrain store --method.temprature 0.2 --out new"),
        ("a network misspelt", "jcl pretrain store --backbone unett --out new"),
        ("a split that is not there", "jcl pretrain store --split my.json --out new"),
        ("a run folder that is there already", "jcl finetune store --init none --steps 2 --out fine"),
        ("the start of a fine-tuning misspelt", "jcl finetune store --init per --out new"),
        ("weights of PyTorch", "jcl finetune store --init weights.pth --out new"),
        ("a store without labels", "jcl finetune unlabelled --init none --out new"),
        ("a store instead of a run", "jcl evaluate store --out new.json"),
        ("a run that is not finished", "jcl evaluate begun --out new.json"),
        ("a run whose run.json was edited", "jcl evaluate edited --out new.json"),
        ("a run whose store was moved", "jcl evaluate alone --out new.json"),
        ("a run with a network of its own", "jcl predict lent scans --out new"),
        ("a settings file that names such a one", "jcl pretrain store --config theirs.toml --out new"),
        ("a folder for the results", "jcl evaluate fine --out scans"),
        ("a recipe misspelt", "jcl benchmark small_tabel1 --out new"),
        ("no time for a run", "jcl benchmark small_table1 --task-timeout 0 --out new"),
        ("no number of minutes", "jcl benchmark small_table1 --task-timeout nan --out new"),
        ("a time-out where there is none", "jcl benchmark small_table1 --task-timeout 9 --workers 0 --out new"),
        ("a report of what is no benchmark", "jcl report store --out new.html"),
    ],
    "Whom to label next": [
        ("all have labels", "jcl suggest store --run fine"),
        ("more patients than there are", "jcl suggest store --run fine --among all -n 9"),
        ("a store instead of a run", "jcl suggest store --run store"),
        ("a run of other slices", "jcl suggest unlabelled --run small -n 1"),
        ("a table of another program", "jcl suggest unlabelled --run fine -n 1 --out next.xlsx"),
        ("the wrong folder of scans", "jcl suggest unlabelled --run fine -n 1 --source notes"),
    ],
    "Predicting": [
        ("a scan that is not there", "jcl predict fine anna.nii.gz --out new"),
        ("a text", "jcl predict fine notes.txt --out new"),
        ("a header without its voxels", "jcl predict fine old.hdr --out new"),
        ("a folder without scans", "jcl predict fine notes --out new"),
        ("results over the scans", "jcl predict fine scans/images --out scans/images"),
        ("a server for all the world", "jcl serve fine --host 0.0.0.0"),
        ("a server of a run that is not there", "jcl serve fnie --port 0"),
        ("corrections kept where cases are listed", "jcl serve fine --keep bracket"),
        ("no place in the queue", "jcl serve fine --queue 0"),
        ("a store exported instead of a run", "jcl export store --to onnx --out new"),
    ],
}
"""By what they are about: what was done wrong, and the command that was given."""


@contextlib.contextmanager
def first_hour(folder: Path) -> Iterator[None]:
    """A folder with scans, stores and a run, as the current one."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        write_volumes(Path("scans"), patients=6, labelled=6, slices=2, size=24)
        write_volumes(Path("bare"), patients=2, labelled=0, slices=2, size=24)
        for command in (
            "prepare scans --labels 1=ball --workers 1 --out store",
            "prepare bare --workers 1 --out unlabelled",
        ):
            with contextlib.redirect_stderr(io.StringIO()):
                assert cli.main(command.split()) == 0
        store = Store.open("store")
        write_run(Path("fine"), threshold_network(0.5), dict(store.preparation), store="store", digest=store.digest)
        yield
    finally:
        os.chdir(before)


def answer(command: str) -> Answer:
    """Make a mistake in the current folder; what stands before `jcl` is set for it alone."""
    words = shlex.split(command)
    environment = dict(word.split("=", 1) for word in words[: words.index("jcl")])
    words = words[words.index("jcl") :]
    for word in words:
        MADE.get(word, Path)()
    said = io.StringIO()
    with mock.patch.dict(os.environ, environment), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = cli.main(words[1:])
    errors = [line for line in said.getvalue().splitlines() if line.startswith(ERROR)]
    return Answer(tuple(line.removeprefix(ERROR) for line in errors), code)


def answers(folder: Path) -> dict[str, list[tuple[str, str, Answer]]]:
    """All of them, one after the other: what was done wrong, the command, and what is said."""
    with first_hour(folder):
        return {title: [(what, line, answer(line)) for what, line in some] for title, some in MISTAKES.items()}


def page(found: dict[str, list[tuple[str, str, Answer]]]) -> str:
    """docs/errors.md."""
    lines = INTRODUCTION.format(count=sum(map(len, found.values()))).splitlines()
    for title, some in found.items():
        lines += ["", f"## {title}", "", "| mistake | command | what is said | exit code |", "|---|---|---|---|"]
        for what, command, said in some:
            lines.append(f"| {what} | {_code(command)} | {' '.join(map(_code, said.lines))} | {said.code} |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    """As code in a cell of a table, where no back quote can be; long lists of what there is are left out."""
    shown = re.sub(r"(?<=: )(\w+, ){5,}(?=(or|and) )", "…, ", text)
    shown = re.sub(r"(?<=: )(\w+, ){5,}\w+", "…", shown)
    return "`" + shown.replace("`", "'") + "`"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        text = page(answers(Path(name)))
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
