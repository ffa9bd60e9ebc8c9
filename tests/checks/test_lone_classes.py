"""Classes that one labelled case alone has."""

from jcl.checks.lone_classes import on_lone_classes
from jcl.data.manifest import CaseRecord

NAMES = ("1", "2", "7")


def record(case: str, *voxels: int) -> CaseRecord:
    return CaseRecord(
        case, case, 6, (32, 32), (5.0, 1.5, 1.5), labelled=bool(voxels), status="ready", source={}, digests={},
        scale=(1.0,), offset=(0.0,), voxels=voxels,
    )  # fmt: skip


def test_a_slip_of_the_pen_is_named() -> None:
    """A published set had values 7 and 8 in three labels, which viewers hardly show:
    https://github.com/DIAGNijmegen/panorama_labels/issues/1.
    """
    cases = [record("a", 90, 9, 0), record("b", 80, 8, 1), record("c", 70, 7, 0), record("bare")]
    assert on_lone_classes(cases, NAMES) == {
        "b": "classes that of 3 labelled cases b alone has: 7 (1 voxel); correct its label, if they are slips"
    }


def test_a_scan_among_the_labels_is_one_line() -> None:
    """https://github.com/MIC-DKFZ/nnUNet/issues/1007."""
    names = [str(value) for value in range(100)]
    scan = record("scan", *range(1, 101))
    others = [record(case, *[5, 4], *[0] * 98) for case in "abc"]
    (line,) = on_lone_classes([scan, *others], names).values()
    shown = ", ".join(f"{value} ({value + 1} voxels)" for value in range(2, 8))
    assert (
        line
        == f"classes that of 4 labelled cases scan alone has: {shown} and 92 more; correct its label, if they are slips"
    )


def test_what_two_have_and_what_two_cases_cannot_tell_is_not_named() -> None:
    assert not on_lone_classes([record(case, 5, 4, case != "a") for case in "abc"], NAMES)
    assert not on_lone_classes([record("a", 5, 4, 3), record("b", 5, 4, 0), record("c", 0, 0, 0)], NAMES)
