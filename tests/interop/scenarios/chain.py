"""Two relays in a chain, with an inspecting HTTP/1.1 proxy between them, and signed requests."""

import json
import time

from kit import senders
from kit.lab import expect, read_lines, wait_until
from kit.ledger import Job, compare
from kit.peers import PEERS, PROXY_HOST, Dnsmasq, Mitmproxy, Origin, Squid
from kit.pki import APNS_HOST, World
from kit.registry import scenario, several
from kit.relay import Relay, direct, listener, proxies, route

from .placements import OUTSIDE, PROXY_URL, Site, corporate_names

SHARED = "6b" * 32


def _chain(lab, between):
    """sender -> pre -> the proxy that `between` starts -> post -> origin."""
    world = World(lab)
    machines = lab.corporate(outside=("proxy", "post", "origin"))
    first, proxy, second, far = (machines[name] for name in ("pre", "proxy", "post", "origin"))
    machines["sender"].hosts({APNS_HOST: first.address})
    corporate_names(first, {proxy: PROXY_HOST})
    proxy.hosts({APNS_HOST: second.address})
    second.resolver(far.address)
    Dnsmasq(far, {APNS_HOST: far.address})
    origin = Origin(far, world)
    behind = Relay(second, direct(world.root), name="post", placement="post",
                   listeners=[listener(networks=[f"{OUTSIDE}.0/24"],
                                       signatures={"keys": ["certs/chain.key"]})]).certificates()
    peer, inspection = between(proxy, world, behind)
    ahead = Relay(first, proxies(PROXY_URL, roots=inspection), name="pre", placement="pre",
                  routes=[route(next_hop={"relay": {"sign_with": "certs/chain.key"}})]
                  ).certificates()
    for relay in (behind, ahead):
        relay.secret("certs/chain.key", SHARED + "\n")
        relay.start()
    site = Site(world, machines, ahead, origin, peer, ahead.root)
    site.post = behind
    return site


def _squid(proxy, world, behind):
    inspection = world.inspection()
    return Squid(proxy).inspect(inspection, behind.root).start(), inspection.root


def _mitmproxy(mode):
    def start(proxy, world, behind):
        mitm = Mitmproxy(proxy, behind.root, "-s", PEERS / "tamper.py", env={
            "TAMPER": mode, "TAMPER_LEDGER": str(proxy.directory / "seen.jsonl")})
        mitm.ledger = proxy.directory / "seen.jsonl"
        return mitm, mitm.root
    return start


@several({
    "node_apn": lambda site, job: senders.node_apn(site.sender, job),
    "aioapns": lambda site, job: senders.aioapns(site.sender, job),
    "curl": lambda site, job: senders.curl(site.sender, job, site.world, "http1.1", parallel=10),
}, "ci")
def chain(lab, send):
    """pre -> Squid that inspects (HTTP/1.1) -> post, signed: every push once, answered exactly."""
    site = _chain(lab, _squid)
    job = Job(site.world, roots=site.roots)
    compare(job, send(site, job), site.origin.entries())


@scenario("ci")
def chain_tampered(lab):
    """A body changed between the relays is refused; nothing reaches the origin."""
    site = _chain(lab, _mitmproxy("body"))
    job = Job(site.world, count=4, roots=site.roots)
    answers = senders.curl(site.sender, job, site.world, "http1.1", parallel=4)
    expect(len(answers) == 4 and all(answer.get("status", 0) >= 400 for answer in answers),
           f"a tampered push was answered {answers[:1]}")
    expect(len(read_lines(site.squid.ledger)) >= 4, "nothing passed the tampering proxy")
    expect(not site.origin.requests(), "a tampered push reached the origin")


@scenario("ci")
def chain_stranger(lab):
    """Requests without a signature, with a repeated one, with an invented one: all refused."""
    site = _chain(lab, _mitmproxy("record"))
    job = Job(site.world, count=1, roots=site.roots)
    answers = senders.curl(site.sender, job, site.world, "http1.1")
    compare(job, answers, site.origin.entries())
    seen = wait_until(lambda: read_lines(site.squid.ledger), "the recorded request")[0]
    expect("signature" in seen["headers"] and "signature-input" in seen["headers"],
           f"nothing was signed: {sorted(seen['headers'])}")
    unsigned = {name: value for name, value in seen["headers"].items()
                if not name.startswith("signature")}
    invented = {**seen["headers"], "signature": "sig1=:" + "A" * 43 + "=:"}
    for what, headers in (("repeated", seen["headers"]), ("unsigned", unsigned),
                          ("invented", invented)):
        _refused(site, what, seen, headers)
    expect(len(site.origin.requests()) == 1, "a stranger's push reached the origin")


@scenario("nightly")
def chain_old_signature(lab):
    """A signature held back for longer than its 120 s is refused."""
    site = _chain(lab, _mitmproxy("hold"))
    job = Job(site.world, count=1, roots=site.roots)
    senders.curl(site.sender, job, site.world, "http1.1")
    seen = wait_until(lambda: read_lines(site.squid.ledger), "the recorded request")[0]
    expect(not site.origin.requests(), "the held request was not held")
    time.sleep(125)
    _refused(site, "old", seen, seen["headers"])
    expect(not site.origin.requests(), "an old signature reached the origin")


def _refused(site, what, seen, headers):
    arguments = []
    for name, value in headers.items():
        if name not in ("host", "content-length", "connection"):
            arguments += ["-H", f"{name}: {value}"]
    body = site.machines["proxy"].directory / "replayed"
    body.write_text(seen["body"])
    done = site.machines["proxy"].run(
        ["curl", "-qsS", "--http1.1", "--max-time", "10", "--cacert", site.post.root, *arguments,
         "--data-binary", f"@{body}", "-w", "\n%{http_code}", f"https://{APNS_HOST}{seen['path']}"],
        check=False)
    answer, _, code = done.stdout.rpartition("\n")
    expect(code.isdigit() and int(code) >= 400, f"{what}: {code} {answer} {done.stderr}")
    expect(json.loads(answer).get("reason"), f"{what}: {answer}")
