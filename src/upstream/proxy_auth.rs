//! What a proxy is told to let us through, leg by leg.
//!
//! Makes and reads the values of `Proxy-Authorization` and `Proxy-Authenticate`; moves no byte
//! itself. Credentials are bound to the proxy that they were configured for when they are
//! prepared, so they cannot reach another one. Nothing here shows a secret.

pub mod latch;
#[cfg(feature = "negotiate")]
mod negotiate;
pub mod ntlm;

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::tunnel::Refused;
use crate::config::material::ProxyMaterial;
use crate::config::{EgressProxy, ProxyCredentials};

/// Most answers to challenges in one go: NTLM needs one, Kerberos rarely two.
const LEGS_CAP: u8 = 4;

/// Prepared credentials of one proxy.
#[derive(Debug)]
pub enum ProxyAuth {
    /// `Basic`, the whole value.
    Basic(Value),
    /// `Negotiate` towards this service, `HTTP@host`.
    Negotiate(String),
    /// None configured.
    None,
    /// `NTLM`.
    Ntlm(ntlm::Account),
}

/// A header value that nothing shows, wiped when dropped.
pub struct Value(Zeroizing<String>);

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Value(..)")
    }
}

impl Value {
    /// The value; every call is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn token(scheme: &str, token: &[u8]) -> Self {
        Self(Zeroizing::new(format!("{scheme} {}", BASE64_STANDARD.encode(token))))
    }
}

/// Why credentials cannot be prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialProblem {
    /// A user without its password.
    #[error("the password is missing")]
    NoPassword,
    /// This binary has no Kerberos.
    #[error(
        "`negotiate` needs the system's GSSAPI, which this build does not have; use a package \
         that has it, or build with the cargo feature `negotiate`"
    )]
    NotBuilt,
    /// NTLM hashes text.
    #[error("an NTLM password must be UTF-8")]
    NotUtf8,
    /// Basic cannot carry it (RFC 7617 §2).
    #[error("a Basic user name must not contain a colon")]
    Colon,
}

/// Why the next leg cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LegFault {
    /// The system's GSSAPI gave no token: no ticket, no keytab, an unknown service name.
    #[error("Kerberos gives no token for {service}: {reason}")]
    Gss {
        /// For whom.
        service: String,
        /// In GSSAPI's words.
        reason: String,
        /// The KDC refused the account's key: that counts as a wrong password.
        refused: bool,
    },
    /// The proxy's challenge makes no sense.
    #[error(transparent)]
    Ntlm(#[from] ntlm::NtlmFault),
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
}

/// What to do with a 407.
#[derive(Debug)]
pub enum Next {
    /// Send CONNECT again, on the same connection, with this.
    Answer(Value),
    /// Send CONNECT once more as it was: some proxies refuse the first one of every connection,
    /// whatever it carries. Counts as a refusal.
    Again(Value),
    /// It offers no scheme that we have credentials for.
    NotOffered,
    /// It refused the credentials.
    Refused,
    /// It asks to begin again, on a new connection.
    Restart,
}

impl ProxyAuth {
    /// Prepares what relay.yaml names.
    pub fn new(proxy: &EgressProxy, material: &ProxyMaterial) -> Result<Self, CredentialProblem> {
        let password = || material.password.as_ref().ok_or(CredentialProblem::NoPassword);
        match &proxy.credentials {
            None => Ok(Self::None),
            Some(ProxyCredentials::Basic(basic)) if basic.username.contains(':') => {
                Err(CredentialProblem::Colon)
            }
            Some(ProxyCredentials::Basic(basic)) => {
                let user = basic.username.as_bytes();
                let pair = Zeroizing::new([user, b":", password()?.expose()].concat());
                Ok(Self::Basic(Value::token("Basic", &pair)))
            }
            Some(ProxyCredentials::Ntlm { domain, basic }) => {
                let text = std::str::from_utf8(password()?.expose());
                let text = text.map_err(|_bytes| CredentialProblem::NotUtf8)?;
                Ok(Self::Ntlm(ntlm::Account::new(&basic.username, domain, text)))
            }
            Some(ProxyCredentials::Negotiate { spn }) if cfg!(feature = "negotiate") => {
                let host = || format!("HTTP@{}", proxy.authority.host);
                Ok(Self::Negotiate(spn.as_deref().map_or_else(host, service_name)))
            }
            Some(ProxyCredentials::Negotiate { .. }) => Err(CredentialProblem::NotBuilt),
        }
    }

    /// Tells one credential from another: what the latch is bound to.
    pub fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        match self {
            Self::None => {}
            Self::Basic(value) => context.update(value.expose().as_bytes()),
            Self::Negotiate(service) => {
                context.update(service.as_bytes());
                context.update(&keytab());
            }
            Self::Ntlm(account) => {
                for part in account.identity() {
                    context.update(&part.len().to_be_bytes());
                    context.update(part);
                }
            }
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }

    /// A conversation on a fresh connection.
    pub fn begin(&self) -> Legs<'_> {
        Legs { auth: self, answers: 0, state: State::Fresh }
    }

    /// Whether there is anything to send.
    pub const fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// `HTTP/host` as Windows writes it, in GSSAPI's form `HTTP@host`.
fn service_name(spn: &str) -> String {
    match spn.split_once('/') {
        Some((service, host)) if !spn.contains('@') => format!("{service}@{host}"),
        _ => spn.to_owned(),
    }
}

/// The legs of one connection's authentication.
#[derive(Debug)]
pub struct Legs<'a> {
    auth: &'a ProxyAuth,
    answers: u8,
    state: State,
}

#[derive(Debug)]
enum State {
    Fresh,
    #[cfg(feature = "negotiate")]
    Gss(negotiate::Context),
    /// The first NTLM message went out.
    Hello(Vec<u8>),
    /// The last message went out: a 407 now is a refusal.
    Sent,
}

impl Legs<'_> {
    /// What goes with the first CONNECT: all schemes speak first, which saves a round trip.
    pub async fn first(&mut self) -> Result<Option<Value>, LegFault> {
        match self.auth {
            ProxyAuth::None => Ok(None),
            ProxyAuth::Basic(value) => {
                self.state = State::Sent;
                Ok(Some(Value(value.0.clone())))
            }
            ProxyAuth::Ntlm(_) => {
                let hello = ntlm::negotiate();
                let value = Value::token("NTLM", &hello);
                self.state = State::Hello(hello);
                Ok(Some(value))
            }
            ProxyAuth::Negotiate(service) => self.gss(service, None).await.map(Some),
        }
    }

    /// What a 407 asks for next.
    #[cfg_attr(
        not(feature = "negotiate"),
        expect(clippy::unused_async, reason = "only GSSAPI waits here")
    )]
    pub async fn next(&mut self, refused: &Refused) -> Result<Next, LegFault> {
        let Some(scheme) = self.scheme() else { return Ok(Next::NotOffered) };
        let mut ours = refused.challenges.iter().filter(|one| one.is(scheme));
        let Some(challenge) = ours.next() else { return Ok(Next::NotOffered) };
        let token = ours.next().map_or(challenge, |other| {
            // Two lines of one scheme: the one with a token is the answer to ours.
            if challenge.token.is_some() { challenge } else { other }
        });
        let token = token.token.as_deref().and_then(|text| BASE64_STANDARD.decode(text).ok());
        self.answers += 1;
        if self.answers > LEGS_CAP {
            return Ok(Next::Refused);
        }
        match (&self.state, self.auth, token) {
            (State::Hello(hello), ProxyAuth::Ntlm(account), Some(token)) => {
                let message = ntlm::authenticate(account, hello, &token, random()?, now())?;
                self.state = State::Sent;
                Ok(Next::Answer(Value::token("NTLM", &message)))
            }
            // It did not look at our hello, as when it closed over it.
            (State::Hello(_), ProxyAuth::Ntlm(_), None) => Ok(Next::Restart),
            #[cfg(feature = "negotiate")]
            (State::Gss(_), ProxyAuth::Negotiate(service), Some(token)) => {
                self.gss(service, Some(token)).await.map(Next::Answer)
            }
            (State::Sent, ProxyAuth::Basic(value), _) if self.answers == 1 => {
                Ok(Next::Again(Value(value.0.clone())))
            }
            _ => Ok(Next::Refused),
        }
    }

    const fn scheme(&self) -> Option<&'static str> {
        match self.auth {
            ProxyAuth::None => None,
            ProxyAuth::Basic(_) => Some("Basic"),
            ProxyAuth::Ntlm(_) => Some("NTLM"),
            ProxyAuth::Negotiate(_) => Some("Negotiate"),
        }
    }

    #[cfg(feature = "negotiate")]
    async fn gss(&mut self, service: &str, token: Option<Vec<u8>>) -> Result<Value, LegFault> {
        let context = match std::mem::replace(&mut self.state, State::Sent) {
            State::Gss(context) => Some(context),
            State::Fresh | State::Hello(_) | State::Sent => None,
        };
        let (context, answer) = negotiate::step(context, service, token).await?;
        self.state = State::Gss(context);
        Ok(Value::token("Negotiate", &answer))
    }

    #[cfg(not(feature = "negotiate"))]
    #[expect(clippy::unused_async, reason = "has the shape of the one that waits for GSSAPI")]
    async fn gss(&self, service: &str, _token: Option<Vec<u8>>) -> Result<Value, LegFault> {
        let reason = CredentialProblem::NotBuilt.to_string();
        Err(LegFault::Gss { service: service.to_owned(), reason, refused: false })
    }
}

/// The client keytab that the environment names, so that a new one, after a reload, is a new
/// credential. Empty where there is none: a ticket cache holds no key that a KDC could refuse.
fn keytab() -> Vec<u8> {
    let name = std::env::var_os("KRB5_CLIENT_KTNAME").unwrap_or_default();
    let name = name.to_string_lossy();
    // Unreadable counts as none here; GSSAPI says why when it is used.
    std::fs::read(name.strip_prefix("FILE:").unwrap_or(&name)).unwrap_or_default()
}

fn random() -> Result<[u8; 8], LegFault> {
    let mut nonce = [0; 8];
    rand::fill(&mut nonce).map_err(|_unspecified| LegFault::Random)?;
    Ok(nonce)
}

fn now() -> u64 {
    // A clock before 1970 gives the epoch; the server's own time is preferred anyway.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ntlm::filetime(since.as_secs(), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BasicCredentials, Secret, SecretSource};

    fn proxy(credentials: ProxyCredentials) -> EgressProxy {
        EgressProxy {
            tls: false,
            authority: "proxy.example:3128".parse().unwrap(),
            credentials: Some(credentials),
            roots: Vec::new(),
        }
    }

    fn basic(username: &str) -> BasicCredentials {
        let password = SecretSource::Env("UNUSED".to_owned());
        BasicCredentials { username: username.to_owned(), password }
    }

    fn password(text: &[u8]) -> ProxyMaterial {
        ProxyMaterial { password: Some(Secret::new(text.to_vec())), roots: None }
    }

    #[tokio::test]
    async fn basic_speaks_first_and_a_407_then_is_a_refusal() {
        let proxy = proxy(ProxyCredentials::Basic(basic("Aladdin")));
        let auth = ProxyAuth::new(&proxy, &password(b"open sesame")).unwrap();
        let mut legs = auth.begin();
        let value = legs.first().await.unwrap().unwrap();
        // RFC 7617 §2's own example.
        assert_eq!(value.expose(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{auth:?}{value:?}").contains("QWxh"));
    }

    #[test]
    fn combinations_that_cannot_work_are_named() {
        let empty = ProxyMaterial { password: None, roots: None };
        let problem = |credentials, material: &ProxyMaterial| {
            ProxyAuth::new(&proxy(credentials), material).err()
        };
        let ntlm = || ProxyCredentials::Ntlm { domain: String::new(), basic: basic("u") };
        assert_eq!(problem(ntlm(), &empty), Some(CredentialProblem::NoPassword));
        assert_eq!(problem(ntlm(), &password(b"\xff")), Some(CredentialProblem::NotUtf8));
        let colon = ProxyCredentials::Basic(basic("a:b"));
        assert_eq!(problem(colon, &password(b"p")), Some(CredentialProblem::Colon));
        let negotiate = problem(ProxyCredentials::Negotiate { spn: None }, &empty);
        let expected = (!cfg!(feature = "negotiate")).then_some(CredentialProblem::NotBuilt);
        assert_eq!(negotiate, expected);
    }

    #[test]
    fn the_service_name_is_accepted_in_both_spellings() {
        assert_eq!(service_name("HTTP/proxy.corp.example"), "HTTP@proxy.corp.example");
        assert_eq!(service_name("HTTP@proxy.corp.example"), "HTTP@proxy.corp.example");
    }

    #[test]
    fn a_changed_password_is_another_credential() {
        let proxy = proxy(ProxyCredentials::Ntlm { domain: "D".to_owned(), basic: basic("u") });
        let digest = |text: &[u8]| ProxyAuth::new(&proxy, &password(text)).unwrap().digest();
        assert_eq!(digest(b"one"), digest(b"one"));
        assert_ne!(digest(b"one"), digest(b"two"));
    }
}
