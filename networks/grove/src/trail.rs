//! Where frames came from, so that news of their targets, bad or good, finds its way back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use byway_network::Plane;

use crate::names::ShortId;

/// Most targets of which is remembered where the last frames for them came from.
pub(crate) const TRAIL_MAX: usize = 1_024;
/// Most links of one target: its last senders, as far as they came by different links.
const LINKS_MAX: usize = 4;
/// How long.
const LIFE: Duration = Duration::from_secs(10);
/// With no room left, those older than this have to go.
const LIFE_IN_NEED: Duration = Duration::from_secs(1);

/// The labels of the links that the last frames for each target came over. Threads that carry frames by a picture note them too.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    entries: Mutex<BTreeMap<ShortId, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The last one in front.
    links: [Option<Link>; LINKS_MAX],
    /// Absent: since the last sweep, noted by a thread, which has no clock of the router's.
    at: Option<Instant>,
}

/// A link, and the plane of the frames that came over it.
#[derive(Clone, Copy, Debug)]
struct Link {
    label: u16,
    plane: Plane,
    /// The news that was last sent back over it.
    told: Option<u64>,
    /// A complaint about the last frame has gone back over it.
    blamed: bool,
}

impl Trail {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShortId, Entry>> {
        // Each change is one call on a map or an entry: a panic elsewhere leaves a good one.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame of `plane` for `to` came over the link `label`; `now` is not known to threads.
    pub(crate) fn note(&self, now: Option<Instant>, to: ShortId, plane: Plane, label: u16) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(&to) {
            entry.at = now;
            return entry.put_in_front(plane, label);
        }
        if let Some(now) = now.filter(|_| entries.len() >= TRAIL_MAX) {
            entries.retain(|_, entry| entry.at.is_none_or(|at| at + LIFE_IN_NEED > now));
        }
        if entries.len() < TRAIL_MAX {
            let mut entry = Entry { at: now, ..Entry::default() };
            entry.put_in_front(plane, label);
            entries.insert(to, entry);
        }
    }

    /// The link that the last frame for `to` came over, once for that frame; then the one that an earlier frame came over: what
    /// has come by twice goes back by both, and not round.
    pub(crate) fn blame(&self, to: ShortId) -> Option<u16> {
        let mut entries = self.lock();
        let mut links = entries.get_mut(&to)?.links.iter_mut().flatten();
        let link = links.find(|link| !link.blamed)?;
        link.blamed = true;
        Some(link.label)
    }

    /// The links to tell the news `what` of `to` in `plane`: those that frames for it came over, each once for one piece of news.
    pub(crate) fn tell(&self, to: ShortId, plane: Plane, what: u64) -> Vec<u16> {
        let mut entries = self.lock();
        let links = entries.get_mut(&to).into_iter().flat_map(|entry| entry.links.iter_mut().flatten());
        let mut labels = Vec::new();
        for link in links.filter(|link| link.plane == plane) {
            if link.told.replace(what) != Some(what) {
                labels.push(link.label);
            }
        }
        labels
    }

    /// Whether frames of `plane` for `to` have come lately.
    pub(crate) fn has(&self, to: ShortId, plane: Plane) -> bool {
        let entries = self.lock();
        entries.get(&to).is_some_and(|entry| entry.links.iter().flatten().any(|link| link.plane == plane))
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

impl Entry {
    fn put_in_front(&mut self, plane: Plane, label: u16) {
        let is_it = |link: &Option<Link>| link.is_some_and(|link| (link.plane, link.label) == (plane, label));
        let at = self.links.iter().position(is_it).unwrap_or_else(|| {
            self.links[LINKS_MAX - 1] = Some(Link { label, plane, told: None, blamed: false });
            LINKS_MAX - 1
        });
        // Whoever sends again may not have got what was told.
        self.links[at].iter_mut().for_each(|link| (link.told, link.blamed) = (None, false));
        self.links[..=at].rotate_right(1);
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
        trail.note(Some(now), id(1), Plane::Any, 7);
        trail.note(Some(now), id(1), Plane::Any, 8);
        trail.note(None, id(2), Plane::Any, 9);
        assert_eq!([(); 3].map(|()| trail.blame(id(1))), [Some(8), Some(7), None]);
        trail.note(Some(now), id(1), Plane::Any, 7);
        assert_eq!([(); 2].map(|()| trail.blame(id(1))), [Some(7), None]);
        trail.sweep(now);
        trail.sweep(now + LIFE / 2);
        assert_eq!(trail.len(), 2);
        trail.sweep(now + LIFE - Duration::from_millis(1));
        assert_eq!(trail.len(), 2, "what a thread noted lives from the next sweep on");
        trail.sweep(now + LIFE);
        assert!(trail.is_empty());
    }

    #[test]
    fn news_goes_back_over_each_link_once() {
        let (trail, now) = (Trail::default(), Instant::now());
        for label in [1, 2, 3, 1, 4, 5] {
            trail.note(Some(now), id(1), Plane::Any, label);
        }
        trail.note(Some(now), id(2), Plane::Quiet, 6);
        assert_eq!(trail.tell(id(1), Plane::Any, 70), [5, 4, 1, 3], "the last ones");
        trail.note(Some(now), id(1), Plane::Any, 9);
        trail.note(Some(now), id(1), Plane::Any, 4);
        assert_eq!(trail.tell(id(1), Plane::Any, 70), [4, 9], "who came later, or again");
        assert_eq!(trail.tell(id(1), Plane::Any, 71), [4, 9, 5, 1]);
        assert!(trail.tell(id(2), Plane::Any, 70).is_empty(), "who asked in another plane");
        assert_eq!(trail.tell(id(2), Plane::Quiet, 70), [6]);
    }

    #[test]
    fn there_is_room_for_so_many_targets_and_the_old_ones_have_to_go() {
        let (trail, now) = (Trail::default(), Instant::now());
        for number in 0..2 * TRAIL_MAX as u64 {
            trail.note(if number % 2 == 0 { Some(now) } else { None }, id(number), Plane::Any, 1);
        }
        assert_eq!(trail.len(), TRAIL_MAX);
        trail.note(Some(now + LIFE_IN_NEED), id(u64::MAX), Plane::Any, 2);
        assert_eq!(trail.blame(id(u64::MAX)), Some(2));
        assert_eq!(trail.len(), TRAIL_MAX / 2 + 1);
    }
}
