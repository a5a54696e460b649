//! Places: held on a connection, or waited for; never lost when their holder goes.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::wire::Wire;
use super::{DialOrigin, Lane};
use crate::hop::HopError;

/// A place on a connection; given back when dropped.
pub(super) struct Seat<D: DialOrigin> {
    pub(super) lane: Rc<Lane<D>>,
    pub(super) wire: Wire,
    pub(super) answered: bool,
}

impl<D: DialOrigin> Drop for Seat<D> {
    fn drop(&mut self) {
        self.lane.give_back(&self.wire, self.answered);
    }
}

/// A waiting push. If it leaves at the very moment at which it gets a place, the place goes on.
pub(super) struct Placed<'a, D: DialOrigin> {
    pub(super) lane: &'a Rc<Lane<D>>,
    pub(super) placed: oneshot::Receiver<Result<Wire, HopError>>,
}

impl<D: DialOrigin> Drop for Placed<'_, D> {
    fn drop(&mut self) {
        self.placed.close();
        if let Ok(Ok(wire)) = self.placed.try_recv() {
            self.lane.give_back(&wire, false);
        }
    }
}
