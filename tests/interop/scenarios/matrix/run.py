"""Climbs all cases at once and judges each: code, hop, exit code, time."""

import concurrent.futures
import json
import os
import pathlib
import time

from kit.lab import Failure, expect
from kit.ledger import FIGURES
from kit.relay import build

from . import tools
from .case import HEALTHY, WORST
from .ground import Site

# Probes wait more than they compute; more at once would make two cores late.
AT_ONCE = 12


def climb(lab, cases):
    """Builds one laboratory for the cases, probes each, and fails with every wrong one."""
    binary = build()
    site = Site(lab)
    paths = {case.name: case.way.build(site) for case in cases}
    site.start()
    kept = os.environ.get("PUSHRELAY_MATRIX_TOOLS")
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        tried = list(pool.map(lambda case: _one(site, binary, case, paths[case.name], kept), cases))
    wrong = [problem for _, problem in tried if problem]
    FIGURES.append(f"{len(cases)} cases, the slowest {max(took for took, _ in tried):.1f} s")
    expect(not wrong, f"{len(wrong)} of {len(cases)} cases:\n" + "\n".join(wrong))


def _one(site, binary, case, path, kept):
    """One case; its seconds and a line about what is wrong, or None."""
    options = [str(option).format(**_roots(site)) for option in case.options]
    command = [binary, "probe", "--json", *path.arguments(), "--roots", site.world.root, *options,
               case.target]
    began = time.monotonic()
    try:
        done = path.host.run(command, check=False, env={**path.env, **case.env})
        took = time.monotonic() - began
        report = json.loads(done.stdout)
    except (Failure, ValueError) as failure:
        return WORST, f"  {case.name}: {failure}"
    if kept:
        folder = pathlib.Path(kept) / case.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "probe.json").write_text(done.stdout)
        tools.compare(site, case, path, options, folder)
    return took, judge(case, report["verdict"], done.returncode, took)


def _roots(site):
    """Roots that a case's options may name."""
    roots = {name: site.leaves.authority(name).root for name in ("known", "squid", "corp")}
    mitm = site.gate.directory / "mitmproxy" / "mitmproxy-ca-cert.pem"
    return {**roots, "mitm": mitm}


def judge(case, verdict, exit_code, took):
    """What differs from what the case wants."""
    limit = HEALTHY if case.severity == "ok" else WORST
    wanted = (case.code, case.hop, case.severity, case.exit_code)
    got = (verdict["code"], verdict["hop"], verdict["severity"], exit_code)
    problems = []
    if wanted != got:
        problems.append(f"wanted {wanted}, got {got}: {verdict['sentence']}")
    if took > limit:
        problems.append(f"took {took:.1f} s, at most {limit} s")
    return f"  {case.name}: {'; '.join(problems)}" if problems else None
