"""Cosine similarity that is safe under autocast and at zero vectors, for losses with terms of their own."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["at_least_float32", "cosine", "cosines", "inverse_norms", "unit"]

EPSILON = 1e-12


def unit(x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
    """Rows of length 1, in float32 or better; a zero vector has no direction: it stays 0, and so does its gradient.

    Examples:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    x = at_least_float32(x)
    return x * inverse_norms(x.square().sum(-1, keepdim=True))


def inverse_norms(squares: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """1 over the length of rows whose squared lengths these are; 0 for a zero vector."""
    directed = squares > EPSILON**2
    return torch.where(directed, torch.where(directed, squares, 1).rsqrt(), 0)


def at_least_float32(x: Tensor) -> Tensor:
    """float64 stays as it is."""
    return x if x.dtype == torch.float64 else x.float()


def cosine(first: Float[Tensor, "*rows d"], second: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows"]:
    """Cosine between each row and its counterpart."""
    return (unit(first) * unit(second)).sum(-1)


def cosines(first: Float[Tensor, "*b m d"], second: Float[Tensor, "*b k d"]) -> Float[Tensor, "*b m k"]:
    """Cosine between all rows of one tensor and all of another."""
    with torch.autocast(first.device.type, enabled=False):  # a product in bfloat16 has three digits
        return unit(first) @ unit(second).mT
