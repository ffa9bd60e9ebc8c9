"""The command line: parsing and messages only. Nothing here imports PyTorch before a command runs."""

import argparse
import difflib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jcl import __version__
from jcl.cli.commands import CATALOGUES, COMMANDS, Command, overview
from jcl.cli.options import Parser, add_options, collect, split_prefixed, usage
from jcl.errors import DataError, JclError, UsageError
from jcl.files import is_full
from jcl.settings import as_toml, load
from jcl.signals import asked_to_end
from jcl.text import printable

__all__ = ["main"]

REPORT = "This is a fault of jcl, not of yours: please report it with the lines above and the command you gave."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 done, 2 wrong use, 3 bad data, 130 interrupted, 1 a fault of the program."""
    if arguments is None:
        _speak_utf8()
    warnings.showwarning = _show_warning
    _suit_the_system()
    try:
        return _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except JclError as error:
        _say("error", str(error), colour=31)
        return error.exit_code
    except KeyboardInterrupt:
        _say("error", "interrupted", colour=31)
        return 130
    except Exception as error:
        if asked_to_end():  # a library made something else of it
            _say("error", "interrupted", colour=31)
            return 130
        if isinstance(error, OSError) and error.errno is not None:
            _say("error", _of_the_system(error), colour=31)
            return DataError.exit_code
        import traceback

        traceback.print_exc()
        _say("error", REPORT, colour=31)
        return 1


def _of_the_system(error: OSError) -> str:
    """What a disk, its permissions or memory refused where no stage foresaw it."""
    place = f"{error.filename}: " if error.filename else ""
    mend = "see that it can be used, or choose another --out"
    if is_full(error):
        mend = "free some space there, or for --out and temporary files, and run the same command again"
    return f"{place}{error.strerror or error}; {mend}"


def _speak_utf8() -> None:
    """Begin again in Python's UTF-8 mode where it takes names of files for something else: readers want UTF-8."""
    if sys.getfilesystemencoding().lower() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        environment = {**os.environ, "PYTHONUTF8": "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _suit_the_system() -> None:
    """Before PyTorch is imported, and before the first line: what other systems lack is no error."""
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # a Mac's processor does what its GPU cannot
    if isinstance(sys.stdout, io.TextIOWrapper):  # Windows gives a file or a pipe letters of one language alone
        sys.stdout.reconfigure(errors="backslashreplace")


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case []:
            print(overview(), file=sys.stderr)
            return UsageError.exit_code
        case ["-h" | "--help" | "help"]:
            print(overview())
        case ["--version"]:
            print(f"jcl {__version__}")
        case ["help", command]:
            return _dispatch([command, "--help"])
        case ["--print-completion", *shell]:
            _print_completion(shell)
        case [name, *rest] if name in COMMANDS:
            return _run(name, rest)
        case [name, *rest] if name in CATALOGUES:
            return _show_catalogue(name, rest)
        case _:
            name = arguments[0]
            near = difflib.get_close_matches(name, [*COMMANDS, *CATALOGUES], n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join([*COMMANDS, *CATALOGUES])}"
            raise UsageError(f"no command {name!r}; {hint}")
    return 0


def _run(name: str, arguments: list[str]) -> int:
    command = COMMANDS[name]
    arguments, prefixed = split_prefixed(arguments, command.config)
    try:
        parsed = _fill(Parser(prog=f"jcl {name}", add_help=False), command).parse_intermixed_args(arguments)
    except SystemExit as leaving:  # --help
        return int(leaving.code or 0)
    try:
        settings = load(command.config, parsed.config, {**collect(parsed, command.config), **prefixed})
    except UsageError as error:
        if not str(error).startswith("missing: "):
            raise
        raise UsageError(f"{error} (usage: {usage(f'jcl {name}', command.config)})") from error
    if parsed.print_config:
        print(as_toml(settings), end="")
        return 0
    _conclude(name, settings, command.run(settings))
    return 0


def _conclude(name: str, settings: Any, result: Any) -> None:
    """What is printed when a command is done, beyond what its stage printed on the way."""
    if name == "evaluate":
        from jcl.cli.tables import print_scores

        print_scores(settings.out)
    elif name == "predict":
        print(printable(f"{len(result)} segmented: {settings.out}"))
    elif name in ("export", "import"):
        print(printable(f"written: {result}"))
    elif name == "doctor":
        from jcl.cli.health import conclude

        conclude(result, as_json=settings.json)
    elif name == "suggest":
        from jcl.cli.suggestions import conclude

        conclude(result, as_json=settings.json)
    elif name == "verify":
        from jcl.cli.verification import conclude

        conclude(result, settings.out)


def _fill(parser: argparse.ArgumentParser, command: Command) -> argparse.ArgumentParser:
    parser.usage = usage(parser.prog, command.config)
    parser.description = command.summary
    parser.epilog = "\n  ".join(["examples:" if len(command.examples) > 1 else "example:", *command.examples])
    add_options(parser, command.config)
    return parser


def _show_catalogue(name: str, arguments: list[str]) -> int:
    from jcl.cli import listing

    show: Callable[[str | None], None] = getattr(listing, f"show_{name}")
    parser = Parser(prog=f"jcl {name}", description=CATALOGUES[name])
    if name != "backbones":
        parser.add_argument("name", nargs="?", help=f"one of the {name}, to see more of it", metavar="NAME")
    try:
        show(getattr(parser.parse_args(arguments), "name", None))
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def _print_completion(shell: Sequence[str]) -> None:
    """Code for the shell's tab completion, which the optional package shtab writes."""
    try:
        import shtab
    except ImportError as error:
        raise UsageError("tab completion needs the package shtab: pip install 'jcl-seg[completion]'") from error
    if len(shell) != 1 or shell[0] not in shtab.SUPPORTED_SHELLS:
        raise UsageError(f"--print-completion takes one of: {', '.join(shtab.SUPPORTED_SHELLS)}")
    parser = Parser(prog="jcl")
    commands = parser.add_subparsers()
    for name, command in COMMANDS.items():
        filled = _fill(commands.add_parser(name, help=command.summary, add_help=False), command)
        for action in (action for action in filled._actions if action.type is Path):
            vars(action)["complete"] = shtab.FILE  # shtab's own attribute, which argparse does not know
    for name, summary in CATALOGUES.items():
        commands.add_parser(name, help=summary)
    print(shtab.complete(parser, shell[0]))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """One line for what users should know; the place in the code only for the rest."""
    where = "" if issubclass(category, UserWarning) else f" ({category.__name__}, {Path(filename).name}:{lineno})"
    _say("warning", f"{message}{where}", colour=33)


def _say(kind: str, text: str, *, colour: int) -> None:
    """One line on stderr, in colour on a terminal."""
    stream = sys.stderr
    start, end = (f"\x1b[{colour}m", "\x1b[0m") if stream.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"{start}jcl: {kind}:{end} {printable(text)}", file=stream, flush=True)
