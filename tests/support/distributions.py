"""Wheel and sdist, built of a folder of sources."""

import subprocess
import sys
from pathlib import Path


def build(source: Path, out: Path) -> None:
    """Both, into `out`; hatchling is what pyproject.toml names, so nothing is fetched."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out)],
        cwd=source, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
