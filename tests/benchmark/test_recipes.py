"""The recipes that come with the package: all that they name is there, and their headings tell the truth."""

import json
import re
from functools import cache
from importlib.resources import files

import pytest

from jcl.benchmark.paper import paper_cell
from jcl.benchmark.plan import Plan, StoreInfo, make_plan
from jcl.benchmark.reading import built_in, read_recipe
from jcl.benchmark.recipe import Recipe
from jcl.cli.listing import show_recipes
from jcl.config import PrepareConfig
from jcl.data.splits import read_official_split
from jcl.errors import UsageError
from jcl.settings import load

PATIENTS = {"chd": 68, "mmwhs": 20, "hvsmr": 10}
"""Of the paper's data sets (section 4.1)."""


@cache
def recipe_of(name: str) -> Recipe:
    return read_recipe(built_in()[name])


@cache
def plan_of(name: str) -> Plan:
    stores = {each: StoreInfo(name=each, path="", digest=each, class_names=()) for each in recipe_of(name).stores}
    return make_plan(recipe_of(name), stores)


def shown(name: str) -> dict[tuple[str, str, str], float]:
    """Table, row and column of ours -> the paper's figure beside it."""
    recipe = recipe_of(name)
    cells = {
        (table.name, row, ours): paper_cell(table.paper, recipe.methods[row].paper or row, theirs)
        for table in recipe.tables
        for row in table.methods
        for ours, theirs in table.paper_columns.items()
    }
    return {place: cell.mean for place, cell in cells.items() if cell}


def test_every_table_of_the_paper_has_a_recipe():
    numbers = [int(found[1]) for name in built_in() if (found := re.match(r"table(\d+)_", name))]
    assert numbers == list(range(1, 11))


@pytest.mark.parametrize("name", built_in())
def test_it_can_be_planned_and_its_heading_says_what_it_costs(name):
    plan = plan_of(name)
    text = recipe_of(name).text
    assert text.startswith(f"# jcl benchmark {name} --data FOLDER --out ")
    cost = re.search(
        r"^# Cost: (\d+) pre-trainings and (\d+) fine-tunings(?:, ([\d,]+) and ([\d,]+) steps)?", text, re.M
    )
    assert cost is not None
    for number, kind in enumerate(("pretrain", "finetune")):
        tasks = [task for task in plan.tasks if task.kind == kind]
        assert len(tasks) == int(cost[1 + number])
        steps = cost[3 + number]
        assert sum(task.steps for task in tasks) == (int(steps.replace(",", "")) if steps else 0)
    for folder in re.findall(r"FOLDER/([\w.]+\w)", text.partition("title =")[0]):
        assert folder in {store.settings["source"] for store in recipe_of(name).stores.values()}


@pytest.mark.parametrize("name", built_in())
def test_every_cell_has_its_folds_and_seeds_and_labelled_patients(name):
    recipe = recipe_of(name)
    cells = [(cell.table, cell.row, cell.column, cell.fold, cell.seed) for cell in plan_of(name).cells]
    assert len(cells) == len(set(cells))
    for store in recipe.stores.values():
        load(PrepareConfig, None, {**store.settings, "out": "store"})
    for table in recipe.tables:
        for column in table.columns:
            expected = len(recipe.seeds) * (1 if column.split else len(recipe.run_folds))
            for row in table.methods:
                assert sum(cell[:3] == (table.name, row, column.name) for cell in cells) == expected
            if column.split:
                assert read_official_split(column.split).test
            elif column.patients and table.finetune_on in PATIENTS:
                assert column.patients <= PATIENTS[table.finetune_on] * 4 / 5


def test_no_task_of_the_plan_is_done_twice():
    for name in built_in():
        keys = [(task.key, task.code) for task in plan_of(name).tasks]
        assert len(set(keys)) == len(keys), name


def test_rows_that_differ_in_noise_alone_share_a_pretraining():
    """Of the six rows one trains from nothing in three ways, and three share JCL's pre-training of a fold."""
    starts = {
        (cell.fold, cell.row.partition(",")[0], task.needs)
        for cell in plan_of("small_noise").cells
        for task in plan_of("small_noise").tasks
        if task.id == cell.task
    }
    assert sum(row == "JCL" for _, row, _ in starts) == 5
    assert {needs for _, row, needs in starts if row == "Random"} == {None}


@pytest.mark.parametrize("name", [name for name in built_in() if name.startswith("table")])
def test_all_figures_of_the_papers_table_are_shown(name):
    """By the published tables themselves: each figure is beside a cell of ours, and there are no others."""
    published = json.loads(files("jcl.benchmark").joinpath("paper.json").read_text())[name]["rows"]
    figures = sorted(cell["mean"] for row in published.values() for cell in row.values())
    assert sorted(shown(name).values()) == figures


@pytest.mark.parametrize(
    ("name", "place", "figure"),
    [
        ("table1_chd", ("table1", "SimSiam", "M=6"), 0.4669),
        ("table2_mmwhs", ("table2", "PCL", "M=12"), 0.8931),
        ("table3_components", ("table3-chd", "PCL + decoder", "M=6"), 0.5410),
        ("table3_components", ("table3-hvsmr", "JCL (image-level)", "M=8"), 0.8574),
        ("table4_hvsmr", ("table4", "SimTriplet", "M=2"), 0.7857),
        ("table5_decoder_blocks", ("table5", "PCL", "M=6"), 0.5243),
        ("table5_decoder_blocks", ("table5", "JCL, 3 blocks", "M=6"), 0.5543),
        ("table6_backbones", ("table6", "Random, UCTransNet", "M=6"), 0.4568),
        ("table6_backbones", ("table6", "JCL, BCDUNet", "M=6"), 0.4427),
        ("table7_connection_modes", ("table7", "JCL, independent encoders", "M=6"), 0.5126),
        ("table7_connection_modes", ("table7", "JCL, two stages, full size first", "M=6"), 0.5341),
        ("table8_transfer_ablation", ("table8", "JCL (image-level)", "M=10"), 0.8903),
        ("table9_dense_loss_forms", ("table9", "PCL + BYOL", "M=6"), 0.5164),
        ("table10_few_patients", ("table10", "PCL", "M=4"), 0.8001),
        ("journal_table1", ("chaos", "GCL", "10%"), 0.5878),
        ("journal_table1", ("acdc", "Random", "10%"), 0.7999),
        ("journal_table1", ("acdc", "JCL", "10%"), 0.8663),
        ("journal_table1", ("mmwhs", "JCL", "10%"), 0.7928),
        ("journal_table1", ("hvsmr", "JCL, threshold 0.05", "10%"), 0.7877),
        ("journal_table2", ("hippocampus", "DiRA", "25%"), 0.8360),
        ("journal_table2", ("spleen", "Random", "10%"), 0.6663),
        ("journal_table2", ("isic", "SimCLR", "M=519"), 0.8782),
        ("journal_weights", ("acdc", "JCL", "10%"), 0.8663),
        ("journal_weights", ("chaos", "JCL, 0.75, 0.5, threshold 0.05", "10%"), 0.6636),
        ("journal_weights", ("mmwhs-lambda2", "JCL, lambda 2 of 0.7", "10%"), 0.7732),
        ("journal_noise", ("noise", "PCL, missing", "10%"), 0.5739),
        ("journal_imbalance", ("imbalance", "JCL, 0.3 retained", "25%"), 0.7160),
        ("journal_backbones", ("mmwhs", "JCL, UKAN", "10%"), 0.7452),
        ("small_chaos", ("chaos", "JCL", "M=4"), 0.7988),
    ],
)  # fmt: skip
def test_figures_stand_beside_the_right_cells(name, place, figure):
    """Read off the printed tables."""
    assert shown(name)[place] == pytest.approx(figure)


def test_recipes_of_the_paper_share_their_pretrainings():
    """With stores of the same content: table 2 has those of table 1, and all ablations have JCL's."""
    of = {name: {t.id for t in plan_of(name).tasks if t.kind == "pretrain"} for name in built_in()}
    assert of["table1_chd"] == of["table2_mmwhs"] == of["table4_hvsmr"]
    jcl = next(each for each in of["table10_few_patients"] if each.startswith("pretrain-chd-jcl-"))
    papers = [name for name in built_in() if name.startswith("table")]
    journals = [name for name in built_in() if name.startswith("journal_")]
    assert all(jcl in of[name] for name in (*papers, *journals) if name != "journal_table2")
    assert len(of["journal_table1"] & of["journal_table2"]) == 11  # those on BraTS
    assert of["journal_noise"] == of["journal_imbalance"] < of["table1_chd"] < of["journal_table1"]


def test_hours_are_those_that_the_journal_publishes():
    """Seconds of an epoch on one A100 (its table of costs), 100 epochs of each method."""
    seconds = {
        "SimCLR": 242.92, "MoCo": 118.67, "BYOL": 299.04, "SwAV": 328.53, "SimSiam": 237.84, "SimTriplet": 330.34,
        "GCL": 237.05, "PCL": 241.45, "JCL": 285.07,
    }  # fmt: skip
    for name in ("table1_chd", "table2_mmwhs", "table4_hvsmr"):
        assert set(recipe_of(name).tables[0].methods) - {"Random"} == set(seconds)
        hours = re.search(r"takes ([\d.]+) h for these pre-trainings", " ".join(recipe_of(name).text.split("\n# ")))
        assert hours is not None
        assert float(hours[1]) == pytest.approx(100 * sum(seconds.values()) / 3600, abs=0.05)


def test_steps_are_those_of_the_published_numbers_of_slices():
    """CHD 17,525 and KiTS 32,332 slices, 16 a step, BraTS 39,064, 32 a step; the last incomplete batch dropped."""
    assert "109,500 steps" in recipe_of("table1_chd").text
    assert 17_525 // 16 * 100 == 109_500
    assert "122,000 steps" in recipe_of("journal_table1").text
    assert 39_064 // 32 * 100 == 122_000
    assert "202,000 steps" in recipe_of("journal_table2").text
    assert 32_332 // 16 * 100 == 202_000
    assert abs(100 * 17_525 / 68 / 10 - 2_580) < 10
    assert "about 2,580 x M steps" in recipe_of("table1_chd").text


@pytest.mark.parametrize("name", [name for name in built_in() if name.startswith(("table", "journal"))])
def test_recipes_of_the_paper_have_the_authors_protocol_and_say_so(name):
    """Folds and draws, or fixed splits, of theirs; Adam with L2 of 1e-5; 5, 4 or 32 slices on each of two GPUs."""
    recipe = recipe_of(name)
    fixed = all(table.splits for table in recipe.tables)
    assert (recipe.folds, recipe.unit) == (5 if fixed else "authors", "pooled")
    assert (recipe.finetune["recipe"], recipe.finetune["weight_decay"]) == ("paper", 1e-5)
    for table in recipe.tables:
        batch = {**recipe.finetune, **table.finetune}["batch_size"]
        assert batch == 2 * {"chaos": 4, "spleen": 4, "heart": 4, "hippocampus": 32}.get(table.finetune_on, 5)
        brats = table.pretrain_on == ("brats2018",)
        assert {"batch_size": 16, **recipe.pretrain, **table.pretrain}["batch_size"] == (32 if brats else 16)
        for row in table.methods:
            method = recipe.methods[row]
            if method.method in ("pcl", "jcl"):
                assert method.method_settings.get("threshold", 0.1) == (0.05 if brats else 0.1)
    for said in ("10 here", "best on the test cases", "weights are scored", "two GPUs", "(`unit`"):
        assert said in " ".join(recipe.notes.split()), said


@pytest.mark.parametrize("name", [name for name in built_in() if name.startswith(("small", "few"))])
def test_recipes_of_our_own_have_our_protocol(name):
    recipe = recipe_of(name)
    assert (recipe.folds, recipe.unit, "weight_decay" in recipe.finetune) == (5, "case", False)


def test_they_are_listed_and_printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    show_recipes()
    lines = capsys.readouterr().out.splitlines()
    for name in built_in():
        assert any(re.match(rf"{name}\s+\d+\s+\d+\s+\S", line) for line in lines), name
    assert lines.index(next(line for line in lines if line.startswith("table10"))) == len(lines) - 2
    show_recipes("small_chaos")
    assert capsys.readouterr().out == built_in()["small_chaos"].read_text()
    with pytest.raises(UsageError, match="no recipe 'table11'; there are: dimensions, few_labels, journal_backbones, "):
        show_recipes("table11")


BEFORE = """
title = "As small_table1 was then"
[stores.la2018]
store = "la2018"
[pretrain]
width = 8
steps = 600
precision = "float32"
compile = "off"
[finetune]
steps = 400
precision = "float32"
compile = "off"
[methods.Random]
method = "none"
[methods.SimCLR]
method = "simclr"
[[tables]]
name = "t"
title = "T"
methods = ["Random", "SimCLR"]
pretrain_on = ["la2018"]
finetune_on = "la2018"
patients = [1]
"""
DIGEST = "0dc6148c5e0455fcc35ff23e3077a832189e6916926e7badeee5fbc728edaf53"
KEYS = {
    "la2018-random-m1-f0-s0": "cd632dec1759a2a6",
    "la2018-simclr": "4b13763dfea96d8d",
    "la2018-simclr-m1-f0-s0": "0d19d7c5502f854c",
}
"""Digests in a plan.json of that recipe and store, written when `jcl finetune` did not know `label_noise` yet."""


@pytest.mark.parametrize("noise", [None, 0, 0.0, 0.1])
def test_a_setting_that_is_new_leaves_old_digests_as_they_were(noise, tmp_path):
    """Once the recipe is named that was the only one then."""
    path = tmp_path / "before.toml"
    before = BEFORE.replace("[finetune]", '[finetune]\nrecipe = "paper"')
    path.write_text(before if noise is None else before.replace("[finetune]", f"[finetune]\nlabel_noise = {noise}"))
    store = StoreInfo(name="la2018", path="", digest=DIGEST, class_names=())
    found = {
        task.label: task.key for task in make_plan(read_recipe(path), {"la2018": store}).tasks if task.label in KEYS
    }
    changed = {label for label in KEYS if found[label] != KEYS[label]}
    assert changed == ({label for label in KEYS if label.endswith("s0")} if noise == 0.1 else set())
