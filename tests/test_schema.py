"""What a table may hold: nothing is turned into what it is not, and each message is one line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from jcl.errors import UsageError
from jcl.schema import build, check_table, read_toml


def even(value: Any, where: str) -> int:
    if value % 2:
        raise UsageError(f"{where}: {value} is odd")
    return value


@dataclass(frozen=True, kw_only=True)
class Whole:
    path: Path
    number: int = 0
    rate: float | None = 1.0
    flag: bool = False
    text: str = ""
    choice: Literal["a", "b"] = "a"
    chosen: str = field(default="x", metadata={"choices": ("x", "y")})
    paths: tuple[Path, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    names: Mapping[str, str] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)
    read: Annotated[int, even] = 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"rate": 1}, 1.0),
        ({"rate": None}, None),
        ({"path": Path("q")}, Path("q")),
        ({"paths": ["a", Path("b")]}, (Path("a"), Path("b"))),
        ({"pair": [1, 2.5]}, (1.0, 2.5)),
        ({"choice": "b"}, "b"),
        ({"chosen": "y"}, "y"),
        ({"names": {"a": "b"}}, {"a": "b"}),
        ({"anything": {"a": [1, {"b": None}]}}, {"a": [1, {"b": None}]}),
        ({"read": 4}, 4),
    ],
)
def test_what_is_taken(given: dict[str, Any], expected: object):
    (name,) = given
    value = getattr(build(Whole, {"path": "p", **given}), name)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"number": "64"}, "number: '64' is not an int"),
        ({"number": 1.0}, "number: 1.0 is not an int"),
        ({"number": True}, "number: True is not an int"),
        ({"number": None}, "number: None is not an int"),
        ({"rate": True}, "rate: True is not a number"),
        ({"rate": "1"}, "rate: '1' is not a number"),
        ({"flag": 0}, "flag: 0 is not a bool"),
        ({"flag": "true"}, "flag: 'true' is not a bool"),
        ({"text": 3}, "text: 3 is not a string"),
        ({"path": 3}, "path: 3 is not a path"),
        ({"choice": "c"}, "choice: 'c' is not one of a, b"),
        ({"chosen": ["x"]}, "chosen: ['x'] is not one of x, y"),
        ({"paths": "a"}, "paths: 'a' is not a list of paths"),
        ({"paths": ["a", 1]}, "paths[1]: 1 is not a path"),
        ({"pair": [1]}, "pair: [1] is not a list of 2 numbers"),
        ({"names": ["a"]}, "names: ['a'] is not a table"),
        ({"names": {"a": 1}}, "names.a: 1 is not a string"),
        ({"anything": 3}, "anything: 3 is not a table"),
        ({"read": 3}, "read: 3 is odd"),
        ({"nmber": 3}, "unknown key 'nmber'; did you mean number? (known: anything, choice, chosen, flag, names, "),
        ({"zzz": 3}, "unknown key 'zzz' (known: anything, "),
    ],
)
def test_what_is_refused(given: dict[str, Any], message: str):
    with pytest.raises(UsageError) as caught:
        build(Whole, {"path": "p", **given}, "mine.toml")
    assert str(caught.value).startswith(f"mine.toml: {message}")
    assert "\n" not in str(caught.value)


def test_a_long_value_is_cut():
    with pytest.raises(UsageError, match=r"^number: '(a\\n)+a?\\? is not an int$") as caught:
        build(Whole, {"path": "p", "number": "a\n" * 1000})
    assert len(str(caught.value)) < 120


def test_what_is_given_is_no_key():
    assert build(Whole, {}, path=Path("given")).path == Path("given")
    with pytest.raises(UsageError, match="unknown key 'path'"):
        build(Whole, {"path": "p"}, path=Path("given"))
    with pytest.raises(UsageError, match=r"^mine\.toml: missing: path$"):
        build(Whole, {}, "mine.toml")


def test_some_of_the_keys():
    assert check_table(Whole, {"rate": 1, "paths": []}) == {"rate": 1.0, "paths": ()}
    with pytest.raises(UsageError, match=r"unknown key 'rate' \(known: [^)]*\btext\)$"):
        check_table(Whole, {"rate": 1}, without=("rate",))


def test_a_folder_is_no_file(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_toml(tmp_path)
