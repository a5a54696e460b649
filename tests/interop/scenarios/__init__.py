"""The scenarios, in the order they run."""

from . import (  # noqa: F401
    comparison, laboratory, walk, proxies, ways_in, quirks, chain, probe_matrix, pages,
    successions)
