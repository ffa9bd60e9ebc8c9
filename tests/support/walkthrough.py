"""A document's blocks, run in order in one folder: commands with small settings, Python in a fresh interpreter."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch

from jcl.backbones.macl_unet import MACLUNet
from jcl.backbones.plain_conv_unet import PlainConvUNet
from support.checkpoints import authors_state, save
from support.dicomfiles import write_series
from support.documents import Block, Command, commands
from support.scans import write_volumes
from support.sets import WRITERS

SMALLER = {
    "prepare": "--workers 1",
    "pretrain": "--steps 2 --batch-size 4",
    "finetune": "--steps 2 --batch-size 4",
}
"""What is appended to a command, by its name."""

NOT_RUN = {
    "make": "a virtual environment of its own; its target has to exist",
    "pip": "needs the package index; its extra has to exist",
    ".ci/run": "runs this test; the file has to exist",
    ".ci/oldest": "some GB to download; the file has to exist",
    "python": "another program, or hours; its file has to exist",
    "docker": "needs a builder of images (tests/packaging/test_dockerfile.py)",
    "export": "a variable of a program that is not run",
    "cd": "goes with a program that is not run",
    "srun": "needs SLURM",
    "ray": "needs a cluster (tests/benchmark/test_ray_cluster.py)",
    "torchrun": "needs two machines (tests/stages/test_processes.py)",
    "nnUNetv2_train": "not installed (tests/oracles/check_nnunet.py)",
    "jcl benchmark": "hours (tests/benchmark)",
    "jcl serve": "runs until somebody ends it (tests/serve/test_serve.py)",
    "jcl report": "shows a benchmark that ran for hours (tests/report/test_report.py)",
    "--to monai": "slow (tests/export/test_monai.py)",
    "--push": "would upload",
    "--tracker": "needs a server (tests/training/trackers)",
    "--watch": "ends by a signal (tests/stages/test_watch.py)",
    "--init NAME": "needs weights in the package (tests/test_models.py)",
    "--init OWNER/hippocampus": "would download",
    "--ray": "needs a cluster (tests/parallel/test_ray.py)",
    "--devices 4": "needs GPUs",
    "--devices cpu:2": "slow (tests/stages/test_processes.py)",
    "--split acdc_8": "needs the 100 patients of ACDC (tests/data/test_splits.py)",
}
"""Why a command is not run: by how it begins, or by an option. A `jcl` command among them is parsed all the same."""

RUN_ALL = """
import contextlib, json, sys
from jcl.cli.main import main
for words, output in json.load(sys.stdin):
    with contextlib.redirect_stdout(open(output, "w")) if output else contextlib.nullcontext():
        code = main(words[1:])
    if code:
        sys.exit(f"{' '.join(words)}: exit code {code}")
"""


def why_not_run(command: Command) -> str | None:
    line = " ".join(command.words)
    for key, reason in NOT_RUN.items():
        if f" {key} " in f" {line} " if key.startswith("--") else f"{line} ".startswith(f"{key} "):
            return reason
    return None


def prepare_folder(folder: Path) -> Path:
    """What documents take for granted: scans, and everything that the commands of the README make of them."""
    write_volumes(folder / "scans")
    write_volumes(folder / "new-scans", patients=1, labelled=0)
    write_volumes(folder / "DATA" / "mscmr")
    (folder / "knee-scans").mkdir()
    for kind, ending in (("images", "pd"), ("labels", "seg")):
        shutil.copy(folder / "scans" / kind / "p0.nii.gz", folder / "knee-scans" / f"knee1_{ending}.nii.gz")
    write_series(folder / "studies" / "anna", SeriesDescription="T2 axial")
    WRITERS["acdc"](folder / "ACDC" / "training")
    shutil.copy(folder / "scans" / "images" / "p0.nii.gz", folder / "scan.nii.gz")
    network = PlainConvUNet(width=32, classes=4)
    torch.save({"network_weights": network.state_dict()}, folder / "checkpoint_final.pth")
    save(folder / "latest.pth", authors_state(MACLUNet(width=4), "macl"))
    lines = (
        "prepare scans --out store",
        "pretrain store --fold 0 --out pre",
        "finetune store --init pre --out fine",
        "evaluate fine --out results.json",
    )
    run_commands([_smaller(Command("", ("jcl", *line.split()))) for line in lines], folder)
    return folder


def run_document(blocks: Sequence[Block], folder: Path, prepared: Path) -> None:
    """Run what can be run; a thing that a block reads and no block has made before is copied from `prepared`."""
    waiting: list[Command] = []
    for block in blocks:
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.kind == "python":
            run_commands(waiting, folder)
            waiting = []
            _provide(re.findall(r'"([^"]+)"', block.text), folder, prepared, ())
            _run([sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", block.text], folder, block.place)
        elif block.kind == "commands":
            for command in commands(block):
                if command.is_jcl and not why_not_run(command):
                    _provide(command.words, folder, prepared, [_out(each) for each in (*waiting, command)])
                    waiting.append(_smaller(command))
    run_commands(waiting, folder)


def run_commands(found: Sequence[Command], folder: Path) -> None:
    """Commands of jcl one after the other, in one fresh interpreter."""
    if found:
        told = json.dumps([(command.words, command.output) for command in found])
        _run([sys.executable, "-c", RUN_ALL], folder, found[0].place, told)


def _smaller(command: Command) -> Command:
    more = SMALLER.get(command.words[1], "").split()
    if {"pretrain", "none"} & set(command.words) and "--width" not in command.words:  # else that of the pre-training
        more += ["--width", "4"]
    return Command(command.place, (*command.words, *more), command.output)


def _out(command: Command) -> str:
    return next(_values(command, "--out"), "")


def _values(command: Command, option: str) -> Iterator[str]:
    return (after for word, after in pairwise(command.words) if word == option)


def _provide(names: Sequence[str], folder: Path, prepared: Path, made: Sequence[str]) -> None:
    for name in names:
        source, target = prepared / name, folder / name
        if name in made or target.exists() or not re.fullmatch(r"[\w./-]*\w", name) or not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)


def _run(arguments: Sequence[str], folder: Path, place: str, told: str = "") -> None:
    environment = {**os.environ, "JCL_KERNELS": "off", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        arguments, cwd=folder, input=told, capture_output=True, text=True, env=environment, timeout=240
    )
    assert done.returncode == 0, f"{place}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
