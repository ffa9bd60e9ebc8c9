"""The stores of a recipe: prepared once, then found again."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from jcl import config
from jcl.benchmark.folder import store_folder
from jcl.benchmark.plan import StoreInfo
from jcl.benchmark.recipe import Recipe, StoreSource
from jcl.data.population import check_labelled
from jcl.data.store import Store
from jcl.errors import UsageError
from jcl.files import read_json, real_path, write_json
from jcl.settings import load
from jcl.training.logger import log_rank0

__all__ = ["prepare_stores"]


def prepare_stores(recipe: Recipe, out: Path, data: Path | None, workers: int | None) -> dict[str, StoreInfo]:
    """Prepare what is not there yet; a store that is there needs no scans any more.

    Raises:
        UsageError: --data is missing or has no such folder, a store was prepared with other settings, or a table asks
            for more labelled patients than there are.
        DataError: scans that cannot be used, or a store that is damaged or that nothing can be learned from.
    """
    stores = {name: _one(source, out, data, workers) for name, source in recipe.stores.items()}
    for name in dict.fromkeys(table.finetune_on for table in recipe.tables):
        _check_patients(recipe, name, out / stores[name].path)
    return stores


def _check_patients(recipe: Recipe, name: str, path: Path) -> None:
    """Better to fail now than when pre-trainings are done."""
    with closing(Store.open(path)) as store:
        check_labelled(store)
        labelled = len({record.patient for record in store.cases if record.labelled})
    for table in recipe.tables:
        most = max((column.patients or 0 for column in table.columns if table.finetune_on == name), default=0)
        if most > labelled:
            raise UsageError(
                f"table {table.name} asks for {most} labelled patients, store {name} has {labelled}; take fewer, or "
                "label more"
            )


def _one(source: StoreSource, out: Path, data: Path | None, workers: int | None) -> StoreInfo:
    if source.store is not None:
        path = real_path((data or Path()) / source.store)
        return _open(source.name, path, str(path))
    path = store_folder(out, source.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    note = path.with_suffix(".json")
    with FileLock(path.with_suffix(".lock")):  # another benchmark on this folder may be preparing it
        if not note.is_file():
            _prepare(source, path, data, workers)
            write_json(note, dict(source.settings), seal=True)
        elif read_json(note) != dict(source.settings):
            raise UsageError(f"{path} was prepared with {read_json(note)}; take another --out, or remove it and {note}")
    return _open(source.name, path, str(path.relative_to(out)))


def _prepare(source: StoreSource, path: Path, data: Path | None, workers: int | None) -> None:
    from jcl.stages.prepare import prepare

    if data is None:
        raise UsageError(f"--data is needed: the folder that has {source.settings['source']} of store {source.name}")
    scans = data / source.settings["source"]
    if not scans.exists():
        raise UsageError(f"{scans} is not there; the recipe needs it below --data for store {source.name}")
    log_rank0(f"prepare {source.name} from {scans}")
    settings: Mapping[str, object] = {**source.settings, "source": scans, "out": path}
    prepare(load(config.PrepareConfig, None, {"workers": workers, **settings}))


def _open(name: str, path: Path, shown: str) -> StoreInfo:
    with closing(Store.open(path)) as store:
        return StoreInfo(name=name, path=shown, digest=store.digest, class_names=tuple(store.class_names))
