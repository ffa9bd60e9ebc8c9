"""The version of the code that a run depends on: a digest of every module it can reach, and of no other.

A change of one method makes only its own runs stale, and a change of a comment, a docstring or the layout none.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

__all__ = ["code_digest", "reached"]

LEFT_OUT = ("jcl.config", "jcl.settings", "jcl.schema", "jcl.parallel.progress", "jcl.parallel.machine")
"""What cannot change a result: a run is identified by all its settings, those of their defaults too."""


def code_digest(modules: Iterable[str]) -> str:
    """Digest of the modules and of all of this package that they import, directly or not (16 hexadecimal digits).

    With a module count the C files beside it, which it may compile, as they are.
    """
    return _digest(frozenset(modules))


@cache
def _digest(modules: frozenset[str]) -> str:
    found = sorted(reached(modules).items())
    parts = [f"{name}\n{_meaning(path)}" for name, path in found]
    folders = {path.parent for name, path in found if name.partition(".")[0] == "jcl"}
    sources = sorted(path for folder in folders for path in folder.glob("*.[ch]"))
    parts += [f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in sources]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def reached(modules: Iterable[str]) -> dict[str, Path]:
    """Name -> file of the modules, and of those of this package that they import, at any depth."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in found or path is None:
            continue
        found[name] = path
        if name.partition(".")[0] == "jcl":
            waiting += _imports(path)
    return found


@cache
def _file_of(name: str) -> Path | None:
    """The source of a module; None for what is not a module, as the function in `from jcl.x import function`."""
    if name in LEFT_OUT:
        return None
    first, *rest = name.split(".")
    if first == "jcl":  # by hand, since `find_spec` imports the packages that the module is in
        path = Path(__file__).parents[1].joinpath(*rest)
        choices = (path / "__init__.py", path.with_suffix(".py")) if rest else (path / "__init__.py",)
        return next((choice for choice in choices if choice.is_file()), None)
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@cache
def _imports(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=aliases):
                names |= {parent for alias in aliases for parent in _with_parents(alias.name)}
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                names |= {parent for alias in aliases for parent in _with_parents(f"{module}.{alias.name}")}
            case _:
                pass
    return frozenset(name for name in names if name.partition(".")[0] == "jcl")


def _with_parents(name: str) -> Iterator[str]:
    """`a.b.c` imports `a` and `a.b` too."""
    parts = name.split(".")
    return (".".join(parts[: n + 1]) for n in range(len(parts)))


@cache
def _meaning(path: Path) -> str:
    """The source without comments, docstrings and layout."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(line: ast.stmt) -> bool:
    """A docstring, or one under an attribute."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
