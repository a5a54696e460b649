"""A push proxy in the DMZ: takes JSON on one path, answers as Mattermost's does, writes it down.

    push_proxy.py PORT LEDGER
"""

import http.server
import json
import sys

PORT, LEDGER = int(sys.argv[1]), open(sys.argv[2], "a", buffering=1, encoding="utf-8")


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection, kept alive."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Any POST: what is permitted is the relay's matter."""
        body = self.rfile.read(int(self.headers["content-length"]))
        LEDGER.write(json.dumps({"path": self.path, "host": self.headers["host"],
                                 "fields": [name.lower() for name in self.headers.keys()],
                                 "body": json.loads(body)}) + "\n")
        answer = b'{"status":"OK"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Nothing on standard error."""


http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
