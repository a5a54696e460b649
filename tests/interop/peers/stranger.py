"""Asks a relay for everything that its routes do not name; one JSON line per try.

    stranger.py ADDRESS PORT ROOTS

A try says what was asked and the status that came back; null means closed without an answer.
"""

import itertools
import json
import socket
import ssl
import sys

ADDRESS, PORT, ROOTS = sys.argv[1], int(sys.argv[2]), sys.argv[3]
APNS = "api.push.apple.com"
PUSH = "/3/device/" + "00ff" + "0" * 60
STRANGE_HOSTS = ["example.com", "10.77.2.50", "localhost", "fcm.googleapis.com",
                 "api.push.apple.com.example.com", "push.apple.com", "api.push.apple.com:8443",
                 "[::1]", "127.0.0.1:9380", "user@api.push.apple.com"]
STRANGE_PATHS = ["/", "/admin", "/metrics", "/status", "/3/device", "/3/device/", "/3/devices/00",
                 "/3/device/../../admin", "/3/device/%2e%2e/x", "/3//device/00", "/3/device/a%2Fb",
                 "/./3/device/00", "/4/device/00", "//3/device/00", "/3/device/..",
                 "/3\\device\\00"]
STRANGE_METHODS = ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PRI", "LINK"]
STRANGE_TARGETS = ["example.com:443", "10.77.2.50:443", "127.0.0.1:9380", "localhost:22",
                   "api.push.apple.com:80", "api.push.apple.com:25", "[::1]:443", "10.77.1.30:3128",
                   "fcm.googleapis.com:443", "api.push.apple.com.:25", "169.254.169.254:80",
                   "push.apple.com:443", "proxy.corp.example:3128", "api.push.apple.com:0",
                   "0.0.0.0:443", "api.push.apple.com:99999", ":443", "/", "*", "http://x/"]


def exchange(request, name=None, tls=True):
    """Sends octets, gives the status of the first answer or None."""
    try:
        with socket.create_connection((ADDRESS, PORT), 10) as plain:
            plain.settimeout(15)
            stream = plain
            if tls:
                context = ssl.create_default_context(cafile=ROOTS)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                stream = context.wrap_socket(plain, server_hostname=name)
            stream.sendall(request)
            first = stream.recv(4096)
    except (OSError, ValueError):
        return None
    parts = first.split(b" ", 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


def head(method, target, host, body=b"{}", version="HTTP/1.1"):
    """One request's octets."""
    lines = [f"{method} {target} {version}", f"Host: {host}", "apns-topic: com.example.chat",
             f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def tries():
    """Every combination: what it is, its octets, the SNI, whether TLS."""
    for host, sni in itertools.product(STRANGE_HOSTS, [APNS, "example.com", None]):
        yield f"host {host} sni {sni}", head("POST", PUSH, host), sni, True
    for path, host in itertools.product(STRANGE_PATHS, [APNS, "example.com"]):
        yield f"path {path} host {host}", head("POST", path, host), APNS, True
    for method, path in itertools.product(STRANGE_METHODS, [PUSH, "/", "*"]):
        yield f"method {method} {path}", head(method, path, APNS, b""), APNS, True
    for host, path, tls in itertools.product(STRANGE_HOSTS, [PUSH, "/"], [True, False]):
        yield (f"absolute {host}{path} tls {tls}",
               head("POST", f"https://{host}{path}", host), APNS, tls)
    for target, version in itertools.product(STRANGE_TARGETS, ["HTTP/1.1", "HTTP/1.0"]):
        yield (f"connect {target} {version}",
               head("CONNECT", target, target, b"", version), None, False)
    for target in STRANGE_TARGETS:
        yield f"connect in tls {target}", head("CONNECT", target, target, b""), APNS, True
    for host, path in itertools.product(STRANGE_HOSTS, [PUSH, "/"]):
        yield f"plain {host}{path}", head("POST", path, host), None, False


for what, request, sni, tls in tries():
    print(json.dumps({"try": what, "status": exchange(request, sni, tls)}), flush=True)
