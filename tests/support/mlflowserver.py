"""A real MLflow server on the loopback interface, with a database and artifacts below a folder."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 240.0
"""It imports much, and other tests run beside it."""

SERVE = """
import os, sys
folder, port = sys.argv[1:]
from mlflow import server
os.environ[server.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{folder}/mlflow.db"
os.environ[server.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
os.environ[server.ARTIFACTS_DESTINATION_ENV_VAR] = f"{folder}/artifacts"
os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(port), server.app, threaded=True)
"""
"""The server's own application, without what its command has for language models, which needs far more."""


@contextmanager
def mlflow_server(folder: Path) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """Context of a server; its address, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    folder.mkdir(exist_ok=True)
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(folder), str(port)], stderr=log, stdout=log, text=True, env=quiet
        )
        try:
            _wait(f"{address}/health", process, folder / "server.log")
            yield address, process
        finally:
            process.kill()
            process.wait()


def _wait(address: str, process: subprocess.Popen[str], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
