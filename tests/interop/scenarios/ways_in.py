"""Every way in: beside the sender, CONNECT, passthrough, loops, what is outside the routes."""

import json

from kit import install, senders
from kit.lab import expect
from kit.ledger import Job, compare, refused_by_relay
from kit.peers import PEERS, PROXY_HOST, Dnsmasq, Origin, Squid
from kit.pki import APNS_HOST, World
from kit.registry import scenario, several
from kit.relay import Relay, direct, proxies

from . import placements
from .placements import PASSWORD, PROXY_URL, USER, Site, basic, corporate_names, listener, route

QUICK = [route(deadline="3s")]
# A sender on the relay's own machine comes from loopback where its hosts entry says so.
BESIDE = listener(networks=("10.77.0.0/16", "127.0.0.0/8"))


def _send(site, job):
    return senders.curl(site.sender, job, site.world, "http2", parallel=20)


def _delivers(site):
    job = Job(site.world, roots=site.roots)
    compare(job, _send(site, job), site.origin.entries())


@several({"hosts_loopback": "127.0.0.1", "hosts_address": "10.77.1.10"}, "ci")
def beside_direct(lab, entry):
    """The relay on the sender's machine with the hosts entry, going out directly by DNS."""
    _delivers(_beside(lab, entry))


def _beside(lab, entry, answers=None, routes=None, stub=False):
    """Sender and relay on one machine; `answers` is what DNS says of the origin's name."""
    world = World(lab)
    network = lab.network("in", "10.77.1")
    host, far = lab.machine("sender", (network, 10)), lab.machine("origin", (network, 50))
    host.hosts({APNS_HOST: entry})
    if stub:
        # A stub on loopback that reads the hosts file, as dnsmasq does by default.
        Dnsmasq(host, {}, hosts=True)
        host.resolver("127.0.0.1")
    else:
        Dnsmasq(far, {APNS_HOST: answers or far.address})
        host.resolver(far.address)
    origin = Origin(far, world)
    relay = Relay(host, direct(world.root), routes=routes, listeners=[BESIDE]).up()
    return Site(world, {"sender": host, "origin": far}, relay, origin, roots=relay.root)


@scenario("ci")
def beside_connect(lab):
    """The relay on the sender's machine with the hosts entry, going out through CONNECT."""
    world = World(lab)
    machines = lab.corporate(inside=("sender", "proxy"), outside=("proxy", "origin"))
    host, proxy = machines["sender"], machines["proxy"]
    host.hosts({APNS_HOST: "127.0.0.1"})
    corporate_names(host, {proxy: PROXY_HOST})
    proxy.hosts({APNS_HOST: machines["origin"].address})
    squid = Squid(proxy).basic(USER, PASSWORD).start()
    origin = Origin(machines["origin"], world)
    relay = Relay(host, proxies(PROXY_URL, roots=world.root, credentials=basic()),
                  listeners=[BESIDE])
    relay.secret("proxy.pw", PASSWORD)
    _delivers(Site(world, machines, relay.up(), origin, squid, relay.root))


def _loops(site, *words):
    job = Job(site.world, count=4, roots=site.roots)
    answers = senders.curl(site.sender, job, site.world, "http1.1", parallel=4)
    refused_by_relay(answers, 503, "ServiceUnavailable")
    text = {answer["headers"].get("proxy-status", "") for answer in answers}
    expect(all(any(word in line for word in words) for line in text),
           f"Proxy-Status {text} names none of {words}")
    expect(not site.origin or not site.origin.connections(), "the origin was reached")
    return answers


@several({"address": "10.77.1.10", "loopback": "127.0.0.1"}, "ci")
def loop_by_zone(lab, answer):
    """A DNS zone that answers with the relay's own address: one hop, exact reason."""
    _loops(_beside(lab, "127.0.0.1", answers=answer, routes=QUICK), "resolver", "relay-host")


@scenario("ci")
def loop_by_stub(lab):
    """A stub resolver that answers from the hosts file: one hop, exact reason."""
    _loops(_beside(lab, "10.77.1.10", routes=QUICK, stub=True), "resolver", "relay-host")


@scenario("ci")
def loop_by_proxy(lab):
    """A proxy that sends our CONNECT back to us: one hop, exact reason."""
    site = placements.pre(lab, routes=QUICK, start=False)
    site.machines["proxy"].hosts({APNS_HOST: site.machines["pre"].address})
    site.squid.restart()
    site.relay.certificates()
    # Even a relay that trusts its own root must not talk to itself.
    site.relay.config["egress"]["out"]["roots"].append("certs/root.pem")
    site.relay.write()
    site.relay.start()
    _loops(site, "loop")
    tunnels = [line for line in site.squid.log() if "CONNECT" in line and "/407" not in line]
    expect(len(tunnels) <= 3, f"{len(tunnels)} tunnels for one loop")


@scenario("ci")
def loop_of_two(lab):
    """Two relays that point at each other: one hop each way at most, exact reason."""
    world = World(lab)
    network = lab.network("in", "10.77.1")
    sender = lab.machine("sender", (network, 10))
    first, second = lab.machine("pre", (network, 20)), lab.machine("post", (network, 40))
    names = lab.machine("resolver", (network, 70))
    Dnsmasq(names, {APNS_HOST: second.address})
    first.resolver(names.address)
    second.hosts({})
    Dnsmasq(second, {APNS_HOST: first.address})
    second.resolver(second.address)
    sender.hosts({APNS_HOST: first.address})
    relays = [Relay(first, direct(world.root), routes=QUICK),
              Relay(second, direct(world.root), routes=QUICK)]
    for relay in relays:
        relay.certificates()
    for relay, other in zip(relays, reversed(relays)):
        relay.config["egress"]["out"]["roots"].append(str(other.root))
        relay.write()
        relay.start()
    site = Site(world, {"sender": sender}, relays[0], None, roots=relays[0].root)
    job = Job(world, count=2, roots=site.roots)
    answers = senders.curl(sender, job, world, "http1.1")
    expect(all(answer.get("status") in (503, 409) for answer in answers), f"{answers[:1]}")


def _explicit(lab, more=None, options=()):
    """A relay whose CONNECT listener is the sender's HTTPS_PROXY."""
    site = placements.pre(
        lab, options=options,
        listeners=[listener(accept=("tls", "connect"), bind=("0.0.0.0:3128",), **(more or {}))])
    site.sender.hosts({"relay.corp.example": site.machines["pre"].address})
    return site


RELAY_URL = "http://relay.corp.example:3128"


@several({
    "go": lambda site, job: senders.go(site.sender, job, "proxied", proxy_url=RELAY_URL),
    "curl_http1_1": lambda site, job: senders.curl(
        site.sender, job, site.world, "http1.1", f'proxy = "{RELAY_URL}"'),
    "curl_http2": lambda site, job: senders.curl(
        site.sender, job, site.world, "http2", f'proxy = "{RELAY_URL}"', parallel=20),
    "node_apn": lambda site, job: senders.node_apn(
        site.sender, job, proxy={"host": "relay.corp.example", "port": 3128}),
}, "ci")
def connect_listener(lab, send):
    """The relay as the sender's HTTPS_PROXY, without a hosts entry."""
    site = _explicit(lab)
    job = Job(site.world, roots=site.roots)
    compare(job, send(site, job), site.origin.entries())


@scenario("ci")
def connect_credentials(lab):
    """A CONNECT listener that asks for Basic: without it 407, with it the push goes through."""
    world_more = {"connect_credentials": {"basic": {"username": "mpns",
                                                    "password": {"env": "MPNS_PW"}}}}
    site = placements.pre(
        lab, env={"MPNS_PW": "letmein"},
        listeners=[listener(accept=("tls", "connect"), bind=("0.0.0.0:3128",), **world_more)])
    site.sender.hosts({"relay.corp.example": site.machines["pre"].address})
    job = Job(site.world, count=2, roots=site.roots)
    answers = senders.curl(site.sender, job, site.world, "http1.1", f'proxy = "{RELAY_URL}"')
    expect(all("407" in answer.get("error", "") for answer in answers), f"{answers}")
    job = Job(site.world, count=5, roots=site.roots)
    answers = senders.go(site.sender, job, "proxied",
                         proxy_url="http://mpns:letmein@relay.corp.example:3128")
    compare(job, answers, site.origin.entries())


@scenario("ci")
def passthrough_certificate(lab):
    """APNs certificate authentication survives: passthrough over Squid CONNECT, no CA involved."""
    world = World(lab)
    machines = lab.corporate()
    middle, proxy = machines["pre"], machines["proxy"]
    machines["sender"].hosts({APNS_HOST: middle.address})
    corporate_names(middle, {proxy: PROXY_HOST})
    proxy.hosts({APNS_HOST: machines["origin"].address})
    squid = Squid(proxy).basic(USER, PASSWORD).start()
    origin = Origin(machines["origin"], world, "--client-roots", world.root,
                    "--first-streams", "1000")
    relay = Relay(middle, proxies(PROXY_URL, roots=world.root, credentials=basic()),
                  routes=[route(tls="passthrough")])
    del relay.config["issuer"]
    relay.write()
    relay.secret("proxy.pw", PASSWORD)
    relay.start()
    chain, key = world.authority.leaf("com.example.chat", client=True)
    site = Site(world, machines, relay, origin, squid, world.root)
    job = Job(world)
    answers = senders.go(site.sender, job, "direct", chain=chain, key=key)
    compare(job, answers, origin.entries())
    clients = {entry["client"] for entry in origin.entries() if entry["event"] == "connection"}
    expect(clients == {"com.example.chat"}, f"the origin saw the clients {clients}")
    before = origin.connections()
    done = site.sender.run(["openssl", "s_client", "-connect", f"{APNS_HOST}:443", "-noservername"],
                           check=False, stdin="")
    expect("BEGIN CERTIFICATE" not in done.stdout, "passthrough without SNI was let through")
    expect(origin.connections() == before, "passthrough without SNI reached the origin")


@scenario("ci")
def outside_the_routes(lab):
    """200 combinations of host, path, method, form, SNI and target: 0 reach anything."""
    site = placements.pre(
        lab, listeners=[listener(accept=("tls", "connect", "plain"))])
    done = site.sender.run([install.PYTHON, PEERS / "stranger.py", site.machines["pre"].address,
                            "443", site.roots], 120)
    tries = [json.loads(line) for line in done.stdout.splitlines()]
    expect(len(tries) >= 200, f"only {len(tries)} combinations were tried")
    passed = [one for one in tries if one["status"] and 200 <= one["status"] < 300]
    expect(not passed, f"{len(passed)} of {len(tries)} were answered 2xx: {passed[:3]}")
    expect(site.relay.process.alive(), f"the relay ended:\n{site.relay.process.tail()}")
    expect(site.relay.stop() == 0, "the relay did not end well")
    # Squid logs a tunnel when it has ended, at the latest with the relay.
    expect(not site.squid.log(), f"the proxy was asked: {site.squid.log()[:3]}")
    expect(not site.origin.connections(), "the origin was reached")
    site.relay.start()
    job = Job(site.world, count=5, roots=site.roots)
    compare(job, _send(site, job), site.origin.entries())
