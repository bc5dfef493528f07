//! Payloads longer than a frame, in pieces.
//!
//! ```text
//! FRAGMENT  id u32 · index u16 · count u16 · bytes        the frame's flags hold the kind of the whole
//! ```
//!
//! All pieces but the last have one length. Open sets are capped: 64 and 256 KiB per remote, 16 MiB in all, 10 seconds;
//! a remote that has reached its cap loses its own oldest set, never another's.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_identity::Addr;
use byway_wire::Reader;

use crate::SessionId;

/// Bytes in front of each piece.
pub(crate) const HEAD: usize = 8;
/// Longest payload.
pub(crate) const LONGEST: usize = 65_535;

const PER_REMOTE: usize = 64;
const BYTES_PER_REMOTE: usize = 256 * 1024;
const BYTES: usize = 16 * 1024 * 1024;
const LIFE: Duration = Duration::from_secs(10);
/// What an open set costs besides its bytes: without it, empty sets of many remotes would be free.
const SET_COST: usize = 256;

type SetKey = (SessionId, u32);

struct Set {
    remote: Addr,
    kind: u8,
    until: Instant,
    count: usize,
    missing: usize,
    have: Vec<bool>,
    /// Length of all pieces but the last, once one of them came.
    piece: Option<usize>,
    /// The last piece, if it came before its place was known.
    tail: Option<Bytes>,
    bytes: BytesMut,
    cost: usize,
}

#[derive(Default)]
struct Remote {
    /// Oldest first.
    sets: VecDeque<SetKey>,
    cost: usize,
}

/// All open sets.
#[derive(Default)]
pub(crate) struct Fragments {
    sets: HashMap<SetKey, Set>,
    remotes: HashMap<Addr, Remote>,
    /// In order of their end; those that are gone by then are skipped.
    ends: VecDeque<(Instant, SetKey)>,
    cost: usize,
}

/// The eight bytes in front of a piece.
pub(crate) fn head(id: u32, index: u16, count: u16) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    bytes[..4].copy_from_slice(&id.to_le_bytes());
    bytes[4..6].copy_from_slice(&index.to_le_bytes());
    bytes[6..].copy_from_slice(&count.to_le_bytes());
    bytes
}

impl Fragments {
    /// Takes a piece; gives kind and bytes of the whole once it is there. `Err` for pieces that fit nothing.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        session: SessionId,
        remote: Addr,
        kind: u8,
        payload: &[u8],
    ) -> Result<Option<(u8, Bytes)>, Unfit> {
        self.expire(now);
        let mut reader = Reader::new(payload);
        let id = reader.u32_le().map_err(|_| Unfit)?;
        let index = usize::from(reader.u16_le().map_err(|_| Unfit)?);
        let count = usize::from(reader.u16_le().map_err(|_| Unfit)?);
        let bytes = reader.rest();
        if count < 2 || index >= count || bytes.is_empty() {
            return Err(Unfit);
        }
        // All but the last piece have one length of at least one byte, so this bounds the whole.
        let least = if index + 1 == count { count - 1 + bytes.len() } else { (count - 1) * bytes.len() + 1 };
        if least > LONGEST {
            return Err(Unfit);
        }
        let key = (session, id);
        if !self.sets.contains_key(&key) {
            self.make_room(remote, SET_COST + count + bytes.len());
            self.open(now, key, remote, kind, count);
        }
        let Some(set) = self.sets.get_mut(&key) else { return Err(Unfit) };
        if set.count != count || set.kind != kind {
            return Err(Unfit);
        }
        if set.have[index] {
            return Ok(None);
        }
        let grown = set.put(index, bytes)?;
        let whole = set.missing == 0;
        self.charge(remote, grown);
        if whole {
            let set = self.remove(&key).ok_or(Unfit)?;
            return Ok(Some((set.kind, set.bytes.freeze())));
        }
        self.shrink(remote);
        Ok(None)
    }

    fn open(&mut self, now: Instant, key: SetKey, remote: Addr, kind: u8, count: usize) {
        let until = now + LIFE;
        let cost = SET_COST + count;
        let set = Set {
            remote,
            kind,
            until,
            count,
            missing: count,
            have: vec![false; count],
            piece: None,
            tail: None,
            bytes: BytesMut::new(),
            cost,
        };
        self.sets.insert(key, set);
        // Sets that gave way leave their ends behind: as many as there are sets, and no more.
        if self.ends.len() >= 2 * self.sets.len() + PER_REMOTE {
            self.ends.retain(|(until, key)| self.sets.get(key).is_some_and(|set| set.until == *until));
        }
        self.ends.push_back((until, key));
        let entry = self.remotes.entry(remote).or_default();
        entry.sets.push_back(key);
        entry.cost += cost;
        self.cost += cost;
    }

    fn charge(&mut self, remote: Addr, grown: usize) {
        self.cost += grown;
        if let Some(entry) = self.remotes.get_mut(&remote) {
            entry.cost += grown;
        }
    }

    fn make_room(&mut self, remote: Addr, cost: usize) {
        while self
            .remotes
            .get(&remote)
            .is_some_and(|entry| entry.sets.len() >= PER_REMOTE || entry.cost + cost > BYTES_PER_REMOTE)
        {
            self.drop_oldest(remote);
        }
        while self.cost + cost > BYTES {
            let Some((_, key)) = self.ends.pop_front() else { break };
            self.remove(&key);
        }
    }

    /// A set can grow past the caps after it was opened.
    fn shrink(&mut self, remote: Addr) {
        while self.remotes.get(&remote).is_some_and(|entry| entry.cost > BYTES_PER_REMOTE) {
            self.drop_oldest(remote);
        }
        while self.cost > BYTES {
            let Some((_, key)) = self.ends.pop_front() else { break };
            self.remove(&key);
        }
    }

    fn drop_oldest(&mut self, remote: Addr) {
        let oldest = self.remotes.get(&remote).and_then(|entry| entry.sets.front().copied());
        if oldest.is_none_or(|key| self.remove(&key).is_none()) {
            self.remotes.remove(&remote);
        }
    }

    fn remove(&mut self, key: &SetKey) -> Option<Set> {
        let set = self.sets.remove(key)?;
        self.cost -= set.cost;
        if let Some(entry) = self.remotes.get_mut(&set.remote) {
            entry.cost -= set.cost;
            entry.sets.retain(|other| other != key);
            if entry.sets.is_empty() {
                self.remotes.remove(&set.remote);
            }
        }
        Some(set)
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((until, key)) = self.ends.front().copied() {
            let alive = self.sets.get(&key).is_some_and(|set| set.until == until);
            if alive && until > now {
                break;
            }
            self.ends.pop_front();
            if alive {
                self.remove(&key);
            }
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.ends.front().map(|(until, _)| *until)
    }

    #[cfg(test)]
    pub(crate) fn cost(&self) -> (usize, usize) {
        (self.sets.len(), self.cost)
    }
}

/// A piece that fits no set: malformed, or at odds with what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfit;

impl Set {
    /// Puts a piece in its place; gives by how much the set's cost grew.
    fn put(&mut self, index: usize, bytes: &[u8]) -> Result<usize, Unfit> {
        let before = self.bytes.len() + self.tail.as_ref().map_or(0, Bytes::len);
        if index + 1 == self.count {
            match self.piece {
                Some(piece) if bytes.len() > piece => return Err(Unfit),
                Some(piece) => self.place(index * piece, bytes)?,
                None => self.tail = Some(Bytes::copy_from_slice(bytes)),
            }
        } else {
            let piece = *self.piece.get_or_insert(bytes.len());
            if piece != bytes.len() {
                return Err(Unfit);
            }
            self.place(index * piece, bytes)?;
            if let Some(tail) = self.tail.take()
                && (tail.len() > piece || self.place((self.count - 1) * piece, &tail).is_err())
            {
                self.have[self.count - 1] = false;
                self.missing += 1;
            }
        }
        self.have[index] = true;
        self.missing -= 1;
        let after = self.bytes.len() + self.tail.as_ref().map_or(0, Bytes::len);
        let grown = after.saturating_sub(before);
        self.cost += grown;
        Ok(grown)
    }

    fn place(&mut self, at: usize, bytes: &[u8]) -> Result<(), Unfit> {
        let end = at + bytes.len();
        if end > LONGEST {
            return Err(Unfit);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REMOTE: Addr = Addr::from_bytes([1; 32]);

    fn pieces(id: u32, payload: &[u8], length: usize) -> Vec<Vec<u8>> {
        let count = payload.len().div_ceil(length) as u16;
        (0..)
            .zip(payload.chunks(length))
            .map(|(index, bytes)| [&head(id, index, count)[..], bytes].concat())
            .collect()
    }

    #[test]
    fn sets_that_gave_way_leave_nothing_behind() {
        let start = Instant::now();
        let mut fragments = Fragments::default();
        for id in 0..100_000 {
            let now = start + Duration::from_micros(id.into());
            let piece = [&head(id, 0, 2)[..], &[0; 8]].concat();
            assert_eq!(fragments.add(now, SessionId(1), REMOTE, 0, &piece), Ok(None));
            assert!(fragments.ends.len() <= 3 * PER_REMOTE + 1, "{}", fragments.ends.len());
        }
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_and_more_than_once_make_the_whole_once(
            payload in prop::collection::vec(any::<u8>(), 2..5000),
            length in 1usize..1000,
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            prop_assume!(payload.len() > length);
            let now = Instant::now();
            let mut fragments = Fragments::default();
            let pieces = pieces(9, &payload, length);
            let mut wholes = Vec::new();
            // Some of them in a random order, then all of them.
            let some = order.iter().map(|index| index.get(&pieces)).chain(&pieces);
            for piece in some {
                if wholes.is_empty() {
                    wholes.extend(fragments.add(now, SessionId(1), REMOTE, 1, piece).expect("it fits"));
                }
            }
            prop_assert_eq!(wholes, [(1, Bytes::from(payload))]);
            prop_assert_eq!(fragments.cost(), (0, 0));
        }

        #[test]
        fn nonsense_stays_within_the_caps(
            inputs in prop::collection::vec((0u32..4, 0u16..70, 0u16..70, 0usize..3000, 0u8..2), 0..300)
        ) {
            let mut now = Instant::now();
            let mut fragments = Fragments::default();
            for (id, index, count, length, kind) in inputs {
                let piece = [&head(id, index, count)[..], &vec![7; length]].concat();
                if let Ok(Some((_, whole))) = fragments.add(now, SessionId(1), REMOTE, kind, &piece) {
                    prop_assert!(whole.len() <= LONGEST);
                }
                let (sets, cost) = fragments.cost();
                prop_assert!(sets <= PER_REMOTE && cost <= BYTES_PER_REMOTE);
                now += Duration::from_millis(10);
            }
            fragments.expire(now + LIFE);
            prop_assert_eq!(fragments.cost(), (0, 0));
            prop_assert_eq!(fragments.due(), None);
        }
    }

    #[test]
    fn all_remotes_together_hold_sixteen_mebibytes() {
        let now = Instant::now();
        let mut fragments = Fragments::default();
        for remote in 0..200u8 {
            for id in 0..64 {
                let piece = [&head(id, 0, 2)[..], &[7; 4000]].concat();
                let (session, addr) = (SessionId(remote.into()), Addr::from_bytes([remote; 32]));
                assert_eq!(fragments.add(now, session, addr, 1, &piece), Ok(None));
                assert!(fragments.cost().1 <= BYTES);
            }
        }
        assert!(fragments.cost().1 > BYTES - 64 * 1024);
    }

    #[test]
    fn a_whole_is_never_longer_than_the_longest_payload() {
        let now = Instant::now();
        let mut fragments = Fragments::default();
        let piece = |index, length: usize| [&head(1, index, 3)[..], &vec![7; length]].concat();
        assert_eq!(fragments.add(now, SessionId(1), REMOTE, 1, &piece(2, 30_000)), Ok(None));
        assert_eq!(fragments.add(now, SessionId(1), REMOTE, 1, &piece(0, 30_000)), Ok(None));
        let whole = fragments.add(now, SessionId(1), REMOTE, 1, &piece(1, 30_000));
        assert!(!matches!(whole, Ok(Some(_))), "90,000 bytes");
    }
}
