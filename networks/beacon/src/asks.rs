//! Questions that wait for an answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use byway_identity::{Addr, Prefix};
use byway_network::{Hop, Plane};

/// How long a question waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// Least time between two sweeps.
const SWEEP: Duration = Duration::from_secs(1);
/// Most questions of one asker.
pub(crate) const ASKS_PER_HOP: usize = 128;
/// Most questions in all.
pub(crate) const ASKS_MAX: usize = 8_192;

/// Who begins with `prefix` and can be reached in `plane`?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The leaf that asks, or the local node.
    pub(crate) hop: Option<Hop>,
    pub(crate) plane: Plane,
    pub(crate) prefix: Prefix,
}

/// Questions in the order of their askers.
type Key = (Option<Hop>, Plane, [u8; 32], u16);

/// Questions that wait for an answer; a leaf that asks too much loses its oldest ones.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    waiting: BTreeMap<Key, (Ask, Instant)>,
    sweep_at: Option<Instant>,
}

impl Asks {
    /// Remembers a question.
    pub(crate) fn add(&mut self, now: Instant, ask: Ask) {
        let until = now + PATIENCE;
        let key = (ask.hop, ask.plane, *ask.prefix.as_bytes(), ask.prefix.bits());
        if let Some(known) = self.waiting.get_mut(&key) {
            known.1 = until;
            return;
        }
        let first = (ask.hop, Plane::Any, [0; 32], 0);
        let own = || self.waiting.range(first..).take_while(|((hop, ..), _)| *hop == ask.hop);
        if own().count() >= ASKS_PER_HOP
            && let Some(oldest) = own().min_by_key(|(_, (_, until))| *until).map(|(key, _)| *key)
        {
            self.waiting.remove(&oldest);
        }
        if self.waiting.len() < ASKS_MAX {
            self.waiting.insert(key, (ask, until));
            self.sweep_at = self.sweep_at.or(Some(until));
        }
    }

    /// Takes the questions that `addr`, which can be reached in `plane`, answers. Nobody is told of itself.
    pub(crate) fn take(&mut self, now: Instant, plane: Plane, addr: Addr) -> Vec<Ask> {
        let answered = |ask: &Ask| {
            ask.plane == plane && ask.hop.is_none_or(|hop| hop.peer != addr) && ask.prefix.matches(&addr)
        };
        let taken = self.waiting.extract_if(.., |_, (ask, _)| answered(ask));
        taken.filter(|(_, (_, until))| *until > now).map(|(_, (ask, _))| ask).collect()
    }

    /// Forgets the questions of `hop`.
    pub(crate) fn forget(&mut self, hop: Hop) {
        self.waiting.retain(|(asker, ..), _| *asker != Some(hop));
    }

    /// Forgets questions that waited long enough.
    pub(crate) fn sweep(&mut self, now: Instant) {
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.waiting.retain(|_, (_, until)| *until > now);
            let oldest = self.waiting.values().map(|(_, until)| *until).min();
            self.sweep_at = oldest.map(|oldest| oldest.max(now + SWEEP));
        }
    }

    /// When [`Asks::sweep`] should be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// The questions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ask> {
        self.waiting.values().map(|(ask, _)| ask)
    }

    /// How many questions wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use byway_network::Family;

    use super::*;

    fn ask(asker: u16, target: u16) -> Ask {
        let bytes = |number: u16| {
            let mut bytes = [7; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            Addr::from_bytes(bytes)
        };
        let hop = Some(Hop { peer: bytes(asker), family: Family::Loopback });
        Ask { hop, plane: Plane::Any, prefix: Prefix::whole(bytes(target)) }
    }

    #[test]
    fn an_asker_that_asks_too_much_loses_only_its_own_questions() {
        let now = Instant::now();
        let mut asks = Asks::default();
        asks.add(now, ask(1, 0));
        for target in 0..1_000 {
            asks.add(now, ask(2, target));
        }
        assert_eq!(asks.len(), ASKS_PER_HOP + 1);
        for asker in 0..200 {
            for target in 0..ASKS_PER_HOP as u16 {
                asks.add(now, ask(asker, target));
            }
        }
        assert_eq!(asks.len(), ASKS_MAX);
        asks.sweep(now + PATIENCE);
        assert_eq!((asks.len(), asks.due()), (0, None));
    }

    #[test]
    fn a_question_is_answered_once_and_only_in_its_plane() {
        let now = Instant::now();
        let mut asks = Asks::default();
        asks.add(now, ask(1, 5));
        asks.add(now, ask(1, 5));
        let target = ask(1, 5).prefix.addr().expect("it is whole");
        assert!(asks.take(now, Plane::Anon, target).is_empty());
        assert_eq!(asks.take(now, Plane::Any, target), [ask(1, 5)]);
        assert!(asks.take(now, Plane::Any, target).is_empty());
    }
}
