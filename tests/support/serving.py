"""A server of `jcl serve` for tests: its application in this process with a known network, or the program."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import SimpleITK as sitk
from starlette.testclient import TestClient

from jcl.config import PredictConfig, ServeConfig
from jcl.parallel.pool import InProcessPool
from jcl.serve import segmenting
from jcl.serve.app import make_app
from jcl.serve.guard import CSRF, Access
from jcl.serve.runner import Runner
from jcl.serve.server import make_server
from jcl.serve.service import Service, make_service
from support.thresholds import make_recipe_of, threshold_network, write_run

LABELS = {3: "<b>fluid</b>", 7: "bone"}
"""The first name is one that a page must not obey."""

SHAPE = (5, 12, 16)
PORT = 8765


def make_run(folder: Path) -> Path:
    """A run that gives 3 above a third of the intensity, and 7 above two thirds."""
    return write_run(folder, threshold_network(0.335, 0.665), make_recipe_of(LABELS))


def scan(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Whole numbers from 0 to 100, both of which occur; smooth, so that there is something to see."""
    values = np.random.default_rng(seed).integers(0, 101, size=shape).astype(np.int16)
    values.flat[0], values.flat[1] = 0, 100
    return values


def save_scan(path: Path, seed: int = 0, array: np.ndarray | None = None) -> Path:
    """A scan whose axes run elsewhere than those of the slices, with a place of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(scan(seed) if array is None else array)
    image.SetSpacing((0.9, 1.1, 4.0))
    image.SetOrigin((-7.0, 11.0, 5.5))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))
    return path


@cache
def loaded(run: Path) -> segmenting.Classes:
    """What a run segments; it is loaded once in this process."""
    segmenting.setup(PredictConfig(run=run, source=run, out=run, precision="float32", batch_size=4))
    return segmenting.describe()


class Served:
    """An application, its clients and its worker, which works when it is told to."""

    def __init__(self, run: Path, room: Path, *, port: int = PORT, **settings: Any) -> None:
        (room / "scratch").mkdir(parents=True)
        self.config = ServeConfig(run=run, precision="float32", batch_size=4, **settings)
        pool = InProcessPool()
        self.service: Service = make_service(self.config, loaded(run), room)
        self.access = Access("127.0.0.1", port)
        self.app = make_app(self.service, self.access)
        self.runner = Runner(self.service.jobs, pool)
        self.client = self.make_client({"Authorization": f"Bearer {self.access.token}"})

    def make_client(self, headers: dict[str, str] | None = None) -> TestClient:
        return TestClient(
            self.app,
            base_url=f"http://127.0.0.1:{self.access.port}",
            headers=headers,
            raise_server_exceptions=False,  # type: ignore[arg-type]
        )

    def browser(self) -> TestClient:
        """A client that has opened the page: it has the cookie, and the page's own header."""
        client = self.make_client()
        assert client.get(self.access.address).status_code == 200
        client.headers[CSRF] = self.access.csrf
        return client

    def work(self) -> None:
        """Segment all that waits."""
        jobs = self.service.jobs
        while job := jobs.take(0):
            jobs.end(job, *self.runner._segment(job))

    def send(self, path: Path, *, hold: bool = False, name: str | None = None) -> Any:
        name = path.name if name is None else name
        return self.client.post("/api/jobs", params={"name": name, "hold": hold}, content=path.read_bytes())

    def segmented(self, path: Path, *, hold: bool = True, name: str | None = None) -> str:
        """Id of a scan that is sent and segmented."""
        sent = self.send(path, hold=hold, name=name)
        assert sent.status_code == 202, sent.text
        self.work()
        return sent.json()["id"]

    def left(self) -> list[Path]:
        """Files in the room; also while it removes some (`Path.rglob` fails on a folder that goes meanwhile)."""
        return [Path(folder, name) for folder, _, names in os.walk(self.service.room) for name in names]


@contextmanager
def running(run: Path, room: Path, **settings: Any) -> Iterator[Served]:
    """An application that answers at a port of this machine, and works."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served = Served(run, room, port=listening.getsockname()[1], **settings)
        server = make_server(served.app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        served.runner.start()
        try:
            wait_for(lambda: server.started)
            yield served
        finally:
            server.should_exit = True
            thread.join()
            served.runner.finish()


@contextmanager
def started(*arguments: str, temporary: Path, seconds: float = 90) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program itself with a port of its own: its process, and the address that it prints."""
    command = [sys.executable, "-m", "jcl", "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary)}
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.communicate(timeout=10)
        yield process, address
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)


def token_of(address: str) -> str:
    return urlsplit(address).query.removeprefix("token=")


def wait_for(condition: Any, seconds: float = 60) -> Any:
    """What the condition gives once it is true."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it has not come"
        time.sleep(0.05)
    return found
