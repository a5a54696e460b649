"""The whole walk of a push with real senders: before the proxy, after it, and without one."""

import json

from kit import senders
from kit.lab import expect, wait_until
from kit.ledger import Job, compare, refused_by_relay
from kit.peers import PushyOrigin
from kit.pki import APNS_HOST
from kit.registry import scenario, several
from kit.relay import BINARY

from . import placements
from .placements import PROXY_URL, SENDERS


@several(SENDERS, "ci")
def pre(lab, send):
    """The sender reaches APNs through the relay and a Squid that demands Basic."""
    site = placements.pre(lab)
    job = Job(site.world, roots=site.roots)
    compare(job, send(site, job), site.origin.entries())
    # Squid logs a tunnel when it has ended.
    site.relay.stop()
    log = wait_until(site.squid.log, "Squid's log")
    expect(all("CONNECT" in line for line in log), f"Squid saw more than CONNECT: {log[:2]}")
    expect(any(placements.USER in line for line in log), "Squid saw no credentials")


@several({name: SENDERS[name] for name in ("curl_http1_1", "curl_http2", "aioapns", "node_apn")},
         "ci")
def direct(lab, send):
    """The sender reaches APNs through a relay that goes out directly, by DNS."""
    site = placements.flat(lab)
    job = Job(site.world, roots=site.roots)
    compare(job, send(site, job), site.origin.entries())


@several({
    "curl": placements.via_proxy,
    "go": lambda site, job: senders.go(site.sender, job, "proxied", proxy_url=PROXY_URL),
}, "ci")
def post(lab, send):
    """HTTP/1.1 out of an inspecting Squid becomes HTTP/2 at the origin."""
    site = placements.post(lab)
    job = Job(site.world, roots=site.roots)
    answers = send(site, job)
    compare(job, answers, site.origin.entries(), connections=2)
    versions = {answer["protocol"] for answer in answers}
    expect(versions <= {"1.1", "HTTP/1.1"}, f"the sender spoke {versions}")


@several({
    "pushy": SENDERS["pushy"],
    "curl": lambda site, job: senders.curl(site.sender, job, site.world, "http1.1", der=True),
}, "ci")
def pushy_origin(lab, send):
    """pushy's MockApnsServer behind the relay: not both ends are ours."""
    jobs = []

    def origin(machine, world):
        jobs.append(Job(world))
        return PushyOrigin(machine, world, jobs[0])
    site = placements.pre(lab, origin=origin)
    job = jobs[0]
    job.fields["roots"] = str(site.roots)
    compare(job, send(site, job), site.origin.entries(), connections=2, fields=False)


@several({"http1": "http/1.1", "none": "none"}, "ci")
def origin_without_h2(lab, alpn):
    """An origin that negotiates no h2 gets no request and no preface; the answer names the ALPN."""
    site = placements.pre(lab, options=("--alpn", alpn),
                          routes=[placements.route(deadline="3s")])
    job = Job(site.world, count=4, roots=site.roots)
    answers = senders.curl(site.sender, job, site.world, "http1.1", parallel=4)
    refused_by_relay(answers, 503, "ServiceUnavailable", "ALPN")
    expect(all("apns-id" in answer["headers"] for answer in answers), "no apns-id in the answer")
    # What the relay sent after the handshake is in the ledger when the connection has closed.
    entries = wait_until(
        lambda: [entry for entry in site.origin.entries() if entry["event"] == "closed"]
        and site.origin.entries(), "the origin's connection to close")
    first = [entry["first"] for entry in entries if entry["event"] == "not-h2"]
    expect(not any("POST" in text or "PRI" in text for text in first), f"it was sent {first}")


@several({"one_then_many": ("--streams", "1000"), "one_for_ever": ("--streams", "1")}, "ci")
def cold_burst(lab, options):
    """20 HTTP/1.1 connections with 10 pushes each meet a cold relay."""
    site = placements.pre(lab, options=options)
    job = Job(site.world, count=200, roots=site.roots)
    answers = senders.curl(site.sender, job, site.world, "http1.1", parallel=20, deadline=60)
    compare(job, answers, site.origin.entries(), connections=2)


@scenario("ci")
def simulated_origin(lab):
    """`pushrelay simulate apns` as the origin, in a namespace of its own."""
    def origin(machine, world):
        chain, key = world.origin
        return machine.start("simulated", [
            BINARY, "simulate", "apns", "--listen", f"{machine.address}:443", "--identity",
            f"{chain},{key}", "--ledger", machine.directory / "simulated.json",
            "--allow-non-loopback"]).wait_listening(443)
    site = placements.pre(lab, origin=origin)
    job = Job(site.world, count=20, roots=site.roots, refused=False)
    answers = senders.curl(site.sender, job, site.world, "http2", parallel=10)
    wrong = [answer for answer in answers if answer.get("status") != 200]
    expect(len(answers) == 20 and not wrong, f"{len(wrong)} not 200: {wrong[:1]}")
    site.origin.signal(15)
    expect(site.origin.wait() == 0, "the simulator did not end well")
    record = json.loads((site.machines["origin"].directory / "simulated.json").read_text())
    found = record["summary"]
    expect(found["requests"] == 20 and found["duplicates"] == 0 and found["violations"] == 0
           and found["connections"] <= 2, f"the simulator's summary: {found}")


@scenario("ci")
def own_answers(lab):
    """A stranger's host, path, method, topic and size are refused; nothing is dialled."""
    site = placements.pre(lab, routes=[placements.route(topics=["com.example.chat"])])
    url = f"https://{APNS_HOST}/3/device/00ff{'0' * 60}"
    token = senders.bearer(site.world)
    good = ["-H", "apns-topic: com.example.chat", "-H", f"authorization: {token}"]
    big = site.sender.directory / "big"
    big.write_bytes(b"x" * (1 << 20))
    cases = [
        ("host", [url, *good, "-H", "Host: stranger.example", "-d", "{}"], 421, "RelayRefused"),
        ("path", [url.replace("/3/", "/9/"), *good, "-d", "{}"], 404, "BadPath"),
        ("dots", ["--path-as-is", url.replace("/3/device/", "/3/device/../x/"), *good, "-d", "{}"],
         404, "BadPath"),
        ("method", [url, *good, "-X", "PUT", "-d", "{}"], 405, "MethodNotAllowed"),
        ("topic", [url, "-H", "apns-topic: other", "-H", f"authorization: {token}", "-d", "{}"],
         403, "Forbidden"),
        ("body", [url, *good, "-H", "Expect:", "--data-binary", f"@{big}"], 413, "PayloadTooLarge"),
    ]
    for version in ("--http1.1", "--http2"):
        for name, arguments, status, reason in cases:
            if version == "--http2" and name == "host":
                continue
            done = site.sender.run(
                ["curl", "-qsS", version, "--max-time", "10", "--cacert", site.roots, "-w",
                 "\n%{http_code}", *arguments], check=False)
            body, _, code = done.stdout.rpartition("\n")
            expect(code == str(status), f"{name} {version}: {code} {body} {done.stderr}")
            expect(json.loads(body).get("reason") == reason, f"{name} {version}: {body}")
    site.relay.stop()
    expect(not site.squid.log() and not site.origin.connections(), "something was dialled")
    # Another network's machine is not even answered.
    site.relay.config["listeners"][0]["networks"] = ["10.77.1.99/32"]
    site.relay.write()
    site.relay.start()
    done = site.sender.run(["curl", "-qsS", "--max-time", "5", "--cacert", site.roots, "-d", "{}",
                            url], check=False)
    expect(done.returncode != 0, "a stranger's address was answered")
