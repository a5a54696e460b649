//! How each kind of sender comes to trust the root, as commands to copy.

use std::path::Path;

/// The commands for the root at `root`. Always the root: a Java sender that imports the issuer
/// itself ignores the issuer's name constraints.
pub(super) fn commands(root: &Path) -> String {
    let absolute = root.canonicalize().unwrap_or_else(|_gone| root.to_owned());
    let root = quoted(&absolute.to_string_lossy());
    format!(
        "
Senders import the root, never the issuer. Copy it to the sender, then:

Mattermost push proxy (container; its public roots stay in force)
  mkdir -p certs && cp {root} certs/pushrelay-root.pem
  docker run -v \"$PWD/certs:/mattermost-push-proxy/certs\" -e SSL_CERT_FILE=/mattermost-push-proxy/certs/pushrelay-root.pem ...
Go programs on Linux (the system's folder of roots stays in force)
  export SSL_CERT_FILE={root}
Java
  keytool -importcert -noprompt -cacerts -storepass changeit -alias pushrelay-root -file {root}
Node.js
  export NODE_EXTRA_CA_CERTS={root}
Debian, Ubuntu
  cp {root} /usr/local/share/ca-certificates/pushrelay-root.crt && update-ca-certificates
RHEL, Fedora
  cp {root} /etc/pki/ca-trust/source/anchors/pushrelay-root.pem && update-ca-trust extract
Windows (as administrator)
  certutil -addstore -f Root root.pem

An inspecting proxy between senders and the relay verifies the relay itself. It
needs the root among the CAs it trusts for servers, and no bypass of verification.
Squid, in squid.conf (the system's CAs stay in force):
  tls_outgoing_options cafile=/etc/squid/pushrelay-root.pem
Senders behind it trust the proxy's own CA, as they do today.
"
    )
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted("/etc/a.pem"), "/etc/a.pem");
        assert_eq!(quoted("/my certs/it's.pem"), r"'/my certs/it'\''s.pem'");
    }

    #[test]
    fn every_kind_of_sender_has_its_command() {
        let text = commands(Path::new("/etc/pushrelay/certs/root.pem"));
        for word in [
            "SSL_CERT_FILE=/mattermost-push-proxy/certs/",
            "keytool -importcert",
            "NODE_EXTRA_CA_CERTS=",
            "update-ca-certificates",
            "update-ca-trust",
            "certutil -addstore",
            "tls_outgoing_options",
        ] {
            assert!(text.contains(word), "{word}");
        }
    }
}
