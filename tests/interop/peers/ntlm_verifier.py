"""An NTLM verifier that speaks Squid's helper protocol (squid-2.5-ntlmssp), around pyspnego.

    YR [MESSAGE]  -> TT CHALLENGE     a new handshake
    KK MESSAGE    -> AF USER | NA REASON

It listens on a local port; each connection is one helper with one handshake at a time.
"""

import base64
import json
import os
import socketserver
import sys
import threading

# The smallest NEGOTIATE message, for a Squid that does not hand the client's along.
NEGOTIATE = b"NTLMSSP\0\1\0\0\0" + (0x00088207).to_bytes(4, "little") + bytes(16)
PORT, ACCOUNTS, LEDGER = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.environ["NTLM_USER_FILE"] = ACCOUNTS

import spnego  # noqa: E402  (reads NTLM_USER_FILE)

LOCK = threading.Lock()


def note(**entry):
    """Adds a line to the ledger."""
    with LOCK, open(LEDGER, "a", encoding="utf-8") as sink:
        sink.write(json.dumps(entry) + "\n")


class Helper(socketserver.StreamRequestHandler):
    """One of Squid's helpers."""

    def handle(self):
        """Answers one line after the other."""
        context = None
        for raw in self.rfile:
            verb, _, rest = raw.decode().strip().partition(" ")
            try:
                if verb == "YR":
                    context = spnego.server(protocol="ntlm",
                                            options=spnego.NegotiateOptions.use_ntlm)
                    first = base64.b64decode(rest) if rest else NEGOTIATE
                    answer = "TT " + base64.b64encode(context.step(first)).decode()
                    note(leg="negotiate", length=len(first))
                elif verb == "KK":
                    context.step(base64.b64decode(rest))
                    user = context.client_principal or "unknown"
                    answer = f"AF {user}" if context.complete else "NA incomplete"
                    note(leg="authenticate", user=user, complete=context.complete)
                else:
                    answer = "BH unknown request"
            except Exception as error:  # a wrong password raises; Squid wants one line always
                text = " ".join(str(error).split())[:120]
                answer = f"NA {text}"
                note(leg="refused", error=f"{type(error).__name__}: {text}")
            self.wfile.write(answer.encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    """A thread per helper."""

    allow_reuse_address = True
    daemon_threads = True


Server(("127.0.0.1", PORT), Helper).serve_forever()
