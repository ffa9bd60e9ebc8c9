"""What is checked on the machines of a cluster, and what is said where Ray is not installed."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jcl.config import PrepareConfig
from jcl.errors import UsageError
from jcl.parallel import ray as cluster
from jcl.stages.prepare import prepare


def test_a_machine_with_the_same_sources_and_folders(tmp_path: Path):
    cluster.check_machine(cluster.sources_digest(), [tmp_path])


def test_a_machine_that_does_not_see_a_folder(tmp_path: Path):
    with pytest.raises(UsageError, match=rf"does not see {tmp_path}/shared; it has to be on a file system that all"):
        cluster.check_machine(cluster.sources_digest(), [tmp_path, tmp_path / "shared"])


def test_a_machine_with_other_sources():
    with pytest.raises(UsageError, match="has another version of jcl"):
        cluster.check_machine("0" * 64, [])


@pytest.mark.parametrize("change", ["comment", "name", "none"])
def test_the_digest_is_that_of_the_sources_wherever_they_are(tmp_path: Path, change: str):
    package = tmp_path / "jcl"
    shutil.copytree(Path(cluster.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    if change == "comment":
        with (package / "metrics.py").open("a") as file:
            file.write("# one\n")
    elif change == "name":
        (package / "metrics.py").rename(package / "metric.py")
    imports = "from jcl.parallel.ray import sources_digest"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {imports}; print(sources_digest())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert (found == cluster.sources_digest()) == (change == "none")


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.nii.gz").write_bytes(b"")
    with pytest.raises(UsageError, match=re.escape("pip install 'jcl-seg[ray]'")):
        prepare(PrepareConfig(source=tmp_path / "scans", out=tmp_path / "store", ray="auto"))
    assert not (tmp_path / "store").exists()


def test_addresses_of_ray_client_are_not_taken():
    with pytest.raises(UsageError, match=r"run this on a machine of the cluster"), cluster.joined("ray://head:10001"):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379", "127.0.0.1:no-port"])
def test_where_nothing_answers(address: str):
    began = time.monotonic()
    with pytest.raises(UsageError, match=f"--ray {address}: nothing answers there"), cluster.joined(address):
        pass
    assert time.monotonic() - began < 60  # Ray gives up after minutes
