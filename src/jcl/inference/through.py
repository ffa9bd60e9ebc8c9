"""Scores of the slices of a preparation as scores of those of the source, slice after slice."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from jcl.data.interpolation import make_taps

__all__ = ["own_scores"]


def own_scores(
    scores: Iterator[Float[Tensor, "*b k h w"]], prepared: int, own: int
) -> Iterator[Float[Tensor, "*b k h w"]]:
    """Linear and without aliasing, as images are resampled; as they are where there are as many.

    In memory are the scores of as many slices as one that is prepared has a share in.

    Args:
        scores: of each prepared slice in turn.
        prepared: how many there are.
        own: slices of the source, over the same length.
    """
    if prepared == own:
        yield from scores
        return
    taps = make_taps(prepared, own)
    shares = [
        {place: weight for place, weight in zip(places, weights, strict=True) if weight}
        for places, weights in zip(taps.places.T.tolist(), taps.weights.T.tolist(), strict=True)
    ]
    sums: dict[int, Tensor] = {}
    done = 0
    for number, each in enumerate(scores):
        for at in range(done, own):
            if number < min(shares[at]):
                break
            if weight := shares[at].get(number):
                sums[at] = each * weight if at not in sums else sums[at] + each * weight
        while done < own and max(shares[done]) <= number:
            yield sums.pop(done)
            done += 1
