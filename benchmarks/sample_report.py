"""The sample page of `jcl report` in docs/results/sample: a tiny benchmark of drawn hearts, and its report.

    python benchmarks/sample_report.py [--out docs/results/sample/report.html]

Takes about two minutes of one core. What the methods reach with so few steps says nothing about them.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from jcl.benchmark.benchmark import benchmark
from jcl.config import BenchmarkConfig, ReportConfig
from jcl.files import write_json
from jcl.report.report import report

PATIENTS = 6
SHAPE = (6, 48, 48)

RECIPE = """
title = "A sample report: drawn hearts"
notes = '''
Six drawn patients, two folds, a U-Net of width 8 and slices of 48 x 48 pixels, a few hundred steps: made to show what a
report looks like, not what the methods are worth.
'''
folds = 2
[stores.drawn]
source = "drawn"
size = 48
[pretrain]
width = 8
steps = {pretrain}
precision = "float32"
compile = "off"
[finetune]
steps = {finetune}
learning_rate = 5e-3
precision = "float32"
compile = "off"
[methods.Random]
method = "none"
[methods.JCL]
method = "jcl"
[[tables]]
name = "drawn"
title = "Drawn hearts"
methods = ["Random", "JCL"]
pretrain_on = ["drawn"]
finetune_on = "drawn"
patients = [2]
"""


def draw_patients(folder: Path) -> None:
    """A ventricle in its wall, in a body that is a little brighter than air; places and sizes differ by patient."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    depth, row, column = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for number in range(PATIENTS):
        random = np.random.default_rng(number)
        middle, inner, wall = random.uniform(20, 28, 2), random.uniform(4, 7), random.uniform(2.5, 4)
        distance = np.hypot(row - middle[0], column - middle[1]) + abs(depth - SHAPE[0] / 2)
        label = np.where(distance < inner, 1, np.where(distance < inner + wall, 2, 0)).astype(np.uint8)
        body = np.hypot(row - 24, column - 24) < 21
        image = body * (60 + np.array([0, 70, 30])[label] + random.normal(0, 6, SHAPE))
        for part, values in (("imagesTr", image.astype(np.int16)), ("labelsTr", label)):
            volume = sitk.GetImageFromArray(values)
            volume.SetSpacing((1.5, 1.5, 6.0))
            sitk.WriteImage(volume, str(folder / part / f"patient{number}.nii.gz"))
    names = [f"patient{number}.nii.gz" for number in range(PATIENTS)]
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    labels = {"0": "background", "1": "ventricle", "2": "wall"}
    write_json(folder / "dataset.json", {"modality": {"0": "MRI"}, "labels": labels, "training": training})


def make(out: Path, *, pretrain: int, finetune: int) -> None:
    """Draw the patients, run the benchmark, and write the report; the runs are not kept."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        draw_patients(work / "drawn")
        recipe = work / "sample.toml"
        recipe.write_text(RECIPE.format(pretrain=pretrain, finetune=finetune), encoding="utf-8")
        benchmark(BenchmarkConfig(recipe=recipe, data=work, out=work / "bench", workers=0))
        report(ReportConfig(folder=work / "bench", out=out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/sample/report.html"), help="the page")
    parser.add_argument("--smoke", action="store_true", help="a few steps, and keep nothing")
    options = parser.parse_args()
    if not options.smoke:
        make(options.out, pretrain=200, finetune=150)
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "report.html", pretrain=2, finetune=2)


if __name__ == "__main__":
    main()
