"""Losses, resampling, folds and scores of the authors' programs, array by array, where their folder is.

What the project keeps a copy of is tested with that (tests/methods/test_jcl_authors.py and others), so that here it is
enough that the copy is what the folder has.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jcl.augment.spatial import shrink
from jcl.losses.contrastive import info_nce
from jcl.losses.dense import dense_info_nce
from jcl.methods.gcl import global_masks, rounded_partition
from jcl.methods.pcl import positive_pairs
from jcl.pooled import Pool
from oracles.authors import arrays
from support.programs import folder, given

SETS = ["g0", "g1", "g2", "g3", "g4", "g5"]


def of(name: str, key: str) -> Tensor:
    return torch.from_numpy(given("macl_losses.npz")[f"{name}.{key}"])


def contrast(name: str, positives: Tensor, dtype: torch.dtype) -> tuple[float, list[Tensor]]:
    """The loss with the program's factor, temperature / 0.07, and its gradient for both branches."""
    auxiliary, dominant = (of(name, branch).to(dtype).requires_grad_() for branch in ("aux", "dom"))
    temperature, rows = float(of(name, "temperature")), torch.cat([auxiliary, dominant])
    loss_of = info_nce if rows.ndim == 2 else dense_info_nce
    loss = temperature / 0.07 * loss_of(rows, rows, positives, temperature=temperature)
    return loss.item(), list(torch.autograd.grad(loss, [auxiliary, dominant]))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("dtype", "loss_near", "gradient_near"), [(torch.float64, 1e-12, 2e-7), (torch.float32, 1e-5, 1e-5)]
)
@pytest.mark.parametrize("kind", ["gcl", "simclr"])
def test_losses_of_pcls_program(name, dtype, loss_near, gradient_near, kind):
    """Of gcl all of a partition attract each other, of simclr the two views of a slice."""
    places = of(name, "slice_of")
    positions = ((places[:, 0] + 1) / places[:, 1]).float()
    parts = rounded_partition(positions, 4, places[:, 1])
    assert torch.equal(parts + 1, of(name, "partition"))
    positives = global_masks(parts, across=True)[0] if kind == "gcl" else positive_pairs(positions, 0.0, places[:, 1])
    loss, gradients = contrast(name, positives, dtype)
    assert loss == pytest.approx(float(of(name, f"{kind}_loss")), rel=loss_near)
    for branch, gradient in zip(("aux", "dom"), gradients, strict=True):
        wanted = of(name, f"{kind}_grad_{branch}").to(dtype)
        scale = wanted.abs().max()
        torch.testing.assert_close(gradient / scale, wanted / scale, rtol=0, atol=gradient_near)


@pytest.mark.parametrize("name", [*SETS, "d0", "d1", "d2"])
def test_losses_in_float32_and_without_the_factor(name):
    """The program in float32 is that in float64 but for rounding, and so are we; its positives are ours."""
    positives = of(name, "near").repeat(2, 2).fill_diagonal_(False)
    if name in SETS:
        assert torch.equal(of(name, "positives"), positives)
    loss, _ = contrast(name, positives, torch.float32)
    assert loss == pytest.approx(float(of(name, "loss_float32")), rel=1e-5)
    loss, _ = contrast(name, positives, torch.float64)
    assert loss * 0.07 / float(of(name, "temperature")) == pytest.approx(
        float(of(name, "loss_without_factor")), rel=1e-12
    )


@pytest.mark.parametrize("name", ["p0", "p1", "p2", "p3", "p4", "p5"])
def test_what_l_er_compares(name):
    """The auxiliary features at the size of the dominant ones."""
    found = given("macl_er.npz")
    large, small = (torch.from_numpy(found[f"{name}.{side}"]).double() for side in ("large", "small"))
    down = F.interpolate(large, size=small.shape[-2:], mode="bilinear", align_corners=True)
    torch.testing.assert_close(down.float(), torch.from_numpy(found[f"{name}.down"]).float(), rtol=0, atol=1e-6)
    assert small.shape[-1] == int(large.shape[-1] * float(found[f"{name}.scale"]))


@pytest.mark.parametrize("name", ["i0", "i1", "i2", "i3", "i4"])
def test_every_shrunk_view(name):
    found = given("macl_er.npz")
    images, factor = torch.from_numpy(found[f"{name}.image"]).double(), round(1 / float(found[f"{name}.scale"]))
    wanted = torch.from_numpy(found[f"{name}.down"]).double()
    torch.testing.assert_close(shrink(images, factor, align_corners=True), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("copy", "name"), [("authors_losses", "macl_losses.npz"), ("authors_resampling", "macl_er.npz")]
)
def test_copies_are_what_the_folder_has(copy, name):
    for key, value in arrays(copy).items():
        assert np.array_equal(value, given(name)[key]), key


@pytest.mark.parametrize("name", ["c0", "c1", "c2", "c3"])
def test_distances_of_every_batch(name):
    """Each batch of slices as a pool of its own."""
    found = given("pooled_metric.npz")
    classes, size = int(found[f"{name}.classes"]) - 1, int(found[f"{name}.batch"])
    for number, start in enumerate(range(0, len(found[f"{name}.truth"]), size)):
        pool = Pool(classes, batch_size=size)
        pool.add(*(found[f"{name}.{labels}"][start : start + size] for labels in ("prediction", "truth")))
        rows = list(pool.result()["mean"]["classes"].values())
        for metric in ("hd95", "asd"):
            wanted = found[f"{name}.{metric}_batches"][:, number].tolist()
            assert [row[metric] for row in rows] == pytest.approx(wanted, rel=1e-6, abs=1e-6)


POOLS = {
    "pool_c0_c3": ("c0", "c3"),
    "pool_c0_c3_batch3": ("c0", "c3"),
    "pool_all_as_5": ("c0", "c1", "c2", "c3"),
}


@pytest.mark.parametrize("name", POOLS)
def test_distances_of_batches_over_several_cases(name):
    found = given("pooled_metric.npz")
    size = int(found[f"{name}.batch"])
    prediction, truth = (
        np.concatenate([found[f"{case}.{labels}"] for case in POOLS[name]]) for labels in ("prediction", "truth")
    )
    for number, start in enumerate(range(0, len(truth), size)):
        pool = Pool(int(found[f"{name}.classes"]) - 1, batch_size=size)
        pool.add(prediction[start : start + size], truth[start : start + size])
        rows = list(pool.result()["mean"]["classes"].values())
        for metric in ("hd95", "asd"):
            wanted = found[f"{name}.{metric}_batches"][:, number].tolist()
            assert [row[metric] for row in rows] == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_the_kept_folds_and_scores_are_what_the_folder_has():
    """tests/data/test_authors_folds.py and tests/test_pooled.py draw and compute them."""
    here = Path(__file__).parent
    kept, theirs = json.loads((here / "authors_folds.json").read_text()), given("authors_folds.json")
    assert set(kept) - {"how", "isic"} == set(theirs["sets"])
    for name, found in theirs["sets"].items():
        assert kept[name]["keys"] == found["keys"]
        assert len(kept[name]["folds"]) == len(found["folds"]) == 5
        for ours, fold in zip(kept[name]["folds"], found["folds"], strict=True):
            assert all(ours[part] == fold[part] for part in ("train", "test", "few"))
    assert kept["isic"]["few"] == theirs["isic"]["ranks"]
    assert kept["isic"]["test"] == theirs["isic"]["test_ranks"]
    assert kept["isic"]["fold"] == theirs["isic"]["fold"]
    assert (here / "pooled_metric.npz").read_bytes() == (folder() / "pooled_metric.npz").read_bytes()
