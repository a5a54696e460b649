//! The commands as they are printed; that they do what they say is shown with the real programs.

use super::*;
use crate::config::{BasicCredentials, SecretSource};

fn direct() -> Dialled {
    Dialled {
        origin: "api.push.apple.com:443".parse().unwrap(),
        scheme: Scheme::Https,
        ask: Ask::Apns,
        offer: Offer::H2,
        reach: "api.push.apple.com:443".parse().unwrap(),
        peer: Some("17.188.1.2:443".parse().unwrap()),
        proxy: None,
        roots: vec![RootSource::Bundled],
        source: None,
        servers: Some(Servers {
            addresses: vec!["192.0.2.53:53".parse().unwrap()],
            stub: false,
            assumed: false,
        }),
    }
}

fn proxied(tls: bool, credentials: Option<ProxyCredentials>) -> Dialled {
    let file = |name: &str| RootSource::File(name.into());
    Dialled {
        peer: Some("10.0.0.8:3128".parse().unwrap()),
        proxy: Some(EgressProxy {
            tls,
            authority: "proxy.corp.example:3128".parse().unwrap(),
            credentials,
            roots: vec![RootSource::System, file("/etc/proxy ca.pem")],
        }),
        roots: vec![RootSource::Bundled, file("a.pem"), file("b.pem")],
        ..direct()
    }
}

fn basic() -> ProxyCredentials {
    let password = SecretSource::Env("CANARY".into());
    ProxyCredentials::Basic(BasicCredentials { username: "svc push".into(), password })
}

#[test]
fn the_address_that_was_dialled_is_given_whatever_the_hosts_file_says() {
    let direct = direct();
    assert_eq!(
        direct.command(Stage::Alpn, false),
        "openssl s_client -connect 17.188.1.2:443 -servername api.push.apple.com \
         -verify_hostname api.push.apple.com -alpn h2 </dev/null"
    );
    let curl = direct.command(Stage::Settings, false);
    let resolve = "--noproxy '*' --resolve api.push.apple.com:443:17.188.1.2";
    assert!(curl.starts_with("curl -v --max-time 20 --http2") && curl.contains(resolve), "{curl}");
    assert!(curl.contains("-d '{}' https://api.push.apple.com/3/device/0"), "{curl}");
    let dig = "dig @192.0.2.53 api.push.apple.com A api.push.apple.com AAAA";
    assert_eq!(direct.command(Stage::Resolve, false), dig);
    let pinned = Dialled { reach: "127.0.0.1:9443".parse().unwrap(), ..direct };
    let curl = pinned.command(Stage::Request, true);
    assert!(curl.contains("--connect-to api.push.apple.com:443:17.188.1.2:443"), "{curl}");
    assert!(curl.contains("printf %03600d"), "{curl}");
}

#[test]
fn a_proxy_is_taken_as_the_relay_takes_it_and_no_password_is_printed() {
    let plain = proxied(false, Some(basic()));
    assert_eq!(
        plain.command(Stage::Tls, false),
        "openssl s_client -proxy 10.0.0.8:3128 -proxy_user 'svc push' \
         -proxy_pass env:PROXY_PASSWORD -connect api.push.apple.com:443 \
         -servername api.push.apple.com -verify_hostname api.push.apple.com -alpn h2 \
         -CAfile <(cat a.pem b.pem) -CApath /etc/ssl/certs </dev/null"
    );
    assert!(plain.note(Stage::Tls).unwrap().contains(PASSWORD));
    assert_eq!(plain.note(Stage::Tcp), None);
    let curl = plain.command(Stage::Connect, false);
    for part in [
        "--noproxy '' --proxy http://proxy.corp.example:3128",
        "--resolve proxy.corp.example:3128:10.0.0.8",
        "--proxy-basic --proxy-user 'svc push'",
        " https://api.push.apple.com:443/",
    ] {
        assert!(curl.contains(part), "{part}: {curl}");
    }
    // openssl speaks with proxies in clear text only.
    let tls = proxied(true, None);
    for stage in [Stage::Connect, Stage::Tls, Stage::Alpn, Stage::Request] {
        let curl = tls.command(stage, false);
        assert!(curl.contains("--proxy https://proxy.corp.example:3128"), "{curl}");
        let roots = "--proxy-cacert '/etc/proxy ca.pem' --proxy-capath /etc/ssl/certs";
        assert!(curl.contains(roots), "{curl}");
    }
    let handshake = tls.command(Stage::ProxyTls, false);
    assert!(handshake.contains("-connect 10.0.0.8:3128 -servername proxy.corp.example"));
    let ntlm = ProxyCredentials::Ntlm {
        domain: "CORP".into(),
        basic: BasicCredentials {
            username: "svc".into(),
            password: SecretSource::Env("CANARY".into()),
        },
    };
    let ntlm = proxied(false, Some(ntlm));
    let curl = ntlm.command(Stage::Tls, false);
    assert!(curl.contains("--proxy-ntlm --proxy-user 'CORP\\svc'"), "{curl}");
    assert!(!format!("{curl}{:?}", ntlm.note(Stage::Tls)).contains("CANARY"));
}

#[test]
fn the_shell_takes_nothing_for_more_than_it_is() {
    for (text, shown) in [
        ("a.pem", "a.pem"),
        ("a b", "'a b'"),
        ("$(x)", "'$(x)'"),
        ("it's", "'it'\\''s'"),
        ("", "''"),
    ] {
        assert_eq!(quoted(text), shown);
    }
}
