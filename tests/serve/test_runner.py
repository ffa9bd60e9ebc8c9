"""The worker: what it says of failures, and that the queue goes on whatever becomes of a scan."""

from functools import partial
from pathlib import Path

import pytest

from jcl.config import PredictConfig
from jcl.errors import DataError
from jcl.parallel.pool import ProcessPool
from jcl.serve import runner as module
from jcl.serve import segmenting
from jcl.serve.jobs import Job, Jobs, State
from jcl.serve.runner import Runner, without_folders
from support.serving import Served, save_scan, wait_for


def submitted(jobs: Jobs, scan: Path) -> Job:
    job = jobs.open("p1", ".nii", hold=False)
    job.upload.write_bytes(scan.read_bytes())
    jobs.submit(job)
    return job


def test_no_message_names_a_folder_of_the_server(tmp_path: Path) -> None:
    job = Jobs(tmp_path, most=1, forget_seconds=1).open("p1", ".nii", hold=False)
    for path, shown in ((job.upload, "p1.nii"), (job.task.folder / "p1.nii", "p1.nii"), (job.upload.parent, "p1")):
        assert without_folders(f"{path}: cut\nshort", job) == f"{shown}: cut short"
    job.source = job.folder / "unpacked" / "p1"
    assert (
        without_folders(f"{job.source / 'a' / '1.dcm'}: cut; {job.source}: 2 scans", job) == "a/1.dcm: cut; p1: 2 scans"
    )


def test_a_fault_is_told_where_the_server_runs_and_the_queue_goes_on(
    served: Served, a_scan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(task: segmenting.Task) -> None:
        raise ValueError(f"secret of {task.folder}")

    with monkeypatch.context() as patch:
        patch.setattr(module, "segment", fault)
        error = served.client.get(f"/api/jobs/{served.segmented(a_scan)}").json()["error"]
    assert error == "a fault of the server, which says more where it runs"
    assert "secret of" in capsys.readouterr().err
    assert served.client.get(f"/api/jobs/{served.segmented(a_scan)}").json()["state"] == "done"


def test_a_share_that_is_done_is_read_while_it_is(
    served: Served, a_scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jcl.inference import segment_scan as module

    seen = []
    real = module.segment_scan

    def segment_scan(scan, work, within):
        def told(share: float) -> None:
            within(share)
            (job,) = served.service.jobs.jobs.values()
            seen.append((share, job.share))

        return real(scan, work, told)

    monkeypatch.setattr(module, "segment_scan", segment_scan)
    served.segmented(a_scan)
    assert [share for share, _ in seen] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert all(share == read for share, read in seen)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_that_is_ended_dies_or_takes_too_long_costs_its_scan_alone(run: Path, tmp_path: Path) -> None:
    room, scan = tmp_path / "room", save_scan(tmp_path / "p1.nii")
    (room / "scratch").mkdir(parents=True)
    settings = PredictConfig(run=run, source=room, out=room, precision="float32")
    pool = ProcessPool([partial(segmenting.setup, settings, room / "scratch")], ["jcl.inference.segment_scan"])
    jobs = Jobs(room, most=5, forget_seconds=600)
    runner = Runner(jobs, pool)
    runner.start()
    try:
        first = submitted(jobs, scan)
        wait_for(lambda: first.state is State.DONE)
        (room / "scratch" / "left").write_text("part of a scan")

        process = pool.workers[0].process  # type: ignore[union-attr]
        process.kill()
        process.join()
        again = submitted(jobs, scan)  # a process that died with nothing to do is begun anew
        wait_for(lambda: again.state is State.DONE)

        pool.seconds = 0.0
        late = submitted(jobs, scan)
        wait_for(lambda: late.state is State.FAILED)
        assert late.error.startswith("p1: it took longer than")
        assert not list((room / "scratch").iterdir())
        pool.seconds = 600.0

        unwanted = jobs.open("p1", ".nii", hold=False)
        unwanted.upload.write_bytes(scan.read_bytes())
        unwanted.cancelled = True
        jobs.submit(unwanted)
        wait_for(lambda: unwanted.state is State.CANCELLED)
        assert not unwanted.folder.exists()

        last = submitted(jobs, scan)
        wait_for(lambda: last.state is State.DONE)
        assert last.result is not None
        assert last.result.result.read_bytes() == first.result.result.read_bytes()  # type: ignore[union-attr]
    finally:
        runner.finish()
        pool.close()


def test_errors_of_the_run_come_from_the_process_as_they_are(tmp_path: Path) -> None:
    before = segmenting._settings, segmenting._work
    try:
        segmenting.setup(PredictConfig(run=tmp_path / "none", source=tmp_path, out=tmp_path))
        with pytest.raises(DataError, match="none"):
            segmenting.describe()
    finally:
        segmenting._settings, segmenting._work = before
