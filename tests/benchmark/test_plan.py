"""Every training once, in an order that is of use when it stops early."""

from pathlib import Path

import pytest

from jcl.benchmark import plan as planning
from jcl.benchmark.plan import Task, make_plan
from jcl.errors import UsageError
from jcl.training.blocks import FOREGROUND
from support.tinyrecipes import plan_of, tiny


def by_label(tasks: tuple[Task, ...]) -> dict[str, Task]:
    return {task.label: task for task in tasks}


def test_a_training_that_several_cells_need_is_one_task(tmp_path: Path):
    plan = plan_of(tmp_path)
    kinds = [task.kind for task in plan.tasks]
    # two pre-trainings for all folds; three rows x two columns x two folds, and table two has nothing of its own
    assert (kinds.count("pretrain"), kinds.count("finetune"), len(plan.cells)) == (2, 12, 14)
    shared = [cell.task for cell in plan.cells if (cell.row, cell.column, cell.fold) == ("JCL", "M=2", 1)]
    assert len(shared) == 2
    assert len(set(shared)) == 1


def test_what_a_task_starts_from_comes_before_it(tmp_path: Path):
    plan = plan_of(tmp_path)
    places = {task.id: place for place, task in enumerate(plan.tasks)}
    assert len(places) == len(plan.tasks)
    for task in plan.tasks:
        assert (task.needs is None) == (task.kind == "pretrain" or "random" in task.label)
        if task.needs:
            assert places[task.needs] < places[task.id]


def test_a_benchmark_that_stops_early_has_whole_tables_of_fewer_folds(tmp_path: Path):
    tasks = [task for task in plan_of(tmp_path).tasks if task.kind == "finetune"]
    assert [task.settings["fold"] for task in tasks] == [0] * 6 + [1] * 6


def test_without_the_test_patients_there_is_a_pretraining_a_fold(tmp_path: Path):
    plan = plan_of(tmp_path, ("folds = 3\n", 'folds = 3\nunlabelled = "training"\n'))
    pretrainings = [task for task in plan.tasks if task.kind == "pretrain"]
    assert [task.settings["fold"] for task in pretrainings] == [0, 0, 1, 1]
    needs = {task.label: task.needs for task in plan.tasks if task.kind == "finetune"}
    assert needs["ball-jcl-m1-f0-s0"] != needs["ball-jcl-m1-f1-s0"]
    assert needs["ball-jcl-m1-f0-s0"] == needs["ball-jcl-m2-f0-s0"]


def test_a_fixed_split_is_one_fold(tmp_path: Path):
    plan = plan_of(tmp_path, ("patients = [1, 2]", 'splits = { "10%" = "msd_hippocampus_21" }'))
    assert [(c.column, c.fold) for c in plan.cells if c.table == "one"] == [("10%", 0)] * 3
    task = by_label(plan.tasks)["ball-jcl-10_-f0-s0"]
    assert (task.settings["split"], task.settings["patients"]) == ("msd_hippocampus_21", None)


def test_random_weights_have_the_network_of_the_others(tmp_path: Path):
    tasks = by_label(plan_of(tmp_path).tasks)
    assert tasks["ball-random-m1-f0-s0"].settings["width"] == 2
    assert tasks["ball-random-m1-f0-s0"].settings["backbone"] == "unet"
    assert tasks["ball-jcl-m1-f0-s0"].settings["width"] is None  # that of its pre-training


def test_a_methods_own_settings_go_to_both_stages(tmp_path: Path):
    row = 'method = "moco"\nbackbone = "attention_unet"\nwidth = 4\npretrain = { steps = 9 }\nfinetune = { steps = 8 }'
    tasks = by_label(plan_of(tmp_path, ('method = "moco"', row)).tasks)
    assert {k: tasks["ball-moco"].settings[k] for k in ("backbone", "width", "steps")} == {
        "backbone": "attention_unet",
        "width": 4,
        "steps": 9,
    }
    assert tasks["ball-moco-m1-f0-s0"].settings["steps"] == tasks["ball-moco-m1-f0-s0"].steps == 8
    assert tasks["ball-jcl"].steps == 3


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("[finetune]\nsteps = 3", "[finetune]\nsteps = 3\nworkers = 2\ncheckpoint_minutes = 1.0", True),
        ("[finetune]\nsteps = 3", "[finetune]\nsteps = 3\nlearning_rate = 1e-3", True),  # the default, said
        ("[finetune]\nsteps = 3", "[finetune]\nsteps = 3\nweight_decay = 0.0", True),
        ("[finetune]\nsteps = 3", "[finetune]\nsteps = 3\ntracker = ['mlflow']\nwatch_every = 5", True),
        ("[finetune]\nsteps = 3", "[finetune]\nsteps = 3\nweight_decay = 1e-5", False),
        ("folds = 3", 'folds = 3\nunit = "case"', True),
        ("folds = 3", 'folds = 3\nunit = "pooled"', False),
        ("folds = 3", 'folds = "authors"', False),
        ("[finetune]\nsteps = 3", "[finetune]\nsteps = 4", False),
        ("[pretrain]\nwidth = 2", "[pretrain]\nwidth = 4", False),
        ("run_folds = [0, 1]", "run_folds = [0, 1]\nseeds = [1]", False),
    ],
)
def test_what_changes_no_result_makes_no_new_task(tmp_path: Path, old: str, new: str, same: bool):
    before, after = plan_of(tmp_path), plan_of(tmp_path, (old, new))
    jcl = [next(t.id for t in plan.tasks if t.kind == "finetune" and "jcl" in t.id) for plan in (before, after)]
    assert (jcl[0] == jcl[1]) == same


def test_every_task_has_a_key_of_its_own_and_a_seed_is_part_of_it(tmp_path: Path):
    """Not only the name of its folder: the key is what a result is known by."""
    plan = plan_of(tmp_path, ("run_folds = [0, 1]", "run_folds = [0, 1]\nseeds = [0, 1]"))
    of_one = [t.key for t in plan.tasks if t.kind == "finetune" and t.label.startswith("ball-jcl-m1-f0")]
    assert len(set(of_one)) == len(of_one) == 2
    keys = [t.key for p in (plan, plan_of(tmp_path, ("run_folds", "pretrain_seed = 1\nrun_folds"))) for t in p.tasks]
    pretrainings = [t.key for t in plan.tasks if t.kind == "pretrain"]
    assert all(keys.count(key) == 1 for key in pretrainings)


def test_every_seed_may_have_pretrainings_of_its_own(tmp_path: Path):
    """That of seed 0 is the one that all seeds share otherwise, so what is done stays done."""
    seeds = ("run_folds = [0, 1]", "run_folds = [0, 1]\nseeds = [0, 1]")
    shared = plan_of(tmp_path, seeds)
    each = plan_of(tmp_path, (seeds[0], f'{seeds[1]}\npretrain_seed = "each"'))
    labels = [task.label for task in each.tasks if task.kind == "pretrain"]
    assert labels == ["ball-jcl-s0", "ball-moco-s0", "ball-jcl-s1", "ball-moco-s1"]
    tasks = {task.id: task for task in each.tasks}
    for task in (task for task in each.tasks if task.needs):
        assert tasks[task.needs or ""].settings["seed"] == task.settings["seed"]
    of_seed_0 = [t.key for t in each.tasks if t.settings["seed"] == 0]
    assert of_seed_0 == [t.key for t in shared.tasks if t.kind == "pretrain" or t.settings["seed"] == 0]


def test_settings_of_a_table_are_between_those_of_the_recipe_and_of_a_row(tmp_path: Path):
    """And are other trainings than another table's."""
    second = 'name = "two"\ntitle = "Two"\n'
    own = f"{second}pretrain = {{ batch_size = 8, steps = 5 }}\nfinetune = {{ steps = 6, learning_rate = 0.1 }}\n"
    row = ('method = "jcl"', 'method = "jcl"\nfinetune = { learning_rate = 0.5 }\npretrain = { steps = 7 }')
    plan = plan_of(tmp_path, (second, own), row)
    tasks = {task.id: task for task in plan.tasks}
    fine = {cell.table: tasks[cell.task] for cell in plan.cells if (cell.row, cell.column) == ("JCL", "M=2")}
    assert {name: (t.settings["steps"], t.settings["learning_rate"]) for name, t in fine.items()} == {
        "one": (3, 0.5),
        "two": (6, 0.5),
    }
    before = {name: tasks[task.needs or ""].settings for name, task in fine.items()}
    assert {name: (s["steps"], s["batch_size"]) for name, s in before.items()} == {"one": (7, 4), "two": (7, 8)}


def test_other_data_make_new_tasks(tmp_path: Path):
    changed = {"ball": planning.StoreInfo(name="ball", path="stores/ball", digest="1" * 64, class_names=("ball",))}
    before, after = plan_of(tmp_path), make_plan(tiny(tmp_path), changed)
    assert not {task.key for task in before.tasks} & {task.key for task in after.tasks}


def test_new_code_of_a_method_makes_its_own_runs_new_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = plan_of(tmp_path)
    true = planning.code_digest
    monkeypatch.setattr(planning, "code_digest", lambda m: true(m) + "!" * ("jcl.methods.moco" in m))
    after = plan_of(tmp_path)
    assert [task.key for task in before.tasks] == [task.key for task in after.tasks]
    changed = {a.label for a, b in zip(before.tasks, after.tasks, strict=True) if a.id != b.id}
    assert changed == {task.label for task in before.tasks if "moco" in task.label}
    assert len(changed) == 5


def test_a_method_of_ones_own_is_a_row_whose_runs_depend_on_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "own_method_of_plan.py"
    module.write_text("from jcl.methods.simclr import SimCLR\n\nclass Mine(SimCLR):\n    pass\n")
    own = ('method = "moco"', 'method = "own_method_of_plan:Mine"')
    before = plan_of(tmp_path, own)
    assert any(task.settings["method"] == "own_method_of_plan:Mine" for task in before.tasks if task.kind == "pretrain")
    true = planning.code_digest
    monkeypatch.setattr(planning, "code_digest", lambda m: true(m) + "!" * ("own_method_of_plan" in m))
    after = plan_of(tmp_path, own)
    changed = {a.label for a, b in zip(before.tasks, after.tasks, strict=True) if a.id != b.id}
    assert changed == {task.label for task in before.tasks if "moco" in task.label}
    with pytest.raises(UsageError, match="Yours"):
        plan_of(tmp_path, ('method = "moco"', 'method = "own_method_of_plan:Yours"'))


def test_a_folders_name_is_readable_and_safe(tmp_path: Path):
    plan = plan_of(tmp_path, ('"MoCo"', '"Mo/Co (a, b)"'), ("[methods.MoCo]", '[methods."Mo/Co (a, b)"]'))
    names = [task.id for task in plan.tasks if "mo" in task.id]
    assert names
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-._") for name in names)


def test_rows_see_slices_with_as_many_neighbours_as_their_pre_training(tmp_path: Path):
    """Random weights too, unless their fine-tuning says otherwise; and 0, said, is what was done before."""
    one = ("[pretrain]", "[pretrain]\ncontext = 1")
    before, said, tasks, apart = (
        by_label(plan_of(tmp_path, *changes).tasks)
        for changes in (
            (),
            [("[pretrain]", "[pretrain]\ncontext = 0")],
            [one],
            [one, ('method = "none"', 'method = "none"\nfinetune = { context = 0 }')],
        )
    )
    for name in ("ball-jcl", "ball-jcl-m1-f0-s0", "ball-random-m1-f0-s0"):
        assert before[name].key == said[name].key != tasks[name].key
        effective = [key for key, value in before[name].settings.items() if not unchanged(before[name], key, value)]
        assert "context" not in effective
    assert tasks["ball-jcl"].settings["context"] == 1
    assert tasks["ball-jcl-m1-f0-s0"].settings["context"] is None  # that of its pre-training
    assert tasks["ball-random-m1-f0-s0"].settings["context"] == 1
    assert apart["ball-random-m1-f0-s0"].settings["context"] == 0


IN_3D = (
    ('method = "none"', 'method = "none"\nbackbone = "unet3d"\npretrain = { block = [8, 16, 16] }'),
    ('method = "jcl"', 'method = "jcl"\nbackbone = "unet3d"\npretrain = { block = [8, 16, 16] }'),
)


def test_rows_of_three_dimensions_see_the_blocks_of_their_pre_training_and_those_around_structures(tmp_path: Path):
    before, tasks = by_label(plan_of(tmp_path).tasks), by_label(plan_of(tmp_path, *IN_3D).tasks)
    fine, random = tasks["ball-jcl-m1-f0-s0"].settings, tasks["ball-random-m1-f0-s0"].settings
    assert tasks["ball-jcl"].settings["block"] == [8, 16, 16]
    assert (fine["block"], fine["backbone"]) == (None, None)  # those of its pre-training
    assert (random["block"], random["backbone"], random["width"]) == ([8, 16, 16], "unet3d", 2)
    assert fine["foreground"] == random["foreground"] == FOREGROUND
    assert before["ball-jcl-m1-f0-s0"].settings["foreground"] == 0.0
    assert before["ball-moco-m1-f0-s0"].key == tasks["ball-moco-m1-f0-s0"].key
    asked = ('method = "moco"', 'method = "moco"\nbackbone = "unet3d"\npretrain = { block = [8, 8, 8] }\n'
             "finetune = { foreground = 0.5, block = [16, 16, 16] }")  # fmt: skip
    own = by_label(plan_of(tmp_path, asked).tasks)["ball-moco-m1-f0-s0"].settings
    assert (own["foreground"], own["block"]) == (0.5, [16, 16, 16])


def unchanged(task: Task, name: str, value: object) -> bool:
    return planning._changes_nothing(task.kind, name, value)


def test_techniques_are_settings_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They make other tasks of the fine-tunings alone; without one nothing of a task is new."""
    plain = '[methods.JCL]\nmethod = "jcl"\nfinetune = { semi = "none" }\n\n'
    row = f'{plain}[methods.Semi]\nmethod = "jcl"\n'
    row += 'finetune = { semi = "bcp", semi_settings = { weight = 0.25 } }'
    change = ('[methods.JCL]\nmethod = "jcl"', row), ('"JCL", "MoCo"', '"JCL", "Semi"')
    default = plan_of(tmp_path)
    before, after = plan_of(tmp_path, ('[methods.JCL]\nmethod = "jcl"', plain)), plan_of(tmp_path, *change)
    tasks = by_label(after.tasks)
    assert "ball-semi" not in tasks  # its pre-training is that of JCL
    semi, jcl = tasks["ball-semi-m1-f0-s0"], tasks["ball-jcl-m1-f0-s0"]
    assert (semi.settings["semi"], semi.settings["semi_settings"]) == ("bcp", {"weight": 0.25})
    assert semi.needs == jcl.needs
    assert jcl.key == by_label(before.tasks)["ball-jcl-m1-f0-s0"].key != semi.key
    effective = [name for name in jcl.settings if not planning._changes_nothing("finetune", name, jcl.settings[name])]
    assert not {"semi", "semi_settings", "unlabelled", "unlabelled_batch_size"} & {*effective}
    assert by_label(default.tasks)["ball-jcl-m1-f0-s0"].key not in (jcl.key, semi.key)
    true = planning.code_digest
    monkeypatch.setattr(planning, "code_digest", lambda m: true(m) + "!" * ("jcl.semi.bcp" in m))
    changed = {a.label for a, b in zip(after.tasks, plan_of(tmp_path, *change).tasks, strict=True) if a.id != b.id}
    assert changed == {task.label for task in after.tasks if "semi" in task.label}
