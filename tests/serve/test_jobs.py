"""One queue: who waits, who is taken, and what is forgotten when."""

from pathlib import Path

import pytest

from jcl.data.geometry import Geometry
from jcl.serve import jobs as module
from jcl.serve.jobs import Jobs, State
from jcl.serve.refusal import Refusal
from jcl.serve.segmenting import Segmented


def done_with(folder: Path) -> Segmented:
    geometry = Geometry((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0,) * 9, ".nii", (0, 1, 2), (False,) * 3)
    return Segmented(folder / "a.nii", (folder / "a.nii",), geometry, (), None)


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(tmp_path: Path, clock: Clock) -> Jobs:
    return Jobs(tmp_path, most=2, forget_seconds=10, now=clock)


def test_first_come_first_served_and_no_more_than_may_wait(jobs: Jobs) -> None:
    first, second = (jobs.open(name, ".nii", hold=False) for name in "ab")
    assert jobs.take(0) is None  # not received yet
    with pytest.raises(Refusal) as refused:
        jobs.open("c", ".nii", hold=False)
    assert refused.value.status == 503
    assert int(refused.value.headers["Retry-After"]) > 0
    jobs.submit(second)
    jobs.submit(first)
    assert jobs.take(0) is first
    assert [jobs.position(job) for job in (first, second)] == [0, 1]
    third = jobs.open("c", ".nii", hold=False)  # the one that runs does not wait
    jobs.submit(third)
    assert jobs.position(third) == 2
    assert {job.folder.stat().st_mode & 0o77 for job in (first, second)} <= {0o55}  # the room above is private


def test_names_of_jobs_cannot_be_guessed(jobs: Jobs) -> None:
    numbers = [jobs.open("a", ".nii", hold=False).id for _ in range(2)]
    assert numbers[0] != numbers[1]
    assert all(len(number) >= 20 for number in numbers)
    for other in ("", "..", "../a", numbers[0][:-1], "a"):
        with pytest.raises(Refusal):
            jobs.get(other)


def test_what_nobody_asks_for_is_forgotten_with_its_files(tmp_path: Path, jobs: Jobs, clock: Clock) -> None:
    job = jobs.open("a", ".nii", hold=True)
    job.upload.write_bytes(b"scan")
    jobs.submit(job)
    jobs.take(0)
    clock.time = 100.0
    jobs.forget()
    assert jobs.get(job.id) is job  # it runs: nobody forgets it
    jobs.end(job, done_with(tmp_path))
    clock.time = 109.0
    jobs.get(job.id)
    clock.time = 118.0
    jobs.forget()
    assert job.folder.exists()
    clock.time = 120.0
    jobs.forget()
    assert not job.folder.exists()
    with pytest.raises(Refusal):
        jobs.get(job.id)


def test_of_one_that_failed_no_file_stays(jobs: Jobs) -> None:
    job = jobs.open("a", ".nii", hold=False)
    jobs.submit(job)
    jobs.take(0)
    jobs.end(job, None, "a.nii: nothing")
    assert (job.state, job.error, job.folder.exists()) == (State.FAILED, "a.nii: nothing", False)


def test_one_that_runs_is_ended_before_it_is_removed(tmp_path: Path, jobs: Jobs) -> None:
    running, waiting = (jobs.open(name, ".nii", hold=False) for name in "ab")
    for job in (running, waiting):
        jobs.submit(job)
    jobs.take(0)
    for job in (running, waiting):
        jobs.remove(job)
    assert (running.cancelled, running.folder.exists()) == (True, True)
    assert not waiting.folder.exists()
    jobs.end(running, done_with(tmp_path))
    assert (running.state, running.folder.exists()) == (State.CANCELLED, False)
    assert jobs.take(0) is None


def test_no_more_are_remembered_than_there_is_room_for(
    tmp_path: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(module, "MOST_DONE", 2)
    done = []
    for _ in range(3):
        job = jobs.open("a", ".nii", hold=True)
        jobs.submit(job)
        jobs.take(0)
        clock.time += 1
        jobs.end(job, done_with(tmp_path))
        done.append(job)
    clock.time += 1
    jobs.get(done[0].id)
    jobs.forget()
    assert [job.folder.exists() for job in done] == [True, False, True]
