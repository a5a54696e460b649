"""The placements of the relay, as builders that the scenarios share."""

import dataclasses

from kit import senders
from kit.peers import PROXY_HOST, Dnsmasq, Origin, Squid
from kit.pki import APNS_HOST, World
from kit.relay import Relay, direct, listener, proxies, route

USER, PASSWORD = "svc-push", "s3cret"
PROXY_URL = f"http://{PROXY_HOST}:3128"
INSIDE, OUTSIDE = "10.77.1", "10.77.2"


@dataclasses.dataclass
class Site:
    """Everything of one placement."""

    world: World
    machines: dict
    relay: Relay
    origin: Origin = None
    squid: Squid = None
    roots: object = None

    @property
    def sender(self):
        """The machine that sends."""
        return self.machines["sender"]


def basic():
    """Basic credentials in relay.yaml, the password in a file."""
    return {"basic": {"username": USER, "password": {"file": "proxy.pw"}}}


def pre(lab, origin=Origin, options=(), squid=None, credentials=None, password=None, env=None,
        relay_more=None, listeners=None, routes=None, url=PROXY_URL, binary=None, start=True,
        egress_more=None, proxy_roots=None):
    """sender -> relay -> Squid CONNECT -> origin; the relay has no other way out.

    `squid` prepares the proxy (default: Basic); `origin` is built with (machine, world, *options).
    """
    world = World(lab)
    machines = lab.corporate()
    sender, middle, proxy = machines["sender"], machines["pre"], machines["proxy"]
    sender.hosts({APNS_HOST: middle.address})
    corporate_names(middle, {proxy: PROXY_HOST})
    proxy.hosts({APNS_HOST: machines["origin"].address})
    gate = Squid(proxy)
    if squid:
        squid(gate, world)
    else:
        gate.basic(USER, PASSWORD)
        credentials = credentials or basic()
    gate.start()
    far = origin(machines["origin"], world, *options) if origin else None
    relay = Relay(middle, proxies(url, roots=world.root, credentials=credentials,
                                  proxy_roots=proxy_roots and proxy_roots(world),
                                  **(egress_more or {})),
                  listeners=listeners, routes=routes, env=env, binary=binary, placement="pre",
                  **(relay_more or {}))
    relay.secret("proxy.pw", (password or PASSWORD) + "\n")
    site = Site(world, machines, relay, far, gate, relay.root)
    return up(site) if start else site


def corporate_names(machine, names):
    """A company's name server: it knows the proxies, it does not know the world."""
    first = next(iter(names))
    Dnsmasq(first, {name: proxy.address for proxy, name in names.items()})
    machine.resolver(first.address)


def up(site):
    """Certificates and start of the site's relay."""
    site.relay.up()
    return site


def flat(lab, options=(), listeners=None, routes=None, origin=Origin, relay_more=None,
         egress_more=None):
    """sender -> relay -> origin without a proxy; the name is answered by a DNS server only."""
    world = World(lab)
    machines = lab.corporate(inside=("sender", "pre"), outside=("pre", "origin"))
    middle, far = machines["pre"], machines["origin"]
    machines["sender"].hosts({APNS_HOST: middle.address})
    middle.resolver(far.address)
    Dnsmasq(far, {APNS_HOST: far.address})
    peer = origin(far, world, *options) if origin else None
    relay = Relay(middle, direct(world.root, **(egress_more or {})), listeners=listeners,
                  routes=routes, **(relay_more or {})).up()
    return Site(world, machines, relay, peer, roots=relay.root)


def post(lab, options=()):
    """sender -> Squid that inspects (HTTP/1.1) -> relay in the DMZ -> origin."""
    world = World(lab)
    machines = lab.corporate(inside=("sender", "proxy"), outside=("proxy", "post", "origin"))
    middle, proxy, far = machines["post"], machines["proxy"], machines["origin"]
    machines["sender"].hosts({PROXY_HOST: proxy.address})
    proxy.hosts({APNS_HOST: middle.address})
    middle.resolver(far.address)
    Dnsmasq(far, {APNS_HOST: far.address})
    origin = Origin(far, world, *options)
    relay = Relay(middle, direct(world.root), placement="post",
                  listeners=[listener(networks=[f"{OUTSIDE}.30/32"])]).up()
    inspection = world.inspection()
    squid = Squid(proxy).inspect(inspection, relay.root).start()
    return Site(world, machines, relay, origin, squid, inspection.root)


def via_proxy(site, job):
    """curl with its proxy option, as HTTPS_PROXY would set it."""
    return senders.curl(site.sender, job, site.world, "http1.1", f'proxy = "{PROXY_URL}"',
                        parallel=10)


SENDERS = {
    "curl_http1_1": lambda site, job: senders.curl(site.sender, job, site.world, "http1.1"),
    "curl_http1_0": lambda site, job: senders.curl(site.sender, job, site.world, "http1.0"),
    "curl_http2": lambda site, job: senders.curl(
        site.sender, job, site.world, "http2", parallel=100),
    "nghttp": lambda site, job: senders.nghttp(site.sender, job, site.world),
    "aioapns": lambda site, job: senders.aioapns(site.sender, job),
    "node_apn": lambda site, job: senders.node_apn(site.sender, job),
    "apns2": lambda site, job: senders.go(site.sender, job, "apns2"),
    "go_direct": lambda site, job: senders.go(site.sender, job, "direct"),
    "pushy": lambda site, job: senders.pushy(site.sender, job),
}

__all__ = ["APNS_HOST", "PROXY_HOST", "PROXY_URL", "SENDERS", "Site", "basic", "corporate_names",
           "flat", "listener", "post", "pre", "route", "up", "via_proxy"]
