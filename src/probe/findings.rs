//! What climbing one ladder taught, reduced to what the verdict needs. Plain data.

use crate::hop::{Hop, HopErrorKind, Stage};
use crate::names::Authority;

use super::address::Class;

/// Everything that is known of one origin by one way out.
#[derive(Debug, Clone)]
pub struct Findings {
    /// The origin.
    pub origin: Authority,
    /// The proxy of the way out; the one at fault, where there are several.
    pub proxy: Option<Authority>,
    /// Somebody configured credentials for it.
    pub credentials: bool,
    /// `connect_to` leads there.
    pub pinned: bool,
    /// No provider but a service of one's own: it may be down, and its address may be internal.
    pub own: bool,
    /// APNs: nothing but h2 will do.
    pub h2_only: bool,
    /// The name servers that were asked.
    pub servers: Option<String>,
    /// The addresses that came, and the worst of their kinds.
    pub addresses: Option<(String, Class)>,
    /// What TLS with the origin showed.
    pub shown: Option<Shown>,
    /// What ALPN chose.
    pub alpn: Option<String>,
    /// The PING came back.
    pub ping: Option<bool>,
    /// The answer to the request.
    pub answer: Option<Answer>,
    /// Idle for so many seconds; did it live?
    pub idle: Option<(u64, bool)>,
    /// Our clock minus theirs, seconds.
    pub skew: Option<i64>,
    /// Whose clock that is.
    pub timed_by: Option<String>,
    /// What ended the climb.
    pub failure: Option<Failure>,
    /// What the control rungs taught.
    pub controls: Controls,
}

impl Findings {
    /// Nothing is known yet but where it shall lead.
    pub fn of(origin: Authority) -> Self {
        Self {
            origin,
            proxy: None,
            credentials: false,
            pinned: false,
            own: false,
            h2_only: false,
            servers: None,
            addresses: None,
            shown: None,
            alpn: None,
            ping: None,
            answer: None,
            idle: None,
            skew: None,
            timed_by: None,
            failure: None,
            controls: Controls::default(),
        }
    }
}

/// A certificate that was shown in a handshake that succeeded.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Issuer of the leaf.
    pub issuer: Option<String>,
    /// It chains to an inspector's root only.
    pub inspected: bool,
}

/// What ended a climb.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Whom the dialer names.
    pub hop: Hop,
    /// At which step.
    pub stage: Stage,
    /// What happened.
    pub kind: HopErrorKind,
    /// The cause underneath, cleaned.
    pub cause: Option<String>,
    /// It was the proxy that we were speaking with.
    pub at_proxy: bool,
}

/// An answer and whose it is.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// It has what only the provider's answers have.
    pub genuine: bool,
    /// Content type, cleaned.
    pub content_type: Option<String>,
    /// Who signed it (`Proxy-Status`, `Via`, `Server`), cleaned.
    pub by: Option<String>,
    /// The first characters of the body, cleaned.
    pub page: String,
}

impl Answer {
    /// A page for people.
    pub fn is_page(&self) -> bool {
        let html = |text: &str| text.to_ascii_lowercase().contains("html");
        self.content_type.as_deref().is_some_and(html)
            || self.page.trim_start().starts_with('<') && html(&self.page)
    }
}

/// How a control rung ended.
#[derive(Debug, Clone)]
pub struct Tried {
    /// With whom.
    pub with: Authority,
    /// Why it did not work; `None` = it did.
    pub failure: Option<Failure>,
    /// Issuer of the certificate that was shown.
    pub issuer: Option<String>,
    /// That certificate chains to an inspector's root only.
    pub inspected: bool,
    /// What ALPN chose.
    pub alpn: Option<String>,
}

impl Tried {
    /// It worked.
    pub const fn worked(&self) -> bool {
        self.failure.is_none()
    }

    /// It got beyond this step.
    pub fn passed(&self, stage: Stage) -> bool {
        self.failure.as_ref().is_none_or(|failure| failure.stage > stage)
    }
}

/// What the control rungs taught; `None` = not climbed.
#[derive(Debug, Clone, Default)]
pub struct Controls {
    /// Another host by the same way.
    pub other_host: Option<Tried>,
    /// Another port of the same host.
    pub other_port: Option<Tried>,
    /// A handshake without ALPN.
    pub no_alpn: Option<Tried>,
    /// A handshake that offers h2 and http/1.1.
    pub both_alpn: Option<Tried>,
    /// A handshake whose hello fits one packet.
    pub small_hello: Option<Tried>,
    /// HTTP/2 with an empty SETTINGS frame.
    pub bare_settings: Option<bool>,
    /// The alert that came in place of SETTINGS.
    pub late_alert: Option<String>,
    /// TLS with the proxy itself, where clear text was configured.
    pub proxy_tls: Option<bool>,
    /// A request of several packets.
    pub large_request: Option<bool>,
    /// The same host directly, where that was allowed.
    pub direct: Option<Tried>,
}
