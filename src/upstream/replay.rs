//! What is known of a push whose exchange failed: the only place that may call one unsent.
//!
//! Pure. RFC 9113 §8.7: unprocessed is what was never written, what REFUSED_STREAM names, and
//! what lies above GOAWAY's last stream. Everything else may have been processed.

use super::Delivery;

/// A push is sent again at most this often (DESIGN §7): enough for a limit that dropped and a
/// GOAWAY right after it, not enough to hammer an origin that refuses everything.
pub const MAX_REPLAYS: u8 = 2;

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
}

const REFUSED_STREAM: u32 = 7;

/// Judges a failure.
pub fn delivery(failure: Failure) -> Delivery {
    let Some(stream) = failure.stream else {
        return Delivery::NotSent;
    };
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
    fn e1_only_what_is_proven_unprocessed_counts_as_not_sent() {
        let sent =
            Failure { stream: Some(5), highest_out: 5, peer_reset: None, above_goaway: false };
        let cases = [
            (sent, Delivery::Unknown),
            (Failure { stream: None, ..sent }, Delivery::NotSent),
            (Failure { highest_out: 3, ..sent }, Delivery::NotSent),
            (Failure { highest_out: 7, ..sent }, Delivery::Unknown),
            (Failure { peer_reset: Some(7), ..sent }, Delivery::NotSent),
            (Failure { above_goaway: true, ..sent }, Delivery::NotSent),
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
