"""Settings from file and flags: what is taken, what is refused, and that a printed file reads back."""

from pathlib import Path

import pytest

from jcl.backbones import default_width
from jcl.config import FinetuneConfig, PrepareConfig, PretrainConfig
from jcl.errors import UsageError
from jcl.settings import as_mapping, as_toml, load
from jcl.training.recipes import settle

GIVEN = {"stores": ["a", "b c"], "out": "run"}


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_those_of_the_paper_but_for_the_recipe_of_fine_tuning():
    config = load(PretrainConfig, None, GIVEN)
    assert (config.method, config.batch_size, config.backbone) == ("jcl", 16, "unet")
    assert default_width("unet") == 32
    fine = load(FinetuneConfig, None, {"store": "s", "init": "none", "out": "o"})
    paper = load(FinetuneConfig, None, {"store": "s", "init": "none", "out": "o", "recipe": "paper"})
    assert (fine.batch_size, settle(paper, None).learning_rate) == (5, 5e-4)
    assert settle(fine, None).recipe == "strong"


def test_values_are_converted_to_their_types():
    config = load(PretrainConfig, None, {**GIVEN, "learning_rate": 1, "split": "split.json"})
    assert config.stores == (Path("a"), Path("b c"))
    assert isinstance(config.learning_rate, float)
    assert config.split == Path("split.json")


def test_flags_override_the_file(tmp_path: Path):
    path = write(tmp_path, 'stores = ["s"]\nout = "file"\nseed = 3\n[method_settings]\ntemperature = 0.2\n')
    config = load(PretrainConfig, path, {"out": Path("flag")})
    assert config.out == Path("flag")
    assert config.seed == 3
    assert config.method_settings == {"temperature": 0.2}


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"method_settings": {"temperature": 0.2, "views": "paper", "flag": True, "list": [1, 2]}},
        {"method_settings": {"text": "two\nlines\tand \x07", "list": ["a", float("inf")], "huge": 1e300}},
        {"out": 'a "quoted" \\ path/ünïcode', "learning_rate": 1e-05, "steps": 10, "resume": True},
    ],
)
def test_a_printed_file_reads_back(tmp_path: Path, extra: dict):
    config = load(PretrainConfig, None, {**GIVEN, **extra})
    assert load(PretrainConfig, write(tmp_path, as_toml(config)), {}) == config


def test_mapping_holds_plain_values_only():
    mapping = as_mapping(load(PretrainConfig, None, GIVEN))
    assert mapping["stores"] == ["a", "b c"]
    assert mapping["out"] == "run"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sede": 1}, "unknown key 'sede'; did you mean seed?"),
        ({"seed": "one"}, "seed: 'one' is not an int"),
        ({"seed": 1.5}, "seed: 1.5 is not an int"),
        ({"seed": True}, "seed: True is not an int"),
        ({"resume": 1}, "resume: 1 is not a bool"),
        ({"epochs": "all"}, "epochs: 'all' is not an int"),
        ({"stores": "a"}, "stores: 'a' is not a list of paths"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(values: dict, message: str):
    with pytest.raises(UsageError) as caught:
        load(PretrainConfig, None, {**GIVEN, **values})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_is_named_with_the_file_that_has_it(tmp_path: Path):
    path = write(tmp_path, 'precision = "half"\n')
    with pytest.raises(UsageError, match=r"settings\.toml: precision: 'half' is not one of auto, float32, bfloat16$"):
        load(PretrainConfig, path, GIVEN)
    with pytest.raises(
        UsageError, match=r"settings\.toml: unknown key 'sede'; did you mean seed\? \(known: accum.*\)$"
    ):
        load(PretrainConfig, write(tmp_path, "sede = 1\n"), GIVEN)
    with pytest.raises(UsageError, match=r"^seed: 1\.5 is not an int$"):
        load(PretrainConfig, write(tmp_path, "seed = 1\n"), {**GIVEN, "seed": 1.5})


def test_missing_settings_are_all_named():
    with pytest.raises(UsageError, match="missing: source, out"):
        load(PrepareConfig, None, {})


@pytest.mark.parametrize("text", ["seed = ", "\x00", "[a\n"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str):
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=r"settings\.toml: not a TOML file"):
        load(PretrainConfig, path, {})


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match="nowhere"):
        load(PretrainConfig, tmp_path / "nowhere.toml", {})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0; at least 1 is needed"),
        ({"width": 0}, "width is 0; at least 1 is needed"),
        ({"steps": -1}, "steps is -1; at least 1 is needed"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; a number is needed"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; above 0 is needed"),
    ],
)
def test_numbers_that_cannot_be_meant(given: dict[str, float], words: str):
    with pytest.raises(UsageError, match=words):
        load(PretrainConfig, None, {**GIVEN, **given})
