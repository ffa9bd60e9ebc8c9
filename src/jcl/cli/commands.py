"""The commands: their settings, where their functions are, and what `jcl --help` says of them."""

import importlib
from dataclasses import dataclass
from typing import Any

from jcl import config

__all__ = ["CATALOGUES", "COMMANDS", "PRINTS", "Command", "overview"]


@dataclass(frozen=True)
class Command:
    """A command that runs a stage: its settings, where its function is, and examples for its help."""

    config: type[Any]
    module: str
    examples: tuple[str, ...]

    @property
    def summary(self) -> str:
        """First line of what the settings' docstring says."""
        return (self.config.__doc__ or "").strip().splitlines()[0]

    def run(self, settings: Any) -> Any:
        """Import the module and call the function that has its name."""
        module = importlib.import_module(self.module)
        return getattr(module, self.module.rsplit(".", 1)[-1])(settings)


COMMANDS = {
    "prepare": Command(
        config.PrepareConfig,
        "jcl.stages.prepare",
        ("jcl prepare scans --out store", "jcl prepare Task04_Hippocampus --dataset msd_hippocampus --out store"),
    ),
    "verify": Command(
        config.VerifyConfig,
        "jcl.stages.verify",
        ("jcl verify store --out check", "jcl verify store --source scans", "jcl verify fine"),
    ),
    "pretrain": Command(
        config.PretrainConfig,
        "jcl.stages.pretrain",
        ("jcl pretrain store --fold 0 --out pre", "jcl pretrain store --method jcl --method.temperature 0.2 --out pre"),
    ),
    "import": Command(
        config.ImportConfig,
        "jcl.stages.import_weights",
        ("jcl import latest.pth --out pre", "jcl import checkpoint.pth --from pcl --out pre"),
    ),
    "suggest": Command(
        config.SuggestConfig,
        "jcl.stages.suggest",
        (
            "jcl suggest store --run pre -n 5 --source scans",
            "jcl suggest store --run fine -n 3 --slices 4 --out next.csv --overview next.png",
        ),
    ),
    "finetune": Command(
        config.FinetuneConfig,
        "jcl.stages.finetune",
        (
            "jcl finetune store --init pre --fold 0 --out fine",
            "jcl finetune store --init pre --fold none --out deployed",
            "jcl finetune store --init pre --patients 4 --semi unimatch --semi.threshold 0.9 --out semi",
        ),
    ),
    "evaluate": Command(config.EvaluateConfig, "jcl.stages.evaluate", ("jcl evaluate fine --out results.json",)),
    "predict": Command(
        config.PredictConfig,
        "jcl.stages.predict",
        (
            "jcl predict fine new-scans --out segmentations",
            "jcl predict fine scan.nii.gz --out segmentations",
            "jcl predict fine --watch incoming --out segmentations",
        ),
    ),
    "serve": Command(
        config.ServeConfig,
        "jcl.serve.serve",
        ("jcl serve fine", "jcl serve fine --keep corrected --port 8080"),
    ),
    "export": Command(
        config.ExportConfig,
        "jcl.stages.export",
        ("jcl export fine --to onnx --out model.onnx", "jcl export pre --to nnunet --out pretrained"),
    ),
    "benchmark": Command(
        config.BenchmarkConfig,
        "jcl.benchmark.benchmark",
        (
            "jcl benchmark small_table1 --data scans --out bench",
            "jcl benchmark mine.toml --data scans --out bench --workers 4",
        ),
    ),
    "report": Command(
        config.ReportConfig,
        "jcl.report.report",
        ("jcl report bench --out report.html", "jcl report bench --out docs/report.html"),
    ),
    "doctor": Command(config.DoctorConfig, "jcl.doctor.doctor", ("jcl doctor", "jcl doctor --json")),
    "demo": Command(config.DemoConfig, "jcl.cli.demo", ("jcl demo", "jcl demo --out somewhere-else --seed 1")),
}

CATALOGUES = {
    "methods": "List pre-training methods and semi-supervised techniques, or one with its settings.",
    "backbones": "List the segmentation networks.",
    "datasets": "List the data sets that prepare knows, or one with where to get it.",
    "splits": "List the fixed splits of published papers, or one with its patients.",
    "models": "List the pre-trained weights that come with the package, or print the card of one.",
    "recipes": "List the recipes that benchmark knows, or print one.",
}

PRINTS = ("doctor", "verify", "suggest", *CATALOGUES)
"""Commands whose result is what they print."""

HELP = """\
usage: jcl COMMAND [options]

Segment medical scans from few labelled patients: encoder and decoder of the network
are pre-trained together on scans without labels, then fine-tuned on the few with.

From scans to segmentations, in this order:
{path}

To try and to look up:
{rest}

An example session:
  jcl prepare scans --out store
  jcl verify store --out check
  jcl pretrain store --fold 0 --out pre
  jcl finetune store --init pre --fold 0 --patients 4 --out fine
  jcl evaluate fine --out results.json
  jcl predict fine new-scans --out segmentations
  jcl export fine --to onnx --out model.onnx

`jcl COMMAND --help` shows a command's settings; `jcl --version` the version;
`jcl --print-completion bash` (or zsh, fish) the code for tab completion."""


def overview() -> str:
    """What `jcl --help` prints."""
    lines = {name: command.summary for name, command in COMMANDS.items()} | CATALOGUES
    shown = {name: f"  {name:<11}{summary}" for name, summary in lines.items()}
    path = [name for name in COMMANDS if name not in ("doctor", "demo")]
    return HELP.format(
        path="\n".join(shown[name] for name in path), rest="\n".join(shown[n] for n in shown if n not in path)
    )
