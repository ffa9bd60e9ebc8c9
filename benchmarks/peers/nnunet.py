"""nnU-Net v2, 2-D configuration, by its own commands in an environment of its own (`make_environment.sh`)."""

import json
import shutil
from pathlib import Path
from typing import Any

from .work import Ledger, Took

NUMBER = 501
TRAINER = "ClockTrainer"
LEFT_OUT = "nnU-Net: left out, --nnunet names no environment with it (benchmarks/peers/make_environment.sh makes one)"
LIMITED = Path(__file__).parent / "limited"


def is_there(environment: Path | None) -> bool:
    """Whether nnU-Net can be run from this virtual environment."""
    return environment is not None and (environment / "bin" / "nnUNetv2_train").is_file()


def put_trainer(environment: Path) -> None:
    """Copy the trainer to where nnU-Net looks first.

    `nnUNet_extTrainer` would do too, but is looked into last, after nnU-Net has imported every trainer of its own, some
    of which need torchvision.
    """
    (folder,) = environment.glob("lib/python*/site-packages/nnunetv2/training/nnUNetTrainer")
    shutil.copyfile(LIMITED / "clock.py", folder / "jcl_clock.py")
    shutil.copyfile(LIMITED / "nnunet_trainer.py", folder / "jcl_trainer.py")


def dataset_folder(out: Path) -> Path:
    """Where the raw data have to be, below the folder of one comparison."""
    return out / "raw" / f"Dataset{NUMBER}_jcl"


def variables(out: Path, minutes: float, cores: int) -> dict[str, str]:
    """What nnU-Net's commands read: its folders; augmentation in the training's own process, whose clock it shares."""
    folders = {f"nnUNet_{name}": str(out / name) for name in ("raw", "preprocessed", "results")}
    threads = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "PEER_THREADS": str(cores)}
    threads["OMP_WAIT_POLICY"] = "passive"  # nnUNetv2_predict has a thread for every core, not for those it may use
    return {**folders, **threads, "PEER_MINUTES": str(minutes)}


def train_and_predict(
    ledger: Ledger, key: str, environment: Path, out: Path, minutes: float
) -> tuple[dict[str, Took], dict[str, Any]]:
    """Plan and prepare, train for so many minutes of processor time, and predict the test patients.

    Args:
        ledger: of the comparison.
        key: of this row in it.
        environment: virtual environment with nnU-Net.
        out: folder with the raw data in `dataset_folder(out)`; predictions go to `out/predictions-MINUTES`.
        minutes: of the training's process.

    Returns:
        What `prepare`, `train` and `predict` took, and what the trainer and the plan say.
    """
    put_trainer(environment)
    made, programs = variables(out, minutes, ledger.cores), environment / "bin"
    prepared = out / "preprocessed" / f"Dataset{NUMBER}_jcl"
    took = {
        "prepare": ledger.run(
            f"{key} prepare",
            [programs / "nnUNetv2_plan_and_preprocess", "-d", NUMBER, "-c", "2d", "-np", 1, "-npfp", 1],
            makes=[prepared],
            environment={**made, "nnUNet_n_proc_DA": "1"},  # its planner takes this for a number of threads
        )
    }
    shutil.copyfile(dataset_folder(out) / "splits_final.json", prepared / "splits_final.json")
    key = f"{key} {minutes:g} min"
    results = out / f"results-{minutes:g}"
    made["nnUNet_results"] = str(results)
    took["train"] = ledger.run(
        f"{key} train",
        [programs / "nnUNetv2_train", NUMBER, "2d", 0, "-tr", TRAINER, "-device", "cpu"],
        makes=[results],
        environment=made,
    )
    predictions = out / f"predictions-{minutes:g}"
    took["predict"] = ledger.run(
        f"{key} predict",
        [programs / "nnUNetv2_predict", "-i", dataset_folder(out) / "imagesTs", "-o", predictions, "-d", NUMBER,
         "-c", "2d", "-f", 0, "-tr", TRAINER, "-device", "cpu", "-npp", 1, "-nps", 1],
        makes=[predictions],
        environment=made,
    )  # fmt: skip
    plan = json.loads((prepared / "nnUNetPlans.json").read_text())["configurations"]["2d"]
    (clock,) = results.glob("*/*/fold_0/clock.json")
    about = {"patch": plan["patch_size"], "batch": plan["batch_size"], "spacing": plan["spacing"]}
    return took, {**about, **json.loads(clock.read_text())}
