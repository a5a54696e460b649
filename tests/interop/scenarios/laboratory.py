"""The laboratory itself, without a relay: each peer works, so a later failure is the relay's."""

from kit import senders
from kit.lab import expect, read_lines
from kit.ledger import Job, compare
from kit.peers import (PEERS, PROXY_HOST, Dnsmasq, Kdc, Mitmproxy, Origin, PushyOrigin, Squid,
                       Tinyproxy)
from kit.pki import APNS_HOST, World
from kit.registry import scenario, several

SENDERS = {
    "curl": lambda machine, job, world: senders.curl(machine, job, world, "http2", parallel=20),
    "nghttp": senders.nghttp,
    "aioapns": lambda machine, job, world: senders.aioapns(machine, job),
    "node_apn": lambda machine, job, world: senders.node_apn(machine, job),
    "apns2": lambda machine, job, world: senders.go(machine, job, "apns2"),
    "go_direct": lambda machine, job, world: senders.go(machine, job, "direct"),
    "pushy": lambda machine, job, world: senders.pushy(machine, job),
}


def _pair(lab):
    world = World(lab)
    network = lab.network("in", "10.77.1")
    sender = lab.machine("sender", (network, 10))
    origin = lab.machine("origin", (network, 50))
    sender.hosts({APNS_HOST: origin.address})
    return world, sender, origin


@several(SENDERS, "kit", relay=False)
def kit_sender(lab, send):
    """The sender reaches the origin directly."""
    world, sender, machine = _pair(lab)
    origin = Origin(machine, world, "--without-alpn", "--first-streams", "1000")
    job = Job(world)
    compare(job, send(sender, job, world), origin.entries(), strict=False)


@scenario("kit", relay=False)
def kit_pushy_origin(lab):
    """curl reaches pushy's MockApnsServer."""
    world, sender, machine = _pair(lab)
    job = Job(world)
    origin = PushyOrigin(machine, world, job)
    answers = senders.curl(sender, job, world, "http2", der=True)
    compare(job, answers, origin.entries(), strict=False, fields=False)


def _behind_proxy(lab):
    world = World(lab)
    machines = lab.corporate(inside=("sender", "proxy"), outside=("proxy", "origin"))
    machines["proxy"].hosts({APNS_HOST: "10.77.2.50"})
    machines["sender"].hosts({PROXY_HOST: "10.77.1.30"})
    return world, machines


def _through(lab, machines, world, *options, roots=None, count=10):
    origin = Origin(machines["origin"], world, "--without-alpn")
    job = Job(world, count=count, roots=roots)
    answers = senders.curl(machines["sender"], job, world, "http2", *options)
    compare(job, answers, origin.entries(), strict=False)
    return origin


@scenario("kit", relay=False)
def kit_squid_basic(lab):
    """Squid demands Basic and tunnels."""
    world, machines = _behind_proxy(lab)
    squid = Squid(machines["proxy"]).basic("svc-push", "s3cret").start()
    _through(lab, machines, world, f'proxy = "http://{PROXY_HOST}:3128"',
             'proxy-user = "svc-push:s3cret"', "proxy-basic")
    expect(any("svc-push" in line for line in squid.log()), "Squid logged no user")


@several({
    "go": lambda machine, job, url: senders.go(machine, job, "proxied", proxy_url=url),
    # Not aioapns: its proxy mode hands asyncio's TransportSocket back to asyncio, which fails on
    # CPython 3.11 ('TransportSocket' object has no attribute 'send') whatever the proxy is.
    "node_apn": lambda machine, job, url: senders.node_apn(
        machine, job, proxy={"host": PROXY_HOST, "port": 3128}),
}, "kit", relay=False)
def kit_proxied(lab, send):
    """The sender reaches the origin through a Squid that tunnels."""
    world, machines = _behind_proxy(lab)
    Squid(machines["proxy"]).start()
    origin = Origin(machines["origin"], world, "--without-alpn", "--first-streams", "1000")
    job = Job(world)
    answers = send(machines["sender"], job, f"http://{PROXY_HOST}:3128")
    compare(job, answers, origin.entries(), strict=False)


@scenario("kit", relay=False)
def kit_squid_tls(lab):
    """Squid with TLS to the proxy itself."""
    world, machines = _behind_proxy(lab)
    Squid(machines["proxy"]).tls(*world.authority.leaf("proxy", [PROXY_HOST])).start()
    _through(lab, machines, world, f'proxy = "https://{PROXY_HOST}:3129"',
             f'proxy-cacert = "{world.root}"')


@scenario("kit", relay=False)
def kit_squid_ntlm(lab):
    """Squid demands NTLM, pyspnego verifies: right password passes, wrong one does not."""
    world, machines = _behind_proxy(lab)
    Squid(machines["proxy"]).ntlm("svc-push", "s3cret").start()
    origin = _through(lab, machines, world, f'proxy = "http://{PROXY_HOST}:3128"',
                      'proxy-user = "CORP\\\\svc-push:s3cret"', "proxy-ntlm")
    before = origin.connections()
    job = Job(world, count=1)
    answers = senders.curl(machines["sender"], job, world, "http2",
                           f'proxy = "http://{PROXY_HOST}:3128"',
                           'proxy-user = "CORP\\\\svc-push:wrong"', "proxy-ntlm")
    expect("error" in answers[0], f"a wrong password passed: {answers[0]}")
    expect(origin.connections() == before, "a wrong password reached the origin")


@scenario("kit", relay=False)
def kit_squid_negotiate(lab):
    """Squid demands Negotiate against a real KDC."""
    world, machines = _behind_proxy(lab)
    kdc = Kdc(machines["proxy"])
    keytab = kdc.keytab("svc-push", machines["sender"].directory / "svc.keytab")
    Squid(machines["proxy"]).negotiate(kdc).start()
    machines["sender"].run(["kinit", "-k", "-t", keytab, "-c",
                            machines["sender"].directory / "cache", "svc-push"], env=kdc.env)
    machines["sender"].env = {**kdc.env,
                              "KRB5CCNAME": str(machines["sender"].directory / "cache")}
    _through(lab, machines, world, f'proxy = "http://{PROXY_HOST}:3128"',
             'proxy-user = ":"', "proxy-negotiate")


@scenario("kit", relay=False)
def kit_squid_inspecting(lab):
    """Squid ssl-bump ends TLS and speaks HTTP/1.1 to an origin that has only that."""
    world, machines = _behind_proxy(lab)
    inspection = world.inspection()
    squid = Squid(machines["proxy"]).inspect(inspection, world.root).start()
    origin = Origin(machines["origin"], world, "--alpn", "http/1.1")
    job = Job(world, count=1, roots=inspection.root)
    senders.curl(machines["sender"], job, world, "http2", f'proxy = "http://{PROXY_HOST}:3128"',
                 "max-time = 5")
    first = [entry["first"] for entry in origin.entries() if entry["event"] == "not-h2"]
    expect(first and "POST /3/device/" in first[0],
           f"no HTTP/1.1 request came through: {first} {squid.log()[-3:]}")


@scenario("kit", relay=False)
def kit_tinyproxy(lab):
    """tinyproxy demands Basic and tunnels."""
    world, machines = _behind_proxy(lab)
    Tinyproxy(machines["proxy"], "svc-push", "s3cret")
    _through(lab, machines, world, f'proxy = "http://{PROXY_HOST}:3128"',
             'proxy-user = "svc-push:s3cret"')


@scenario("kit", relay=False)
def kit_mitmproxy(lab):
    """mitmproxy ends TLS with HTTP/2 on both sides."""
    world, machines = _behind_proxy(lab)
    mitm = Mitmproxy(machines["proxy"], world.root)
    _through(lab, machines, world, f'proxy = "http://{PROXY_HOST}:3128"', roots=mitm.root)


@scenario("kit", relay=False)
def kit_dnsmasq(lab):
    """A name server answers the origin's name without a hosts file."""
    world, sender, machine = _pair(lab)
    Dnsmasq(machine, {APNS_HOST: machine.address})
    sender.hosts({}).resolver(machine.address)
    origin = Origin(machine, world)
    job = Job(world, count=3)
    compare(job, senders.curl(sender, job, world, "http2"), origin.entries(), strict=False)


@several({"body": 1, "record": 0}, "kit", relay=False)
def kit_tamper(lab, added):
    """mitmproxy's add-on changes bodies, or writes down what passes."""
    world, machines = _behind_proxy(lab)
    seen = machines["proxy"].directory / "seen.jsonl"
    mitm = Mitmproxy(machines["proxy"], world.root, "-s", PEERS / "tamper.py",
                     env={"TAMPER": "body" if added else "record", "TAMPER_LEDGER": str(seen)})
    origin = Origin(machines["origin"], world)
    job = Job(world, count=2, roots=mitm.root)
    senders.curl(machines["sender"], job, world, "http2",
                 f'proxy = "http://{PROXY_HOST}:3128"')
    sent = {push["token"]: len(push["payload"].encode()) for push in job.pushes}
    grown = [entry["body_length"] - sent[entry["token"]] for entry in origin.requests()]
    expect(grown == [added, added], f"the bodies grew by {grown}")
    expect(len(read_lines(seen)) == 2, "the add-on wrote nothing down")
