"""Views of the peers' programs against their steps image by image, and their published ranges."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from jcl.augment.published import (
    BYOL_VIEWS,
    MOCO_VIEWS,
    SIMCLR_VIEWS,
    SMALL_VIEW,
    SWAV_VIEWS,
    Published,
    crops,
    published_view,
)
from jcl.backbones.unet import UNet
from jcl.data.batches import SliceBatch
from jcl.errors import UsageError
from jcl.methods import load


def images(count: int = 12, height: int = 24, width: int = 32) -> torch.Tensor:
    return torch.rand(count, 2, height, width, generator=torch.Generator().manual_seed(1))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def cropped(image: torch.Tensor, draws: list[float], area: tuple[float, float]) -> torch.Tensor:
    """One image: the rectangle in pixels, read at the centres of the output's pixels, mirrored or not."""
    _, height, width = image.shape
    share = area[0] + draws[0] * (area[1] - area[0])
    aspect = math.exp((2 * draws[1] - 1) * math.log(4 / 3))
    size = height * width * share
    w, h = min(width, math.sqrt(size * aspect)), min(height, math.sqrt(size / aspect))
    left, top = draws[2] * (width - w), draws[3] * (height - h)
    xs = [left + w * (j + 0.5) / width for j in range(width)]
    if draws[4] < 0.5:
        xs.reverse()
    ys = [top + h * (i + 0.5) / height for i in range(height)]
    grid = torch.tensor([[[2 * x / width - 1, 2 * y / height - 1] for x in xs] for y in ys])
    return F.grid_sample(image[None], grid[None], align_corners=False)[0]


def one_by_one(given: torch.Tensor, view: Published) -> torch.Tensor:
    generator = seeded()
    draws = torch.rand(10, len(given), generator=generator)
    later = torch.rand(2, len(given), generator=generator) if view.blurred else None
    found = []
    for n, image in enumerate(given):
        x = cropped(image, draws[:5, n].tolist(), view.area)
        if view.smaller > 1:
            x = F.avg_pool2d(x[None], view.smaller)[0]
        if draws[7, n] < view.jittered:
            x = x * (1 + (2 * draws[5, n] - 1) * view.jitter)
            x = x.mean() + (x - x.mean()) * (1 + (2 * draws[6, n] - 1) * view.jitter)
        x = x.clamp(0, 1)
        if later is not None and later[0, n] < view.blurred:
            radius = max(1, round(min(x.shape[1:]) / 20))
            sigma = 0.1 + 1.9 * float(later[1, n])
            x = torch.from_numpy(gaussian_filter(x.double().numpy(), (0, sigma, sigma), mode="nearest", radius=radius))
        if draws[8, n] < view.solarised:
            x = torch.where(x >= 0.5, 1 - x, x)
        found.append(x.float())
    return torch.stack(found)


SETS = {
    "simclr": SIMCLR_VIEWS,
    "moco": MOCO_VIEWS,
    "simsiam": MOCO_VIEWS,
    "byol": BYOL_VIEWS,
    "swav": SWAV_VIEWS,
}
VIEWS = {
    "simclr": SIMCLR_VIEWS[0],
    "moco": MOCO_VIEWS[0],
    "byol 1": BYOL_VIEWS[0],
    "byol 2": BYOL_VIEWS[1],
    "swav": SWAV_VIEWS[0],
    "small": SMALL_VIEW,
}


@pytest.mark.parametrize("name", VIEWS)
def test_every_image_goes_through_the_steps_of_the_program(name):
    found = published_view(images(), VIEWS[name], generator=seeded())
    torch.testing.assert_close(found, one_by_one(images(), VIEWS[name]), rtol=0, atol=2e-5)
    assert found.shape[2:] == ((12, 16) if name == "small" else (24, 32))


def test_crops_have_the_published_areas_and_aspects():
    """Of a square image, over many draws; those that would be longer than the image apart."""
    draws = torch.rand(5, 5000, generator=seeded())
    matrices = crops(draws, (64, 64), (0.2, 0.6))
    across, down = matrices[:, 0, 0].abs(), matrices[:, 1, 1]
    area, aspect = across * down, across / down
    assert 0.2 < area.min() < 0.21
    assert 0.59 < area.max() < 0.6001
    assert area.mean().item() == pytest.approx(0.4, abs=0.01)
    assert 1 / 1.334 < aspect.min() < 0.76
    assert 1.32 < aspect.max() < 1.334
    assert (matrices[:, 0, 0] < 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert ((matrices[:, :, 2].abs() + torch.stack([across, down], 1)) <= 1.0001).all(), "never beyond the image"


def test_images_stay_within_what_they_had():
    given = images() * 3 - 1
    found = published_view(given, Published(area=(0.5, 1.0), jitter=0.8, blurred=0.0), generator=seeded())
    low, high = given.amin((1, 2, 3)), given.amax((1, 2, 3))
    assert (found.amin((1, 2, 3)) >= low).all()
    assert (found.amax((1, 2, 3)) <= high).all()


@pytest.mark.parametrize("name", SETS)
def test_the_setting_of_the_methods(name):
    views = {"simclr": SIMCLR_VIEWS, "moco": MOCO_VIEWS, "simsiam": MOCO_VIEWS, "byol": BYOL_VIEWS, "swav": SWAV_VIEWS}[
        name
    ]
    batch = SliceBatch(images()[:, :1], torch.linspace(0.1, 1, 12), torch.zeros(12, dtype=torch.long))
    method = load(name)(UNet(width=2), augment="own")
    generator = seeded()
    wanted = [published_view(batch.images, view, generator=generator) for view in views]
    assert torch.equal(torch.cat(list(method.views(batch, seeded()))), torch.cat(wanted))
    assert load(name)(UNet(width=2)).own_views is None
    with pytest.raises(UsageError, match="augment is 'paper'; it can be shared or own"):
        load(name)(UNet(width=2), augment="paper")


def test_small_crops_of_swav_are_the_programs():
    batch = SliceBatch(images()[:, :1], torch.linspace(0.1, 1, 12), torch.zeros(12, dtype=torch.long))
    method, generator = load("swav")(UNet(width=2), augment="own", small_crops=2), seeded()
    large, small = method.views(batch, seeded())
    wanted = [published_view(batch.images, view, generator=generator) for view in (*SWAV_VIEWS, SMALL_VIEW, SMALL_VIEW)]
    assert torch.equal(large, torch.cat(wanted[:2]))
    assert torch.equal(small, torch.cat(wanted[2:]))
    assert small.shape[2:] == (12, 16)
