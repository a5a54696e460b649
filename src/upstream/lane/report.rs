//! What status and figures say of a lane.

use super::wire::Wire;
use super::{DialOrigin, Lane};
use crate::upstream::lanes::Totals;

impl<D: DialOrigin> Lane<D> {
    /// Adds its figures to its egress' totals.
    pub fn add_to(&self, totals: &mut Totals) {
        totals.waiting += self.waiting.borrow().len();
        for wire in self.wires.borrow().iter() {
            match wire {
                Wire::Http1(_) => totals.http1 += 1,
                Wire::Http2(_) => totals.http2 += 1,
            }
        }
    }

    /// What status shows.
    pub fn status(&self) -> serde_json::Value {
        let wires = self.wires.borrow();
        let connections: Vec<_> = wires.iter().map(status_of).collect();
        let error = self.last_error.borrow();
        serde_json::json!({
            "origin": self.target.host.to_string(),
            "port": self.target.ports.get(self.port.get()),
            "egress": self.target.egress.to_string(),
            "proven": self.proven.get(),
            "waiting": self.waiting.borrow().len(),
            "in_flight": self.book.borrow().open(),
            "dialing": self.book.borrow().dialing(),
            "down_seconds": self.down_for().map(|down| down.as_secs()),
            "last_error": error.as_ref().map(|error| serde_json::json!({
                "hop": error.hop.word(),
                "stage": error.stage.word(),
                "cause": error.kind.to_string(),
            })),
            "connections": connections,
        })
    }
}

fn status_of(wire: &Wire) -> serde_json::Value {
    let facts = wire.facts();
    let mut status = serde_json::json!({
        "id": wire.id(),
        "protocol": wire.protocol(),
        "proxy": facts.proxy.as_ref().map(ToString::to_string),
        "peer": facts.peer.to_string(),
        "alpn": facts.alpn,
        "issuer": facts.tls.as_ref().and_then(|tls| tls.issuer.clone()),
        "inspected": facts.tls.as_ref().is_some_and(|tls| tls.inspected),
    });
    if let Wire::Http2(connection) = wire {
        let (resets, last_reset) = connection.log.resets();
        status["age_seconds"] = connection.since.elapsed().as_secs().into();
        status["in_flight"] = connection.in_flight().into();
        status["exchanges"] = connection.exchanges().into();
        status["max_concurrent_streams"] = connection.log.max_concurrent().into();
        status["resets"] = resets.into();
        status["last_reset_code"] = last_reset.into();
        status["goaway"] = connection.log.goaway().map_or(serde_json::Value::Null, |goaway| {
            serde_json::json!({
                "last_stream": goaway.last_stream,
                "code": goaway.code,
                "reason": goaway.reason,
            })
        });
    }
    status
}
