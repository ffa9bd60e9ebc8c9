"""Heat maps: similarities as a slow loop counts them, at the pixel and in the slices that the rule names."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from jcl.report.figures.features import Pretrained, area_under_curve, load_pretrained, pixel_features, similarity
from jcl.report.figures.heatmaps import LEVELS, _palette, feature_heatmaps
from support.keptmodels import random_network, write_pretraining

ENCODER = ("encoder",)
TWO_BLOCKS = ("encoder", "decoder.0", "decoder.1")


@pytest.fixture(scope="module")
def pretrained(kept, tmp_path_factory):
    """The benchmark with pre-trainings: of the encoder, of decoder blocks too, one that is missing, one unreadable."""
    benchmark, _, store = kept
    folder = tmp_path_factory.mktemp("pretrainings")
    broken = write_pretraining(folder / "broken", "Broken", ENCODER)
    (folder / "broken" / "run" / "model.safetensors").unlink()
    all_of_them = (
        write_pretraining(folder / "pcl", "PCL", ENCODER, seed=1),
        write_pretraining(folder / "jcl", "JCL", TWO_BLOCKS, seed=2),
        replace(write_pretraining(folder / "late", "Late", ENCODER), status="missing"),
        broken,
    )
    return replace(benchmark, pretrainings=all_of_them), store


def test_similarity_is_the_cosine_less_the_mean():
    random = np.random.default_rng(0)
    first, second = (random.normal(size=(5, *shape)) for shape in ((4, 3), (2, 6)))
    same, other = similarity([torch.from_numpy(first), torch.from_numpy(second)], (2, 1))
    pixels = [first[:, r, c] for r in range(4) for c in range(3)] + [
        second[:, r, c] for r in range(2) for c in range(6)
    ]
    mean = sum(pixels) / len(pixels)
    chosen = first[:, 2, 1] - mean
    for map_, features in ((same, first), (other, second)):
        for row, column in np.ndindex(map_.shape):
            own = features[:, row, column] - mean
            cosine = sum(chosen * own) / (sum(own**2) ** 0.5 * sum(chosen**2) ** 0.5)
            assert map_[row, column] == pytest.approx(cosine, abs=1e-9)
    assert same[2, 1] == pytest.approx(1)


def test_the_area_under_the_curve_counts_pairs():
    random = np.random.default_rng(0)
    values, inside = random.integers(0, 4, (5, 6)) / 4.0, random.random((5, 6)) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in values[inside] for b in values[~inside]]
    assert area_under_curve(values, inside) == pytest.approx(np.mean(pairs))
    assert area_under_curve(values, np.zeros_like(inside)) is None


def test_features_are_those_of_the_network():
    size = (20, 28)
    network = random_network(0)
    image = np.random.default_rng(0).random((1, *size)).astype(np.float32)
    with torch.no_grad():
        levels = network.encode(torch.from_numpy(image)[None])
        coarse = {"encoder": levels[2], "decoder": network.decode(levels, 2)}
    for part, wanted in coarse.items():
        assert wanted.shape[2:] == (8, 8)  # padded to multiples of 16, and a quarter of that
        found = pixel_features(Pretrained(network, 2), image, part)
        assert found.shape[1:] == size
        fine = F.interpolate(wanted, scale_factor=4, mode="bilinear", align_corners=False)[0]
        assert torch.equal(found, fine[:, : size[0], : size[1]])


def test_a_pretraining_has_its_trained_parts_and_random_others(pretrained):
    benchmark, _ = pretrained
    loaded = [load_pretrained(each.folder / "run") for each in benchmark.pretrainings[:2]]
    assert [each.blocks for each in loaded] == [0, 2]
    torch.manual_seed(123)
    before = torch.rand(1)
    torch.manual_seed(123)
    load_pretrained(benchmark.pretrainings[0].folder / "run")
    assert torch.equal(torch.rand(1), before)  # the caller's random numbers are left alone
    trained, mine = random_network(1).state_dict(), loaded[0].network.state_dict()
    assert all(torch.equal(mine[name], trained[name]) for name in trained if name.startswith("encoder"))
    assert not torch.equal(mine["decoder.0.up.weight"], trained["decoder.0.up.weight"])


def test_each_network_gets_the_neighbours_that_it_was_trained_with(pretrained, tmp_path):
    benchmark, _ = pretrained
    ahead = write_pretraining(tmp_path / "ahead", "Ahead", TWO_BLOCKS, seed=3, context=1)
    both = replace(benchmark, pretrainings=(benchmark.pretrainings[1], ahead))
    found = feature_heatmaps(both, "heart")
    assert {each.row: each.note for each in found.maps} == {"untrained": "", "JCL": "", "Ahead": ""}
    (before,) = [e for e in feature_heatmaps(benchmark, "heart").maps if (e.row, e.part) == ("JCL", "decoder")]
    assert [e.same for e in found.maps if (e.row, e.part) == ("JCL", "decoder")] == [before.same]
    assert load_pretrained(ahead.folder / "run").context == 1
    assert found.same == feature_heatmaps(benchmark, "heart").same


def test_maps_are_of_the_pixel_and_slices_that_the_rule_names(pretrained):
    benchmark, store = pretrained
    found = feature_heatmaps(benchmark, "heart")
    voxels = {record.case: sum(record.voxels) for record in store.cases}
    ordered = sorted(voxels, key=voxels.get)
    assert found.cases == (ordered[2], ordered[3])
    first, second = (next(n for n, r in enumerate(store.cases) if r.case == name) for name in found.cases)
    label = int(np.argmax(store.cases[first].voxels)) + 1
    assert found.structure == store.class_names[label - 1]
    inside = store.content(first)
    areas = [int((store.label(first, n) == label).sum()) for n in range(4)]
    number = areas.index(max(areas))
    structure = store.label(first, number)[inside] == label
    outside = np.argwhere(~np.pad(structure, 1)) - 1
    distances = {(int(p[0]), int(p[1])): np.hypot(*(outside - p).T).min() for p in np.argwhere(structure)}
    pixel = max(distances, key=lambda p: (distances[p], (-p[0], -p[1])))
    network = load_pretrained(benchmark.pretrainings[1].folder / "run")
    features = [pixel_features(network, store.image(c, number), "decoder")[:, *inside] for c in (first, second)]
    same, other = similarity(features, pixel)
    assert same[pixel] == pytest.approx(1, abs=1e-6)
    (jcl,) = [each for each in found.maps if (each.row, each.part) == ("JCL", "decoder")]
    truth = store.label(second, number)[inside] == label
    assert jcl.auc == pytest.approx(area_under_curve(other, truth))
    picture = np.asarray(Image.open(io.BytesIO(jcl.other)).convert("RGB")).astype(int)
    palette = np.array(_palette())
    corner = palette[:LEVELS][round((float(other[0, 0]) + 1) / 2 * (LEVELS - 1))]
    assert np.abs(picture[0, 0] - corner).max() <= 12  # one level of the scale
    dot = np.asarray(Image.open(io.BytesIO(jcl.same)).convert("RGB"))
    middle = tuple(int((p + 0.5) * n / m) for p, n, m in zip(pixel, dot.shape[:2], same.shape, strict=True))
    assert (dot[middle] == 255).all()


def test_every_pretraining_has_maps_or_a_note(pretrained):
    benchmark, _ = pretrained
    maps = feature_heatmaps(benchmark, "heart").maps
    assert [(each.row, each.part) for each in maps] == [
        ("untrained", "encoder"), ("untrained", "decoder"), ("PCL", "encoder"), ("JCL", "encoder"), ("JCL", "decoder"),
        ("Late", "encoder"), ("Broken", "encoder"),
    ]  # fmt: skip
    notes = {each.row: each.note for each in maps}
    assert notes["PCL"] == ""
    assert notes["Late"] == "missing"
    assert "no model" in notes["Broken"]
    assert all((each.same is None) == bool(each.note) for each in maps)


def test_without_pretrainings_or_patients_there_is_nothing(kept, tmp_path):
    from support.keptmodels import write_store

    benchmark, _, _ = kept
    assert feature_heatmaps(benchmark, "heart").maps == ()
    write_store(tmp_path / "one", patients=1)
    stores = {"heart": {"path": str(tmp_path / "one"), "class_names": []}}
    assert feature_heatmaps(replace(benchmark, stores=stores), "heart") is None
