"""The stores of a recipe: prepared once, then found again."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from jcl import config
from jcl.benchmark.folder import store_folder
from jcl.benchmark.plan import StoreInfo
from jcl.benchmark.recipe import Recipe, StoreSource
from jcl.checkpoint import read_json, write_json
from jcl.data.store import Store
from jcl.errors import UsageError
from jcl.runlog import tell

__all__ = ["prepare_stores"]


def prepare_stores(recipe: Recipe, out: Path, data: Path | None, workers: int | None) -> dict[str, StoreInfo]:
    """Prepare what is not there yet; a store that is there needs no scans any more.

    Raises:
        UsageError: --data is missing or has no such folder, or a store was prepared with other settings.
        DataError: scans that cannot be used, or a store that is damaged.
    """
    return {name: _one(source, out, data, workers) for name, source in recipe.stores.items()}


def _one(source: StoreSource, out: Path, data: Path | None, workers: int | None) -> StoreInfo:
    if source.store is not None:
        path = ((data or Path()) / source.store).resolve()
        return _open(source.name, path, str(path))
    path = store_folder(out, source.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    note = path.with_suffix(".json")
    with FileLock(path.with_suffix(".lock")):  # another benchmark on this folder may be preparing it
        if not note.is_file():
            _prepare(source, path, data, workers)
            write_json(note, dict(source.settings))
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
    tell(f"prepare {source.name} from {scans}")
    settings: Mapping[str, object] = {**source.settings, "source": scans, "out": path}
    prepare(config.load(config.PrepareConfig, None, {"workers": workers, **settings}))


def _open(name: str, path: Path, shown: str) -> StoreInfo:
    with closing(Store.open(path)) as store:
        return StoreInfo(name=name, path=shown, digest=store.digest, class_names=tuple(store.class_names))
