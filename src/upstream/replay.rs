//! What is known of a push whose exchange failed: the only place that may call one unsent.
//!
//! Pure. RFC 9113 §8.7: unprocessed is what was never written, what REFUSED_STREAM names, and
//! what lies above GOAWAY's last stream. Everything else may have been processed.

use std::time::Duration;

use super::Delivery;

/// A push that the origin refuses on a connection that goes on is sent again at most this often:
/// of an origin that refuses every third stream it gets through, and one that refuses everything
/// is not hammered.
pub const MAX_REFUSALS: u8 = 4;
/// Pause before a push is sent again that was refused before, times the refusals that it had: the
/// first replay takes its turn at once, the last one outlives a short spell of refusals.
const REFUSAL_PAUSE: Duration = Duration::from_millis(300);

/// How often a push was sent, and how often it may be.
#[derive(Debug, Default)]
pub struct Replays {
    all: u8,
    refusals: u8,
}

impl Replays {
    /// How often the push was sent again.
    pub const fn count(&self) -> u8 {
        self.all
    }

    /// The push came back unprocessed: the pause before it may be sent again; `None` for never.
    /// `ended`: its HTTP/2 connection takes no more. Then every replay costs a new connection, and
    /// the lane's back-off and dial budget bound those: an origin that ends each connection after
    /// a few pushes gets all of a burst, a few at a time.
    pub fn again(&mut self, ended: bool) -> Option<Duration> {
        let mut pause = Duration::ZERO;
        if !ended {
            if self.refusals == MAX_REFUSALS {
                return None;
            }
            pause = REFUSAL_PAUSE * u32::from(self.refusals);
            self.refusals += 1;
        }
        self.all = self.all.saturating_add(1);
        Some(pause)
    }
}

/// Facts about a failed stream.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// The stream's number; `None` where h2 never opened one.
    pub stream: Option<u32>,
    /// The highest stream whose HEADERS were handed to TLS.
    pub highest_out: u32,
    /// The peer sent RST_STREAM, with this code.
    pub peer_reset: Option<u32>,
    /// h2 failed the stream because the peer's GOAWAY names a lower last stream.
    pub above_goaway: bool,
    /// An answer had begun: whatever the peer says then, it has looked at the push.
    pub begun: bool,
}

const REFUSED_STREAM: u32 = 7;

/// Judges a failure.
pub fn delivery(failure: Failure) -> Delivery {
    let Some(stream) = failure.stream else {
        return Delivery::NotSent;
    };
    if failure.begun {
        return Delivery::Unknown;
    }
    let refused = failure.peer_reset == Some(REFUSED_STREAM);
    if stream > failure.highest_out || refused || failure.above_goaway {
        return Delivery::NotSent;
    }
    Delivery::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_and_ended_connections_are_not() {
        let mut replays = Replays::default();
        for pause in [0, 300, 600, 900] {
            assert_eq!(replays.again(true), Some(Duration::ZERO));
            assert_eq!(replays.again(false), Some(Duration::from_millis(pause)));
        }
        assert_eq!(replays.again(false), None);
        assert_eq!(replays.again(true), Some(Duration::ZERO));
        assert_eq!(replays.count(), 9);
    }

    #[test]
    fn e1_only_what_is_proven_unprocessed_counts_as_not_sent() {
        let sent = Failure {
            stream: Some(5),
            highest_out: 5,
            peer_reset: None,
            above_goaway: false,
            begun: false,
        };
        let cases = [
            (sent, Delivery::Unknown),
            (Failure { stream: None, ..sent }, Delivery::NotSent),
            (Failure { highest_out: 3, ..sent }, Delivery::NotSent),
            (Failure { highest_out: 7, ..sent }, Delivery::Unknown),
            (Failure { peer_reset: Some(7), ..sent }, Delivery::NotSent),
            (Failure { above_goaway: true, ..sent }, Delivery::NotSent),
            (Failure { peer_reset: Some(7), begun: true, ..sent }, Delivery::Unknown),
            (Failure { above_goaway: true, begun: true, ..sent }, Delivery::Unknown),
        ];
        for (failure, expected) in cases {
            assert_eq!(delivery(failure), expected, "{failure:?}");
        }
        for code in (0..=13).filter(|code| *code != 7) {
            let failure = Failure { peer_reset: Some(code), ..sent };
            assert_eq!(delivery(failure), Delivery::Unknown, "{code}");
        }
    }
}
