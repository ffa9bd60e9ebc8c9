"""Whether what a recipe names is there, before hours of training show it."""

from collections.abc import Iterable, Mapping
from typing import Any

from jcl.benchmark.paper import paper_columns, paper_rows, paper_tables
from jcl.data.datasets import spec_names
from jcl.data.splits import official_splits
from jcl.errors import UsageError
from jcl.schema import did_you_mean

__all__ = [
    "check_backbone",
    "check_dataset",
    "check_dimensions",
    "check_method",
    "check_paper",
    "check_paper_row",
    "check_semi",
    "check_split",
]


def check_method(where: str, name: str, settings: Mapping[str, Any], *, none: str) -> None:
    """Check the name of a method, and those of its settings; one of the user's own is imported for it."""
    from jcl import methods  # not above: a worker sets its threads before PyTorch is imported

    if name == none:
        if settings:
            raise UsageError(f"{where}: method {none} trains nothing, so it has no method_settings")
        return
    if ":" not in name and name not in methods.available():
        offered = (none, *methods.available())
        near = did_you_mean(name, offered)
        own = "and package.module:Class of your own"
        raise UsageError(f"{where}: no method {name!r}; there are: {', '.join(offered)}, {own}{near}")
    taken = [setting.name for setting in methods.settings(methods.load(name))]
    if unknown := set(settings) - set(taken):
        near = did_you_mean(min(unknown), taken)
        raise UsageError(f"{where}: {name} has no setting {min(unknown)!r}; it has: {', '.join(taken)}{near}")


def check_semi(where: str, finetune: Mapping[str, Any]) -> None:
    """Check the name of a semi-supervised technique, and its settings."""
    from jcl import semi  # see above
    from jcl.training.recipes import AUTO, NO_TECHNIQUE

    given, name = finetune.get("semi_settings", {}), finetune.get("semi")
    if name in (None, AUTO, NO_TECHNIQUE):
        if given:
            raise UsageError(f"{where}: semi_settings without semi, the technique that they are of")
        return
    try:
        semi.check(name, given)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def check_backbone(where: str, name: str | None) -> None:
    """Check the name of a network; one of the user's own is imported when it is built."""
    from jcl import backbones  # see above

    if name is not None and ":" not in name and name not in backbones.available():
        known = ", ".join(backbones.available())
        raise UsageError(f"{where}: no backbone {name!r}; there are: {known}, and package.module:factory of your own")


def check_dimensions(
    where: str, method: str, backbone: str, pretrain: Mapping[str, Any], finetune: Mapping[str, Any], *, none: str
) -> None:
    """Check that method, network and settings of a row are all for slices, or all for blocks.

    Args:
        where: the row, for messages.
        method: of its pre-training, `none` without one.
        backbone: its network.
        pretrain: settings of its pre-training, with those that all rows share.
        finetune: settings of its fine-tunings, likewise.
        none: the name of no method.
    """
    from jcl import backbones, methods, semi  # see above
    from jcl.data.block_plan import check_block
    from jcl.training.blocks import block_taken
    from jcl.training.recipes import AUTO, NO_TECHNIQUE

    try:
        asked = finetune.get("block") or pretrain.get("block")
        block = block_taken(backbone, check_block(asked) if asked else None)
        sides = backbones.dimensions(backbone)
        if block is not None and (pretrain.get("context") or finetune.get("context")):
            raise UsageError("context is not offered in three dimensions yet; leave it out")
        if method != none:
            methods.check_dimensions(method, sides)
        if (technique := finetune.get("semi")) not in (None, AUTO, NO_TECHNIQUE):
            semi.check(technique, finetune.get("semi_settings", {}), sides)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def check_dataset(where: str, name: str | None) -> None:
    """Check the name of a data set; a file of the user's own is read when it is prepared."""
    if name is not None and not name.endswith(".toml") and name not in spec_names():
        raise UsageError(f"{where}: no data set {name!r} (`jcl datasets`), nor a .toml file")


def check_split(where: str, name: str | None) -> None:
    """Check the name of a fixed split; a file of the user's own is read when it is used."""
    if name is not None and not name.endswith(".json") and name not in official_splits():
        raise UsageError(f"{where}: no split {name!r} (`jcl splits`), nor a .json file")


def check_paper(where: str, table: str, columns: Iterable[str]) -> None:
    """Check the name of a table of the paper, and those of columns in it."""
    if table not in paper_tables():
        raise UsageError(f"{where}: the paper has no table {table!r}; there are: {', '.join(paper_tables())}")
    if unknown := [column for column in columns if column not in paper_columns(table)]:
        known = ", ".join(paper_columns(table))
        raise UsageError(f"{where}: {table} of the paper has no column {unknown[0]!r}; it has: {known}")


def check_paper_row(where: str, row: str | Mapping[str, str], tables: Iterable[str]) -> None:
    """Check that one of these tables of the paper has a row."""
    name = row if isinstance(row, str) else row["row"]
    known = [each for table in tables for each in paper_rows(table)]
    if name not in known:
        raise UsageError(
            f"{where}: the paper has no row {name!r}; there are: {', '.join(dict.fromkeys(known)) or 'none'}"
        )
