"""Features of pre-trained networks at each pixel, and how similar they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch.nn import functional as F

from jcl import backbones
from jcl.backbones import Backbone
from jcl.backbones._transfer import transfer
from jcl.data.context import recorded_context
from jcl.training.run_folder import read_model, read_run

__all__ = ["Pretrained", "area_under_curve", "load_pretrained", "pixel_features", "similarity", "untrained"]

STRIDE = 4
"""Of the encoder's features: a level that is fine enough to see structures on, and that the decoder gets as a skip."""


class Pretrained:
    """A backbone in evaluation mode, how many of its decoder blocks were pre-trained, and its slices' neighbours."""

    def __init__(self, network: Backbone, blocks: int, context: int = 0) -> None:
        self.network, self.blocks, self.context = network.eval(), blocks, context


def load_pretrained(run: Path, *, trust_code: bool = False) -> Pretrained:
    """The backbone of a finished pre-training; what it did not train has its first, random values.

    Raises:
        UsageError: it names a network that is not one of jcl's, and `trust_code` is off.
        DataError: no such run, not finished, or damaged.
    """
    info = read_run(run, "pretrain")
    network = _fresh(info, run, trust_code=trust_code)
    inner = {name.removeprefix("backbone."): t for name, t in read_model(run).items() if name.startswith("backbone.")}
    transfer(network, inner, info["transfers"])
    trained = [k for k in range(network.blocks + 1) if set(network.submodule_names(k)) <= set(info["transfers"])]
    return Pretrained(network, max(trained, default=0), recorded_context(info, run / "run.json"))


def untrained(run: Path, blocks: int, *, trust_code: bool = False) -> Pretrained:
    """The same network with random weights (seed 0), to compare with."""
    info = read_run(run, "pretrain")
    return Pretrained(_fresh(info, run, trust_code=trust_code), blocks, recorded_context(info, run / "run.json"))


def _fresh(info: dict[str, Any], run: Path, *, trust_code: bool) -> Backbone:
    """A backbone as `run.json` describes it, with the random weights of seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return backbones.rebuild(info.get("backbone"), run / "run.json", trust_code=trust_code)


def pixel_features(pretrained: Pretrained, image: Float32[np.ndarray, "k h w"], part: str) -> Float[Tensor, "f h w"]:
    """Features of each pixel of a slice.

    Args:
        pretrained: on the CPU.
        image: a slice with its neighbours and the store's padding.
        part: `encoder`, the level of the encoder whose stride is nearest to 4; or `decoder`, the output of the last
            pre-trained decoder block. Both are brought to the slice's size bilinearly.
    """
    backbone = pretrained.network
    height, width = image.shape[1:]
    with torch.inference_mode():
        levels = backbone.encode(torch.from_numpy(image)[None])
        if part == "decoder":
            found = backbone.decode(levels, pretrained.blocks)
        else:
            found = min(levels, key=lambda level: abs(level.shape[-2] * STRIDE - levels[0].shape[-2]))
        # all levels cover the padded slice, which may be larger than the slice
        padded = (-(-height // backbone.stride) * backbone.stride, -(-width // backbone.stride) * backbone.stride)
        whole = F.interpolate(found.float(), size=padded, mode="bilinear", align_corners=False)
    return whole[0, :, :height, :width]


def similarity(features: Sequence[Float[Tensor, "f _ _"]], pixel: tuple[int, int]) -> list[Float[np.ndarray, "_ _"]]:
    """Cosine of the features of all pixels of slices to those of a pixel of the first slice, from -1 to 1.

    From each feature its mean over all pixels of all slices is taken first: what every pixel has alike says nothing of
    which belong together, and behind rectifiers it would make all cosines large.
    """
    mean = torch.cat([each.flatten(1) for each in features], dim=1).mean(dim=1)[:, None, None]
    directions = [F.normalize(each - mean, dim=0, eps=1e-12) for each in features]
    chosen = directions[0][:, *pixel]
    return [torch.einsum("f,fhw->hw", chosen, each).clamp(-1, 1).numpy() for each in directions]


def area_under_curve(values: Float[np.ndarray, "h w"], inside: Bool[np.ndarray, "h w"]) -> float | None:
    """Share of pairs of a pixel inside and one outside in which the inner has the larger value, ties halved.

    The area under the ROC curve (Mann and Whitney, 1947); None where there is no inside or no outside.
    """
    from scipy.stats import rankdata

    count = int(inside.sum())
    rest = inside.size - count
    if not count or not rest:
        return None
    ranks = rankdata(values)
    return float((ranks[inside.ravel()].sum() - count * (count + 1) / 2) / (count * rest))
