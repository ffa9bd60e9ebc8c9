"""The settings of a method: the keyword arguments of its constructor, with their defaults and what is said of them."""

import inspect

from jcl.arguments import Setting, arguments
from jcl.methods._base import Method

__all__ = ["Setting", "settings"]


def settings(method: type[Method]) -> list[Setting]:
    """The keyword arguments of a method's constructor.

    Where that takes more by `**`, those of the method's `further_settings` and of `Method` follow.

    Raises:
        UsageError: an argument has no default.

    Examples:
        >>> import jcl
        >>> [setting.name for setting in settings(jcl.methods.load("simclr"))]
        ['temperature', 'projection', 'augment', 'rotation', 'scale', 'translation']
    """
    parameters = inspect.signature(method).parameters.values()
    takes_more = any(p.kind is p.VAR_KEYWORD for p in parameters)
    takers = (method, *method.further_settings, Method) if takes_more else (method,)
    return arguments(takers, without=("backbone",))
