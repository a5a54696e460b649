"""Certificates of the laboratory: the world's root, a company's inspecting root, leaves."""

import subprocess

APNS_HOST = "api.push.apple.com"


def _openssl(*arguments, stdin=None):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True,
                          timeout=60, input=stdin)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


class Authority:
    """A root that signs leaves; `root` is the certificate to trust."""

    def __init__(self, directory, name, subject=None):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.root, self.key = directory / f"{name}.pem", directory / f"{name}.key"
        new_key(self.key)
        _openssl("req", "-x509", "-new", "-key", self.key, "-sha256", "-days", "30",
                 "-subj", subject or f"/O=Laboratory/CN={name}", "-out", self.root,
                 "-addext", "basicConstraints=critical,CA:TRUE",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def leaf(self, name, hosts=(), client=False):
        """A leaf and its key, as paths of the chain and the key."""
        chain, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        request, extensions = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        new_key(key)
        _openssl("req", "-new", "-key", key, "-subj", f"/CN={hosts[0] if hosts else name}",
                 "-out", request)
        lines = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature",
                 f"extendedKeyUsage={'clientAuth' if client else 'serverAuth'}"]
        if hosts:
            lines.append("subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts))
        extensions.write_text("\n".join(lines) + "\n")
        _openssl("x509", "-req", "-in", request, "-CA", self.root, "-CAkey", self.key,
                 "-CAcreateserial", "-days", "20", "-sha256", "-extfile", extensions, "-out", chain)
        return chain, key


def new_key(path):
    """A P-256 key in PKCS#8, readable by its owner only."""
    path.touch(mode=0o600)
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


class World:
    """What every scenario needs: the world's root, the origin's leaf, a provider token key."""

    def __init__(self, lab):
        directory = lab.directory / "pki"
        self.authority = Authority(directory, "world-root")
        self.root = self.authority.root
        self.origin = self.authority.leaf("origin", [APNS_HOST, "api.sandbox.push.apple.com"])
        self.token_key = directory / "AuthKey.p8"
        new_key(self.token_key)
        self.directory = directory

    def inspection(self):
        """The root that an inspecting proxy mints from."""
        return Authority(self.directory, "inspection-root")
