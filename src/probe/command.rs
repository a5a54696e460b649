//! Commands that repeat the relay's own dial with curl and openssl: the address that was dialled,
//! the same proxy, names and roots, whatever the hosts file and the environment say.
//!
//! Never with a password: where one is needed the program asks for it, or reads it from a
//! variable that [`note`](Dialled::note) names. Made of the configuration and of addresses only.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::ask::Ask;
use super::ground::Ground;
use super::ladder::Aim;
use super::rung::Recorder;
use crate::config::{EgressProxy, ProxyCredentials, RootSource, Scheme};
use crate::hop::{Fact, Stage};
use crate::names::{Authority, Host};
use crate::upstream::dial::Offer;
use crate::upstream::resolve::Servers;

/// Where `openssl s_client` finds the proxy's password.
const PASSWORD: &str = "PROXY_PASSWORD";
/// Public roots of the system, which a file on the command line would replace.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs";

/// A dial as it went.
#[derive(Debug, Clone)]
pub struct Dialled {
    origin: Authority,
    scheme: Scheme,
    ask: Ask,
    offer: Offer,
    /// The origin, or where `connect_to` leads.
    reach: Authority,
    /// The other end of TCP: the origin's, or the proxy's.
    peer: Option<SocketAddr>,
    proxy: Option<EgressProxy>,
    roots: Vec<RootSource>,
    source: Option<IpAddr>,
    servers: Option<Servers>,
}

impl Dialled {
    /// As it was climbed.
    pub fn new(ground: &Ground, aim: &Aim, recorder: &Recorder) -> Self {
        let egress = ground.egress.get(&aim.egress);
        let reach = egress.and_then(|egress| egress.connect_to.get(&aim.origin));
        let peer = recorder.latest(|fact| match fact {
            Fact::Tcp { peer, .. } => Some(*peer),
            Fact::Addresses { addresses, .. } => addresses.first().copied(),
            Fact::Tls(_) | Fact::Tunnel { .. } | Fact::Alpn(_) | Fact::Settings(_) | Fact::Ping => {
                None
            }
        });
        Self {
            origin: aim.origin.clone(),
            scheme: aim.scheme,
            ask: aim.ask,
            offer: aim.offer(),
            reach: reach.unwrap_or(&aim.origin).clone(),
            peer,
            proxy: ground.proxy(&aim.egress).cloned(),
            roots: egress.map(|egress| egress.roots.clone()).unwrap_or_default(),
            source: egress.and_then(|egress| egress.source),
            servers: ground.dialer.servers(&aim.egress),
        }
    }

    /// The command for a rung. `large` asks with a body of several packets, as the relay did.
    pub fn command(&self, stage: Stage, large: bool) -> String {
        match (stage, &self.proxy) {
            (Stage::Queue | Stage::Resolve, None) => self.dig(),
            (Stage::Queue | Stage::Resolve, Some(proxy)) => {
                format!("getent ahosts {}", proxy.authority.host)
            }
            (Stage::Tcp, proxy) => {
                let named = proxy.as_ref().map_or(&self.reach, |proxy| &proxy.authority);
                let at = self.peer.map_or_else(|| named.to_string(), |at| at.to_string());
                let from = self.source.map(|ip| format!(" --interface {ip}")).unwrap_or_default();
                format!("curl -v --connect-timeout 3{from} --noproxy '*' telnet://{at} </dev/null")
            }
            (Stage::ProxyTls, Some(proxy)) => self.proxy_handshake(proxy),
            (Stage::Connect, Some(_)) => self.curl(Stage::Connect, false),
            (Stage::ProxyTls | Stage::Connect | Stage::Tls | Stage::Alpn, _)
                if self.openssl_can() =>
            {
                self.handshake()
            }
            _ => self.curl(stage, large),
        }
    }

    /// What the reader must do besides: where the password goes.
    pub fn note(&self, stage: Stage) -> Option<String> {
        let proxy = self.proxy.as_ref()?;
        if stage < Stage::Connect {
            return None;
        }
        match proxy.credentials.as_ref()? {
            ProxyCredentials::Basic(_)
                if matches!(stage, Stage::Tls | Stage::Alpn) && self.openssl_can() =>
            {
                Some(format!("put the proxy's password into the variable {PASSWORD} first"))
            }
            ProxyCredentials::Basic(_) | ProxyCredentials::Ntlm { .. } => {
                Some("curl asks for the proxy's password".to_owned())
            }
            ProxyCredentials::Negotiate { .. } => {
                Some("needs a Kerberos ticket of the relay's account (kinit)".to_owned())
            }
        }
    }

    fn dig(&self) -> String {
        let Host::Name(name) = &self.reach.host else {
            return format!("getent ahosts {}", self.reach.host);
        };
        let server = self.servers.as_ref().and_then(|servers| servers.addresses.first());
        let server = server.map_or_else(String::new, |at| {
            let port = if at.port() == 53 { String::new() } else { format!(" -p {}", at.port()) };
            format!(" @{}{port}", at.ip())
        });
        format!("dig{server} {name} A {name} AAAA")
    }

    /// s_client knows Basic and proxies in clear text only.
    fn openssl_can(&self) -> bool {
        self.scheme == Scheme::Https
            && self.proxy.as_ref().is_none_or(|proxy| {
                !proxy.tls && matches!(proxy.credentials, None | Some(ProxyCredentials::Basic(_)))
            })
    }

    fn handshake(&self) -> String {
        let way = match &self.proxy {
            Some(proxy) => {
                let at = self.peer.map_or_else(|| proxy.authority.to_string(), |at| at.to_string());
                let user = match &proxy.credentials {
                    Some(ProxyCredentials::Basic(basic)) => format!(
                        " -proxy_user {} -proxy_pass env:{PASSWORD}",
                        quoted(&basic.username)
                    ),
                    Some(ProxyCredentials::Ntlm { .. } | ProxyCredentials::Negotiate { .. })
                    | None => String::new(),
                };
                format!(" -proxy {at}{user} -connect {}", self.reach)
            }
            None => {
                let at = self.peer.map_or_else(|| self.reach.to_string(), |at| at.to_string());
                format!(" -connect {at}")
            }
        };
        let from = self.source.map(|ip| format!(" -bind {}", SocketAddr::new(ip, 0)));
        let alpn = match self.offer {
            Offer::H2 => " -alpn h2",
            Offer::H2AndHttp1 => " -alpn h2,http/1.1",
            Offer::Http1 => " -alpn http/1.1",
            Offer::NoAlpn => "",
        };
        format!(
            "openssl s_client{}{way}{}{alpn}{} </dev/null",
            from.unwrap_or_default(),
            named(&self.origin.host),
            trust(&self.roots, "-CAfile", "-CApath"),
        )
    }

    fn proxy_handshake(&self, proxy: &EgressProxy) -> String {
        let at = self.peer.map_or_else(|| proxy.authority.to_string(), |at| at.to_string());
        format!(
            "openssl s_client -connect {at}{} -alpn http/1.1{} </dev/null",
            named(&proxy.authority.host),
            trust(&proxy.roots, "-CAfile", "-CApath"),
        )
    }

    fn curl(&self, stage: Stage, large: bool) -> String {
        let secure = self.scheme == Scheme::Https;
        let protocol = match self.offer {
            _ if !secure => " --http1.1",
            Offer::H2 | Offer::H2AndHttp1 => " --http2",
            Offer::Http1 => " --http1.1",
            Offer::NoAlpn => " --no-alpn",
        };
        let from = self.source.map(|ip| format!(" --interface {ip}")).unwrap_or_default();
        let roots = if secure { trust(&self.roots, "--cacert", "--capath") } else { String::new() };
        let request = self.ask.request(&self.origin, secure, false);
        let (url, asks) = if stage < Stage::Settings {
            let scheme = if secure { "https" } else { "http" };
            (format!("{scheme}://{}/", self.origin), String::new())
        } else {
            (request.uri().to_string(), asks(&request, large))
        };
        let way = self.curl_way(secure);
        format!("curl -v --max-time 20{protocol}{from}{way}{roots}{asks} {url}")
    }

    /// Around the hosts file and the environment, both of which curl would heed.
    fn curl_way(&self, secure: bool) -> String {
        let pinned = self.reach != self.origin;
        let (from, to) = (&self.origin, &self.reach);
        let led = |to: String| format!(" --connect-to {from}:{to}");
        let Some(proxy) = &self.proxy else {
            let to = match self.peer {
                Some(at) if !pinned => return format!(" --noproxy '*'{}", resolved(from, at)),
                Some(at) => at.to_string(),
                None if pinned => to.to_string(),
                None => return " --noproxy '*'".to_owned(),
            };
            return format!(" --noproxy '*'{}", led(to));
        };
        let at = &proxy.authority;
        let url = if proxy.tls { format!("https://{at}") } else { format!("http://{at}") };
        let peer = self.peer.map(|peer| resolved(at, peer)).unwrap_or_default();
        let roots = if proxy.tls {
            trust(&proxy.roots, "--proxy-cacert", "--proxy-capath")
        } else {
            String::new()
        };
        let user = match &proxy.credentials {
            None => String::new(),
            Some(ProxyCredentials::Basic(basic)) => {
                format!(" --proxy-basic --proxy-user {}", quoted(&basic.username))
            }
            Some(ProxyCredentials::Ntlm { domain, basic }) => {
                let user = format!("{domain}\\{}", basic.username);
                let user = if domain.is_empty() { basic.username.clone() } else { user };
                format!(" --proxy-ntlm --proxy-user {}", quoted(&user))
            }
            Some(ProxyCredentials::Negotiate { .. }) => {
                " --proxy-negotiate --proxy-user :".to_owned()
            }
        };
        let tunnel = if secure { "" } else { " --proxytunnel" };
        let led = if pinned { led(to.to_string()) } else { String::new() };
        format!(" --noproxy '' --proxy {url}{tunnel}{peer}{roots}{user}{led}")
    }
}

/// `--resolve` for a name; an address needs none.
fn resolved(name: &Authority, at: SocketAddr) -> String {
    match (&name.host, at.ip()) {
        (Host::Ip(_), _) => String::new(),
        (Host::Name(host), IpAddr::V4(ip)) => format!(" --resolve {host}:{}:{ip}", name.port),
        (Host::Name(host), IpAddr::V6(ip)) => format!(" --resolve '{host}:{}:[{ip}]'", name.port),
    }
}

/// SNI and the name that the certificate must have.
fn named(host: &Host) -> String {
    match host {
        Host::Name(name) => format!(" -servername {name} -verify_hostname {name}"),
        Host::Ip(ip) => format!(" -noservername -verify_ip {ip}"),
    }
}

/// The files among the roots, and the system's beside them where those count too.
fn trust(roots: &[RootSource], file: &str, folder: &str) -> String {
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let files = roots.iter().filter_map(|root| match root {
        RootSource::File(file) => Some(path(file)),
        RootSource::Bundled | RootSource::System => None,
    });
    let files: Vec<_> = files.collect();
    let given = match files.as_slice() {
        [] => return String::new(),
        [one] => format!(" {file} {one}"),
        // Both programs take one file only; the shell makes one of several.
        several => format!(" {file} <(cat {})", several.join(" ")),
    };
    let others = files.len() < roots.len();
    if others { format!("{given} {folder} {SYSTEM_ROOTS}") } else { given }
}

/// Method, content type and body in curl's words.
fn asks(request: &http::Request<bytes::Bytes>, large: bool) -> String {
    if request.body().is_empty() {
        return String::new();
    }
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let body = if large {
        // Several packets, as the relay's own request.
        "\"$(printf %03600d 0)\"".to_owned()
    } else {
        quoted(&String::from_utf8_lossy(request.body()))
    };
    format!(" -H 'content-type: {kind}' -d {body}")
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
#[path = "command/tests.rs"]
mod tests;
