"""The model card, and the upload with a hub that is not there."""

from pathlib import Path

import huggingface_hub
import pytest
import yaml

import jcl
from jcl.config import ExportConfig
from jcl.errors import DataError
from jcl.stages.export import export
from support.exported import write_random_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_random_run(tmp_path_factory.mktemp("run") / "run")


class FakeApi:
    """Keeps what it is asked to upload."""

    calls: list[tuple] = []  # noqa: RUF012

    def create_repo(self, repo: str, *, exist_ok: bool) -> str:
        if repo == "not/mine":
            raise OSError("403 Forbidden:\nyou are not allowed")
        return f"https://hub/{repo}"

    def upload_folder(self, *, folder_path: Path, repo_id: str, commit_message: str) -> None:
        self.calls.append((repo_id, sorted(path.name for path in folder_path.iterdir())))


def test_the_card_is_one_that_the_hub_reads(run, tmp_path):
    out = export(ExportConfig(run=run, to="hub", out=tmp_path / "heart"))
    card = huggingface_hub.ModelCard.load(out / "README.md")
    assert card.data.library_name == "jcl"
    assert "image-segmentation" in card.data.tags
    assert yaml.safe_load((out / "README.md").read_text().split("---")[1])["pipeline_tag"] == "image-segmentation"
    for line in ('jcl.load("heart")', "- 200: Myo", "- 500: LV", "- 600: RV"):
        assert line in card.text


def test_the_card_says_what_it_sees(run, tmp_path):
    ahead = write_random_run(tmp_path / "run", context=2)
    folder = export(ExportConfig(run=ahead, to="hub", out=tmp_path / "hub"))
    said = "It sees each slice together with the 2 slices on either side (2.5-D).\n"
    assert said in (folder / "README.md").read_text()
    segmenter = jcl.load(folder)
    assert segmenter.preparation["context"] == 2
    assert segmenter.network.in_channels == 5
    assert jcl.load(ahead).preparation == segmenter.preparation
    plain = export(ExportConfig(run=run, to="hub", out=tmp_path / "plain"))
    assert "2.5-D" not in (plain / "README.md").read_text()


def test_push(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    monkeypatch.setattr(FakeApi, "calls", [])
    out = export(ExportConfig(run=run, to="hub", out=tmp_path / "out", push="me/heart"))
    assert FakeApi.calls == [("me/heart", ["README.md", "config.json", "model.safetensors"])]
    assert capsys.readouterr().err == "uploaded: https://hub/me/heart\n"
    assert 'jcl.load("me/heart")' in (out / "README.md").read_text()
    with pytest.raises(DataError, match=r"not/mine: the upload failed .* is whole") as failure:
        export(ExportConfig(run=run, to="hub", out=tmp_path / "other", push="not/mine"))
    assert "\n" not in str(failure.value)
    assert (tmp_path / "other" / "config.json").is_file()
