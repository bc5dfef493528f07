//! How often something may happen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A steady rate with a burst, kept as the one instant at which the burst will be whole again: `BURST` at once, and one more
/// after each `MILLIS` milliseconds. The rate is in the type, for a node has several of these for each peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance<const BURST: u32, const MILLIS: u64> {
    full_at: Instant,
}

impl<const BURST: u32, const MILLIS: u64> Allowance<BURST, MILLIS> {
    const INTERVAL: Duration = Duration::from_millis(MILLIS);

    /// A whole burst.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one; false when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + Self::INTERVAL;
        let there = full_at <= now + Self::INTERVAL * BURST;
        if there {
            self.full_at = full_at;
        }
        there
    }

    /// When the next one is there.
    pub(crate) fn ready(&self, now: Instant) -> Instant {
        let spare = Self::INTERVAL * BURST.saturating_sub(1);
        self.full_at.checked_sub(spare).map_or(now, |ready| ready.max(now))
    }
}

/// The same rate for each of many askers, told apart by a key. Those for whom there is no room share one.
#[derive(Debug, Default)]
pub(crate) struct Shares<const BURST: u32, const MILLIS: u64> {
    used: BTreeMap<u64, Allowance<BURST, MILLIS>>,
}

/// Most askers that are told apart.
pub(crate) const SHARES_MAX: usize = 1_024;
/// The key of those for whom there is no room.
const OTHERS: u64 = u64::MAX;

impl<const BURST: u32, const MILLIS: u64> Shares<BURST, MILLIS> {
    /// Takes one of the share of `key`; false when there is none.
    pub(crate) fn take(&mut self, now: Instant, key: u64) -> bool {
        if self.used.len() >= SHARES_MAX && !self.used.contains_key(&key) {
            self.sweep(now);
        }
        let room = self.used.len() < SHARES_MAX || self.used.contains_key(&key);
        let share = self.used.entry(if room { key } else { OTHERS });
        share.or_insert(Allowance::new(now)).take(now)
    }

    /// Forgets shares that are whole again.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.used.retain(|_, share| share.full_at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_steady_rate() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut allowance = Allowance::<3, 1_000>::new(start);
        assert!((0..3).all(|_| allowance.take(start)));
        assert!(!allowance.take(start));
        assert_eq!(allowance.ready(start), start + second);
        assert!(allowance.take(start + second));
        assert!(!allowance.take(start + second));
        assert_eq!((0..10).filter(|_| allowance.take(start + 100 * second)).count(), 3);
    }

    #[test]
    fn who_asks_too_much_takes_nothing_from_others_and_many_names_bring_little() {
        let now = Instant::now();
        let mut shares = Shares::<2, 1_000>::default();
        assert_eq!((0..10).filter(|_| shares.take(now, 7)).count(), 2);
        assert!(shares.take(now, 8));
        // All the others have one share together.
        let taken = (100..100 + 3 * SHARES_MAX as u64).filter(|key| shares.take(now, *key)).count();
        assert_eq!(taken, SHARES_MAX - 2 + 2);
        assert_eq!(shares.used.len(), SHARES_MAX + 1);
        shares.sweep(now + Duration::from_secs(2));
        assert!(shares.used.is_empty());
    }
}
