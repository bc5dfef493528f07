//! Questions that this node has asked, for itself and its leaves, and what waits for the answers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Addr, Prefix};
use byway_network::{Constraint, Hop, Plane};

use crate::limit::Allowance;

/// Most open questions, and how long one is open.
pub(crate) const SEEKS_MAX: usize = 1_024;
pub(crate) const LIFE: Duration = Duration::from_secs(10);
/// Most that may wait for one answer, and bytes of payloads that may wait for all.
const WAITERS_MAX: usize = 64;
const PAYLOADS_MAX: usize = 16;
const BYTES_MAX: usize = 4 << 20;
/// Whoever has asked so lately still wants to know.
const KEEN: Duration = Duration::from_secs(1);
/// What is new of a tree needs this to be known on the way to whoever knows the answer.
const HURRY: Duration = Duration::from_millis(50);
/// So often at once there is hope, and then with pauses in milliseconds.
const HOPES: u32 = 8;
const HOPES_PAUSE: u64 = 1_000;

/// What an answer is for.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    /// `find` and `sample`.
    Above,
    /// A payload for that very node.
    Payload { to: Addr, payload: Bytes, by: Constraint },
    /// A question of a leaf.
    Leaf { hop: Hop, nonce: u64, fresh: bool },
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Question {
    pub(crate) plane: Plane,
    pub(crate) sample: bool,
    bits: u16,
    bytes: [u8; 32],
}

/// One open question.
#[derive(Clone, Debug)]
pub(crate) struct Seek {
    pub(crate) prefix: Prefix,
    pub(crate) nonce: u64,
    pub(crate) attempt: u32,
    /// Attempts since there was hope, by which the pauses grow.
    pauses: u32,
    /// Only the node itself may answer, for what others remember has turned out wrong, or may have.
    pub(crate) fresh: bool,
    pub(crate) next: Instant,
    until: Instant,
    pub(crate) waiters: Vec<Waiter>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Seeks {
    seeks: BTreeMap<Question, Seek>,
    nonces: BTreeMap<u64, Question>,
    bytes: usize,
    hopes: Option<Allowance<HOPES, HOPES_PAUSE>>,
}

impl Question {
    pub(crate) fn new(plane: Plane, prefix: Prefix) -> Self {
        Self { plane, sample: false, bits: prefix.bits(), bytes: *prefix.as_bytes() }
    }

    pub(crate) fn sample(plane: Plane) -> Self {
        Self { plane, sample: true, bits: 0, bytes: [0; 32] }
    }
}

impl Seek {
    /// Plans the next attempt: `round` is what an answer may take, and each pause is twice the one before.
    pub(crate) fn attempted(&mut self, now: Instant, round: Duration) {
        let waits = self.waiters.iter().any(|waiter| matches!(waiter, Waiter::Payload { .. }));
        let is_keen = now + LIFE <= self.until + KEEN;
        let longest = Duration::from_millis(if waits || is_keen { 300 } else { 1_500 });
        self.next = now + (round * (1 << self.pauses.min(6))).min(longest.max(round));
        self.attempt += 1;
        self.pauses += 1;
    }
}

impl Seeks {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.seeks.len()
    }

    /// Adds a question or joins an open one. Says whether it is new; nothing if there is no room.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        question: Question,
        prefix: Prefix,
        waiter: Option<Waiter>,
        nonce: u64,
    ) -> Option<bool> {
        if let Some(Waiter::Payload { payload, .. }) = &waiter
            && self.bytes + payload.len() > BYTES_MAX
        {
            return None;
        }
        let new = !self.seeks.contains_key(&question);
        if new && (self.seeks.len() >= SEEKS_MAX || self.nonces.contains_key(&nonce)) {
            return None;
        }
        let seek = self.seeks.entry(question).or_insert_with(|| Seek {
            prefix,
            nonce,
            attempt: 0,
            pauses: 0,
            fresh: false,
            next: now,
            until: now + LIFE,
            waiters: Vec::new(),
        });
        // Whoever asks again may wait again.
        seek.until = now + LIFE;
        // What was asked without a payload, or anew, is asked of the node itself.
        seek.fresh |= !matches!(waiter, Some(Waiter::Payload { .. } | Waiter::Leaf { fresh: false, .. }));
        self.nonces.insert(seek.nonce, question);
        let payloads = seek.waiters.iter().filter(|waiter| matches!(waiter, Waiter::Payload { .. })).count();
        match waiter {
            Some(Waiter::Payload { .. }) if payloads >= PAYLOADS_MAX => return None,
            Some(_) if seek.waiters.len() >= WAITERS_MAX => return None,
            // One answer serves all who ask above.
            Some(Waiter::Above) if seek.waiters.iter().any(|waiter| matches!(waiter, Waiter::Above)) => {}
            Some(Waiter::Leaf { hop, nonce, .. })
                if seek.waiters.iter().any(
                    |other| matches!(other, Waiter::Leaf { hop: h, nonce: n, .. } if (*h, *n) == (hop, nonce)),
                ) => {}
            Some(waiter) => {
                if let Waiter::Payload { payload, .. } = &waiter {
                    self.bytes += payload.len();
                }
                seek.waiters.push(waiter);
            }
            None => {}
        }
        Some(new)
    }

    pub(crate) fn get(&self, question: &Question) -> Option<&Seek> {
        self.seeks.get(question)
    }

    pub(crate) fn get_mut(&mut self, question: &Question) -> Option<&mut Seek> {
        self.seeks.get_mut(question)
    }

    /// The question that an answer with this number is for.
    pub(crate) fn asked(&self, nonce: u64) -> Option<(Question, &Seek)> {
        let question = self.nonces.get(&nonce)?;
        Some((*question, self.seeks.get(question)?))
    }

    /// Ends a question.
    pub(crate) fn take(&mut self, question: &Question) -> Option<Seek> {
        let seek = self.seeks.remove(question)?;
        self.nonces.remove(&seek.nonce);
        for waiter in &seek.waiters {
            if let Waiter::Payload { payload, .. } = waiter {
                self.bytes = self.bytes.saturating_sub(payload.len());
            }
        }
        Some(seek)
    }

    /// Questions that are due for another attempt.
    pub(crate) fn due(&self, now: Instant) -> Vec<Question> {
        let due = |seek: &Seek| seek.next <= now;
        self.seeks.iter().filter(|(_, seek)| due(seek)).map(|(question, _)| *question).collect()
    }

    /// All questions.
    pub(crate) fn questions(&self) -> Vec<Question> {
        self.seeks.keys().copied().collect()
    }

    /// Somebody who may know can be reached perhaps, who could not before: what was asked in vain is asked again soon.
    ///
    /// What gives hope is often a neighbour's doing, so there is only so much of it.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if !self.hopes.get_or_insert_with(|| Allowance::new(now)).take(now) {
            return;
        }
        for seek in self.seeks.values_mut() {
            seek.pauses = 0;
            seek.next = seek.next.min(now + HURRY);
        }
    }

    /// Questions that nobody answered in time.
    pub(crate) fn over(&mut self, now: Instant) -> Vec<Seek> {
        let over: Vec<Question> =
            self.seeks.iter().filter(|(_, seek)| seek.until <= now).map(|(question, _)| *question).collect();
        over.iter().filter_map(|question| self.take(question)).collect()
    }

    /// When something is due.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.seeks.values().map(|seek| seek.next.min(seek.until)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(number: u32) -> (Question, Prefix) {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        let prefix = Prefix::whole(Addr::from_bytes(bytes));
        (Question::new(Plane::Any, prefix), prefix)
    }

    fn payload(length: usize) -> Option<Waiter> {
        let by = Constraint::in_plane(Plane::Any);
        Some(Waiter::Payload { to: Addr::NOBODY, payload: vec![0; length].into(), by })
    }

    #[test]
    fn hope_shortens_the_pauses_and_cannot_be_given_for_ever() {
        let start = Instant::now();
        let round = Duration::from_millis(50);
        let mut seeks = Seeks::default();
        let (asked, prefix) = question(1);
        seeks.ask(start, asked, prefix, Some(Waiter::Above), 1);
        for _ in 0..10 {
            seeks.get_mut(&asked).expect("it is open").attempted(start, round);
        }
        let next = |seeks: &mut Seeks| seeks.get_mut(&asked).expect("it is open").next;
        assert_eq!(next(&mut seeks), start + Duration::from_millis(300), "somebody has just asked");
        let later = start + 2 * KEEN;
        seeks.get_mut(&asked).expect("it is open").attempted(later, round);
        assert_eq!(next(&mut seeks), later + Duration::from_millis(1_500));
        let mut attempts = 0;
        for millisecond in 0..5_000 {
            let now = later + Duration::from_millis(millisecond);
            seeks.hurry(now);
            if next(&mut seeks) <= now {
                seeks.get_mut(&asked).expect("it is open").attempted(now, round);
                attempts += 1;
            }
        }
        // As much as there was at first, once a second, and what follows each time.
        assert!((8..60).contains(&attempts), "{attempts} attempts in 5 s");
    }

    #[test]
    fn what_waits_has_bounds() {
        let now = Instant::now();
        let mut seeks = Seeks::default();
        for number in 0..SEEKS_MAX as u32 + 10 {
            let (asked, prefix) = question(number);
            let fits = seeks.ask(now, asked, prefix, Some(Waiter::Above), number.into()).is_some();
            assert_eq!(fits, number < SEEKS_MAX as u32);
        }
        assert_eq!(seeks.len(), SEEKS_MAX);
        let (asked, prefix) = question(1);
        for waiting in 0..PAYLOADS_MAX + 3 {
            let fits = seeks.ask(now, asked, prefix, payload(10), 0).is_some();
            assert_eq!(fits, waiting < PAYLOADS_MAX);
        }
        let mut most = 0;
        for number in 2..200 {
            let (asked, prefix) = question(number);
            most += usize::from(seeks.ask(now, asked, prefix, payload(60_000), 0).is_some());
        }
        assert_eq!(most, (BYTES_MAX - 10 * PAYLOADS_MAX) / 60_000);
        assert_eq!(seeks.over(now + LIFE).len(), SEEKS_MAX);
        assert_eq!((seeks.len(), seeks.bytes, seeks.nonces.len()), (0, 0, 0));
    }

    #[test]
    fn pauses_between_attempts_grow() {
        let now = Instant::now();
        let mut seeks = Seeks::default();
        let (asked, prefix) = question(1);
        assert_eq!(seeks.ask(now, asked, prefix, Some(Waiter::Above), 5), Some(true));
        assert_eq!(seeks.ask(now, asked, prefix, Some(Waiter::Above), 6), Some(false), "it joins");
        assert_eq!(seeks.asked(5).map(|(question, _)| question), Some(asked));
        assert!(seeks.asked(6).is_none());
        assert_eq!(seeks.due(now), [asked]);
        let round = Duration::from_millis(50);
        let seek = seeks.get_mut(&asked).expect("it is open");
        seek.attempted(now, round);
        assert_eq!(seek.next, now + round);
        seek.attempted(now, round);
        assert_eq!(seek.next, now + 2 * round);
        assert_eq!(seeks.wake(), Some(now + 2 * round));
    }
}
