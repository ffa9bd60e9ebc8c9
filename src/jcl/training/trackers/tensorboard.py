"""TensorBoard: files in the run folder, which it writes in a thread of its own."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from torch.utils.tensorboard.writer import SummaryWriter

__all__ = ["TensorBoard"]


class TensorBoard:
    """Values and pictures of a run, in its folder `tensorboard`.

    Args:
        run: the run folder.
        start: the step at which a resumed run goes on; what is there of later ones is not shown.

    Raises:
        OSError: the disk is full, or refuses; later calls raise it too.
    """

    def __init__(self, run: Path, start: int) -> None:
        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=start or None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One curve for each name."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, name: str, image: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """A slider over the steps for each name."""
        self.writer.add_image(name, image, step, dataformats="HWC")

    def close(self, outcome: str) -> None:
        """Write what is left."""
        self.writer.close()
