"""What README and docs hold: fenced blocks, the commands in them, inline code, links and headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]
    if path.parent.parent != ROOT / "docs" / "results"  # reports that `jcl report` wrote
)


@dataclass(frozen=True)
class Block:
    """A fenced block. One without a language holds commands; one that begins with `# NAME.EXT` is that file."""

    document: str
    line: int
    language: str
    text: str

    @property
    def kind(self) -> str:
        if self.language in ("", "sh", "bash"):
            return "script" if self.text.startswith("#!") else "commands"
        return self.language

    @property
    def file(self) -> str | None:
        """The file that the block says it is."""
        named = re.match(r"# (\w+\.\w+)\n", self.text)
        return named and named[1]

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command line: its words, and the file that its output goes to."""

    place: str
    words: tuple[str, ...]
    output: str | None = None

    @property
    def is_jcl(self) -> bool:
        return self.words[0] == "jcl"


def blocks(document: str) -> list[Block]:
    fences = (token for token in _tokens(document) if token.type in ("fence", "code_block"))
    return [
        Block(document, token.map[0] + 1 if token.map else 0, token.info.strip(), token.content) for token in fences
    ]


def commands(block: Block) -> list[Command]:
    """The command lines of a block; in a script, those of jcl alone, without what starts them (`srun …`)."""
    joined = block.text.replace("\\\n", " ")
    found = [_command(block.place, line) for line in joined.splitlines()]
    if block.kind == "commands":
        return [command for command in found if command]
    return [Command(block.place, words) for command in found if command and (words := jcl_part(command.words))]


def jcl_part(words: tuple[str, ...]) -> tuple[str, ...]:
    """`jcl …` out of `srun … jcl …` or `torchrun … -m jcl …`; nothing where there is none."""
    return words[words.index("jcl") :] if "jcl" in words else ()


def inline_code(document: str) -> list[str]:
    return [child.content for child in _inline(document) if child.type == "code_inline"]


def links(document: str) -> list[str]:
    """Targets of links and pictures."""
    targets = (child.attrGet("href") or child.attrGet("src") for child in _inline(document))
    return [str(target) for target in targets if target]


def anchors(path: Path) -> set[str]:
    """Names that GitHub gives the headings of a document."""
    tokens = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
    titles = (after.content for token, after in pairwise(tokens) if token.type == "heading_open")
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _tokens(document: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse((ROOT / document).read_text(encoding="utf-8"))


def _inline(document: str) -> Iterator[Token]:
    for token in _tokens(document):
        yield from token.children or ()


def _command(place: str, line: str) -> Command | None:
    words = shlex.split(line, comments=True)
    if not words:
        return None
    if ">" in words:
        at = words.index(">")
        return Command(place, tuple(words[:at]), words[at + 1])
    return Command(place, tuple(words))
