//! How often something may happen.

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
}
