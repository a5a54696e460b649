//! A simulated APNs with an authority of its own.

use std::ops::Deref;
use std::sync::Arc;

use pushrelay::simulate::apns::{Conduct, Fate, Origin};
use pushrelay::simulate::authority::Throwaway;

use super::{HOST, LOOPBACK};

/// The origin and what it must be trusted by.
pub(crate) struct TestOrigin {
    origin: Origin,
    pub(crate) authority: Arc<Throwaway>,
}

/// Starts an origin that behaves as `change` makes it.
pub(crate) async fn origin(change: impl FnOnce(&mut Conduct)) -> TestOrigin {
    let mut conduct = Conduct::default();
    change(&mut conduct);
    let authority = Throwaway::new("Simulated APNs CA", HOST).unwrap();
    let origin = Origin::start(LOOPBACK, &authority, conduct).await.unwrap();
    TestOrigin { origin, authority }
}

impl Deref for TestOrigin {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        &self.origin
    }
}

impl TestOrigin {
    /// The push with this apns-id was delivered exactly once.
    #[track_caller]
    pub(crate) fn delivered_once(&self, id: &str) {
        assert_eq!(self.deliveries(id), 1, "deliveries of {id}");
    }

    /// How often the push with this apns-id was delivered.
    pub(crate) fn deliveries(&self, id: &str) -> usize {
        let entries = self.ledger().entries();
        entries.iter().filter(|e| e.apns_id.as_deref() == Some(id) && e.delivered).count()
    }

    /// How the pushes ended, in the order of arrival.
    pub(crate) fn fates(&self) -> Vec<Fate> {
        self.ledger().entries().iter().map(|entry| entry.fate).collect()
    }

    /// No rule of APNs was broken.
    #[track_caller]
    pub(crate) fn clean(&self) {
        assert!(self.ledger().violations().is_empty(), "{:?}", self.ledger().violations());
    }

    /// Nobody ever dialled.
    #[track_caller]
    pub(crate) fn untouched(&self) {
        assert_eq!(self.ledger().summary().accepted, 0, "connections to the origin");
    }
}
