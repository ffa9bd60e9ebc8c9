"""GCL: masks by hand, both losses against loops, and an encoder that stays as it is in stage two."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from jcl.backbones.unet import UNet
from jcl.data.batches import SliceBatch
from jcl.errors import UsageError
from jcl.methods.gcl import GCL, global_masks, local_masks, partition, regions, rounded_partition
from jcl.training.optim import sgd
from support.training import assert_finite, assert_resumes_bit_for_bit, awkward, losses_of, slices, train


def make(*, stage: int = 0, **settings) -> GCL:
    torch.manual_seed(0)
    method = GCL(UNet(width=4), **{"projection": 16, **settings})
    method.after_step(stage / 2)
    return method


@pytest.mark.parametrize("depth", [4, 7, 26, 20, 33, 160])
@pytest.mark.parametrize("count", [3, 4, 13])
def test_parts_are_those_of_whole_numbers(depth, count):
    """Slice i of D (from 1) is in part ceil(i * count / D), counted in integers."""
    positions = (torch.arange(1, depth + 1) / depth).float()
    assert partition(positions, count).tolist() == [-(-i * count // depth) - 1 for i in range(1, depth + 1)]


def test_global_masks_by_hand():
    """Slices 0 and 1 lie in the same part, 2 in another."""
    positives, negatives = global_masks(torch.tensor([0, 0, 3]), across=True)
    assert positives.int().tolist() == [
        [0, 1, 0, 1, 1, 0],
        [1, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 0],
    ]
    assert negatives.int().tolist() == [[0, 0, 1, 0, 0, 1]] * 2 + [[1, 1, 0, 1, 1, 0]] + [[0, 0, 1, 0, 0, 1]] * 2 + [
        [1, 1, 0, 1, 1, 0]
    ]
    positives, same = global_masks(torch.tensor([0, 0, 3]), across=False)
    assert positives.nonzero().tolist() == [[0, 3], [1, 4], [2, 5], [3, 0], [4, 1], [5, 2]]
    assert torch.equal(same, negatives), "what is in the same part is no negative either way"


def test_local_masks_by_hand():
    positives, negatives = local_masks(2)
    assert positives.int().tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert negatives.int().tolist() == [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]


def test_regions_lie_on_the_lattice_and_do_not_overlap():
    maps = torch.arange(2 * 16 * 19.0).view(1, 2, 16, 19)
    got = regions(maps, 3)
    assert got.shape == (1, 13, 18)
    assert torch.equal(got[0, 0].view(2, 3, 3), maps[0, :, :3, :3])
    assert torch.equal(got[0, 4].view(2, 3, 3), maps[0, :, 6:9, 8:11])
    assert torch.equal(got[0, 8].view(2, 3, 3), maps[0, :, 13:, 16:])
    assert torch.equal(got[0, 9].view(2, 3, 3), maps[0, :, 3:6, 4:7])
    assert torch.equal(got[0, 12].view(2, 3, 3), maps[0, :, 9:12, 12:15])
    assert len(got[:, :, :9].unique()) == 13 * 9, "no pixel is in two"


def slow(logits: list[list[float]], positives: list[tuple[int, int]], negatives: dict[int, list[int]]) -> float:
    """Mean of l(i, j) over the positive pairs."""
    terms = []
    for i, j in positives:
        own = math.exp(logits[i][j])
        terms.append(-math.log(own / (own + sum(math.exp(logits[i][k]) for k in negatives[i]))))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("kind", ["partition", "views"])
def test_global_loss_is_that_of_the_paper(kind):
    method = make(positives=kind)  # in training mode: only so are untrained features of noise apart
    b = SliceBatch(slices().images, torch.tensor([0.1, 0.2, 0.3, 0.6, 0.74, 1.0]), torch.tensor([0, 0, 1, 1, 2, 2]))
    parts = [0, 0, 1, 2, 2, 3] * 2
    (views,) = method.views(b, torch.Generator().manual_seed(0))
    z = F.normalize(method.global_projector(method.backbone.encode(views)[-1]).double(), dim=1)
    same = {i: [j for j in range(12) if j != i and parts[j] == parts[i]] for i in range(12)}
    positives = [(i, j) for i in range(12) for j in (same[i] if kind == "partition" else [(i + 6) % 12])]
    negatives = {i: [k for k in range(12) if parts[k] != parts[i]] for i in range(12)}
    wanted = slow((z @ z.T / 0.1).tolist(), positives, negatives)
    assert losses_of(method, b)["loss"].item() == pytest.approx(wanted, rel=1e-5)


def test_local_loss_is_that_of_the_paper():
    method, b = make(stage=1), slices(2)
    (views,) = method.views(b, torch.Generator().manual_seed(0))
    method.backbone.encoder.eval()
    maps = method.local_projector(method.backbone.decode(method.backbone.encode(views), blocks=2)).double()
    corners = [(r, c) for r in (0, 6, 13) for c in (0, 6, 13)] + [(r, c) for r in (3, 9) for c in (3, 9)]
    terms = []
    for slice_ in range(2):
        vectors = [maps[slice_ + 2 * view, :, r : r + 3, c : c + 3].flatten() for view in (0, 1) for r, c in corners]
        z = F.normalize(torch.stack(vectors), dim=1)
        pairs = [(i, (i + 13) % 26) for i in range(26)]
        negatives = {i: [k for k in range(26) if k % 13 != i % 13] for i in range(26)}
        terms.append(slow((z @ z.T / 0.1).tolist(), pairs, negatives))
    assert losses_of(method, b)["loss"].item() == pytest.approx(sum(terms) / 2, rel=1e-5)


def test_local_loss_is_a_mean_over_slices():
    """So the mean over processes is that of all slices; negatives are regions of the same slice alone."""
    method, b = make(stage=1).eval(), slices()
    (views,) = method.views(b, torch.Generator().manual_seed(0))
    halves = [torch.cat([views[s], views[6:][s]]) for s in (slice(0, 3), slice(3, 6))]
    parts = [method((half,), b)["loss"].item() for half in halves]
    assert method((views,), b)["loss"].item() == pytest.approx(sum(parts) / 2, rel=1e-5)


def test_the_encoder_does_not_change_in_stage_two():
    method = make()
    optimizer, generator = sgd(method.parameters(), weight_decay=1e-2), torch.Generator().manual_seed(0)
    train(method, optimizer, generator, range(3), 6)
    assert method.phase == 1
    before = copy.deepcopy(method.state_dict())
    train(method, optimizer, generator, range(3, 6), 6)
    after = method.state_dict()
    for name, value in before.items():
        frozen = name.startswith(("backbone.encoder", "global_projector", "backbone.head", "backbone.decoder.2"))
        if frozen:
            assert torch.equal(after[name], value), name
    for name in ("backbone.decoder.0.up.weight", "backbone.decoder.1.units.4.running_mean", "local_projector.0.weight"):
        assert not torch.equal(after[name], before[name]), name
    assert all(module.training for module in method.modules()), "each module is back in its mode"


def test_stage_one_trains_the_encoder_alone():
    method = make()
    losses_of(method, slices())["loss"].backward()
    trained = {n.split(".")[1] for n, p in method.backbone.named_parameters() if p.grad is not None}
    assert trained == {"blocks"}
    assert {n.split(".")[0] for n, p in method.backbone.named_parameters() if p.grad is not None} == {"encoder"}
    assert method.pretrained_modules == ("encoder", "decoder.0", "decoder.1")


def test_stage_two_begins_at_half_and_stays():
    method = make()
    phases = []
    for progress in (0.0, 0.25, 0.49, 0.5, 0.75, 1.0):
        method.after_step(progress)
        phases.append(int(method.phase))
    assert phases == [0, 0, 0, 1, 1, 1]
    fresh = make()
    fresh.load_state_dict(method.state_dict())
    assert fresh.phase == 1


def test_pixels_keep_their_place_in_stage_two():
    b = slices()
    image = torch.zeros_like(b.images)
    image[..., 20:40, 10:30] = 0.5
    (views,) = make(stage=1).views(SliceBatch(image, b.positions, b.volumes), torch.Generator().manual_seed(0))
    assert torch.equal(views != 0, image.repeat(2, 1, 1, 1) != 0)
    assert not torch.equal(views[:6], views[6:])


def test_no_negatives_at_all():
    b = slices()
    method = make()
    losses = assert_finite(method, SliceBatch(b.images, torch.full((6,), 0.6), b.volumes))
    assert losses["loss"] == 0
    assert not any(p.grad.any() for p in method.backbone.encoder.parameters())


@pytest.mark.parametrize("name", awkward())
@pytest.mark.parametrize("settings", [{"stage": 0}, {"stage": 1}, {"program": "pcl"}])
def test_finite_for_awkward_batches(name, settings):
    assert_finite(make(temperature=0.01, **settings), awkward()[name])


def test_stage_two_in_bfloat16():
    method, b = make(stage=1), slices()
    state = copy.deepcopy(method.state_dict())
    wanted = losses_of(method, b)["loss"].item()
    method.load_state_dict(state)
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(method, b)
    losses["loss"].backward()
    assert losses["loss"].item() == pytest.approx(wanted, rel=0.05)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("stage", [0, 1])
def test_too_small_slices_are_said_at_the_start(stage):
    for size, region, fits in ((64, 3, True), (49, 3, True), (48, 3, False), (32, 1, True)):
        method, b = make(stage=stage, region=region), slices(2, size=size)
        if fits:
            assert torch.isfinite(losses_of(method, b)["loss"])
        else:
            with pytest.raises(UsageError, match="region"):
                losses_of(method, b)


def parts_of_the_program(depth: int, count: int) -> list[int]:
    """As PCL's program has them: per = D / 4, down, or up from one half on; the number of a slice over it, 0 to 3."""
    per = math.floor(depth / count)
    if depth / count - per >= 0.5:
        per = math.ceil(depth / count)
    return [min(max(i // per, 0), count - 1) for i in range(depth)]


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6, 7, 10, 13, 26, 33, 90, 161])
@pytest.mark.parametrize("count", [3, 4])
def test_rounded_parts_are_those_of_pcls_program(depth, count):
    positions, depths = (torch.arange(1, depth + 1) / depth).float(), torch.full((depth,), depth)
    found = rounded_partition(positions, count, depths).tolist()
    if depth / count < 0.5:
        assert found == list(range(depth))
    else:
        assert found == parts_of_the_program(depth, count)
    assert torch.equal(rounded_partition(positions, count, None), partition(positions, count))


def as_in_pcl(**settings) -> GCL:
    return make(**{"program": "pcl", "batch_statistics": "view", **settings})


def test_the_loss_of_pcls_program():
    """Of 12 rows: the same part is positive, whatever the volume; all other rows are in the denominator."""
    method = as_in_pcl(weight=10 / 7)
    b = slices()
    positions, depths = torch.tensor([1 / 6, 0.5, 4 / 6, 0.2, 0.6, 1.0]), torch.tensor([6, 6, 6, 10, 10, 10])
    parts = [0, 1, 1, 0, 1, 3] * 2  # 6 slices: two a part, 10: three a part, the last has one
    b = SliceBatch(b.images, positions, b.volumes, depths=depths)
    (views,) = method.views(b, torch.Generator().manual_seed(0))
    z = torch.cat([method.global_projector(method.backbone.encode(view)[-1]) for view in views.chunk(2)])
    z = F.normalize(z.double(), dim=1).tolist()
    terms = []
    for i, anchor in enumerate(z):
        exponents = [math.exp(sum(x * y for x, y in zip(anchor, other, strict=True)) / 0.1) for other in z]
        total = sum(exponents) - exponents[i]
        positives = [j for j in range(12) if j != i and parts[j] == parts[i]]
        terms.append(-sum(math.log(exponents[j] / total) for j in positives) / len(positives))
    assert losses_of(method, b)["loss"].item() == pytest.approx(sum(terms) / 12 * 0.1 / 0.07, rel=1e-5)


def test_pcls_program_has_one_phase_and_the_encoder_alone():
    method = as_in_pcl()
    method.after_step(0.75)
    assert (method.phases, method.phase, method.pretrained_modules) == (1, 0, ("encoder",))
    assert not any("local" in name for name, _ in method.named_parameters())
    assert GCL.phases == 2
    assert torch.isfinite(losses_of(method, slices(size=32))["loss"]), "no regions, so any size"


def test_each_view_is_normalised_by_itself_in_phase_one():
    for statistics, wanted in (("view", {6}), ("joint", {12})):
        method, rows = make(batch_statistics=statistics), set()
        for layer in method.backbone.encoder.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.register_forward_pre_hook(lambda _, inputs, rows=rows: rows.add(len(inputs[0])))
        losses_of(method, slices())
        assert rows == wanted


@pytest.mark.parametrize(
    "settings", [{"positives": "all"}, {"blocks": 0}, {"program": "mine"}, {"batch_statistics": "each"}]
)
def test_unknown_values_are_named(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        make(**settings)


def test_resumes_bit_for_bit():
    assert_resumes_bit_for_bit(make)
    assert_resumes_bit_for_bit(as_in_pcl)
