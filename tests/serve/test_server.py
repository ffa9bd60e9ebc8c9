"""HTTP over a socket: slow, broken and vanishing clients."""

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jcl.serve import server
from support.serving import Served, running, save_scan, wait_for


@pytest.fixture(scope="module")
def live(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One that waits half a second for a head, and as long for an upload."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "HEADER_SECONDS", 0.5)
        with running(run, tmp_path_factory.mktemp("live") / "room", upload_minutes=0.5 / 60) as served:
            yield served


def connection(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.access.port), timeout=20)


def head(served: Served, length: int) -> bytes:
    return (
        f"POST /api/jobs?name=a.nii HTTP/1.1\r\nHost: 127.0.0.1:{served.access.port}\r\n"
        f"Authorization: Bearer {served.access.token}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x"])
def test_a_head_that_does_not_come_ends_the_connection(live: Served, sent: bytes) -> None:
    with connection(live) as client:
        client.sendall(sent)
        begun = time.monotonic()
        assert client.recv(100) == b""
        assert time.monotonic() - begun > 0.3


def test_a_slow_upload_is_ended_and_leaves_nothing(live: Served) -> None:
    with connection(live) as client:
        client.sendall(head(live, 1000) + b"x" * 10)
        assert client.recv(1000).startswith(b"HTTP/1.1 408")
    wait_for(lambda: live.left() == [] and not live.service.jobs.jobs)


def test_a_client_that_goes_away_leaves_nothing(live: Served) -> None:
    with connection(live) as client:
        client.sendall(head(live, 1000) + b"x" * 10)
        wait_for(lambda: live.service.jobs.jobs)
    wait_for(lambda: live.left() == [] and not live.service.jobs.jobs)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /api/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /api/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
    ],
)
def test_nonsense_is_answered_with_an_error(live: Served, sent: bytes) -> None:
    with connection(live) as client:
        client.sendall(sent)
        assert client.recv(20).split()[1] in (b"400", b"421", b"431")


def test_a_scan_goes_through_over_a_socket(live: Served, tmp_path: Path) -> None:
    content = save_scan(tmp_path / "a.nii").read_bytes()
    headers = {"Authorization": f"Bearer {live.access.token}"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", live.access.port, timeout=20)) as client:
        client.request("POST", "/api/jobs?name=a.nii", iter([content[:1000], content[1000:]]), headers)
        with client.getresponse() as answer:
            assert answer.status == 202, answer.read()
            answer.read()
        (job,) = live.service.jobs.jobs.values()
        wait_for(lambda: job.result)
        client.request("GET", f"/api/jobs/{job.id}/result", headers=headers)
        with client.getresponse() as answer:
            assert answer.read()[344:348] == b"n+1\0"
    wait_for(lambda: live.left() == [])
