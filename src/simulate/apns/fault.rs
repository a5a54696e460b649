//! The faults that the simulated origin plays, when it plays them, and how they are written on a
//! command line.
//!
//! `KIND@WHEN[:key=value,...]`: `goaway@5:last=exact,code=0,reason=Shutdown,then=close`,
//! `reset@3+7:code=7` (the third and every seventh from there), `stall@*`.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

/// Which last stream a GOAWAY names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// The request's own stream: it is answered.
    Exact,
    /// The stream before it: this request is refused as unprocessed.
    Below,
    /// No stream at all.
    Zero,
    /// 2^31-1, the graceful announcement (RFC 9113 §6.8).
    Max,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// FIN.
    Close,
    /// TCP RST.
    Reset,
}

/// One fault, played at one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The answer comes this much later.
    Delay(Duration),
    /// GOAWAY; afterwards the connection closes, or stays until the peer leaves.
    GoAway {
        /// Which last stream it names.
        last: Last,
        /// The error code.
        code: u32,
        /// The `reason` in its debug data.
        reason: Option<String>,
        /// Whether it is cut at once after the frame.
        then_cut: Option<Cut>,
    },
    /// GOAWAY 2^31-1, and this much later one that names the newest stream (RFC 9113 §6.8).
    GoAwayTwice(Duration),
    /// The connection takes and gives nothing any more, not even a FIN; the push counts as
    /// delivered.
    Freeze,
    /// An HTML page with this status and no `apns-id`.
    Html(u16),
    /// This many 103 answers before the real one.
    Informational(u32),
    /// Cut when the request's HEADERS came.
    CutOnHeaders(Cut),
    /// Cut when its body came; the push counts as delivered.
    CutOnBody(Cut),
    /// Cut after the answer's HEADERS.
    CutMidAnswer(Cut),
    /// A new MAX_CONCURRENT_STREAMS on this connection, for this long or for good.
    Limit(u32, Option<Duration>),
    /// An answer without `apns-id`.
    NoApnsId,
    /// An answer with a body of this many bytes.
    Oversized(usize),
    /// RST_STREAM with this code; the push counts as delivered for every code but REFUSED_STREAM.
    Reset(u32),
    /// No answer; the push counts as delivered.
    Stall,
    /// The answer's body one byte at a time, this far apart.
    Trickle(Duration),
}

/// When a fault is played, counted over all requests of the origin from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this request.
    At(u64),
    /// At this request and every `n`-th after it.
    From(u64, u64),
}

impl When {
    /// Whether it is this request's turn.
    pub const fn is(self, request: u64) -> bool {
        match self {
            Self::At(at) => at == request,
            Self::From(at, every) => request >= at && (request - at).is_multiple_of(every),
        }
    }
}

/// A fault and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub when: When,
    /// What.
    pub fault: Fault,
}

/// Why the text is no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FaultError(String);

impl FromStr for Planned {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let wrong = |what: &str| FaultError(format!("{text:?}: {what}"));
        let (head, options) = text.split_once(':').unwrap_or((text, ""));
        let (kind, when) = head.split_once('@').ok_or_else(|| wrong("want KIND@WHEN"))?;
        let number = |text: &str| text.parse::<u64>().ok().filter(|n| *n > 0);
        let when = match when.split_once('+') {
            None if when == "*" => Some(When::From(1, 1)),
            None => number(when).map(When::At),
            Some((at, every)) => number(at).zip(number(every)).map(|(a, e)| When::From(a, e)),
        };
        let when = when.ok_or_else(|| wrong("WHEN is N, N+EVERY or *"))?;
        let mut pairs = HashMap::new();
        for pair in options.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong("want key=value"))?;
            pairs.insert(key, value);
        }
        let mut options = Options(pairs);
        let fault = fault(kind, &mut options).ok_or_else(|| wrong("unknown kind or value"))?;
        if options.0.is_empty() { Ok(Self { when, fault }) } else { Err(wrong("unknown key")) }
    }
}

struct Options<'a>(HashMap<&'a str, &'a str>);

impl<'a> Options<'a> {
    fn take(&mut self, key: &str) -> Option<&'a str> {
        self.0.remove(key)
    }

    /// A number, `default` where the key is absent, `None` where it is none.
    fn number<T: FromStr>(&mut self, key: &str, default: T) -> Option<T> {
        self.take(key).map_or(Some(default), |text| text.parse().ok())
    }

    fn millis(&mut self, key: &str, default: u64) -> Option<Duration> {
        self.number(key, default).map(Duration::from_millis)
    }

    fn cut(&mut self) -> Option<Cut> {
        match self.take("by") {
            None | Some("close") => Some(Cut::Close),
            Some("reset") => Some(Cut::Reset),
            Some(_) => None,
        }
    }
}

fn fault(kind: &str, options: &mut Options<'_>) -> Option<Fault> {
    Some(match kind {
        "delay" => Fault::Delay(options.millis("ms", 1000)?),
        "goaway" => Fault::GoAway {
            last: match options.take("last") {
                None | Some("exact") => Last::Exact,
                Some("below") => Last::Below,
                Some("zero") => Last::Zero,
                Some("max") => Last::Max,
                Some(_) => return None,
            },
            code: options.number("code", 0)?,
            reason: options.take("reason").map(str::to_owned),
            then_cut: match options.take("then") {
                None | Some("stay") => None,
                Some("close") => Some(Cut::Close),
                Some("reset") => Some(Cut::Reset),
                Some(_) => return None,
            },
        },
        "goaway-twice" => Fault::GoAwayTwice(options.millis("ms", 50)?),
        "freeze" => Fault::Freeze,
        "html" => Fault::Html(options.number("status", 502)?),
        "informational" => Fault::Informational(options.number("count", 1000)?),
        "cut-on-headers" => Fault::CutOnHeaders(options.cut()?),
        "cut-on-body" => Fault::CutOnBody(options.cut()?),
        "cut-mid-answer" => Fault::CutMidAnswer(options.cut()?),
        "limit" => {
            let lasts = match options.take("ms") {
                Some(ms) => Some(Duration::from_millis(ms.parse().ok()?)),
                None => None,
            };
            Fault::Limit(options.number("to", 1)?, lasts)
        }
        "no-apns-id" => Fault::NoApnsId,
        "oversized" => Fault::Oversized(options.number("bytes", 1 << 20)?),
        "reset" => Fault::Reset(options.number("code", 7)?),
        "stall" => Fault::Stall,
        "trickle" => Fault::Trickle(options.millis("ms", 200)?),
        _ => return None,
    })
}

/// A reproducible storm: each request draws from the seed whether and which fault meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chaos {
    /// The same seed gives the same faults at the same request numbers.
    pub seed: u64,
    /// How many of 1000 requests meet a fault.
    pub per_mille: u64,
}

impl Chaos {
    /// The fault of a request, if it draws one.
    pub fn draw(self, request: u64) -> Option<Fault> {
        let roll = mix(self.seed ^ mix(request));
        if roll % 1000 >= self.per_mille {
            return None;
        }
        let pick = mix(roll);
        let cut = if pick & 1 == 0 { Cut::Close } else { Cut::Reset };
        let goaway = |last, then_cut| Fault::GoAway { last, code: 0, reason: None, then_cut };
        Some(match (pick >> 8) % 17 {
            0 => goaway(Last::Exact, None),
            1 => goaway(Last::Below, None),
            2 => goaway(Last::Max, None),
            3 => goaway(Last::Below, Some(cut)),
            4 => goaway(Last::Max, Some(cut)),
            5 => Fault::Reset(super::frames::REFUSED_STREAM),
            6 => Fault::Reset(RESET_CODES[usize::try_from((pick >> 16) % 4).expect("below 4")]),
            7 => Fault::CutOnHeaders(cut),
            8 => Fault::CutOnBody(cut),
            9 => Fault::CutMidAnswer(cut),
            10 => Fault::Delay(Duration::from_millis((pick >> 16) % 300)),
            11 => Fault::Limit(1, Some(Duration::from_millis(200))),
            12 => Fault::Limit(0, Some(Duration::from_millis(100))),
            13 => Fault::GoAwayTwice(Duration::from_millis((pick >> 16) % 50)),
            14 => goaway(Last::Zero, Some(cut)),
            15 => Fault::Stall,
            // Every push on the connection waits for its deadline: an eighth of the others' share.
            16 if (pick >> 16).is_multiple_of(8) => Fault::Freeze,
            _ => Fault::NoApnsId,
        })
    }
}

/// NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, CANCEL (RFC 9113 §7): none proves that nothing was done.
const RESET_CODES: [u32; 4] = [0, 1, 2, 8];

/// SplitMix64 (Steele, Lea, Flood 2014): good enough to scatter faults, and the same everywhere.
pub(crate) const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_text() {
        let text = "goaway@5:last=below,code=2,reason=Shutdown,then=reset";
        let planned: Planned = text.parse().unwrap();
        assert_eq!(planned.when, When::At(5));
        let want = Fault::GoAway {
            last: Last::Below,
            code: 2,
            reason: Some("Shutdown".into()),
            then_cut: Some(Cut::Reset),
        };
        assert_eq!(planned.fault, want);
        let rows = [
            ("stall@*", Fault::Stall),
            ("reset@3+7:code=8", Fault::Reset(8)),
            ("limit@2:to=0,ms=50", Fault::Limit(0, Some(Duration::from_millis(50)))),
            ("freeze@9", Fault::Freeze),
            ("goaway-twice@4:ms=5", Fault::GoAwayTwice(Duration::from_millis(5))),
            ("cut-on-body@1:by=reset", Fault::CutOnBody(Cut::Reset)),
        ];
        for (text, fault) in rows {
            assert_eq!(text.parse::<Planned>().unwrap().fault, fault, "{text}");
        }
        for bad in ["", "stall", "stall@0", "stall@x", "what@1", "reset@1:code=x", "stall@1:a=1"] {
            assert!(bad.parse::<Planned>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_period_starts_at_its_first_request() {
        let turns: Vec<u64> = (1..20).filter(|n| When::From(3, 7).is(*n)).collect();
        assert_eq!(turns, [3, 10, 17]);
    }

    #[test]
    fn the_same_seed_draws_the_same_faults() {
        let draw = |seed| {
            let chaos = Chaos { seed, per_mille: 100 };
            (1..2000).filter_map(|n| chaos.draw(n).map(|fault| (n, fault))).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!((100..300).contains(&draw(3).len()));
    }
}
