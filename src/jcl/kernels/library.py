"""The compiled kernels: built from the C files beside this one when they are first needed, and kept in a cache."""

import ctypes
import functools
import hashlib
import importlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jcl.distributed.comm import is_main_process
from jcl.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "KernelError",
    "Library",
    "UnwantedError",
    "cache_folder",
    "function_for",
    "has_fast_bfloat16",
    "load_library",
    "multiplies_bfloat16",
    "say_without",
    "scratch",
    "weights_of",
]

SOURCES = (
    ("convolution.c",), ("weight_gradient.c",), ("normalisation.c",), ("pooling.c",),
    ("normalisation.c", "-DBFLOAT16"), ("pooling.c", "-DBFLOAT16"), ("direct.c",), ("direct_gradient.c",),
)  # fmt: skip
"""Files, with what is defined in them: some are compiled for arrays of either type."""

FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-fPIC", "-std=gnu11")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 120.0
TILES = 2
"""What `jcl_direct_products` says where products are those of the processor's tiles."""

Library = ctypes.CDLL

_kept = threading.local()

P, N, F, I = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_float, ctypes.c_int  # noqa: E741


class Affine(ctypes.Structure):
    """A normalisation by channel and the leaky ReLU behind it (vectors.h)."""

    _fields_ = (("mean", P), ("scale", P), ("shift", P), ("slope", F))


class Weights(ctypes.Structure):
    """Where 3 x 3 weights lie in memory (weights.h)."""

    _fields_ = (
        ("at", P), ("rows", N), ("columns", N), ("row_step", N), ("column_step", N), ("y_step", N), ("x_step", N),
        ("flipped", I),
    )  # fmt: skip


class Epilogue(ctypes.Structure):
    """What becomes of the outputs of a convolution (outputs.h)."""

    _fields_ = (
        ("bias", P), ("slope", F), ("moments", P), ("sums", P), ("counts", P), ("x", P), ("of", ctypes.POINTER(Affine)),
    )  # fmt: skip


A, W, E = (ctypes.POINTER(kind) for kind in (Affine, Weights, Epilogue))
SIGNATURES = {
    "jcl_convolve": (P, A, W, P, N, N, N, E, P, I),
    "jcl_weight_gradient": (P, A, P, W, N, N, N, P, I),
    "jcl_direct_convolve": (P, A, W, P, N, N, N, E, P, I),
    "jcl_direct_gradient": (P, A, P, W, N, N, N, P, I),
}
FOR_EITHER_TYPE = {
    "jcl_moments": (P, N, N, P, I),
    "jcl_normalise": (P, P, N, N, A, I),
    "jcl_gradient_sums": (P, P, N, N, A, P, I),
    "jcl_normalise_gradient": (P, P, P, N, N, A, P, P, I),
    "jcl_pool": (P, P, P, N, N, N, N, I),
    "jcl_pool_gradient": (P, P, P, N, N, N, N, I),
}
"""Of arrays of float32; those of bfloat16 are called `..._bfloat16`."""

NUMBERS = {
    "jcl_lanes": (),
    "jcl_block_rows": (),
    "jcl_blocks": (N,),
    "jcl_convolve_blocks": (N, N, N),
    "jcl_convolve_work": (N, N, I),
    "jcl_weight_gradient_work": (N, N, I),
    "jcl_direct_products": (),
    "jcl_direct_bands": (N, N, N, N),
    "jcl_direct_work": (N, N, N, N, N, I),
    "jcl_direct_gradient_work": (N, N, N, N, N, I),
}


class KernelError(UsageError):
    """The kernels cannot be had here; the message says why."""


class UnwantedError(KernelError):
    """They are switched off, or not for this system: nothing is wrong here."""


@functools.cache
def load_library() -> Library:
    """The kernels of this machine, compiled if the cache does not hold them (some seconds, once).

    Compiled for the very processor that runs them, hence not shipped ready-made. The cache is `jcl/kernels` below
    $XDG_CACHE_HOME or ~/.cache; a file there is named by its sources, the compiler and the processor, so homes that
    several machines share do no harm.

    Raises:
        KernelError: no Linux, no C compiler, or one that cannot compile or load them; or $JCL_KERNELS is `off`.
    """
    if os.environ.get("JCL_KERNELS") == "off":
        raise UnwantedError("the kernels are off ($JCL_KERNELS)")
    if platform.system() != "Linux":
        raise UnwantedError(f"the kernels are for Linux, not {platform.system()}")
    compiler = _compiler()
    kept = _folder_to_keep_in() / f"{_digest(compiler)}.so"
    importlib.import_module("torch")  # brings the library of threads that the kernels use
    library = _open(kept) if kept.exists() else None
    if library is None:
        _compile(compiler, kept)
        library = _open(kept)
    if library is None:
        raise KernelError(f"{kept}: cannot be loaded")
    either = {name + end: of for name, of in FOR_EITHER_TYPE.items() for end in ("", "_bfloat16")}
    for name, arguments in {**SIGNATURES, **either, **NUMBERS}.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = N if name in NUMBERS else None
    library.jcl_direct_products()  # asks the system for the tiles, without which their instructions are illegal
    return library


def weights_of(weight: "Tensor", *, flipped: bool = False) -> Weights:
    """3 x 3 weights (outputs, inputs, 3, 3) of a convolution; flipped those of the gradient of its input."""
    rows, columns = (0, 1) if flipped else (1, 0)
    steps = (weight.stride(axis) for axis in (rows, columns, 2, 3))
    return Weights(weight.data_ptr(), weight.shape[rows], weight.shape[columns], *steps, flipped)


def scratch(size: int) -> ctypes.c_void_p:
    """Bytes that this thread keeps from call to call: fetched anew, the system would fill them with zeros each time."""
    torch = importlib.import_module("torch")
    found = getattr(_kept, "work", None)
    if found is None or len(found) < size:
        found = _kept.work = torch.empty(size, dtype=torch.uint8)  # at a multiple of 64, as all of PyTorch's
    return ctypes.c_void_p(found.data_ptr())


def function_for(name: str, array: "Tensor") -> Any:
    """A compiled function for arrays of the type of this one: float32 or bfloat16."""
    return getattr(load_library(), name + ("_bfloat16" if array.element_size() == 2 else ""))


def has_fast_bfloat16() -> bool:
    """Whether the kernels multiply bfloat16 by the processor's own tiles (AMX).

    Raises:
        KernelError: the kernels cannot be had here.
    """
    return load_library().jcl_direct_products() == TILES


def multiplies_bfloat16() -> bool:
    """Whether they multiply it at all: not where the system does not let this process use the processor's tiles.

    Raises:
        KernelError: the kernels cannot be had here.
    """
    return load_library().jcl_direct_products() > 0


def say_without(error: KernelError) -> None:
    """One line, once in a process, where the kernels could be had and cannot: what is computed takes longer."""
    if not isinstance(error, UnwantedError) and is_main_process():
        _say(f"computing without jcl's kernels, which takes about three times as long: {error}")


@functools.cache
def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _compiler() -> list[str]:
    """The words of the C compiler's command: $CC, or what the machine has."""
    given = os.environ.get("CC")
    found = shlex.split(given) if given else next(([name] for name in COMPILERS if shutil.which(name)), None)
    if not found or not shutil.which(found[0]):
        raise KernelError(f"no C compiler here ({given or ', '.join(COMPILERS)}); on Debian: apt install gcc")
    return found


def _digest(compiler: list[str]) -> str:
    """Of all that the compiled file depends on."""
    digest = hashlib.sha256(repr((*compiler[1:], FLAGS, SOURCES, platform.machine(), _features())).encode())
    digest.update(_run([*compiler, "--version"]).encode())
    for path in sorted(Path(__file__).parent.glob("*.[ch]")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _features() -> str:
    """What the processor can do, which `-march=native` asks for."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")


def cache_folder() -> Path:
    """Where the compiled kernels of this user are kept.

    Raises:
        RuntimeError: the user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jcl" / "kernels"


def _folder_to_keep_in() -> Path:
    """A folder of this user's own, since what lies in it is run; a temporary one where there is no home to write to."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if hasattr(os, "getuid") and folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    return Path(tempfile.mkdtemp(prefix="jcl-kernels-"))


def _compile(compiler: list[str], target: Path) -> None:
    """Compile and put in place at once, so that several processes may do so beside each other."""
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        objects = [str(Path(temporary) / f"{number}.o") for number in range(len(SOURCES))]
        for (source, *defined), made in zip(SOURCES, objects, strict=True):
            _run([*compiler, *FLAGS, *defined, "-c", str(Path(__file__).with_name(source)), "-o", made])
        # not linked with OpenMP: PyTorch has loaded one already, and its threads are to be ours
        built = Path(temporary) / target.name
        _run([*compiler, "-shared", *objects, "-o", str(built)])
        built.replace(target)


def _open(path: Path) -> Library | None:
    """The library in a file; None if it is damaged, or made for another system."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or [f"exit code {error.returncode}"]
        shown = next((line for line in lines if "error" in line), lines[0])
        raise KernelError(f"{command[0]} failed: {shown}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"{command[0]} failed: {error}") from error
    return done.stdout
