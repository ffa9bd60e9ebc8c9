"""Export: a run in the format of another program, whole or not at all."""

import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jcl.backbones import Backbone
from jcl.config import ExportConfig
from jcl.data.through_plane import through_of
from jcl.errors import UsageError
from jcl.export.card import scores_of
from jcl.export.contents import need
from jcl.export.hub import PACKAGES as HUB
from jcl.export.hub import push, write_hub
from jcl.export.monai import write_monai
from jcl.export.nnunet import write_nnunet
from jcl.export.onnx import PACKAGES as ONNX
from jcl.export.onnx import write_onnx
from jcl.export.weights import write_pretrained
from jcl.files import clear_left, write_error
from jcl.inference.segmenter import load_trained, read_trained
from jcl.locks import locked_file
from jcl.parallel.progress import at_work

FORMATS = ("onnx", "monai", "nnunet", "hub", "weights")


def export(config: ExportConfig) -> Path:
    """Write `config.run` to `config.out` in the format `config.to`; returns the path.

    Raises:
        UsageError: no such format, the path exists, a package is missing, a setting that the format has no use for.
        DataError: the run is not finished, damaged, or of a network that the format has no place for; the path cannot
            be written.
    """
    _check(config)
    with locked_file(config.out):
        return _export(config)


def _export(config: ExportConfig) -> Path:
    if config.out.exists():  # not before: what a killed process left beside it has gone by now
        raise UsageError(f"{config.out} exists; choose another --out")
    if config.to == "nnunet":
        weights, info = read_trained(config.run)
        with _new(config.out, folder=True) as path:
            write_nnunet(path, weights, info, what=str(config.run))
        return config.out
    if config.to == "weights":
        with _new(config.out, folder=True) as path:
            write_pretrained(path, config.run, config.push or config.out.name)
        return _pushed(config)
    network, info = load_trained(config.run, trust_code=config.trust_code)
    if config.to == "monai" and info["recipe"].get("grey"):
        raise UsageError(
            f"{config.run}: it sees pictures in colour as grey, which a MONAI bundle has no place for; "
            "export to onnx or hub, or train on pictures that are grey"
        )
    if config.to == "onnx" and through_of(info["recipe"]) is not None:
        raise UsageError(
            f"{config.run}: its volumes are resampled through their plane, which {config.to} has no place for; "
            "export to monai or hub, or train on a store without --spacing-through"
        )
    with _new(config.out, folder=config.to != "onnx") as path, at_work(f"export to {config.to}"):
        _write(config, path, network, info)
    return _pushed(config)


def _pushed(config: ExportConfig) -> Path:
    """Upload the folder where that is asked for."""
    if config.push:
        print(f"uploaded: {push(config.out, config.push)}", file=sys.stderr)
    return config.out


def _check(config: ExportConfig) -> None:
    """All that can be checked before anything is computed."""
    if config.to not in FORMATS:
        raise UsageError(f"--to {config.to}: there are {', '.join(FORMATS)}")
    if config.push and config.to not in ("hub", "weights"):
        raise UsageError(f"--push uploads what --to hub or weights writes; leave it out with --to {config.to}")
    if config.results and config.to not in ("monai", "hub"):
        raise UsageError(f"--results has no place in {config.to}; leave it out")
    if config.to == "onnx":
        need("an ONNX file", "onnx", ONNX)
    if config.push:
        need("--push", "hub", HUB)
    if config.results:
        scores_of(config.results)


def _write(config: ExportConfig, path: Path, network: Backbone, info: dict[str, Any]) -> None:
    match config.to:
        case "onnx":
            write_onnx(path, network, info)
        case "monai":
            write_monai(path, network, info, config.results)
        case _:
            write_hub(path, network, info, config.results, config.push or config.out.name)


@contextmanager
def _new(out: Path, *, folder: bool) -> Generator[Path]:
    """A path beside `out` to write to, which becomes `out` when all went well and is removed when not."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        clear_left(out.parent, out.name)
        if folder:
            temporary.mkdir()
    except OSError as error:
        raise write_error(out, error) from error
    try:
        yield temporary
        temporary.rename(out)
    except OSError as error:
        raise write_error(out, error) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
