"""Write tests/stages/benchmark-0.1: the folder of a benchmark of version 0.1.0, for the test that it can still be used.

Made once, by the code of commit 38d7c8a with torch 2.13 on one thread:

    git worktree add ../before 38d7c8a
    export OMP_NUM_THREADS=1 PYTHONPATH=../before/src:tests
    python tests/oracles/make_benchmark_0_1.py tests/stages/benchmark-0.1

TensorBoard's files are left out, and the scans, which the store was made of. Nothing is sealed in this version, so that
the places of the machine are written as `/before`.
"""

import os
import shutil
import sys
from pathlib import Path

import jcl.benchmark.benchmark
from jcl import config
from support.scans import write_volumes

RECIPE = """
title = "Tiny"
notes = "One method and random weights."
folds = 3
run_folds = [0]

[stores.ball]
source = "scans"
labels = "1=ball"

[pretrain]
width = 1
steps = 3
batch_size = 4
precision = "float32"
compile = "off"
kernels = "off"

[finetune]
steps = 3
precision = "float32"
compile = "off"
kernels = "off"

[methods.Random]
method = "none"

[methods.SimCLR]
method = "simclr"

[[tables]]
name = "one"
title = "Balls"
pretrain_on = ["ball"]
finetune_on = "ball"
methods = ["Random", "SimCLR"]
patients = [1]
"""


def main(out: Path) -> None:
    out.mkdir()
    os.chdir(out)
    write_volumes(Path("scans"), patients=3, labelled=3, slices=3)
    Path("recipe.toml").write_text(RECIPE, encoding="utf-8")
    settings = {"recipe": Path("recipe.toml"), "data": Path(), "out": Path("bench"), "workers": 0}
    jcl.benchmark.benchmark.benchmark(config.load(config.BenchmarkConfig, None, settings))
    for folder in [*Path().rglob("tensorboard"), Path("scans")]:
        shutil.rmtree(folder)
    for path in [*Path().rglob("*.json"), *Path().rglob("log.txt")]:
        path.write_text(path.read_text(encoding="utf-8").replace(str(Path.cwd()), "/before"), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
