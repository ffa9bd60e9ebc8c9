"""MLflow: real trainings against a real server on the loopback interface."""

import json
from pathlib import Path

import pytest

from jcl.config import FinetuneConfig, PretrainConfig
from jcl.errors import Interrupted, UsageError
from jcl.files import read_json
from jcl.stages import finetune as fine
from jcl.stages import pretrain as pre
from jcl.training.run_folder import read_model
from support.mlflowserver import mlflow_server

pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'jcl-seg[mlflow]'")
pytest.importorskip("flask", reason="flask is not installed, without which MLflow has no server: pip install flask")

SMALL = {"width": 2, "steps": 20, "batch_size": 4, "precision": "float32", "kernels": "off", "compile": "off"}
METHOD = {"method_settings": {"projection": 8, "blocks": 1}}
QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trainings_reach_a_server_go_on_there_and_outlive_it(store_path, tmp_path, monkeypatch, capsys):
    from mlflow import MlflowClient

    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    with mlflow_server(tmp_path / "server") as (address, server):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "hearts")
        client = MlflowClient(address)

        # a pre-training that is stopped, and goes on in the same run
        settings = {"stores": (store_path,), "tracker": ("mlflow",), "watch_every": 10, **SMALL, **METHOD}
        out = tmp_path / "pre"
        with pytest.MonkeyPatch.context() as patch:
            _stop_after(patch, 12)
            with pytest.raises(Interrupted):
                pre.pretrain(PretrainConfig(out=out, **settings))
        run_id = read_json(out / "trackers.json")["mlflow"]
        assert client.get_run(run_id).info.status == "KILLED"
        pre.pretrain(PretrainConfig(out=out, resume=True, **settings))
        assert read_json(out / "trackers.json")["mlflow"] == run_id
        experiment = client.get_experiment_by_name("hearts")
        (run,) = client.search_runs([experiment.experiment_id])
        assert (run.info.run_id, run.info.status, run.info.run_name) == (run_id, "FINISHED", "pre")
        assert run.data.params["method"] == "jcl"
        assert run.data.params["method_settings.projection"] == "8"
        assert "stores" not in run.data.params
        recorded = read_json(out / "run.json")
        assert run.data.tags["jcl.digest.stores"] == recorded["stores"][0]["digest"]
        assert run.data.tags["jcl.versions.jcl"] == recorded["versions"]["jcl"]
        found = {m.step: m.value for m in client.get_metric_history(run_id, "loss")}
        assert found == pytest.approx({line["step"]: line["loss"] for line in lines(out)}, rel=1e-5)
        assert {m.step for m in client.get_metric_history(run_id, "learning_rate")} == set(found)
        names = [file.path for file in client.list_artifacts(run_id, "images")]
        assert any("views" in name for name in names)
        assert any("similarity" in name and "20" in name for name in names)

        # the server goes away in the middle of a fine-tuning, which does not wait for it
        fine_settings = {"store": store_path, "init": "none", "patients": 2, "watch_every": 10, **SMALL}
        alone = fine.finetune(FinetuneConfig(out=tmp_path / "alone", **fine_settings))
        with pytest.MonkeyPatch.context() as patch:
            _at_step(patch, 5, lambda: (server.kill(), server.wait()))
            watched = FinetuneConfig(out=tmp_path / "gone", tracker=("mlflow",), **fine_settings)
            capsys.readouterr()
            gone = fine.finetune(watched)
        said = [line for line in capsys.readouterr().err.splitlines() if "mlflow" in line]
        assert len(said) == 1
        assert said[0].startswith(f"warning: {gone}: mlflow does not get all of it")
        assert [line["step"] for line in lines(gone)] == [10, 20]
        wanted, weights = read_model(alone), read_model(gone)
        assert all(weights[name].equal(wanted[name]) for name in wanted)

        # and at the start it is an error, before anything is written
        with pytest.raises(UsageError, match=r"--tracker mlflow: the server at http.* start it"):
            fine.finetune(FinetuneConfig(out=tmp_path / "never", tracker=("mlflow",), **fine_settings))
        assert not (tmp_path / "never").exists()


def _at_step(patch: pytest.MonkeyPatch, step: int, do) -> None:
    """Have something happen after a step of whatever training runs."""
    from jcl.training import session

    real = session.save_or_stop

    def hooked(checkpointer, stop, done: int) -> None:
        if done == step:
            do()
        real(checkpointer, stop, done)

    patch.setattr(session, "save_or_stop", hooked)


def _stop_after(patch: pytest.MonkeyPatch, step: int) -> None:
    """Stop a training as Ctrl-C does."""
    from jcl.training import session

    real = session.save_or_stop

    def hooked(checkpointer, stop, done: int) -> None:
        stop.asked = stop.asked or done == step
        real(checkpointer, stop, done)

    patch.setattr(session, "save_or_stop", hooked)


def test_without_an_address_it_is_said_what_to_set(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from jcl.training.trackers.chosen import check_trackers

    with pytest.raises(UsageError, match="MLFLOW_TRACKING_URI is not set; set it to a server's address"):
        check_trackers(("mlflow",))
