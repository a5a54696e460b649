//! How the simulated origin spoils an exchange: the faults of a script, one by one.

use super::answers::Answer;
use super::connection::{Connection, Due};
use super::exchange::{LAST_MAX, Stream, TRICKLED};
use super::fault::{Cut, Fault, Last};
use super::ledger::Fate;
use super::{frames, hpack};

impl Connection {
    /// Plays a fault in place of, or around, the answer.
    pub(super) fn spoil(&mut self, id: u32, accepted: bool, fault: Fault) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let number = stream.number;
        match fault {
            Fault::Stall => return,
            Fault::Freeze => {
                self.frozen = true;
                return;
            }
            Fault::GoAwayTwice(after) => {
                self.go_away(LAST_MAX, 0, None);
                self.later(after, Due::GoAway);
            }
            Fault::CutOnHeaders(cut) | Fault::CutOnBody(cut) => {
                self.fate(number, Fate::Cut);
                self.ending = Some(cut);
                return;
            }
            Fault::CutMidAnswer(cut) => {
                self.put_headers(id, false);
                self.fate(number, Fate::Cut);
                self.ending = Some(cut);
                return;
            }
            Fault::Reset(code) => {
                self.streams.remove(&id);
                frames::put_word(&mut self.out, frames::RST_STREAM, id, code);
                return self.fate(number, Fate::Reset(code));
            }
            Fault::GoAway { last, code, reason, then_cut } => {
                return self.spoil_by_goaway(id, (last, code, reason.as_deref()), then_cut);
            }
            Fault::Html(_) | Fault::NoApnsId | Fault::Oversized(_) | Fault::Trickle(_) => {
                stream.disfigure(&fault);
            }
            Fault::Informational(count) => {
                for _ in 0..count {
                    let block = hpack::encode(&[(":status", "103")]);
                    let flags = frames::END_HEADERS;
                    frames::put(&mut self.out, frames::HEADERS, flags, id, &block);
                }
            }
            Fault::Limit(limit, lasts) => {
                let before = self.limit;
                self.warm = true;
                self.set_limit(limit);
                if let Some(lasts) = lasts {
                    let warm = self.shared.read(|conduct| conduct.warm_limit);
                    self.later(lasts, Due::Limit(warm.max(before)));
                }
                return self.answer(id);
            }
            Fault::Delay(_) => {}
        }
        self.adjust_limit(accepted);
        self.answer(id);
    }

    fn spoil_by_goaway(
        &mut self,
        id: u32,
        (last, code, reason): (Last, u32, Option<&str>),
        then_cut: Option<Cut>,
    ) {
        let last = match last {
            Last::Exact => id,
            Last::Below => id.saturating_sub(2),
            Last::Zero => 0,
            Last::Max => LAST_MAX,
        };
        self.go_away(last, code, reason);
        self.answer(id);
        self.ending = then_cut;
    }

    /// Sends GOAWAY; streams above `last` are dropped unprocessed.
    pub(super) fn go_away(&mut self, last: u32, code: u32, reason: Option<&str>) {
        // It may never grow (RFC 9113 §6.8): a client takes the whole connection for broken.
        let last = self.goaway_last.map_or(last, |before| before.min(last));
        let debug = reason.map(|reason| serde_json::json!({ "reason": reason }).to_string());
        frames::put_goaway(&mut self.out, last, code, debug.unwrap_or_default().as_bytes());
        self.goaway_last = Some(last);
        for (_, stream) in self.streams.split_off(&last.saturating_add(1)) {
            self.fate(stream.number, Fate::GoneAway);
            self.shared.ledger.update(stream.number, |entry| entry.delivered = false);
        }
    }
}

impl Stream {
    /// Changes what the answer looks like.
    fn disfigure(&mut self, fault: &Fault) {
        let Some(answer) = &mut self.answer else { return };
        if let Fault::Html(status) = fault {
            let page = b"<html><body>Bad Gateway</body></html>".to_vec();
            let bare = Answer::bare(*status).with("content-type", "text/html");
            *answer = Answer { body: page, ..bare };
        } else if let Fault::NoApnsId = fault {
            answer.fields.retain(|(name, _)| name != "apns-id");
        } else if let Fault::Oversized(bytes) = fault {
            answer.body = vec![b' '; *bytes];
        } else if let Fault::Trickle(every) = fault {
            self.trickle = Some(*every);
            answer.body = vec![b' '; TRICKLED];
        }
    }
}

impl Fault {
    /// Whether a push that meets this fault may have reached the device all the same.
    pub(super) fn delivers(&self) -> bool {
        match self {
            Self::CutOnHeaders(_) | Self::Html(_) => false,
            Self::Reset(code) => *code != frames::REFUSED_STREAM,
            Self::GoAway { last, .. } => matches!(last, Last::Exact | Last::Max),
            Self::CutMidAnswer(_)
            | Self::CutOnBody(_)
            | Self::Delay(_)
            | Self::Freeze
            | Self::GoAwayTwice(_)
            | Self::Informational(_)
            | Self::Limit(..)
            | Self::NoApnsId
            | Self::Oversized(_)
            | Self::Stall
            | Self::Trickle(_) => true,
        }
    }
}
