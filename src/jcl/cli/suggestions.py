"""What `jcl suggest` found, on the terminal."""

import json

from rich.markup import escape
from rich.table import Table

from jcl.cli.tables import print_table
from jcl.inference.suggestions import SuggestedCase, Suggestion, Suggestions
from jcl.text import printable

__all__ = ["conclude"]

NEXT = (
    "To label only these slices, leave the others empty and give `jcl prepare --sparse`; else label the whole scans.",
    "Slices are numbered from 0, along an axis of the file.",
    "Slices are numbered from 0 as the store has them, which may turn a scan; --source FOLDER has those of its files.",
)


def conclude(found: Suggestions, *, as_json: bool) -> None:
    """Print whom to label and why."""
    if as_json:
        print(json.dumps(found.as_mapping(), indent=1))
        return
    doubtful = any(each.doubt is not None for each in found.suggestions)
    table = Table(title=f"To label next: {len(found.suggestions)} of {found.candidates} patients", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("patient")
    for head in (*(("doubt",) if doubtful else ()), "stands for", "typicality", "distance"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("scan")
    table.add_column("slices")
    for each in found.suggestions:
        for number, case in enumerate(each.cases):
            why = _why(each, doubtful=doubtful) if number == 0 else [""] * (5 + doubtful)
            table.add_row(*why, escape(printable(case.case)), _slices(case))
    print_table(table)
    print(_counts(found))
    numbered = any(one.origin for each in found.suggestions for case in each.cases for one in case.chosen)
    print(NEXT[1 if numbered else 2])
    print(NEXT[0])


def _why(each: Suggestion, *, doubtful: bool) -> list[str]:
    doubt = [f"{each.doubt or 0:.2f}"] if doubtful else []
    distance = "–" if each.distance is None else f"{each.distance:.2f}"
    return [
        str(each.rank),
        escape(printable(each.patient)),
        *doubt,
        f"{each.covers}",
        f"{each.typicality:.2f}",
        distance,
    ]


def _slices(case: SuggestedCase) -> str:
    """Their numbers, from 0, rising as the file has them, and how many there are."""
    origins = [one.origin for one in case.chosen if one.origin is not None]
    if not origins:
        return f"{', '.join(str(one.slice) for one in case.chosen)} of {case.slices}"
    first, last = min(origins, key=lambda o: o.index), max(origins, key=lambda o: o.index)
    numbers = ", ".join(str(origin.index) for origin in sorted(origins, key=lambda o: o.index))
    return f"{first.axis} {numbers} of {case.slices} ({_place(first.centre)} to {_place(last.centre)} mm)"


def _place(centre: tuple[float, float, float]) -> str:
    return "/".join(f"{value:.0f}" for value in centre)


def _counts(found: Suggestions) -> str:
    """Whom the choice was among, and how many were left out of it."""
    parts = {
        "held back by the run's split": found.held_back,
        "trained on": found.trained,
        "with labels": found.labelled,
    }
    left = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
    return f"{found.candidates} candidates" + (f"; not among them: {left}" if left else "")
