"""MONAI bundles, run as their users run them."""

import subprocess
import sys
from pathlib import Path

RUNNER = """
import os, runpy, sys
sys.modules["jcl"] = None
import monai.bundle
words = sys.argv[1:]
for bundle, scans, out in zip(words[::3], words[1::3], words[2::3], strict=True):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, bundle
        continue
    os.chdir(bundle)
    options = ["--config_file", "configs/inference.json", "--dataset_dir", scans, "--output_dir", out]
    sys.argv = ["monai.bundle", "run", *options]
    runpy.run_module("monai.bundle", run_name="__main__")
    break
"""


def run_bundles(*runs: tuple[Path, Path, Path]) -> None:
    """MONAI's own command for each (bundle, scans, out), where `import jcl` fails; MONAI itself is imported once."""
    command = [sys.executable, "-c", RUNNER, *(str(path) for run in runs for path in run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
