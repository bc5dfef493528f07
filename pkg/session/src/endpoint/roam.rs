//! Roaming: a session moves to another place only after a challenge came back from there.
//!
//! Until then the new place gets at most three times the bytes that it brought. The old place is asked at the same time,
//! and kept if it answers: whoever sends from two places at once does not make the session jump.

use std::time::{Duration, Instant};

use byway_identity::Entropy;

const AGAIN: Duration = Duration::from_millis(500);
const LIFE: Duration = Duration::from_secs(3);
/// How long the old place has to answer after the new one did, with one round trip more.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long nothing else is looked at after a decision to stay.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// A challenge's payload.
pub(super) type Token = [u8; 8];

/// A move under consideration.
pub(super) struct Roam<P> {
    pub(super) place: P,
    token: Token,
    old_token: Token,
    since: Instant,
    next: Instant,
    brought: usize,
    spent: usize,
    old_answered: bool,
    decide: Option<Instant>,
}

/// What to do about it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    Wait,
    /// Challenge the new place, and the old one, with these.
    Challenge(Token, Token),
    /// Go there.
    Move,
    /// Do not.
    Stay,
}

impl<P: PartialEq> Roam<P> {
    pub(super) fn new(now: Instant, place: P, entropy: &mut dyn Entropy) -> Self {
        let (mut token, mut old_token) = ([0; 8], [0; 8]);
        entropy.fill(&mut token);
        entropy.fill(&mut old_token);
        Self {
            place,
            token,
            old_token,
            since: now,
            next: now,
            brought: 0,
            spent: 0,
            old_answered: false,
            decide: None,
        }
    }

    /// The new place brought a frame of so many bytes.
    pub(super) fn brought(&mut self, bytes: usize) {
        self.brought += bytes;
    }

    /// A challenge came back from `place`.
    pub(super) fn answered(&mut self, now: Instant, place: &P, token: &[u8]) {
        if token == self.old_token && *place != self.place {
            self.old_answered = true;
        } else if token == self.token && *place == self.place && self.decide.is_none() {
            let rtt = now.saturating_duration_since(self.since);
            self.decide = Some(now + rtt.min(LIFE) + PATIENCE);
        }
    }

    /// `cost`: bytes of a challenge.
    pub(super) fn step(&mut self, now: Instant, cost: usize) -> Step {
        match self.decide {
            Some(_) if self.old_answered => Step::Stay,
            Some(at) if now >= at => Step::Move,
            Some(_) => Step::Wait,
            None if now >= self.since + LIFE => Step::Stay,
            None if now >= self.next && self.spent + cost <= 3 * self.brought => {
                self.spent += cost;
                self.next = now + AGAIN;
                Step::Challenge(self.token, self.old_token)
            }
            None => {
                if now >= self.next {
                    self.next = now + AGAIN;
                }
                Step::Wait
            }
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.decide.unwrap_or_else(|| self.next.min(self.since + LIFE))
    }
}
