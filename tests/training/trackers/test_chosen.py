"""Names after `--tracker`, and what is said where one cannot be had."""

import importlib.util

import pytest

from jcl.cli.main import main
from jcl.errors import UsageError
from jcl.training.trackers.chosen import check_trackers


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("mlflow", "wandb"):
        with pytest.raises(UsageError, match=rf"--tracker {name} needs .* pip install 'jcl-seg\[{name}\]'"):
            check_trackers((name,))


def test_an_unknown_one_is_refused():
    with pytest.raises(UsageError, match="--tracker mflow: there are mlflow, wandb; did you mean mlflow"):
        check_trackers(("wandb,mflow",) if importlib.util.find_spec("wandb") else ("mflow",))


def test_given_again_or_with_commas_and_it_takes_no_place(capsys):
    assert (
        main(["pretrain", "--tracker", "mlflow,wandb", "--tracker", "wandb", "store", "--out", "x", "--print-config"])
        == 0
    )
    assert 'tracker = ["mlflow,wandb", "wandb"]\n' in capsys.readouterr().out
