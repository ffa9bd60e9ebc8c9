"""A recipe that runs in seconds, on scans of a ball; and tasks made of it."""

from pathlib import Path

from jcl.benchmark.plan import Plan, StoreInfo, make_plan
from jcl.benchmark.reading import read_recipe
from jcl.benchmark.recipe import Recipe

TINY = """
title = "Tiny"
notes = "Two methods and random weights."
folds = 3
run_folds = [0, 1]

[stores.ball]
source = "scans"
labels = "1=ball"

[pretrain]
width = 2
steps = 3
batch_size = 4
precision = "float32"
compile = "off"

[finetune]
steps = 3
precision = "float32"
compile = "off"

[methods.Random]
method = "none"

[methods.JCL]
method = "jcl"

[methods.MoCo]
method = "moco"

[[tables]]
name = "one"
title = "One"
methods = ["Random", "JCL", "MoCo"]
pretrain_on = ["ball"]
finetune_on = "ball"
patients = [1, 2]

[[tables]]
name = "two"
title = "Two"
methods = ["JCL"]
pretrain_on = ["ball"]
finetune_on = "ball"
patients = [2]
"""

ONE_CELL = """
title = "One cell"
folds = 2
run_folds = [0]

[stores.ball]
source = "scans"
labels = "1=ball"

[pretrain]
width = 2

[finetune]
steps = 2
precision = "float32"
compile = "off"

[methods.Random]
method = "none"

[[tables]]
name = "one"
title = "One"
methods = ["Random"]
pretrain_on = ["ball"]
finetune_on = "ball"
patients = [1, 2]
"""
"""A recipe of one fine-tuning, on the scans that the store of the tests is made of."""


def tiny(folder: Path, *changes: tuple[str, str]) -> Recipe:
    """The recipe with texts replaced, each of which has to be there."""
    return read_recipe(tiny_file(folder, *changes), trust_code=True)


def tiny_file(folder: Path, *changes: tuple[str, str]) -> Path:
    """The file of such a recipe."""
    text = TINY
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


STORES = {"ball": StoreInfo(name="ball", path="stores/ball", digest="0" * 64, class_names=("ball",))}


def plan_of(folder: Path, *changes: tuple[str, str]) -> Plan:
    """Its plan, on a store that is only a name."""
    return make_plan(tiny(folder, *changes), STORES)
