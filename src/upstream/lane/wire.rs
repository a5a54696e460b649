//! A connection of a lane, whichever HTTP it speaks.

use std::rc::Rc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::upstream::connection::{self, ExchangeFailure};
use crate::upstream::dial::DialFacts;
use crate::upstream::http1;

#[derive(Debug, Clone)]
pub(super) enum Wire {
    Http1(Rc<http1::Connection>),
    Http2(Rc<connection::Connection>),
}

impl Wire {
    pub(super) fn id(&self) -> u64 {
        match self {
            Self::Http1(connection) => connection.id,
            Self::Http2(connection) => connection.id,
        }
    }

    pub(super) fn facts(&self) -> &DialFacts {
        match self {
            Self::Http1(connection) => &connection.facts,
            Self::Http2(connection) => &connection.facts,
        }
    }

    pub(super) fn is_retired(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_retired(),
            Self::Http2(connection) => connection.is_retired(),
        }
    }

    /// Did an HTTP/2 connection end under a push that came back unprocessed? An end that came with
    /// a refusal, before anybody had an answer, is the refusal's.
    pub(super) fn ended(&self, refused: bool) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(connection) => {
                connection.is_retired() && (!refused || connection.has_answered())
            }
        }
    }

    /// False for an HTTP/2 connection on which the origin cannot have processed anything.
    pub(super) fn has_worked(&self) -> bool {
        match self {
            Self::Http1(_) => true,
            Self::Http2(connection) => {
                let nothing = connection.log.goaway().is_some_and(|goaway| goaway.last_stream == 0);
                connection.exchanges() > 0 && !nothing
            }
        }
    }

    /// Did the origin end it by GOAWAY, without naming an error, after it had served somebody?
    pub(super) fn was_sent_away(&self) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(connection) => {
                let kindly = connection.log.goaway().is_some_and(|away| away.code == 0);
                kindly && connection.has_answered()
            }
        }
    }

    pub(super) fn retire(&self) {
        match self {
            Self::Http1(connection) => connection.retire(),
            Self::Http2(connection) => connection.retire(),
        }
    }

    /// Fit to carry a push now? Tries the path of one that was quiet for long.
    pub(super) async fn is_fit(&self) -> bool {
        match self {
            Self::Http1(connection) if connection.is_stale() => {
                connection.retire();
                false
            }
            Self::Http2(connection) if connection.is_stale() => connection.try_path().await,
            Self::Http1(_) | Self::Http2(_) => !self.is_retired(),
        }
    }

    pub(super) async fn exchange(
        &self,
        request: &http::Request<Bytes>,
        deadline: Instant,
    ) -> Result<http::Response<Bytes>, ExchangeFailure> {
        match self {
            Self::Http1(connection) => connection.exchange(request, deadline).await,
            Self::Http2(connection) => connection.exchange(request, deadline).await,
        }
    }

    pub(super) const fn protocol(&self) -> &'static str {
        match self {
            Self::Http1(_) => "http/1.1",
            Self::Http2(_) => "h2",
        }
    }
}

pub(super) fn log_retirement(connection: &connection::Connection) {
    let goaway = connection.log.goaway();
    tracing::info!(
        connection = connection.id,
        exchanges = connection.exchanges(),
        goaway_code = goaway.as_ref().map(|goaway| goaway.code),
        goaway_last_stream = goaway.as_ref().map(|goaway| goaway.last_stream),
        reason = goaway.and_then(|goaway| goaway.reason),
        "upstream connection retired"
    );
}
