"""Settings of each stage: frozen dataclasses, read from TOML and overridden from the command line.

A field's `help` is what `jcl COMMAND --help` prints. A field without a default has to be given.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jcl.errors import UsageError

Config = TypeVar("Config")

RAY = "work on a Ray cluster: HOST:PORT, `auto` for the one that this machine is part of, or `local` to start one here"


def option(help: str, default: Any = dataclasses.MISSING, **metadata: Any) -> Any:
    """A dataclass field with its help text; `metadata` is for the command line (see `cli`)."""
    if isinstance(default, dict):
        return field(default_factory=dict, metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


def positional(help: str, **metadata: Any) -> Any:
    """A dataclass field that is given by its place on the command line."""
    return field(metadata={"help": help, "positional": True, **metadata})


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Turn a folder of scans into a verified store of slices."""

    source: Path = positional("folder of scans: DICOM, NIfTI, NRRD, MetaImage or pictures, or one with a dataset.json")
    out: Path = option("the store to write")
    dataset: str = option("data set (`jcl datasets`), or a .toml file; `auto` looks at the folder", "auto")
    spacing: float | None = option("in-plane spacing to resample to, in mm (else the data set's, or as it is)", None)
    size: int | None = option(
        "slices are padded to this many pixels a side (else the data set's, or the largest)", None
    )
    fit: bool = option("scale each slice so that its longer side is --size (pictures without a spacing)", False)
    channels: int | None = option("values a voxel: 3 for colour (else the data set's, or 1)", None)
    labels: str | None = option(
        "names of the label values of a plain folder, as 1=liver,2=spleen (else as found)",
        None,
        metavar="VALUE=NAME,…",
    )
    patient: str | None = option("expression whose first group in a case's name is its patient", None, metavar="REGEX")
    workers: int | None = option("processes (else one a core); with --ray, cases at a time (else as it has room)", None)
    ray: str | None = option(RAY, None, metavar="ADDRESS")
    strict: bool = option("stop at the first bad case instead of setting it aside", False)


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Check a store or a run, and show what a store holds."""

    path: Path = positional("prepared store, or run folder")
    out: Path | None = option("folder for cases.csv, findings.json and the contact sheet (else none is written)", None)
    source: Path | None = option("folder of scans that the store was made of, to compare with", None)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Pre-train encoder and decoder on unlabelled slices."""

    stores: tuple[Path, ...] = positional("prepared stores; each batch comes from one of them")
    out: Path = option("the run folder to write")
    method: str = option("pre-training method (`jcl methods` lists them with their settings)", "jcl")
    method_settings: dict[str, Any] = option(
        "a setting of the method, as --method.temperature 0.2", {}, prefix="method"
    )
    backbone: str = option("network, or one of your own as package.module:factory", "unet")
    width: int | None = option("channels of the network's first level (else those of its paper)", None)
    epochs: int | None = option("passes over the slices (else 100, and at least 6000 steps)", None)
    steps: int | None = option("optimisation steps, instead of epochs", None)
    batch_size: int = option("slices in a batch of each process", 16)
    accumulate: int = option("batches whose gradients make one step; each has its own contrasts", 1)
    learning_rate: float | None = option("peak learning rate (else the method's own)", None)
    warmup: float = option("share of the steps in which the rate rises to its peak", 0.1)
    weight_decay: float = option("weight decay", 1e-5)
    recompute: bool = option("keep fewer activations and compute them again: less memory, more time", False)
    fold: int | None = option("leave out the test patients of this fold (0 to folds-1)", None)
    folds: int = option("number of folds by patient", 5)
    split: Path | None = option(
        "split file, or a fixed split (`jcl splits`); only its training patients are used", None
    )
    split_seed: int = option("seed of the folds; keep it, so that runs can be compared", 0)
    seed: int = option("seed of weights, batches and views", 0)
    precision: str = option("auto, float32 or bfloat16", "auto", choices=("auto", "float32", "bfloat16"))
    kernels: str = option("convolutions of our own on a CPU, in float32", "auto", choices=("auto", "on", "off"))
    compile: str = option("let PyTorch compile the network", "auto", choices=("auto", "on", "off"))
    deterministic: bool = option("the same bits on every run of this machine, slower on a GPU", False)
    devices: str = option("auto (one), cpu, a number of GPUs, or cpu:2 for two processes", "auto")
    timeout_minutes: float = option("minutes after which a silent process counts as dead", 10.0)
    workers: int = option("loader threads, which read ahead", 1)
    checkpoint_minutes: float = option("minutes between checkpoints", 5.0)
    resume: bool = option("go on where an interrupted run stopped", False)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Train a segmentation network on few labelled patients."""

    store: Path = positional("prepared store with labels")
    init: str = option(
        "run folder of a pre-training, a .safetensors file of weights, or `none` to start from random ones"
    )
    adapt: str = option(
        "how the first layer takes another number of channels: the mean of its own for each, or its own in turn",
        "mean",
        choices=("mean", "repeat"),
    )
    out: Path = option("the run folder to write")
    patients: int | None = option("number of labelled patients to train on (else all of the fold)", None)
    fold: int = option("fold whose patients are the test cases", 0)
    folds: int = option("number of folds by patient", 5)
    split: Path | None = option(
        "split file, or a fixed split of the JCL authors (`jcl splits`), instead of folds", None
    )
    split_seed: int = option("seed of the folds and of the few patients drawn from them", 0)
    backbone: str | None = option(
        "network, or one of your own as package.module:factory (else that of the initial run, or unet)", None
    )
    width: int | None = option("channels of the first level (else of the initial run, or of the paper)", None)
    epochs: int | None = option("passes over the labelled slices (else 100, and at least 1000 steps)", None)
    steps: int | None = option("optimisation steps, instead of epochs", None)
    batch_size: int = option("slices in a batch", 5)
    learning_rate: float = option("first learning rate of Adam; it falls to a hundredth of it", 5e-4)
    rotation: float = option("augmentation: degrees to either side", 30.0)
    scale: float = option("augmentation: 0.3 is a factor from 0.7 to 1.3", 0.3)
    translation: float = option("augmentation: shift as a share of the side", 0.1)
    label_noise: float = option("share of the training outlines that are made wrong, to see what it does", 0.0)
    seed: int = option("seed of new weights, batches and augmentation", 0)
    precision: str = option("auto, float32 or bfloat16", "auto", choices=("auto", "float32", "bfloat16"))
    kernels: str = option("convolutions of our own on a CPU, in float32", "auto", choices=("auto", "on", "off"))
    compile: str = option("let PyTorch compile the network", "auto", choices=("auto", "on", "off"))
    deterministic: bool = option("the same bits on every run of this machine, slower on a GPU", False)
    devices: str = option("auto (one), cpu, a number of GPUs, or cpu:2 for two processes", "auto")
    timeout_minutes: float = option("minutes after which a silent process counts as dead", 10.0)
    workers: int = option("loader threads, which read ahead", 1)
    checkpoint_minutes: float = option("minutes between checkpoints", 5.0)
    resume: bool = option("go on where an interrupted run stopped", False)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Score a fine-tuned run on its test patients."""

    run: Path = positional("run folder of a fine-tuning")
    store: Path | None = option("store to score on (else the one of the run)", None)
    unit: str = option("score whole volumes, or each slice by itself", "case", choices=("case", "slice"))
    out: Path = option("JSON file to write, RESULTS.json say")
    batch_size: int = option("slices at a time", 16)
    precision: str = option("auto, float32 or bfloat16", "auto", choices=("auto", "float32", "bfloat16"))
    devices: str = option("auto, cpu, or 1 for one GPU", "auto")


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Segment new scans; each result has its source's geometry and format (NIfTI for DICOM)."""

    run: Path = positional("run folder of a fine-tuning, or a folder that export made for the hub")
    source: Path = positional("a scan, or a folder of scans; DICOM too")
    out: Path = option("folder to write the segmentations to")
    dicom_seg: bool = option("write a DICOM-SEG object beside the NIfTI file of each DICOM series", False)
    batch_size: int = option("slices at a time", 16)
    precision: str = option("auto, float32 or bfloat16", "auto", choices=("auto", "float32", "bfloat16"))
    devices: str = option("auto, cpu, or 1 for one GPU", "auto")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a run in the format of another program, with its preparation and its labels."""

    run: Path = positional("run folder of a fine-tuning; for nnunet also of a pre-training")
    to: str = option("format", choices=("onnx", "monai", "nnunet", "hub"))
    out: Path = option("file (onnx) or folder (all others) to write")
    results: Path | None = option("RESULTS.json of `jcl evaluate`, for the scores in the model card (monai, hub)", None)
    push: str | None = option("also upload the folder to this model of the Hugging Face Hub", None, metavar="REPO")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Run the tables of a recipe: methods, data, labelled patients and folds."""

    recipe: Path = positional("a recipe of your own (.toml), or one that `jcl recipes` lists")
    out: Path = option("folder for stores, runs and scores; the same one goes on where it stopped")
    data: Path | None = option("folder that holds the folders of scans which the recipe names", None)
    workers: int | None = option("runs at a time, each in a process (else as cores and GPUs allow; 0: here)", None)
    ray: str | None = option(RAY, None, metavar="ADDRESS")
    threads: int = option("threads of each run", 1)
    retries: int = option("times that a failed run is tried again", 1)
    dry_run: bool = option("prepare the data, say what would be run, and stop", False)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Tables, statistics and figures of a benchmark, as a web page that needs no network."""

    folder: Path = positional("folder of a benchmark, finished or not")
    out: Path = option("page to write, REPORT.html say; tables as .md, .csv and .tex go beside it")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The whole path on generated cardiac volumes: a few minutes on two cores."""

    out: Path = option("folder for the volumes, the runs and the report", Path("jcl-demo"))
    seed: int = option("seed of volumes and trainings", 0)


def load(kind: type[Config], path: Path | None, overrides: Mapping[str, Any]) -> Config:
    """Settings from a TOML file (if any), overridden by `overrides`, checked and converted.

    Raises:
        UsageError: the file is missing or no TOML, a key is unknown or missing, or a value does
            not have its field's type.
    """
    values = {**(_read_toml(path) if path else {}), **overrides}
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    where = f" in {path}" if path else ""
    for name in values:
        if name not in fields:
            raise UsageError(f"unknown setting {name!r}{where}; known: {', '.join(sorted(fields))}")
    missing = [name for name, f in fields.items() if name not in values and _required(f)]
    if missing:
        raise UsageError(f"missing: {', '.join(missing)}")
    return kind(**{name: _convert(value, hints[name], name) for name, value in values.items()})


def as_mapping(config: Any) -> dict[str, Any]:
    """The settings as plain values that JSON and TOML can hold."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def as_toml(config: Any) -> str:
    """The settings as a TOML file that `load` reads back; a setting that is None is commented out."""
    lines: list[str] = []
    tables: list[str] = []
    for name, value in as_mapping(config).items():
        if isinstance(value, dict):
            entries = typing.cast("dict[str, Any]", value)
            tables += [f"[{name}]", *(f"{key} = {_toml(entry)}" for key, entry in entries.items())]
        else:
            lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
    return "\n".join(lines + tables) + "\n"


def defaults(kind: type[Any]) -> dict[str, Any]:
    """The settings of a stage that need not be given, as plain values."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(kind):
        if not _required(f):
            found[f.name] = _plain(f.default if f.default is not dataclasses.MISSING else {})
    return found


def _required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error})") from error


def _convert(value: Any, hint: Any, name: str) -> Any:
    """`value` as the type `hint`: text becomes a path, an int a float; else the type has to be right."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        return _convert(value, next(a for a in arguments if a is not type(None)), name)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{name}: a list is needed, not {value!r}")
        return tuple(_convert(item, arguments[0], name) for item in typing.cast("list[Any]", value))
    if origin is dict and isinstance(value, dict):
        return dict(typing.cast("dict[str, Any]", value))
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is not int or not isinstance(value, bool)):
        return value
    raise UsageError(f"{name}: {value!r} is no {getattr(hint, '__name__', hint)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in typing.cast("tuple[Any, ...]", value)]
    return value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in typing.cast("list[Any]", value)) + "]"
    return repr(value)
