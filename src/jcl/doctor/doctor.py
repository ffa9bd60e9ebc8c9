"""`jcl doctor`: look at the machine before the first hour, or when something is slow or fails."""

import os
from dataclasses import asdict, dataclass
from typing import Any

from jcl import __version__
from jcl.config import DoctorConfig
from jcl.doctor.extras import check_needed, list_extras
from jcl.doctor.findings import Finding, broken
from jcl.doctor.processor import describe_machine
from jcl.doctor.settings import check_memory, check_temporary, check_variables
from jcl.parallel.progress import at_work

__all__ = ["Examination", "doctor"]


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        facts: lines on what there is, by what they are of.
        speed: slices a second, see `jcl.doctor.speed.measure_speed`.
        extras: see `jcl.doctor.extras.list_extras`.
        findings: what should be mended.
    """

    facts: dict[str, str]
    speed: dict[str, float]
    extras: dict[str, dict[str, str | bool]]
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether jcl can work here."""
        return all(finding.level != "error" for finding in self.findings)

    def as_mapping(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"usable": self.usable, **asdict(self)}


def doctor(config: DoctorConfig) -> Examination:
    """Examine this machine; nothing is raised for what is found."""
    facts, findings = {"jcl": __version__, **describe_machine()}, check_needed()
    speed: dict[str, float] = {}
    if not findings:
        more, speed, findings = _examine_pytorch()
        facts |= more
    room, full = check_temporary()
    findings += [*check_variables(os.environ), *check_memory(), *full]
    return Examination({**facts, **room}, speed, list_extras(), tuple(findings))


def _examine_pytorch() -> tuple[dict[str, str], dict[str, float], list[Finding]]:
    """What needs PyTorch: facts, speed and findings."""
    # not above: an installation that is damaged is reported, too
    from jcl.doctor.pytorch import check_gpus, check_kernels, check_threads, describe_pytorch
    from jcl.doctor.speed import measure_speed

    facts, findings = describe_pytorch(), [*check_gpus(), *check_threads()]
    for more, others in check_kernels():
        facts |= more
        findings += others
    try:
        with at_work("measure"):
            speed = measure_speed()
    except (RuntimeError, MemoryError) as error:
        said = " ".join(str(error).split())[:200]
        return facts, {}, [*findings, broken(f"a training step fails here ({said}); --devices cpu may work")]
    return facts, speed, findings
