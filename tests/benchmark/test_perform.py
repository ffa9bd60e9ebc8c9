"""One task: what it leaves behind, and how it ends when something is wrong."""

import json
import shutil
from pathlib import Path

from filelock import FileLock

from jcl.benchmark.folder import DONE, FAILED, LOCK, LOG, RESULTS, RUN, TASK, task_folder
from jcl.benchmark.perform import Outcome, run_task
from jcl.data.authors_folds import draw_few, draw_fold
from jcl.files import read_json
from jcl.training.blocks import FOREGROUND
from jcl.training.run_folder import load_network
from support.benchmark_folder import make_bench


def test_a_pretraining_and_a_finetuning_from_it(bench, capsys):
    first, second = bench.task("ball-jcl"), bench.task("ball-jcl-m2-f1-s0")
    for task in (first, second):
        outcome = run_task(bench.out, task, bench.stores, 1)
        assert (outcome.status, outcome.error) == ("done", None)
        folder = task_folder(bench.out, task.id)
        assert {p.name for p in folder.iterdir()} - {RESULTS} == {TASK, RUN, LOG, DONE, LOCK}
        assert not (folder / RUN / "checkpoints").exists()
        assert (folder / RUN / "log.jsonl").is_file()
        done = read_json(folder / DONE)
        assert (done["key"], done["code"], done["attempt"]) == (task.key, task.code, 1)
        assert 0 < done["seconds"] < 300
        assert read_json(folder / TASK)["settings"] == json.loads(json.dumps(task.settings))
    assert capsys.readouterr() == ("", "")  # it is in the log
    folder = task_folder(bench.out, second.id)
    assert "88 tensors loaded" in (folder / LOG).read_text()  # from the pre-training
    _, info = load_network(folder / RUN)
    results = read_json(folder / RESULTS)
    assert results["split"]["train"] == read_json(folder / RUN / "split.json")["train"]
    assert len(results["split"]["train"]) == 2
    assert len(results["split"]["test"]) == len(results["cases"]) == 2  # a third of six patients
    assert info["settings"]["fold"] == 1


def test_the_authors_protocol_from_the_recipe_to_the_scores(scans, tmp_path):
    bench = make_bench(
        scans,
        tmp_path,
        ("folds = 3", 'folds = "authors"\nunit = "pooled"'),
        ("[finetune]\nsteps = 3", "[finetune]\nsteps = 3\nweight_decay = 1e-5\nbatch_size = 2"),
    )
    task = bench.task("ball-random-m2-f1-s0")
    outcome = run_task(bench.out, task, bench.stores, 1)
    assert (outcome.status, outcome.error) == ("done", None)
    folder = task_folder(bench.out, task.id)
    results = read_json(folder / RESULTS)
    train, test = draw_fold([f"p{number}" for number in range(6)], 1)
    assert results["split"] == {"train": draw_few(train, 2), "validation": [], "test": test}
    assert (results["unit"], results["pooled"]["batch_size"], results["pooled"]["slices"]) == ("pooled", 2, 6)
    assert read_json(folder / RUN / "run.json")["settings"]["weight_decay"] == 1e-5


def test_a_row_of_three_dimensions(scans, tmp_path):
    """As `jcl pretrain`, `jcl finetune` and `jcl evaluate` make it, and beside rows of slices."""
    blocks = 'backbone = "unet3d"\npretrain = { block = [8, 16, 16] }\nfinetune = { batch_size = 2 }'
    bench = make_bench(scans, tmp_path, ('method = "jcl"', f'method = "jcl"\n{blocks}'))
    for label in ("ball-jcl", "ball-jcl-m2-f0-s0"):
        outcome = run_task(bench.out, bench.task(label), bench.stores, 1)
        assert (outcome.status, outcome.error) == ("done", None)
    folder = task_folder(bench.out, bench.task("ball-jcl-m2-f0-s0").id)
    info = read_json(folder / RUN / "run.json")
    assert (info["backbone"]["name"], info["recipe"]["block"]) == ("unet3d", [8, 16, 16])
    assert info["settings"]["foreground"] == FOREGROUND
    assert len(read_json(folder / RESULTS)["cases"]) == 2


def test_a_task_that_is_done_is_not_done_again(bench):
    task = bench.task("ball-random-m1-f0-s0")
    assert run_task(bench.out, task, bench.stores, 1).seconds > 0
    before = (task_folder(bench.out, task.id) / DONE).read_bytes()
    assert run_task(bench.out, task, bench.stores, 1) == Outcome("done")
    assert (task_folder(bench.out, task.id) / DONE).read_bytes() == before


def test_what_a_killed_process_was_writing_is_in_nobodys_way(bench):
    """Of its run folder, too, in which there may be nothing else yet."""
    task = bench.task("ball-random-m1-f1-s0")
    folder = task_folder(bench.out, task.id)
    (folder / RUN).mkdir(parents=True)
    left = [folder / f".{TASK}.4711.tmp", folder / RUN / ".run.json.4711.tmp", folder / RUN / ".lock.json"]
    for path in left:
        path.write_text('{"pid": 4711')
    assert run_task(bench.out, task, bench.stores, 1).status == "done"
    assert not any(path.exists() for path in left)


def test_a_task_that_another_process_works_on_is_left_to_it(bench):
    task = bench.task("ball-random-m1-f0-s0")
    folder = task_folder(bench.out, task.id)
    folder.mkdir(parents=True)
    with FileLock(folder / LOCK):
        assert run_task(bench.out, task, bench.stores, 1) == Outcome("busy")
    assert [path.name for path in folder.iterdir()] == [LOCK]


def test_a_failure_is_written_down_and_gone_when_it_succeeds(bench):
    task = bench.task("ball-jcl-m1-f0-s0")  # its pre-training is not there
    outcome = run_task(bench.out, task, bench.stores, 1)
    folder = task_folder(bench.out, task.id)
    assert outcome.status == "failed"
    assert "no such folder" in (outcome.error or "")
    record = read_json(folder / FAILED)
    assert record["error"] == outcome.error
    assert "Traceback" in record["traceback"]
    assert not (folder / DONE).exists()
    run_task(bench.out, bench.task("ball-jcl"), bench.stores, 1)
    assert run_task(bench.out, task, bench.stores, 2).status == "done"
    assert not (folder / FAILED).exists()
    assert read_json(folder / DONE)["attempt"] == 2


def test_a_store_that_is_gone_is_a_failure(bench):
    shutil.rmtree(bench.out / "stores" / "ball")
    outcome = run_task(bench.out, bench.task("ball-jcl"), bench.stores, 1)
    assert outcome.status == "failed"
    assert "stores/ball" in (outcome.error or "")


def test_a_setting_that_cannot_be_used_is_not_worth_another_attempt(scans: Path, tmp_path: Path):
    bench = make_bench(scans, tmp_path, ('method = "moco"', 'method = "moco"\nmethod_settings = { queue = -1 }'))
    outcome = run_task(bench.out, bench.task("ball-moco"), bench.stores, 1)
    assert (outcome.status, outcome.final) == ("failed", True)
    assert "queue is -1" in (outcome.error or "")
