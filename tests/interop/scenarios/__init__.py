"""The scenarios, in the order they run."""

from . import laboratory, walk, proxies, ways_in, chain  # noqa: F401
