"""The scenarios, in the order they run."""

from . import comparison, laboratory, walk, proxies, ways_in, quirks, chain  # noqa: F401
