"""One case of the matrix: how a path is broken, and what the probe must say of it."""

import dataclasses

from kit.pki import APNS_HOST

# The contract: exit code by hop; a warning or a healthy path gives 0.
EXITS = {"none": 0, "relay-host": 10, "resolver": 10, "to-proxy": 11, "proxy": 11,
         "inspector": 12, "portal": 12, "beyond-proxy": 13, "network": 13, "origin": 13}
# Seconds: a healthy path, and the worst one.
HEALTHY, WORST = 3.0, 15.0


@dataclasses.dataclass(frozen=True)
class Case:
    """`way` builds the path; `broken` says in the README's words what is wrong with it."""

    name: str
    broken: str
    way: object
    code: str
    hop: str
    target: str = APNS_HOST
    options: tuple = ()
    severity: str = "fail"
    env: dict = dataclasses.field(default_factory=dict)

    @property
    def exit_code(self):
        """What the probe's process must end with."""
        return EXITS[self.hop] if self.severity == "fail" else 0


def healthy(name, broken, way, **more):
    """A path on which nothing is wrong: no false alarm."""
    return Case(name, broken, way, "ok", "none", severity="ok", **more)


def warned(name, broken, way, code, hop, **more):
    """A path that works, with something to say of it."""
    return Case(name, broken, way, code, hop, severity="warn", **more)
