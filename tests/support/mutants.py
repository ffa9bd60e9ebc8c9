"""Small faults put into the sources, one at a time, and whether the tests of the file notice.

`PYTHONPATH=src:tests python -m support.mutants` prints those that nothing noticed; docs/reliability.md has the figures.
The same seed makes the same faults while a file is unchanged. They are made in a copy: what is interrupted leaves
nothing behind in the sources.
"""

import argparse
import ast
import importlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = (
    "losses/contrastive.py",
    "losses/dense.py",
    "losses/similarity.py",
    "methods/pcl.py",
    "data/splits.py",
    "data/store.py",
    "metrics.py",
    "training/checkpoint.py",
    "backbones/_transfer.py",
)
"""Those on which results depend most, and whose tests are done within seconds."""

ELSEWHERE = {
    "losses/dense.py": ("losses/test_contrastive.py",),
    "data/splits.py": ("faults/test_special_files.py",),
    "data/store.py": ("faults/test_power_cut.py",),
    "training/session.py": ("stages/test_pretrain.py", "stages/test_finetune.py"),
    "training/run_folder.py": ("stages/test_pretrain.py", "stages/test_finetune.py", "faults/test_moved.py"),
}
"""Tests besides those of the file's own name."""

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is",
               "in": "not in", "not in": "in"}  # fmt: skip
OPERATORS = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "/", "%": "//", "@": "+"}
SIGNS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in", ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/",
    ast.FloorDiv: "//", ast.Mod: "%", ast.MatMult: "@", ast.And: "and", ast.Or: "or",
}  # fmt: skip


LIBRARIES = ("scipy.ndimage", "scipy.stats", "SimpleITK", "torch._dynamo", "tensorboard")
"""Imported once: that takes longer than most tests do."""


@dataclass(frozen=True)
class Mutant:
    """Bytes of a file that become others."""

    line: int
    start: int
    end: int
    before: str
    after: str


def mutants(source: bytes) -> list[Mutant]:
    """All faults that can be put into a file, in the order of its text."""
    offsets = [0, *itertools.accumulate(len(line) for line in source.splitlines(keepends=True))]

    def replaced(first: ast.AST, last: ast.AST, after: str) -> Mutant:
        start = offsets[first.lineno - 1] + first.col_offset
        end = offsets[last.end_lineno - 1] + last.end_col_offset
        return Mutant(first.lineno, start, end, source[start:end].decode(), after)

    def between(left: ast.AST, right: ast.AST, sign: str, other: str) -> Iterator[Mutant]:
        start = offsets[left.end_lineno - 1] + left.end_col_offset
        end = offsets[right.lineno - 1] + right.col_offset
        gap = source[start:end].decode()
        if gap.count(sign) == 1:  # no comment, and not the `*` of `**`
            yield Mutant(left.end_lineno, start, end, gap.strip(), gap.replace(sign, other))

    def of(node: ast.AST) -> Iterator[Mutant]:
        match node:
            case ast.Compare(left=left, ops=operators, comparators=others):
                for first, operator, second in zip([left, *others], operators, others, strict=False):
                    sign = SIGNS[type(operator)]
                    yield from between(first, second, sign, COMPARISONS[sign])
            case ast.BinOp(left=left, op=operator, right=right) if (sign := SIGNS.get(type(operator), "")) in OPERATORS:
                if not any(isinstance(side, ast.JoinedStr) for side in (left, right)):
                    yield from between(left, right, sign, OPERATORS[sign])
            case ast.BoolOp(op=operator, values=values):
                sign = SIGNS[type(operator)]
                for first, second in itertools.pairwise(values):
                    yield from between(first, second, sign, {"and": "or", "or": "and"}[sign])
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield replaced(node, node, f"({ast.unparse(operand)})")
            case ast.Constant(value=bool(value)):
                yield replaced(node, node, str(not value))
            case ast.Constant(value=int() | float() as value):
                yield replaced(node, node, repr(value + 1))
            case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
                yield replaced(value, value, "None")
            case ast.Expr(value=ast.Call() as call):
                yield replaced(call, call, "None")
            case ast.IfExp(body=body, orelse=other):
                yield replaced(node, node, f"({ast.unparse(body)})")
                yield replaced(node, node, f"({ast.unparse(other)})")
            case _:
                pass

    found = {mutant for node in _walk(ast.parse(source)) for mutant in of(node)}
    return sorted(found, key=lambda mutant: (mutant.start, mutant.end, mutant.after))


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those of annotations, messages and errors raised, of which tests ask little."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment", "decorator_list") or isinstance(node, ast.Raise):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield from _walk(child)


def chosen(name: str, source: bytes, number: int, seed: int) -> list[Mutant]:
    """Some of a file's, no two on one line as long as there are enough lines."""
    every = mutants(source)
    random.Random(f"{seed} {name}").shuffle(every)
    first = list({mutant.line: mutant for mutant in every}.values())
    return sorted((first + [m for m in every if m not in first])[:number], key=lambda mutant: mutant.start)


def tests_of(name: str) -> list[str]:
    """Paths of the tests of a source file, from the root."""
    path = Path(name)
    mirrored = path.with_name(f"test_{path.stem.removeprefix('_')}.py")
    found = [each for each in (str(mirrored), *ELSEWHERE.get(name, ())) if (ROOT / "tests" / each).is_file()]
    if not found:
        raise SystemExit(f"{name}: no tests known; add them to ELSEWHERE")
    return [f"tests/{each}" for each in found]


def passes(copy: Path, tests: list[str], seconds: float | None = None) -> bool:
    """Whether the tests pass in the copy; those that do not end have noticed too."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(copy, tests))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
    return process.exitcode == 0


def _run(copy: Path, tests: list[str]) -> None:
    """In a process that has the large libraries already, and of jcl nothing."""
    os.setsid()  # a group of its own, so that what the tests start is ended with it
    os.chdir(copy)
    silence = os.open(os.devnull, os.O_RDWR)
    for handle in range(3):
        os.dup2(silence, handle)
    sys.path[:] = [path for path in sys.path if not Path(path).is_relative_to(ROOT / "tests")]
    os.environ["PYTHONPATH"] = str(copy / "src")
    sys.modules.pop("support", None)
    sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]))


def survivors(copy: Path, name: str, number: int, seed: int) -> tuple[int, list[Mutant]]:
    """How many were tried in a file, and those that no test noticed."""
    tests, path = tests_of(name), copy / "src" / "jcl" / name
    source = path.read_bytes()
    begun = time.monotonic()
    if not passes(copy, tests):
        raise SystemExit(f"{', '.join(tests)}: fail without any fault")
    seconds = 30 + 3 * (time.monotonic() - begun)
    some, left = chosen(name, source, number, seed), list[Mutant]()
    for mutant in some:
        path.write_bytes(source[: mutant.start] + mutant.after.encode() + source[mutant.end :])
        if passes(copy, tests, seconds):
            left.append(mutant)
    path.write_bytes(source)
    return len(some), left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=FILES, help="below src/jcl; by default: %(default)s")
    parser.add_argument("--number", type=int, default=12, help="faults a file")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.dont_write_bytecode = True  # two faults of one length within a second would be taken for the same
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
    for library in LIBRARIES:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        print("| file | faults | noticed | not noticed: line, what it was, what it became |\n|---|---|---|---|")
        for name in given.files:
            tried, left = survivors(copy, name, given.number, given.seed)
            said = "; ".join(f"{m.line}: `{' '.join(m.before.split())}` → `{m.after.strip()}`" for m in left)
            print(f"| `{name}` | {tried} | {tried - len(left)} | {said} |", flush=True)


if __name__ == "__main__":
    main()
