"""The server of HTTP: a slow client is sent away, a signal ends it and leaves nothing behind."""

import asyncio
import logging
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from jcl.serve.guard import Guard
from jcl.signals import handled

__all__ = ["HEADER_SECONDS", "make_server", "run_server"]

HEADER_SECONDS = 10.0
"""That the head of a request may take, from its first byte or from the beginning of the connection."""

MOST_CONNECTIONS = 256
HEAD_BYTES = 1 << 14
END_SECONDS = 2


class TimedProtocol(H11Protocol):
    """HTTP with a limit on how long the head of a request takes: uvicorn waits for ever."""

    waiting: asyncio.TimerHandle | None = None
    cycle: RequestResponseCycle | None  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time begins with the connection."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """It begins again with the first byte of a later request, and ends when a head is complete."""
        super().data_received(data)
        if self._busy():
            self._stop()
        elif self.waiting is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._stop()
        super().connection_lost(exc)

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self.waiting = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop(self) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
            self.waiting = None

    def _give_up(self) -> None:
        self.waiting = None
        if not self._busy():
            self.transport.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """A signal ends the server, a second one at once; none is raised again."""

        def end(number: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

        with handled(end):
            yield


def run_server(app: Guard, listening: socket.socket) -> None:
    """Answer requests until a signal comes."""
    make_server(app).run(sockets=[listening])


def make_server(app: Guard) -> uvicorn.Server:
    """A server that is not running yet."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # faults are shown by the application
    settings: dict[str, Any] = {
        "log_config": None, "access_log": False, "server_header": False, "lifespan": "off", "ws": "none",
        "proxy_headers": False, "http": TimedProtocol, "limit_concurrency": MOST_CONNECTIONS,
        "h11_max_incomplete_event_size": HEAD_BYTES, "timeout_graceful_shutdown": END_SECONDS, "timeout_keep_alive": 15,
    }  # fmt: skip
    return _Server(uvicorn.Config(app, **settings))
