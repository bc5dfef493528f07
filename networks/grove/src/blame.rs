//! What a neighbour has to answer for: probes that went by it and never came back.
//!
//! A node that swallows what it is given looks near to everything, and a tree that leads through it has no other way. Who
//! sends probes sees which neighbours they come back by; one by which nothing comes, while others bring answers from the same
//! target, is chosen less. That can hit an honest neighbour of a swallower, so it is bounded and heals.

use std::time::{Duration, Instant};

/// Most eighths that a promise is made worse by.
const WORST: u8 = 16;
/// One eighth heals in so much time.
const HEAL: Duration = Duration::from_secs(30);

/// How much a neighbour has swallowed lately.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Blame {
    eighths: u8,
    /// When the next of them is forgiven.
    heals: Option<Instant>,
}

impl Blame {
    /// Eighths by which what the neighbour promises is made worse in the choice.
    pub(crate) fn handicap(&self) -> u8 {
        self.eighths
    }

    /// Nothing came back by it, though the target lives. Whether that changed anything.
    pub(crate) fn swallowed(&mut self, now: Instant) -> bool {
        let before = self.eighths;
        // One silent round may be a matter of lost frames; several in a row are not.
        self.eighths = (self.eighths * 2).clamp(1, WORST);
        self.heals.get_or_insert(now + HEAL);
        before != self.eighths
    }

    /// Something came back by it. Whether that changed anything.
    pub(crate) fn answered(&mut self) -> bool {
        let before = self.eighths;
        self.eighths /= 2;
        if self.eighths == 0 {
            self.heals = None;
        }
        before != self.eighths
    }

    /// Forgives what is long ago. Whether that changed anything.
    pub(crate) fn heal(&mut self, now: Instant) -> bool {
        let before = self.eighths;
        while let Some(at) = self.heals.filter(|at| *at <= now) {
            self.eighths = self.eighths.saturating_sub(1);
            self.heals = (self.eighths > 0).then(|| at + HEAL);
        }
        before != self.eighths
    }

    /// When there is something to forgive.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.heals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blame_is_bounded_and_heals_by_answers_and_by_time() {
        let now = Instant::now();
        let mut blame = Blame::default();
        assert!(blame.swallowed(now));
        assert_eq!(blame.handicap(), 1);
        while blame.swallowed(now) {}
        assert_eq!(blame.handicap(), WORST);
        assert!(blame.answered() && blame.handicap() == WORST / 2);
        assert!(!blame.heal(now) && blame.heal(now + HEAL));
        assert_eq!(blame.handicap(), WORST / 2 - 1);
        blame.heal(now + HEAL * 100);
        assert_eq!((blame.handicap(), blame.due()), (0, None));
        assert!(!blame.answered());
    }
}
