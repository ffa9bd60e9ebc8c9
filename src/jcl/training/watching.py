"""A few cases that are looked at again and again while a training runs (`--watch-every`).

Of a fine-tuning what it finds in a slice of each, of a pre-training how similar the features of their slices are. It
changes nothing: no random number is drawn, and no statistic of a layer moves.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from jcl.backbones import dimensions_of
from jcl.config import TrainingConfig
from jcl.data.batches import SliceBatch, SliceDataset
from jcl.data.context import span_of
from jcl.data.manifest import IGNORE
from jcl.data.slices import SliceList
from jcl.data.splits import Split
from jcl.data.store import Store
from jcl.distributed.comm import is_main_process
from jcl.distributed.device import autocast, channels_last
from jcl.errors import UsageError
from jcl.losses.similarity import cosines
from jcl.training.logger import RunLog, SilentLog, log_rank0
from jcl.training.pictures import compared, similarities

__all__ = ["Watch", "check_watch", "watched_labels", "watched_volumes"]

PATIENTS = 4
"""Of a fine-tuning, unless they are named."""

VOLUMES, SLICES = 3, 12
"""Of a pre-training, unless they are named; and slices of each."""


class Watch:
    """Draws pictures of a batch when it is time to.

    Args:
        batch: what is looked at.
        every: steps between two looks; there is one at the end too.
        steps: of the training.
        device: where it is trained.
        precision: in which it computes.
        context: neighbours on each side that the slices come with.
    """

    def __init__(
        self,
        batch: SliceBatch,
        *,
        every: int,
        steps: int,
        device: torch.device,
        precision: torch.dtype,
        context: int,
    ) -> None:
        self.batch, self.every, self.steps = batch, every, steps
        self.device, self.precision = device, precision
        self.middle = context * (batch.images.shape[1] // span_of(context))

    def is_due(self, step: int) -> bool:
        """Whether there is a look after step number `step`, counted from 1."""
        return is_main_process() and (step % self.every == 0 or step == self.steps)

    def predictions(self, network: nn.Module, log: RunLog | SilentLog) -> None:
        """Show what the network finds in the slices, beside their labels."""
        assert self.batch.labels is not None
        logits = self._computed(network, network)
        labels = self.batch.labels.numpy()
        shown = compared(self._images(), np.where(labels == IGNORE, 0, labels), logits.argmax(1).cpu().numpy())
        log.picture("predictions", shown)

    def similarity(self, model: nn.Module, features: Callable[[Tensor], Tensor], log: RunLog | SilentLog) -> None:
        """Show how similar the mean features of the slices are, what is common to all of them taken off."""
        found = self._computed(model, features).float().flatten(2).mean(2)
        values = cosines(found - found.mean(0), found - found.mean(0)).cpu().numpy()
        log.picture("similarity", similarities(values, self.batch.positions.numpy(), self.batch.volumes.tolist()))

    def _computed(self, model: nn.Module, function: Callable[[Tensor], Tensor]) -> Tensor:
        layout = channels_last(dimensions_of(getattr(model, "backbone", model)))
        images = self.batch.images.to(self.device).contiguous(memory_format=layout)
        with _looking(model), autocast(self.device, self.precision):
            return function(images)

    def _images(self) -> np.ndarray:
        return self.batch.images[:, self.middle].numpy()


@contextmanager
def _looking(model: nn.Module) -> Generator[None]:
    """Context in which the model learns nothing; each of its parts is left as it was, not all alike."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def check_watch(config: TrainingConfig, *, blocks: bool) -> None:
    """Raises UsageError where the settings of the pictures cannot be meant."""
    if config.watch and not config.watch_every:
        raise UsageError("--watch says whose pictures --watch-every draws, which is not given; give it, or neither")
    if config.watch_every and blocks:
        raise UsageError("--watch-every draws slices, and --block has none; leave it out")


def watched_labels(config: TrainingConfig, store: Store, split: Split, context: int) -> SliceBatch | None:
    """Of each watched patient the slice with most structures; None where nothing is watched.

    Patients of the training, but those that are named: a test patient only then, which is said.

    Raises:
        UsageError: a patient who is not in the store.
        DataError: a slice is damaged.
    """
    if not config.watch_every:
        return None
    patients = list(config.watch) or list(split.train[:PATIENTS])
    if tested := [name for name in patients if name in split.test]:
        log_rank0(f"watched, though tested: {', '.join(tested)}; they are shown and not trained on")
    chosen: list[tuple[int, int]] = []
    for case in _cases([store], patients, config):
        record = store.cases[case[1]]
        slices = range(record.slices)
        sizes = [np.count_nonzero(store.label(case[1], n) % IGNORE) for n in slices] if record.labelled else [0]
        chosen.append((case[1], int(np.argmax(sizes)) if any(sizes) else record.slices // 2))
    pictures = [store.image(case, n, context=context) for case, n in chosen]
    labels = [
        store.label(case, n) if store.cases[case].labelled else np.zeros(store.size, np.uint8) for case, n in chosen
    ]
    return SliceBatch(
        images=torch.from_numpy(np.stack(pictures)),
        positions=torch.tensor([(n + 1) / store.cases[case].slices for case, n in chosen]),
        volumes=torch.tensor([case for case, _ in chosen]),
        labels=torch.from_numpy(np.stack(labels)).long(),
    )


def watched_volumes(
    config: TrainingConfig, stores: Sequence[Store], patients: Sequence[set[str] | None], context: int
) -> SliceBatch | None:
    """Slices at equal steps of the watched volumes, of one store; None where nothing is watched.

    Raises:
        UsageError: a patient who is not in the stores, or not among those that are trained on.
        DataError: a slice is damaged.
    """
    if not config.watch_every:
        return None
    used = [
        [r.patient for r in store.cases if chosen is None or r.patient in chosen]
        for store, chosen in zip(stores, patients, strict=True)
    ]
    names = list(config.watch) or list(dict.fromkeys(used[0]))[:VOLUMES]
    if left := [name for name in names if not any(name in each for each in used)]:
        raise UsageError(f"--watch {left[0]}: no patient of this pre-training has this name")
    cases = _cases(stores, names, config)
    store = cases[0][0]
    sizes = {case: stores[store].cases[case].slices for number, case in cases if number == store}
    slices = {
        case: np.unique(np.linspace(0, depth - 1, SLICES).round().astype(int)).tolist() for case, depth in sizes.items()
    }
    listed = SliceList(
        [(store, case, len(each)) for case, each in slices.items()], {(store, c): s for c, s in slices.items()}
    )
    return SliceDataset(stores, listed, labels=False, context=context).read(range(len(listed)))


def _cases(stores: Sequence[Store], patients: Sequence[str], config: TrainingConfig) -> list[tuple[int, int]]:
    """The first case of each patient, one with labels if there is one: numbers of the store and of the case."""
    found: list[tuple[int, int]] = []
    for name in patients:
        cases = [
            (not record.labelled, number, case)
            for number, store in enumerate(stores)
            for case, record in enumerate(store.cases)
            if record.patient == name
        ]
        if not cases:
            raise UsageError(f"--watch {name}: no patient of {stores[0].path} has this name")
        found.append(min(cases)[1:])
    return found
