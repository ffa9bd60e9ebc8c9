"""JCL and PCL, set as the authors' programs are, against what those give (see oracles/authors.py)."""

import pytest
import torch
from torch import Tensor, nn

from jcl.augment.spatial import shrink
from jcl.backbones.macl_unet import MACLUNet
from jcl.data.batches import SliceBatch
from jcl.errors import UsageError
from jcl.losses.contrastive import info_nce, position_mask
from jcl.losses.dense import dense_info_nce, equivariance
from jcl.methods.jcl import JCL
from jcl.methods.pcl import PCL
from jcl.training.authors_layout import fold_biases
from oracles.authors import MACL_LOSSES, PCL_LOSS, arrays, as_ours, below, tensors

PROGRAM = {
    "dominant_pixel_projector": False,
    "hidden_units": "decoder",
    "batch_statistics": "view",
    "resample": "align_corners",
    "invariant": "intensity",
}
"""Settings of JCL as MACL's program has it."""

NEAR = {"rtol": 1e-5, "atol": 5e-6}
FACTOR = 10 / 7
"""Temperature / 0.07, which the program multiplies both contrastive terms by."""


def with_their_weights(method: nn.Module, program: str) -> nn.Module:
    theirs = below("state.", f"authors_{program}_unet")
    found = as_ours(theirs, method.state_dict(), program)
    lacking, _ = method.load_state_dict(found, strict=False)
    assert len(found) == len(fold_biases(theirs)), "one of theirs has no place"
    assert all(name.startswith(("backbone.head", "backbone.decoder")) for name in lacking)
    return method


def macl(**settings: object) -> JCL:
    method = JCL(MACLUNet(width=4), projection=8, **{**PROGRAM, **settings})
    return with_their_weights(method, "macl")


def batch(positions: Tensor) -> SliceBatch:
    """In float64, as the program has positions: there are slices exactly 0.1 apart."""
    count = len(positions)
    return SliceBatch(
        images=torch.zeros(count, 1, 64, 64), positions=positions, volumes=torch.zeros(count, dtype=torch.long)
    )


def macl_step() -> tuple[tuple[Tensor, Tensor], SliceBatch]:
    given = tensors("authors_macl_unet")
    views = tuple(torch.cat([given[f"in.x{first}"], given[f"in.x{second}"]]) for first, second in ((1, 3), (2, 4)))
    return views, batch(given["step.positions"])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_six_outputs(mode):
    """What each part of the method gets and gives, a view at a time in the program's order."""
    given, method = tensors("authors_macl_unet"), macl().train(mode == "train")
    x1, x2, x3, x4 = (given[f"in.x{number}"] for number in range(1, 5))
    net = method.backbone
    auxiliary = net.encode(x1)[-1]
    dominant = net.encode(x2)
    image = method.auxiliary_instance(net.encode(x3)[-1])
    small = net.encode(x4)
    decoded = net.decode(dominant, blocks=2)
    outputs = {
        "x_1": auxiliary,
        "x_1_for_contrast": method.auxiliary_pixel(auxiliary),
        "out1": image,
        "x_2": dominant[-1],
        "up_concat_2_expand": method.dominant_pixel(decoded),
        "out2": method.dominant_instance(net.decode(small, blocks=2)),
    }
    for name, output in outputs.items():
        torch.testing.assert_close(output, given[f"{mode}.{name}"], rtol=2e-5, atol=2e-5, msg=name)


def test_a_step_of_macl():
    """Losses, gradients and running statistics of the whole method."""
    method, (views, b) = macl(), macl_step()
    method.weights = {"global": FACTOR, "dense": 0.5 * FACTOR, "equivariance": 1.0}
    losses = method(views, b)
    for name, wanted in MACL_LOSSES.items():
        assert losses[name].item() == pytest.approx(wanted, rel=2e-6), name
    losses["loss"].backward()
    gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    wanted = as_ours(below("step.grad.", "authors_macl_unet"), gradients, "macl")
    assert len(wanted) == 10
    for name, gradient in wanted.items():
        scale = gradient.abs().max()
        torch.testing.assert_close(gradients[name] / scale, gradient / scale, rtol=0, atol=2e-5, msg=name)
    after = as_ours(below("after_train.", "authors_macl_unet"), method.state_dict(), "macl")
    assert len(after) >= 30
    for name, value in after.items():
        if not name.startswith(("backbone.decoder.2", "backbone.decoder.3")):  # the program runs them for nothing
            torch.testing.assert_close(method.state_dict()[name], value, **NEAR, msg=name)


@pytest.mark.parametrize(
    ("setting", "changes"),
    [({"batch_statistics": "joint"}, {"dense"}), ({"resample": "area"}, {"equivariance"})],
)
def test_other_settings_give_other_losses(setting, changes):
    views, b = macl_step()
    losses = macl(**setting)(views, b)
    differing = {name for name, wanted in MACL_LOSSES.items() if abs(losses[name].item() / wanted - 1) > 0.01}
    assert changes <= differing


@pytest.mark.parametrize(("statistics", "prefix"), [("view", "train."), ("joint", "train_joint.")])
def test_pcl(statistics, prefix):
    given = tensors("authors_pcl_unet")
    method = with_their_weights(PCL(MACLUNet(width=4), projection=32, batch_statistics=statistics), "pcl")
    views, seen = torch.cat([given["in.x1"], given["in.x2"]]), []
    method.projector.register_forward_hook(lambda module, inputs, output: seen.append(output))
    loss = method((views,), batch(given["step.positions"]))["loss"]
    torch.testing.assert_close(seen[0][:8], given[f"{prefix}out1"], rtol=2e-5, atol=2e-5)
    assert (loss.item() == pytest.approx(PCL_LOSS, rel=2e-6)) == (statistics == "view")


def test_pcl_says_what_statistics_there_are():
    with pytest.raises(UsageError, match="batch_statistics is 'each'; it can be joint or view"):
        PCL(MACLUNet(width=4), batch_statistics="each")


LOSSES = arrays("authors_losses")


def of(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(LOSSES[name]).to(dtype)


@pytest.mark.parametrize("name", ["g0", "g1", "g2", "g3", "g4", "g5", "d0", "d1", "d2"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_contrastive_losses(name, dtype, tolerance):
    """With the positives that the program finds, ties included."""
    auxiliary, dominant = (of(f"{name}.{branch}", dtype).requires_grad_() for branch in ("aux", "dom"))
    temperature, rows = float(LOSSES[f"{name}.temperature"]), torch.cat([auxiliary, dominant])
    contrast = info_nce if name.startswith("g") else dense_info_nce
    positives = torch.from_numpy(LOSSES[f"{name}.near"]).repeat(2, 2).fill_diagonal_(False)
    loss = contrast(rows, rows, positives, temperature=temperature)
    assert loss.item() * temperature / 0.07 == pytest.approx(float(LOSSES[f"{name}.loss"]), rel=tolerance)
    for leaf, gradient in zip(("aux", "dom"), torch.autograd.grad(loss, [auxiliary, dominant]), strict=True):
        wanted = of(f"{name}.grad_{leaf}", dtype)
        scale = wanted.abs().max()
        torch.testing.assert_close(gradient * (temperature / 0.07) / scale, wanted / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["g0", "g1", "g2", "g3", "g4", "g5"])
def test_positives_are_those_of_the_program_but_for_ties(name):
    """Which of two slices exactly as far apart as the threshold are near, rounding decides there; here none is."""
    slices, threshold = torch.from_numpy(LOSSES[f"{name}.slice_of"]), float(LOSSES[f"{name}.threshold"])
    positions, depths = ((slices[:, 0] + 1) / slices[:, 1]).float(), slices[:, 1]
    ties = torch.from_numpy(LOSSES[f"{name}.ties"])
    theirs = torch.tensor(LOSSES[f"{name}.near"]).fill_diagonal_(False)
    assert torch.equal(position_mask(positions, threshold, depths), theirs & ~ties)
    assert torch.equal(
        position_mask(positions, threshold), torch.tensor(LOSSES[f"{name}.near_if_float32"]).fill_diagonal_(False)
    )


@pytest.mark.parametrize("row", LOSSES["mask_counts"].tolist(), ids=lambda row: f"{row[0]}-{row[1] / 100}")
def test_positives_of_a_volume_in_integers_and_in_rounded_numbers(row):
    depth, percent, in_float64, in_float32, _, ties_in_float64, _ = row
    steps = torch.arange(1, depth + 1)
    depths = torch.full((depth,), depth)
    exact = position_mask((steps / depth).float(), percent / 100, depths)
    by_hand = sum(abs(i - j) * 100 < percent * depth for i in range(depth) for j in range(depth) if i != j)
    assert exact.sum().item() == by_hand == in_float64 - ties_in_float64
    assert position_mask((steps / depth).float(), percent / 100).sum().item() == in_float32


RESAMPLING = arrays("authors_resampling")


@pytest.mark.parametrize("name", ["p0", "p1", "p2", "p3", "p4", "p5"])
def test_equivariance(name):
    sides = ("large", "small")
    # in float32 a difference of 0 can have a sign
    large, small = (torch.from_numpy(RESAMPLING[f"{name}.{side}"]).double().requires_grad_() for side in sides)
    loss = equivariance(small, large, align_corners=True)
    assert loss.item() == pytest.approx(float(RESAMPLING[f"{name}.loss"]), rel=1e-6)
    for side, gradient in zip(sides, torch.autograd.grad(loss, [large, small]), strict=True):
        wanted = torch.from_numpy(RESAMPLING[f"{name}.grad_{side}"]).double()
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["i0", "i1", "i2"])
def test_shrinking(name):
    images, factor = torch.from_numpy(RESAMPLING[f"{name}.image"]), round(1 / float(RESAMPLING[f"{name}.scale"]))
    got = shrink(images, factor, align_corners=True)
    torch.testing.assert_close(got, torch.from_numpy(RESAMPLING[f"{name}.down"]), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(got, shrink(images, factor), atol=1e-2)


def test_both_pairs_are_made_of_the_jittered_slices():
    """With no turns the variant pair is the invariant one (journal, equation 5); neither is the slices themselves."""
    b = SliceBatch(torch.rand(4, 1, 64, 64), torch.linspace(0.1, 1, 4), torch.zeros(4, dtype=torch.long))
    method = JCL(MACLUNet(width=4), invariant="intensity", rotation=0.0, scale=0.0, translation=0.0)
    full, small = method.views(b, torch.Generator().manual_seed(0))
    torch.testing.assert_close(full[:4], full[4:], rtol=0, atol=1e-5)
    torch.testing.assert_close(small[:4], small[4:], rtol=0, atol=1e-5)
    assert (full[:4] - b.images).abs().mean() > 0.01
    assert (small[:4] - shrink(full[:4], 4)).abs().mean() > 0.01, "each branch has a draw of its own"


def test_views_are_shrunk_as_it_is_set():
    b = SliceBatch(torch.rand(4, 1, 64, 64), torch.linspace(0.1, 1, 4), torch.zeros(4, dtype=torch.long))
    for resample in ("area", "align_corners"):
        full, small = JCL(MACLUNet(width=4), resample=resample).views(b, torch.Generator().manual_seed(0))
        assert torch.equal(small[:4], shrink(full[:4], 4, align_corners=resample == "align_corners"))


@pytest.mark.parametrize("settings", [{}, {"pairing": "cross"}, {"views": "paper"}, {"blocks": 0}])
def test_each_view_is_normalised_by_itself(settings):
    b = SliceBatch(torch.rand(4, 1, 64, 64), torch.linspace(0.1, 1, 4), torch.zeros(4, dtype=torch.long))
    rows = {}
    for statistics in ("view", "joint"):
        method = JCL(MACLUNet(width=4), batch_statistics=statistics, **settings)
        found = rows.setdefault(statistics, set())
        for layer in method.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_pre_hook(lambda _, inputs, found=found: found.add(len(inputs[0])))
        method(method.views(b, torch.Generator().manual_seed(0)), b)
    assert rows["view"] == {4}
    assert max(rows["joint"]) > 4


def test_hidden_units_of_both_image_projectors():
    for units, wanted in (("input", [64, 64]), ("decoder", [16, 16])):
        method = JCL(MACLUNet(width=4), hidden_units=units, global_source="encoder")
        heads = (method.auxiliary_instance, method.dominant_instance)
        assert [head[2].out_features for head in heads] == wanted
