"""`jcl serve`: load a run in a process of its own, and answer a browser until somebody says stop."""

import contextlib
import importlib.util
import ipaddress
import socket
import sys
from functools import partial

from jcl.config import PredictConfig, ServeConfig
from jcl.errors import DataError, UsageError
from jcl.files import write_error
from jcl.limits import check_numbers
from jcl.parallel.pool import Lost, ProcessPool
from jcl.parallel.progress import at_work
from jcl.serve import segmenting
from jcl.serve.room import private_room, scratch_files, scratch_of
from jcl.text import printable

__all__ = ["serve"]

NEEDED = ("fastapi", "uvicorn", "python_multipart")
INSTALL = "a server needs more packages: pip install 'jcl-seg[serve]'"
OPEN = "other machines reach this server, and nothing is encrypted: whoever listens in sees scans and token"
WAITING = 128
"""Connections that the system lets wait."""


def serve(config: ServeConfig) -> None:
    """Answer a browser, until a signal comes. Uploads lie in a private folder, which is removed at the end.

    Raises:
        UsageError: packages are missing, the address cannot be used, or others would reach it and nobody allowed that.
        DataError: the run cannot be read.
    """
    check_numbers(config)
    if not all(importlib.util.find_spec(name) for name in NEEDED):
        raise UsageError(INSTALL)
    check_host(config)
    check_keep(config)
    for run in config.runs:
        if not run.exists():  # said at once, and not when the network's process has begun
            raise DataError(f"{run}: no such run; check its name")
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(contextlib.closing(listen(config)))
        room = stack.enter_context(private_room())
        settings = PredictConfig(
            run=config.runs, source=room, out=room, batch_size=config.batch_size, precision=config.precision,
            devices=config.devices, tta=config.tta, mirror=config.mirror, postprocess=config.postprocess,
            trust_code=config.trust_code,
        )  # fmt: skip
        setup = partial(segmenting.setup, settings, scratch_of(room))
        pool = ProcessPool([setup], ["jcl.inference.segment_scan"], seconds=60 * config.job_minutes)
        stack.callback(pool.close)
        classes = ask(pool)
        stack.enter_context(scratch_files(room))  # not above: processes have their own there, to the very end
        # not above: they load what is only needed here
        from jcl.serve.app import make_app
        from jcl.serve.guard import Access
        from jcl.serve.runner import Runner
        from jcl.serve.server import run_server
        from jcl.serve.service import make_service

        access = Access(config.host, listening.getsockname()[1])
        service = make_service(config, classes, room)
        runner = Runner(service.jobs, pool)
        app = make_app(service, access)
        runner.start()
        stack.callback(runner.finish)
        announce(config, access.address)
        run_server(app, listening)
    print("jcl serve: ended; every scan that was sent is removed", file=sys.stderr, flush=True)


def check_host(config: ServeConfig) -> None:
    """See that nobody else reaches the address, unless that was asked for.

    Raises:
        UsageError: somebody does.
    """
    if config.allow_remote or is_loopback(config.host):
        return
    raise UsageError(
        f"--host {config.host} is reached by other machines, and nothing is encrypted; from elsewhere use a "
        "tunnel (ssh -L), or give --allow-remote too"
    )


def check_keep(config: ServeConfig) -> None:
    """Make the folder of kept cases.

    Raises:
        UsageError: it has a list of its own of its cases, so that others beside them would not be seen.
        WriteError: it cannot be made.
    """
    if config.keep is None:
        return
    if (config.keep / "dataset.json").exists():
        raise UsageError(
            f"--keep {config.keep}: its dataset.json says which cases it has, and others would not be seen; "
            "give a folder of its own"
        )
    try:
        config.keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(config.keep, error) from error


def is_loopback(host: str) -> bool:
    """Whether an address leads to this machine alone."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def listen(config: ServeConfig) -> socket.socket:
    """A socket at the address.

    Raises:
        UsageError: it is taken, or not one of this machine.
    """
    try:
        (family, _, _, _, place) = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(place[0]), config.port), family=family, backlog=WAITING)
    except OSError as error:
        raise UsageError(
            f"--host {config.host} --port {config.port}: cannot listen there ({error.strerror or error}); "
            "give another --port (0: one that is free)"
        ) from error


def ask(pool: ProcessPool) -> segmenting.Classes:
    """What the run segments; its process has the network then.

    Raises:
        UsageError: the process died.
        JclError: the run cannot be read.
    """
    with at_work("loading the run"):
        pool.start("describe", segmenting.describe)
        while not (ended := pool.wait(1.0)):
            pass
    ((_, future),) = ended
    try:
        return future.result()
    except Lost as error:
        raise UsageError(f"the run could not be loaded: {error}") from error


def announce(config: ServeConfig, address: str) -> None:
    """Say where the page is, and what is kept."""
    if not is_loopback(config.host):
        print(f"jcl: warning: {OPEN}", file=sys.stderr, flush=True)
    kept = f"kept cases go to {config.keep}" if config.keep else "no scan is kept"
    print(printable(f"jcl serve: {kept}; Ctrl-C ends it"), file=sys.stderr, flush=True)
    print(address, flush=True)
