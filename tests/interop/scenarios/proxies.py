"""Every way out: proxy authentication, TLS to the proxy, failover, other products, restarts."""

import shutil
import signal
import threading

from kit import senders
from kit.lab import expect, read_lines, wait_until
from kit.ledger import COUNT, Job, compare, compare_after_faults, refused_by_relay
from kit.peers import PROXY_HOST, Dnsmasq, Kdc, Mitmproxy, Origin, Squid, Tinyproxy
from kit.pki import APNS_HOST, World
from kit.registry import scenario
from kit.relay import Relay, build, proxies

from . import placements
from .placements import PASSWORD, PROXY_URL, USER, Site, basic, corporate_names, route

QUICK = [route(deadline="3s")]


def _delivers(site):
    job = Job(site.world, roots=site.roots)
    answers = senders.curl(site.sender, job, site.world, "http2", parallel=20)
    compare(job, answers, site.origin.entries())


def _refused(site, hop="proxy"):
    """Six pushes, in three rounds: each is `not_sent`, and the hop is named."""
    for _ in range(3):
        job = Job(site.world, count=2, roots=site.roots)
        answers = senders.curl(site.sender, job, site.world, "http1.1", parallel=2)
        refused_by_relay(answers, 503, "ServiceUnavailable", hop)
    expect(not site.origin.connections(), "the origin was reached")


@scenario("ci")
def basic_wrong(lab):
    """A wrong Basic password: not sent, the proxy named, asked twice at most."""
    site = placements.pre(lab, password="wrong", routes=QUICK)
    _refused(site)
    tries = [line for line in site.squid.log() if "/407" in line]
    expect(1 <= len(tries) <= 2, f"the wrong password was tried {len(tries)} times")


def _ntlm(lab, password):
    def squid(gate, world):
        gate.ntlm(USER, PASSWORD)
    return placements.pre(
        lab, squid=squid, password=password, routes=QUICK,
        credentials={"ntlm": {"username": USER, "domain": "CORP",
                              "password": {"file": "proxy.pw"}}})


@scenario("ci")
def ntlm_right(lab):
    """NTLM, verified by pyspnego behind Squid's helper protocol."""
    site = _ntlm(lab, PASSWORD)
    _delivers(site)
    legs = read_lines(site.squid.ntlm_ledger)
    expect(any(leg["leg"] == "authenticate" and leg["complete"] for leg in legs),
           f"pyspnego completed no handshake: {legs}")


@scenario("ci")
def ntlm_wrong(lab):
    """A wrong NTLM password: not sent, two failures at most reach the directory."""
    site = _ntlm(lab, "wrong")
    _refused(site)
    failures = [leg for leg in read_lines(site.squid.ntlm_ledger) if leg["leg"] == "refused"]
    expect(1 <= len(failures) <= 2, f"the wrong password was tried {len(failures)} times")


def _negotiate(lab, principal_known):
    world = World(lab)
    machines = lab.corporate()
    middle, proxy = machines["pre"], machines["proxy"]
    machines["sender"].hosts({APNS_HOST: middle.address})
    corporate_names(middle, {proxy: PROXY_HOST})
    proxy.hosts({APNS_HOST: machines["origin"].address})
    kdc = Kdc(proxy)
    keytab = kdc.keytab(USER, middle.directory / "svc.keytab")
    if not principal_known:
        # The account's key has changed since: what the relay holds is an old one.
        kdc.keytab(USER, proxy.directory / "newer.keytab")
    squid = Squid(proxy).negotiate(kdc).start()
    origin = Origin(machines["origin"], world)
    relay = Relay(
        middle, proxies(PROXY_URL, roots=world.root,
                        credentials={"negotiate": {"spn": f"HTTP@{PROXY_HOST}"}}),
        routes=QUICK, binary=build("negotiate"),
        env={**kdc.env, "KRB5_CLIENT_KTNAME": str(keytab),
             "KRB5CCNAME": f"MEMORY:relay-{lab.serial}"}).up()
    site = Site(world, machines, relay, origin, squid, relay.root)
    site.kdc = kdc
    return site


@scenario("ci")
def negotiate_right(lab):
    """Negotiate against a real KDC, by keytab."""
    site = _negotiate(lab, True)
    _delivers(site)
    # Squid logs a tunnel when it has ended.
    site.relay.stop()
    log = wait_until(site.squid.log, "Squid's log")
    expect(any(USER in line for line in log), f"Squid saw no principal: {log[:2]}")


@scenario("ci")
def negotiate_wrong(lab):
    """Negotiate with an outdated keytab: not sent, the KDC is asked twice at most."""
    site = _negotiate(lab, False)
    _refused(site, hop="error=proxy_configuration_error")
    expect(site.relay.says("Kerberos gives no token for HTTP@proxy.corp.example"),
           "the log does not say what Kerberos said")
    refused = [line for line in site.kdc.log() if "PREAUTH_FAILED" in line and USER in line]
    expect(1 <= len(refused) <= 2, f"the KDC refused the account {len(refused)} times")
    # The new keytab is a new credential, after a reload.
    held = site.machines["pre"].directory / "svc.keytab"
    shutil.copy(site.machines["proxy"].directory / "newer.keytab", held)
    site.relay.process.signal(signal.SIGHUP)
    wait_until(lambda: site.relay.says("reload"), "the reload")
    _delivers(site)


@scenario("ci")
def tls_to_proxy(lab):
    """The proxy itself speaks TLS; its certificate has roots of its own."""
    def squid(gate, world):
        gate.tls(*world.authority.leaf("proxy", [PROXY_HOST])).basic(USER, PASSWORD)
    site = placements.pre(lab, squid=squid, url=f"https://{PROXY_HOST}:3129",
                          credentials=basic(), proxy_roots=lambda world: world.root)
    _delivers(site)


def _in_background(work):
    result = []

    def body():
        try:
            result.append(work())
        except Exception as error:  # re-raised by whoever joins
            result.append(error)
    thread = threading.Thread(target=body, daemon=True)
    thread.start()

    def join():
        thread.join(90)
        expect(not thread.is_alive() and result, "the sender did not end")
        if isinstance(result[0], Exception):
            raise result[0]
        return result[0]
    return join


STEADY = 4


def _steady(site, count):
    """A Go sender with a few pushes at a time, against an origin that takes 20 ms for each."""
    job = Job(site.world, count=count, roots=site.roots)
    job.fields["concurrency"] = STEADY
    return job, _in_background(lambda: senders.go(site.sender, job, "direct"))


@scenario("ci")
def first_proxy_killed(lab):
    """The first of two proxies is killed under load: nothing lost, nothing twice, back again."""
    world = World(lab)
    machines = lab.corporate(inside=("sender", "pre", "proxy", "proxyb"),
                             outside=("proxy", "proxyb", "origin"))
    middle = machines["pre"]
    machines["sender"].hosts({APNS_HOST: middle.address})
    corporate_names(middle, {machines["proxy"]: "proxy-a.corp.example",
                             machines["proxyb"]: "proxy-b.corp.example"})
    squids = []
    for name in ("proxy", "proxyb"):
        machines[name].hosts({APNS_HOST: machines["origin"].address})
        squids.append(Squid(machines[name]).basic(USER, PASSWORD).start())
    origin = Origin(machines["origin"], world, "--delay", "0.02")
    relay = Relay(middle, proxies("http://proxy-a.corp.example:3128",
                                  "http://proxy-b.corp.example:3128", roots=world.root,
                                  credentials=basic()))
    relay.secret("proxy.pw", PASSWORD)
    site = Site(world, machines, relay.up(), origin, squids[0], relay.root)
    job, join = _steady(site, max(COUNT, 200))
    wait_until(lambda: len(origin.requests()) > 40, "the first pushes")
    squids[0].process.kill()
    compare_after_faults(job, join(), origin.entries(), STEADY)
    expect(squids[1].log() or squids[1].process.alive(), "the second proxy was not used")
    addresses = {entry["peer"] for entry in origin.entries() if entry["event"] == "connection"}
    expect(len(addresses) == 2, f"the origin saw only {addresses}")
    squids[0].start()
    squids[1].process.kill()
    again = Job(world, count=20, roots=relay.root)
    entries = senders.go(site.sender, again, "direct")
    wrong = [entry for entry in entries if entry.get("status") not in (200, 400, 410, 413, 409)]
    expect(not wrong, f"after its return the first proxy was not used: {wrong[:1]}")


@scenario("ci")
def proxy_restarted(lab):
    """Squid is restarted under load: nothing lost, nothing twice."""
    site = placements.pre(lab, options=("--delay", "0.02"))
    job, join = _steady(site, max(COUNT, 200))
    wait_until(lambda: len(site.origin.requests()) > 40, "the first pushes")
    site.squid.restart()
    compare_after_faults(job, join(), site.origin.entries(), STEADY)


@scenario("ci")
def never_a_bypass(lab):
    """With every proxy down the answer is not_sent; nothing goes out directly."""
    site = placements.pre(lab, routes=QUICK, start=False)
    # A way past the proxy exists: the origin is on the same network, and its name is known.
    far = site.machines["origin"].plug(site.sender.networks[0], 50)
    Dnsmasq(far, {APNS_HOST: far.addresses[1], PROXY_HOST: site.machines["proxy"].address})
    site.machines["pre"].resolver(far.addresses[1])
    placements.up(site)
    site.squid.process.kill()
    job = Job(site.world, count=4, roots=site.roots)
    answers = senders.curl(site.sender, job, site.world, "http1.1", parallel=4)
    refused_by_relay(answers, 503, "ServiceUnavailable", "proxy")
    expect(not site.origin.connections(), "the origin was reached past the proxy")


@scenario("ci")
def tinyproxy(lab):
    """tinyproxy with Basic in Squid's place."""
    world = World(lab)
    machines = lab.corporate()
    _names(machines)
    Tinyproxy(machines["proxy"], USER, PASSWORD)
    origin = Origin(machines["origin"], world)
    relay = Relay(machines["pre"], proxies(PROXY_URL, roots=world.root, credentials=basic()))
    relay.secret("proxy.pw", PASSWORD)
    _delivers(Site(world, machines, relay.up(), origin, None, relay.root))


@scenario("ci")
def mitmproxy(lab):
    """mitmproxy ends TLS with HTTP/2 on both sides; the egress trusts its root."""
    world = World(lab)
    machines = lab.corporate()
    _names(machines)
    mitm = Mitmproxy(machines["proxy"], world.root)
    origin = Origin(machines["origin"], world)
    relay = Relay(machines["pre"], proxies(PROXY_URL, roots=mitm.root)).up()
    _delivers(Site(world, machines, relay, origin, None, relay.root))


def _names(machines):
    machines["sender"].hosts({APNS_HOST: machines["pre"].address})
    corporate_names(machines["pre"], {machines["proxy"]: PROXY_HOST})
    machines["proxy"].hosts({APNS_HOST: machines["origin"].address})


@scenario("ci")
def inspected_egress(lab):
    """Squid inspects where h2 is needed: refused, and the answer names who inspects."""
    def squid(gate, world):
        gate.inspect(world.inspection(), world.root)
    site = placements.pre(
        lab, squid=squid, routes=QUICK, start=False)
    site.relay.config["egress"]["out"]["roots"].append(
        str(site.world.directory / "inspection-root.pem"))
    site.relay.write()
    placements.up(site)
    job = Job(site.world, count=2, roots=site.roots)
    answers = senders.curl(site.sender, job, site.world, "http1.1", parallel=2)
    refused_by_relay(answers, 503, "ServiceUnavailable", "inspection-root")
    expect(not site.origin.requests(), "a request reached the origin")
