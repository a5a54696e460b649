"""Real senders, each run in a machine with a job; what they give back is a ledger.

A ledger entry has `token` and `status` or `error`, and what the sender lets its user see:
`apns_id`, `body` (exact octets) or `reason` (parsed), `protocol`, `headers`, `sent_fields`.
"""

import base64
import json
import os
import pathlib
import re
import subprocess
import time

from . import install
from .ledger import KEY_ID, TEAM, TOPIC
from .pki import APNS_HOST

CLIENTS = pathlib.Path(__file__).resolve().parent.parent / "clients"


def bearer(world, der=False):
    """A provider token as a shell script would make it (ES256 in JOSE form; pushy's is DER)."""
    def encode(raw):
        return base64.urlsafe_b64encode(raw).rstrip(b"=")
    head = encode(json.dumps({"alg": "ES256", "kid": KEY_ID}).encode())
    claims = encode(json.dumps({"iss": TEAM, "iat": int(time.time())}).encode())
    signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", world.token_key],
                            input=head + b"." + claims, capture_output=True, check=True).stdout
    if der:
        return (b"bearer " + head + b"." + claims + b"." + encode(signed)).decode()
    length = signed[3]
    first = signed[4:4 + length][-32:].rjust(32, b"\0")
    second = signed[6 + length:][-32:].rjust(32, b"\0")
    return (b"bearer " + head + b"." + claims + b"." + encode(first + second)).decode()


def curl(machine, job, world, *options, host=APNS_HOST, parallel=0, deadline=None, port=443,
         der=False):
    """curl, every push a transfer of one process with its own headers."""
    token = bearer(world, der)
    folder = machine.directory / f"curl-{os.urandom(4).hex()}"
    folder.mkdir()
    mark = "\x1e"
    lines = []
    for number, push in enumerate(job.pushes):
        (folder / f"payload{number}").write_text(push["payload"])
        fields = {"apns-id": push["id"], "apns-topic": TOPIC, "apns-push-type": "alert",
                  "apns-priority": "10", "authorization": token,
                  "content-type": "application/json"}
        if number:
            lines.append("next")
        lines += [f'url = "https://{host}:{port}/3/device/{push["token"]}"' if port != 443 else
                  f'url = "https://{host}/3/device/{push["token"]}"',
                  f'data-binary = "@{folder}/payload{number}"',
                  f'output = "{folder}/body{number}"', f'cacert = "{job.fields["roots"]}"',
                  "silent", f'write-out = "{number} %{{http_code}} %{{http_version}} '
                  f'%{{errormsg}}\\n%{{header_json}}{mark}"', "max-time = 30"]
        lines += [f'header = "{name}: {value}"' for name, value in fields.items()]
        lines += [f"{option}" for option in options]
        push["sent_fields"] = fields
    config = folder / "config"
    config.write_text("\n".join(lines) + "\n")
    command = ["curl", "-q"]
    if parallel:
        command += ["--parallel", "--parallel-max", str(parallel)]
    done = machine.run([*command, "-K", config], deadline or 30 + job.count * 0.2, check=False)
    return [_curl_entry(job, folder, text) for text in done.stdout.split(mark) if text.strip()]


def _curl_entry(job, folder, text):
    first, _, rest = text.strip().partition("\n")
    number, status, version, *message = first.split(" ", 3)
    push = job.pushes[int(number)]
    headers = {name: values[0] for name, values in json.loads(rest or "{}").items()}
    entry = {"token": push["token"], "sent_id": push["id"], "protocol": version,
             "headers": headers}
    if status == "000":
        entry["error"] = message[0] if message else "no answer"
        return entry
    body = folder / f"body{number}"
    entry.update(status=int(status), body=body.read_text() if body.exists() else "",
                 apns_id=headers.get("apns-id", ""), unique_id=headers.get("apns-unique-id"),
                 sent_fields=push["sent_fields"])
    return entry


def nghttp(machine, job, world):
    """nghttp: one connection, every push a stream; it sends no apns-id."""
    payload = machine.directory / "nghttp-payload"
    payload.write_text(job.pushes[0]["payload"])
    fields = {"apns-topic": TOPIC, "authorization": bearer(world), "apns-push-type": "alert"}
    entries = []
    # One command line holds a few hundred addresses, no more.
    for start in range(0, job.count, 200):
        pushes = job.pushes[start:start + 200]
        done = machine.run(
            ["nghttp", "-v", "--no-verify-peer", "-t", "20", "-d", payload,
             *[part for name, value in fields.items() for part in ("-H", f"{name}: {value}")],
             *[f"https://{APNS_HOST}/3/device/{push['token']}" for push in pushes]], 60)
        entries += _nghttp_entries(pushes, done.stdout)
    return entries


def _nghttp_entries(pushes, text):
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    streams = {}
    tokens = {}
    current = None
    for line in text.splitlines():
        if found := re.match(r"\[ *[\d.]+\] recv \(stream_id=(\d+)\) ([^ ]+): (.*)", line):
            streams.setdefault(int(found[1]), {})[found[2]] = found[3]
        elif found := re.search(r"send HEADERS frame <.*stream_id=(\d+)>", line):
            current = int(found[1])
        elif found := re.match(r" +:path: /3/device/([0-9a-f]+)", line):
            tokens[found[1]] = current
    entries = []
    for push in pushes:
        headers = streams.get(tokens.get(push["token"]), {})
        entry = {"token": push["token"], "headers": headers, "protocol": "2"}
        if ":status" in headers:
            entry.update(status=int(headers[":status"]), apns_id=headers.get("apns-id", ""))
        else:
            entry["error"] = "no answer"
        entries.append(entry)
    return entries


def _lines(done):
    entries = parsed(done.stdout)
    if not entries:
        raise RuntimeError(f"the sender said nothing: {done.stderr[-800:]}")
    return entries


def parsed(text):
    """The entries among what a sender wrote."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def aioapns(machine, job, deadline=None):
    """Python aioapns, as installed."""
    path = job.write(machine)
    return _lines(machine.run([install.PYTHON, CLIENTS / "aioapns_sender.py", path],
                              deadline or 40 + job.count * 0.1, check=False))


def aioapns_bursts(machine, job, burst, pause):
    """The same in bursts, running: its output says when each begins and is answered."""
    path = job.write(machine, burst=burst, pause=pause)
    return machine.start("aioapns", [install.PYTHON, "-u", CLIENTS / "aioapns_sender.py", path])


def node_apn(machine, job, proxy=None, deadline=None):
    """npm @parse/node-apn, as installed. Behind a proxy it heeds NODE_EXTRA_CA_CERTS only."""
    path = job.write(machine, proxy=proxy, node_modules=str(install.NODE_MODULES))
    return _lines(machine.run(["node", CLIENTS / "node_apn_sender.js", path],
                              deadline or 40 + job.count * 0.1, check=False,
                              env={"NODE_EXTRA_CA_CERTS": job.fields["roots"]}))


def go(machine, job, mode, proxy_url="", chain="", key="", url="", deadline=None):
    """Go: `apns2`, or the standard library as the push proxy, gorush or a server use it."""
    path = job.write(machine, mode=mode, proxy_url=proxy_url, chain=str(chain), key=str(key),
                     url=url)
    return _lines(machine.run([install.GO_SENDER, path], deadline or 40 + job.count * 0.1,
                              check=False, env={"SSL_CERT_FILE": job.fields["roots"]}))


def pushy(machine, job, alpn=False, deadline=None):
    """pushy's own client; without ALPN unless told otherwise, as by default."""
    path = machine.directory / f"pushy-{os.urandom(4).hex()}"
    path.write_text("".join(f"{push['token']} {push['id']} {push['payload']}\n"
                            for push in job.pushes))
    return _lines(machine.run(
        ["java", "-cp", install.CLASSPATH, "Interop", "send", APNS_HOST, "443",
         job.fields["roots"], job.fields["token_key"], TEAM, KEY_ID, TOPIC, path,
         str(alpn).lower(), "20"], deadline or 60 + job.count * 0.1, check=False))
