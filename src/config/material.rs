//! Everything that the configuration names but does not hold: keys, chains, roots, passwords.
//!
//! Read in one go, every problem collected; read again when the files change. `check` without
//! `--syntax` reads it and throws it away.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{EgressName, Secret};
use crate::pki::Identity;
use crate::pki::ca::Issuer;
use crate::pki::roots::Roots;

/// What was read.
#[derive(Debug)]
pub struct Material {
    /// Mints leaves.
    pub issuer: Option<Arc<Issuer>>,
    /// Leaves brought as files.
    pub leaves: Vec<Arc<Identity>>,
    /// In the order of `Config::listeners`.
    pub listeners: Vec<ListenerMaterial>,
    /// In the order of `Config::routes`.
    pub routes: Vec<RouteMaterial>,
    /// By egress.
    pub egress: BTreeMap<EgressName, EgressMaterial>,
    /// The admin server's token.
    pub admin_token: Option<Secret>,
}

/// What a listener needs.
#[derive(Debug, Default)]
pub struct ListenerMaterial {
    /// Roots of `sender_certificates`.
    pub sender_roots: Option<Arc<Roots>>,
    /// The password of `connect_credentials`.
    pub connect_password: Option<Secret>,
    /// Keys of `signatures`.
    pub signature_keys: Vec<Secret>,
}

/// What a route needs.
#[derive(Debug, Default)]
pub struct RouteMaterial {
    /// `provider_identity`.
    pub identity: Option<Arc<Identity>>,
    /// `next_hop.relay.sign_with`.
    pub sign_with: Option<Secret>,
}

/// What an egress needs.
#[derive(Debug)]
pub struct EgressMaterial {
    /// What origins may chain to.
    pub roots: Arc<Roots>,
    /// In the order of `Egress::proxies`.
    pub proxies: Vec<ProxyMaterial>,
}

/// What a proxy needs.
#[derive(Debug)]
pub struct ProxyMaterial {
    /// The password of Basic or NTLM.
    pub password: Option<Secret>,
    /// What an `https://` proxy may chain to.
    pub roots: Option<Arc<Roots>>,
}
