"""What a set suits, for the kinds of sets that there are."""

from pathlib import Path

import pytest

from jcl.cli import main as cli
from jcl.config import PrepareConfig
from jcl.data.block_plan import check_block, plan_strides
from jcl.data.manifest import CaseRecord
from jcl.data.suited import one_spacing, suited
from jcl.stages.prepare import prepare
from support.scans import write_volumes


def case(slices: int, shape: tuple[int, int], spacing: tuple[float, float, float]) -> CaseRecord:
    return CaseRecord(
        case="a", patient="a", slices=slices, shape=shape, spacing=spacing, labelled=False, status="ready", source={},
        digests={}, scale=(1.0,), offset=(0.0,), voxels=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cases", "settings", "reason"),
    [
        ([case(10, (256, 256), (8.0, 1.25, 1.25))], "", "6.4 times as thick as their pixels (8 mm, 1.25 mm)"),
        ([case(88, (320, 320), (0.625, 0.625, 0.625))], "--backbone unet3d --block 32 32 32", "88 slices, 1.0 times"),
        ([case(35, (50, 36), (1.0, 1.0, 1.0))], "--backbone unet3d --block 32 32 32", "35 slices, 1.0 times"),
        ([case(60, (512, 512), (2.0, 0.8, 0.8))], "--backbone unet3d --block 16 32 32", "60 slices, 2.5 times"),
        ([case(200, (512, 512), (0.5, 1.0, 1.0))], "--backbone unet3d --block 32 32 32", "0.5 times"),
        (
            [case(88, (64, 64), (0.6, 2.4, 2.4))],
            "--backbone unet3d --block 32 32 32",
            "as their pixels (prepared with --spacing-through 2.4, a block would show more of it)",
        ),
        ([case(8, (9, 12), (1.0, 1.0, 1.0))], "--backbone unet3d --block 8 16 16", "8 slices"),
        ([case(7, (9, 12), (1.0, 1.0, 1.0))], "--context 1", "too few for blocks"),
        ([case(2, (64, 64), (1.0, 1.0, 1.0))], "", "too few for more"),
        ([case(1, (64, 64), (1.0, 1.0, 1.0))], "", "a single slice"),
        ([case(10, (64, 64), (3.0, 1.0, 1.0))], "--backbone unet3d --block 8 32 32", "3.0 times"),
        ([case(10, (64, 64), (3.1, 1.0, 1.0))], "", "3.1 times as thick"),
        # medians decide: one odd case does not
        ([*[case(10, (256, 256), (8.0, 1.25, 1.25))] * 2, case(80, (64, 64), (1.0, 1.0, 1.0))], "", "6.4 times"),
    ],
)
def test_the_rule(cases, settings, reason):
    found = suited(cases)
    assert found.settings == settings
    assert reason in found.reason
    assert "\n" not in str(found)
    if "--block" in settings:
        block = tuple(map(int, settings.split()[-3:]))
        assert check_block(block) == block
        assert plan_strides(cases[0].spacing, block)


def test_prepare_and_verify_say_it_in_one_line(tmp_path: Path, capsys):
    source = write_volumes(tmp_path / "scans", patients=2, labelled=2)
    prepare(PrepareConfig(source=source, out=tmp_path / "store", workers=1))
    why = "its slices are 4.0 times as thick as their pixels (4 mm, 1 mm)"
    said = f"suggested to begin with: slices one by one (no setting): {why}"
    assert capsys.readouterr().err.splitlines().count(said) == 1
    assert cli.main(["verify", str(tmp_path / "store")]) == 0
    assert capsys.readouterr().out.splitlines().count(said) == 1
    prepare(PrepareConfig(source=source, out=tmp_path / "fine", workers=1, spacing_through=2.0))
    assert "suggested to begin with: --backbone unet3d --block 16 32 32: " in capsys.readouterr().err


def test_a_set_whose_pixels_differ_is_better_resampled() -> None:
    as_they_are = {"spacing": None, "size": None}
    same = [case(10, (64, 64), (5.0, mm, mm)) for mm in (0.7, 0.8, 1.04)]
    far = [*same, case(10, (64, 64), (5.0, 1.2, 1.2))]
    assert one_spacing(as_they_are, same) is None
    line = one_spacing(as_they_are, far)
    assert line is not None
    assert line.startswith("suggested: --spacing 0.92, the median: pixels are 0.7 to 1.2 mm apart, ")
    assert one_spacing({**as_they_are, "spacing": 1.0}, far) is None
    assert one_spacing({**as_they_are, "size": 64, "fit": True}, far) is None
