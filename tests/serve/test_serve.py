"""The program: begun, used, killed, begun again, asked to end; nothing of a scan stays."""

import http.client
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jcl.config import ServeConfig
from jcl.errors import UsageError
from jcl.files import WriteError
from jcl.serve.serve import check_host, check_keep, is_loopback, listen
from support.serving import save_scan, started, token_of, wait_for


def ask(address: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    client = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    try:
        client.request(method, path, body, {"Authorization": f"Bearer {token_of(address)}"})
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


def memory(process: int) -> int:
    """Bytes that a process has, without what it shares."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_stays_of_a_server_that_is_killed_or_asked_to_end(run: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    content = save_scan(tmp_path / "p1.nii.gz").read_bytes()
    large = save_scan(tmp_path / "p1.nii").read_bytes() + bytes(1_500_000)

    def rooms() -> set[Path]:
        return set(temporary.glob("jcl-serve-*"))

    with started(str(run), "--precision", "float32", temporary=temporary) as (process, address):
        assert ask(address, "POST", "/api/jobs?name=p1.nii.gz&hold=true", content)[0] == 202
        killed = rooms()
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert len(killed) == 1
    assert len([path for path in next(iter(killed)).rglob("*") if path.is_file()]) > 1

    with started(str(run), "--queue", "4", "--max-mb", "10", temporary=temporary) as (process, address):
        assert len(rooms()) == 1
        assert rooms().isdisjoint(killed)
        before = memory(process.pid)

        def send(_: int) -> int:
            return ask(address, "POST", "/api/jobs?name=p1.nii", large)[0]

        with ThreadPoolExecutor(100) as threads:
            answers = Counter(threads.map(send, range(100)))
        assert set(answers) <= {202, 503}
        assert answers[202] >= 4
        assert answers[503] > 0
        assert memory(process.pid) - before < 75e6  # of 150 MB that were sent
        wait_for(lambda: ask(address, "POST", "/api/jobs?name=p1.nii.gz", content)[0] == 202)
        if hasattr(signal, "SIGTERM"):
            process.send_signal(signal.SIGTERM)
        out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "jcl serve: ended; every scan that was sent is removed"
    assert token_of(address) not in said + out
    assert rooms() == set()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_an_address_that_others_reach_has_to_be_allowed(host: str) -> None:
    config = ServeConfig(run=Path("fine"), host=host)
    with pytest.raises(UsageError, match="--allow-remote"):
        check_host(config)
    check_host(ServeConfig(run=Path("fine"), host=host, allow_remote=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_is_reached_by_nobody_else(host: str) -> None:
    assert is_loopback(host)
    check_host(ServeConfig(run=Path("fine"), host=host))


def test_a_folder_with_a_list_of_its_cases_keeps_no_others(tmp_path: Path) -> None:
    check_keep(ServeConfig(run=Path("fine"), keep=tmp_path / "new" / "kept"))
    assert (tmp_path / "new" / "kept").is_dir()
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(UsageError, match="a folder of its own"):
        check_keep(ServeConfig(run=Path("fine"), keep=tmp_path))
    with pytest.raises(WriteError):
        check_keep(ServeConfig(run=Path("fine"), keep=tmp_path / "dataset.json"))


def test_an_address_that_is_taken_or_not_ours_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"--port {port}: cannot listen there"):
            listen(ServeConfig(run=Path("fine"), port=port))
    with pytest.raises(UsageError, match="cannot listen there"):
        listen(ServeConfig(run=Path("fine"), host="192.0.2.1", allow_remote=True, port=0))
