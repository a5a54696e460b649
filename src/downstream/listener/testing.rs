//! What the tests of this side share.

use crate::config::{Accept, Listener};

/// A listener on loopback that accepts TLS from everybody.
pub(crate) fn listener() -> Listener {
    Listener {
        name: "test".into(),
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        accept: Accept { tls: true, connect: false, plain: false },
        tunnel: Vec::new(),
        max_age: None,
        connect_credentials: None,
        networks: Vec::new(),
        sender_certificates: None,
        proxy_protocol: Vec::new(),
        signatures: Vec::new(),
        default_host: None,
    }
}
