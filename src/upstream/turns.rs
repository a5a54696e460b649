//! Who may try next for a lane, when there is no room for all: every sender in turn.
//!
//! Pure bookkeeping. A sender with thousands of made-up tokens waits behind itself, not before
//! others.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;

use tokio::sync::oneshot;

/// Waiting pushes, by sender.
#[derive(Debug, Default)]
pub struct Turns {
    senders: RefCell<VecDeque<Line>>,
}

#[derive(Debug)]
struct Line {
    sender: IpAddr,
    waiting: VecDeque<oneshot::Sender<()>>,
}

impl Turns {
    /// Does this sender wait already? Then its next push waits behind.
    pub fn waits(&self, sender: IpAddr) -> bool {
        self.senders.borrow().iter().any(|line| line.sender == sender)
    }

    /// Pushes that wait.
    pub fn len(&self) -> usize {
        self.senders.borrow().iter().map(|line| line.waiting.len()).sum()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.senders.borrow().is_empty()
    }

    /// Joins the sender's line, at its end or, after a turn that led to nothing, at its head. With
    /// `most` waiting already, the newest of the longest line leaves; `None` where that would be
    /// this one.
    pub fn join(&self, sender: IpAddr, again: bool, most: usize) -> Option<oneshot::Receiver<()>> {
        self.sweep();
        if !again && self.len() >= most && !self.make_room(sender) {
            return None;
        }
        let (turn, turned) = oneshot::channel();
        let mut senders = self.senders.borrow_mut();
        let at = senders.iter().position(|line| line.sender == sender).unwrap_or_else(|| {
            senders.push_back(Line { sender, waiting: VecDeque::new() });
            senders.len() - 1
        });
        let waiting = &mut senders[at].waiting;
        if again {
            waiting.push_front(turn);
        } else {
            waiting.push_back(turn);
        }
        Some(turned)
    }

    fn make_room(&self, sender: IpAddr) -> bool {
        let mut senders = self.senders.borrow_mut();
        let own = senders.iter().find(|line| line.sender == sender);
        let own = own.map_or(0, |line| line.waiting.len());
        let longest = senders.iter_mut().max_by_key(|line| line.waiting.len());
        match longest {
            Some(line) if line.waiting.len() > own + 1 => {
                // Its receiver learns that it is gone.
                drop(line.waiting.pop_back());
                true
            }
            Some(_) | None => false,
        }
    }

    /// Something changed: the first of every sender may try. Who was first to try last time is
    /// last now.
    pub fn give(&self) {
        self.sweep();
        let mut senders = self.senders.borrow_mut();
        for line in senders.iter_mut() {
            line.give();
        }
        if !senders.is_empty() {
            senders.rotate_left(1);
        }
        senders.retain(|line| !line.waiting.is_empty());
    }

    /// The next of this sender may try: its last turn was good, or was not used.
    pub fn pass(&self, sender: IpAddr) {
        self.sweep();
        let mut senders = self.senders.borrow_mut();
        if let Some(line) = senders.iter_mut().find(|line| line.sender == sender) {
            line.give();
        }
        senders.retain(|line| !line.waiting.is_empty());
    }

    fn sweep(&self) {
        let mut senders = self.senders.borrow_mut();
        for line in senders.iter_mut() {
            line.waiting.retain(|turn| !turn.is_closed());
        }
        senders.retain(|line| !line.waiting.is_empty());
    }
}

impl Line {
    fn give(&mut self) {
        while let Some(turn) = self.waiting.pop_front() {
            if turn.send(()).is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn turned(turns: &mut [oneshot::Receiver<()>]) -> usize {
        turns.iter_mut().map(|turn| usize::from(turn.try_recv().is_ok())).sum()
    }

    #[test]
    fn every_sender_has_a_turn_whatever_others_have_waiting() {
        let turns = Turns::default();
        let mut flood: Vec<_> = (0..100).map(|_| turns.join(ip(1), false, 1000).unwrap()).collect();
        let mut honest = turns.join(ip(2), false, 1000).unwrap();
        turns.give();
        assert_eq!(honest.try_recv(), Ok(()));
        assert_eq!(turned(&mut flood), 1);
        turns.pass(ip(1));
        assert_eq!(turned(&mut flood), 1);
        assert!(turns.waits(ip(1)) && !turns.waits(ip(2)));
        drop(flood);
        turns.give();
        assert!(turns.is_empty());
    }

    #[test]
    fn a_full_house_turns_the_newest_of_the_longest_line_away() {
        let turns = Turns::default();
        let mut flood: Vec<_> = (0..10).map(|_| turns.join(ip(1), false, 10).unwrap()).collect();
        assert!(turns.join(ip(1), false, 10).is_none(), "it is the longest itself");
        let _honest = turns.join(ip(2), false, 10).unwrap();
        assert_eq!(turns.len(), 10);
        assert_eq!(flood[9].try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(flood[0].try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }

    #[test]
    fn a_turn_that_led_to_nothing_keeps_its_place() {
        let turns = Turns::default();
        let _second = turns.join(ip(1), false, 10).unwrap();
        let mut first = turns.join(ip(1), true, 1).unwrap();
        turns.give();
        assert_eq!(first.try_recv(), Ok(()));
    }
}
