"""A method of pre-training that hangs or fails, for the tests of those who have to end it."""

import os
from pathlib import Path

from torch import Tensor

from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.methods import Method
from support import hangs


class Hangs(Method):
    """A method whose first loss is not to be had."""

    def __init__(self, backbone: Backbone, *, way: str = "stuck") -> None:
        """Nothing is learned.

        Args:
            way: the function of `support.hangs` that is called.
        """
        super().__init__(backbone)
        self.way = way

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """Say on the disk that it has begun, and never return."""
        Path(os.environ["JCL_BEGUN"], str(os.getpid())).touch()
        getattr(hangs, self.way)()
        raise AssertionError
