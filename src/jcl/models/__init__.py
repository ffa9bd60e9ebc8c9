"""Pre-trained weights that come with the package, one folder each, and those of the hub, for `--init NAME`.

A folder is what `jcl export RUN --to weights` writes: a run folder without what belongs to a machine or a patient.

    model.safetensors   weights, in float16 or float32
    model.json          their digest, which is checked whenever they are read
    run.json            network, method, settings, versions and digests of the data, as of a run
    sheet.json          data sheet: data set, licence, how much was seen, by what it was trained
    README.md           the card: what people read
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from jcl.errors import DataError, UsageError
from jcl.files import read_json
from jcl.schema import did_you_mean
from jcl.training.run_folder import weights_digest

__all__ = ["CARD", "SHEET", "available", "card", "folder_of", "sheet"]

FOLDER = Path(__file__).parent
CARD, SHEET, WEIGHTS = "README.md", "sheet.json", "model.safetensors"
FILES = (WEIGHTS, "model.json", "run.json", SHEET, CARD)


def available() -> list[str]:
    """Names of the weights in the package, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{WEIGHTS}"))


def sheet(name: str) -> Mapping[str, Any]:
    """The data sheet of weights in the package, with their `bytes` and `sha256`.

    Raises:
        UsageError: there are none of this name.
        DataError: it is damaged.
    """
    folder = _in_package(name)
    content = cast("Mapping[str, Any]", read_json(folder / SHEET))
    return {**content, "bytes": (folder / WEIGHTS).stat().st_size, "sha256": weights_digest(folder)}


def card(name: str) -> str:
    """The card of weights in the package, in Markdown; errors as of `sheet`."""
    return (_in_package(name) / CARD).read_text(encoding="utf-8")


def folder_of(init: str) -> str:
    """What `--init` means: a run folder or file as it is, and else weights of the package, or of the hub.

    Those of the hub (`owner/name`) are taken from its cache on this machine; what is not there is downloaded.

    Raises:
        UsageError: the package huggingface_hub is missing.
        DataError: the hub cannot be reached, has no such model, or it holds no weights to start from.
    """
    if init == "none" or Path(init).exists() or init.endswith(".safetensors"):
        return init
    if init in available():
        return str(FOLDER / init)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", init) and not Path(init).parent.exists():
        return str(_from_hub(init))
    if "/" not in init and (near := did_you_mean(init, available())):
        raise UsageError(f"--init {init}: no such folder, and no weights of this name{near} (`jcl models` lists them)")
    return init


def _in_package(name: str) -> Path:
    if name not in available():
        there = f"there are: {', '.join(available())}" if available() else "none come with this package"
        raise UsageError(f"no weights {name!r}; {there}")
    return FOLDER / name


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UsageError(f"{name}: no such folder; to get it from the hub: pip install 'jcl-seg[hub]'") from error
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(FILES), local_files_only=True))
    except (OSError, ValueError):  # not in the cache
        try:
            folder = Path(snapshot_download(name, allow_patterns=list(FILES)))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{name}: no such folder, and it cannot be had from the hub ({reason})") from error
    if missing := [file for file in FILES[:3] if not (folder / file).is_file()]:
        raise DataError(f"{name}: this model of the hub has no {missing[0]}, so that nothing can start from it")
    return folder
