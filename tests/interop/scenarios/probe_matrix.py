"""The fault matrix of `pushrelay probe`."""

from kit.lab import expect
from kit.registry import scenario

from .matrix import beyond, near
from .matrix.run import climb
from .matrix.table import hold

CASES = [*near.CASES, *beyond.CASES]


@scenario("kit", relay=False)
def probe_matrix_table(_lab):
    """README's comparison with curl and openssl names every case of the matrix as it is."""
    expect(len({case.name for case in CASES}) == len(CASES), "a case's name is there twice")
    hold(CASES)


@scenario("ci")
def probe_matrix(lab):
    """Every broken path ends with its code at its hop, in time; no other hop is blamed."""
    climb(lab, CASES)
