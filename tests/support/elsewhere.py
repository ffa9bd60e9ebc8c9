"""jcl as another system has it: what only POSIX or Linux has is hidden, and an encoding left to the system is an error.

As a script: `elsewhere.py import` imports every module, `elsewhere.py run FOLDER` goes from scans to segmentations.
"""

import importlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import warnings
from pathlib import Path

MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "readline")
FUNCTIONS = (
    "chown", "fchmod", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getpgrp", "getuid",
    "killpg", "mkfifo", "nice", "openpty", "posix_fadvise", "posix_fallocate", "pread", "pwrite", "sched_getaffinity",
    "sched_setaffinity", "setpgid", "setpgrp", "setsid", "statvfs", "sync", "sysconf", "uname", "wait3", "wait4",
)  # fmt: skip
SIGNALS = (
    "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2",
)  # fmt: skip
OTHERS = (
    "concurrent.futures.process", "ctypes", "logging.handlers", "multiprocessing.popen_spawn_posix",
    "multiprocessing.resource_tracker", "multiprocessing.synchronize", "subprocess", "filelock", "matplotlib.pyplot",
    "pydicom", "rich.console", "scipy.ndimage", "scipy.optimize", "scipy.stats", "SimpleITK", "torch",
    "torch.multiprocessing.spawn", "torch.utils.tensorboard",
)  # fmt: skip
"""Imported before: they look at the system's name, which is not hidden."""


def hide() -> None:
    """Take away what Windows has not."""
    for name in OTHERS:
        importlib.import_module(name)
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in ((os, FUNCTIONS), (signal, SIGNALS)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    multiprocessing.get_all_start_methods = lambda: ["spawn"]
    os.environ["JCL_KERNELS"] = "off"
    os.environ.setdefault("USERNAME", "somebody")
    warnings.filterwarnings("error", category=EncodingWarning, module=r"jcl\.")


def import_all() -> None:
    import jcl

    for each in pkgutil.walk_packages(jcl.__path__, "jcl."):
        if each.name != "jcl.__main__":
            importlib.import_module(each.name)


def run(folder: Path) -> None:
    from jcl.cli.main import main

    scans, store, pre, fine = (folder / name for name in ("scans", "störe", "pre", "fine"))
    small = ["--steps", 2, "--batch-size", 4]
    commands = [
        ["prepare", scans, "--out", store, "--workers", 2, "--labels", "1=Vorhof – ä"],
        ["verify", store, "--source", scans],
        ["pretrain", store, "--out", pre, "--width", 2, "--fold", 0, *small],
        ["finetune", store, "--init", pre, "--out", fine, *small],
        ["evaluate", fine, "--out", folder / "results.json"],
        ["predict", fine, scans / "images", "--out", folder / "out"],
    ]
    for words in commands:
        if code := main([str(word) for word in words]):
            sys.exit(f"{words[0]}: exit code {code}")


if __name__ in ("__main__", "__mp_main__"):
    hide()
if __name__ == "__main__":
    import_all() if sys.argv[1] == "import" else run(Path(sys.argv[2]))
