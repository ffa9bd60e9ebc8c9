"""Writes lightly.json: what lightly's losses and their gradients are on random features.

In an environment of its own, since lightly asks for torchvision, which none of its losses here calls:

    python -m venv lightly-environment
    lightly-environment/bin/pip install torch==2.13.0 numpy
    lightly-environment/bin/pip install --no-deps lightly==1.6.0
    lightly-environment/bin/python tests/oracles/make_lightly.py

All is in float64 from seed 0: features of six slices in two views and a small crop, fixed linear maps in the place of
the predictor and of the teacher's projector, a queue, and unit prototypes, of which there are more than slices.
"""

import importlib.metadata
import json
import sys
import types
from pathlib import Path

import torch
from torch.nn.functional import normalize


class Unused(types.ModuleType):
    """Has any name that is asked for; calling what it gives would fail."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


for absent in ("torchvision", "torchvision.ops"):
    sys.modules[absent] = Unused(absent)

from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss  # noqa: E402
from lightly.loss.swav_loss import sinkhorn  # noqa: E402

SLICES, CHANNELS, QUEUED, PROTOTYPES = 6, 8, 10, 12


def main() -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    given = {
        "first": torch.randn(SLICES, CHANNELS),
        "second": torch.randn(SLICES, CHANNELS),
        "small": torch.randn(SLICES, CHANNELS),
        "predictor": torch.randn(CHANNELS, CHANNELS),
        "teacher": torch.randn(CHANNELS, CHANNELS),
        "queue_first": normalize(torch.randn(QUEUED, CHANNELS), dim=1),
        "queue_second": normalize(torch.randn(QUEUED, CHANNELS), dim=1),
        "prototypes": normalize(torch.randn(PROTOTYPES, CHANNELS), dim=1),
    }
    leaves = ("first", "second", "small", "prototypes")
    answers = {}
    for name, loss_of in {
        "simclr": simclr, "moco": moco, "byol": byol, "simsiam": simsiam,
        "swav": swav, "swav_small": swav_small, "swav_queue": swav_queue,
    }.items():  # fmt: skip
        tensors = {k: v.clone().requires_grad_(k in leaves) for k, v in given.items()}
        loss = loss_of(tensors).squeeze()
        gradients = torch.autograd.grad(loss, [tensors[k] for k in leaves], allow_unused=True)
        answers[name] = {
            "loss": loss.item(),
            "gradients": {k: g.tolist() for k, g in zip(leaves, gradients, strict=True) if g is not None},
        }
    codes = sinkhorn(given["first"] @ given["prototypes"].T, iterations=3, epsilon=0.5)
    content = {
        "made by": f"lightly {importlib.metadata.version('lightly')}, torch {torch.__version__}",
        "given": {k: v.tolist() for k, v in given.items()},
        "answers": answers,
        "sinkhorn": codes.tolist(),
    }
    Path(__file__).with_name("lightly.json").write_text(json.dumps(content) + "\n")


def simclr(t: dict[str, torch.Tensor]) -> torch.Tensor:
    return NTXentLoss(temperature=0.1)(t["first"], t["second"])


def moco(t: dict[str, torch.Tensor]) -> torch.Tensor:
    loss = NTXentLoss(temperature=0.2, memory_bank_size=(QUEUED, CHANNELS))
    loss.memory_bank.bank = t["queue_first"].clone()
    return loss(t["first"], (t["second"] @ t["teacher"]).detach())


def byol(t: dict[str, torch.Tensor]) -> torch.Tensor:
    distance = NegativeCosineSimilarity()
    return (
        4
        + 2 * distance(t["first"] @ t["predictor"], (t["second"] @ t["teacher"]).detach())
        + 2 * distance(t["second"] @ t["predictor"], (t["first"] @ t["teacher"]).detach())
    )


def simsiam(t: dict[str, torch.Tensor]) -> torch.Tensor:
    distance = NegativeCosineSimilarity()
    return (
        distance(t["first"] @ t["predictor"], t["second"].detach())
        + distance(t["second"] @ t["predictor"], t["first"].detach())
    ) / 2


def swav(t: dict[str, torch.Tensor]) -> torch.Tensor:
    return SwaVLoss()([scores(t, "first"), scores(t, "second")], [])


def swav_small(t: dict[str, torch.Tensor]) -> torch.Tensor:
    return SwaVLoss()([scores(t, "first"), scores(t, "second")], [scores(t, "small")])


def swav_queue(t: dict[str, torch.Tensor]) -> torch.Tensor:
    queues = [scores(t, "queue_first"), scores(t, "queue_second")]
    return SwaVLoss()([scores(t, "first"), scores(t, "second")], [], queues)


def scores(t: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return normalize(t[name], dim=1) @ t["prototypes"].T


if __name__ == "__main__":
    main()
