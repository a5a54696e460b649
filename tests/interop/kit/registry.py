"""The list of scenarios: a function, its name, the sets it belongs to."""

import dataclasses
import pathlib
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One function that builds a laboratory and shows one thing in it."""

    name: str
    body: Callable
    shows: str
    sets: frozenset
    relay: bool


SCENARIOS = []
WAITING = [line.split("#")[0].strip() for line in
           (pathlib.Path(__file__).resolve().parent.parent / "scenarios" / "waiting")
           .read_text().splitlines() if line.split("#")[0].strip()]


def matches(name, pattern):
    """Whether a name is this one; a trailing * matches a prefix."""
    return name == pattern or pattern.endswith("*") and name.startswith(pattern[:-1])


def scenario(*sets, relay=True):
    """Registers a function; its name with dashes is the scenario's, its docstring what it shows.

    Sets: `kit` needs no relay and proves the laboratory, `ci` runs in .ci/run, `nightly` in
    .ci/nightly. Whatever is in `ci` is in `nightly` too. What scenarios/waiting names is in the
    set `waiting` instead.
    """
    chosen = frozenset(sets) | ({"nightly"} if "ci" in sets else set())

    def register(body):
        shows = body.__doc__.strip().splitlines()[0]
        name = body.__name__.replace("_", "-")
        waits = any(matches(name, pattern) for pattern in WAITING)
        SCENARIOS.append(Scenario(name, body, shows,
                                  frozenset({"waiting"}) if waits else chosen, relay))
        return body
    return register


def several(variants, *sets, relay=True):
    """Registers one function once per variant; it gets the variant's value as well."""
    def register(body):
        for name, value in variants.items():
            def one(lab, value=value):
                body(lab, value)
            one.__name__ = f"{body.__name__}_{name}"
            one.__doc__ = f"{body.__doc__.strip().splitlines()[0].rstrip('.')}: {name}."
            scenario(*sets, relay=relay)(one)
        return body
    return register


def choose(names, chosen):
    """The scenarios with these names (a trailing * matches a prefix) or of this set."""
    if chosen and not names:
        return [scenario for scenario in SCENARIOS if chosen in scenario.sets]
    if not names:
        return list(SCENARIOS)
    found = []
    for name in names:
        these = [scenario for scenario in SCENARIOS if matches(scenario.name, name)]
        if not these:
            raise SystemExit(f"no scenario is named {name}; --list shows them")
        found += [scenario for scenario in these if scenario not in found]
    return found
