//! Where other nodes are, as they said themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use byway_identity::Addr;
use byway_network::{PathId, Plane};

use crate::cert::Seq;
use crate::coords::Coords;
use crate::limit::Allowance;
use crate::location::Location;
use crate::names::{ShortId, short_id};
use crate::paths::{Path, Paths};

/// Most locations.
pub(crate) const REMOTES_MAX: usize = 4_096;
/// A location is forgotten after this time.
const LIFE: Duration = Duration::from_secs(240);
/// Payloads that came back are tried again so many at once, and then with pauses of so many milliseconds in between.
const SALVAGES: u32 = 32;
const SALVAGE_PAUSE: u64 = 100;
/// Most ways back.
pub(crate) const BACKS_MAX: usize = 1_024;
/// A way back that was not used is forgotten after this time.
const BACK_LIFE: Duration = Duration::from_secs(300);

/// A node, in one plane.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) id: ShortId,
    pub(crate) digest: [u8; 32],
    pub(crate) seq: Seq,
    pub(crate) coords: Coords,
    pub(crate) learned: Instant,
    /// Somebody said that no way leads there any more.
    pub(crate) stale: bool,
    /// Payloads since it was learned, and when the last one was.
    pub(crate) sent: u32,
    pub(crate) used: Instant,
    pub(crate) probe_at: Option<Instant>,
    /// A round was due while nobody sent anything: the next payload brings it.
    pub(crate) lapsed: bool,
    /// When the present round of probes ends.
    pub(crate) round_until: Option<Instant>,
    pub(crate) paths: Option<Box<Paths>>,
    pub(crate) echo: Option<Echo>,
    /// How often a payload that came back is tried again.
    pub(crate) salvages: Allowance<SALVAGES, SALVAGE_PAUSE>,
}

/// A question that goes along the way in use and back, so that it is known to carry, and what it costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    /// When the next one is due: the first of a series, or another because the last ones were not answered.
    pub(crate) at: Instant,
    /// Sent and not answered.
    pub(crate) tries: u8,
    pub(crate) nonce: u64,
    pub(crate) sent: Instant,
    pub(crate) path: PathId,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Remotes {
    remotes: BTreeMap<(Addr, Plane), Box<Remote>>,
    ids: BTreeMap<ShortId, Addr>,
    oldest: Option<Instant>,
    generation: u64,
}

impl Remotes {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.remotes.len()
    }

    pub(crate) fn get(&self, addr: &Addr, plane: Plane) -> Option<&Remote> {
        self.remotes.get(&(*addr, plane)).map(|remote| &**remote)
    }

    pub(crate) fn get_mut(&mut self, addr: &Addr, plane: Plane) -> Option<&mut Remote> {
        self.remotes.get_mut(&(*addr, plane)).map(|remote| &mut **remote)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Addr, Plane, &Remote)> {
        self.remotes.iter().map(|((addr, plane), remote)| (addr, *plane, &**remote))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Addr, Plane, &mut Remote)> {
        self.remotes.iter_mut().map(|((addr, plane), remote)| (addr, *plane, &mut **remote))
    }

    pub(crate) fn by_id(&self, id: ShortId) -> Option<Addr> {
        self.ids.get(&id).copied()
    }

    /// Keeps what a node said, unless something newer is kept.
    pub(crate) fn learn(&mut self, now: Instant, location: Location) -> bool {
        let key = (location.addr, location.plane);
        if let Some(known) = self.remotes.get_mut(&key) {
            if location.seq < known.seq {
                return false;
            }
            let moved = known.stale || known.coords != location.coords;
            (known.seq, known.digest, known.coords) = (location.seq, location.digest, location.coords);
            (known.learned, known.stale) = (now, false);
            self.generation += u64::from(moved);
            return true;
        }
        if self.remotes.len() >= REMOTES_MAX {
            let oldest = self.remotes.iter().min_by_key(|(_, remote)| remote.learned).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.forget(&oldest);
            }
        }
        let id = short_id(&location.addr);
        self.ids.insert(id, location.addr);
        self.oldest = Some(self.oldest.map_or(now, |oldest| oldest.min(now)));
        let remote = Remote {
            id,
            digest: location.digest,
            seq: location.seq,
            coords: location.coords,
            learned: now,
            stale: false,
            sent: 0,
            used: now,
            probe_at: None,
            lapsed: false,
            round_until: None,
            paths: None,
            echo: None,
            salvages: Allowance::new(now),
        };
        self.remotes.insert(key, Box::new(remote));
        self.generation += 1;
        true
    }

    /// Grows whenever payloads to some node may go another way than before.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The ways to some node are others now.
    pub(crate) fn moved(&mut self) {
        self.generation += 1;
    }

    /// Where a node said to be leads nowhere any more: no payload goes there until it is asked again.
    pub(crate) fn doubt(&mut self, addr: &Addr, plane: Plane) {
        if let Some(remote) = self.remotes.get_mut(&(*addr, plane)) {
            remote.stale = true;
            self.generation += 1;
        }
    }

    fn forget(&mut self, key: &(Addr, Plane)) {
        self.generation += 1;
        if let Some(remote) = self.remotes.remove(key)
            && !Plane::ALL.iter().any(|plane| self.remotes.contains_key(&(key.0, *plane)))
        {
            self.ids.remove(&remote.id);
        }
    }

    /// When the next one is past its time.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.oldest.map(|oldest| oldest + LIFE)
    }

    /// Forgets what is past its time.
    pub(crate) fn sweep(&mut self, now: Instant) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        let over: Vec<_> = self
            .remotes
            .iter()
            .filter(|(_, remote)| remote.learned + LIFE <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            self.forget(&key);
        }
        self.oldest = self.remotes.values().map(|remote| remote.learned).min();
    }

    /// The way with this number.
    pub(crate) fn path(&self, id: PathId) -> Option<Path> {
        let paths = self.remotes.values().filter_map(|remote| remote.paths.as_ref());
        paths.flat_map(|paths| &paths.chosen).find(|path| path.id == id).cloned()
    }
}

/// Most answers that are remembered for others, and for how long.
pub(crate) const MEMORY_MAX: usize = 512;
const MEMORY: Duration = Duration::from_secs(60);

/// Answers that passed by.
#[derive(Default)]
pub(crate) struct Memory {
    locations: BTreeMap<(Addr, Plane), Box<(Location, Instant)>>,
}

impl Memory {
    pub(crate) fn get(&self, now: Instant, addr: &Addr, plane: Plane) -> Option<&Location> {
        let (location, learned) = &**self.locations.get(&(*addr, plane))?;
        (now < *learned + MEMORY).then_some(location)
    }

    /// Whether this, or something newer of the same node, is remembered.
    pub(crate) fn knows(&self, now: Instant, location: &Location) -> bool {
        self.get(now, &location.addr, location.plane).is_some_and(|known| known.seq >= location.seq)
    }

    /// Keeps an answer that has been checked.
    pub(crate) fn learn(&mut self, now: Instant, location: Location) {
        let key = (location.addr, location.plane);
        if self.locations.len() >= MEMORY_MAX && !self.locations.contains_key(&key) {
            self.locations.retain(|_, known| now < known.1 + MEMORY);
            let oldest = self.locations.iter().min_by_key(|(_, known)| known.1).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| self.locations.len() >= MEMORY_MAX) {
                self.locations.remove(&oldest);
            }
        }
        self.locations.insert(key, Box::new((location, now)));
    }

    /// What somebody remembered has turned out wrong.
    pub(crate) fn forget(&mut self, addr: &Addr, plane: Plane) {
        self.locations.remove(&(*addr, plane));
    }

    pub(crate) fn sweep(&mut self, now: Instant) {
        self.locations.retain(|_, known| now < known.1 + MEMORY);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.locations.is_empty()
    }
}

/// Ways back to whoever sent something along a way.
#[derive(Default)]
pub(crate) struct Backs {
    by_way: BTreeMap<(Plane, Vec<u16>), PathId>,
    by_id: BTreeMap<PathId, (Plane, Vec<u16>, Instant)>,
}

impl Backs {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The number of a way back, the same as long as it is in use.
    pub(crate) fn note(
        &mut self,
        now: Instant,
        plane: Plane,
        way: Vec<u16>,
        fresh: impl FnOnce() -> PathId,
    ) -> PathId {
        let key = (plane, way);
        if let Some(id) = self.by_way.get(&key) {
            if let Some(entry) = self.by_id.get_mut(id) {
                entry.2 = now;
            }
            return *id;
        }
        if self.by_id.len() >= BACKS_MAX {
            let oldest = self.by_id.iter().min_by_key(|(_, (_, _, used))| *used).map(|(id, _)| *id);
            oldest.into_iter().for_each(|id| self.forget(id));
        }
        let id = fresh();
        self.by_id.insert(id, (key.0, key.1.clone(), now));
        self.by_way.insert(key, id);
        id
    }

    pub(crate) fn get(&self, id: PathId) -> Option<(Plane, &[u16])> {
        self.by_id.get(&id).map(|(plane, way, _)| (*plane, &way[..]))
    }

    pub(crate) fn forget(&mut self, id: PathId) {
        if let Some((plane, way, _)) = self.by_id.remove(&id) {
            self.by_way.remove(&(plane, way));
        }
    }

    /// The ways back in `plane` to those who have sent something since then, at most `most`, the last ones first.
    pub(crate) fn lately(&self, since: Instant, plane: Plane, most: usize) -> Vec<Vec<u16>> {
        let lately = self.by_id.values().filter(|(other, _, used)| *other == plane && *used >= since);
        let mut ways: Vec<(Instant, &Vec<u16>)> = lately.map(|(_, way, used)| (*used, way)).collect();
        ways.sort_unstable_by(|a, b| b.cmp(a));
        ways.into_iter().take(most).map(|(_, way)| way.clone()).collect()
    }

    /// Forgets every way back that begins with `labels`.
    pub(crate) fn broken(&mut self, labels: &[u16]) {
        let over: Vec<PathId> =
            self.by_id.iter().filter(|(_, (_, way, _))| way.starts_with(labels)).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.forget(id));
    }

    pub(crate) fn sweep(&mut self, now: Instant) {
        let old = |(_, _, used): &(Plane, Vec<u16>, Instant)| *used + BACK_LIFE <= now;
        let over: Vec<PathId> =
            self.by_id.iter().filter(|(_, entry)| old(entry)).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.forget(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::tests::{key, network};

    fn location(number: u64, counter: u64) -> Location {
        let key = key(1);
        let seq = Seq { boot: 1, counter };
        let mut location =
            Location::make(&key, &network(), seq, Plane::Any, Coords::default(), [counter as u8; 32]);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        location.addr = Addr::from_bytes(bytes);
        location
    }

    #[test]
    fn what_is_older_changes_nothing() {
        let now = Instant::now();
        let mut remotes = Remotes::default();
        assert!(remotes.learn(now, location(1, 5)));
        assert!(!remotes.learn(now, location(1, 4)));
        assert!(remotes.learn(now, location(1, 6)));
        let addr = location(1, 0).addr;
        assert_eq!(remotes.get(&addr, Plane::Any).map(|remote| remote.digest), Some([6; 32]));
        assert!(remotes.get(&addr, Plane::Anon).is_none());
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for_and_none_for_ever() {
        let now = Instant::now();
        let mut remotes = Remotes::default();
        for number in 0..REMOTES_MAX as u64 + 50 {
            remotes.learn(now + Duration::from_millis(number), location(number, 1));
        }
        assert_eq!((remotes.len(), remotes.ids.len()), (REMOTES_MAX, REMOTES_MAX));
        assert!(remotes.get(&location(0, 1).addr, Plane::Any).is_none(), "the oldest has to go");
        remotes.sweep(now + LIFE + Duration::from_secs(10));
        assert_eq!((remotes.len(), remotes.ids.len(), remotes.due()), (0, 0, None));
    }

    #[test]
    fn what_passed_by_is_remembered_for_a_while_and_not_without_end() {
        let now = Instant::now();
        let mut memory = Memory::default();
        for number in 0..MEMORY_MAX as u64 + 50 {
            memory.learn(now + Duration::from_millis(number), location(number, 1));
        }
        assert_eq!(memory.locations.len(), MEMORY_MAX);
        let last = location(MEMORY_MAX as u64, 1);
        assert!(memory.knows(now, &last));
        let mut newer = last.clone();
        newer.seq = newer.seq.next();
        assert!(!memory.knows(now, &newer));
        assert!(memory.get(now, &location(0, 1).addr, Plane::Any).is_none(), "the oldest has to go");
        assert!(memory.get(now + 2 * MEMORY, &last.addr, Plane::Any).is_none());
        memory.sweep(now + 2 * MEMORY);
        assert!(memory.is_empty());
    }

    #[test]
    fn a_way_back_keeps_its_number_while_it_is_used() {
        let now = Instant::now();
        let mut backs = Backs::default();
        let id = backs.note(now, Plane::Any, vec![1, 2], || PathId(1));
        let again = backs.note(now + BACK_LIFE / 2, Plane::Any, vec![1, 2], || PathId(2));
        assert_eq!(id, again);
        for number in 10..10 + BACKS_MAX as u64 {
            backs.note(now + BACK_LIFE, Plane::Any, vec![number as u16], || PathId(number));
        }
        assert_eq!(backs.len(), BACKS_MAX);
        assert_eq!(backs.get(id), None, "the oldest has to go");
        backs.broken(&[20]);
        assert_eq!(backs.get(PathId(20)), None);
        backs.sweep(now + 2 * BACK_LIFE);
        assert_eq!((backs.len(), backs.by_way.len()), (0, 0));
    }
}
