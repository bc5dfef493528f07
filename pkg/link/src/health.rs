//! How the way to one peer over one kind of transport is doing, and since when, and why.
//!
//! ```text
//!   Starting ── a link ──► Up ◄──► Degraded: loss above 10 %, or a round trip above 3 × the usual one
//!      ▲ │                 │ ▲
//!      │ │ score ≥ 3       │ │ a link answers
//!      │ ▼    score ≥ 3    ▼ │
//!     (lost) Suspect ──────────── score ≥ 6, two kinds of evidence or 30 s ──► Blocked
//! ```
//!
//! Evidence adds to a score that halves every ten minutes. It is gathered for one peer; whether a whole family of transports
//! is blocked is for those to judge who see all peers.

use std::time::{Duration, Instant};

/// How a way is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No link yet, or none any more, and little speaks against one.
    Starting,
    /// A link is open and answers.
    Up,
    /// The same, but it loses much, or takes far longer than usual.
    Degraded,
    /// No link, and what was tried failed.
    Suspect,
    /// No link, and what was tried failed in several ways or for long.
    Blocked,
}

/// What speaks against a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// No answer, to traffic or to a handshake.
    Timeout,
    /// It was refused, or the connection was cut.
    Cut,
    /// Whoever answered has the wrong certificate.
    Certificate,
}

/// Watches one way.
#[derive(Debug)]
pub(crate) struct Health {
    state: State,
    since: Instant,
    why: Option<String>,
    score: f64,
    scored: Instant,
    /// Kinds of evidence, by bit, since the score was below [`SUSPECT`].
    kinds: u8,
    suspect_since: Option<Instant>,
}

const SUSPECT: f64 = 3.0;
const BLOCKED: f64 = 6.0;
/// More is not added up, so that what was blocked for days is forgotten in an hour.
const SCORE_MAX: f64 = 12.0;
const HALF_LIFE: Duration = Duration::from_secs(600);
/// How long one kind of evidence must be around before a way counts as blocked.
const LONG: Duration = Duration::from_secs(30);

impl State {
    /// The name that people and programs see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Suspect => "suspect",
            Self::Blocked => "blocked",
        }
    }
}

impl Health {
    /// Nothing is known.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            state: State::Starting,
            since: now,
            why: None,
            score: 0.0,
            scored: now,
            kinds: 0,
            suspect_since: None,
        }
    }

    /// State, since when, and why.
    pub(crate) fn show(&self) -> (State, Instant, Option<&str>) {
        (self.state, self.since, self.why.as_deref())
    }

    /// Something failed; without evidence, for a reason that lies here. `elsewhere`: another way to the same peer works, so that the peer itself is there.
    pub(crate) fn failed(&mut self, now: Instant, evidence: Option<Evidence>, elsewhere: bool, why: &str) {
        self.why = Some(why.to_owned());
        let Some(evidence) = evidence else { return };
        let score = self.score(now);
        if score < SUSPECT {
            self.kinds = 0;
        }
        let weight = match (evidence, elsewhere) {
            (Evidence::Certificate, true) => 4.0,
            (_, true) => 2.0,
            (_, false) => 1.0,
        };
        self.score = (score + weight).min(SCORE_MAX);
        self.scored = now;
        self.kinds |= 1 << evidence as u8;
    }

    /// Brings the state up to date; true if it changed. `open`: a link is up, and whether it is bad.
    pub(crate) fn update(&mut self, now: Instant, open: Option<bool>) -> bool {
        let score = self.score(now);
        let state = match open {
            Some(false) => State::Up,
            Some(true) => State::Degraded,
            None if score < SUSPECT => State::Starting,
            None => {
                let since = *self.suspect_since.get_or_insert(now);
                let is_sure = self.kinds.count_ones() > 1 || now >= since + LONG;
                if score >= BLOCKED && is_sure { State::Blocked } else { State::Suspect }
            }
        };
        if !matches!(state, State::Suspect | State::Blocked) {
            self.suspect_since = None;
        }
        if open.is_some() {
            self.why = None;
        }
        if state == self.state {
            return false;
        }
        self.state = state;
        self.since = now;
        true
    }

    fn score(&self, now: Instant) -> f64 {
        let halves = now.saturating_duration_since(self.scored).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.score * 0.5f64.powf(halves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn state(health: &Health) -> State {
        health.show().0
    }

    #[test]
    fn what_fails_while_another_way_works_is_suspect_soon_and_blocked_after_half_a_minute() {
        let start = Instant::now();
        let mut health = Health::new(start);
        assert!(health.update(start, Some(false)));
        let mut seen = Vec::new();
        for second in 0..60 {
            let now = start + second * SECOND;
            if second % 5 == 0 {
                health.failed(now, Some(Evidence::Timeout), true, "no answer");
            }
            if health.update(now, None) {
                seen.push((second, state(&health)));
            }
        }
        assert_eq!(seen, [(0, State::Starting), (5, State::Suspect), (35, State::Blocked)]);
        assert_eq!(health.show().2, Some("no answer"));
        assert!(health.update(start + 61 * SECOND, Some(false)));
        assert_eq!(health.show(), (State::Up, start + 61 * SECOND, None));
    }

    #[test]
    fn two_kinds_of_evidence_are_enough_at_once() {
        let start = Instant::now();
        let mut health = Health::new(start);
        for _ in 0..3 {
            health.failed(start, Some(Evidence::Timeout), true, "no answer");
        }
        health.update(start, None);
        assert_eq!(state(&health), State::Suspect);
        health.failed(start, Some(Evidence::Cut), true, "reset");
        health.update(start, None);
        assert_eq!(state(&health), State::Blocked);
    }

    #[test]
    fn an_outage_of_everything_weighs_less_and_is_forgotten() {
        let start = Instant::now();
        let mut health = Health::new(start);
        for _ in 0..2 {
            health.failed(start, Some(Evidence::Timeout), false, "no answer");
        }
        health.update(start, None);
        assert_eq!(state(&health), State::Starting, "the peer may be off");
        for _ in 0..1_000 {
            health.failed(start, Some(Evidence::Timeout), false, "no answer");
        }
        health.update(start, None);
        assert_eq!(state(&health), State::Suspect);
        health.update(start + 1_201 * SECOND, None);
        assert_eq!(state(&health), State::Starting, "{}", health.score(start + 1_201 * SECOND));
    }
}
