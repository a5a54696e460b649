"""A strict APNs stand-in on the Python `h2` library, which shares no code with the relay.

It writes one JSON line per connection and per request and answers by the device token:
the first four digits name the status (0400, 0410, 0413), everything else is accepted.
Like Apple it allows one stream until the first request was answered, then 1,000.
"""

import argparse
import asyncio
import hashlib
import json
import ssl
import time
import uuid

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

REASONS = {
    "0400": (400, {"reason": "BadDeviceToken"}),
    "0410": (410, {"reason": "Unregistered", "timestamp": 1700000000000}),
    "0413": (413, {"reason": "PayloadTooLarge"}),
}
FORBIDDEN = {"connection", "keep-alive", "proxy-connection", "proxy-authorization",
             "transfer-encoding", "upgrade", "http2-settings", "te", "trailer", "expect", "via",
             "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
             # What two relays tell each other stays between them.
             "signature", "signature-input", "content-digest", "proxy-status"}


class Origin:
    """What all connections share: options, the ledger and the count of connections."""

    def __init__(self, options):
        self.options = options
        self.ledger = open(options.ledger, "a", buffering=1, encoding="utf-8")
        self.connections = 0

    def write(self, entry):
        """Adds a line."""
        entry["at"] = time.time()
        self.ledger.write(json.dumps(entry) + "\n")

    async def serve(self, reader, writer):
        """One connection."""
        self.connections += 1
        number = self.connections
        tls = writer.get_extra_info("ssl_object")
        alpn = tls.selected_alpn_protocol()
        subject = dict(pair[0] for pair in (tls.getpeercert() or {}).get("subject", ()))
        self.write({"event": "connection", "connection": number, "alpn": alpn,
                    "peer": writer.get_extra_info("peername")[0], "tls": tls.version(),
                    "client": subject.get("commonName")})
        try:
            if alpn == "h2" or (alpn is None and self.options.without_alpn):
                await Connection(self, number, writer).run(reader)
            else:
                first = await asyncio.wait_for(reader.read(64), 10)
                self.write({"event": "not-h2", "connection": number, "first": repr(first[:24])})
        except (ConnectionError, ssl.SSLError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self.write({"event": "closed", "connection": number})
            writer.close()


class Connection:
    """HTTP/2 on one connection. Header rules are judged here, not by the library."""

    def __init__(self, origin, number, writer):
        self.origin, self.number, self.writer = origin, number, writer
        self.h2 = H2Connection(H2Configuration(
            client_side=False, header_encoding="utf-8", validate_inbound_headers=False,
            normalize_inbound_headers=False))
        self.requests, self.raised, self.open_streams = {}, False, 0

    async def run(self, reader):
        """Reads until the peer leaves."""
        self.h2.local_settings = self.h2.local_settings.__class__(client=False, initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: self.origin.options.first_streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: 8000,
            SettingCodes.ENABLE_PUSH: 0,
        })
        self.h2.initiate_connection()
        await self.flush()
        while data := await reader.read(65536):
            try:
                events = self.h2.receive_data(data)
            except ProtocolError as error:
                self.origin.write({"event": "protocol-error", "connection": self.number,
                                   "error": f"{type(error).__name__}: {error}"})
                await self.flush()
                return
            for event in events:
                self.take(event)
            await self.flush()

    async def flush(self):
        """Writes what the library has made."""
        if data := self.h2.data_to_send():
            self.writer.write(data)
            await self.writer.drain()

    def take(self, event):
        """One event of the library."""
        if isinstance(event, RequestReceived):
            self.requests[event.stream_id] = (event.headers, bytearray())
        elif isinstance(event, DataReceived):
            if event.stream_id in self.requests:
                self.requests[event.stream_id][1].extend(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamReset):
            if self.requests.pop(event.stream_id, None):
                self.origin.write({"event": "reset", "connection": self.number,
                                   "stream": event.stream_id, "code": int(event.error_code)})
        elif isinstance(event, StreamEnded):
            headers, body = self.requests.pop(event.stream_id)
            if self.origin.options.delay:
                asyncio.get_running_loop().call_later(
                    self.origin.options.delay, self.answer_late, event.stream_id, headers, body)
            else:
                self.answer(event.stream_id, headers, bytes(body))

    def answer_late(self, stream, headers, body):
        """An answer after the configured delay."""
        try:
            self.answer(stream, headers, bytes(body))
        except ProtocolError:
            return
        if data := self.h2.data_to_send():
            self.writer.write(data)

    def answer(self, stream, headers, body):
        """Judges the request, answers it, writes both down."""
        pseudo = {name: value for name, value in headers if name.startswith(":")}
        fields = [(name, value) for name, value in headers if not name.startswith(":")]
        token = pseudo.get(":path", "").rsplit("/", 1)[-1]
        status, reason = REASONS.get(token[:4], (200, None))
        ids = [value for name, value in fields if name == "apns-id"]
        apns_id = ids[0] if ids else str(uuid.uuid4()).upper()
        text = json.dumps(reason) if reason else ""
        reply = [(":status", str(status)), ("apns-id", apns_id)]
        if reason:
            reply += [("content-type", "application/json"), ("content-length", str(len(text)))]
        else:
            reply.append(("apns-unique-id", str(uuid.uuid4())))
        self.h2.send_headers(stream, reply, end_stream=not text)
        if text:
            self.h2.send_data(stream, text.encode(), end_stream=True)
        self.origin.write({
            "event": "request", "connection": self.number, "stream": stream, "protocol": "h2",
            "pseudo": pseudo, "fields": fields, "token": token,
            "body_sha256": hashlib.sha256(body).hexdigest(), "body_length": len(body),
            "flags": flags(pseudo, fields, body, self.origin.options.authority),
            "answer": {"status": status, "apns_id": apns_id, "body": text,
                       "unique_id": dict(reply).get("apns-unique-id")},
        })
        if not self.raised and self.origin.options.streams != self.origin.options.first_streams:
            self.raised = True
            self.h2.update_settings(
                {SettingCodes.MAX_CONCURRENT_STREAMS: self.origin.options.streams})


def flags(pseudo, fields, body, authority):
    """Everything about a request that Apple would have no reason to see."""
    found = []
    if pseudo.get(":authority") != authority:
        found.append(f"authority {pseudo.get(':authority')!r}")
    if pseudo.get(":scheme") != "https":
        found.append(f"scheme {pseudo.get(':scheme')!r}")
    names = [name for name, _ in fields]
    for name in sorted(set(names)):
        if name in FORBIDDEN or name.startswith(("pushrelay", "x-pushrelay")):
            found.append(f"forbidden {name}")
        if name == "host":
            found.append("host field")
        if name != name.lower():
            found.append(f"upper case {name}")
        if names.count(name) > 1:
            found.append(f"twice {name}")
    for name, value in fields:
        if name == "content-length" and value != str(len(body)):
            found.append(f"content-length {value} of {len(body)}")
        if value != value.strip():
            found.append(f"blanks around {name}")
    return found


async def main():
    """Listens until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", action="append", required=True)
    parser.add_argument("--chain", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--authority", default="api.push.apple.com")
    parser.add_argument("--client-roots", help="demand a client certificate")
    parser.add_argument("--alpn", default="h2", help="offered protocols, comma separated, or none")
    parser.add_argument("--without-alpn", action="store_true", help="serve peers that send none")
    parser.add_argument("--first-streams", type=int, default=1)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.chain, options.key)
    if options.alpn != "none":
        context.set_alpn_protocols(options.alpn.split(","))
    if options.client_roots:
        context.load_verify_locations(options.client_roots)
        context.verify_mode = ssl.CERT_REQUIRED
    origin = Origin(options)
    for listen in options.listen:
        host, port = listen.rsplit(":", 1)
        await asyncio.start_server(origin.serve, host, int(port), ssl=context, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
