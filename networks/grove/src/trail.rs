//! Where frames came from, so that bad news finds its way back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::names::ShortId;

/// Most targets of which is remembered where the last frame for them came from.
pub(crate) const TRAIL_MAX: usize = 1_024;
/// How long.
const LIFE: Duration = Duration::from_secs(10);
/// With no room left, those older than this have to go.
const LIFE_IN_NEED: Duration = Duration::from_secs(1);

/// The label of the link that the last frame for each target came over. Threads that carry frames by a picture note it too.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    entries: Mutex<BTreeMap<ShortId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    label: u16,
    /// Absent: since the last sweep, noted by a thread, which has no clock of the router's.
    at: Option<Instant>,
}

impl Trail {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShortId, Entry>> {
        // Each change is one call on a map: a panic elsewhere leaves a good one.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame for `to` came over the link `label`; `now` is not known to threads.
    pub(crate) fn note(&self, now: Option<Instant>, to: ShortId, label: u16) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(&to) {
            *entry = Entry { label, at: now };
            return;
        }
        if let Some(now) = now.filter(|_| entries.len() >= TRAIL_MAX) {
            entries.retain(|_, entry| entry.at.is_none_or(|at| at + LIFE_IN_NEED > now));
        }
        if entries.len() < TRAIL_MAX {
            entries.insert(to, Entry { label, at: now });
        }
    }

    /// The link that the last frame for `to` came over, once.
    pub(crate) fn take(&self, to: ShortId) -> Option<u16> {
        self.lock().remove(&to).map(|entry| entry.label)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Forgets what is past its time.
    pub(crate) fn sweep(&self, now: Instant) {
        self.lock().retain(|_, entry| *entry.at.get_or_insert(now) + LIFE > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ShortId {
        ShortId(number.to_be_bytes())
    }

    #[test]
    fn where_frames_came_from_is_remembered_for_a_while_and_told_once() {
        let (trail, now) = (Trail::default(), Instant::now());
        trail.note(Some(now), id(1), 7);
        trail.note(Some(now), id(1), 8);
        trail.note(None, id(2), 9);
        assert_eq!((trail.take(id(1)), trail.take(id(1))), (Some(8), None));
        trail.sweep(now);
        trail.sweep(now + LIFE / 2);
        assert_eq!(trail.len(), 1, "what a thread noted lives from the next sweep on");
        trail.sweep(now + LIFE);
        assert!(trail.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many_targets_and_the_old_ones_have_to_go() {
        let (trail, now) = (Trail::default(), Instant::now());
        for number in 0..2 * TRAIL_MAX as u64 {
            trail.note(if number % 2 == 0 { Some(now) } else { None }, id(number), 1);
        }
        assert_eq!(trail.len(), TRAIL_MAX);
        trail.note(Some(now + LIFE_IN_NEED), id(u64::MAX), 2);
        assert_eq!(trail.take(id(u64::MAX)), Some(2));
        assert_eq!(trail.len(), TRAIL_MAX / 2);
    }
}
