//! The keys of relay.yaml, one struct a block, as they are written.
//!
//! Their docs are the descriptions of the JSON schema. Nothing is checked here but form.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Size, Span};

mod words;

pub use words::*;

/// The name serde gives [`SecretSource`]: its values are never quoted in a message.
pub(super) const SECRET_SOURCE: &str = "SecretSource";

/// Blocks of which every key may be left out.
macro_rules! blocks {
    ($($(#[$doc:meta])* $block:ident { $($(#[$key_doc:meta])* $key:ident: $type:ty,)* })*) => {$(
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        $(#[$doc])*
        pub struct $block {
            $($(#[$key_doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $key: Option<$type>,)*
        }
    )*};
}

blocks! {
    /// The configuration of pushrelay.
    #[schemars(title = "relay.yaml")]
    File {
        /// The version of this format: 1.
        version: u32,
        /// A label for messages and pre-flight checks; no behaviour depends on it.
        placement: Placement,
        /// How long a drain may take; default 60s.
        drain: Span,
        /// Where senders arrive.
        listeners: Vec<Listener>,
        /// What is carried where.
        routes: Vec<Route>,
        /// The ways out, by name; `direct` is predefined and may be redefined.
        egress: BTreeMap<String, Egress>,
        /// Mints leaves; default certs/issuer.pem and certs/issuer.key when they exist.
        issuer: KeyPair,
        /// Leaves brought as files.
        leaves: Vec<KeyPair>,
        /// Bounds of the whole process.
        limits: Limits,
        /// The admin server: health, status, metrics.
        admin: Admin,
        /// Logging.
        log: Log,
        /// The audit log.
        audit: Audit,
    }

    /// Where senders arrive.
    Listener {
        /// Its name in logs and metrics; default the first bind.
        name: String,
        /// Sockets, as ADDRESS:PORT; `[::]` is IPv6 only.
        bind: Vec<String>,
        /// What may arrive on the port, told apart by its first bytes; default `[tls]`.
        accept: Vec<Protocols>,
        /// Further HOST:PORT that CONNECT may reach, untouched.
        tunnel: Vec<String>,
        /// After this, with jitter, a connection is asked to reconnect; default off.
        max_age: Span,
        /// Asked of CONNECT senders.
        connect_credentials: ConnectCredentials,
        /// Networks that may connect; required unless every bind is loopback, or senders must show certificates.
        networks: Vec<String>,
        /// Certificates of senders.
        sender_certificates: SenderCertificates,
        /// Peers that must send the PROXY header; others must not.
        proxy_protocol: ProxyProtocol,
        /// Demands what a relay before us signs.
        signatures: Signatures,
        /// Whose leaf a sender without SNI gets.
        default_host: String,
    }

    /// Certificates of senders.
    SenderCertificates {
        /// What they must chain to: PEM files, system or bundled.
        roots: OneOrMany,
        /// Without one the handshake fails; default true.
        require: bool,
    }

    /// PROXY protocol.
    ProxyProtocol {
        /// The networks of the balancers.
        from: Vec<String>,
    }

    /// Signed requests.
    Signatures {
        /// Key files, shared with the relays before us.
        keys: Vec<String>,
    }

    /// What is carried where.
    Route {
        /// Its name in logs and metrics; default the provider, or the first host.
        name: String,
        /// A preset of hosts, ports, paths and methods.
        provider: Provider,
        /// Hosts of a route of one's own.
        hosts: Vec<String>,
        /// Where a route of one's own leads: http:// or https://HOST:PORT.
        origin: String,
        /// The way out; required once `egress` defines one.
        egress: String,
        /// APNs: which environments; default both.
        environments: Vec<Environment>,
        /// APNs: topics allowed; empty = all.
        topics: Vec<String>,
        /// APNs: JWT issuers allowed; empty = all.
        teams: Vec<String>,
        /// APNs: JWT key ids allowed; empty = all.
        keys: Vec<String>,
        /// Largest request body; default by preset, else limits.body.
        body: Size,
        /// APNs: ports of the device and broadcast hosts, tried in order; default `[443, 2197]`.
        ports: Vec<u16>,
        /// End TLS here, or carry the sender's untouched; default terminate.
        tls: Tls,
        /// APNs: how a sender is told that a push was not sent; default auto.
        when_unsent: WhenUnsent,
        /// APNs: how a sender is told that nobody knows; default final.
        when_unknown: WhenUnknown,
        /// From the first byte of a request to its answer; default 7s for apns and fcm, else 28s.
        deadline: Span,
        /// APNs: the provider's client certificate.
        provider_identity: KeyPair,
        /// Who stands beyond the egress; default origin.
        next_hop: NextHop,
        /// Own routes: what is spoken to the origin; default auto.
        protocol: Protocol,
        /// Own routes: the form of the relay's own answers; default mattermost for its paths, else plain.
        dialect: Dialect,
        /// Own routes: methods allowed; empty = all.
        methods: Vec<String>,
        /// Own routes: paths allowed, exact or with one trailing *; empty = all.
        paths: Vec<String>,
    }

    /// Another relay beyond the egress.
    RelayHop {
        /// The key file that requests are signed with.
        sign_with: String,
    }

    /// A way out.
    Egress {
        /// Corporate proxies, in order; none = direct.
        proxies: Vec<Proxy>,
        /// What the origin's certificate may chain to: bundled, system or PEM files; default `[bundled]`.
        roots: Vec<String>,
        /// Name lookup.
        dns: Dns,
        /// Dial elsewhere, HOST:PORT to HOST:PORT; name, SNI and verification stay.
        connect_to: BTreeMap<String, String>,
        /// Outgoing address on hosts that have several.
        source: String,
        /// Offer the ML-KEM key share; default true.
        post_quantum: bool,
        /// Speak HTTP/2 although ALPN did not say so; default false.
        assume_h2: bool,
        /// Bounds of its connections.
        lane: Lane,
    }

    /// Name lookup.
    Dns {
        /// `system`, or addresses; default system.
        servers: OneOrMany,
        /// Read the hosts file; default never.
        hosts_file: HostsFile,
    }

    /// Bounds of the connections towards one origin.
    Lane {
        /// HTTP/2 connections of a lane; default 2.
        connections: usize,
        /// HTTP/1.1 connections of a lane; default 100.
        http1_connections: usize,
        /// Streams of a connection, below what the peer allows; default 500.
        streams: usize,
        /// Lanes of the egress; default 64.
        lanes: usize,
        /// Pushes that wait in a lane; default 1000.
        queue: usize,
        /// An idle connection is PINGed this often; default 60s.
        ping: Span,
        /// New connections a second towards one origin; default 1.
        dials_per_second: u32,
    }

    /// Bounds of the whole process.
    Limits {
        /// Connections of senders; default 10000.
        connections: usize,
        /// Exchanges under way; default 20000.
        exchanges: usize,
        /// Request head, decoded; default 16KiB.
        head: Size,
        /// Request body where no preset says otherwise; default 16KiB.
        body: Size,
    }

    /// The admin server.
    Admin {
        /// ADDRESS:PORT, or off; default 127.0.0.1:9380.
        bind: String,
        /// Who may ask besides this machine.
        networks: Vec<String>,
        /// Asked of everybody but this machine.
        token: SecretSource,
        /// A running relay climbs a ladder where pushes fail, or nobody has used a route, at most
        /// every 15 minutes an origin; default on.
        probe: Switch,
    }

    /// Logging.
    Log {
        /// How lines look; default text.
        format: LogFormat,
        /// How much; default info.
        level: Level,
        /// One line per exchange; default on.
        access: Switch,
        /// Of accepted exchanges one line in so many; default 1.
        sample: u32,
    }

    /// The audit log.
    Audit {
        /// Its file; null = none.
        path: String,
        /// What happens when it cannot be written; default drop.
        when_full: WhenFull,
    }
}

/// A PEM chain, leaf first, and its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// PEM file, leaf first.
    pub chain: String,
    /// PEM file, not encrypted.
    pub key: String,
}

/// What CONNECT senders must show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectCredentials {
    /// RFC 7617.
    pub basic: Basic,
}

/// User and password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// Without a colon.
    pub username: String,
    /// Where the password is.
    pub password: SecretSource,
}

/// User and password of a Windows domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ntlm {
    /// The domain; may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The account.
    pub username: String,
    /// Where the password is.
    pub password: SecretSource,
}

/// Kerberos.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Negotiate {
    /// The proxy's service principal; default HTTP@HOST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spn: Option<String>,
}

/// What a proxy is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = bare_negotiate)]
pub enum Credentials {
    /// RFC 7617.
    Basic(Basic),
    /// NTLMv2.
    Ntlm(Ntlm),
    /// Kerberos through the system's GSSAPI.
    Negotiate(Negotiate),
}

/// A corporate proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// http:// or https://HOST:PORT.
    pub url: String,
    /// What it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// What an https:// proxy's own certificate may chain to; default `[system]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<Vec<String>>,
}

/// Where a secret is; never the secret itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// A file, not readable by others; one trailing line end is dropped.
    File(String),
    /// An environment variable.
    Env(String),
    /// A systemd credential.
    Credential(String),
}

/// Who stands beyond the egress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = bare_relay)]
pub enum NextHop {
    /// The provider.
    Origin,
    /// Another relay.
    Relay(RelayHop),
}

/// `next_hop: relay` is the same as `next_hop: { relay: {} }`.
fn bare_relay(schema: &mut schemars::Schema) {
    bare(schema, "relay");
}

/// `credentials: negotiate` is the same as `credentials: { negotiate: {} }`.
fn bare_negotiate(schema: &mut schemars::Schema) {
    bare(schema, "negotiate");
}

/// Allows a word without content, as reading does.
fn bare(schema: &mut schemars::Schema, word: &str) {
    let forms = schema.get_mut("oneOf").and_then(serde_json::Value::as_array_mut);
    if let Some(forms) = forms {
        forms.push(serde_json::json!({ "type": "string", "const": word }));
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl OneOrMany {
    /// Its values.
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;

        impl<'de> serde::de::Visitor<'de> for Values {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text or a list of texts")
            }

            fn visit_str<E: serde::de::Error>(self, one: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(one.to_owned()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<OneOrMany, A::Error> {
                let mut many = Vec::new();
                while let Some(one) = list.next_element()? {
                    many.push(one);
                }
                Ok(OneOrMany::Many(many))
            }
        }

        deserializer.deserialize_any(Values)
    }
}
