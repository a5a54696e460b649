"""A relay is replaced while real senders push."""

import time

from kit import senders
from kit.lab import expect, wait_until
from kit.ledger import FIGURES, Job, compare
from kit.registry import scenario

from . import placements

BURSTS, BURST, PAUSE = 6, 20, 1.0
# Seconds from the first push of a burst: answers take 0.2 s, so that pushes are in flight.
MID_BURST = 0.1


@scenario("ci")
def succession_under_aioapns(lab):
    """aioapns pauses between bursts while the relay is replaced: nothing lost, nothing twice."""
    site = placements.flat(lab, options=("--delay", "0.2"))
    job = Job(site.world, count=BURSTS * BURST, roots=site.roots)
    sender = senders.aioapns_bursts(site.sender, job, BURST, PAUSE)

    def says(words):
        wait_until(lambda: words in sender.output() or not sender.alive(), words)
        expect(sender.alive(), f"the sender ended early:\n{sender.tail()}")
    draining = []
    for burst in range(1, BURSTS - 1):
        # In the middle of one burst, in the pause after the next.
        if burst % 2:
            says(f"burst {burst} begins")
            time.sleep(MID_BURST)
        else:
            says(f"burst {burst} is answered")
        draining.append(site.relay.succeed())
    sender.wait(60)
    codes = [process.wait() for process in draining]
    expect(codes == [0] * len(codes), f"drains were not complete: {codes}")
    answers = senders.parsed(sender.output())
    # At most two connections of each relay's lane.
    compare(job, answers, site.origin.entries(), connections=2 * (1 + len(draining)))
    FIGURES.append(f"{len(draining)} successions, none twice")
