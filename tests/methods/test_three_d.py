"""The methods on blocks: what is new of their losses against slow loops, their views, and what they refuse."""

import itertools
import math

import pytest
import torch
from torch import Generator, Tensor

from jcl import methods
from jcl.backbones.unet3d import UNet3D
from jcl.data.blocks import BlockBatch
from jcl.errors import UsageError
from jcl.losses.contrastive import place_mask
from jcl.methods.gcl import regions
from jcl.methods.mae import fitting_sides, masked_error, normalised, visible
from jcl.methods.moco import shared_within
from jcl.ssl.key_queue import KeyQueue

STRIDES = ((1, 2, 2), (2, 2, 2))
BLOCK = (8, 16, 16)
EXTENTS = (30, 48, 40)
FOR_BLOCKS = ["byol", "gcl", "jcl", "mae", "moco", "pcl", "simclr", "simsiam"]


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def blocks(starts: list[tuple[int, int, int]], *, aspect: float = 1.0, seed: int = 0) -> BlockBatch:
    """Blocks of two volumes of 30 x 48 x 40 voxels that begin there, by turns of either."""
    centres = torch.tensor([[2 * s + b + 1 for s, b in zip(start, BLOCK, strict=True)] for start in starts])
    extents = torch.tensor([[2 * side for side in EXTENTS]] * len(starts))
    return BlockBatch(
        images=torch.rand(len(starts), 1, *BLOCK, generator=generator(seed)),
        positions=centres[:, 0] / extents[:, 0],
        volumes=torch.arange(len(starts)) % 2,
        depths=extents[:, 0],
        aspects=torch.full((len(starts),), aspect),
        centres=centres,
        extents=extents,
    )


SOME = [(0, 0, 0), (2, 3, 2), (3, 0, 0), (3, 30, 0), (20, 0, 20), (22, 4, 24)]


def make(name: str, **settings) -> torch.nn.Module:
    torch.manual_seed(0)
    return methods.build(name, UNet3D(width=2, strides=STRIDES), settings)


def test_which_methods_there_are():
    assert [name for name in methods.available() if 3 in methods.load(name).dimensions] == FOR_BLOCKS


@pytest.mark.parametrize("name", [name for name in methods.available() if name not in FOR_BLOCKS])
def test_the_others_say_which_there_are(name):
    said = f"{name} is not written for 3 dimensions; there are: {', '.join(FOR_BLOCKS)}$"
    with pytest.raises(UsageError, match=said):
        make(name)


@pytest.mark.parametrize("name", ["byol", "moco", "simclr", "simsiam"])
def test_the_views_of_programs_for_pictures_are_refused(name):
    with pytest.raises(UsageError, match=r"augment is 'own'.*of blocks there are shared ones only"):
        make(name, augment="own")


@pytest.mark.parametrize("name", ["byol", "gcl", "moco", "pcl", "simclr", "simsiam", "mae"])
def test_views_are_turned_about_the_body_axis_as_the_ranges_say(name):
    """Thick slices are not tilted: a block that is the same in each slice stays so. Without ranges nothing moves."""
    given = {"gcl": {"region": 1}, "moco": {"queue": 8}}.get(name, {})
    batch = blocks(SOME, aspect=6.0)
    flat = batch.images[:, :, :1].expand(-1, -1, BLOCK[0], -1, -1).contiguous()
    same = BlockBatch(**{**vars(batch), "images": flat})
    turned = make(name, scale=0.0, translation=0.0, **given).views(same, generator())[0]
    assert tuple(turned.shape[1:]) == (1, *BLOCK)
    assert torch.allclose(turned[:, :, 1], turned[:, :, 6], atol=1e-5)
    assert not torch.allclose(turned[:6], flat, atol=1e-2)
    still = make(name, rotation=0.0, scale=0.0, translation=0.0, **given).views(same, generator())[0]
    assert torch.allclose(still[:6], flat, atol=1e-5)


def near_by_hand(batch: BlockBatch, threshold: float) -> list[list[bool]]:
    """In whole numbers: |a / A - b / B| < t is |a B - b A| < t A B, with a threshold of whole hundredths."""
    rows = [list(zip(c.tolist(), e.tolist(), strict=True)) for c, e in zip(batch.centres, batch.extents, strict=True)]
    hundredths = round(threshold * 100)
    return [
        [
            i != j
            and all(
                abs(a * long_b - b * long_a) * 100 < hundredths * long_a * long_b
                for (a, long_a), (b, long_b) in zip(one, other, strict=True)
            )
            for j, other in enumerate(rows)
        ]
        for i, one in enumerate(rows)
    ]


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.5])
def test_blocks_near_along_all_axes_are_positives(threshold):
    starts = [tuple(torch.randint(0, 22, (3,), generator=generator(seed)).tolist()) for seed in range(12)]
    batch = blocks([*starts, *SOME, (1, 1, 1)])
    mask = place_mask(batch.centres, batch.extents, threshold)
    assert mask.tolist() == near_by_hand(batch, threshold)
    assert mask.any()
    assert not mask.all()


def test_exactly_at_the_threshold_is_not_near():
    centres, extents = torch.tensor([[10, 10, 10], [10, 12, 10], [10, 10, 11]]), torch.full((3, 3), 20)
    assert place_mask(centres, extents, 0.1).int().tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


def contrast_by_hand(rows: Tensor, near: list[list[bool]], temperature: float = 0.1) -> float:
    """Equation 10, anchor by anchor, in float64; one without positives does not count."""
    z = torch.nn.functional.normalize(rows.double(), dim=1).tolist()
    exponents = [[math.exp(math.fsum(map(math.prod, zip(a, b, strict=True))) / temperature) for b in z] for a in z]
    losses = []
    for i, row in enumerate(exponents):
        below = math.fsum(e for k, e in enumerate(row) if k != i)
        if positives := [j for j, is_near in enumerate(near[i]) if is_near and j != i]:
            losses.append(math.fsum(-math.log(row[j] / below) for j in positives) / len(positives))
    return math.fsum(losses) / len(losses)


@pytest.mark.parametrize("axes", ["body", "all"])
def test_jcls_image_loss_takes_these_positives(axes):
    method, batch = make("jcl", blocks=1, projection=4, threshold=0.2, position_axes=axes).eval(), blocks(SOME)
    auxiliary, dominant = method.views(batch, generator())
    loss = method((auxiliary, dominant), batch)["global"].item()
    with torch.no_grad():
        deep, features = method.backbone.encode(auxiliary)[-1][6:], method.backbone.encode(dominant)
        decoded = method.backbone.decode(features, blocks=1)[6:]
        rows = torch.cat([method.auxiliary_instance(deep), method.dominant_instance(decoded)])
    if axes == "all":
        near = near_by_hand(batch, 0.2)
    else:
        along = (batch.centres[:, 0] / batch.extents[:, 0]).tolist()
        near = [[abs(a - b) < 0.2 for b in along] for a in along]
    near = [[is_near or i == j for j, is_near in enumerate(row)] for i, row in enumerate(near)]
    both = [[*row, *row] for row in near] * 2
    assert loss == pytest.approx(contrast_by_hand(rows, both), rel=1e-4)


def test_all_axes_are_for_blocks_that_say_where_they_are():
    from jcl.backbones.unet import UNet

    with pytest.raises(UsageError, match="position_axes is 'all', which is for blocks"):
        methods.build("jcl", UNet(width=2), {"position_axes": "all"})
    method, batch = make("jcl", blocks=1, position_axes="all"), blocks(SOME)
    without = BlockBatch(**{**vars(batch), "centres": None})
    with pytest.raises(UsageError, match="these blocks have no centres"):
        method(method.views(without, generator()), without)


def test_pcl_takes_blocks_near_along_the_body_as_positives():
    method, batch = make("pcl", projection=4, threshold=0.2).eval(), blocks(SOME)
    views = method.views(batch, generator())
    with torch.no_grad():
        rows = method.projector(method.backbone.encode(views[0])[-1])
    along = (batch.centres[:, 0] / batch.extents[:, 0]).tolist() * 2
    near = [[abs(a - b) < 0.2 for b in along] for a in along]
    assert method(views, batch)["loss"].item() == pytest.approx(contrast_by_hand(rows, near), rel=1e-4)


def test_a_query_leaves_out_keys_of_blocks_that_share_slices_with_it():
    """Volumes by turns: 0 1 0 1 0 1; blocks are 8 slices deep, so that 8 slices apart they share none."""
    batch = blocks([(0, 0, 0), (0, 0, 0), (7, 30, 0), (8, 0, 0), (8, 0, 0), (22, 0, 0)])
    queue = KeyQueue(6, 4)
    queue.push(keys=torch.rand(6, 4), volumes=batch.volumes, positions=batch.positions)
    found = queue.own(batch.volumes, batch.positions, shared_within(batch)).tolist()
    first = [0, 0, 7, 8, 8, 22]
    volumes = batch.volumes.tolist()
    slices = [{*range(number, number + 8)} for number in first]
    wanted = [[volumes[i] == volumes[k] and bool(slices[i] & slices[k]) for k in range(6)] for i in range(6)]
    assert found == wanted


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("shape", "patch"), [((4, 8, 8), (2, 4, 4)), ((3, 7, 6), (1, 4, 3))])
def test_the_loss_of_mae_is_that_of_the_loop(shape, patch, normalise):
    """Also where the last patches are smaller than the others."""
    restored, images = (torch.rand(2, 1, *shape, generator=generator(seed)) for seed in (1, 2))
    seen = visible(images, patch, 0.5, generator=generator())
    target = normalised(images, patch) if normalise else images
    got = masked_error(restored, target, seen).mean().item()
    of_blocks = []
    for n in range(2):
        errors = []
        for place in itertools.product(*map(range, shape)):
            if seen[(n, 0, *place)] == 1:
                continue
            wanted = images[(n, 0, *place)].item()
            if normalise:
                part = [slice(p // s * s, p // s * s + s) for p, s in zip(place, patch, strict=True)]
                whole = images[(n, 0, *part)].flatten().tolist()
                mean = math.fsum(whole) / len(whole)
                wanted = (wanted - mean) / math.sqrt(math.fsum((v - mean) ** 2 for v in whole) / len(whole) + 1e-6)
            errors.append((restored[(n, 0, *place)].item() - wanted) ** 2)
        of_blocks.append(math.fsum(errors) / len(errors))
    assert got == pytest.approx(math.fsum(of_blocks) / 2, rel=1e-4)


def test_whole_patches_of_a_block_are_masked_as_many_as_the_ratio_says():
    seen = visible(torch.zeros(3, 2, 5, 9, 8), (2, 4, 4), 0.6, generator=generator())
    assert seen.shape == (3, 1, 5, 9, 8)
    for block in seen[:, 0]:
        found = {}
        for place in itertools.product(range(5), range(9), range(8)):
            found.setdefault((place[0] // 2, place[1] // 4, place[2] // 4), set()).add(block[place].item())
        assert len(found) == 3 * 3 * 2
        assert all(values in ({0.0}, {1.0}) for values in found.values())
        assert sum(values == {0.0} for values in found.values()) == round(0.6 * 18)
    with pytest.raises(UsageError, match="patch is 16; blocks of 5x9x8 need a smaller one"):
        visible(torch.zeros(3, 2, 5, 9, 8), (16, 16, 16), 0.6, generator=generator())


def test_each_side_of_a_block_has_a_patch_of_its_own():
    assert fitting_sides((16, 64, 128)) == (2, 8, 16)
    assert fitting_sides((4, 64, 64)) == (1, 8, 8)


@pytest.mark.parametrize("patch", [0, 4])
def test_sparse_masking_empties_the_places_of_which_nothing_is_seen(patch):
    """Level by level and place by place; what is added at the border is no hole."""
    method = make("mae", sparse=True, patch=patch).eval()
    batch = BlockBatch(
        images=torch.rand(2, 1, 6, 14, 16, generator=generator()), positions=torch.ones(2), volumes=torch.arange(2)
    )
    for vector in method.empty:
        torch.nn.init.constant_(vector, 3.0)
    images, seen = method.views(batch, generator())
    features = method.backbone.encode(images * seen)
    emptied = method._emptied(features, seen)
    holes = 0
    for number, (before, after) in enumerate(zip(features, emptied, strict=True)):
        factor = [math.prod(level[axis] for level in STRIDES[:number]) for axis in range(3)]
        for n, *place in itertools.product(range(2), *map(range, before.shape[2:])):
            under = itertools.product(*(range(p * f, (p + 1) * f) for p, f in zip(place, factor, strict=True)))
            inside = {each: all(p < s for p, s in zip(each, (6, 14, 16), strict=True)) for each in under}
            some = any(not there or seen[(n, 0, *each)] == 1 for each, there in inside.items())
            wanted = before[(n, slice(None), *place)] if some else torch.full((before.shape[1],), 3.0)
            assert torch.equal(after[(n, slice(None), *place)], wanted)
            holes += not some
    assert holes


def test_regions_of_a_block_lie_on_the_lattice_and_do_not_overlap():
    maps = torch.arange(2 * 10 * 11 * 13.0).view(1, 2, 10, 11, 13)
    found = regions(maps, 2)
    assert found.shape == (1, 35, 2 * 8)
    corners = [*itertools.product((0, 2, 4), repeat=3), *itertools.product((1, 3), repeat=3)]
    for number, (z, y, x) in enumerate(corners):
        first = (z * 8 // 4, y * 9 // 4, x * 11 // 4)
        cube = maps[:, :, first[0] : first[0] + 2, first[1] : first[1] + 2, first[2] : first[2] + 2]
        assert torch.equal(found[0, number], cube.flatten())
    assert len(found[:, :, :8].unique()) == 35 * 8


def test_gcls_local_loss_is_that_of_the_loop():
    """Each cube against the same of the other view; all others of both views are in the denominator."""
    method, batch = make("gcl", region=1, blocks=2).eval(), blocks(SOME[:2])
    method.after_step(0.5)
    views = method.views(batch, generator())
    with torch.no_grad():
        maps = method.local_projector(method.backbone.decode(method.backbone.encode(views[0]), blocks=2))
    losses = []
    for n in range(2):
        rows = torch.cat([regions(maps, 1)[n], regions(maps, 1)[n + 2]]).double()
        z = torch.nn.functional.normalize(rows, dim=1)
        cosines = (z @ z.T / 0.1).tolist()
        for i in range(70):
            own = cosines[i][(i + 35) % 70]
            against = [cosines[i][k] for k in range(70) if k % 35 != i % 35]
            losses.append(math.log(1 + math.fsum(math.exp(s - own) for s in against)))
    assert method(views, batch)["loss"].item() == pytest.approx(math.fsum(losses) / len(losses), rel=1e-4)


def test_blocks_without_room_for_regions_are_refused_before_anything_is_trained():
    with pytest.raises(UsageError, match="blocks of 8x16x16 have no room for 35 local regions"):
        make("gcl").views(blocks(SOME), generator())


def test_gcls_parts_are_by_the_centre_along_the_body():
    method, batch = make("gcl", region=1), blocks([(0, 0, 0), (1, 30, 0), (10, 0, 0), (22, 0, 0)])
    loss = method(method.views(batch, generator()), batch)["loss"]
    other = BlockBatch(**{**vars(batch), "positions": torch.tensor([0.1, 0.9, 0.4, 0.6])})
    assert torch.isfinite(loss)
    assert method(method.views(other, generator()), other)["loss"] != loss
