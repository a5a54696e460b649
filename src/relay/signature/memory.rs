//! Which signatures were seen: a captured request is good for nothing within its own lifetime.

use std::collections::{HashSet, VecDeque};

use crate::relay::outcome::Refusal;

use super::WINDOW_SECONDS;

/// Most signatures remembered: 120 s at more than 30,000 a second, which is beyond what one relay
/// carries; about 80 MB when full. A full memory refuses, because forgetting would let repeats in.
const CAPACITY: usize = 4_000_000;

/// A slot's length, seconds: how coarsely the old are forgotten.
const SLOT: i64 = 10;

/// Signatures seen, by the first 8 octets of their tag, in slots by `created`.
#[derive(Debug)]
pub struct Memory {
    slots: VecDeque<(i64, HashSet<u64>)>,
    count: usize,
    capacity: usize,
}

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> Self {
        Self { slots: VecDeque::new(), count: 0, capacity }
    }

    /// Takes a signature down that has verified.
    ///
    /// # Errors
    /// [`Refusal::Signature`] where it was seen before, or the memory is full.
    pub fn remember(&mut self, tag: &[u8], created: i64, now: i64) -> Result<(), Refusal> {
        let oldest = now.saturating_sub(WINDOW_SECONDS).div_euclid(SLOT);
        let count = &mut self.count;
        self.slots.retain(|(slot, seen)| {
            let keep = *slot >= oldest;
            *count -= if keep { 0 } else { seen.len() };
            keep
        });
        let mut short = [0_u8; 8];
        let n = tag.len().min(8);
        short[..n].copy_from_slice(&tag[..n]);
        let short = u64::from_be_bytes(short);
        let slot = created.div_euclid(SLOT);
        let at = self.slots.iter().position(|(other, _seen)| *other == slot);
        let at = at.unwrap_or_else(|| {
            self.slots.push_back((slot, HashSet::new()));
            self.slots.len() - 1
        });
        let seen = &mut self.slots[at].1;
        if seen.contains(&short) {
            return Err(Refusal::Signature("it was used before"));
        }
        if self.count == self.capacity {
            return Err(Refusal::Signature("too many signatures to remember"));
        }
        seen.insert(short);
        self.count += 1;
        Ok(())
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seen_are_refused_until_they_are_too_old_anyway_and_room_comes_back() {
        let mut memory = Memory::with_capacity(2);
        assert_eq!(memory.remember(b"aaaaaaaa", 1000, 1000), Ok(()));
        assert!(memory.remember(b"aaaaaaaa", 1000, 1120).is_err());
        assert_eq!(memory.remember(b"bbbbbbbb", 1001, 1120), Ok(()));
        assert!(memory.remember(b"cccccccc", 1120, 1120).is_err(), "full");
        assert_eq!(memory.remember(b"cccccccc", 1240, 1240), Ok(()));
        assert_eq!(memory.count, 1);
    }
}
