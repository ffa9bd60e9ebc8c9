"""Other systems: every module can be imported, and the whole path walked, without what only Linux or POSIX has.

Found missing at other tools, where an import was enough to fail or a text file not to be read:

- `resource`: https://github.com/bthyreau/hippodeep_pytorch/issues/7,
  https://github.com/KernelTuner/kernel_tuner/issues/156
- `fcntl`: https://github.com/UoA-eResearch/face_api/issues/1
- an encoding left to the system: https://github.com/ilyachch/md_docs-trans-app/issues/46,
  https://github.com/huggingface/datasets/issues/347
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jcl.files import read_json
from support.scans import write_volumes

SCRIPT = Path(__file__).parent / "support" / "elsewhere.py"


def elsewhere(*words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-X", "warn_default_encoding", str(SCRIPT), *words]
    return subprocess.run(command, capture_output=True, check=False, env=environment)


def test_every_module_can_be_imported() -> None:
    done = elsewhere("import")
    assert done.returncode == 0, done.stderr.decode("cp1252")


@pytest.mark.slow
def test_from_scans_to_segmentations(tmp_path: Path) -> None:
    """Names beyond the system's letters, too: stdout is a pipe of another encoding."""
    scans = write_volumes(tmp_path / "scans", patients=5, labelled=5)
    for kind in ("images", "labels"):
        (scans / kind / "p0.nii.gz").rename(scans / kind / "患者.nii.gz")
    done = elsewhere("run", str(tmp_path))
    assert done.returncode == 0, done.stderr.decode("cp1252")
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 5
    assert set(read_json(tmp_path / "results.json")["cases"][0]["classes"]) == {"Vorhof – ä"}
