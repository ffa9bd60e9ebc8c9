"""Trainings in several processes, on one machine and on two: as in one process, and as hard to lose."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from jcl.config import FinetuneConfig, PretrainConfig
from jcl.errors import UsageError
from jcl.files import read_json
from jcl.stages.finetune import finetune
from jcl.stages.pretrain import pretrain
from jcl.training.checkpoint import read_weights
from support.shared import made_once

SMALL = {"width": 2, "method_settings": {"projection": 8, "blocks": 1}, "batch_size": 4, "precision": "float32"}
COMMAND = ["--width", "2", "--method.projection", "8", "--method.blocks", "1", "--batch-size", "4"]
COMMAND += ["--precision", "float32"]

pytestmark = pytest.mark.slow


def weights(out: Path) -> dict[str, torch.Tensor]:
    return read_weights(out / "model.safetensors", read_json(out / "model.json")["sha256"])


def assert_near(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.allclose(value, second[name], rtol=tolerance, atol=tolerance), name


def test_pre_training_in_two_processes_is_that_in_one(store_path, tmp_path):
    """Same slices in each step, no augmentation: a batch of 4 in each of two, or of 8 in one.

    How far two runs are apart for rounding alone depends on the processor and grows from step to step; after two
    steps it is a small part of how far half a batch leads.
    """
    still = {"rotation": 0.0, "scale": 0.0, "translation": 0.0}
    settings = {"width": 2, "method_settings": {"projection": 8, "blocks": 1, **still}, "steps": 2, "warmup": 0.0}
    settings |= {"stores": (store_path,), "precision": "float32", "learning_rate": 0.01}
    two = pretrain(PretrainConfig(**settings, out=tmp_path / "two", batch_size=4, devices="cpu:2"))
    one = pretrain(PretrainConfig(**settings, out=tmp_path / "one", batch_size=8))
    assert read_json(two / "run.json")["processes"] == 2
    halved = pretrain(PretrainConfig(**settings, out=tmp_path / "halved", batch_size=4))
    assert distance(weights(two), weights(one)) < 0.01 * distance(weights(halved), weights(one))


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Of all weights and statistics as one vector."""
    assert first.keys() == second.keys()
    return math.sqrt(sum(float((value.double() - second[name]).square().sum()) for name, value in first.items()))


@pytest.mark.parametrize("recipe", ["paper", "strong"])
def test_fine_tuning_in_two_processes_is_that_in_one(store_path, tmp_path, recipe):
    """As for pre-training, and as a whole: Adam divides by the size of gradients that are nearly 0."""
    still = {"rotation": 0.0, "scale": 0.0, "translation": 0.0, "steps": 2, "precision": "float32", "width": 2}
    settings = {"store": store_path, "init": "none", "recipe": recipe, "intensity": 0.0, **still}
    two = finetune(FinetuneConfig(**settings, out=tmp_path / "two", batch_size=2, devices="cpu:2"))
    one = finetune(FinetuneConfig(**settings, out=tmp_path / "one", batch_size=4))
    halved = finetune(FinetuneConfig(**settings, out=tmp_path / "halved", batch_size=2))
    assert distance(weights(two), weights(one)) < 0.05 * distance(weights(halved), weights(one))


@pytest.mark.parametrize("technique", ["none", "self_training"])
def test_fine_tuning_on_blocks_in_two_processes_is_that_in_one(store_path, tmp_path, technique):
    """Drawn as one batch, of which each process has its half; here with blocks without labels that count at once."""
    still = {"rotation": 0.0, "scale": 0.0, "translation": 0.0, "steps": 2, "precision": "float32", "width": 2}
    settings = {"store": store_path, "init": "none", "backbone": "unet3d", "block": (4, 16, 16), **still}
    settings |= {"semi": technique, "intensity": 0.0}
    if technique != "none":
        settings |= {"semi_settings": {"warmup": 0.0, "threshold": 0.3}}
    two = finetune(FinetuneConfig(**settings, out=tmp_path / "two", batch_size=2, devices="cpu:2"))
    one = finetune(FinetuneConfig(**settings, out=tmp_path / "one", batch_size=4))
    assert read_json(two / "run.json")["processes"] == 2
    halved = finetune(FinetuneConfig(**settings, out=tmp_path / "halved", batch_size=2))
    assert distance(weights(two), weights(one)) < 0.05 * distance(weights(halved), weights(one))


@pytest.fixture(scope="module")
def unbroken(store_path, tmp_path_factory) -> Path:
    """A run of two processes that nothing stopped."""
    settings = {"stores": (store_path,), "steps": 60, "devices": "cpu:2", **SMALL}
    make = lambda out: pretrain(PretrainConfig(**settings, out=out))  # noqa: E731
    return made_once(tmp_path_factory, "pretrained-by-two", make)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stopped_and_resumed_equals_unbroken(unbroken, store_path, tmp_path, number):
    """A signal to the process that started the two, or kill -9 of one of them."""
    settings = {"stores": (store_path,), "steps": 60, "devices": "cpu:2", **SMALL}
    out = tmp_path / "run"
    more = [*COMMAND, "--steps", "60", "--devices", "cpu:2", "--checkpoint-minutes", "0", "--resume"]
    command = [sys.executable, "-m", "jcl", "pretrain", str(store_path), "--out", str(out), *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    limit = time.monotonic() + 240
    while not list((out / "checkpoints").glob("step-*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.01)
    if number == signal.SIGKILL:
        os.kill(children(process.pid)[-1], number)
    else:
        process.send_signal(number)
    message = process.communicate(timeout=120)[1]
    assert process.returncode == (1 if number == signal.SIGKILL else 130), message
    assert "--resume" in message.splitlines()[-1]
    assert not (out / "model.json").exists()
    pretrain(PretrainConfig(**settings, out=out, resume=True))
    assert (out / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()


def children(parent: int) -> list[int]:
    """The processes that train, by the argument that spawning gives them."""
    return processes_of("spawn_main", f"PPid:\t{parent}\n")


def processes_of(word: str, state: str = "") -> list[int]:
    """Numbers of the processes whose command has the word, and whose state (as /proc has it) the text."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status, line = (folder / "status").read_text(), (folder / "cmdline").read_text()
            except OSError:
                continue
            if state in status and word in line:
                found.append(int(folder.name))
    return sorted(found)


def test_another_number_of_processes_is_another_run(store_path, tmp_path):
    settings = {"stores": (store_path,), "steps": 2, "out": tmp_path / "run", **SMALL}
    pretrain(PretrainConfig(**settings))
    (tmp_path / "run" / "model.json").unlink()
    with pytest.raises(UsageError, match="processes: 1 -> 2"):
        pretrain(PretrainConfig(**settings, devices="cpu:2", resume=True))


def torchrun(nodes: Sequence[Sequence[str]], *arguments: str, address: str, folder: Path) -> list[subprocess.Popen]:
    """`torchrun` once for each node, with what comes before the command on that node."""
    launched = []
    for number, before in enumerate(nodes):
        place = ["--nnodes", str(len(nodes)), "--node-rank", str(number), "--nproc-per-node", "1"]
        place += ["--master-addr", address, "--master-port", "29511"]
        command = [*before, sys.executable, "-m", "torch.distributed.run", *place, "-m", "jcl", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if before:
            environment["GLOO_SOCKET_IFNAME"] = f"jcl{number}"
        with (folder / f"node{number}.txt").open("w") as output:
            launched.append(subprocess.Popen(command, stderr=output, stdout=output, env=environment))
    return launched


def test_torchrun_on_one_machine(store_path, tmp_path):
    out = tmp_path / "run"
    arguments = ["pretrain", str(store_path), "--out", str(out), "--steps", "4", *COMMAND]
    (process,) = torchrun([()], *arguments, address="127.0.0.1", folder=tmp_path)
    assert process.wait(timeout=240) == 0, (tmp_path / "node0.txt").read_text()
    assert (out / "model.safetensors").exists()


@pytest.fixture
def nodes():
    """Two network namespaces that see each other over a cable, as two machines do."""
    if not shutil.which("ip"):
        pytest.skip("two machines are two network namespaces, and iproute2 is not here (apt-get install iproute2)")
    names = [f"jcl-{os.getpid()}-{number}" for number in range(2)]  # tests run side by side: each its own two
    for name in names:
        if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
            pytest.skip("two machines are two network namespaces, which this container may not make")
    cable = ["ip", "link", "add", "jcl0", "netns", names[0], "type", "veth", "peer", "name", "jcl1", "netns", names[1]]
    subprocess.run(cable, check=True)
    for number, name in enumerate(names):
        inside = ["ip", "-n", name]
        subprocess.run([*inside, "addr", "add", f"10.77.0.{number + 1}/24", "dev", f"jcl{number}"], check=True)
        subprocess.run([*inside, "link", "set", f"jcl{number}", "up"], check=True)
        subprocess.run([*inside, "link", "set", "lo", "up"], check=True)
    yield [["ip", "netns", "exec", name] for name in names]
    for name in names:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes network namespaces")
@pytest.mark.long
def test_two_nodes_train_as_two_processes_of_one(nodes, unbroken, store_path, tmp_path):
    settings = ["pretrain", str(store_path), "--steps", "60", *COMMAND]
    out = tmp_path / "nodes"
    launched = torchrun(nodes, *settings, "--out", str(out), address="10.77.0.1", folder=tmp_path)
    codes = [process.wait(timeout=280) for process in launched]
    assert codes == [0, 0], [(tmp_path / f"node{n}.txt").read_text()[-2000:] for n in range(2)]
    assert_near(weights(out), weights(unbroken), 1e-6)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes network namespaces")
def test_a_node_that_falls_silent_ends_the_run_within_the_time_out(nodes, store_path, tmp_path):
    """Its cable is cut: no connection is closed, nothing more arrives."""
    out = tmp_path / "run"
    more = [*COMMAND, "--steps", "100000", "--compile", "off", "--timeout-minutes", "0.1"]
    more += ["--checkpoint-minutes", "0"]
    arguments = ["pretrain", str(store_path), "--out", str(out), *more]
    launched = torchrun(nodes, *arguments, address="10.77.0.1", folder=tmp_path)
    limit = time.monotonic() + 200
    while not list((out / "checkpoints").glob("step-*")):
        assert all(process.poll() is None for process in launched), (tmp_path / "node0.txt").read_text()
        assert time.monotonic() < limit
        time.sleep(0.05)
    subprocess.run(["ip", "-n", nodes[1][-1], "link", "set", "jcl1", "down"], check=True)
    began = time.monotonic()
    try:
        assert launched[0].wait(timeout=100) != 0
        assert time.monotonic() - began < 60
        text = (tmp_path / "node0.txt").read_text()
        assert re.search(r"jcl: error: .*did not answer", text), text[-3000:]
    finally:
        for process in launched:
            process.kill()
            process.wait()
        for number in processes_of(str(out)):
            os.kill(number, signal.SIGKILL)
