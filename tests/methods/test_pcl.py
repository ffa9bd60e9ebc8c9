"""PCL: its positives, its loss against loops, and the methods that it must equal."""

import math

import pytest
import torch
from torch.nn import functional as F

from jcl.backbones.macl_unet import MACLUNet
from jcl.backbones.unet import UNet
from jcl.data.batches import SliceBatch
from jcl.methods.jcl import JCL
from jcl.methods.pcl import PCL, positive_pairs
from support.training import assert_finite, assert_resumes_bit_for_bit, awkward, losses_of, slices


def make(**settings) -> PCL:
    torch.manual_seed(0)
    return PCL(UNet(width=4), **{"projection": 16, **settings})


def projections(method: PCL, b) -> torch.Tensor:
    (views,) = method.views(b, torch.Generator().manual_seed(0))
    return F.normalize(method.projector(method.backbone.encode(views)[-1]).double(), dim=1)


def test_defaults_are_those_of_the_paper_and_the_rate_that_of_jcl():
    method = PCL(UNet(width=4))
    assert (method.temperature, method.threshold, method.learning_rate) == (0.1, 0.1, JCL.learning_rate)
    assert method.projector(torch.rand(2, 64, 2, 2)).shape == (2, 128)


def test_positives_by_hand():
    """Slices 0 and 1 are near, 2 is alone; views of all three, twice."""
    got = positive_pairs(torch.tensor([0.10, 0.15, 0.90]), 0.1).int().tolist()
    assert got == [
        [0, 1, 0, 1, 1, 0],
        [1, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 0],
    ]


@pytest.mark.parametrize("threshold", [0.1, 0.25, 2.0])
def test_loss_is_that_of_the_paper(threshold):
    b = slices()
    b = SliceBatch(b.images, torch.tensor([0.1, 0.17, 0.4, 0.6, 0.61, 0.95]), b.volumes)
    method = make(threshold=threshold)  # in training mode: only so are untrained features of noise apart
    z = projections(method, b).tolist()
    positions = b.positions.tolist() * 2
    terms = []
    for i, anchor in enumerate(z):
        exponents = [math.exp(sum(x * y for x, y in zip(anchor, other, strict=True)) / 0.1) for other in z]
        total = sum(exponents) - exponents[i]
        positives = [j for j in range(12) if j != i and abs(positions[i] - positions[j]) < threshold]
        terms.append(-sum(math.log(exponents[j] / total) for j in positives) / len(positives))
    assert losses_of(method, b)["loss"].item() == pytest.approx(sum(terms) / 12, rel=1e-5)


def test_at_threshold_0_it_is_nt_xent():
    """SimCLR, algorithm 1, in its own indices: rows 2k and 2k + 1 are the views of slice k."""
    method, b = make(threshold=0.0), slices()
    z = projections(method, b)
    z = torch.stack([z[:6], z[6:]], dim=1).flatten(0, 1)
    similarities = (z @ z.T / 0.1).tolist()

    def pair(i: int, j: int) -> float:
        return -math.log(math.exp(similarities[i][j]) / sum(math.exp(similarities[i][k]) for k in range(12) if k != i))

    wanted = sum(pair(2 * k, 2 * k + 1) + pair(2 * k + 1, 2 * k) for k in range(6)) / 12
    assert losses_of(method, b)["loss"].item() == pytest.approx(wanted, rel=1e-5)


def test_it_is_jcl_with_the_global_loss_alone():
    """In training mode too: both methods send the two views through the encoder together."""
    pcl, b = make(), slices()
    b = SliceBatch(b.images * torch.linspace(0.1, 3, 6)[:, None, None, None], b.positions, b.volumes)
    for layer in (pcl.projector[2], pcl.projector[4]):  # biases alone would make all projections the same
        torch.nn.init.zeros_(layer.bias)
    jcl = JCL(pcl.backbone, projection=16, blocks=0, dense_weight=0.0, equivariance_weight=0.0, pairing="joint")
    for projector in (jcl.auxiliary_instance, jcl.dominant_instance):
        projector.load_state_dict(pcl.projector.state_dict())
    views = pcl.views(b, torch.Generator().manual_seed(3))
    assert all(torch.equal(*pair) for pair in zip(views[0].chunk(2), jcl.views(b, generator(3)), strict=True))
    wanted = jcl(jcl.views(b, generator(3)), b)
    got = pcl(views, b)
    assert got["feature_std"] > 0.05
    for name in ("loss", "feature_std", "alignment"):
        assert got[name].item() == pytest.approx(wanted[name].item(), abs=1e-6), name


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_with_512_outputs_it_is_as_large_as_the_program():
    """5,238,880 parameters (a run of the program), less the biases that a batch normalisation takes out."""
    method = PCL(MACLUNet(width=32), projection=512)
    trained = [*method.backbone.encoder.parameters(), *method.projector.parameters()]
    assert sum(p.numel() for p in trained) == 5_238_880 - 2 * (32 + 64 + 128 + 256)
    assert [m.out_features for m in method.projector if isinstance(m, torch.nn.Linear)] == [512, 512]


def test_the_factor_of_the_program():
    plain, weighed, b = make(), make(weight=10 / 7), slices()
    losses = [losses_of(method, b) for method in (plain, weighed)]
    assert losses[1]["loss"].item() == pytest.approx(losses[0]["loss"].item() * 0.1 / 0.07, rel=1e-6)
    assert losses[1]["alignment"] == losses[0]["alignment"]


def test_the_two_views_are_two_draws():
    b = slices()
    first, second = make().views(b, torch.Generator().manual_seed(0))[0].chunk(2)
    assert not torch.equal(first, second)
    assert not torch.equal(first, b.images)


@pytest.mark.parametrize("name", awkward())
@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_finite_for_awkward_batches(name, threshold):
    assert_finite(make(temperature=0.01, threshold=threshold), awkward()[name])


def test_collapse_is_ln_of_the_others_and_seen():
    method = make()
    torch.nn.init.zeros_(method.projector[-1].weight)
    torch.nn.init.ones_(method.projector[-1].bias)
    losses = losses_of(method, slices())
    assert losses["loss"].item() == pytest.approx(math.log(11), rel=1e-5)
    assert losses["feature_std"] < 1e-3


def test_resumes_bit_for_bit():
    assert_resumes_bit_for_bit(make)
