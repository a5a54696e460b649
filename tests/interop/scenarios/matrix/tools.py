"""What curl and openssl say of the same path: kept for the README's comparison, judged by hand."""

import pathlib

PUSH = "/3/device/" + "0" * 64
PATIENCE = 15


def compare(site, case, path, options, folder):
    """Runs both on the case's path and keeps what they write."""
    roots = [site.world.root]
    if "--inspection-roots" in options:
        roots.append(pathlib.Path(options[options.index("--inspection-roots") + 1]))
    bundle = folder / "roots.pem"
    bundle.write_text("".join(root.read_text() for root in roots))
    host, _, port = case.target.partition(":")
    for name, command in (("curl", curl(path, host, port or "443", bundle)),
                          ("openssl", openssl(path, host, port or "443", bundle))):
        if command is None:
            continue
        done = path.host.run(["timeout", str(PATIENCE), *command], check=False, stdin="",
                             env=case.env)
        (folder / f"{name}.txt").write_text(
            f"$ {' '.join(map(str, command))}\nexit {done.returncode}\n"
            f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}\n")


def curl(path, host, port, roots):
    """`curl -v --http2` with the probe's own request."""
    command = ["curl", "-q", "-sSv", "--http2", "--cacert", roots]
    if path.proxy:
        command += ["--proxy", path.proxy]
        if path.proxy.startswith("https:"):
            command += ["--proxy-cacert", roots]
    if path.user:
        command += ["--proxy-user", f"{path.user}:{path.env['PUSHRELAY_PROXY_PASSWORD']}"]
    return [*command, "--data", "{}", f"https://{host}:{port}{PUSH}"]


def openssl(path, host, port, roots):
    """`openssl s_client -alpn h2`; it has no TLS to a proxy."""
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername", host,
               "-alpn", "h2", "-CAfile", roots]
    if path.proxy:
        command += ["-proxy", path.proxy.split("://")[1]]
    if path.user:
        command += ["-proxy_user", path.user, "-proxy_pass", 
                    f"pass:{path.env['PUSHRELAY_PROXY_PASSWORD']}"]
    return command
