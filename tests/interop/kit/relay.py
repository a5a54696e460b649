"""The relay under test: its binary, its relay.yaml, its process."""

import json
import os
import pathlib
import shutil
import subprocess

from . import install
from .lab import Failure, expect, wait_until
from .pki import APNS_HOST

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = pathlib.Path(os.environ.get("PUSHRELAY_INTEROP_BINARY")
                      or ROOT / "target" / "release" / "pushrelay")


def yaml(value, indent=0):
    """relay.yaml as an operator would write it; scalars in JSON's form, which YAML reads."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for key, inner in value.items():
            if isinstance(inner, (dict, list)) and inner:
                lines.append(f"{pad}{key}:\n{yaml(inner, indent + 1)}")
            else:
                lines.append(f"{pad}{key}: {json.dumps(inner)}\n")
        return "".join(lines)
    lines = []
    for inner in value:
        if isinstance(inner, dict) and inner:
            lines.append(f"{pad}- {yaml(inner, indent + 1).lstrip()}")
        else:
            lines.append(f"{pad}- {json.dumps(inner)}\n")
    return "".join(lines)


def listener(networks=("10.77.0.0/16",), accept=("tls",), bind=("0.0.0.0:443",), **more):
    """One listener."""
    return {"name": "front", "bind": list(bind), "accept": list(accept),
            "networks": list(networks), **more}


def route(egress="out", **more):
    """The APNs route."""
    return {"provider": "apns", "egress": egress, **more}


def proxies(*urls, roots, credentials=None, proxy_roots=None, **more):
    """An egress through these proxies."""
    entries = []
    for url in urls:
        entry = {"url": url}
        if credentials:
            entry["credentials"] = credentials
        if proxy_roots:
            entry["roots"] = [str(proxy_roots)]
        entries.append(entry)
    return {"out": {"proxies": entries, "roots": [str(roots)], **more}}


def direct(roots, **more):
    """A direct egress."""
    return {"out": {"roots": [str(roots)], **more}}


class Relay:
    """A relay on a machine: its folder, its certificates, its process."""

    def __init__(self, machine, egress, listeners=None, routes=None, name="relay", env=None,
                 binary=None, **more):
        self.machine, self.name, self.env = machine, name, env or {}
        self.binary = pathlib.Path(binary or BINARY)
        if not self.binary.exists():
            raise Failure(f"no relay to test at {self.binary}: cargo build --release")
        self.directory = machine.directory / name
        self.directory.mkdir()
        self.config = {"version": 1, "drain": "10s", "listeners": listeners or [listener()],
                       "routes": routes or [route()], "egress": egress,
                       "issuer": {"chain": "certs/issuer.pem", "key": "certs/issuer.key"},
                       "admin": {"bind": "127.0.0.1:0"}, **more}
        self.write()
        self.process = None
        self.ready = self.directory / "ready.json"

    def write(self):
        """Writes relay.yaml anew."""
        (self.directory / "relay.yaml").write_text(yaml(self.config))

    @property
    def root(self):
        """The certificate that senders import."""
        return self.directory / "certs" / "root.pem"

    def secret(self, name, text):
        """A file that only its owner may read; gives the reference to it."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return {"file": name}

    def command(self, *arguments, check=True, deadline=None):
        """Runs a pushrelay command on the machine."""
        return self.machine.run([self.binary, *arguments], check=check, deadline=deadline,
                                env=self.env, folder=self.directory)

    def certificates(self):
        """`ca init`, its root key outside the relay's folder."""
        (self.directory / "certs").mkdir(exist_ok=True)
        offline = self.machine.directory / f"offline-{self.name}"
        offline.mkdir(exist_ok=True, mode=0o700)
        self.command("ca", "init", "--root-key", offline / "root.key", "--config", "relay.yaml")
        expect(self.root.exists(), "ca init made no certs/root.pem")
        return self

    def start(self):
        """`run`; returns when the relay says that it serves."""
        self.ready.unlink(missing_ok=True)
        self.process = self.machine.start(
            self.name, [self.binary, "run", "--config", self.directory / "relay.yaml"],
            env={**self.env, "PUSHRELAY_READY_FILE": str(self.ready)})

        def serving():
            expect(self.process.alive(), f"the relay ended early:\n{self.process.tail(20)}")
            try:
                return json.loads(self.ready.read_text())
            except (OSError, ValueError):
                return None
        self.listening = wait_until(serving, "the relay to serve")
        return self

    def up(self):
        """Certificates and start in one."""
        return self.certificates().start()

    def succeed(self):
        """SIGTERM, and a successor at once; gives the process that drains."""
        drains = self.process
        drains.signal(15)
        self.start()
        return drains

    def stop(self):
        """SIGTERM; the exit code after the drain."""
        self.process.signal(15)
        return self.process.wait(20)

    def connect(self, path):
        """A page of the admin server."""
        return self.machine.run(["curl", "-qsS", "--max-time", "5",
                                 f"http://{self.listening['admin']}{path}"]).stdout

    def says(self, *words):
        """Whether one line of its log holds all these words."""
        return any(all(word in line for word in words)
                   for line in self.process.output().splitlines())


def build(features=None):
    """Builds the binary; with features in the dev profile, whose libraries `cargo test` built."""
    if not features:
        if not os.environ.get("PUSHRELAY_INTEROP_BINARY"):
            _cargo("--release")
        return BINARY
    given = os.environ.get(f"PUSHRELAY_INTEROP_BINARY_{features.upper()}")
    if given:
        return pathlib.Path(given)
    install.feature(features)
    _cargo("--features", features)
    # The next build without the feature replaces target/debug/pushrelay.
    kept = ROOT / "target" / f"pushrelay-with-{features}"
    shutil.copy2(ROOT / "target" / "debug" / "pushrelay", kept)
    return kept


def _cargo(*options):
    command = ["cargo", "build", "--quiet", "--locked", "--bin", "pushrelay", "--manifest-path",
               ROOT / "Cargo.toml", *options]
    env = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env)
    if done.returncode:
        raise Failure(f"cargo build: {done.stderr[-1500:]}")


__all__ = ["APNS_HOST", "BINARY", "Relay", "build", "direct", "listener", "proxies", "route"]
