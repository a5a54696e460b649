"""Installs what the suite needs, once; a rerun finds it in the cache.

Every version is fixed: a failure is then the relay's or a known peer's, never a surprise update's.
"""

import fcntl
import glob
import hashlib
import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
CACHE = CACHE / "pushrelay-interop"
PYTHON = CACHE / "venv" / "bin" / "python"
MITMDUMP = CACHE / "mitm" / "bin" / "mitmdump"
NODE_MODULES = CACHE / "node" / "node_modules"
GO_SENDER = CACHE / "go-sender"
CLASSPATH = f"{CACHE}/java/classes:{CACHE}/java/lib/*"

# Debian package -> a file that it brings.
PACKAGES = {
    "squid-openssl": "/usr/lib/squid/security_file_certgen",
    "nghttp2-client": "/usr/bin/nghttp",
    "curl": "/usr/bin/curl",
    "openssl": "/usr/bin/openssl",
    "iproute2": "/usr/sbin/ip",
    "nftables": "/usr/sbin/nft",
    "dnsmasq-base": "/usr/sbin/dnsmasq",
    "haproxy": "/usr/sbin/haproxy",
    "tinyproxy-bin": "/usr/bin/tinyproxy",
    "nginx-light": "/usr/sbin/nginx",
    "libfaketime": "/usr/lib/*/faketime/libfaketime.so.1",
    "krb5-kdc": "/usr/sbin/krb5kdc",
    "krb5-admin-server": "/usr/sbin/kadmin.local",
    "krb5-user": "/usr/bin/kinit",
    "python3-venv": "/usr/lib/python3*/ensurepip/__init__.py",
}
# What only a build of the relay with this cargo feature needs.
FEATURES = {
    "negotiate": {
        "libkrb5-dev": "/usr/include/gssapi/gssapi.h",
        "libclang-dev": "/usr/lib/llvm-*/lib/libclang.so",
    },
}
PYPI = ["aioapns==4.0", "h2==4.4.1", "httpx[http2]==0.28.1", "pyspnego==0.12.4"]
MITMPROXY = "mitmproxy==11.0.2"
NODE_APN = "@parse/node-apn@8.1.0"
# What only the nightly look at the pages needs.
PAGES = ["axe-core@4.14.1", "puppeteer-core@24.43.1"]
PAGES_MODULES = CACHE / "pages" / "node_modules"


def _run(command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} gave {done.returncode}:\n"
                         f"{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout


def _stamp(name, *facts):
    """A file that says which inputs the cached part was made from."""
    digest = hashlib.sha256("\0".join(map(str, facts)).encode()).hexdigest()
    path = CACHE / f"{name}.stamp"
    return path, digest, path.exists() and path.read_text() == digest


def everything():
    """Installs what is missing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        debian(PACKAGES)
        python()
        node()
        go()
        java()


def feature(name):
    """Installs what a build with this cargo feature needs."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        debian(FEATURES.get(name, {}))


def debian(packages):
    """Debian packages. No maintainer script may start a daemon here."""
    missing = [name for name, file in packages.items() if not glob.glob(file)]
    if not missing:
        return
    guard = pathlib.Path("/usr/sbin/policy-rc.d")
    ours = not guard.exists()
    if ours:
        guard.write_text("#!/bin/sh\nexit 101\n")
        guard.chmod(0o755)
    try:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=env, capture_output=True)
        _run(["apt-get", "-o", "DPkg::Lock::Timeout=600", "install", "-y", "-qq",
              "--no-install-recommends", *missing], env=env)
    finally:
        if ours:
            guard.unlink()


def _venv(folder, requirements):
    path, digest, current = _stamp(folder, *requirements)
    if current:
        return
    shutil.rmtree(CACHE / folder, ignore_errors=True)
    _run(["python3", "-m", "venv", CACHE / folder])
    _run([CACHE / folder / "bin" / "pip", "-q", "install", "--prefer-binary", *requirements])
    path.write_text(digest)


def python():
    """PyPI packages; mitmproxy pins its own h2, so it has a folder of its own."""
    _venv("venv", PYPI)
    _venv("mitm", [MITMPROXY])


def node():
    """npm packages."""
    _npm("node", [NODE_APN])


def pages():
    """A browser, and axe-core for it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        debian({"chromium": "/usr/bin/chromium"})
        _npm("pages", PAGES)


def _npm(folder, packages):
    path, digest, current = _stamp(folder, *packages)
    if not current:
        (CACHE / folder).mkdir(exist_ok=True)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix",
              CACHE / folder, *packages])
        path.write_text(digest)


def go():
    """The Go senders."""
    source = HERE / "clients" / "go"
    facts = [(source / name).read_text() for name in ("main.go", "go.mod", "go.sum")]
    path, digest, current = _stamp("go", *facts)
    if not current:
        _run(["go", "build", "-o", GO_SENDER, "."], cwd=source)
        path.write_text(digest)


def java():
    """pushy and our small main class."""
    source = HERE / "clients" / "java"
    facts = [(source / name).read_text() for name in ("Interop.java", "pom.xml")]
    path, digest, current = _stamp("java", *facts)
    if not current:
        _run(["mvn", "-q", "-B", "-f", source / "pom.xml", "dependency:copy-dependencies",
              f"-DoutputDirectory={CACHE}/java/lib"])
        (CACHE / "java" / "classes").mkdir(parents=True, exist_ok=True)
        _run(["javac", "-d", CACHE / "java" / "classes", "-cp", f"{CACHE}/java/lib/*",
              source / "Interop.java"])
        path.write_text(digest)
