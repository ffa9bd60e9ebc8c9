"""JCL's ablations: each keeps the contract of a method, and does what the paper's tables 3, 5, 7 and 9 say."""

import copy
import itertools
import math

import pytest
import torch
from tests.methods.test_contract import (
    batch,
    losses_of,
    test_a_few_steps_lower_the_loss,
    test_finite_in_bfloat16_and_near_float32,
    test_gradients_on_exactly_the_parts_that_are_trained,
    test_same_generator_same_loss_other_generator_another,
    test_state_round_trip,
    test_the_loss_is_a_finite_scalar,
    test_transfer_fits_a_fresh_backbone,
    two_processes_equal_one,
)

from jcl.backbones.unet import UNet
from jcl.data.batches import SliceBatch
from jcl.errors import UsageError
from jcl.methods.jcl import JCL
from jcl.training.optim import set_learning_rate, sgd

__all__ = [  # pytest runs them for the fixture `method` of this file
    "test_a_few_steps_lower_the_loss",
    "test_finite_in_bfloat16_and_near_float32",
    "test_gradients_on_exactly_the_parts_that_are_trained",
    "test_same_generator_same_loss_other_generator_another",
    "test_state_round_trip",
    "test_the_loss_is_a_finite_scalar",
    "test_transfer_fits_a_fresh_backbone",
]

ONLY_GLOBAL = {"dense_weight": 0.0, "equivariance_weight": 0.0}
VARIANTS = {
    "pcl": {"blocks": 0, **ONLY_GLOBAL},
    "pcl-decoder": ONLY_GLOBAL,
    "no-dense": {"dense_weight": 0.0},
    "no-global": {"global_weight": 0.0, "invariant": "intensity"},
    "only-equivariance": {"global_weight": 0.0, "dense_weight": 0.0, "invariant": "intensity"},
    "blocks-0": {"blocks": 0, "invariant": "intensity"},
    "elastic": {"elastic": 0.05},
    "blocks-1": {"blocks": 1},
    "blocks-3": {"blocks": 3},
    "authors": {
        "dominant_pixel_projector": False,
        "hidden_units": "decoder",
        "batch_statistics": "view",
        "resample": "align_corners",
        "invariant": "intensity",
    },
    "view-cross-byol": {"batch_statistics": "view", "pairing": "cross", "dense_form": "byol", "invariant": "intensity"},
    "view-two-ema": {"batch_statistics": "view", "stages": "two-full-size", "connection": "ema"},
    "encoder-source": {"global_source": "encoder", "dense_weight": 0.0},
    "independent": {"connection": "independent"},
    "ema": {"connection": "ema"},
    "ema-cross": {"connection": "ema", "pairing": "cross"},
    "mse": {"dense_form": "mse", "global_weight": 0.0, "invariant": "intensity"},
    "byol": {"dense_form": "byol", "pairing": "cross"},
    "two": {"stages": "two"},
    "two-full-size": {"stages": "two-full-size"},
    "two-independent": {"stages": "two", "connection": "independent", "global_source": "encoder"},
    "paper-two-ema": {"stages": "two", "connection": "ema", "views": "paper"},
}


def make(variant: str) -> JCL:
    return build(**VARIANTS[variant])


def build(**settings) -> JCL:
    torch.manual_seed(0)
    return JCL(UNet(width=4), projection=16, **settings)


@pytest.fixture(params=VARIANTS)
def method(request):
    return make(request.param)


def gradients(method: JCL, b: SliceBatch | None = None) -> set[str]:
    """Names of the parameters that a step trains."""
    method.zero_grad()
    losses_of(method, b or batch())["loss"].backward()
    return {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}


def test_nothing_is_built_in_vain(method):
    """All that is trained is in the backbone's transferred parts, or gets a gradient in one of the stages."""
    trained = set()
    for phase in range(method.phases):
        method.after_step(phase / method.phases)
        trained |= gradients(method)
    assert {n for n, p in method.named_parameters() if p.requires_grad and not n.startswith("backbone.")} <= trained


def test_two_processes_equal_one(tmp_path):
    two_processes_equal_one(make, [(variant,) for variant in VARIANTS], tmp_path)


# Table 3: components


def passes_of(method: JCL) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of what goes into each part of the network in one step."""
    seen: dict[str, list[tuple[int, ...]]] = {}
    for name, part in method.named_modules():
        if name in ("backbone.encoder", *(f"backbone.decoder.{index}" for index in range(4))):
            part.register_forward_pre_hook(lambda _, x, name=name: seen.setdefault(name, []).append(tuple(x[0].shape)))
    losses_of(method, batch())
    return seen


@pytest.mark.parametrize(
    ("variant", "losses", "encoded", "decoder_blocks"),
    [
        ("pcl", {"global"}, [(12, 64)], 0),
        ("pcl-decoder", {"global"}, [(6, 64), (6, 16)], 2),
        ("no-dense", {"global", "equivariance"}, [(12, 64), (12, 16)], 2),
        ("no-global", {"dense", "equivariance"}, [(6, 64), (6, 16)], 2),
        ("only-equivariance", {"equivariance"}, [(6, 64), (6, 16)], 0),
        ("encoder-source", {"global", "equivariance"}, [(12, 64), (12, 16)], 0),
        ("blocks-1", {"global", "dense", "equivariance"}, [(12, 64), (12, 32)], 1),
        # 64 is no multiple of 16 * 2^3, and 8 none of 16
        ("blocks-3", {"global", "dense", "equivariance"}, [(12, 64), (12, 16)], 3),
    ],
)
def test_what_is_off_is_not_computed(variant, losses, encoded, decoder_blocks):
    method = make(variant)
    got = losses_of(method, batch())
    assert got.keys() == {"loss", "feature_std", "alignment"} | losses
    seen = passes_of(method)
    assert seen.pop("backbone.encoder") == [(rows, 1, side, side) for rows, side in encoded]
    assert sorted(seen) == [f"backbone.decoder.{index}" for index in range(decoder_blocks)]
    assert method.pretrained_modules == ("encoder", *(f"decoder.{index}" for index in range(decoder_blocks)))
    heads = {n.split(".")[0] for n, _ in method.named_parameters()} - {"backbone"}
    assert any("pixel" in head for head in heads) == ("dense" in losses)
    assert any("instance" in head for head in heads) == ("global" in losses)


def test_all_off_but_the_image_loss_and_no_decoder_is_pcl():
    """A plain loop over the projections of both views, from one pass through one encoder and one projector."""
    method, b = make("pcl"), batch()
    method.dominant_instance.load_state_dict(method.auxiliary_instance.state_dict())
    views = method.views(b, torch.Generator().manual_seed(0))
    got = method(views, b)["loss"]
    got.backward()
    found = copy.deepcopy({n: p.grad for n, p in method.named_parameters() if p.grad is not None})
    method.zero_grad()
    wanted = pcl_loop(method.auxiliary_instance(method.backbone.encode(torch.cat(views))[-1]), b.positions.repeat(2))
    wanted.backward()
    assert got.item() == pytest.approx(wanted.item(), rel=1e-6)
    for name, parameter in method.auxiliary_instance.named_parameters():
        both = found[f"auxiliary_instance.{name}"] + found[f"dominant_instance.{name}"]
        torch.testing.assert_close(both, parameter.grad, rtol=1e-3, atol=1e-5)
    for name, parameter in method.backbone.encoder.named_parameters():
        torch.testing.assert_close(found[f"backbone.encoder.{name}"], parameter.grad, rtol=1e-3, atol=1e-4)


def pcl_loop(projections: torch.Tensor, positions: torch.Tensor, t: float = 0.1, threshold: float = 0.1):
    """Equation 2 of PCL (arXiv:2106.09157) over the 2n projections, the mean over anchors."""
    z = projections.double()
    anchors = []
    for i in range(len(z)):
        similar = {j: torch.dot(z[i], z[j]) / (z[i].norm() * z[j].norm()) / t for j in range(len(z)) if j != i}
        all_others = torch.stack(list(similar.values())).exp().sum().log()
        near = [j for j in similar if abs(positions[i] - positions[j]).item() < threshold]
        anchors.append(torch.stack([all_others - similar[j] for j in near]).mean())
    return torch.stack(anchors).mean()


# Table 7: connection of the encoders


def test_an_independent_encoder_starts_elsewhere_and_is_trained_but_does_not_go_on():
    method = make("independent")
    own, shared = method.auxiliary_encoder.encoder, method.backbone.encoder
    assert not torch.allclose(own.blocks[0][0].weight, shared.blocks[0][0].weight)
    trained = gradients(method)
    for name, _ in shared.named_parameters():
        assert f"backbone.encoder.{name}" in trained
        assert f"auxiliary_encoder.encoder.{name}" in trained
    assert method.pretrained_modules == ("encoder", "decoder.0", "decoder.1")


@pytest.mark.parametrize("connection", ["independent", "ema"])
def test_each_branch_has_its_encoder(connection):
    method, b = build(connection=connection, invariant="intensity"), batch()
    torch.nn.init.ones_(method.auxiliary_encoder.encoder.blocks[-1][4].bias)  # a teacher begins as its student is
    full, small = method.views(b, torch.Generator().manual_seed(0))
    got = method((full, small), b)
    features = method.backbone.encode(small)
    bottleneck = method.auxiliary_encoder.encode(full)[-1]
    down = torch.nn.functional.avg_pool2d(bottleneck, 4)  # bilinear at 4 -> 1 is the mean of the middle four
    assert down.shape == features[-1].shape
    middle = bottleneck[..., 1:3, 1:3].mean((2, 3), keepdim=True)
    assert got["equivariance"].item() == pytest.approx((features[-1] - middle)[:6].abs().mean().item(), rel=1e-5)
    decoded = method.backbone.decode(features, blocks=2)
    z = torch.cat([method.auxiliary_instance(bottleneck[6:]), method.dominant_instance(decoded[6:])])
    assert got["global"].item() == pytest.approx(pcl_loop(z, b.positions.repeat(2)).item(), rel=1e-5)


def test_an_ema_encoder_follows_the_dominant_one():
    method = build(connection="ema", momentum=0.75)
    teacher, student = method.auxiliary_encoder.encoder, method.backbone.encoder
    old = copy.deepcopy(teacher.state_dict())
    assert all(torch.equal(old[n], p) for n, p in student.named_parameters())
    trained = gradients(method)
    assert not any(n.startswith("auxiliary_encoder.") for n in trained)
    assert {f"backbone.encoder.{n}" for n, _ in student.named_parameters()} <= trained
    for parameter in student.parameters():
        torch.nn.init.ones_(parameter)
    method.after_step(0.1)
    for name, parameter in teacher.named_parameters():
        torch.testing.assert_close(parameter, 0.75 * old[name] + 0.25)
    assert "auxiliary_encoder.encoder.blocks.0.0.weight" in method.state_dict()


# Table 7: two stages


def step(method: JCL, progress: float) -> dict[str, torch.Tensor]:
    optimizer = sgd(method.parameters(), weight_decay=0.1)
    set_learning_rate(optimizer, 0.1)
    losses = losses_of(method, batch())
    optimizer.zero_grad()
    losses["loss"].backward()
    optimizer.step()
    method.after_step(progress)
    return losses


@pytest.mark.parametrize(("variant", "side"), [("two", 16), ("two-full-size", 64)])
def test_first_the_encoder_then_the_decoder(variant, side):
    method = make(variant)
    weights = [copy.deepcopy(method.state_dict())]
    sides = []
    for progress in (0.49, 0.5, 0.51):
        sides.append(method.views(batch(), torch.Generator())[1].shape[-1])
        losses = step(method, progress)
        assert losses.keys() - {"loss", "feature_std", "alignment"} == (
            {"global"} if len(sides) < 3 else {"global", "dense"}
        )
        weights.append(copy.deepcopy(method.state_dict()))
    assert sides == [side, side, 16]
    moved = [
        {
            part
            for part in ("encoder", "decoder.0", "decoder.1", "decoder.2")
            if any(not torch.equal(before[n], after[n]) for n in before if n.startswith(f"backbone.{part}."))
        }
        for before, after in itertools.pairwise(weights)
    ]
    assert moved == [{"encoder"}, {"encoder"}, {"decoder.0", "decoder.1"}]


def test_the_first_stage_at_full_size_is_pcl():
    method, b = make("two-full-size"), batch()
    views = method.views(b, torch.Generator().manual_seed(0))
    wanted = pcl_loop(method.auxiliary_instance(method.backbone.encode(torch.cat(views))[-1]), b.positions.repeat(2))
    assert method(views, b)["loss"].item() == pytest.approx(wanted.item(), rel=1e-6)


def test_the_second_stage_shares_the_frozen_encoder():
    method = make("two-independent")
    method.after_step(0.5)
    trained = gradients(method)
    assert not any("encoder" in name for name in trained)
    assert {name.split(".")[0] for name in trained} == {"backbone", "auxiliary_pixel", "dominant_pixel"}


def test_a_resumed_run_knows_its_stage():
    method = make("two")
    method.after_step(0.5)
    fresh = make("two")
    fresh.load_state_dict(method.state_dict())
    assert "dense" in losses_of(fresh, batch())


# Table 9: forms of the dense loss


@pytest.mark.parametrize("pairing", ["joint", "cross"])
@pytest.mark.parametrize("form", ["mse", "byol"])
@pytest.mark.parametrize("views", ["split", "paper"])
def test_dense_forms_compare_the_same_pixel_of_the_same_slice(form, pairing, views):
    method, b = build(dense_form=form, pairing=pairing, views=views), batch()
    full, small = method.views(b, torch.Generator().manual_seed(0))
    got = method((full, small), b)["dense"]
    count = len(full) // 2 if views == "split" else len(full)
    first = method.auxiliary_pixel(method.backbone.encode(full)[-1][:count])
    second = method.dominant_pixel(method.backbone.decode(method.backbone.encode(small), blocks=2)[:count])
    distances = []
    for row in range(count):
        for y in range(4):
            for x in range(4):
                a, c = first[row, :, y, x], second[row, :, y, x]
                if form == "mse":
                    distances.append(((a - c) ** 2).mean().item())
                else:
                    distances.append(((a / a.norm() - c / c.norm()) ** 2).sum().item())
    assert got.item() == pytest.approx(sum(distances) / len(distances), rel=1e-4)


def test_the_monitor_sees_a_collapse_without_image_projections():
    method = build(global_weight=0.0, dense_form="byol", invariant="intensity")
    spread = losses_of(method, batch())
    for head in (method.auxiliary_pixel, method.dominant_pixel):
        torch.nn.init.zeros_(head[-2].weight)
        torch.nn.init.ones_(head[-2].bias)
    collapsed = losses_of(method, batch())
    assert collapsed["feature_std"] < 1e-3 < spread["feature_std"]
    assert collapsed["alignment"].item() == pytest.approx(1, abs=1e-5)
    assert math.isclose(collapsed["dense"].item(), 0, abs_tol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"connection": "mean"}, "connection is 'mean'; it can be shared or independent or ema"),
        ({"stages": "three"}, "stages is 'three'; it can be one or two or two-full-size"),
        ({"hidden_units": "8"}, "hidden_units is '8'; it can be input or decoder"),
        ({"batch_statistics": "all"}, "batch_statistics is 'all'; it can be joint or view"),
        ({"resample": "nearest"}, "resample is 'nearest'; it can be area or align_corners"),
        ({"dense_form": "l1"}, "dense_form is 'l1'; it can be supcon or mse or byol"),
        ({"blocks": 5}, "blocks is 5; .* 0 to 4"),
        ({"blocks": -1}, "blocks is -1; .* 0 to 4"),
        ({"dense_weight": -0.5}, "dense_weight is -0.5; it can be 0"),
        ({"global_weight": 0.0, **ONLY_GLOBAL}, "are all 0"),
        ({"temperature": 0.0}, "temperature is 0.0; it has to be above 0"),
        ({"threshold": 0.0}, "threshold is 0.0; it has to be above 0"),
        ({"momentum": 1.5}, "momentum is 1.5; it can be 0 to 1"),
        ({"stages": "two", "blocks": 0}, "stages is 'two', .* nothing to train"),
        ({"stages": "two", "global_weight": 0.0}, "stages is 'two', .* nothing to train"),
        ({"stages": "two", "global_source": "encoder", "dense_weight": 0.0}, "stages is 'two', .* nothing to train"),
    ],
)
def test_settings_that_cannot_be_used(settings, words):
    with pytest.raises(UsageError, match=words):
        build(**settings)
