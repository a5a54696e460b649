"""The README's comparison, held against the cases: it cannot rot unseen."""

import collections
import re

from kit.lab import expect
from kit.relay import ROOT

JUDGEMENTS = ("names", "misleads", "silent")
HEADING = "### How it compares with curl and openssl"


def hold(cases):
    """Every row is a case as it is, in order; the totals are the rows'."""
    section = (ROOT / "README.md").read_text().split(HEADING)[1].split("\n## ")[0]
    faults = [case for case in cases if case.severity != "ok"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()
            if re.match(r"\| `[a-z0-9-]+` \| .* at `", line)]
    wanted = [(f"`{case.name}`", case.broken, f"`{case.code}` at `{case.hop}`") for case in faults]
    for want, row in zip(wanted, rows):
        expect(want == tuple(row[:3]), f"README has {row[:3]}, the case is {want}")
    expect(len(rows) == len(wanted), f"README has {len(rows)} rows, there are {len(wanted)} faults")
    expect(f"of {len(faults)} faults" in section, f"README does not say {len(faults)} faults")
    for column, name in ((3, "`curl -v --http2`"), (4, "`openssl s_client`")):
        counted = collections.Counter(row[column].split(":")[0] for row in rows)
        expect(set(counted) <= set(JUDGEMENTS), f"{name}: {counted}")
        total = f"| {name} | " + " | ".join(str(counted[word]) for word in JUDGEMENTS) + " |"
        expect(total in section, f"README's totals are not: {total}")
    for case in cases:
        expect(f"`{case.name}`" in section, f"README does not name {case.name}")
