//! A simulated corporate proxy with an inspection authority of its own.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::proxy::{Conduct, Manner, Proxy};

use super::{HOST, LOOPBACK};

/// The proxy and what its leaves chain to.
pub(crate) struct Corporate {
    proxy: Proxy,
    pub(crate) authority: Arc<Throwaway>,
}

/// Starts a proxy behind which `api.push.apple.com:443` is `next`, whose certificates it trusts.
pub(crate) async fn corporate(
    manner: Manner,
    next: SocketAddr,
    trusts: &Throwaway,
    change: impl FnOnce(&mut Conduct),
) -> Corporate {
    let mut conduct = Conduct { manner, ..Conduct::default() };
    conduct.map.insert(format!("{HOST}:443"), next);
    change(&mut conduct);
    let authority = Throwaway::new("Simulated inspection CA", HOST).unwrap();
    let minting = Arc::clone(&authority);
    let proxy = Proxy::start(LOOPBACK, minting, trusts.roots(), conduct).await.unwrap();
    Corporate { proxy, authority }
}

impl Deref for Corporate {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxy
    }
}
