"""What there is to choose from: methods, techniques and their settings, backbones, data sets, splits, recipes."""

import inspect
import re
import tomllib
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from jcl import backbones, methods, models, semi
from jcl.benchmark.reading import built_in
from jcl.data.datasets import DatasetSpec, load_spec, spec_names
from jcl.data.splits import official_splits, read_official_split
from jcl.errors import UsageError

__all__ = ["show_backbones", "show_datasets", "show_methods", "show_models", "show_recipes", "show_splits"]


ANY_FOLDER = {
    "auto": "any folder: looks for itself",
    "folder": "any folder of images and labels",
    "msd": "any folder with a dataset.json",
}
"""What the specs are that name no data set."""


def show_methods(name: str | None) -> None:
    """Print all methods of pre-training and all semi-supervised techniques of fine-tuning, or the settings of one.

    Raises:
        UsageError: there is neither of this name.
    """
    if name is None:
        _print(("method", "what it is"), [(each, _summary(methods.load(each))) for each in methods.available()])
        print("\nTo fine-tune with slices without labels as well (`jcl finetune --semi NAME`):")
        _print(("technique", "what it is"), [(each, _summary(semi.load(each))) for each in semi.available()])
        print("\n`jcl methods NAME` shows the settings of one.")
        return
    if name in semi.available():
        chosen, prefix, settings = semi.load(name), "--semi.", semi.settings(semi.load(name))
    else:
        chosen, prefix, settings = methods.load(name), "--method.", methods.settings(methods.load(name))
    print(f"{_summary(chosen)}\n")
    rows = [(prefix + setting.replace("_", "-"), _shown(default), text) for setting, default, text in settings]
    _print(("setting", "default", "meaning"), rows)


def show_models(name: str | None = None) -> None:
    """Print all weights that come with the package, or the card of one.

    Raises:
        UsageError: there are none of this name.
        DataError: a data sheet or digest is damaged.
    """
    if name is not None:
        print(models.card(name), end="")
        return
    if not models.available():
        print(
            "No pre-trained weights come with this package. `jcl export RUN --to weights` makes some of a "
            "pre-training, and `--init` takes a folder of them, or a model of the hub (owner/name)."
        )
        return
    sheets = {each: models.sheet(each) for each in models.available()}
    rows = [
        (
            *(each, ", ".join(part["title"] or part["dataset"] for part in sheet["data"]), sheet["licence"]),
            *(f"{sheet['bytes'] / 1e6:.1f} MB", f"{sheet['method']}, {sheet['steps']} steps, {sheet['trained_by']}"),
            sheet["sha256"][:12],
        )
        for each, sheet in sheets.items()
    ]
    _print(("weights", "data set", "licence", "size", "trained by", "digest"), rows)
    print("Start from them with `jcl finetune store --init NAME`; `jcl models NAME` prints the card of one.")


def show_backbones(name: str | None = None) -> None:
    """Print all segmentation networks."""
    _print(("backbone", "what it is"), [(each, _summary(backbones.load(each))) for each in backbones.available()])


def show_datasets(name: str | None = None) -> None:
    """Print all data sets, or what is known of one.

    Raises:
        UsageError: there is no such data set.
    """
    if name is None:
        specs = [load_spec(each) for each in spec_names()]
        rows = [(spec.name, spec.title or ANY_FOLDER[spec.name], spec.modality, spec.licence) for spec in specs]
        _print(("data set", "what it is", "modality", "licence"), rows)
        print("`jcl datasets NAME` says where to get it and how it is prepared; a .toml file of your own adds one.")
        return
    spec = load_spec(name)
    size = "as the largest slice" if spec.size is None else f"{spec.size} pixels"
    rows = {
        "title": spec.title or ANY_FOLDER.get(spec.name, ""),
        "modality": spec.modality,
        "licence": spec.licence,
        "get it from": spec.source_url,
        "images": " + ".join(spec.images) or spec.layout,
        "labels": spec.label or "",
        "structures": ", ".join(f"{value} {label}" for value, label in spec.labels.items()) or "as found",
        "in-plane spacing": "as it is" if spec.spacing is None else f"{spec.spacing:g} mm",
        "size": f"{size}, each slice scaled to it" if spec.fit else size,
        "channels": str(spec.channels),
        "intensities": f"clipped to {_range(spec)}, then {spec.normalisation}",
    }
    _print(("data set", spec.name), [(key, value) for key, value in rows.items() if value])


def _range(spec: DatasetSpec) -> str:
    low, high = spec.window or spec.clip
    return f"{'percentiles ' if spec.window is None else ''}{low:g} and {high:g}"


def show_splits(name: str | None = None) -> None:
    """Print all fixed splits, or the patients of one.

    Raises:
        UsageError: there is no such split.
    """
    if name is None:
        splits = {each: read_official_split(each) for each in official_splits()}
        rows = [(each, str(len(split.train)), str(len(split.test))) for each, split in splits.items()]
        _print(("split", "labelled patients", "test patients"), rows)
        print("Take one with --split NAME; `jcl splits NAME` shows its patients.")
        return
    if name not in official_splits():
        raise UsageError(f"no split {name!r}; there are: {', '.join(official_splits())}")
    split = read_official_split(name)
    _print(("part", "patients"), [("train", ", ".join(split.train)), ("test", ", ".join(split.test))])


def show_recipes(name: str | None = None) -> None:
    """Print all recipes with the trainings they ask for, or the text of one.

    Raises:
        UsageError: there is no such recipe.
    """
    recipes = {each: path.read_text(encoding="utf-8") for each, path in built_in().items()}
    if name is None:
        rows = [(each, *_heading(text)) for each, text in recipes.items()]
        _print(("recipe", "pre-trainings", "fine-tunings", "what it is"), rows)
        print("`jcl recipes NAME` prints one; `jcl recipes NAME > mine.toml` begins one of your own.")
        return
    if name not in recipes:
        raise UsageError(f"no recipe {name!r}; there are: {', '.join(recipes)}")
    print(recipes[name], end="")


def _heading(text: str) -> tuple[str, str, str]:
    """How many trainings a recipe's heading says it needs, and its title."""
    cost = re.search(r"^# Cost: (\d+) pre-trainings and (\d+) fine-tunings", text, re.MULTILINE)
    before, after = (cost[1], cost[2]) if cost else ("?", "?")
    return before, after, str(tomllib.loads(text)["title"])


def _summary(thing: Any) -> str:
    """The first line of the module's docstring, which quotes the paper, or else of its own."""
    documentation = inspect.getdoc(inspect.getmodule(thing)) or thing.__doc__ or ""
    return documentation.partition("\n")[0]


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(*head, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=False, highlight=False, markup=False).print(table)
