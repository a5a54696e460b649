"""The scenarios, in the order they run."""

from . import laboratory, walk, proxies  # noqa: F401
