"""Counts, settings and tables that are published, where the folder of them is; see test_programs_losses.py."""

import inspect
import itertools

import pytest
from tests.methods.test_contract import PUBLISHED
from torch import nn

from jcl.augment import published as views
from jcl.backbones import load
from jcl.benchmark.paper import paper_cell, paper_tables
from jcl.methods import load as load_method
from support.programs import given


def with_left_out_biases(net: nn.Module) -> int:
    """Parameters, and the biases that a batch normalisation behind a convolution takes out, which ours has not."""
    count = sum(p.numel() for p in net.parameters())
    for module in net.modules():
        layers = list(module) if isinstance(module, nn.Sequential) else []
        for before, behind in itertools.pairwise(layers):
            if isinstance(behind, nn.BatchNorm2d) and getattr(before, "bias", 0) is None:
                count += behind.num_features
    return count


@pytest.mark.parametrize(
    ("name", "settings", "path", "more"),
    [
        ("ukan_s", {"in_channels": 3, "classes": 1, "width": 8}, "ukan/sizes/S/parameters", 0),
        ("ukan_s", {"in_channels": 3, "classes": 4, "width": 8}, "ukan/parameters_S_4_classes", 0),
        ("ukan", {"in_channels": 3, "classes": 1, "width": 16}, "ukan/sizes/M/parameters", 0),
        ("ukan", {"in_channels": 3, "classes": 1, "width": 32}, "ukan/sizes/L/parameters", 0),
        ("rolling_unet", {"in_channels": 3, "classes": 1, "width": 16}, "rolling_unet/sizes/S/parameters", 1024),
        ("rolling_unet", {"in_channels": 3, "classes": 1, "width": 32}, "rolling_unet/sizes/M/parameters", 2048),
        ("rolling_unet", {"in_channels": 3, "classes": 1, "width": 64}, "rolling_unet/sizes/L/parameters", 4096),
        ("attention_unet", {"in_channels": 3, "classes": 1, "width": 64}, "attention_unet/counts/in3_out1", 0),
        ("attention_unet", {"in_channels": 1, "classes": 8, "width": 64}, "attention_unet/counts/in1_out8", 0),
        ("macl_unet", {"in_channels": 1, "classes": 4, "width": 32}, "unet/parameters", 0),
    ],
)
def test_parameters_of_the_peers_networks(name, settings, path, more):
    """`more`: of modules that the program has and never uses."""
    wanted = given("backbones.json")
    for key in path.split("/"):
        wanted = wanted[key]
    assert with_left_out_biases(load(name)(**settings)) + more == wanted


def test_widths_of_u_kan():
    for size, name, width in (("S", "ukan_s", 8), ("M", "ukan", 16), ("L", "ukan", 32)):
        assert load(name)(width=width).feature_channels == tuple(
            given("backbones.json")["ukan"]["widths"][size].values()
        )


def test_counts_that_other_tests_have():
    """tests/backbones/test_uctransnet.py and test_bcdunet.py build up to them by hand."""
    networks = given("backbones.json")
    assert networks["uctransnet"]["sizes"]["in3_classes1_img224"]["total"] == 66_430_657
    assert networks["bcdunet"]["counts"]["BCDU_net_D3 in1"]["count_params"] == 20_659_717
    assert networks["macl"]["parameters"]["in1"] == given("macl_unet.json")["parameters_width32"]["total_in1"]


def default(method: str, setting: str):
    return inspect.signature(load_method(method)).parameters[setting].default


@pytest.mark.parametrize(
    ("method", "setting", "baseline", "key"),
    [
        ("pcl", "temperature", "pcl", "temperature"),
        ("gcl", "temperature", "gcl_as_in_pcl", "temperature"),
        ("gcl", "region", "gcl_original", "stage2/region_size"),
        ("simclr", "temperature", "simclr", "temperature"),
        ("simclr", "projection", "simclr", "output"),
        ("moco", "temperature", "moco", "temperature/v2"),
        ("moco", "momentum", "moco", "momentum_encoder"),
        ("moco", "projection", "moco", "output"),
        ("byol", "momentum", "byol", "teacher_momentum/1000"),
        ("byol", "projection", "byol", "output"),
        # SwAV's temperature is half of its program's, by the sweep in docs/methods.md
        ("swav", "epsilon", "swav", "epsilon"),
        ("swav", "projection", "swav", "output"),
        ("desd", "student_temperature", "desd", "student_temperature"),
        ("desd", "centre_momentum", "desd", "centre_momentum"),
        ("dira", "temperature", "dira", "temperature"),
        ("dira", "momentum", "dira", "momentum_encoder"),
        ("dira", "discriminative_weight", "dira", "weights/contrastive"),
        ("dira", "restorative_weight", "dira", "weights/mse"),
        ("dira", "adversarial_weight", "dira", "weights/adversarial"),
    ],
)
def test_defaults_are_those_of_the_peers_programs(method, setting, baseline, key):
    wanted = given("baselines.json")["baselines"][baseline]
    for part in key.split("/"):
        wanted = wanted[part]
    ours = default(method, setting)
    assert (f"{ours}x{ours}" if isinstance(wanted, str) else ours) == wanted


def test_published_settings_are_those_of_the_peers_programs():
    """Numbers that stand in texts of the file are read by people: the sentences that have them are here."""
    found = given("baselines.json")["baselines"]
    assert found["pcl"]["projector"] == [512, 512, 512]
    assert found["pcl"]["pair_statistics"].startswith("views passed one after the other")
    assert PUBLISHED["pcl"]["weight"] == pytest.approx(0.1 / 0.07, abs=1e-4)
    assert found["gcl_as_in_pcl"]["positives"].startswith("all slices of the same partition 1..4")
    assert found["simtriplet"]["batch_statistics"] == "three views passed one after the other"
    assert found["simtriplet"]["predictor"].startswith(f"{default('simtriplet', 'projection')}-512-2048")
    assert found["desd"]["rate"]["run"].endswith("cosine to 0.048")
    assert PUBLISHED["desd"]["final_rate"] == pytest.approx(0.048 / 0.225, abs=1e-4)
    assert found["desd"]["weight_decay_on"] == "not on biases and 1-d parameters"
    assert found["desd"]["clip"] == {"run": 0, "default": PUBLISHED["desd"]["clip"]}
    assert "least squares" in found["dira"]["discriminator"]
    assert [stage.split(", ")[-1] for stage in found["dira"]["stages"]] == ["1200 epochs", "from the first"]
    assert "crop area 0.08..1" in found["simclr"]["augmentation"]
    assert "crop 0.2..1" in found["moco"]["augmentation"]["v2"]
    assert "blur p 1.0 / 0.1, solarise p 0 / 0.2" in found["byol"]["augmentation"]
    assert found["swav"]["crops"] == "2 x 224 (0.14..1) + 6 x 96 (0.05..0.14)"
    assert [view[0].area for view in (views.SIMCLR_VIEWS, views.MOCO_VIEWS, views.SWAV_VIEWS)] == [
        (0.08, 1),
        (0.2, 1),
        (0.14, 1),
    ]
    assert [(view.blurred, view.solarised) for view in views.BYOL_VIEWS] == [(1, 0), (0.1, 0.2)]


TABLES = {
    "ACDC": "I",
    "MMWHS": "I",
    "HVSMR": "I",
    "CHAOS": "I",
    "Spleen": "II",
    "ISIC": "II",
    "Heart": "II",
    "Hippocampus": "II",
}
NAMES = {"Scratch": "Random", "MACL": "JCL"}
SHORT = {"dice": "DSC", "jaccard": "JC", "hd95": "HD95", "asd": "ASD"}


@pytest.mark.parametrize("name", TABLES)
def test_figures_of_the_journal_are_those_that_we_show(name):
    table, seen = f"journal_{name.lower()}", 0
    assert table in paper_tables()
    for share, rows in given("journal.json")["tables"][TABLES[name]]["rows"].items():
        for method, sets in rows.items():
            for metric, short in SHORT.items():
                cell = paper_cell(table, NAMES.get(method, method), share, metric)
                if cell is not None:
                    factor = 100 if metric in ("dice", "jaccard") else 1
                    assert cell.mean * factor == pytest.approx(sets[name][short], abs=1e-6), (share, method, metric)
                    seen += 1
    assert seen == 4 * 25  # twelve methods with a tenth and a quarter of the labels, random weights with all


def shown(table: str, row: str, column: str) -> dict[str, float]:
    """What we show, by the journal's names and units."""
    cells = {short: paper_cell(table, row, column, metric) for metric, short in SHORT.items()}
    return {
        short: round(cell.mean * (100 if short in ("DSC", "JC") else 1), 6) for short, cell in cells.items() if cell
    }


def test_figures_of_the_journals_further_experiments_are_those_that_we_show():
    """Weights (table V, figure 7), wrong labels and imbalance (table X), backbones (figure 6)."""
    journal = given("journal.json")
    sets = ("ACDC", "MMWHS", "HVSMR", "CHAOS")
    for found in journal["tables"]["V"]["rows"]:
        for name in sets:
            assert shown("journal_weights", f"{found['lambda2']:g}, {found['lambda3']:g}", name) == found[name]
    for name in sets[:2]:
        curve = journal["figures"]["7"][name]
        for place, weight in enumerate(journal["figures"]["7"]["lambda2"]):
            expected = {"DSC": curve["DSC"][place], "HD95": curve["HD95"][place]}
            assert shown("journal_lambda2", f"{weight:g}", name) == expected
        for method, scores in journal["figures"]["6"][name].items():
            for network, dice in scores["DSC"].items():
                row = f"{NAMES.get(method, method)}, {network}"
                assert shown("journal_backbones", row, name) == {"DSC": dice, "JC": scores["JC"][network]}
    for kind, rows in journal["tables"]["X"]["rows"].items():
        table = "journal_imbalance" if kind.startswith("ratio") else "journal_noise"
        for method, scores in rows.items():
            assert shown(table, NAMES.get(method, method), kind.removeprefix("ratio ")) == scores


def test_parameters_of_the_journal():
    """5.24 M is PCL's network with 512 outputs; 5.37 M the same and a predictor of 128."""
    rows = given("journal.json")["tables"]["VIII"]["rows"]
    assert round(given("pcl_unet.json")["parameters_width32"]["in1_classes512"] / 1e6, 2) == rows["PCL"]["parameters_M"]
    assert rows["GCL"]["parameters_M"] == rows["PCL"]["parameters_M"] == rows["SimCLR"]["parameters_M"]
