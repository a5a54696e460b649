"""The proxies of the company: Squid and HAProxy by port, tinyproxy, mitmproxy, user-space boxes."""

import subprocess

from kit import install
from kit.peers import PROXY_HOST, _readable_by
from kit.lab import wait_until


ADDRESS = "10.77.1.30"
USER, PASSWORD = "svc-push", "s3cret"


class Squid:
    """One Squid with many ports, each with rules of its own (`{p}` is the port's name).

    Kinds: `main`; `ntlm` offers no Basic and has a name server that refuses; `silent` has one that
    swallows questions; `hasty` gives up on a connection after a second. What Squid mints it
    keeps for all its ports, so `second` inspects with another root than `main`.
    """

    def __init__(self, site, machine, kind):
        self.site, self.machine, self.kind = site, machine, kind
        self.directory = machine.directory / f"squid-{kind}"
        self.directory.mkdir()
        self.ports, self.rules, self.bumps, self.minted = [], [], False, None
        self.last = 0
        # A name server without answers and without anybody to ask refuses.
        self.refusing = site.dns({"other.example": ""}) if kind == "ntlm" else None

    def port(self, lines, source, bump=None, tls=None):
        """Adds a port; its number."""
        port = self.site.port()
        self.last, name = port, f"p{port}"
        kind, more = "http_port", ""
        if bump:
            both = self.directory / f"{bump}.pem"
            authority = self.site.leaves.authority(bump)
            both.write_text(authority.root.read_text() + authority.key.read_text())
            more = (f" ssl-bump tls-cert={both} generate-host-certificates=on"
                    " dynamic_cert_mem_cache_size=4MB")
            self.bumps = True
        if tls:
            kind, more = "https_port", f" tls-cert={self.site.leaves.both(tls)}"
        self.ports.append(f"{kind} {ADDRESS}:{port} name={name}{more}")
        self.rules += [f"acl {name} myportname {name}", f"tcp_outgoing_address {source} {name}",
                       *(line.format(p=name) for line in lines)]
        return port

    def _globals(self):
        users = self.directory / "users"
        lines = []
        for user in (USER, "other"):
            hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], capture_output=True,
                                    text=True, check=True).stdout.strip()
            lines.append(f"{user}:{hashed}\n")
        users.write_text("".join(lines))
        basic = ["auth_param basic program /usr/lib/squid/basic_ncsa_auth " + str(users),
                 "auth_param basic children 2 startup=1", "auth_param basic realm Corp"]
        ntlm = ["auth_param ntlm program /usr/lib/squid/ntlm_fake_auth",
                "auth_param ntlm children 2 startup=1"]
        kinds = {"main": [*basic, "dns_nameservers 10.77.1.70"],
                 "ntlm": [*ntlm, f"dns_nameservers {self.refusing}", "hosts_file none"],
                 "silent": [*basic, f"dns_nameservers {self.site.deaf_dns()}", "hosts_file none"]
                 if self.kind == "silent" else [],
                 "second": [*basic, "dns_nameservers 10.77.1.70"],
                 "hasty": [*basic, "dns_nameservers 10.77.1.70", "connect_timeout 1 second",
                           "forward_max_tries 1"]}
        return kinds[self.kind]

    def start(self):
        """Writes squid.conf and starts it."""
        lines = self._globals()
        if self.bumps:
            database = self.directory / "minted"
            subprocess.run(["/usr/lib/squid/security_file_certgen", "-c", "-s", database, "-M",
                            "4MB"], check=True, capture_output=True)
            lines += [f"sslcrtd_program /usr/lib/squid/security_file_certgen -s {database} -M 4MB",
                      "sslcrtd_children 2 startup=1",
                      f"tls_outgoing_options cafile={self.site.world.root}"]
        lines += [
            *self.ports, "acl p443 port 443", "acl apple dstdomain .push.apple.com",
            "acl known proxy_auth REQUIRED", "acl nobody proxy_auth nobody",
            "acl step1 at_step SslBump1", "acl sni ssl::server_name .push.apple.com",
            "cache_peer 10.77.2.250 parent 3128 0 name=dead no-query no-digest connect-timeout=1",
            *self.rules, "cache_peer_access dead deny all", "http_access allow all",
            "cache deny all", "cache_mem 4 MB", "memory_cache_shared off", "pid_filename none",
            "pinger_enable off", f"visible_hostname {PROXY_HOST}", "max_filedescriptors 1024",
            f"access_log stdio:{self.directory}/access.log",
            f"cache_log {self.directory}/cache.log", f"coredump_dir {self.directory}",
            "shutdown_lifetime 0 seconds", "cache_effective_user proxy",
        ]
        config = self.directory / "squid.conf"
        config.write_text("\n".join(lines) + "\n")
        _readable_by("proxy", self.directory)
        _readable_by("proxy", self.site.leaves.directory)
        process = self.machine.start(f"squid-{self.kind}", ["squid", "-N", "-f", config])
        self.site.waits.append(lambda: process.wait_listening(self.last))


class Tinyproxy:
    """tinyproxy with these lines."""

    def __init__(self, site, machine, port, lines):
        self.site, self.machine, self.port, self.lines = site, machine, port, lines
        self.process = None

    def start(self):
        """Writes its configuration and starts it."""
        folder = self.machine.directory / f"tinyproxy-{self.port}"
        folder.mkdir()
        config = folder / "tinyproxy.conf"
        config.write_text(f'Port {self.port}\nListen 0.0.0.0\nTimeout 600\nMaxClients 20\n'
                          f'LogFile "{folder}/log"\nLogLevel Connect\n'
                          + "".join(f"{line}\n" for line in self.lines))
        self.process = self.machine.start(f"tinyproxy-{self.port}",
                                          ["tinyproxy", "-d", "-c", config])
        self.site.waits.append(lambda: self.process.wait_listening(self.port))


BLOCK_PAGE = '''
from mitmproxy import http

PAGE = b"<html><body>Category: messaging. Blocked by policy.</body></html>"

class CompanyPage:
    def request(self, flow):
        if flow.client_conn.sockname[1] == %d:
            flow.response = http.Response.make(403, PAGE, {"content-type": "text/html"})

addons = [CompanyPage()]
'''


class Mitmproxy:
    """mitmproxy: kind `h2` on two ports, of which the second blocks; kind `http1` on one."""

    def __init__(self, site, machine, kind):
        self.site, self.machine, self.kind = site, machine, kind
        self.folder = machine.directory / "mitmproxy"
        self.ports = [site.port(), site.port()] if kind == "h2" else [site.port()]
        self.root = self.folder / "mitmproxy-ca-cert.pem"

    def start(self):
        """Starts it; both share one root."""
        self.folder.mkdir(exist_ok=True)
        command = [install.MITMDUMP, "--quiet", "--set", f"confdir={self.folder}", "--set",
                   f"ssl_verify_upstream_trusted_ca={self.site.world.root}"]
        for port in self.ports:
            command += ["--mode", f"regular@{ADDRESS}:{port}"]
        if self.kind == "h2":
            addon = self.machine.directory / "company_page.py"
            addon.write_text(BLOCK_PAGE % self.ports[1])
            command += ["--scripts", addon]
        else:
            command += ["--set", "http2=false"]
        process = self.machine.start(f"mitmproxy-{self.kind}", command)
        self.site.waits.append(lambda: process.wait_listening(self.ports[-1]))
        wait_until(self.root.exists, "mitmproxy's root")


