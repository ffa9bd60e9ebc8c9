"""Cases whose names begin alike."""

import pytest

from jcl.checks.alike_names import on_alike_names
from jcl.data.manifest import CaseRecord


def record(case: str, patient: str | None = None) -> CaseRecord:
    return CaseRecord(
        case, patient or case, 6, (32, 32), (5.0, 1.5, 1.5), labelled=False, status="ready", source={}, digests={},
        scale=(1.0,), offset=(0.0,), voxels=(),
    )  # fmt: skip


def line(*cases: str, patient: str | None = None) -> str | None:
    return on_alike_names({"patient": patient}, [record(case) for case in cases])


def test_frames_of_a_patient_are_said_to_begin_alike() -> None:
    """As in ACDC: whose two frames are in training and test says nothing of how good a network is."""
    assert line("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame08") == (
        "patient001_frame01 and patient001_frame12 begin alike, as do those of 1 more: if they are one patient's, "
        "prepare with --patient '(.+)_', or one may be trained on and the other tested"
    )
    found = line("p1_a", "p1_b", "p2_a")
    assert found is not None
    assert found.startswith("p1_a and p1_b begin alike: if")


@pytest.mark.parametrize(
    "cases",
    [
        [f"hippocampus_{number:03d}" for number in range(8)],  # the name of the set
        [f"{site}_{number}" for site in ("north", "south") for number in range(3)],  # of a site
        [f"scanner{scanner}_{number}" for scanner in (1, 2) for number in range(20)],  # too many for a patient
        ["p1_a", "p1_b", "p2_a", "p3_a", "p4_a"],  # fewer than half
        ["p1", "p2", "q1"],
        [],
    ],
)
def test_others_are_not(cases: list[str]) -> None:
    assert line(*cases) is None


def test_nothing_is_said_where_patients_are_known() -> None:
    assert line("p1_a", "p1_b", "p2_a", "p2_b", patient="(.+)_") is None
    assert on_alike_names({"patient": None}, [record("p1_a", "P"), record("p1_b", "P"), record("p2_a")]) is None
