"""Variables of the environment and limits of the system that make jcl slow, or do not do what they seem to."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from jcl import schema
from jcl.doctor.findings import Finding, broken, hint
from jcl.parallel.machine import cores, free_disk, memory_limit, size

__all__ = ["KNOWN", "check_cache", "check_memory", "check_temporary", "check_variables"]

KNOWN = ("JCL_KERNELS", "JCL_REALDATA", "JCL_LONG")
"""Variables that jcl and its tests read."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

SHARED = Path("/dev/shm")
LEAST_SHARED, LEAST_MEMORY, LEAST_TEMPORARY = 256 << 20, 4 << 30, 500 << 20
"""Bytes below which there is something to say: containers often have 64 MiB of shared memory."""


def check_variables(variables: Mapping[str, str]) -> list[Finding]:
    """Those of jcl that it does not know or whose value means nothing, and numbers of threads that do not fit."""
    unknown = [name for name in sorted(variables) if name.startswith("JCL_") and name not in KNOWN]
    findings = [hint(f"{name} is not a variable of jcl's{schema.did_you_mean(name, KNOWN)}") for name in unknown]
    kernels = variables.get("JCL_KERNELS", "on")
    if kernels not in ("on", "off"):
        findings.append(hint(f"JCL_KERNELS is {kernels!r}, which does nothing; `off` turns the kernels off"))
    for name in THREADS:
        if name in variables:
            findings += _check_threads(name, variables[name])
    if variables.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        findings.append(hint("CUDA_VISIBLE_DEVICES hides all GPUs; unset it to use them"))
    return findings


def _check_threads(name: str, value: str) -> list[Finding]:
    there = cores()
    first = value.split(",")[0].strip()
    if not first.isdecimal() or int(first) < 1:
        return [hint(f"{name} is {value!r}, which is not a number of threads; unset it, or set it to {there}")]
    if int(first) > there:
        return [hint(f"{name} is {first}, but this process may use {there} cores, and slows down; set it to {there}")]
    if int(first) < there and name == "OMP_NUM_THREADS":
        return [hint(f"{name} is {first}, so {there - int(first)} of {there} cores stay idle; unset it to use all")]
    return []


def check_memory() -> list[Finding]:
    """Memory, and memory that processes share, that are too small."""
    findings: list[Finding] = []
    limit = memory_limit()
    if limit is not None and limit < LEAST_MEMORY:
        findings.append(
            hint(f"{size(limit)} of memory are little; take a smaller --batch-size, and --workers 1 to prepare")
        )
    if SHARED.is_dir() and (shared := shutil.disk_usage(SHARED).total) < LEAST_SHARED:
        more = "start the container with --shm-size 1g"
        findings.append(hint(f"{SHARED} has {size(shared)}, too little for several GPUs or Ray; {more}"))
    return findings


def check_temporary() -> tuple[dict[str, str], list[Finding]]:
    """The folder of temporary files, with its free room."""
    try:
        folder = Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"jcl")
            file.flush()
    except OSError as error:
        return {}, [broken(f"no temporary folder can be written to ({error.strerror}); name one by TMPDIR")]
    free = free_disk(folder)
    if free is not None and free < LEAST_TEMPORARY:
        return {}, [hint(f"{folder}: only {size(free)} are free; name a larger temporary folder by TMPDIR")]
    return {"temporary files": f"{folder}, {size(free or 0)} free"}, []


def check_cache(folder: Path) -> tuple[dict[str, str], list[Finding]]:
    """The folder in which the compiled kernels are kept."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK):
        return {"cache": f"{folder}, {size(free_disk(folder) or 0)} free"}, []
    return {"cache": f"{folder}, cannot be written"}, [
        hint(f"{folder}: cannot be written, so the kernels are compiled at each start; set XDG_CACHE_HOME to a folder")
    ]
