//! pushrelay carries push notifications out of corporate networks.
//!
//! APNs speaks HTTP/2 only; corporate proxies often do not. The relay takes pushes as HTTP/1.1 or
//! HTTP/2 on one side and brings them to the provider on the other, directly or through a proxy,
//! at most once, and says of every push what became of it.
//!
//! # The walk of a push
//! ```text
//! downstream::listener    one socket and one accept task per bind
//! downstream::admit       networks, PROXY header, connection limit        refused: closed
//! downstream::sniff       TLS, CONNECT, plain HTTP or the HTTP/2 preface
//! downstream::tls         SNI -> leaf, ALPN                               or passthrough
//! downstream::http1|http2 strict, bounded, timed                          -> Exchange
//! relay                   route -> permit -> translate -> send -> translate back
//! upstream::lanes         which connections a push may use
//! upstream::lane          a place on one, or a dial
//! upstream::dial          resolve -> tcp -> [tls to proxy -> CONNECT] -> tls -> alpn
//! upstream::connection    SETTINGS, one stream per push, PING
//! relay::answer           every error becomes an answer in one match
//! ```
//! To read the product, open [`downstream`], [`relay`], [`upstream::dial`] in this order; [`app`]
//! puts them on a thread, [`cli`] puts that into a process.
//!
//! # Words
//! *downstream* and *upstream*: towards the sender and the provider. *Sender*: a program that
//! sends pushes to us. *Origin*: the real provider host. *Egress proxy*: the corporate CONNECT
//! proxy we leave through. *Hop*: a party on the path; *stage*: a step at it. *Dial*: from a name to a
//! usable connection. *Tunnel*: the bytes after CONNECT's 2xx. *Exchange*: one request and its
//! answer. *Terminate*: end TLS here with a leaf in the origin's name; *passthrough*: carry the
//! sender's TLS untouched. *Lane*: the upstream connections of one origin, egress and credential.
//! *Admit* a connection, *permit* a request, *refuse* either. *Drain*: finish what is in flight,
//! take nothing new. *Outcome*: `accepted`, `provider_refused`, `not_sent`, `unknown`,
//! `relay_refused`; nothing else.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod downstream;
pub mod hop;
pub mod io;
pub mod metrics;
pub mod names;
pub mod pki;
pub mod probe;
pub mod provider;
pub mod relay;
pub mod shutdown;
pub mod simulate;
pub mod telemetry;
pub mod upstream;
