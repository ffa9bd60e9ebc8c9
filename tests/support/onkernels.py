"""Which layers of a network run on the kernels."""

from functools import partial

import pytest
from torch import nn

from jcl.kernels.layers import chain
from jcl.kernels.library import KernelError, load_library


def lanes() -> int:
    """Floats in a vector of the kernels; where they cannot be had, the module that asks is skipped."""
    try:
        return load_library().jcl_lanes()
    except KernelError as error:
        pytest.skip(f"tests of the kernels: {error}", allow_module_level=True)


def runs_on_kernels(layer: nn.Module) -> bool:
    """Whether the layer by itself, or the sequence as a whole, computes with the kernels."""
    return isinstance(vars(layer).get("forward"), partial)


def is_chain(layer: nn.Module) -> bool:
    """Whether a sequence of convolutions and normalisations is computed in one go."""
    return runs_on_kernels(layer) and vars(layer)["forward"].func is chain
