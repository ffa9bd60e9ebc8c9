"""The folder of what the authors' and the peers' programs give, as data, where there is one ($JCL_ORACLES)."""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from torch import Tensor


def folder() -> Path:
    """Skips the test where there is none."""
    found = os.environ.get("JCL_ORACLES")
    if not found:
        pytest.skip("JCL_ORACLES names no folder of what the authors' programs give")
    return Path(found)


@cache
def given(name: str) -> Mapping[str, Any]:
    """The arrays of a .npz, or what a .json holds."""
    file = folder() / name
    if file.suffix == ".json":
        return json.loads(file.read_text())
    with np.load(file) as found:
        return dict(found)


@cache
def given_tensors(name: str) -> Mapping[str, Tensor]:
    """The tensors of a .safetensors."""
    return safetensors.torch.load_file(folder() / name)
