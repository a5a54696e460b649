"""What stands beyond the firewall or in the origin's place: faults, boxes, certificates."""

import dataclasses
import json
import subprocess

from kit import install
from kit.peers import PEERS, PROXY_HOST
from kit.pki import APNS_HOST, Authority, new_key

ORIGIN, REFERENCE, BOXES = "17.188.143.34", "17.188.143.95", "17.188.143.80"
NAMES = [APNS_HOST, "api.sandbox.push.apple.com"]
BOTH = "{443, 2197}"
PAST, FUTURE = ("20200101000000Z", "20210101000000Z"), ("20400101000000Z", "20410101000000Z")


class Leaves:
    """Certificates by what is wrong with them; made when first asked for."""

    def __init__(self, world):
        self.world, self.directory = world, world.directory
        self.authorities = {"world": world.authority}
        self.made = {}

    def authority(self, name):
        """A root; the world's own, a company's, or one whose name is a vendor's."""
        subjects = {
            "corp": "/O=Example Corp/CN=Example Corp Issuing CA 3",
            "zscaler": "/O=Zscaler Inc./OU=Zscaler Inc./CN=Zscaler Root CA",
            "fortinet": "/O=Fortinet/OU=Certificate Authority/CN=FGT60FTK20012345",
            "known": "/O=Example Corp/CN=Example Corp Inspection CA",
            "squid": "/O=Example Corp/CN=Squid Inspection Root",
        }
        if name not in self.authorities:
            self.authorities[name] = Authority(self.directory, f"root-{name}", subjects[name])
        return self.authorities[name]

    def get(self, name):
        """Chain and key: `origin`, `reference`, `expired`, `future`, `stranger`, `self-signed`,
        `no-intermediate`, `client-only`, or `by-AUTHORITY`."""
        if name not in self.made:
            self.made[name] = self._make(name)
        return self.made[name]

    def _make(self, name):
        world = self.world.authority
        if name == "origin":
            return self.world.origin
        if name == "reference":
            return world.leaf(name, ["fcm.googleapis.com"])
        if name == "stranger":
            return world.leaf(name, ["www.example.com", "example.com"])
        if name == "client-only":
            return world.leaf(name, NAMES, client=True)
        if name == "expired":
            return self._dated(name, PAST)
        if name == "future":
            return self._dated(name, FUTURE)
        if name == "self-signed":
            return self._alone(name)
        if name == "no-intermediate":
            return self._without_intermediate()
        return self.authority(name.removeprefix("by-")).leaf(name, [*NAMES, PROXY_HOST])

    def _alone(self, name):
        """As `openssl req -x509` makes it by default."""
        chain, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        new_key(key)
        _openssl("req", "-x509", "-new", "-key", key, "-days", "30", "-subj",
                 "/CN=localhost.localdomain", "-out", chain)
        return chain, key

    def _dated(self, name, dates):
        """`openssl ca` is the only command that takes both dates."""
        folder = self.directory / name
        folder.mkdir()
        (folder / "index").write_text("")
        (folder / "serial").write_text("1000\n")
        names = ",".join(f"DNS:{host}" for host in NAMES)
        (folder / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder}/index\nserial={folder}/serial\n"
            f"new_certs_dir={folder}\ndefault_md=sha256\npolicy=p\nx509_extensions=e\n"
            f"[p]\ncommonName=supplied\n[e]\nbasicConstraints=CA:FALSE\n"
            f"keyUsage=digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName={names}\n")
        key, chain, request = folder / "leaf.key", folder / "leaf.pem", folder / "leaf.csr"
        new_key(key)
        world = self.world.authority
        _openssl("req", "-new", "-key", key, "-subj", f"/CN={APNS_HOST}", "-out", request)
        _openssl("ca", "-batch", "-notext", "-config", folder / "ca.cnf", "-cert", world.root,
                 "-keyfile", world.key, "-in", request, "-out", chain,
                 "-startdate", dates[0], "-enddate", dates[1])
        return chain, key

    def _without_intermediate(self):
        """A public intermediate signed the leaf, and the server does not send it."""
        middle = Authority(self.directory, "intermediate",
                           "/O=DigiTrust Public/CN=DigiTrust TLS Server CA G2")
        return middle.leaf("no-intermediate", NAMES)

    def both(self, name):
        """Chain and key in one file, as HAProxy and Squid want them."""
        chain, key = self.get(name)
        path = self.directory / f"{name}-both.pem"
        path.write_text(chain.read_text() + key.read_text())
        return path


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


class Nginx:
    """nginx as a server of many ports."""

    def __init__(self, site, machine):
        self.site, self.machine, self.servers = site, machine, []

    def server(self, *directives):
        """Adds one server block."""
        self.servers.append("".join(f"    {directive};\n" for directive in directives))

    def start(self):
        """Writes the configuration and starts it."""
        folder = self.machine.directory / "nginx"
        folder.mkdir()
        blocks = "".join(f"  server {{\n{server}  }}\n" for server in self.servers)
        temporary = "".join(f"  {kind}_temp_path {folder}/{kind};\n" for kind in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
            f"events {{}}\nhttp {{\n  access_log off;\n  default_type application/json;\n"
            f"{temporary}{blocks}}}\n")
        process = self.machine.start("nginx", ["nginx", "-c", config, "-e", folder / "error.log"])
        port = int(self.servers[-1].split(";")[0].rsplit(":", 1)[1].split()[0])
        self.site.waits.append(lambda: process.wait_listening(port))


class Haproxy:
    """HAProxy with many front ends."""

    def __init__(self, site, machine):
        self.site, self.machine, self.parts, self.last = site, machine, [], 0

    def listen(self, port, *lines):
        """Adds one section; the first line is the rest of `bind`."""
        self.last = port
        first, *rest = lines
        address = BOXES if self.machine.name == "far" else "0.0.0.0"
        self.parts.append(f"listen p{port}\n  bind {address}:{port} {first}\n"
                          + "".join(f"  {line}\n" for line in rest))

    def start(self):
        """Writes the configuration and starts it."""
        config = self.machine.directory / "haproxy.cfg"
        config.write_text(
            "global\n  maxconn 500\n  ssl-default-bind-options ssl-min-ver TLSv1.0\n"
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 1m\n"
            "  timeout server 1m\n" + "".join(self.parts))
        process = self.machine.start("haproxy", ["haproxy", "-db", "-f", config])
        self.site.waits.append(lambda: process.wait_listening(self.last))


class Boxes:
    """The user-space boxes of one machine, in one process."""

    def __init__(self, site, machine):
        self.site, self.machine, self.plans = site, machine, []

    def add(self, address, port, plan):
        """One box."""
        self.plans.append({"listen": f"{address}:{port}", **plan})

    def start(self):
        """Starts the process."""
        path = self.machine.directory / "boxes.json"
        path.write_text(json.dumps(self.plans))
        process = self.machine.start("boxes", [install.PYTHON, PEERS / "box.py", path])
        port = int(self.plans[-1]["listen"].rsplit(":", 1)[1])
        self.site.waits.append(lambda: process.wait_listening(port))


# In the origin's place: each opens a port of the far machine.

@dataclasses.dataclass(frozen=True)
class Web:
    """nginx with this certificate."""

    leaf: str = "origin"
    listen: str = "ssl http2"
    directives: tuple = ()

    def open(self, site):
        """Its port."""
        port = site.box()
        lines = [f"listen {BOXES}:{port} {self.listen}"]
        if "ssl" in self.listen:
            chain, key = site.leaves.get(self.leaf)
            lines += [f"ssl_certificate {chain}", f"ssl_certificate_key {key}"]
        roots = site.world.root
        lines += [line.format(roots=roots) for line in self.directives]
        site.program(Nginx, site.far).server(*lines)
        return port


class Balancer:
    """HAProxy with these lines; `{pem}` is the certificate, `{origin}` the true origin."""

    def __init__(self, *lines, leaf="origin"):
        self.lines, self.leaf = lines, leaf

    def open(self, site):
        """Its port."""
        port = site.box()
        lines = "\n".join(self.lines)
        # HAProxy's own conditions are in braces, too.
        for name, value in (("{pem}", site.leaves.both(self.leaf)), ("{origin}", f"{ORIGIN}:443"),
                            ("{roots}", site.world.root)):
            lines = lines.replace(name, str(value))
        site.program(Haproxy, site.far).listen(port, *lines.split("\n"))
        return port


class Box:
    """A user-space box with this habit."""

    def __init__(self, habit, leaf="origin", **plan):
        self.plan, self.leaf = {"habit": habit, **plan}, leaf

    def open(self, site):
        """Its port."""
        port, plan = site.box(), dict(self.plan)
        if plan["habit"] == "h2":
            plan["chain"], plan["key"] = map(str, site.leaves.get(self.leaf))
        if plan["habit"] == "pipe":
            plan["to"] = f"{ORIGIN}:443"
        site.program(Boxes, site.far).add(BOXES, port, plan)
        return port


FCM_SAYS = ('{"error":{"code":401,"message":"Request is missing required authentication '
            'credential.","status":"UNAUTHENTICATED"}}')

# At the firewall, for one source address.

@dataclasses.dataclass(frozen=True)
class Wall:
    """A rule of the firewall on what goes to the origin."""

    verdict: str
    ports: str = BOTH

    def build(self, site, source):
        """Adds the rule."""
        site.forward.append(f"ip saddr {source} ip daddr {ORIGIN} tcp dport {self.ports} "
                            f"{self.verdict}")


@dataclasses.dataclass(frozen=True)
class To:
    """What goes to the origin (or another address) arrives at something else."""

    box: object
    ports: str = BOTH
    address: str = ORIGIN

    def build(self, site, source):
        """Opens the box and leads there."""
        port = self.box.open(site)
        site.nat.append(f"ip saddr {source} ip daddr {self.address} tcp dport {self.ports} "
                        f"dnat to {BOXES}:{port}")


class ToRelay:
    """A name server beyond the proxy sends the origin's name back to the relay that probes."""

    def __init__(self):
        self.relay = None

    def build(self, site, source):
        """Leads to the relay of the case, which the way has made."""
        site.nat.append(f"ip saddr {source} ip daddr {ORIGIN} tcp dport {BOTH} "
                        f"dnat to {self.relay}:443")


DROP, RESET = "drop", "reject with tcp reset"
NO_ROUTE = "reject with icmp type admin-prohibited"
