"""A laboratory: machines (network namespaces) on networks (bridges), and the processes in them.

A machine has its own hosts file, resolv.conf, port 443 and no route but to the networks it is
plugged into. So a topology proves what it claims: where the inside network has no link to the
outside one, whatever arrives outside went through the proxy between them.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

DEADLINE = float(os.environ.get("PUSHRELAY_INTEROP_DEADLINE", "30"))
PREFIX = "pr-"
_serial = 0
_serial_lock = threading.Lock()


class Failure(Exception):
    """What a scenario says when the product or a peer did not do what it claims."""


def expect(condition, message):
    """Fails the scenario unless the condition holds."""
    if not condition:
        raise Failure(message)


def wait_until(condition, what, deadline=None):
    """Polls until the condition gives something true; that value is returned."""
    end = time.monotonic() + (deadline or DEADLINE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"timed out waiting for {what}")
        time.sleep(0.02)


def _ip(*arguments):
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def sweep():
    """Removes namespaces of runs that no longer live (a killed run cannot clean up)."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0] if line.strip() else ""
        parts = name.split("-")
        if not name.startswith(PREFIX) or len(parts) < 3 or not parts[1].isdigit():
            continue
        if not os.path.exists(f"/proc/{parts[1]}"):
            _remove_namespace(name)


def _remove_namespace(name):
    pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, timeout=20)
    for pid in pids.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20)
    shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)


class Process:
    """A program that runs in a machine until it is stopped; its output is in `log`."""

    def __init__(self, name, popen, log):
        self.name, self.popen, self.log = name, popen, log

    @property
    def pid(self):
        """The program's own process id."""
        return self.popen.pid

    def alive(self):
        """Whether it still runs."""
        return self.popen.poll() is None

    def output(self):
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def tail(self, lines=12):
        """Its last lines, for a failure's message."""
        return "\n".join(self.output().splitlines()[-lines:])

    def signal(self, number):
        """Sends a signal to the program."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.popen.pid, number)

    def wait(self, deadline=None):
        """Waits for its end; the exit code."""
        try:
            return self.popen.wait(deadline or DEADLINE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end:\n{self.tail()}") from None

    def stop(self, grace=3.0):
        """Asks it to end, then ends it and whatever it started."""
        if self.alive():
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(grace)
        self.kill()

    def kill(self):
        """Ends the whole process group at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(5)

    def wait_listening(self, port, deadline=None, udp=False):
        """Waits until something in this process' namespace listens on the port."""
        def check():
            if not self.alive():
                raise Failure(f"{self.name} ended early ({self.popen.returncode}):\n{self.tail()}")
            return _listens(self.pid, port, udp)
        wait_until(check, f"{self.name} to listen on {port}\n{self.tail()}", deadline)
        return self


def _listens(pid, port, udp):
    wanted = f":{port:04X}"
    state = "07" if udp else "0A"
    for table in (("udp", "udp6") if udp else ("tcp", "tcp6")):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                columns = line.split()
                if columns[1].endswith(wanted) and columns[3] == state:
                    return True
    return False


class Network:
    """A switch that machines are plugged into."""

    def __init__(self, lab, name, prefix):
        self.lab, self.name, self.prefix = lab, name, prefix
        self.namespace = lab._namespace(f"sw{name}")
        self.ports = 0
        _ip("-n", self.namespace, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.namespace, "link", "set", "br0", "up")

    def address(self, number):
        """The address of host `number`."""
        return f"{self.prefix}.{number}"


class Machine:
    """One network namespace: a host with its own names, addresses and ports."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.namespace = lab._namespace(name)
        self.addresses, self.networks, self.env = [], [], {}
        self.directory = lab.directory / name
        self.directory.mkdir()
        self.directory.chmod(0o755)
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        self.hosts({})
        self.resolver(None)

    @property
    def address(self):
        """Its first address."""
        return self.addresses[0]

    def plug(self, network, number):
        """Connects it to a network as host `number`."""
        device = f"eth{len(self.addresses)}"
        network.ports += 1
        _ip("-n", self.namespace, "link", "add", device, "type", "veth",
            "peer", "name", f"p{network.ports}", "netns", network.namespace)
        _ip("-n", network.namespace, "link", "set", f"p{network.ports}", "master", "br0", "up")
        address = network.address(number)
        _ip("-n", self.namespace, "address", "add", f"{address}/24", "dev", device)
        _ip("-n", self.namespace, "link", "set", device, "up")
        self.addresses.append(address)
        self.networks.append(network)
        return self

    def hosts(self, entries):
        """Writes its hosts file: name -> address."""
        lines = ["127.0.0.1 localhost"] + [f"{address} {name}" for name, address in entries.items()]
        (self._etc() / "hosts").write_text("\n".join(lines) + "\n")
        return self

    def resolver(self, address):
        """Writes its resolv.conf; without an address no name resolves."""
        line = f"nameserver {address or '127.0.0.1'}\noptions timeout:1 attempts:1\n"
        (self._etc() / "resolv.conf").write_text(line)
        return self

    def _etc(self):
        etc = pathlib.Path("/etc/netns") / self.namespace
        etc.mkdir(parents=True, exist_ok=True)
        return etc

    def _command(self, command):
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]

    def run(self, command, deadline=None, check=True, env=None, stdin=None, folder=None):
        """Runs a program to its end and gives what it wrote."""
        try:
            done = subprocess.run(
                self._command(command), capture_output=True, text=True, errors="replace",
                timeout=deadline or DEADLINE, env=_environment({**self.env, **(env or {})}), 
                cwd=folder or self.directory, input=stdin)
        except subprocess.TimeoutExpired as late:
            written = (late.stdout or b"")[-600:], (late.stderr or b"")[-600:]
            raise Failure(f"{command[0]} on {self.name} ran past its deadline: {written}") from None
        if check and done.returncode:
            raise Failure(f"{command[0]} on {self.name} gave {done.returncode}: "
                          f"{done.stderr[-1200:].strip()} {done.stdout[-400:].strip()}")
        return done

    def start(self, name, command, env=None):
        """Starts a program that keeps running."""
        log = self.directory / f"{name}.log"
        with log.open("ab") as sink:
            popen = subprocess.Popen(
                self._command(command), stdout=sink, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
                env=_environment({**self.env, **(env or {})}),
                cwd=self.directory)
        process = Process(name, popen, log)
        self.lab.processes.append(process)
        return process


def _environment(extra):
    env = {key: value for key, value in os.environ.items()
           if key.lower() not in ("http_proxy", "https_proxy", "no_proxy", "all_proxy")}
    env.update(extra or {})
    return env


class Lab:
    """A scenario's networks and machines; everything goes when it is left."""

    def __init__(self, name):
        self.name = name
        self.processes, self.namespaces = [], []

    def __enter__(self):
        global _serial
        with _serial_lock:
            _serial += 1
            self.serial = _serial
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"pushrelay-{self.name}-"))
        self.directory.chmod(0o755)
        return self

    def __exit__(self, kind, value, trace):
        # A scenario that cares how a program ends stops it itself.
        for process in reversed(self.processes):
            process.kill()
        for namespace in reversed(self.namespaces):
            _remove_namespace(namespace)
        kept = os.environ.get("PUSHRELAY_INTEROP_KEEP")
        if kept and kind:
            target = pathlib.Path(kept) / self.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(self.directory, target, ignore_dangling_symlinks=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        return False

    def _namespace(self, name):
        full = f"{PREFIX}{os.getpid()}-{self.serial}-{name}"
        _ip("netns", "add", full)
        self.namespaces.append(full)
        return full

    def network(self, name, prefix):
        """A new switch, for example `network("inside", "10.77.1")`."""
        return Network(self, name, prefix)

    def machine(self, name, *plugs):
        """A new machine plugged into `(network, host number)` pairs."""
        machine = Machine(self, name)
        for network, number in plugs:
            machine.plug(network, number)
        return machine

    def corporate(self, inside=("sender", "pre", "proxy"), outside=("proxy", "origin")):
        """The usual placement: an inside network, an outside one, a proxy between them."""
        networks = self.network("in", "10.77.1"), self.network("out", "10.77.2")
        machines = {}
        for network, names in zip(networks, (inside, outside)):
            for name in names:
                machine = machines.get(name) or machines.setdefault(name, Machine(self, name))
                machine.plug(network, NUMBERS[name])
        return machines


# Host numbers, so that addresses read the same in every scenario.
NUMBERS = {"sender": 10, "pre": 20, "proxy": 30, "proxyb": 31, "post": 40, "origin": 50,
           "kdc": 60, "resolver": 70, "stranger": 90}


def read_lines(path):
    """The JSON values of a ledger, one a line; a line being written is left out."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            entries.append(json.loads(line))
    return entries
