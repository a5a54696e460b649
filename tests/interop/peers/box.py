"""Boxes that damage a path: each listens on a port of its own and has one habit.

    box.py PLAN

PLAN is a JSON list of `{"listen": "ADDRESS:PORT", "habit": NAME, ...}`. A `pipe` forwards bytes to
`to`, a `talker` answers bytes itself, a `tunnel` is a proxy that answers CONNECT itself, an `h2`
box ends TLS with `chain` and `key` and speaks HTTP/2 frame by frame (RFC 9113), by hand, so that
it can break each rule on its own.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK = 1, 1
PAGE = b"<html><body><h1>Access denied</h1></body></html>"
BLOCKED = (b"HTTP/1.1 403 Forbidden\r\nServer: corporate-filter\r\nContent-Type: text/html\r\n"
           b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(PAGE)) + PAGE
NOISE = b"\x00\x17\x99 not TLS at all, whatever this is\r\n"
FOREVER = 3600


def reset(writer):
    """Closes so that the peer gets RST."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def frame(kind, flags, stream, payload=b""):
    """One frame (RFC 9113 section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        ">I", stream) + payload


def setting(identifier, value):
    """One entry of a SETTINGS frame."""
    return struct.pack(">HI", identifier, value)


def answer(stream):
    """APNs' 403 for a request without a token, in HPACK literals (RFC 7541 section 6.2.2)."""
    def literal(name, value):
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
    # Index 8 of the static table is :status.
    fields = b"\x08\x03403" + literal(b"apns-id", b"EC1BF194-B3B2-424A-89A9-5A918A6E6B5D")
    body = b'{"reason":"MissingProviderToken"}'
    return frame(HEADERS, 4, stream, fields) + frame(DATA, END_STREAM, stream, body)


async def copy(reader, writer, delay=0.0, limit=None):
    """One direction of a pipe; `limit` cuts after so many octets."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            await asyncio.sleep(delay)
            if limit is not None:
                limit -= len(data)
                if limit <= 0:
                    reset(writer)
                    return
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


async def pipe(plan, reader, writer):
    """Forwards, with what the plan says of the first flight, of delay and of length."""
    first = await reader.read(65536)
    while plan.get("hello") and len(first) < 5 + int.from_bytes(first[3:5], "big"):
        more = await reader.read(65536)
        if not more:
            return
        first += more
    if plan.get("hello") and len(first) > plan["hello"]:
        await asyncio.sleep(FOREVER)
    host, port = plan["to"].rsplit(":", 1)
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    delay = plan.get("delay", 0.0)
    await asyncio.sleep(delay)
    far_writer.write(first)
    await asyncio.gather(copy(reader, far_writer, delay),
                         copy(far_reader, writer, delay, plan.get("cut")))


async def talker(plan, reader, writer):
    """Answers the first bytes itself, or greets without being asked."""
    says = plan["says"]
    if says != "greeting":
        await reader.read(65536)
    if says == "reset":
        reset(writer)
        return
    if says == "silence":
        await asyncio.sleep(FOREVER)
    words = {"page": BLOCKED, "noise": NOISE, "greeting": b"220 mail.corp.example ESMTP\r\n"}
    writer.write(words[says])
    await writer.drain()
    await asyncio.sleep(1)


async def tunnel(plan, reader, writer):
    """A proxy that says 200 to CONNECT, and then does what `then` says."""
    await reader.readuntil(b"\r\n\r\n")
    if plan["then"] == "no answer":
        await asyncio.sleep(FOREVER)
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await writer.drain()
    if plan["then"] == "reset":
        reset(writer)
    elif plan["then"] == "silence":
        await asyncio.sleep(FOREVER)
    else:
        await reader.read(65536)
        writer.write(BLOCKED)
        await writer.drain()


class Http2:
    """HTTP/2 on one connection, with one fault."""

    def __init__(self, plan, reader, writer):
        self.fault, self.reader, self.writer = plan["fault"], reader, writer

    async def run(self):
        """Preface, SETTINGS, then frame by frame."""
        await self.reader.readexactly(len(PREFACE))
        if await self.before_settings():
            return
        kind, _, _, payload = await self.frame()
        if self.fault == "trips over a value" and kind == SETTINGS and payload:
            return
        ours = setting(3, 100) + setting(6, 8000)
        if self.fault == "altered SETTINGS":
            # Above 2^31-1, which RFC 9113 section 6.5.2 forbids.
            ours = setting(4, 0xFFFFFFFF)
        self.writer.write(frame(SETTINGS, 0, 0, ours) + frame(SETTINGS, ACK, 0))
        while await self.step(*await self.frame()):
            await self.writer.drain()

    async def before_settings(self):
        """What a box does that agrees on h2 and does not speak it."""
        if self.fault == "SETTINGS lost":
            await asyncio.sleep(FOREVER)
        if self.fault == "answers HTTP/1.1":
            self.writer.write(BLOCKED.replace(b"403 Forbidden", b"400 Bad Request"))
            await self.writer.drain()
            return True
        return self.fault == "closes"

    async def frame(self):
        """The next frame."""
        head = await self.reader.readexactly(9)
        length = int.from_bytes(head[:3], "big")
        payload = await self.reader.readexactly(length)
        return head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, payload

    async def step(self, kind, flags, stream, payload):
        """One frame; False ends the connection."""
        if kind == PING and not flags & ACK and self.fault != "PING lost":
            self.writer.write(frame(PING, ACK, 0, payload))
        if kind == HEADERS and not await self.request(stream):
            return False
        if kind == DATA and len(payload) > 1024 and self.fault == "large lost":
            await asyncio.sleep(FOREVER)
        if kind in (DATA, HEADERS) and flags & END_STREAM and self.fault != "no answer":
            self.writer.write(answer(stream))
        return True

    async def request(self, stream):
        """The head of a request; False ends the connection."""
        if self.fault == "GOAWAY":
            text = b'{"reason":"BadCertificateEnvironment"}'
            self.writer.write(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0) + text))
            await self.writer.drain()
            return False
        if self.fault == "refuses streams":
            # 11 is ENHANCE_YOUR_CALM.
            self.writer.write(frame(RST, 0, stream, struct.pack(">I", 11)))
        return self.fault != "cuts requests"


async def h2(plan, reader, writer):
    """An HTTP/2 box."""
    await Http2(plan, reader, writer).run()


HABITS = {"pipe": pipe, "talker": talker, "tunnel": tunnel, "h2": h2}


async def listen(plan):
    """Opens one box."""
    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError,
                                 OSError):
            await HABITS[plan["habit"]](plan, reader, writer)
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()

    context = None
    if plan["habit"] == "h2":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(plan["chain"], plan["key"])
        context.set_alpn_protocols(["h2"])
    host, port = plan["listen"].rsplit(":", 1)
    return await asyncio.start_server(serve, host, int(port), ssl=context)


async def main():
    """Opens all, then waits to be ended."""
    with open(sys.argv[1], encoding="utf-8") as file:
        plans = json.load(file)
    servers = [await listen(plan) for plan in plans]
    await asyncio.gather(*(server.serve_forever() for server in servers))


asyncio.run(main())
