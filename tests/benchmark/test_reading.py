"""Recipes of one's own: what is read of them, and one clear line for whatever is wrong."""

import dataclasses
import re
from pathlib import Path

import pytest

from jcl.benchmark.reading import built_in, read_recipe
from jcl.benchmark.recipe import Column, Method, Recipe, TablePlan
from jcl.errors import UsageError

WHOLE = """
title = "Mine"
folds = 3
[stores.a]
source = "scans"
size = 64
[stores.b]
store = "ready"
[pretrain]
width = 4
steps = 10
[finetune]
steps = 20
[methods.Random]
method = "none"
[methods.JCL]
method = "jcl"
method_settings = { temperature = 0.2 }
backbone = "attention_unet"
width = 8
paper = "JCL"
[methods.JCL.pretrain]
learning_rate = 1
[[tables]]
name = "t"
title = "T"
methods = ["Random", "JCL"]
pretrain_on = ["a", "b"]
finetune_on = "a"
patients = [2, 6, "all"]
paper = "table1_chd"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_said_and_what_is_left_to_defaults(tmp_path):
    recipe = read_recipe(write(tmp_path, WHOLE))
    assert (recipe.title, recipe.notes, recipe.text) == ("Mine", "", WHOLE)
    assert (recipe.folds, recipe.run_folds, recipe.seeds, recipe.pretrain_seed) == (3, (0, 1, 2), (0,), 0)
    assert (recipe.unlabelled, recipe.unit) == ("all", "case")
    assert recipe.stores["a"].settings == {"source": "scans", "size": 64}
    assert (recipe.stores["b"].store, recipe.stores["b"].settings) == ("ready", {})
    assert recipe.methods["Random"].method_settings == {}
    jcl = recipe.methods["JCL"]
    assert (jcl.method_settings, jcl.backbone, jcl.width) == ({"temperature": 0.2}, "attention_unet", 8)
    assert (jcl.pretrain, jcl.finetune, jcl.paper) == ({"learning_rate": 1}, {}, "JCL")
    table = recipe.tables[0]
    assert table.columns == (Column("M=2", patients=2), Column("M=6", patients=6), Column("all"))
    assert table.paper_columns == {"M=6": "M=6"}  # the paper has that one, and not the others


def test_the_authors_protocol_is_folds_and_unit(tmp_path):
    recipe = read_recipe(write(tmp_path, WHOLE.replace("folds = 3", 'folds = "authors"\nunit = "pooled"')))
    assert (recipe.folds, recipe.run_folds, recipe.unit) == ("authors", (0, 1, 2, 3, 4), "pooled")


def test_splits_are_columns(tmp_path):
    text = WHOLE.replace('patients = [2, 6, "all"]', 'splits = { "10%" = "chaos_2", own = "my/split.json" }')
    columns = read_recipe(write(tmp_path, text.replace("table1_chd", "journal_chaos"))).tables[0].columns
    assert columns == (Column("10%", split="chaos_2"), Column("own", split="my/split.json"))


def test_a_recipe_is_a_file_or_a_name(tmp_path, monkeypatch):
    assert read_recipe(Path("small_chaos")).text == built_in()["small_chaos"].read_text()
    monkeypatch.chdir(tmp_path)
    Path("small_chaos").write_text(WHOLE)
    assert read_recipe(Path("small_chaos")).title == "Mine"  # a file comes first
    with pytest.raises(UsageError, match=r"small_chao: no recipe file, nor one of: .*small_chaos.*`jcl recipes`"):
        read_recipe(Path("small_chao"))


@pytest.mark.parametrize("content", [b"title = ", b"\xff\xfe"])
def test_what_is_no_toml(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"mine.toml: not a TOML file"):
        read_recipe(path)


WRONG = {
    # the recipe itself
    "titel": ('title = "Mine"', 'titel = "Mine"', "unknown key 'titel'; did you mean title? (known: finetune, folds"),
    "no title": ('title = "Mine"', "", "missing: title"),
    "number as title": ('title = "Mine"', "title = 3", "title: 3 is not a string"),
    "folds": ("folds = 3", 'folds = "3"', "folds: '3' is not an int or one of authors"),
    "authors' folds": ("folds = 3", 'folds = "authors"\nrun_folds = [5]', "run_folds has 5; with 5 folds they are 0"),
    "one fold": ("folds = 3", "folds = 1", "folds is 1; at least 2 are needed"),
    "run_folds": ("folds = 3", "folds = 3\nrun_folds = [0, 3]", "run_folds has 3; with 3 folds they are 0 to 2"),
    "fold twice": ("folds = 3", "folds = 3\nrun_folds = [1, 1]", "run_folds has 1 twice"),
    "no seeds": ("folds = 3", "folds = 3\nseeds = []", "seeds is empty; at least one is needed"),
    "unlabelled": ("folds = 3", 'unlabelled = "some"', "unlabelled: 'some' is not one of all, training"),
    "unit": ("folds = 3", 'unit = "voxel"', "unit: 'voxel' is not one of case, slice, pooled"),
    # stores
    "no source": ('source = "scans"', "", "stores.a: missing: source, or store"),
    "store setting": ("size = 64", "sizes = 64", "stores.a: unknown key 'sizes'; did you mean size? (known: ch"),
    "store type": ("size = 64", 'size = "64"', "stores.a: size: '64' is not an int"),
    "data set": ("size = 64", 'dataset = "chds"', "stores.a: no data set 'chds' (`jcl datasets`), nor a .toml file"),
    "store and more": ('store = "ready"', 'store = "ready"\nsize = 3', "stores.b: unknown key 'size' (known: store)"),
    # settings of stages
    "given anyway": ("steps = 10", "steps = 10\nseed = 3", "pretrain: unknown key 'seed'"),
    "text for steps": ("steps = 10", 'steps = "many"', "pretrain: steps: 'many' is not an int"),
    "choice": ("steps = 20", 'precision = "half"', "finetune: precision: 'half' is not one of auto, float32"),
    "backbone of all": ("width = 4", 'backbone = "unnet"', "pretrain: no backbone 'unnet'; there are: attention_unet"),
    "own setting": (
        "learning_rate = 1",
        "learning_rates = 1",
        "methods.JCL: pretrain: unknown key 'learning_rates'; did you mean learning_rate? (known: accumulate, backbone",
    ),
    # methods
    "no method": ('method = "none"', "", "methods.Random: missing: method"),
    "method": ('method = "jcl"', 'method = "jlc"', "methods.JCL: no method 'jlc'; there are: none, byol"),
    "method setting": ("{ temperature", "{ temprature", "methods.JCL: jcl has no setting 'temprature'; it has: blocks"),
    "setting of none": (
        'method = "none"',
        'method = "none"\nmethod_settings = { views = "split" }',
        "methods.Random: method none trains nothing, so it has no method_settings",
    ),
    "technique": (
        "learning_rate = 1",
        'learning_rate = 1\n[methods.JCL.finetune]\nsemi = "unmatch"',
        "methods.JCL: no semi-supervised technique 'unmatch'; there are: bcp, cps, mean_teacher, self_training,",
    ),
    "technique setting": (
        "learning_rate = 1",
        'learning_rate = 1\n[methods.JCL.finetune]\nsemi = "bcp"\nsemi_settings = { wait = 1.0 }',
        "methods.JCL: technique bcp has no setting 'wait'; it has: weight, box",
    ),
    "no block": (
        '"attention_unet"',
        '"unet3d"',
        "methods.JCL: unet3d sees blocks; say which with --block, as --block 16 32 32",
    ),
    "a block of slices": (
        "learning_rate = 1",
        "learning_rate = 1\nblock = [8, 8, 8]",
        "methods.JCL: --block is for a network of three dimensions",
    ),
    "method for slices alone": (
        'method = "jcl"\nmethod_settings = { temperature = 0.2 }\nbackbone = "attention_unet"',
        'method = "swav"\nbackbone = "unet3d"\nfinetune = { block = [8, 8, 8] }',
        "methods.JCL: swav is not written for 3 dimensions; there are: byol, gcl, jcl",
    ),
    "neighbours of blocks": (
        '"attention_unet"',
        '"unet3d"\nfinetune = { block = [8, 8, 8], context = 1 }',
        "methods.JCL: context is not offered in three dimensions yet; leave it out",
    ),
    "another context": (
        "learning_rate = 1",
        "learning_rate = 1\ncontext = 1\n[methods.JCL.finetune]\ncontext = 2",
        "methods.JCL: context is 1 in pretrain and 2 in finetune; leave it out of finetune, which takes that ",
    ),
    "settings of no technique": (
        "learning_rate = 1",
        "learning_rate = 1\n[methods.JCL.finetune]\nsemi_settings = { wait = 1.0 }",
        "methods.JCL: semi_settings without semi",
    ),
    "unlabelled stores": ("steps = 20", 'unlabelled = ["a"]', "finetune: unknown key 'unlabelled'"),
    "settings type": ("{ temperature = 0.2 }", "3", "methods.JCL: method_settings: 3 is not a table"),
    "backbone": ('"attention_unet"', '"atunet"', "methods.JCL: no backbone 'atunet'; there are: attention_unet"),
    "width": ("width = 8", "width = 0.5", "methods.JCL: width: 0.5 is not an int"),
    "key of method": ("width = 8", "depth = 8", "methods.JCL: unknown key 'depth' (known: backbone"),
    "paper row": ('paper = "JCL"', 'paper = "JLC"', "methods.JCL: the paper has no row 'JLC'; there are: Random"),
    "paper place": ('paper = "JCL"', 'paper = { column = "x" }', "methods.JCL: paper: missing: row"),
    "paper place key": (
        'paper = "JCL"',
        'paper = { row = "JCL", fold = "x" }',
        "methods.JCL: paper: unknown key 'fold' (known: column, row)",
    ),
    # tables
    "row": ('["Random", "JCL"]', '["JCL", "PCL"]', "table t: no [methods.PCL]; there are Random, JCL"),
    "row twice": ('["Random", "JCL"]', '["JCL", "JCL"]', "table t: methods has 'JCL' twice"),
    "no rows": ('["Random", "JCL"]', "[]", "table t: methods is empty; at least one is needed"),
    "store of table": ('["a", "b"]', '["a", "c"]', "table t: no [stores.c]; there are a, b"),
    "no finetune_on": ('finetune_on = "a"', "", "table t: missing: finetune_on"),
    "network of a table": (
        'finetune_on = "a"',
        'finetune_on = "a"\npretrain = { backbone = "own:net" }',
        "table t: pretrain: unknown key 'backbone'",
    ),
    "technique of a table": (
        'finetune_on = "a"',
        'finetune_on = "a"\nfinetune = { semi = "bcp" }',
        "table t: finetune: unknown key 'semi'",
    ),
    "setting of a table": (
        'finetune_on = "a"',
        'finetune_on = "a"\nfinetune = { steps = "many" }',
        "table t: finetune: steps: 'many' is not an int",
    ),
    "patients and splits": ('"all"]', '"all"]\nsplits = { x = "chaos_2" }', "table t: either patients or splits are"),
    "neither": ('patients = [2, 6, "all"]', "", "table t: either patients or splits are needed"),
    "no patient": ("[2, 6,", "[0, 6,", "table t: patients has 0; numbers from 1, or \"all\", are needed"),
    "patients twice": ("[2, 6,", "[2, 2,", "table t: patients has 2 twice"),
    "split": ('patients = [2, 6, "all"]', 'splits = { x = "chaos_3" }', "table t: no split 'chaos_3' (`jcl splits`)"),
    "paper's table": ('"table1_chd"', '"table1"', "table t: the paper has no table 'table1'; there are: table1_chd"),
    "paper's column": (
        '"table1_chd"',
        '"table1_chd"\npaper_columns = { "M=2" = "M=2" }',
        "table t: table1_chd of the paper has no column 'M=2'; it has: M=6, M=10",
    ),
    "no column": (
        '"table1_chd"',
        '"table1_chd"\npaper_columns = { "M=3" = "M=6" }',
        "table t: paper_columns has 'M=3', which is not a column of it",
    ),
    "columns without paper": (
        'paper = "table1_chd"',
        'paper_columns = { "M=2" = "M=6" }',
        "table t: paper_columns without paper, the name of the paper's table",
    ),
    "key of table": ('title = "T"', 'title = "T"\nfold = 0', "table t: unknown key 'fold' (known: finetune, "),
    "reference": (
        'title = "T"',
        'title = "T"\nreferences = ["JCL", "PCL"]',
        "table t: references has 'PCL', which is not a method of it",
    ),
    "list of columns": (
        'title = "T"',
        'title = "T"\npaper_columns = ["M=6"]',
        "table t: paper_columns: ['M=6'] is not a table",
    ),
    "number for a column": (
        'title = "T"',
        'title = "T"\npaper_columns = { "M=6" = 6 }',
        "table t: paper_columns.M=6: 6 is not a string",
    ),
    "a row that is no text": ('["Random", "JCL"]', '["Random", 3]', "table t: methods[1]: 3 is not a string"),
    "two of a name": ("[[tables]]", '[[tables]]\nname = "t"\ntitle = "U"\nmethods = ["JCL"]\npretrain_on = ["a"]\n'
                      'finetune_on = "a"\npatients = [1]\n[[tables]]', "two tables are called t"),
    "no tables": ("[[tables]]", "[tables]", "tables: {'name': 't', 'title'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path, case):
    before, after, message = WRONG[case]
    assert before in WHOLE
    text = WHOLE.replace(before, after, 1)
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=re.escape(f"{path}: {message}")) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["stores", "methods", "tables"])
def test_a_part_that_is_missing(tmp_path, part):
    text = "\n\n".join(
        paragraph
        for paragraph in re.split(r"\n(?=\[)", WHOLE)
        if not paragraph.startswith((f"[{part}.", f"[[{part}]]"))
    )
    with pytest.raises(UsageError, match=rf"mine.toml: missing: {part}"):
        read_recipe(write(tmp_path, text))


def test_the_example_of_the_docs_is_a_recipe_and_every_key_is_explained(tmp_path):
    docs = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", docs, re.DOTALL)
    assert example is not None
    recipe = read_recipe(write(tmp_path, example[1]))
    assert list(recipe.methods) == ["Random", "PCL", "JCL, warm"]
    explained = set(re.findall(r"`\[*([a-z_]+)", " ".join(re.findall(r"^\|(.*?)\|", docs, re.MULTILINE))))
    keys = {field.name for kind in (Recipe, Method, TablePlan) for field in dataclasses.fields(kind)} - {"text"}
    assert keys <= explained
    for name in built_in():
        assert f"`{name}`" in docs
