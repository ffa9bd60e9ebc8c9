"""DiRA: its three losses against loops, what the reversed gradient does, and the disturbed views."""

import math

import pytest
import torch
from torch.nn import functional as F

from jcl.backbones.unet import UNet
from jcl.data.batches import SliceBatch
from jcl.errors import UsageError
from jcl.methods.dira import DiRA, cut_out, shuffle_window
from jcl.ssl.adversary import PublishedDiscriminator
from support.training import assert_finite, assert_resumes_bit_for_bit, awkward, losses_of, slices


def make(**settings) -> DiRA:
    torch.manual_seed(0)
    return DiRA(UNet(width=4), **{"projection": 16, "discriminator_width": 4, **settings})


def published(**settings) -> DiRA:
    program = {"queue": 12, "adversary": "least-squares", "adversary_from": 0.5, "discriminator": "program"}
    return make(**{**program, **settings})


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


@pytest.mark.parametrize("form", ["bce", "least-squares"])
@pytest.mark.parametrize("discriminator", ["paper", "program"])
def test_two_losses_of_which_each_trains_its_own_side(form, discriminator):
    """Values patch by patch, and gradients as two optimisers would get them, one side after the other."""
    weights = {"discriminative_weight": 0.0, "restorative_weight": 0.0, "adversarial_weight": 0.5}
    method, b = make(**weights, adversary=form, discriminator=discriminator), slices()
    disturbed, target = method.views(b, generator())
    judge = list(method.discriminator.parameters())
    network = [*method.backbone.encoder.parameters(), *method.backbone.decoder.parameters()]

    def restored() -> torch.Tensor:
        return method.restorer(method.backbone.decode(method.backbone.encode(disturbed[:6])))

    def per_patch(logits: torch.Tensor, label: int) -> torch.Tensor:
        logits = logits.double()
        wanted = torch.full_like(logits, label)
        return F.mse_loss(logits, wanted) if form != "bce" else F.binary_cross_entropy(logits.sigmoid(), wanted)

    learned = (per_patch(method.discriminator(target), 1) + per_patch(method.discriminator(restored().detach()), 0)) / 2
    deceived = per_patch(method.discriminator(restored()), 1)
    of_judge = torch.autograd.grad(learned, judge)
    of_network = torch.autograd.grad(0.5 * deceived, network)
    got = method((disturbed, target), b)
    assert got["discriminator"].item() == pytest.approx(learned.item(), rel=1e-5)
    assert got["adversarial"].item() == pytest.approx(deceived.item(), rel=1e-5)
    assert got["loss"].item() == pytest.approx(learned.item() + 0.5 * deceived.item(), rel=1e-5)
    found = torch.autograd.grad(got["loss"], network + judge)
    for mine, theirs in ((found[: len(network)], of_network), (found[len(network) :], of_judge)):
        scale = max(float(gradient.abs().max()) for gradient in theirs)
        assert scale > 1e-5
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=1e-4)


def test_the_discriminator_of_the_program():
    """By hand from its layers: 3 x 3 weights and biases; instance normalisation has none."""
    judge = PublishedDiscriminator(1, 64)
    counts = [9 * a * b + b for a, b in ((1, 64), (64, 128), (128, 256), (256, 512), (512, 1))]
    assert sum(p.numel() for p in judge.parameters()) == sum(counts)
    assert judge(torch.rand(2, 1, 64, 64)).shape == (2, 1, 8, 8)
    assert [layer.stride for layer in judge if isinstance(layer, torch.nn.Conv2d)] == [(2, 2)] * 3 + [(1, 1)] * 2
    assert judge[2].weight.std().item() == pytest.approx(0.02, rel=0.02)


def test_negatives_of_the_queue():
    """A key at a time; those of a slice's own, from an earlier step, are left out."""
    method, b = other_teacher(make(queue=12)), slices()
    disturbed, target = method.views(b, generator())
    method((disturbed, target), b)
    method.after_step(0.1)
    assert method.queue.volumes[:6].tolist() == b.volumes.tolist()
    q = F.normalize(method.projector(method.backbone.encode(disturbed[:6])[-1]).double(), dim=1)
    k = F.normalize(method.teacher_projector(method.teacher.encode(disturbed[6:])[-1]).double(), dim=1)
    queued, wanted = method.queue["keys"].double(), 0.0
    for i in range(6):
        negatives = [queued[j] for j in range(12) if j != i]
        exponents = [math.exp((q[i] @ key).item() / 0.2) for key in (k[i], *negatives)]
        wanted -= math.log(exponents[0] / sum(exponents)) / 6
    assert method((disturbed, target), b)["discriminative"].item() == pytest.approx(wanted, rel=1e-5)


def test_the_adversary_comes_when_it_is_set():
    method = make(adversary_from=0.75, adversary="least-squares")
    losses = losses_of(method, slices())
    assert "adversarial" not in losses
    losses["loss"].backward()
    assert all(p.grad is None for p in method.discriminator.parameters())
    assert losses["loss"].item() == pytest.approx((losses["discriminative"] + 10 * losses["restorative"]).item())
    method.after_step(0.75)
    losses = losses_of(method, slices())
    assert losses["adversarial"] > 0
    losses["loss"].backward()
    assert all(p.grad.any() for p in method.discriminator.parameters() if p.ndim > 1)
    resumed = make(adversary_from=0.75, adversary="least-squares")
    resumed.load_state_dict(method.state_dict())
    assert "adversarial" in losses_of(resumed, slices())


@pytest.mark.parametrize("settings", [{"adversary": "wgan"}, {"discriminator": "mine"}])
def test_unknown_values_are_named(settings):
    with pytest.raises(UsageError, match=f"{next(iter(settings))} is .*; it can be"):
        make(**settings)


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
    assert_finite(published(temperature=0.01, adversary_from=0.0), awkward()[name])


def test_resumes_bit_for_bit():
    assert_resumes_bit_for_bit(make)
    assert_resumes_bit_for_bit(published)
