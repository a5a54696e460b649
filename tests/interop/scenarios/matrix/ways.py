"""Ways out: each builds its part of the path and says what the probe is told of it."""

import dataclasses

from kit.peers import PROXY_HOST
from kit.relay import Relay, yaml

from . import proxies
from .far import Boxes, Haproxy, Nginx
from .proxies import ADDRESS, PASSWORD


@dataclasses.dataclass
class Path:
    """What a case's programs are started with."""

    host: object
    proxy: str | None = None
    user: str | None = None
    config: object = None
    env: dict = dataclasses.field(default_factory=dict)

    def arguments(self):
        """The probe's own options of the way."""
        if self.config:
            return ["--config", self.config]
        if not self.proxy:
            return ["--direct"]
        scheme, rest = self.proxy.split("://")
        return ["--proxy", f"{scheme}://{self.user}@{rest}" if self.user else self.proxy]


class Direct:
    """The direct path from a relay host of its own; names and addresses as its options say.

    `dns` is a dictionary of answers, "deaf", or None for the usual server; `stub` are options of a
    dnsmasq on the relay host itself; `config` makes a relay.yaml with these top-level keys.
    """

    def __init__(self, beyond=None, dns=None, dns_options=(), hosts=None, stub=None, route=True,
                 commands=(), config=None):
        self.beyond, self.dns, self.dns_options, self.hosts = beyond, dns, dns_options, hosts
        self.stub, self.route, self.commands, self.config = stub, route, commands, config

    def build(self, site):
        """Makes the host."""
        server = None
        if self.dns == "deaf":
            server = site.deaf_dns()
        elif self.stub is not None:
            server = "127.0.0.1"
        elif self.dns == "own":
            # The zone redirects the name to whichever address the host will have.
            server = site.dns({"api.push.apple.com": f"10.77.1.{101 + site.hosts}"})
        elif self.dns is not None:
            server = site.dns(self.dns, *self.dns_options)
        host = site.host(dns=server, hosts=self.hosts, route=self.route, commands=self.commands,
                         stub=self.stub)
        if self.beyond:
            self.beyond.build(site, host.address)
        config = None
        if self.config is not None:
            config = relay_yaml(host, self.config)
        # What curl and openssl are told: the same proxy.
        proxies_of = (self.config or {}).get("egress", {}).get("out", {}).get("proxies", [])
        urls = [proxy["url"].replace("OWN", host.address) for proxy in proxies_of]
        return Path(host, proxy=next(iter(urls), None), config=config)


def relay_yaml(host, keys):
    """A relay.yaml that listens on the host's own address."""
    path = host.directory / "relay.yaml"
    path.write_text(yaml({
        "version": 1,
        "listeners": [{"name": "front", "bind": [f"{host.address}:443"], "accept": ["plain"],
                       "networks": ["10.77.1.0/24"]}],
        "routes": [{"provider": "apns", "egress": "out"}], **keys}).replace("OWN", host.address))
    return path


class Behind:
    """A running relay probes by its own relay.yaml, and the path leads back to it."""

    def __init__(self, gate, back):
        self.gate, self.back = gate, back

    def build(self, site):
        """Makes the relay's host, then the proxy, whose far end is that host."""
        host = site.host()
        self.back.relay = host.address
        url = self.gate.build(site).proxy
        relay = Relay(host, {"out": {"proxies": [{"url": url}], "roots": [str(site.world.root)]}})
        relay.certificates()
        site.waits.append(relay.start)
        return Path(host, proxy=url, config=relay.directory / "relay.yaml")


class Gate:
    """Through something on the proxy's machine; subclasses open the port."""

    def __init__(self, user=None, scheme="http", password=PASSWORD, own_host=None):
        self.user, self.scheme, self.password, self.own = user, scheme, password, own_host

    def open(self, site):
        """The port."""
        raise NotImplementedError

    def build(self, site):
        """Opens the port on the proxy, and a relay host if the shared one will not do."""
        port = self.open(site)
        host = site.inner if self.own is None else site.host(route=False, **self.own)
        env = {"PUSHRELAY_PROXY_PASSWORD": self.password} if self.user else {}
        return Path(host, f"{self.scheme}://{PROXY_HOST}:{port}", self.user, env=env)


class Squid(Gate):
    """Squid, with lines of squid.conf for this port, and a fault beyond it."""

    def __init__(self, *lines, beyond=None, kind="main", bump=None, tls=None, **more):
        super().__init__(**more)
        self.lines, self.beyond, self.kind, self.bump, self.tls = lines, beyond, kind, bump, tls

    def open(self, site):
        """A port of its own and an outgoing address of its own."""
        source = site.source()
        squid = site.program(proxies.Squid, site.gate, self.kind)
        if self.beyond:
            self.beyond.build(site, source)
        lines = self.lines
        if self.bump and not any(line.startswith("ssl_bump") for line in lines):
            lines = (*lines, "ssl_bump bump {p}")
        return squid.port(lines, source, self.bump, self.tls)


class Tinyproxy(Gate):
    """tinyproxy, with lines of its configuration, and a fault beyond it."""

    def __init__(self, *lines, beyond=None, **more):
        super().__init__(**more)
        self.lines, self.beyond = lines, beyond

    def open(self, site):
        """A process of its own."""
        source, port = site.source(), site.port()
        if self.beyond:
            self.beyond.build(site, source)
        names = site.gate.directory / "filter"
        names.write_text("apple\n")
        lines = [line.format(filter=names) for line in self.lines]
        site.program(proxies.Tinyproxy, site.gate, port, (f"Bind {source}", *lines))
        return port


class Mitmproxy(Gate):
    """mitmproxy; `number` chooses the port that blocks."""

    def __init__(self, kind="h2", number=0):
        super().__init__()
        self.kind, self.number = kind, number

    def open(self, site):
        """A port of the one that all cases of its kind share."""
        return site.program(proxies.Mitmproxy, site.gate, self.kind).ports[self.number]


class FrontDoor(Gate):
    """HAProxy where the proxy should be."""

    def __init__(self, *lines):
        super().__init__()
        self.lines = lines

    def open(self, site):
        """A section."""
        port = site.port()
        site.program(Haproxy, site.gate).listen(port, *self.lines)
        return port


class WebServer(Gate):
    """nginx where the proxy should be."""

    def open(self, site):
        """A server block."""
        port = site.port()
        site.program(Nginx, site.gate).server(f"listen {ADDRESS}:{port}", "return 200 'hello'")
        return port


class Stand(Gate):
    """A user-space box where the proxy should be."""

    def __init__(self, habit, **plan):
        super().__init__()
        self.plan = {"habit": habit, **plan}

    def open(self, site):
        """A box."""
        port = site.port()
        site.program(Boxes, site.gate).add(ADDRESS, port, self.plan)
        return port


class Nobody(Gate):
    """Nobody listens, and perhaps a firewall says so in its own way."""

    def __init__(self, verdict=None, own_host=None):
        super().__init__(own_host=own_host)
        self.verdict = verdict

    def open(self, site):
        """A closed port."""
        port = site.port()
        if self.verdict:
            site.at_gate.append(f"tcp dport {port} {self.verdict}")
        return port


class Elsewhere:
    """A proxy's name that leads nowhere."""

    def __init__(self, url):
        self.url = url

    def build(self, site):
        """Nothing has to be built."""
        return Path(site.inner, self.url)


