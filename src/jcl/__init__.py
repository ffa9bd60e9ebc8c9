"""Label-efficient segmentation of medical scans.

Pre-train encoder and decoder together on unlabelled slices, fine-tune on a few labelled patients.
Submodules are imported when they are first used, so `import jcl` alone is quick:

    >>> import jcl
    >>> "jcl" in jcl.methods.available()
    True
"""

import importlib
from typing import TYPE_CHECKING, Any

from jcl._lazy import attach

if TYPE_CHECKING:
    from jcl import augment as augment
    from jcl import backbones as backbones
    from jcl import config as config
    from jcl import data as data
    from jcl import errors as errors
    from jcl import losses as losses
    from jcl import methods as methods
    from jcl import metrics as metrics
    from jcl import semi as semi
    from jcl import ssl as ssl
    from jcl import stages as stages
    from jcl.inference.segmenter import load as load

__version__ = "0.2.0"

find_submodule, list_names = attach(__name__)

MOVED = {"adapter": "jcl.backbones", "heads": "jcl.ssl.heads", "views": "jcl.augment"}
"""Where the attributes of version 0.1.0 are now, for networks and scripts of users that still name them."""


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("jcl.inference.segmenter").load
    return importlib.import_module(MOVED[name]) if name in MOVED else find_submodule(name)


def __dir__() -> list[str]:
    hidden = ("Any", "TYPE_CHECKING", "attach", "find_submodule", "importlib", "list_names")
    return sorted({*list_names(), "load"}.difference(hidden))
