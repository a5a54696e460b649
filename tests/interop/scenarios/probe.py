"""`pushrelay probe` among real programs: each fault ends with its code and names no other hop."""

import json

from kit.lab import expect
from kit.peers import PROXY_HOST, Origin, Squid
from kit.pki import APNS_HOST, World
from kit.registry import scenario
from kit.relay import build

from .placements import corporate_names


class _Path:
    """relay host -> Squid -> origin, with a probe at its start."""

    def __init__(self, lab, prepare=None, origin=True):
        self.world = World(lab)
        machines = lab.corporate()
        self.host, self.proxy = machines["pre"], machines["proxy"]
        self.far = machines["origin"]
        corporate_names(self.host, {self.proxy: PROXY_HOST})
        self.proxy.hosts({APNS_HOST: self.far.address})
        squid = Squid(self.proxy)
        if prepare:
            prepare(squid, self.world)
        squid.start()
        if origin:
            Origin(self.far, self.world)

    def probe(self, code, hop, *options, target=APNS_HOST):
        """Probes and compares the verdict."""
        done = self.host.run([build(), "probe", "--json", "--proxy", f"http://{PROXY_HOST}:3128",
                              "--roots", self.world.root, *options, target], check=False)
        verdict = json.loads(done.stdout)["verdict"]
        expect((verdict["code"], verdict["hop"]) == (code, hop),
               f"wanted {code} at {hop}, got {verdict} {done.stdout[-3000:]}")


@scenario("ci")
def probe_through_squid(lab):
    """Squid: a healthy path, a forbidden port, a name it does not know, dropped and reset."""
    path = _Path(lab)
    path.probe("ok", "none")
    # Squid says ERR_CANNOT_FORWARD for its own name server and for a dead parent alike.
    path.probe("proxy_cannot_forward", "proxy", target="unknown.push.invalid")
    path.probe("works_on_other_port", "proxy", target=f"{APNS_HOST}:2197")
    _filter(path.far, 443, "reject with tcp reset")
    path.probe("beyond_proxy_refused", "beyond-proxy")
    _filter(path.far, 443, "drop")
    path.probe("connect_timeout", "beyond-proxy", "--control", f"{APNS_HOST}:444")
    _filter(path.proxy, 3128, "drop")
    path.probe("proxy_filtered", "to-proxy")
    _filter(path.proxy, 3128, "reject with tcp reset")
    path.probe("proxy_port_closed", "to-proxy")


def _filter(machine, port, verdict):
    """One firewall rule on a machine, in place of the one before."""
    rules = machine.directory / "rules.nft"
    rules.write_text("table inet probe\ndelete table inet probe\ntable inet probe {\n"
                     "  chain i { type filter hook input priority 0;\n"
                     f"    tcp dport {port} {verdict};\n  }}\n}}\n")
    machine.run(["nft", "-f", rules])


@scenario("ci")
def probe_through_inspecting_squid(lab):
    """Squid with ssl-bump is named as the inspector, with and without its root."""
    made = {}

    def bump(squid, world):
        made["root"] = world.inspection()
        squid.inspect(made["root"], world.root)

    path = _Path(lab, bump)
    path.probe("unknown_issuer", "inspector")
    done = path.host.run([build(), "probe", "--json", "--proxy", f"http://{PROXY_HOST}:3128",
                          "--roots", path.world.root, "--inspection-roots", made["root"].root,
                          APNS_HOST], check=False)
    verdict = json.loads(done.stdout)["verdict"]
    expect(verdict["hop"] == "inspector" and verdict["code"].startswith("alpn_"), f"{verdict}")
