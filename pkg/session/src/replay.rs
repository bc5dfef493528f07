//! Which first messages have been answered: a recorded m1 starts nothing twice.
//!
//! The hash of each m1 that opened is kept until the key it used is wiped, and at most 65,536 of them.

use std::collections::HashSet;

use byway_identity::shake256;

const MOST: usize = 65_536;

/// The name of an m1.
pub(crate) type M1Hash = [u8; 16];

/// Names `m1`, from its type on, without the cookie before it.
pub(crate) fn hash(m1: &[u8]) -> M1Hash {
    shake256(&[b"inet256/session/m1", m1])
}

/// The memory, by the record version whose key opened them.
#[derive(Default)]
pub(crate) struct Memory {
    seen: Vec<(u64, HashSet<M1Hash>)>,
}

impl Memory {
    pub(crate) fn contains(&self, hash: &M1Hash) -> bool {
        self.seen.iter().any(|(_, hashes)| hashes.contains(hash))
    }

    /// Remembers `hash`; false if the memory is full.
    pub(crate) fn insert(&mut self, version: u64, hash: M1Hash) -> bool {
        if self.len() >= MOST {
            return false;
        }
        match self.seen.iter_mut().find(|(known, _)| *known == version) {
            Some((_, hashes)) => {
                hashes.insert(hash);
            }
            None => self.seen.push((version, HashSet::from([hash]))),
        }
        true
    }

    /// Forgets one that led to nothing.
    pub(crate) fn remove(&mut self, hash: &M1Hash) {
        for (_, hashes) in &mut self.seen {
            hashes.remove(hash);
        }
    }

    /// Forgets what belonged to keys that are wiped.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(u64) -> bool) {
        self.seen.retain(|(version, _)| is_kept(*version));
    }

    pub(crate) fn len(&self) -> usize {
        self.seen.iter().map(|(_, hashes)| hashes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_capped_and_forgets_with_the_keys() {
        let mut memory = Memory::default();
        for number in 0..MOST {
            assert!(memory.insert(1 + number as u64 % 2, hash(&number.to_le_bytes())));
        }
        assert!(!memory.insert(1, hash(b"one more")));
        assert!(memory.contains(&hash(&7usize.to_le_bytes())));
        memory.keep(|version| version == 2);
        assert_eq!(memory.len(), MOST / 2);
        assert!(
            memory.contains(&hash(&7usize.to_le_bytes())) && !memory.contains(&hash(&8usize.to_le_bytes()))
        );
        assert!(memory.insert(2, hash(b"one more")));
    }
}
