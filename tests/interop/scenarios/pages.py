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
    world, machines = World(lab), lab.corporate()
    host, proxy, far = machines["pre"], machines["proxy"], machines["origin"]
    corporate_names(host, {proxy: PROXY_HOST})
    proxy.hosts({APNS_HOST: far.address})
    squid = Squid(proxy)
    prepare(squid, world)
    squid.start()
    Origin(far, world)
    if said == "beyond-proxy":
        rules = far.directory / "rules.nft"
        rules.write_text("table inet pages {\n  chain i { type filter hook input priority 0;\n"
                         "    tcp dport 443 drop;\n  }\n}\n")
        far.run(["nft", "-f", rules])
    report = host.directory / "egress.html"
    host.run([build(), "probe", "--proxy", f"http://{PROXY_HOST}:3128", "--roots",
                   world.root, "--report", report, APNS_HOST], check=False)
    expect(said in report.read_text(), f"not the page of this case: {report.read_text()}")
    looked = [report]
    if said == "OK":
        egress = proxies(f"http://{PROXY_HOST}:3128", roots=world.root)
        relay = Relay(host, egress).certificates().start()
        page = host.directory / "status.html"
        page.write_text(relay.connect("/"))
        looked.append(page)
    done = subprocess.run(["node", CLIENTS / "pages.js", install.PAGES_MODULES, *looked],
                          capture_output=True, text=True, timeout=120)
    expect(done.returncode == 0, f"{done.stdout}{done.stderr[-2000:]}")
