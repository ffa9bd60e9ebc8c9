"""Label-efficient segmentation of medical scans.

Pre-train encoder and decoder together on unlabelled slices, fine-tune on a few labelled patients.
Submodules are imported when they are first used, so `import jcl` alone is quick:

    >>> import jcl
    >>> "jcl" in jcl.methods.available()
    True
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jcl import adapter as adapter
    from jcl import backbones as backbones
    from jcl import config as config
    from jcl import data as data
    from jcl import errors as errors
    from jcl import heads as heads
    from jcl import losses as losses
    from jcl import methods as methods
    from jcl import metrics as metrics
    from jcl import stages as stages
    from jcl import views as views
    from jcl.loading import load as load

__version__ = "0.1.0"

SUBMODULES = (
    "adapter",
    "backbones",
    "config",
    "data",
    "errors",
    "heads",
    "losses",
    "methods",
    "metrics",
    "stages",
    "views",
)


def __getattr__(name: str) -> Any:
    if name in SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "load":
        return importlib.import_module(f"{__name__}.loading").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *SUBMODULES, "load"])
