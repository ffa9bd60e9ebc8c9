"""Specs of data sets, beside what dataset.json and a user say."""

from pathlib import Path

import pytest

from jcl.data.cases import CaseSource, find_cases
from jcl.data.datasets import DatasetSpec, load_spec, parse_labels, resolve, spec_names
from jcl.errors import DataError, UsageError
from support.setfolders import lay_out, write_msd

TABLE = {  # name: in-plane mm, size, label values in order
    "chd": (1.0, 512, [1, 2, 3, 4, 5, 6, 7]),
    "mmwhs": (1.0, 256, [500, 600, 420, 550, 205, 820, 850]),
    "mmwhs_ct": (1.0, 256, [500, 600, 420, 550, 205, 820, 850]),
    "mmwhs_mr": (1.0, 256, [500, 600, 420, 550, 205, 820, 850]),
    "hvsmr": (0.7, 352, [1, 2]),
    "acdc": (1.0, 352, [1, 2, 3]),
    "brats2018": (1.0, 192, [1, 2, 4]),
    "kits2019": (1.0, 512, [1, 2]),
    "chaos": (1.0, 256, [63, 126, 189, 252]),
    "isic2018": (None, 256, [255, 1]),
    "msd_heart": (None, 320, []),
    "msd_hippocampus": (None, 32, []),
    "msd_spleen": (None, 512, []),
    "msd": (None, None, []),
    "folder": (None, None, []),
    "auto": (None, None, []),
}


def test_every_spec_is_in_the_table_and_says_where_to_get_the_data() -> None:
    assert set(spec_names()) == set(TABLE)
    for name, (spacing, size, values) in TABLE.items():
        spec = load_spec(name)
        assert (spec.name, spec.spacing, spec.size, list(spec.labels)) == (name, spacing, size, values)
        assert spec.clip == (1.0, 99.0)
        if name not in ("folder", "auto"):
            assert spec.source_url.startswith("http")
        if name not in ("folder", "auto", "msd"):
            assert spec.title
            assert spec.modality
            assert spec.licence


def test_other_values_are_background_only_where_the_data_set_says_so() -> None:
    other = {name for name in spec_names() if load_spec(name).other_labels == "background"}
    assert other == {"chd", "mmwhs", "mmwhs_ct", "mmwhs_mr"}


@pytest.mark.parametrize(
    "labels", [{"0": "background", "2": "spleen", "1": "liver"}, {"background": 0, "spleen": 2, "liver": 1}]
)
def test_msd_labels_in_both_orders(tmp_path: Path, labels: dict[str, object]) -> None:
    write_msd(tmp_path, labels=labels, modality={"0": "T1", "1": "T2"}, name="Both", licence="CC0")
    spec = resolve(load_spec("auto"), tmp_path)
    assert (spec.name, spec.title, spec.modality, spec.licence, spec.channels) == ("msd", "Both", "T1, T2", "CC0", 2)
    assert list(spec.labels.items()) == [(1, "liver"), (2, "spleen")]
    found = [(each.case, each.label is not None) for each in find_cases(tmp_path, spec)]
    assert found == [("a_1", True), ("b_2", False)]


def test_msd_presets_keep_their_size(tmp_path: Path) -> None:
    write_msd(tmp_path, labels={"0": "background", "1": "x"}, modality={"0": "MRI"})
    spec = resolve(load_spec("msd_hippocampus"), tmp_path)
    assert (spec.name, spec.size, spec.labels) == ("msd_hippocampus", 32, {1: "x"})


@pytest.mark.parametrize("content", ["{", "[]", '{"labels": 3}', '{"labels": {"x": "y"}}', '{"modality": 3}', "\x00"])
def test_bad_dataset_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=r"dataset\.json"):
        resolve(load_spec("msd"), tmp_path)


def test_given_values_win(tmp_path: Path) -> None:
    spec = resolve(load_spec("chd"), tmp_path, spacing=0.5, size=64, labels="1=a, 9 = b", patient="(x)")
    assert (spec.spacing, spec.size, spec.labels, spec.patient) == (0.5, 64, {1: "a", 9: "b"}, "(x)")
    assert resolve(load_spec("chd"), tmp_path).size == 512


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"spacing": 0.0}, "larger than 0"),
        ({"spacing": float("nan")}, "larger than 0"),
        ({"spacing": float("inf")}, "larger than 0"),
        ({"size": 0}, "at least 1"),
        ({"labels": "1"}, "VALUE=NAME"),
        ({"labels": "0=background"}, "VALUE=NAME"),
        ({"labels": "1=a,1=b"}, "named twice"),
        ({"labels": ",".join(f"{n}=c{n}" for n in range(1, 258))}, "at most 255"),
    ],
)
def test_given_values_that_cannot_be(tmp_path: Path, given: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(load_spec("folder"), tmp_path, **given)  # type: ignore[arg-type]


def test_no_such_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        resolve(load_spec("folder"), tmp_path / "none")


def test_several_values_may_have_one_name() -> None:
    spec = DatasetSpec(name="x", labels=parse_labels("1=tumour,2=liver,4=tumour"))
    assert spec.class_names == ("tumour", "liver")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"no data set is named 'cdh'; known: acdc, auto, brats2018, chaos, chd"):
        load_spec("cdh")


def test_a_spec_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "layout = 'files'\nimages = ['(?P<case>.*)_i\\.nii']\nspacing = 2\nclip = [0, 100]\n[labels]\n3 = 'x'\n"
    )
    spec = load_spec(path)
    assert (spec.name, spec.spacing, spec.clip, spec.labels, spec.channels) == ("mine", 2.0, (0, 100), {3: "x"}, 1)
    assert find_cases(lay_out(tmp_path, "a_i.nii"), spec) == [CaseSource("a", "a", (tmp_path / "a_i.nii",), None)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x = ", "not a TOML file"),
        ("sise = 3", r"unknown key 'sise'; did you mean size\? \(known: channels, clip, "),
        ("size = 'a'", "size: 'a' is not an int"),
        ("spacing = 'a'", "spacing: 'a' is not a number"),
        ("title = 3", "title: 3 is not a string"),
        ("layout = 'dicom'", "one of auto, folder, msd, files"),
        ("normalisation = 'max'", "one of minmax, zscore"),
        ("other_labels = 'drop'", "one of error, background"),
        ("clip = [99, 1]", "two rising percentiles"),
        ("window = [240, -160]", "two rising numbers are needed"),
        ("window = [0, nan]", "two rising numbers are needed"),
        ("window = [0]", "window: "),
        ("channels = 2\nwindow = [0, 1]", "it is for one channel, and there are 2"),
        ("layout = 'files'", "at least one pattern"),
        ("images = ['(?P<case>a)']", 'images, label: they need layout = "files"'),
        ("layout = 'msd'\nlabel = '(?P<case>a)'", 'images, label: they need layout = "files"'),
        ("layout = 'files'\nimages = '(?P<case>a)'", "is not a list of strings"),
        ("[labels]\n1 = 2", "labels.1: 2 is not a string"),
        ("layout = 'files'\nimages = ['a']", "needs a group"),
        ("layout = 'files'\nimages = ['(']", "subpattern"),
        ("layout = 'files'\nimages = ['(?P<case>a)']\nlabel = 'b'", "needs a group"),
        ("patient = '('", "subpattern"),
        ("[labels]\n0 = 'background'", "0 is the background"),
        ("[labels]\nliver = 1", "labels: 'liver' is not an int"),
        ("labels = 3", "labels: 3 is not a table"),
    ],
)
def test_bad_specs(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        load_spec(path)
    assert str(path) in str(caught.value)


def test_a_spec_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_spec(tmp_path / "none.toml")
