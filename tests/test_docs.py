"""README and docs: every block runs, is parsed or is listed, and every name, path and link leads somewhere."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import jcl
from jcl import config
from jcl.benchmark.reading import read_recipe
from jcl.cli import main as cli
from jcl.cli.options import Parser, add_options
from jcl.data.datasets import load_spec
from jcl.data.store import Store
from jcl.settings import load
from support.documents import (
    DOCUMENTS,
    ROOT,
    Block,
    Command,
    anchors,
    blocks,
    commands,
    inline_code,
    jcl_part,
    links,
)
from support.walkthrough import NOT_RUN, SMALLER, prepare_folder, run_document, why_not_run

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
COMMANDS = [command for block in BLOCKS if block.kind in ("commands", "script") for command in commands(block)]
WITH_BLOCKS = sorted({block.document for block in BLOCKS if block.kind in ("commands", "python")})
SHOWN = {  # blocks that show what is printed or how files lie, by their beginning
    "docs/architecture.md": ["src/jcl/", "volumes"],
    "docs/backbones.md": ["from pre: "],
    "docs/benchmark.md": ["recipe.toml, plan.json"],
    "docs/data.md": ["scans/images/"],
    "docs/export.md": ["jcl prepare Task04_Hippocampus"],
    "docs/machine.md": ["jcl               0", "pre-train: expected"],
    "docs/decisions/0013-one-schema.md": ["mine.toml: unknown"],
    "docs/first_hour.md": [
        *("$ jcl prepare scans-1", "$ jcl pretrain store-1", "$ jcl prepare truth"),
        *("$ jcl prepare scans-2", "$ jcl prepare scans-5"),
    ],
    "docs/ten_minutes.md": ["$ jcl prepare Task04_Hippocampus"],
    "docs/performance.md": ["jcl prepare DATA"],
    "docs/serve.md": ["jcl prepare corrected", "curl -H"],
    "docs/verify.md": ["store: 7 cases"],
}
OTHERS = {
    "--node-rank": "torchrun",
    "--disable-usage-stats": "ray start",
    "--ipc": "docker run",
    "--user": "docker run",
}  # flags of other programs in the prose
CURRENT = [document for document in DOCUMENTS if not document.startswith("docs/decisions/")]
"""All but the records of decisions, whose names of files, modules and flags are those of their time."""
LOOP = "docs/annotation-loop.md"
MISTAKES = "docs/errors.md"
"""Its commands are wrong on purpose; tests/test_mistakes.py makes them."""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Scans, store and runs, made once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "docs"
    with FileLock(f"{folder}.lock"):
        done = folder / "done"
        if not done.exists():
            prepare_folder(folder)
            done.touch()
    return folder


def flags(command: str) -> set[str]:
    parser = Parser(add_help=False)
    add_options(parser, cli.COMMANDS[command].config)
    return {flag for action in parser._actions for flag in action.option_strings}


def settings_of(package: Any) -> set[str]:
    builders = map(package.load, package.available())
    return {setting.name for build in builders for setting in package.settings(build)}


LONG_BLOCKS = ("docs/export.md", "docs/backbones.md")


@pytest.mark.slow
@pytest.mark.parametrize(
    "document",
    [pytest.param(each, marks=[pytest.mark.long] if each in LONG_BLOCKS else []) for each in WITH_BLOCKS],
)
def test_blocks_run_in_order(document: str, prepared: Path, tmp_path: Path):
    run_document(blocks(document), tmp_path, prepared)
    if document == LOOP:
        check_loop(tmp_path)


def check_loop(folder: Path) -> None:
    """The two who were asked for are others than the three, and have labels now; all are segmented."""
    first, second = (
        {record.case for record in Store.open(folder / name).cases if record.labelled}
        for name in ("round-1", "round-2")
    )
    asked = json.loads((folder / "next.json").read_text(encoding="utf-8"))["suggestions"]
    assert len(first) == 3
    assert second - first == {case["case"] for each in asked for case in each["cases"]}
    assert len(second) == 5
    assert len([*(folder / "segmentations").glob("*.nii.gz")]) == 12


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_no_block_is_passed_over(block: Block):
    if block.kind == "text":
        assert any(block.text.startswith(start) for start in SHOWN.get(block.document, [])), "not listed in SHOWN"
    elif block.kind == "commands":
        for command in commands(block):
            assert command.is_jcl or why_not_run(command), f"{command.words}: not run, and NOT_RUN has no reason"
    else:
        assert block.kind in ("python", "toml", "script")


def test_lists_of_exceptions_are_needed():
    shown = [block for block in BLOCKS if block.kind == "text"]
    assert sum(map(len, SHOWN.values())) == len(shown)
    assert {why_not_run(command) for command in COMMANDS} >= set(NOT_RUN.values())
    assert set(SMALLER) <= {command.words[1] for command in COMMANDS if command.is_jcl}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.place}-{'-'.join(command.words[:4])}")
def test_command_lines_are_those_of_the_program(command: Command, capsys: pytest.CaptureFixture[str]):
    match command.words:
        case ["jcl", name, *rest] if name in cli.COMMANDS:
            filled = [re.sub(r"\$\w+", "4", word) for word in rest]
            assert cli.main([name, *filled, "--print-config"]) == 0, capsys.readouterr().err
        case ["jcl", name, thing] if name in cli.CATALOGUES and re.search(r"[:.]", thing):
            pass  # of a file that the document makes: it is run there
        case ["jcl", *rest]:
            assert cli.main(rest) == 0, capsys.readouterr().err
        case ["torchrun", *rest]:
            assert cli.main([*jcl_part(tuple(rest))[1:], "--print-config"]) == 0, capsys.readouterr().err
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
        case ["pip", "install", *words]:
            assert_extras_exist(" ".join(words))
        case ["docker", "run", *words]:
            image = next(at for at, word in enumerate(words) if word in ("jcl", "jcl-cuda"))
            assert cli.main([*words[image + 1 :], "--print-config"]) == 0, capsys.readouterr().err
        case ["docker", "build", *_]:
            assert (ROOT / "Dockerfile").is_file()
        case ["python", "-m", *_] | ["cd" | "export" | "srun" | "ray" | "nnUNetv2_train", *_]:
            pass  # other programs
        case ["python", file, *_] | [file]:
            assert (ROOT / file).is_file()
        case _:
            pytest.fail(f"{command.words}: what can be checked of it?")


def assert_extras_exist(text: str) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extras in re.findall(r"\[([\w,-]+)\]", text):
        assert set(extras.split(",")) <= set(known), text


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "script"], ids=lambda block: block.place)
def test_scripts_are_valid_shell(block: Block):
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "toml"], ids=lambda block: block.place)
def test_toml_is_read_by_jcl(block: Block, tmp_path: Path):
    path = tmp_path / "block.toml"
    path.write_text(block.text, encoding="utf-8")
    if "tables" in tomllib.loads(block.text):
        read_recipe(path)
    elif "layout" in tomllib.loads(block.text):
        load_spec(path)
    else:
        load(config.PretrainConfig, path, {})


@pytest.mark.parametrize("document", [each for each in CURRENT if each != MISTAKES])
def test_commands_and_flags_in_the_prose_exist(document: str):
    of_benchmarks = set(re.findall(r'"(--[\w-]+)"', "".join(p.read_text() for p in ROOT.glob("benchmarks/*.py"))))
    known = set().union(*map(flags, cli.COMMANDS), of_benchmarks, OTHERS)
    for code in inline_code(document):
        words = re.split(r"\s+", code)
        given = {word.split("=")[0] for word in words if word.startswith("--") and "." not in word.split("=")[0]}
        if words[0] == "jcl" and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in {*cli.COMMANDS, *cli.CATALOGUES} or words[1].isupper(), code
            assert given <= (flags(words[1]) if words[1] in cli.COMMANDS else {"--help"}), code
        elif code.startswith("--"):
            assert given <= known, code
        if code.startswith("pip install"):
            assert_extras_exist(code)


@pytest.mark.parametrize(("prefix", "package"), [("method", jcl.methods), ("semi", jcl.semi)])
def test_settings_of_methods_and_techniques_exist(prefix: str, package: Any):
    known = settings_of(package)
    for document in DOCUMENTS:
        if document == "docs/errors.md":  # what is mistaken there is tried by test_mistakes.py
            continue
        text = (ROOT / document).read_text(encoding="utf-8")
        for name in re.findall(rf"--{prefix}\.([a-z_-]+)", text):
            assert name.replace("-", "_") in known, f"{document}: --{prefix}.{name}"


@pytest.mark.parametrize("document", CURRENT)
def test_names_and_paths_in_the_prose_exist(document: str):
    for code in inline_code(document):
        if name := re.match(r"jcl(\.[A-Za-z_]\w*)+", code):
            assert resolves(name[0]), f"{document}: {code}"
        for word in code.split():
            word = word.split("::")[0]
            if re.match(r"(src|tests|docs|benchmarks)/", word) or re.search(r"(^|/)(test|bench)_\w+\.py$", word):
                assert is_path(word), f"{document}: {word}"


def resolves(name: str) -> bool:
    found: object = jcl
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    return found is not None


def is_path(word: str) -> bool:
    """Whether it is there, from the root, `tests` or `benchmarks`, up to the first part in capitals (`NAME.py`)."""
    path = Path(re.split(r"[A-Z]{4,}", word)[0].rpartition("/")[0] if re.search("[A-Z]{4,}", word) else word)
    return any((base / path).exists() for base in (ROOT, ROOT / "tests", ROOT / "benchmarks"))


def test_architecture_lists_every_package():
    tree = next(block.text for block in blocks("docs/architecture.md") if block.text.startswith("src/jcl/"))
    listed = set(re.findall(r"^  (\w+)(?:/|\.py) ", tree, re.M))
    there = {path.stem for path in (ROOT / "src" / "jcl").iterdir() if path.suffix in ("", ".py")}
    assert listed == {name for name in there if not name.startswith("_")}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str):
    for link in links(document):
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
