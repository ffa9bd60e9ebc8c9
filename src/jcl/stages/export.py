"""Export: a run in the format of another program, whole or not at all."""

import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from jcl.config import ExportConfig
from jcl.data.imagefile import write_error
from jcl.errors import UsageError
from jcl.exporters.card import scores_of
from jcl.exporters.contents import need
from jcl.exporters.hub import PACKAGES as HUB
from jcl.exporters.hub import push, write_hub
from jcl.exporters.monai import write_monai
from jcl.exporters.nnunet import write_nnunet
from jcl.exporters.onnx import PACKAGES as ONNX
from jcl.exporters.onnx import write_onnx
from jcl.loading import load_trained, read_trained

FORMATS = ("onnx", "monai", "nnunet", "hub")


def export(config: ExportConfig) -> Path:
    """Write `config.run` to `config.out` in the format `config.to`; returns the path.

    Raises:
        UsageError: no such format, the path exists, a package is missing, a setting that the format has no use for.
        DataError: the run is not finished, damaged, or of a network that the format has no place for; the path cannot
            be written.
    """
    _check(config)
    if config.to == "nnunet":
        weights, info = read_trained(config.run)
        with _new(config.out, folder=True) as path:
            write_nnunet(path, weights, info, what=str(config.run))
        return config.out
    network, info = load_trained(config.run)
    with _new(config.out, folder=config.to != "onnx") as path:
        _write(config, path, network, info)
    if config.push:
        print(f"uploaded: {push(config.out, config.push)}", file=sys.stderr)
    return config.out


def _check(config: ExportConfig) -> None:
    """All that can be told before anything is computed."""
    if config.to not in FORMATS:
        raise UsageError(f"--to {config.to}: there are {', '.join(FORMATS)}")
    if config.out.exists():
        raise UsageError(f"{config.out} exists; choose another --out")
    if config.push and config.to != "hub":
        raise UsageError(f"--push uploads what --to hub writes; leave it out with --to {config.to}")
    if config.results and config.to not in ("monai", "hub"):
        raise UsageError(f"--results has no place in {config.to}; leave it out")
    if config.to == "onnx":
        need("an ONNX file", "onnx", ONNX)
    if config.push:
        need("--push", "hub", HUB)
    if config.results:
        scores_of(config.results)


def _write(config: ExportConfig, path: Path, network: nn.Module, info: dict[str, Any]) -> None:
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
