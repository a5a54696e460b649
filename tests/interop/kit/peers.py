"""The other programs on the path: origins, corporate proxies, a KDC, a name server."""

import os
import pathlib
import pwd
import subprocess

from . import install
from .lab import Failure, expect, read_lines, wait_until
from .ledger import KEY_ID, TEAM, TOPIC
from .pki import APNS_HOST

PEERS = pathlib.Path(__file__).resolve().parent.parent / "peers"
PROXY_HOST = "proxy.corp.example"


class Origin:
    """The strict APNs stand-in; `entries` is its ledger."""

    def __init__(self, machine, world, *options, port=443):
        self.ledger = machine.directory / "origin.jsonl"
        chain, key = world.origin
        self.process = machine.start("origin", [
            install.PYTHON, PEERS / "origin.py", "--listen", f"0.0.0.0:{port}", "--chain", chain,
            "--key", key, "--ledger", self.ledger, *options]).wait_listening(port)

    def entries(self):
        """The ledger so far."""
        return read_lines(self.ledger)

    def requests(self):
        """The requests of the ledger so far."""
        return [entry for entry in self.entries() if entry["event"] == "request"]

    def connections(self):
        """How many TLS connections arrived."""
        return sum(entry["event"] == "connection" for entry in self.entries())


class PushProxy:
    """A Mattermost push proxy in the DMZ: plain HTTP/1.1, neither TLS nor authentication."""

    def __init__(self, machine, port=8066):
        self.ledger = machine.directory / "push-proxy.jsonl"
        self.process = machine.start("push-proxy", [
            install.PYTHON, PEERS / "push_proxy.py", str(port), self.ledger]).wait_listening(port)

    def entries(self):
        """The requests so far."""
        return read_lines(self.ledger)


class PushyOrigin:
    """pushy's MockApnsServer, which verifies tokens, topics, ids, lengths."""

    def __init__(self, machine, world, job):
        self.ledger = machine.directory / "pushy.jsonl"
        self.job = job
        tokens = machine.directory / "tokens"
        tokens.write_text("".join(f"{push['token']}\n" for push in job.pushes
                                  if push["token"].startswith("00ff")))
        public = machine.directory / "public.pem"
        subprocess.run(["openssl", "pkey", "-in", world.token_key, "-pubout", "-out", public],
                       check=True, capture_output=True)
        chain, key = world.origin
        self.process = machine.start("pushy", [
            "java", "-cp", install.CLASSPATH, "Interop", "serve", "443", chain, key, public, TEAM,
            KEY_ID, TOPIC, tokens, self.ledger, "true"]).wait_listening(443)

    def entries(self):
        """Its ledger in the shape of the other origin's."""
        entries = []
        for entry in read_lines(self.ledger):
            if entry["event"] != "request":
                continue
            token = entry["path"].rsplit("/", 1)[-1]
            reason = {"accepted": "", "BAD_DEVICE_TOKEN": "BadDeviceToken",
                      "DEVICE_TOKEN_NOT_FOR_TOPIC": "DeviceTokenNotForTopic",
                      "UNREGISTERED": "Unregistered"}.get(entry["verdict"], entry["verdict"])
            status = {"": 200, "Unregistered": 410}.get(reason, 400)
            body = f'{{"reason":"{reason}"}}' if reason else ""
            flags = [] if entry["authority"] == APNS_HOST else [f"authority {entry['authority']}"]
            entries.append({"event": "request", "token": token, "flags": flags, "connection": 1,
                            "fields": [], "answer": {"status": status, "body": body,
                                                     "apns_id": entry["apns_id"]}})
        return entries


def _readable_by(user, path):
    """Gives a folder to the user a daemon changes to."""
    owner = pwd.getpwnam(user)
    for place in [path, *path.rglob("*")]:
        os.chown(place, owner.pw_uid, owner.pw_gid)


class Squid:
    """Squid as a corporate proxy on port 3128 (plain) or 3129 (TLS)."""

    def __init__(self, machine, name="squid", port=3128):
        self.machine, self.name, self.port = machine, name, port
        self.directory = machine.directory / name
        self.directory.mkdir()
        self.access = self.directory / "access.log"
        self.auth, self.ports, self.bump, self.env = [], [f"http_port {port}"], [], {}
        self.process = None

    def basic(self, user, password):
        """Demands Basic credentials."""
        hashed = subprocess.run(["openssl", "passwd", "-apr1", password], capture_output=True,
                                text=True, check=True).stdout.strip()
        (self.directory / "users").write_text(f"{user}:{hashed}\n")
        self.auth = [f"auth_param basic program /usr/lib/squid/basic_ncsa_auth "
                     f"{self.directory}/users", "auth_param basic children 2",
                     "auth_param basic realm Corp"]
        return self

    def ntlm(self, user, password, domain="CORP"):
        """Demands NTLM, verified by pyspnego, which shares no code with the relay.

        The verifier is a process of its own: Squid's user may not read the Python environment.
        """
        accounts = self.directory / "accounts"
        accounts.write_text(f"{domain}:{user}:{password}\n")
        self.ntlm_ledger = self.machine.directory / "ntlm.jsonl"
        self.machine.start("verifier", [install.PYTHON, PEERS / "ntlm_verifier.py", "3199",
                                        accounts, self.ntlm_ledger]).wait_listening(3199)
        helper = self.directory / "ntlm-helper"
        helper.write_text("#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/3199\n"
                          "cat <&3 &\nexec cat >&3\n")
        helper.chmod(0o755)
        self.auth = [f"auth_param ntlm program {helper}",
                     "auth_param ntlm children 4 startup=1", "auth_param ntlm keep_alive on"]
        return self

    def negotiate(self, kdc):
        """Demands Negotiate, verified with the proxy's keytab."""
        keytab = self.directory / "proxy.keytab"
        kdc.keytab(f"HTTP/{PROXY_HOST}", keytab)
        self.auth = [f"auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth "
                     f"-k {keytab} -s HTTP/{PROXY_HOST}@{kdc.REALM} -r",
                     "auth_param negotiate children 2 startup=1",
                     "auth_param negotiate keep_alive on"]
        self.env.update(kdc.env)
        return self

    def tls(self, chain, key, port=3129):
        """Listens with TLS to the proxy itself."""
        both = self.directory / "proxy-tls.pem"
        both.write_text(chain.read_text() + key.read_text())
        self.ports, self.port = [f"https_port {port} tls-cert={both}"], port
        return self

    def inspect(self, authority, upstream_root):
        """Ends TLS and speaks HTTP/1.1 to both sides (ssl-bump)."""
        both = self.directory / "inspection.pem"
        both.write_text(authority.root.read_text() + authority.key.read_text())
        database = self.directory / "minted"
        subprocess.run(["/usr/lib/squid/security_file_certgen", "-c", "-s", database, "-M", "4MB"],
                       check=True, capture_output=True)
        self.ports = [f"http_port {self.port} ssl-bump tls-cert={both} "
                      "generate-host-certificates=on dynamic_cert_mem_cache_size=4MB"]
        self.bump = [f"sslcrtd_program /usr/lib/squid/security_file_certgen -s {database} -M 4MB",
                     "sslcrtd_children 2 startup=1", f"tls_outgoing_options cafile={upstream_root}",
                     "ssl_bump bump all"]
        return self

    def start(self):
        """Writes squid.conf and starts Squid in the foreground."""
        lines = [*self.ports, *self.auth, *self.bump]
        if self.auth:
            lines += ["acl known proxy_auth REQUIRED", "http_access deny !known"]
        lines += [
            "acl push port 443", "http_access deny CONNECT !push", "http_access allow all",
            "cache deny all", "cache_mem 4 MB", "memory_cache_shared off", "pid_filename none",
            "pinger_enable off", f"visible_hostname {PROXY_HOST}", "max_filedescriptors 8192",
            f"access_log stdio:{self.access}", f"cache_log {self.directory}/cache.log",
            f"coredump_dir {self.directory}", "shutdown_lifetime 0 seconds",
            "cache_effective_user proxy", "dns_nameservers 127.0.0.1", "buffered_logs off",
        ]
        config = self.directory / "squid.conf"
        config.write_text("\n".join(lines) + "\n")
        _readable_by("proxy", self.directory)
        self.process = self.machine.start(self.name, ["squid", "-N", "-f", config], env=self.env)
        try:
            self.process.wait_listening(self.port)
        except Failure as failure:
            log = self.directory / "cache.log"
            text = log.read_text()[-1500:] if log.exists() else ""
            raise Failure(f"{failure}\n{text}") from None
        return self

    def log(self):
        """The access log's lines."""
        return self.access.read_text().splitlines() if self.access.exists() else []

    def restart(self):
        """Ends it at once and starts it again."""
        self.process.kill()
        self.start()


class Kdc:
    """MIT krb5kdc with one realm; principals get keytabs."""

    REALM = "CORP.EXAMPLE"

    def __init__(self, machine):
        self.machine = machine
        self.directory = machine.directory / "kdc"
        self.directory.mkdir()
        config = self.directory / "krb5.conf"
        config.write_text(f"""[libdefaults]
 default_realm = {self.REALM}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
[realms]
 {self.REALM} = {{
  kdc = {machine.address}:88
 }}
[domain_realm]
 .corp.example = {self.REALM}
 corp.example = {self.REALM}
""")
        (self.directory / "kdc.conf").write_text(f"""[logging]
 kdc = FILE:{self.directory}/kdc.log
[kdcdefaults]
 kdc_listen = {machine.address}:88
 kdc_tcp_listen = {machine.address}:88
[realms]
 {self.REALM} = {{
  database_name = {self.directory}/principal
  key_stash_file = {self.directory}/stash
  acl_file = {self.directory}/acl
 }}
""")
        self.env = {"KRB5_CONFIG": str(config)}
        self.admin = {**self.env, "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf")}
        machine.run(["kdb5_util", "create", "-s", "-P", "laboratory", "-r", self.REALM],
                    env=self.admin)
        machine.start("krb5kdc", ["krb5kdc", "-n", "-P", self.directory / "pid"],
                      env=self.admin).wait_listening(88)

    def log(self):
        """What was asked of the KDC, one line a request."""
        path = self.directory / "kdc.log"
        return path.read_text().splitlines() if path.exists() else []

    def _kadmin(self, query):
        self.machine.run(["kadmin.local", "-r", self.REALM, "-q", query], env=self.admin)

    def keytab(self, principal, path):
        """A principal with a random key, and the keytab that holds it."""
        # As Active Directory does: without pre-authentication nothing tells a wrong key.
        self._kadmin(f"addprinc -randkey +requires_preauth {principal}")
        self._kadmin(f"ktadd -k {path} {principal}")
        expect(path.exists(), f"kadmin made no keytab for {principal}")
        return path


class Tinyproxy:
    """tinyproxy with Basic credentials on port 3128."""

    def __init__(self, machine, user, password):
        folder = machine.directory / "tinyproxy"
        folder.mkdir()
        config = folder / "tinyproxy.conf"
        config.write_text(f'Port 3128\nListen 0.0.0.0\nTimeout 600\nMaxClients 100\n'
                          f'Allow 10.77.0.0/16\nConnectPort 443\nBasicAuth {user} {password}\n'
                          f'LogFile "{folder}/log"\nLogLevel Connect\n')
        self.process = machine.start("tinyproxy", ["tinyproxy", "-d", "-c", config])
        self.process.wait_listening(3128)


class Mitmproxy:
    """mitmproxy on port 3128, ending TLS with its own root; h2 on both sides if both offer it."""

    def __init__(self, machine, upstream_root, *options, env=None):
        self.folder = machine.directory / "mitmproxy"
        self.folder.mkdir()
        self.process = machine.start("mitmproxy", [
            install.MITMDUMP, "--quiet", "--listen-port", "3128", "--set",
            f"confdir={self.folder}", "--set",
            f"ssl_verify_upstream_trusted_ca={upstream_root}", *options], env=env)
        self.process.wait_listening(3128)
        self.root = self.folder / "mitmproxy-ca-cert.pem"
        wait_until(self.root.exists, "mitmproxy's root")


class Haproxy:
    """HAProxy as a TCP balancer on port 443; `header` is send-proxy or send-proxy-v2."""

    def __init__(self, machine, relay, header):
        config = machine.directory / "haproxy.cfg"
        config.write_text("defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n"
                          " timeout server 1m\nlisten push\n bind 0.0.0.0:443\n"
                          f" server relay {relay}:443 {header}\n")
        self.process = machine.start("haproxy", ["haproxy", "-db", "-f", config])
        self.process.wait_listening(443)


class Dnsmasq:
    """dnsmasq that answers these names and nothing else, without any hosts file."""

    def __init__(self, machine, names, hosts=False):
        command = ["dnsmasq", "-k", "--no-resolv", "--conf-file=/dev/null", "--log-facility=-",
                   "--log-queries", "--user=root", "--pid-file="]
        if not hosts:
            command.append("--no-hosts")
        command += [f"--address=/{name}/{address}" for name, address in names.items()]
        self.process = machine.start("dnsmasq", command).wait_listening(53, udp=True)
