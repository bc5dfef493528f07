//! How often something may happen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A steady rate with a burst, kept as the one instant at which the burst will be whole again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    burst: u32,
    interval: Duration,
    full_at: Instant,
}

impl Allowance {
    /// `burst` at once, and one more after each `interval`.
    pub(crate) const fn new(now: Instant, burst: u32, interval: Duration) -> Self {
        Self { burst, interval, full_at: now }
    }

    /// Takes one; false when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let there = full_at <= now + self.interval * self.burst;
        if there {
            self.full_at = full_at;
        }
        there
    }

    /// When the next one is there.
    pub(crate) fn ready(&self, now: Instant) -> Instant {
        let spare = self.interval * self.burst.saturating_sub(1);
        self.full_at.checked_sub(spare).map_or(now, |ready| ready.max(now))
    }
}

/// The same rate for each of many askers, told apart by a key. Those for whom there is no room share one.
#[derive(Debug)]
pub(crate) struct Shares {
    burst: u32,
    interval: Duration,
    used: BTreeMap<u64, Allowance>,
}

/// Most askers that are told apart.
pub(crate) const SHARES_MAX: usize = 1_024;
/// The key of those for whom there is no room.
const OTHERS: u64 = u64::MAX;

impl Shares {
    /// `burst` at once for each, and one more after each `interval`.
    pub(crate) const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, used: BTreeMap::new() }
    }

    /// Takes one of the share of `key`; false when there is none.
    pub(crate) fn take(&mut self, now: Instant, key: u64) -> bool {
        if self.used.len() >= SHARES_MAX && !self.used.contains_key(&key) {
            self.sweep(now);
        }
        let room = self.used.len() < SHARES_MAX || self.used.contains_key(&key);
        let share = self.used.entry(if room { key } else { OTHERS });
        share.or_insert(Allowance::new(now, self.burst, self.interval)).take(now)
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
        let mut allowance = Allowance::new(start, 3, second);
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
        let mut shares = Shares::new(2, Duration::from_secs(1));
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
