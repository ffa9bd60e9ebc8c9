"""A small prepared store with labels, made once."""

from stages.conftest import store_path

__all__ = ["store_path"]
