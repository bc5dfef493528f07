//! Pauses between attempts at what fails again and again.

use std::time::Duration;

use byway_identity::Entropy;

/// Doubles the pause with each failure, and spreads it, so that many who lost the same thing do not come back in step.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses of about `first` after the first failure, and of about `most` after many.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// It failed: how long to wait before the next attempt, three to five quarters of what is due.
    pub fn failed(&mut self, entropy: &mut dyn Entropy) -> Duration {
        let pause = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        let milliseconds = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        pause * 3 / 4 + Duration::from_millis(entropy.below(milliseconds / 2 + 1))
    }

    /// It succeeded: the next failure is the first again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use byway_identity::SeededEntropy;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_spread_and_success_makes_them_short_again() {
        let (first, most) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut entropy = SeededEntropy::new(1);
        let mut backoff = Backoff::new(first, most);
        let mut seen = Vec::new();
        for turn in 0..40u32 {
            let due = (first * 2u32.pow(turn.min(6))).min(most);
            let pause = backoff.failed(&mut entropy);
            assert!(due * 3 / 4 <= pause && pause <= due * 5 / 4, "turn {turn}: {pause:?} of {due:?}");
            seen.push(pause);
        }
        seen.dedup();
        assert!(seen.len() > 35, "there is no spread: {seen:?}");
        backoff.succeeded();
        assert!(backoff.failed(&mut entropy) <= first * 5 / 4);
    }
}
