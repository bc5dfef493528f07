//! How long a link that came back waits before traffic returns to it.
//!
//! ```text
//!   falls within 10 minutes   1     2     3      4 and more
//!   waits                    10 s  40 s  160 s  300 s
//! ```
//!
//! A link that falls once has its traffic back soon; one that flaps keeps none, since each move loses frames.

use std::time::{Duration, Instant};

/// Watches the falls of one link, over all connections and sessions that it had.
#[derive(Debug, Default)]
pub(crate) struct Steadiness {
    falls: u32,
    fell: Option<Instant>,
    until: Option<Instant>,
}

/// Wait after the first fall; each further one makes it four times as long.
const WAIT: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(300);
/// A fall is forgotten after this time without another.
const MEMORY: Duration = Duration::from_secs(600);

impl Steadiness {
    /// The link, which was up, is up no more.
    pub(crate) fn fell(&mut self, now: Instant) {
        self.forget(now);
        self.falls = self.falls.saturating_add(1);
        self.fell = Some(now);
        self.until = None;
    }

    /// The link is up.
    pub(crate) fn rose(&mut self, now: Instant) {
        self.forget(now);
        let wait = WAIT.saturating_mul(4u32.saturating_pow(self.falls.saturating_sub(1))).min(WAIT_MAX);
        self.until = (self.falls > 0).then(|| now + wait);
    }

    /// Whether traffic that has another way is to stay away.
    pub(crate) fn waits(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When it ends, if it waits.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.until
    }

    /// Ends a wait whose time has come; true if one did.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        let is_over = self.until.is_some_and(|until| until <= now);
        if is_over {
            self.until = None;
        }
        is_over
    }

    fn forget(&mut self, now: Instant) {
        if self.fell.is_some_and(|fell| now >= fell + MEMORY) {
            self.falls = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_has_never_fallen_need_not_wait() {
        let now = Instant::now();
        let mut steadiness = Steadiness::default();
        steadiness.rose(now);
        assert!(!steadiness.waits(now) && steadiness.due().is_none());
    }

    #[test]
    fn each_fall_makes_the_wait_longer_up_to_a_limit_and_ten_quiet_minutes_make_it_short_again() {
        let mut now = Instant::now();
        let mut steadiness = Steadiness::default();
        for wait in [10, 40, 160, 300, 300] {
            steadiness.fell(now);
            assert_eq!(steadiness.due(), None);
            now += SECOND;
            steadiness.rose(now);
            assert!(steadiness.waits(now + (wait - 1) * SECOND) && !steadiness.waits(now + wait * SECOND));
            assert!(!steadiness.poll(now + (wait - 1) * SECOND) && steadiness.poll(now + wait * SECOND));
            assert!(!steadiness.poll(now + wait * SECOND), "it ends once");
        }
        now += MEMORY;
        steadiness.fell(now);
        steadiness.rose(now);
        assert!(!steadiness.waits(now + 10 * SECOND));
    }
}
