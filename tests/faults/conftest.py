"""A small prepared store, as the tests of the stages have it."""

from stages.conftest import store_path

__all__ = ["store_path"]
