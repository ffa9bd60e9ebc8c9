"""Recipes, read from files and checked: what their parts say of each other, and of what there is."""

import dataclasses
import re
from importlib.resources import files
from pathlib import Path

from jcl import schema
from jcl.benchmark import known
from jcl.benchmark.recipe import NONE, Method, Recipe, TablePlan
from jcl.data.splits import fold_count
from jcl.errors import UsageError, foreign_code

__all__ = ["built_in", "read_recipe"]


def built_in() -> dict[str, Path]:
    """Name -> file of the recipes that come with the package, table 10 after table 9."""
    folder = Path(str(files("jcl.benchmark"))) / "recipes"
    paths = sorted(folder.glob("*.toml"), key=lambda path: [part.zfill(3) for part in re.split(r"(\d+)", path.stem)])
    return {path.stem: path for path in paths}


def read_recipe(path_or_name: Path, *, trust_code: bool = False) -> Recipe:
    """A recipe from a file, or the built-in one of that name.

    Raises:
        UsageError: there is none, it is not TOML, it says something that is not known or does not fit together, or it
            names networks or methods that are not jcl's and `trust_code` is off.
    """
    path = path_or_name
    if not path.is_file():
        offered = built_in()
        if str(path_or_name) not in offered:
            near = schema.did_you_mean(str(path_or_name), offered)
            names = ", ".join(offered)
            raise UsageError(f"{path_or_name}: no recipe file, nor one of: {names} (`jcl recipes`){near}")
        path = offered[str(path_or_name)]
    table = schema.read_toml(path)
    try:
        recipe = schema.build(Recipe, table, text=path.read_text(encoding="utf-8"))
        folds = recipe.run_folds or tuple(range(fold_count(recipe.folds)))
        recipe = dataclasses.replace(recipe, notes=recipe.notes.strip(), run_folds=folds)
        if not trust_code:
            _refuse_code(recipe, path)
        _check(recipe)
    except UsageError as error:
        raise UsageError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    return recipe


def _refuse_code(recipe: Recipe, path: Path) -> None:
    """Before anything is imported."""
    for method in recipe.methods.values():
        if ":" in method.method:
            raise foreign_code(path, "method", method.method)
    given = (
        recipe.pretrain,
        recipe.finetune,
        *(part for m in recipe.methods.values() for part in (m.pretrain, m.finetune)),
    )
    names = (*(part.get("backbone") for part in given), *(method.backbone for method in recipe.methods.values()))
    for name in names:
        if name is not None and ":" in name:
            raise foreign_code(path, "network", name)


def _check(recipe: Recipe) -> None:
    """What the parts say of each other, and of what there is."""
    count = fold_count(recipe.folds)
    if count < 2:
        raise UsageError(f"folds is {count}; at least 2 are needed")
    if wrong := [fold for fold in recipe.run_folds if not 0 <= fold < count]:
        raise UsageError(f"run_folds has {wrong[0]}; with {count} folds they are 0 to {count - 1}")
    titles = [table.name for table in recipe.tables]
    if doubled := [name for name in titles if titles.count(name) > 1]:
        raise UsageError(f"two tables are called {doubled[0]}")
    for name, store in recipe.stores.items():
        known.check_dataset(f"stores.{name}", store.settings.get("dataset"))
    for part in ("pretrain", "finetune"):
        known.check_backbone(part, getattr(recipe, part).get("backbone"))
    for table in recipe.tables:
        _check_table(recipe, table)
    papers = [table.paper for table in recipe.tables if table.paper is not None]
    for name, method in recipe.methods.items():
        where = f"methods.{name}"
        known.check_method(where, method.method, method.method_settings, none=NONE)
        known.check_backbone(where, method.backbone)
        known.check_semi(where, {**recipe.finetune, **method.finetune})
        _check_context(recipe, method, where)
        _check_dimensions(recipe, method, where)
        if method.paper is not None:
            known.check_paper_row(where, method.paper, papers)


def _check_dimensions(recipe: Recipe, method: Method, where: str) -> None:
    """The network of a row is that of its pre-training, which all else has to suit; one of one's own is not known."""
    pretrain, finetune = {**recipe.pretrain, **method.pretrain}, {**recipe.finetune, **method.finetune}
    trained = pretrain if method.method != NONE else finetune
    backbone = str(method.backbone or trained.get("backbone") or "unet")
    if ":" not in backbone and ":" not in method.method:
        known.check_dimensions(where, method.method, backbone, pretrain, finetune, none=NONE)


def _check_context(recipe: Recipe, method: Method, where: str) -> None:
    """What was pre-trained with neighbours is fine-tuned with as many."""
    before, asked = (
        {**common, **own}.get("context")
        for common, own in ((recipe.pretrain, method.pretrain), (recipe.finetune, method.finetune))
    )
    if method.method != NONE and before and asked not in (None, before):
        raise UsageError(
            f"{where}: context is {before} in pretrain and {asked} in finetune; leave it out of finetune, which takes "
            "that of its pre-training"
        )


def _check_table(recipe: Recipe, table: TablePlan) -> None:
    where = f"table {table.name}"
    for name in table.methods:
        if name not in recipe.methods:
            raise UsageError(f"{where}: no [methods.{name}]; there are {', '.join(recipe.methods)}")
    for name in (*table.pretrain_on, table.finetune_on):
        if name not in recipe.stores:
            raise UsageError(f"{where}: no [stores.{name}]; there are {', '.join(recipe.stores)}")
    if recipe.unlabelled == "training":
        _check_folds(recipe, table, where)
    for column in table.columns:
        known.check_split(where, column.split)
    if unknown := [name for name in table.references if name not in table.methods]:
        raise UsageError(f"{where}: references has {unknown[0]!r}, which is not a method of it")
    if unknown := set(table.paper_columns) - {column.name for column in table.columns}:
        raise UsageError(f"{where}: paper_columns has {min(unknown)!r}, which is not a column of it")
    if table.paper is None and table.paper_columns:
        raise UsageError(f"{where}: paper_columns without paper, the name of the paper's table")
    if table.paper is not None:
        known.check_paper(where, table.paper, table.paper_columns.values())


def _check_folds(recipe: Recipe, table: TablePlan, where: str) -> None:
    """Where pre-trainings leave out the test patients, they have to be those of the fine-tunings."""
    if table.finetune_on in table.pretrain_on[1:]:
        raise UsageError(
            f"{where}: {table.finetune_on} has to be the first of pretrain_on: it is the first whose folds are left out"
        )
    for name in table.methods:
        method = recipe.methods[name]
        seeds = [
            {**common, **own}.get("split_seed", 0)
            for common, own in ((recipe.pretrain, method.pretrain), (recipe.finetune, method.finetune))
        ]
        if method.method != NONE and seeds[0] != seeds[1]:
            raise UsageError(f"{where}: {name} has split_seed {seeds[0]} in pretrain and {seeds[1]} in finetune")
