"""Scans as the network saw them in training: turned to one orientation, resampled, with neighbours or in blocks.

This file is copied into every MONAI bundle that jcl writes (`scripts/slices.py`), and needs PyTorch and MONAI alone.
"""

from collections.abc import Hashable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.inverse import InvertibleTransform
from monai.transforms.spatial.array import Orientation
from monai.transforms.transform import MapTransform
from torch.nn import functional

__all__ = ["AddNeighboursd", "BlockProbabilities", "ResampleSlicesd", "ResampleThroughd", "TurnSlicesd"]

# The rule of jcl.data.geometry, in LPS.
AXIAL = 0.8
HEAD, BACK, FEET = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])
SLICE_DIRECTION, COLUMN_DIRECTION = np.array([0.6, -0.6, 0.3]), np.array([0.8, 0.6, 0.0])
COARSER = 1.25
CHUNK = 16

Sides: TypeAlias = tuple[int, int, int]
"""Rows, columns and slices."""


class TurnSlicesd(MapTransform, InvertibleTransform):
    """Turns a volume to (channels, rows, columns, slices) without interpolation.

    Slices lie across the only axis of one voxel, else the coarsest (when it is 1.25 times coarser than the next), else
    the one nearest to head and feet. Rows run to the back in axial slices and to the feet in all others.
    """

    def __init__(self, keys: Any, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.orientation = Orientation(axcodes="PLS", labels=None)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turn the volumes under the keys."""
        turned = dict(data)
        for key in self.key_iterator(turned):
            image = turned[key]
            self.orientation.axcodes = axcodes(np.asarray(image.affine, float), image.shape[1:])
            turned[key] = self.orientation(image)
        return turned

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Back to the order of the file's voxels."""
        turned = dict(data)
        for key in self.key_iterator(turned):
            turned[key] = self.orientation.inverse(turned[key])
        return turned


class _Resampled(MapTransform, InvertibleTransform):
    """Other rows, columns or slices over the same length, linearly and without aliasing; pixels are areas."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample the volumes under the keys, which are turned already."""
        resampled = dict(data)
        for key in self.key_iterator(resampled):
            image = resampled[key]
            before, affine = _sides(image), image.affine.clone()
            out = _with_sides(image, self.sides(before, affine))
            out.affine = affine @ _scaling(before, _sides(out)).to(affine)
            self.push_transform(out, orig_size=before, extra_info={"affine": affine})
            resampled[key] = out
        return resampled

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Back to the rows, columns and slices that there were."""
        resampled = dict(data)
        for key in self.key_iterator(resampled):
            image = resampled[key]
            done = self.pop_transform(image)
            rows, columns, slices = (int(side) for side in done["orig_size"])
            out = _with_sides(image, (rows, columns, slices))
            out.affine = torch.as_tensor(done["extra_info"]["affine"])
            resampled[key] = out
        return resampled

    def sides(self, before: Sides, affine: torch.Tensor) -> Sides:
        """Rows, columns and slices of a volume that has so many."""
        raise NotImplementedError


class ResampleSlicesd(_Resampled):
    """Resamples rows and columns, so that the field of view stays.

    Args:
        spacing: in-plane, in mm; None leaves it.
        fit: instead, the pixels that the longer side of a slice is brought to.
    """

    def __init__(
        self, keys: Any, spacing: float | None = None, fit: int | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing, self.fit = spacing, fit

    def sides(self, before: Sides, affine: torch.Tensor) -> Sides:
        """Other rows and columns."""
        if self.fit is not None:
            factors = [self.fit / max(before[:2])] * 2
        elif self.spacing is not None:
            factors = [float(torch.linalg.norm(affine[:3, axis])) / self.spacing for axis in (0, 1)]
        else:
            return before
        return max(1, round(before[0] * factors[0])), max(1, round(before[1] * factors[1])), before[2]


class ResampleThroughd(_Resampled):
    """Resamples the slices; they begin and end where they did. One slice stays one.

    Args:
        spacing: through the plane, in mm.
    """

    def __init__(self, keys: Any, spacing: float, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing = spacing

    def sides(self, before: Sides, affine: torch.Tensor) -> Sides:
        """Other slices."""
        rows, columns, slices = before
        apart = float(torch.linalg.norm(affine[:3, 2]))
        return rows, columns, slices if slices == 1 else max(1, round(slices * apart / self.spacing))


class BlockProbabilities(torch.nn.Module):
    """A network of blocks (b, c, slices, rows, columns) as one of (b, c, rows, columns, slices), to probabilities.

    Where windows overlap their probabilities are averaged, not their logits.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Of each class."""
        return self.network(image.permute(0, 1, 4, 2, 3)).softmax(1).permute(0, 1, 3, 4, 2)


class AddNeighboursd(MapTransform):
    """Adds the neighbouring slices of each slice as channels, before and behind its own; nothing is to be undone.

    Beyond the ends of the volume its last slice is repeated.

    Args:
        context: neighbours on each side.
    """

    def __init__(self, keys: Any, context: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.context = context

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the neighbours in the volumes under the keys."""
        added = dict(data)
        for key in self.key_iterator(added):
            image = added[key]
            plain, slices = torch.as_tensor(image.as_tensor()), torch.arange(image.shape[3])
            offsets = range(-self.context, self.context + 1)
            seen = [plain[..., (slices + offset).clamp(0, len(slices) - 1)] for offset in offsets]
            out = MetaTensor(torch.cat(seen), meta=image.meta)
            out.applied_operations = image.applied_operations
            added[key] = out
        return added


def axcodes(affine: np.ndarray, size: Any) -> str:
    """Letters that rows, columns and slices shall run to, of a volume with this affine (in RAS)."""
    matrix = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    spacing = np.linalg.norm(matrix, axis=0)
    directions = list((matrix / spacing).T)
    by_spacing = sorted(range(3), key=lambda axis: spacing[axis])
    flat = [axis for axis in range(3) if size[axis] == 1]
    if len(flat) == 1:
        slices = flat[0]
    elif spacing[by_spacing[2]] >= COARSER * spacing[by_spacing[1]]:
        slices = by_spacing[2]
    else:
        slices = max(range(3), key=lambda axis: abs(directions[axis][2]))
    along, down = (HEAD, BACK) if abs(directions[slices][2]) > AXIAL else (SLICE_DIRECTION, FEET)
    rows = max((axis for axis in (1, 0, 2) if axis != slices), key=lambda axis: abs(float(directions[axis] @ down)))
    columns = 3 - slices - rows
    letters = _letters(affine)
    wanted = ((rows, down), (columns, COLUMN_DIRECTION), (slices, along))
    return "".join(letters[axis][int(float(directions[axis] @ way) >= 0)] for axis, way in wanted)


def _letters(affine: np.ndarray) -> list[str]:
    """For each axis of a volume the two letters that it comes from and runs to."""
    import nibabel

    ends = nibabel.orientations.io_orientation(affine)
    labels = ("LR", "PA", "IS")
    return [labels[int(axis)] if flip > 0 else labels[int(axis)][::-1] for axis, flip in ends]


def _sides(image: torch.Tensor) -> Sides:
    return int(image.shape[1]), int(image.shape[2]), int(image.shape[3])


def _with_sides(image: MetaTensor, sides: Sides) -> MetaTensor:
    """An image (channels, rows, columns, slices) with other sides; what was done to it stays written on it."""
    plain = torch.as_tensor(image.as_tensor())
    if _sides(plain)[2] != sides[2]:
        plain = _resize_through(plain, sides[2])
    if _sides(plain)[:2] != sides[:2]:
        plain = _resize(plain, sides[:2])
    out = MetaTensor(plain, meta=image.meta)
    out.applied_operations = image.applied_operations
    return out


def _resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    slices = image.permute(3, 0, 1, 2)
    parts = [
        functional.interpolate(part.contiguous(), size, mode="bilinear", align_corners=False, antialias=True)
        for part in slices.split(CHUNK)
    ]
    return torch.cat(parts).permute(1, 2, 3, 0).contiguous()


def _resize_through(image: torch.Tensor, count: int) -> torch.Tensor:
    channels, rows, columns, slices = image.shape
    flat = image.reshape(1, channels, rows * columns, slices)
    out = functional.interpolate(flat, (rows * columns, count), mode="bilinear", align_corners=False, antialias=True)
    return out.reshape(channels, rows, columns, count)


def _scaling(before: Sides, after: Sides) -> torch.Tensor:
    """From indices after to indices before: the same field of view, so half a pixel apart at its border."""
    matrix = torch.eye(4, dtype=torch.float64)
    for axis in range(3):
        factor = before[axis] / after[axis]
        matrix[axis, axis], matrix[axis, 3] = factor, (factor - 1) / 2
    return matrix
