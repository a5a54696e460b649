//! Says in the log when a certificate is about to end, once for each level of alarm: whoever has no
//! monitoring reads it there, and nobody reads it every hour.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::metrics::Metrics;
use crate::pki::{self, Alarm, Ending};

/// What was told last of each certificate.
#[derive(Debug, Default)]
pub(super) struct Expiry(BTreeMap<String, Alarm>);

impl Expiry {
    /// Sets the metric, and tells what has come closer to its end since the last call.
    pub(super) fn note(&mut self, expiries: &[(String, i64)], metrics: &Metrics) {
        metrics.set_expiries(expiries.iter().map(|(name, not_after)| {
            let kind = if name == pki::ISSUER { "issuer" } else { "leaf" };
            (kind, name.clone(), *not_after)
        }));
        for ending in self.news(expiries, pki::unix(SystemTime::now())) {
            if ending.alarm >= Alarm::Week {
                tracing::error!("{}", ending.text);
            } else {
                tracing::warn!("{}", ending.text);
            }
        }
    }

    fn news(&mut self, expiries: &[(String, i64)], now: i64) -> Vec<Ending> {
        let levels = expiries.iter().map(|(name, end)| (name.clone(), pki::alarm(*end, now)));
        let before = std::mem::replace(&mut self.0, levels.collect());
        let mut endings = pki::endings(expiries, now);
        endings.retain(|one| before.get(&one.name).is_none_or(|level| one.alarm > *level));
        endings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_is_told_once_and_again_after_a_renewal() {
        let day = 86_400;
        let mut expiry = Expiry::default();
        let mut at = |now: i64, end: i64| expiry.news(&[("issuer".to_owned(), end)], now).len();
        assert_eq!(at(0, 31 * day), 0);
        assert_eq!((at(0, 30 * day), at(day, 30 * day)), (1, 0));
        assert_eq!((at(16 * day, 30 * day), at(17 * day, 30 * day)), (1, 0));
        assert_eq!((at(23 * day, 30 * day), at(30 * day, 30 * day)), (1, 1));
        assert_eq!((at(30 * day, 99 * day), at(80 * day, 99 * day)), (0, 1));
    }
}
