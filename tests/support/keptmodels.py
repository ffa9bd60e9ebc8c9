"""A small benchmark's folder whose models are random, with a store: for the figures that segment again."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from jcl import config
from jcl.backbones.unet import UNet
from jcl.data.context import span_of
from jcl.data.splits import Split, write_split
from jcl.data.store import Store
from jcl.data.store_writing import write_case, write_manifest
from jcl.files import write_json
from jcl.report.stats.results import Benchmark, Cell, Column, Grid, Pretraining
from jcl.settings import load
from jcl.stages.evaluate import evaluate
from jcl.training.run_folder import save_model
from support import grids
from support.thresholds import make_recipe_of

CLASSES = ("ventricle", "atrium")
SHAPE = (4, 20, 28)
PATIENTS = 5


def write_store(path: Path, patients: int = PATIENTS) -> Store:
    """Blobs in noise, of another size in each patient, smaller than the padded slices, and not square."""
    (path / "cases").mkdir(parents=True)
    _, row, column = np.indices(SHAPE)
    records = []
    for number in range(patients):
        random = np.random.default_rng(number)
        labels = np.zeros(SHAPE, np.uint8)
        labels[1:3, 3:9][(np.hypot(row - 8, column - 9) < 4 + 0.3 * number)[1:3, 3:9]] = 1
        labels[2, 10:15, 14 : 18 + number] = 2
        image = (0.4 * labels + random.uniform(0, 0.3, SHAPE)).astype(np.float32)[None]
        names = {"case": f"c{number}", "patient": f"p{number}", "source": {"images": [], "label": []}}
        records.append(write_case(path, image, labels, spacing=(5.0, 1.0, 1.5), classes=2, **names))
    recipe = {"channels": 1, "padded": [32, 32], "classes": list(CLASSES), "modality": "MRI"}
    recipe |= {"spacing": None, "size": None, "normalisation": "minmax", "clip": [0.0, 100.0]}
    write_manifest(path, recipe, records, [])
    return Store.open(path)


def write_finetuning(folder: Path, store: Store, seed: int, test: tuple[str, ...]) -> Cell:
    """A finished fine-tuning of random weights, evaluated by the stage that benchmarks run."""
    settings = {"name": "unet", "in_channels": 1, "classes": 3, "width": 2}
    network = random_network(seed)
    info = {
        "format": 1, "kind": "finetune", "backbone": settings, "precision": "float32", "store": str(store.path),
        "store_digest": store.digest, "class_names": list(CLASSES), "versions": {},
        "recipe": make_recipe_of({1: CLASSES[0], 2: CLASSES[1]}, padded=(32, 32)),
    }  # fmt: skip
    (folder / "run").mkdir(parents=True)
    write_json(folder / "run" / "run.json", info)
    train = tuple(r.patient for r in store.cases if r.patient not in test)
    write_split(folder / "run" / "split.json", Split(train=train, test=test))
    save_model(folder / "run", network)
    scored = {"run": folder / "run", "out": folder / "results.json", "devices": "cpu", "precision": "float32"}
    results = evaluate(load(config.EvaluateConfig, None, scored))
    return grids.cell(0, results["cases"], task=folder.name, folder=folder, start=None)


def random_network(seed: int, channels: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    network = UNet(in_channels=channels, classes=3, width=2)
    for part in network.modules():  # statistics as training leaves them, so that classes differ from pixel to pixel
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        network.train()(torch.rand(8, channels, 32, 32))
    return network.eval()


def write_pretraining(
    folder: Path, row: str, transfers: tuple[str, ...], seed: int = 0, context: int = 0
) -> Pretraining:
    settings = {"name": "unet", "in_channels": span_of(context), "classes": 3, "width": 2}
    saw = {"settings": {"context": context}} if context else {}
    (folder / "run").mkdir(parents=True)
    write_json(
        folder / "run" / "run.json",
        {"format": 1, "kind": "pretrain", "backbone": settings, "transfers": list(transfers), **saw},
    )
    save_model(folder / "run", nn.ModuleDict({"backbone": random_network(seed, span_of(context))}))
    return Pretraining(
        task=folder.name, label=row, rows=(row,), pretrain_on=("heart",), folder=folder, status="done", seconds=60.0
    )


def write_benchmark(folder: Path) -> tuple[Benchmark, Grid, Store]:
    """Rows JCL and PCL are done, of two folds (PCL of the first only); Broken lost its model; Late is missing."""
    store = write_store(folder / "stores" / "heart")
    patients = [record.patient for record in store.cases]
    tests = (tuple(patients[:3]), tuple(patients[3:]))
    cells: dict[tuple[str, str], tuple[Cell, ...]] = {}
    for number, row in enumerate(("JCL", "PCL", "Broken")):
        found = []
        for fold in range(2 if row == "JCL" else 1):
            cell = write_finetuning(folder / "tasks" / f"{row}{fold}", store, 10 * number + fold, tests[fold])
            found.append(Cell(**{**vars(cell), "fold": fold}))
        cells[row, "M=2"] = (*found, *(grids.cell(fold) for fold in range(len(found), 2)))
    (folder / "tasks" / "Broken0" / "run" / "model.safetensors").unlink()
    cells["Late", "M=2"] = (grids.cell(0), grids.cell(1, status="failed"))
    grid = Grid(
        name="t", title="A table", store="heart", pretrain_on=("heart",), rows=("PCL", "Broken", "Late", "JCL"),
        columns=(Column("M=2", 2),), cells=cells, paper={},
    )  # fmt: skip
    stores = {"heart": {"path": "stores/heart", "class_names": list(CLASSES)}}
    made = grids.benchmark(grid)
    return Benchmark(**{**vars(made), "folder": folder, "stores": stores}), grid, store
