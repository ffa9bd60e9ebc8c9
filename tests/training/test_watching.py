"""Watched cases: pictures in TensorBoard, the same weights, and whose they are."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jcl.config import FinetuneConfig, PretrainConfig
from jcl.errors import UsageError
from jcl.files import read_json
from jcl.stages.finetune import finetune
from jcl.stages.pretrain import pretrain
from jcl.training.run_folder import read_model

SMALL = {"width": 2, "steps": 4, "batch_size": 4, "precision": "float32", "kernels": "off", "compile": "off"}


def pictures(run, name: str) -> list[int]:
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    return [each.step for each in board.Images(name)] if name in board.Tags()["images"] else []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_pictures_are_drawn_and_nothing_else_changes(store_path, tmp_path, kind):
    if kind == "pretrain":
        run, name = pretrain, "similarity"
        make = lambda **more: PretrainConfig(  # noqa: E731
            stores=(store_path,), method_settings={"projection": 8, "blocks": 1}, **SMALL, **more
        )
    else:
        run, name = finetune, "predictions"
        make = lambda **more: FinetuneConfig(store=store_path, init="none", patients=2, **SMALL, **more)  # noqa: E731
    plain = run(make(out=tmp_path / "plain"))
    watched = run(make(out=tmp_path / "watched", watch_every=3))
    assert pictures(plain, name) == []
    assert pictures(watched, name) == [3, 4]
    wanted, found = read_model(plain), read_model(watched)
    assert all(found[key].equal(wanted[key]) for key in wanted)
    again = run(make(out=tmp_path / "watched", watch_every=0, resume=True))  # no other run by this
    assert again == watched


@pytest.mark.slow
def test_test_patients_are_shown_only_where_they_are_named(store_path, tmp_path, capsys):
    settings = {"store": store_path, "init": "none", "patients": 2, "watch_every": 4, **SMALL}
    finetune(FinetuneConfig(out=tmp_path / "run", **settings))
    assert "though tested" not in capsys.readouterr().err
    tested = read_json(tmp_path / "run" / "split.json")["test"][0]
    finetune(FinetuneConfig(out=tmp_path / "named", watch=(tested,), **settings))
    assert f"watched, though tested: {tested}; they are shown and not trained on" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"--watch nobody: no patient of .* has this name"):
        finetune(FinetuneConfig(out=tmp_path / "none", watch=("nobody",), **settings))
    with pytest.raises(UsageError, match="--watch says whose pictures"):
        finetune(FinetuneConfig(out=tmp_path / "none", **{**settings, "watch": ("p0",), "watch_every": 0}))
