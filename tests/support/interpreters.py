"""The Pythons of a machine that jcl can be installed for."""

import shutil
import subprocess
from pathlib import Path

OLDEST = (3, 11)
ASK = "import sys; print(*sys.version_info[:2])"


def interpreters() -> dict[tuple[int, int], Path]:
    """By version: those on the PATH, and those that pyenv keeps."""
    named = [shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 20)]
    kept = sorted(Path.home().glob(".pyenv/versions/*/bin/python3"))
    found: dict[tuple[int, int], Path] = {}
    for path in [*(Path(name) for name in named if name), *kept]:
        done = subprocess.run([path, "-c", ASK], capture_output=True, text=True, check=False)
        if done.returncode == 0:  # pyenv has a name for each version, also for those that are switched off
            major, minor = map(int, done.stdout.split())
            found.setdefault((major, minor), path)
    return {version: path for version, path in sorted(found.items()) if version >= OLDEST}
