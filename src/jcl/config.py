"""Settings of each stage, as frozen dataclasses; `jcl.settings` reads them from TOML.

A field's `help` is what `jcl COMMAND --help` prints. A field without a default has to be given.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jcl.errors import UsageError

Fold = int | Literal["none"]
"""Number of a fold, from 0; or none, where nobody is left out to be tested."""

Folds = int | Literal["authors"]
"""How many folds there are; or authors, the five of the JCL authors' program (`jcl.data.authors_folds`)."""

RAY = "work on a Ray cluster: HOST:PORT, `auto` for the one that this machine is part of, or `local` to start one here"


SERIES = "of a folder's DICOM series, take those in whose description this is found, whatever its capitals (else all)"


TRUST = "build also a network or method of one's own (package.module:Class) that a file names: this imports the module"


def option(help: str, default: Any = dataclasses.MISSING, **metadata: Any) -> Any:
    """A dataclass field with its help text; `metadata` is for the command line (see `cli`)."""
    if isinstance(default, dict):
        return field(default_factory=dict, metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


def positional(help: str, default: Any = dataclasses.MISSING, **metadata: Any) -> Any:
    """A dataclass field that is given by its place on the command line."""
    return field(default=default, metadata={"help": help, "positional": True, **metadata})


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Turn a folder of scans into a verified store of slices."""

    source: Path = positional("folder of scans: DICOM, NIfTI, NRRD, MetaImage or pictures, or one with a dataset.json")
    out: Path = option("the store to write")
    dataset: str = option("data set (`jcl datasets`), or a .toml file; `auto` looks at the folder", "auto")
    spacing: float | None = option("in-plane spacing to resample to, in mm (else the data set's, or as it is)", None)
    spacing_through: float | None = option(
        "through-plane spacing to resample to, in mm, for networks of three dimensions (else as it is)",
        None,
        metavar="MM",
    )
    size: int | None = option(
        "slices are padded to this many pixels a side (else the data set's, or the largest)", None
    )
    fit: bool = option("scale each slice so that its longer side is --size (pictures without a spacing)", False)
    grey: bool = option("pictures in colour as their brightness, one value per pixel", False)
    channels: int | None = option("values per voxel: 3 for colour (else the data set's, or 1)", None)
    window: tuple[float, float] | None = option(
        "clip intensities to these two values, as -160 240 of a CT's soft tissue (else to percentiles of each scan)",
        None,
        metavar=("LOW", "HIGH"),
    )
    labels: str | None = option(
        "names of the label values of a plain folder, as 1=liver,2=spleen (else as found)",
        None,
        metavar="VALUE=NAME,…",
    )
    ignore: int | None = option(
        "label value of voxels that nobody has decided on: left out of loss and scores (else nnU-Net's `ignore` label)",
        None,
        metavar="VALUE",
    )
    sparse: bool = option("slices of a labelled volume without any structure are not labelled: they are ignored", False)
    patient: str | None = option("expression whose first group in a case's name is its patient", None, metavar="REGEX")
    series: str | None = option(SERIES, None, metavar="REGEX")
    workers: int | None = option("processes (else one per core); with --ray, cases at a time (else as fit)", None)
    ray: str | None = option(RAY, None, metavar="ADDRESS")
    strict: bool = option("stop at the first bad case instead of skipping it", False)


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Check a store, a run or a model, and show what a store holds."""

    path: Path = positional("prepared store, run folder, or folder that export made for the hub")
    out: Path | None = option("folder for cases.csv, findings.json and the contact sheet (else none is written)", None)
    source: Path | None = option("folder of scans that the store was made of, to compare with", None)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The settings that pre-training and fine-tuning share; those without a text have one of their own in each."""

    out: Path = option("the run folder to write")
    epochs: int | None
    steps: int | None = option("optimisation steps, instead of epochs", None)
    batch_size: int
    folds: Folds = option(
        "number of folds by patient, or authors: the five of the JCL authors' program, and its draws of few patients",
        5,
        metavar="N|authors",
    )
    seed: int
    precision: str = option("auto, float32 or bfloat16", "auto", choices=("auto", "float32", "bfloat16"))
    kernels: str = option("convolutions of our own on a CPU", "auto", choices=("auto", "on", "off"))
    compile: str = option("let PyTorch compile the network", "auto", choices=("auto", "on", "off"))
    deterministic: bool = option("the same bits on every run of this machine, slower on a GPU", False)
    devices: str = option("auto (one), cpu, mps, a number of GPUs, or cpu:2 for two processes", "auto")
    timeout_minutes: float = option("minutes after which a silent process counts as dead", 10.0)
    workers: int = option("loader threads, which read ahead", 1)
    checkpoint_minutes: float = option("minutes between checkpoints", 5.0)
    tracker: tuple[str, ...] = option(
        "report also to mlflow or wandb, at the address and in the project that their own variables name; several: "
        "with commas, or given again",
        (),
        metavar="NAME",
        repeat=True,
    )
    watch_every: int = option(
        "steps between pictures of what is learned: predictions, or how similar slices are (0: none)", 0
    )
    watch: tuple[str, ...] = option("patients of these pictures (else some that are trained on)", (), metavar="PATIENT")
    resume: bool = option("go on where an interrupted run stopped", False)
    trust_code: bool = option(TRUST, False)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainingConfig):
    """Pre-train encoder and decoder on unlabelled slices."""

    stores: tuple[Path, ...] = positional("prepared stores; each batch comes from one of them")
    method: str = option("pre-training method (`jcl methods` lists them with their settings)", "jcl")
    method_settings: dict[str, Any] = option(
        "a setting of the method, as --method.temperature 0.2", {}, prefix="method"
    )
    backbone: str = option("network, or one of your own as package.module:factory", "unet")
    width: int | None = option("channels of the network's first level (else those of its paper)", None)
    context: int = option("neighbouring slices on each side that a slice is seen with, as channels (2.5-D)", 0)
    block: tuple[int, int, int] | None = option(
        "slices, rows and columns that a network of three dimensions sees at a time, as 16 32 32", None, metavar="N"
    )
    epochs: int | None = option("passes over the slices (else 100, and at least 6000 steps)", None)
    batch_size: int = option("slices in a batch of each process", 16)
    accumulate: int = option("batches whose gradients make one step; each has its own contrasts", 1)
    learning_rate: float | None = option("peak learning rate (else the method's own)", None)
    warmup: float = option("share of the steps in which the rate rises to its peak", 0.1)
    weight_decay: float = option("weight decay", 1e-5)
    recompute: bool = option("keep fewer activations and compute them again: less memory, more time", False)
    fold: Fold | None = option(
        "leave out the test patients of this fold (0 to folds-1): those of `jcl finetune` (else none)",
        None,
        metavar="K|none",
    )
    split: Path | None = option(
        "split file, or a fixed split (`jcl splits`); only its training patients are used", None
    )
    split_seed: int = option("seed of the folds; keep it, so that runs can be compared", 0)
    seed: int = option("seed of weights, batches and views", 0)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """Train a segmentation network on few labelled patients."""

    store: Path = positional("prepared store with labels")
    init: str = option(
        "run folder of a pre-training, a .safetensors file of weights, weights that `jcl models` lists, a model of "
        "the hub (owner/name), or `none` to start from random ones"
    )
    adapt: str = option(
        "how the first layer takes another number of channels: the mean of its own for each, or its own in turn",
        "mean",
        choices=("mean", "repeat"),
    )
    patients: int | None = option("number of labelled patients to train on (else all of the fold)", None)
    fold: Fold | None = option(
        "fold whose patients are the test cases, or none to train on all (else that of the pre-training, or 0)",
        None,
        metavar="K|none",
    )
    allow_seen: bool = option("test also on patients whose images the pre-training saw, as the paper does", False)
    split: Path | None = option("split file, or a fixed split (`jcl splits`), instead of folds", None)
    split_seed: int = option("seed of the folds and of the few patients drawn from them", 0)
    backbone: str | None = option(
        "network, or one of your own as package.module:factory (else that of the initial run, or unet)", None
    )
    width: int | None = option("channels of the first level (else of the initial run, or of the paper)", None)
    context: int | None = option(
        "neighbouring slices on each side that a slice is seen with, as channels (else those of the initial run, or 0)",
        None,
    )
    block: tuple[int, int, int] | None = option(
        "slices, rows and columns that a network of three dimensions sees (else those of the initial run)",
        None,
        metavar="N",
    )
    epochs: int | None = option("passes over the labelled slices (else 100, and at least 1000 steps)", None)
    batch_size: int = option("slices in a batch", 5)
    recipe: str | None = option(
        "strong, or paper: that of the JCL paper; each sets all settings below that are not given (else strong)",
        None,
        choices=("strong", "paper"),
    )
    loss: str | None = option(
        "cross_entropy, dice_cross_entropy, or log_dice_cross_entropy, for small structures (else the recipe's)",
        None,
        choices=("cross_entropy", "dice_cross_entropy", "log_dice_cross_entropy"),
    )
    learning_rate: float | None = option(
        "highest learning rate of Adam; it falls to a hundredth of it (else the recipe's: 1e-3, paper 5e-4)", None
    )
    warmup: float | None = option("share of the steps in which the rate rises (else the recipe's: 0.05, paper 0)", None)
    weight_decay: float = option("weight decay of Adam, as L2 in its gradient (the authors' program: 1e-5)", 0.0)
    rotation: float | None = option("augmentation: degrees to either side (else the recipe's: 30)", None)
    scale: float | None = option("augmentation: 0.3 is a factor from 0.7 to 1.3 (else the recipe's: 0.3)", None)
    translation: float | None = option("augmentation: shift as a share of the side (else the recipe's: 0.1)", None)
    elastic: float | None = option("augmentation: elastic shift as a share of the side (else the recipe's: 0)", None)
    intensity: float | None = option(
        "augmentation: strength of contrast, noise, blur, low resolution (else the recipe's: 1, paper 0)", None
    )
    foreground: float | None = option(
        "share of each batch that is drawn by structure, each as often (else the recipe's: 0; of blocks a third)", None
    )
    average: float | None = option(
        "decay of the average of the weights, which is kept; 0 keeps the last (else the recipe's: 0.99, paper 0)", None
    )
    label_noise: float = option("share of the training labels that are made wrong, to see what it does", 0.0)
    label_noise_kind: str = option(
        "which are wrong: boundary (moved outlines), flip (another structure's) or missing (background)",
        "boundary",
        choices=("boundary", "flip", "missing"),
    )
    semi: str | None = option(
        "technique that learns of slices without labels too (`jcl methods` lists them), none, or auto: self_training "
        "where there are scans without labels (else the recipe's: auto, paper none)",
        None,
    )
    semi_settings: dict[str, Any] = option("a setting of the technique, as --semi.warmup 0.2", {}, prefix="semi")
    unlabelled: tuple[Path, ...] = option(
        "stores that the technique takes slices without labels from (else STORE, less whom it tests)",
        (),
        metavar="STORE",
    )
    unlabelled_batch_size: int | None = option(
        "slices without labels in a batch of the technique (else as --batch-size)", None
    )
    seed: int = option("seed of new weights, batches and augmentation", 0)


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """The settings that evaluation and prediction share; that without a text has one of its own in each."""

    run: Path | tuple[Path, ...]
    batch_size: int = option("slices at a time", 16)
    precision: str = option("auto, float32 or bfloat16", "auto", choices=("auto", "float32", "bfloat16"))
    devices: str = option("auto, cpu, mps, or 1 for one GPU", "auto")
    tta: bool = option("look at each slice also turned and scaled a little: 9 times the computation", False)
    mirror: bool = option("look at each slice also with left and right exchanged: twice the computation", False)
    postprocess: str = option(
        "auto: keep the largest piece and fill the holes of structures that had one piece and none in training",
        "off",
        choices=("auto", "off"),
    )
    trust_code: bool = option(TRUST, False)

    @property
    def runs(self) -> tuple[Path, ...]:
        """The runs whose scores are averaged; one, as a rule."""
        return self.run if isinstance(self.run, tuple) else (self.run,)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(InferenceConfig):
    """Score a fine-tuned run on its test patients."""

    run: Path | tuple[Path, ...] = positional("run folder of a fine-tuning; of several the mean scores decide")
    store: Path | None = option("store to score on (else the one of the run)", None)
    unit: str = option(
        "score whole volumes (case), or each slice by itself; pooled: volumes, and beside them the overlaps of all "
        "slices together, as the JCL authors' program does",
        "case",
        choices=("case", "slice", "pooled"),
    )
    out: Path = option("JSON file to write, RESULTS.json say")


@dataclass(frozen=True, kw_only=True)
class PredictConfig(InferenceConfig):
    """Segment new scans; each result has its source's geometry and format (NIfTI for DICOM)."""

    run: Path | tuple[Path, ...] = positional(
        "run folder of a fine-tuning, or a folder that export made for the hub; of several the mean scores decide"
    )
    source: Path | None = positional("a scan, or a folder of scans; DICOM too (not with --watch)", None)
    out: Path = option("folder to write the segmentations to")
    watch: Path | None = option("segment whatever arrives in this folder, until a signal ends it", None)
    settle: float = option("with --watch: seconds without a change after which a scan is whole", 10.0)
    series: str | None = option(SERIES, None, metavar="REGEX")
    dicom_seg: bool = option("write a DICOM-SEG object beside the NIfTI file of each DICOM series", False)
    rtstruct: bool = option("write an RTSTRUCT (contours) beside the NIfTI file of each DICOM series", False)
    volumes: bool = option("write volumes.csv and volumes.json: voxels, ml and doubt of each structure", False)
    doubt: bool = option("write maps of doubt (0 to 1, NIfTI) into the folder doubt, and the tables of volumes", False)
    probabilities: bool = option("write each class's score as 4-D NIfTI into the folder probabilities", False)
    overview: bool = option("write a picture of each result (PNG) into the folder overview", False)

    def __post_init__(self) -> None:
        """Raises UsageError where there is nothing to segment."""
        if self.source is None and self.watch is None:
            raise UsageError("missing: source, or --watch FOLDER")


@dataclass(frozen=True, kw_only=True)
class ServeConfig(InferenceConfig):
    """Segment scans in a browser, on this machine: drop one, look at it, correct it, keep it as a label."""

    run: Path | tuple[Path, ...] = positional(
        "run folder of a fine-tuning, or a folder that export made for the hub; of several the mean scores decide"
    )
    host: str = option(
        "address to listen on; with --allow-remote also one that others reach", "127.0.0.1", metavar="ADDRESS"
    )
    port: int = option("port to listen on; 0: one that is free", 8765)
    allow_remote: bool = option("let --host be an address that other machines reach; nothing is encrypted", False)
    keep: Path | None = option(
        "folder that corrected scans are kept in, as labelled cases for `jcl prepare` (else no scan is kept)",
        None,
        metavar="FOLDER",
    )
    max_mb: float = option("MB (10^6 bytes) that an upload may have", 2000.0, metavar="MB")
    max_unpacked_mb: float = option("MB that an upload may have when it is unpacked", 8000.0, metavar="MB")
    queue: int = option("scans that may wait; the next one is sent away for now", 8)
    upload_minutes: float = option("minutes that an upload may take", 10.0, metavar="MINUTES")
    job_minutes: float = option("minutes that segmenting a scan may take", 60.0, metavar="MINUTES")
    forget_minutes: float = option(
        "minutes after which a scan that nobody asks for is removed", 30.0, metavar="MINUTES"
    )


@dataclass(frozen=True, kw_only=True)
class SuggestConfig:
    """Say which scans, and which of their slices, to label next."""

    store: Path = positional("prepared store; its labels, if it has any, are not read")
    run: tuple[Path, ...] = option(
        "run folder of a pre-training, where few or none have labels yet, or of fine-tunings", metavar="RUN"
    )
    patients: int = option("number of patients to label next", 5, short="-n")
    slices: int = option("slices of each of their scans to label, if not all", 3)
    among: str = option(
        "unlabelled: patients without labels; all: also those with, if the run was not trained on them",
        "unlabelled",
        choices=("unlabelled", "all"),
    )
    source: Path | None = option(
        "folder of scans that the store was made of: slices are numbered as their files have them (else as the store)",
        None,
    )
    out: Path | None = option("file to write, a row for each slice: suggestions.csv or .json, say", None)
    overview: Path | None = option("picture of the suggested slices to write, overview.png say", None)
    json: bool = option("print it as JSON", False)
    seed: int = option("seed of the random beginnings of the search", 0)
    batch_size: int = option("slices at a time", 16)
    precision: str = option("auto, float32 or bfloat16", "auto", choices=("auto", "float32", "bfloat16"))
    devices: str = option("auto, cpu, mps, or 1 for one GPU", "auto")
    trust_code: bool = option(TRUST, False)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a run in the format of another program, with its preparation and its labels."""

    run: Path = positional("run folder of a fine-tuning; for nnunet also of a pre-training, for weights only of one")
    to: str = option("format", choices=("onnx", "monai", "nnunet", "hub", "weights"))
    out: Path = option("file (onnx) or folder (all others) to write")
    results: Path | None = option("RESULTS.json of `jcl evaluate`, for the scores in the model card (monai, hub)", None)
    push: str | None = option("also upload the folder to this model of the Hugging Face Hub", None, metavar="REPO")
    trust_code: bool = option(TRUST, False)


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Take weights that the authors' programs of MACL or PCL saved as a run to start from."""

    file: Path = positional("checkpoint (.pth, .pkl); its tensors are read, and no code that it may hold is run")
    out: Path = option("run folder to write, for `jcl finetune --init`")
    origin: str | None = option(
        "the program that saved it (else as its tensors are named)", None, choices=("macl", "pcl"), flag="--from"
    )


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
    task_timeout: float | None = option(
        "minutes after which a run that is not done is ended and counts as failed (else it takes what it takes)",
        None,
        metavar="MINUTES",
    )
    only: tuple[str, ...] = option(
        "run what has such a name, as '*-s0', and what it starts from; the rest another time", (), metavar="PATTERN"
    )
    dry_run: bool = option("prepare the data, list the trainings that would be run, and stop", False)
    trust_code: bool = option(TRUST, False)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Tables, statistics and figures of a benchmark, as a web page that needs no network."""

    folder: Path = positional("folder of a benchmark, finished or not")
    out: Path = option("page to write, REPORT.html say; tables as .md, .csv and .tex go beside it")
    trust_code: bool = option(TRUST, False)


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Examine this machine: what it has, how fast it is, what is missing and what is set wrongly."""

    json: bool = option("print it as JSON", False)


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The whole path on generated cardiac volumes: a few minutes on two cores."""

    out: Path = option("folder for the volumes, the runs and the report", Path("jcl-demo"))
    seed: int = option("seed of volumes and trainings", 0)
