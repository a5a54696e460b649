"""Senders' habits, names of one's own, and the knobs of a way out."""

import json

from kit import senders
from kit.lab import expect
from kit.ledger import Job, compare
from kit.peers import Haproxy, Origin, PushProxy
from kit.pki import APNS_HOST
from kit.registry import scenario, several

from . import placements
from .placements import listener, route

RELAY_URL = "http://relay.corp.example:3128"
HOST_FIELD = f'header = "Host: {APNS_HOST}"'


def _curl(site, job, *options, version="http1.1", **more):
    return senders.curl(site.sender, job, site.world, version, *options, **more)


@several({
    "no_alpn_http1": lambda site, job: _curl(site, job, "no-alpn"),
    "rsa_only": lambda site, job: _curl(
        site, job, 'tls-max = "1.2"', 'ciphers = "ECDHE-RSA-AES128-GCM-SHA256"'),
    "tls12_h2": lambda site, job: _curl(site, job, 'tls-max = "1.2"', version="http2", parallel=9),
    "authority_with_port": lambda site, job: _curl(
        site, job, f'header = "Host: {APNS_HOST}:443"', version="http2"),
    "no_sni": lambda site, job: _curl(
        site, job, "insecure", HOST_FIELD, host=site.machines["pre"].address),
    "other_sni": lambda site, job: _curl(
        site, job, "insecure", HOST_FIELD, host="relay.corp.example"),
    # rpush: inside CONNECT, SNI is the proxy's own name.
    "proxys_sni": lambda site, job: _curl(
        site, job, "insecure", HOST_FIELD, f'proxy = "{RELAY_URL}"',
        f'connect-to = "relay.corp.example:443:{APNS_HOST}:443"', version="http2",
        host="relay.corp.example"),
}, "ci")
def quirk(lab, send):
    """A sender with a habit of its own is served all the same."""
    site = _site(lab)
    job = Job(site.world, count=20, roots=site.roots)
    compare(job, send(site, job), site.origin.entries())


def _site(lab, options=()):
    site = placements.pre(lab, options=options, listeners=[listener(
        accept=("tls", "connect"), bind=("0.0.0.0:443", "0.0.0.0:3128"), default_host=APNS_HOST)])
    address = site.machines["pre"].address
    site.sender.hosts({APNS_HOST: address, "relay.corp.example": address})
    return site


@scenario("ci")
def rsa_leaf(lab):
    """A TLS 1.3 sender that verifies RSA only gets an RSA leaf, every other one P-256."""
    site = _site(lab)
    for algorithms, key in (("rsa_pss_rsae_sha256:RSA+SHA256", "RSA-PSS"),
                            ("ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256:RSA+SHA256", "ECDSA")):
        for version in ("-tls1_2", "-tls1_3"):
            done = site.sender.run(
                ["openssl", "s_client", version, "-connect", f"{APNS_HOST}:443", "-servername",
                 APNS_HOST, "-sigalgs", algorithms, "-CAfile", site.roots, "-verify_return_error"],
                check=False, stdin="")
            expect("Verify return code: 0 (ok)" in done.stdout, f"{version} {done.stderr[-400:]}")
            expect(f"Peer signature type: {key}" in done.stdout, f"{version}: not {key}")


@scenario("ci")
def ninety_two_connections(lab):
    """The push proxy behind a proxy opens 92 connections for 100 pushes: two leave the relay."""
    site = _site(lab)
    job = Job(site.world, count=100, roots=site.roots)
    answers = _curl(site, job, "parallel-immediate", parallel=92, deadline=60)
    compare(job, answers, site.origin.entries(), connections=2)


@scenario("ci")
def impatient_pings(lab):
    """gorush's PING after a second of silence is acknowledged while the origin thinks."""
    site = _site(lab, options=("--delay", "2.5"))
    job = Job(site.world, count=10, roots=site.roots)
    compare(job, senders.go(site.sender, job, "impatient"), site.origin.entries())


@several({"v1": "send-proxy", "v2": "send-proxy-v2"}, "ci")
def balancer(lab, header):
    """Behind HAProxy's PROXY header, `networks` judges the sender's own address."""
    site = placements.pre(lab, listeners=[listener(
        networks=("10.77.1.10/32",), proxy_protocol={"from": ["10.77.1.80/32"]})])
    machine = lab.machine("balancer", (site.sender.networks[0], 80))
    stranger = lab.machine("stranger", (site.sender.networks[0], 90))
    Haproxy(machine, site.machines["pre"].address, header)
    for one in (site.sender, stranger):
        one.hosts({APNS_HOST: machine.address})
    job = Job(site.world, count=10, roots=site.roots)
    compare(job, _curl(site, job, version="http2", parallel=5), site.origin.entries())
    expect(site.relay.says("10.77.1.10"), "the log does not name the sender behind the balancer")
    job = Job(site.world, count=2, roots=site.roots)
    answers = senders.curl(stranger, job, site.world, "http2")
    expect(all("error" in answer for answer in answers), f"a stranger was answered {answers[:1]}")
    # Who is not the balancer may not say who it is, and is judged by its own address.
    stranger.hosts({APNS_HOST: site.machines["pre"].address})
    answers = senders.curl(stranger, job, site.world, "http2", "haproxy-protocol")
    expect(all("error" in answer for answer in answers), f"a liar was answered {answers[:1]}")
    expect(len(site.origin.requests()) == 10, "a stranger's push reached the origin")


@several({"proxied": ["-x", "http://10.77.1.20:8080", f"http://{APNS_HOST}"],
          "plain": ["-H", f"Host: {APNS_HOST}", "http://10.77.1.20:8080"]}, "ci")
def cleartext(lab, way):
    """From a trusted proxy without TLS: in absolute form, and by Host; h2 and TLS go up."""
    site = placements.pre(lab, listeners=[listener(accept=("plain",), bind=("0.0.0.0:8080",))])
    job = Job(site.world, count=4, roots=site.roots)
    *options, base = way
    answers = []
    for push in job.pushes:
        done = site.sender.run(
            ["curl", "-qsS", "--max-time", "10", "-H", "apns-topic: com.example.chat", "-H",
             f"apns-id: {push['id']}", "-H", f"authorization: {senders.bearer(site.world)}", "-d",
             push["payload"], "-w", "%{http_code}", *options, f"{base}/3/device/{push['token']}"])
        answers.append({"token": push["token"], "status": int(done.stdout[-3:])})
    compare(job, answers, site.origin.entries())


OWN = "push.corp.example"


@several({"direct": "", "proxied": RELAY_URL}, "ci")
def own_name(lab, proxy_url):
    """A Mattermost server posts to a name of one's own; a push proxy without TLS gets it."""
    listeners = [listener(accept=("tls", "connect"), bind=("0.0.0.0:443", "0.0.0.0:3128"))]
    site = placements.flat(lab, origin=None, listeners=listeners, routes=[{
        "name": "own", "hosts": [OWN], "origin": "http://10.77.2.50:8066", "egress": "out",
        "methods": ["POST"], "paths": ["/api/v1/send_push", "/api/v1/ack"],
        "deadline": "3s"}])
    address = site.machines["pre"].address
    site.sender.hosts({OWN: address, "relay.corp.example": address})
    proxy = PushProxy(site.machines["origin"])
    job = Job(site.world, count=20, roots=site.roots)

    def send(path):
        return senders.go(site.sender, job, "server", proxy_url=proxy_url,
                          url=f"https://{OWN}{path}")
    answers = send("/api/v1/send_push")
    wrong = [one for one in answers if (one.get("status"), one.get("body")) !=
             (200, '{"status":"OK"}')]
    expect(len(answers) == 20 and not wrong, f"{len(wrong)} not OK: {wrong[:1]}")
    entries = proxy.entries()
    bodies = sorted(json.dumps(entry["body"]) for entry in entries)
    expect(bodies == sorted(json.dumps(json.loads(push["payload"])) for push in job.pushes),
           f"the push proxy saw {len(entries)} requests")
    expect({entry["host"] for entry in entries} == {"10.77.2.50:8066"}, f"{entries[:1]}")
    answers = send("/api/v1/other")
    expect({one.get("status") for one in answers} == {404}, f"{answers[:1]}")
    expect(len(proxy.entries()) == 20, "another path reached the push proxy")
    proxy.process.stop()
    answers = send("/api/v1/send_push")
    told = {(one.get("status"), json.loads(one["body"])["status"]) for one in answers}
    expect(told == {(200, "FAIL")}, f"{answers[:1]}")
    expect(all("relay: network" in json.loads(one["body"])["error"] for one in answers),
           f"{answers[:1]}")


@scenario("ci")
def second_port(lab):
    """443 is closed, 2197 is open: tried in order, remembered."""
    site = placements.flat(
        lab, origin=lambda machine, world: Origin(machine, world, port=2197))
    job = Job(site.world, count=20, roots=site.roots)
    compare(job, _curl(site, job, version="http2", parallel=9), site.origin.entries())


@scenario("ci")
def second_port_behind_a_proxy(lab):
    """The proxy opens no tunnel to 2197: the next port of the route is asked for."""
    site = placements.pre(lab, routes=[route(ports=[2197, 443])])
    job = Job(site.world, count=20, roots=site.roots)
    compare(job, _curl(site, job, version="http2", parallel=9), site.origin.entries())
    refused = [line for line in site.squid.log() if "/403" in line]
    expect(len(refused) == 1, f"2197 was asked for {len(refused)} times")


@scenario("ci")
def source_address(lab):
    """On a multi-homed host the relay leaves from the address that relay.yaml names."""
    site = placements.flat(lab, egress_more={"source": "10.77.2.21"})
    middle = site.machines["pre"]
    middle.plug(middle.networks[1], 21)
    job = Job(site.world, count=5, roots=site.roots)
    compare(job, _curl(site, job), site.origin.entries())
    peers = {one["peer"] for one in site.origin.entries() if one["event"] == "connection"}
    expect(peers == {"10.77.2.21"}, f"the origin saw {peers}")


@scenario("ci")
def assumed_h2(lab):
    """An inspector strips ALPN and still speaks h2: `assume_h2` is the explicit exception."""
    site = placements.flat(lab, options=("--alpn", "none", "--without-alpn"),
                           egress_more={"assume_h2": True})
    job = Job(site.world, count=10, roots=site.roots)
    compare(job, _curl(site, job, version="http2", parallel=5), site.origin.entries())
