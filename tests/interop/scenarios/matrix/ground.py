"""The laboratory that all cases share.

    relay hosts ---- inside ---- proxy ---- outside ---- firewall ---- internet ---- far
         \\________________________________________________/

Every case has a source address of its own at the firewall (a relay host's on the direct path, an
outgoing address of the proxy's otherwise), so each gets its own rules there and all run at once.
"""

from kit import install
from kit.peers import PEERS, PROXY_HOST
from kit.pki import APNS_HOST, World

from . import far
from .far import BOXES, FCM_SAYS, ORIGIN, REFERENCE

SANDBOX, FCM = "api.sandbox.push.apple.com", "fcm.googleapis.com"
GATE, RESOLVER = "10.77.1.30", "10.77.1.70"


class Site:
    """Machines, what runs on them, and the firewall's rules by source address."""

    def __init__(self, lab):
        self.lab, self.world = lab, World(lab)
        self.inside = lab.network("in", "10.77.1")
        outside = lab.network("out", "10.77.2")
        internet = lab.network("net", "17.188.143")
        self.firewall = lab.machine("wall", (self.inside, 1), (outside, 1), (internet, 1))
        self.gate = lab.machine("gate", (self.inside, 30), (outside, 30))
        self.far = lab.machine("far", (internet, 34))
        self.resolver = lab.machine("resolver", (self.inside, 70))
        self.firewall.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        self.far.run(["ip", "route", "add", "default", "via", "17.188.143.1"])
        self.gate.run(["ip", "route", "add", "17.188.143.0/24", "via", "10.77.2.1"])
        for address in (REFERENCE, BOXES):
            self.far.run(["ip", "address", "add", f"{address}/24", "dev", "eth0"])
        self.gate.resolver(RESOLVER)
        self.outgoing, self.boxes, self.hosts, self.listening = 100, 8100, 0, 3128
        self.nat, self.forward, self.answers, self.waits = [], [], {}, []
        self.at_gate, self.at_resolver = [], []
        self.programs = {}
        self.leaves = far.Leaves(self.world)
        self._usual()

    def _usual(self):
        """What is well in every case."""
        self.dns({APNS_HOST: ORIGIN, SANDBOX: ORIGIN, FCM: REFERENCE, PROXY_HOST: GATE,
                  "corp.example": "", "invalid": ""}, address=RESOLVER)
        self.inner = self.host(route=False)
        chain, key = self.leaves.get("reference")
        self.program(far.Nginx, self.far).server(
            f"listen {REFERENCE}:443 ssl http2", f"ssl_certificate {chain}",
            f"ssl_certificate_key {key}", f"return 401 '{FCM_SAYS}'")
        self._origin()

    def _origin(self):
        chain, key = self.world.origin
        command = [install.PYTHON, PEERS / "origin.py", "--chain", chain, "--key", key,
                   "--ledger", self.far.directory / "origin.jsonl"]
        for port in (443, 2197):
            command += ["--listen", f"{ORIGIN}:{port}"]
        process = self.far.start("origin", command)
        self.waits.append(lambda: process.wait_listening(2197))

    def program(self, kind, machine, *options):
        """The one program of its kind on a machine; started by `start`."""
        name = (kind, machine.name, *options)
        if name not in self.programs:
            self.programs[name] = kind(self, machine, *options)
        return self.programs[name]

    def port(self):
        """A free port of the proxy machine."""
        self.listening += 1
        return self.listening

    def box(self):
        """A free port of the far machine."""
        self.boxes += 1
        return self.boxes

    def source(self):
        """An outgoing address of the proxy machine."""
        self.outgoing += 1
        address = f"10.77.2.{self.outgoing}"
        self.gate.run(["ip", "address", "add", f"{address}/24", "dev", "eth1"])
        return address

    def host(self, dns=None, hosts=None, route=True, commands=(), stub=None):
        """A relay host; with a route it reaches the firewall by itself."""
        self.hosts += 1
        machine = self.lab.machine(f"host{self.hosts}", (self.inside, 100 + self.hosts))
        machine.resolver(dns or RESOLVER)
        machine.hosts({name: address or machine.address
                       for name, address in (hosts or {}).items()})
        if route:
            machine.run(["ip", "route", "add", "default", "via", "10.77.1.1"])
        for command in commands:
            machine.run(command.split())
        if stub is not None:
            self._dnsmasq(machine, "127.0.0.1", [option.format(own=machine.address)
                                                 for option in stub])
        return machine

    def dns(self, names, *options, address=None):
        """A name server with these answers on an address of its own."""
        key = (tuple(names.items()), options)
        if key not in self.answers:
            self.answers[key] = address or self._server_address()
            self._dnsmasq(self.resolver, self.answers[key], [
                "--no-hosts", *options,
                *(f"--address=/{name}/{answer}" for name, answer in names.items())])
        return self.answers[key]

    def deaf_dns(self):
        """A name server that swallows questions."""
        address = self._server_address()
        self.at_resolver.append(f"ip daddr {address} drop")
        return address

    def _server_address(self):
        address = f"10.77.1.{200 + len(self.answers) + len(self.at_resolver)}"
        self.resolver.run(["ip", "address", "add", f"{address}/24", "dev", "eth0"])
        return address

    def _dnsmasq(self, machine, address, options):
        process = machine.start(f"dnsmasq-{address}", [
            "dnsmasq", "-k", "--no-resolv", "--conf-file=/dev/null", "--log-facility=-",
            "--user=root", "--pid-file=", "--bind-interfaces", f"--listen-address={address}",
            *options])
        self.waits.append(lambda: process.wait_listening(53, udp=True))

    def start(self):
        """Starts what the cases asked for and loads the firewall's rules."""
        for program in self.programs.values():
            program.start()
        self._load(self.firewall, [("nat", "prerouting", -100, self.nat),
                                   ("filter", "forward", 0, self.forward)])
        self._load(self.gate, [("filter", "input", 0, self.at_gate)])
        self._load(self.resolver, [("filter", "input", 0, self.at_resolver)])
        for wait in self.waits:
            wait()

    @staticmethod
    def _load(machine, chains):
        text = "table ip matrix {\n"
        for number, (kind, hook, priority, rules) in enumerate(chains):
            body = "".join(f"    {rule};\n" for rule in rules)
            text += (f"  chain c{number} {{\n    type {kind} hook {hook} priority {priority};\n"
                     f"{body}  }}\n")
        machine.run(["nft", "-f", "-"], stdin=text + "}\n")

    def bundle(self, *roots):
        """Several root files in one, for programs that take one only."""
        path = self.lab.directory / f"roots-{len(list(self.lab.directory.glob('roots-*')))}.pem"
        path.write_text("".join(root.read_text() for root in roots))
        return path


