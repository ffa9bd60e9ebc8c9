"""Segment again with the models that a benchmark keeps, exactly as they were evaluated."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from jcl.data.context import context_of
from jcl.data.store import Store
from jcl.distributed.device import resolve_device, resolve_precision
from jcl.errors import DataError
from jcl.inference.predictor import class_scores, ready_to_segment
from jcl.training.run_folder import load_network

__all__ = ["segment_slices"]

BATCH = 16
"""Slices at a time, as `evaluate` takes them."""


def segment_slices(
    run: Path, store: Store, slices: Sequence[tuple[int, int]], *, trust_code: bool = False
) -> list[UInt8[np.ndarray, "h w"]]:
    """Classes of slices, without the store's padding.

    Args:
        run: folder of a finished fine-tuning.
        store: the store that it was trained on.
        slices: number of the case, and of the slice in it.
        trust_code: see `jcl.backbones.rebuild`.

    Raises:
        UsageError: the run names a network that is not one of jcl's, and `trust_code` is off.
        DataError: the run is not finished, damaged, or of another store, or the store cannot be read.
    """
    network, info = load_network(run, trust_code=trust_code)
    if info["store_digest"] != store.digest:
        raise DataError(f"{run}: trained on another store than {store.path} is now")
    context, device = context_of(info["recipe"]), resolve_device("auto")
    precision = resolve_precision(info["precision"], device)
    ready_to_segment(network, device, precision)
    found: list[UInt8[np.ndarray, "h w"]] = []
    for start in range(0, len(slices), BATCH):
        chosen = slices[start : start + BATCH]
        images = np.stack([store.image(case, number, context=context) for case, number in chosen])
        batches = class_scores(network, images, batch_size=BATCH, device=device, precision=precision)
        labels = torch.cat([scores.argmax(1).to(torch.uint8).cpu() for scores in batches]).numpy()
        found += [each[store.content(case)] for each, (case, _) in zip(labels, chosen, strict=True)]
    return found
