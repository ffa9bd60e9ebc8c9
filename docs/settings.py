"""For the built site: a field of a settings dataclass is described by the text that `--help` shows of it."""

import ast
from typing import Any

import griffe

DECLARING = ("option", "positional")
"""Functions of `jcl.config` whose first argument is that text."""


class Settings(griffe.Extension):
    """Gives each such field its docstring."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Called for each attribute that was read from the sources."""
        value = attr.value
        if not (isinstance(value, griffe.ExprCall) and str(value.function) in DECLARING and value.arguments):
            return
        said = str(value.arguments[0])
        if said in attr.module.members:  # a text that several fields share
            said = str(attr.module.members[said].value)
        attr.docstring = griffe.Docstring(str(ast.literal_eval(said)), parent=attr)
