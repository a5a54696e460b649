"""A mitmproxy add-on: a party between two relays that changes, records or holds what passes.

TAMPER: `body` appends a blank to each body, `record` writes requests down and passes them on,
`hold` writes them down and answers 503 itself. TAMPER_LEDGER is the file.
"""

import json
import os

from mitmproxy import http

MODE, LEDGER = os.environ["TAMPER"], os.environ["TAMPER_LEDGER"]


def request(flow: http.HTTPFlow) -> None:
    """Called for every whole request."""
    with open(LEDGER, "a", encoding="utf-8") as sink:
        sink.write(json.dumps({
            "path": flow.request.path, "body": flow.request.get_text(),
            "headers": {name.lower(): value for name, value in flow.request.headers.items()},
        }) + "\n")
    if MODE == "body":
        flow.request.content += b" "
    elif MODE == "hold":
        flow.response = http.Response.make(503, b"held", {"content-type": "text/plain"})
