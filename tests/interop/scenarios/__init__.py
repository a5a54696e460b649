"""The scenarios, in the order they run."""

from . import laboratory  # noqa: F401
