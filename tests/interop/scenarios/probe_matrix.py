"""The fault matrix of `pushrelay probe`."""

from kit.registry import scenario

from .matrix import beyond, near
from .matrix.run import climb

CASES = [*near.CASES, *beyond.CASES]


@scenario("ci")
def probe_matrix(lab):
    """Every broken path ends with its code at its hop, in time; no other hop is blamed."""
    climb(lab, CASES)
