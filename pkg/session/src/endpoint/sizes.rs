//! How much an endpoint holds, for tests that fill its tables.

use super::Endpoint;
use super::session::Session;
use crate::Place;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) sessions: usize,
    pub(crate) indices: usize,
    pub(crate) waiting: usize,
    pub(crate) records: usize,
    pub(crate) sets: usize,
    pub(crate) fragments: usize,
    pub(crate) fragment_bytes: usize,
    pub(crate) sources: usize,
    pub(crate) replays: usize,
    pub(crate) timers: usize,
}

impl<P: Place> Endpoint<P> {
    /// What a session takes in the table; keys and windows come to it.
    pub(crate) const SESSION_SIZE: usize = size_of::<Session<P>>();

    pub(crate) fn limit_sessions(&mut self, most: usize) {
        self.most_sessions = most;
    }

    /// Leaves no room to remember another m1 of the current keys.
    pub(crate) fn fill_replays(&mut self) {
        let version = self.keys.current().record.content.version;
        let hashes = (0u64..).map(|number| crate::replay::hash(&number.to_le_bytes()));
        for hash in hashes {
            if !self.replays.insert(version, hash) {
                return;
            }
        }
    }

    /// What [`Endpoint::halves`] shows, to be compared; nothing of an endpoint that is too busy for it.
    pub(crate) fn shown(&self) -> Vec<(crate::SessionId, u32, P, bool)> {
        if self.sessions.len() > 8 {
            return Vec::new();
        }
        let mut all: Vec<_> =
            self.halves().map(|half| (half.session, half.index, half.place.clone(), half.in_use)).collect();
        all.sort_by_key(|half| half.0);
        all
    }

    pub(crate) fn own_record(&self) -> crate::record::Record {
        self.keys.current().record.clone()
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let (fragments, fragment_bytes) = self.fragments.cost();
        Sizes {
            sessions: self.sessions.len(),
            indices: self.indices.len(),
            waiting: self.waiting.len(),
            records: self.records.len(),
            sets: self.sets.len(),
            fragments,
            fragment_bytes,
            sources: self.guard.sources(),
            replays: self.replays.len(),
            timers: self.timers.len(),
        }
    }
}
