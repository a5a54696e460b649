"""The pages for people in a browser: no fault of axe-core, nothing wider than the screen."""

import subprocess

from kit import install
from kit.lab import expect
from kit.peers import PROXY_HOST, Origin, Squid
from kit.pki import APNS_HOST, World
from kit.registry import several
from kit.relay import Relay, build, proxies
from kit.senders import CLIENTS

from .placements import corporate_names


class _Path:
    """relay host -> Squid -> origin."""

    def __init__(self, lab, prepare):
        self.world = World(lab)
        machines = lab.corporate()
        self.host, self.proxy, self.far = machines["pre"], machines["proxy"], machines["origin"]
        corporate_names(self.host, {self.proxy: PROXY_HOST})
        self.proxy.hosts({APNS_HOST: self.far.address})
        squid = Squid(self.proxy)
        prepare(squid, self.world)
        squid.start()
        Origin(self.far, self.world)


def _dropped(machine, port):
    """A firewall that drops what comes to this port."""
    machine.run(["nft", "-f", "-"], stdin="table inet probe {\n  chain i { type filter hook input "
                f"priority 0;\n    tcp dport {port} drop;\n  }}\n}}\n")


def _healthy(squid, world):
    """Nothing to prepare."""


def _auth(squid, world):
    squid.basic("mpns", "secret")


def _inspected(squid, world):
    squid.inspect(world.inspection(), world.root)


CASES = {"healthy": (_healthy, "OK"), "auth": (_auth, "proxy_auth_missing"),
         "inspected": (_inspected, "unknown_issuer"), "filtered": (_healthy, "beyond-proxy")}


@several(CASES, "nightly")
def pages(lab, case):
    """The probe's report and the status page pass axe-core in both colour schemes and two widths."""
    prepare, said = case
    install.pages()
    path = _Path(lab, prepare)
    if said == "beyond-proxy":
        _dropped(path.far, 443)
    report = path.host.directory / "egress.html"
    path.host.run([build(), "probe", "--proxy", f"http://{PROXY_HOST}:3128", "--roots",
                   path.world.root, "--report", report, APNS_HOST], check=False)
    expect(said in report.read_text(), f"not the page of this case: {report.read_text()}")
    looked = [report]
    if said == "OK":
        egress = proxies(f"http://{PROXY_HOST}:3128", roots=path.world.root)
        relay = Relay(path.host, egress).certificates().start()
        page = path.host.directory / "status.html"
        page.write_text(relay.connect("/"))
        looked.append(page)
    done = subprocess.run(["node", CLIENTS / "pages.js", install.PAGES_MODULES, *looked],
                          capture_output=True, text=True, timeout=120)
    expect(done.returncode == 0, f"{done.stdout}{done.stderr[-2000:]}")
