"""DiRA: its three losses against loops, what the reversed gradient does, and the disturbed views."""

import math

import pytest
import torch
from torch.nn import functional as F

from jcl.backbones.unet import UNet
from jcl.data.batches import SliceBatch
from jcl.errors import UsageError
from jcl.methods.dira import DiRA, cut_out, shuffle_window
from support.training import assert_finite, assert_resumes_bit_for_bit, awkward, losses_of, slices


def make(**settings) -> DiRA:
    torch.manual_seed(0)
    return DiRA(UNet(width=4), **{"projection": 16, "discriminator_width": 4, **settings})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def other_teacher(method: DiRA) -> DiRA:
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.mul_(1.1)
    return method


@pytest.mark.parametrize("size", [64, 40])
def test_losses_are_those_of_the_paper(size):
    method, b = other_teacher(make()), slices(size=size)  # in training mode: only so are untrained features apart
    disturbed, target = method.views(b, generator())
    features = method.backbone.encode(disturbed[:6])
    q = F.normalize(method.projector(features[-1]).double(), dim=1)
    k = F.normalize(method.teacher_projector(method.teacher.encode(disturbed[6:])[-1]).double(), dim=1)
    discriminative = 0.0
    for i in range(6):
        exponents = [math.exp((q[i] @ k[j]).item() / 0.2) for j in range(6)]
        discriminative -= math.log(exponents[i] / sum(exponents)) / 6
    restored = method.restorer(method.backbone.decode(features))[..., :size, :size]
    restorative = ((restored - target) ** 2).double().mean().item()
    judged = [torch.sigmoid(method.discriminator(x).double()) for x in (target, restored)]
    adversarial = -(judged[0].log().mean() + (1 - judged[1]).log().mean()).item()
    got = method((disturbed, target), b)
    assert got["discriminative"].item() == pytest.approx(discriminative, rel=1e-5)
    assert got["restorative"].item() == pytest.approx(restorative, rel=1e-5)
    assert got["adversarial"].item() == pytest.approx(adversarial, rel=1e-5)
    assert got["loss"].item() == pytest.approx(discriminative + 10 * restorative + adversarial, rel=1e-5)


def test_the_network_climbs_what_the_discriminator_descends():
    """Both gradients of L_adv, without the other losses, against plain differentiation."""
    method, b = make(discriminative_weight=0.0, restorative_weight=0.0, adversarial_weight=0.5).eval(), slices()
    disturbed, target = method.views(b, generator())
    restored = method.restorer(method.backbone.decode(method.backbone.encode(disturbed[:6])))
    wanted = F.softplus(-method.discriminator(target)).mean() + F.softplus(method.discriminator(restored)).mean()
    network = [*method.backbone.encoder.parameters(), *method.backbone.decoder.parameters()]
    judge = list(method.discriminator.parameters())
    plain = torch.autograd.grad(wanted, network + judge)
    got = torch.autograd.grad(method((disturbed, target), b)["loss"], network + judge)
    for mine, theirs in zip(got[: len(network)], plain[: len(network)], strict=True):
        torch.testing.assert_close(mine, -0.5 * theirs, rtol=1e-3, atol=1e-7)
    for mine, theirs in zip(got[len(network) :], plain[len(network) :], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)
    assert any(g.abs().max() > 1e-5 for g in plain[: len(network)])


def test_each_loss_reaches_what_it_should():
    method = make()
    losses = losses_of(method, slices())
    names, parameters = zip(*method.named_parameters(), strict=True)
    learning = [(n, p) for n, p in zip(names, parameters, strict=True) if p.requires_grad]
    reached = {}
    for name in ("discriminative", "restorative", "adversarial"):
        grads = torch.autograd.grad(losses[name], [p for _, p in learning], allow_unused=True, retain_graph=True)
        reached[name] = {".".join(n.split(".")[:2]) for (n, _), g in zip(learning, grads, strict=True) if g is not None}
    network = {"backbone.encoder", "backbone.decoder", "restorer.weight", "restorer.bias"}
    assert reached["discriminative"] == {"backbone.encoder", "projector.2", "projector.4"}
    assert reached["restorative"] == network
    assert reached["adversarial"] == network | {f"discriminator.{i}" for i in (0, 2, 3, 5, 6, 8)}
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_teacher_follows():
    method = other_teacher(make())
    before = [p.clone() for p in method.teacher.parameters()]
    method.after_step(0.5)
    for old, now, new in zip(before, method.teacher.parameters(), method.backbone.parameters(), strict=True):
        torch.testing.assert_close(now, 0.999 * old + 0.001 * new)


def test_without_the_adversary():
    method = make(adversarial_weight=0.0)
    losses = losses_of(method, slices())
    assert "adversarial" not in losses
    assert not any("discriminator" in name for name, _ in method.named_parameters())
    assert losses["loss"].item() == pytest.approx((losses["discriminative"] + 10 * losses["restorative"]).item())


def test_the_target_is_the_undisturbed_view():
    b = slices()
    disturbed, target = make().views(b, generator())
    quiet, same = make(windows=0).views(b, generator())
    assert torch.equal(target, same)
    assert disturbed.shape == (12, 1, 64, 64)
    assert not torch.equal(disturbed[:6], target)
    assert torch.equal(quiet == 0, torch.cat([quiet[:6], quiet[6:]]) == 0)
    assert torch.equal(quiet[:6] == 0, target == 0), "intensities alone leave the background"


def test_a_window_is_emptied():
    images = torch.rand(5, 2, 40, 30) + 1
    got = cut_out(images, generator=generator())
    for image, original in zip(got, images, strict=True):
        for channel, whole in zip(image, original, strict=True):
            rows, columns = (channel == 0).nonzero().T
            assert len(rows) == 8 * 6
            assert (rows.max() - rows.min(), columns.max() - columns.min()) == (7, 5)
            assert torch.equal(channel[channel != 0], whole[channel != 0])
    assert not torch.equal(got[0] == 0, got[1] == 0), "each image has its own window"


def test_a_window_is_shuffled():
    images = torch.rand(5, 2, 40, 32)
    got = shuffle_window(images, generator=generator())
    for image, original in zip(got, images, strict=True):
        moved = (image != original).any(0)
        rows, columns = moved.nonzero().T
        assert rows.max() - rows.min() < 5
        assert columns.max() - columns.min() < 4
        assert moved.sum() > 10
        assert torch.equal(image.flatten(1).sort(1).values, original.flatten(1).sort(1).values)
        order = [(original[0].flatten() == value).nonzero().item() for value in image[0].flatten()]
        assert torch.equal(image[1].flatten(), original[1].flatten()[order]), "channels move together"


def test_windows_reach_the_edges():
    """Over many draws every pixel can be emptied, the corners too."""
    got = cut_out(torch.ones(4000, 1, 10, 10), generator=generator())
    assert (got == 0).any(0).all()


def test_channels_are_a_setting():
    b = slices()
    rgb = SliceBatch(b.images.repeat(1, 3, 1, 1), b.positions, b.volumes)
    method = DiRA(UNet(in_channels=3, width=4), channels=3)
    assert torch.isfinite(losses_of(method, rgb)["loss"])
    with pytest.raises(UsageError, match="channels"):
        losses_of(make(), rgb)


@pytest.mark.parametrize("name", awkward())
def test_finite_for_awkward_batches(name):
    assert_finite(make(temperature=0.01), awkward()[name])


def test_resumes_bit_for_bit():
    assert_resumes_bit_for_bit(make)
