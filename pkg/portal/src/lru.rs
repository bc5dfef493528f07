//! A map with a cap that forgets what was not used for longest.

use std::collections::HashMap;
use std::hash::Hash;

/// At most `cap` entries; inserting one more forgets the one that was touched least recently.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    cap: usize,
    at: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    free: Vec<usize>,
    /// Most and least recently touched.
    ends: Option<(usize, usize)>,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    /// None while the slot is free.
    value: Option<V>,
    newer: Option<usize>,
    older: Option<usize>,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// Room for `cap` entries, at least one; memory is taken as it fills.
    pub(crate) fn new(cap: usize) -> Self {
        Self { cap: cap.max(1), at: HashMap::new(), slots: Vec::new(), free: Vec::new(), ends: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }

    /// The value of `key`, which counts as a use.
    pub(crate) fn touch(&mut self, key: &K) -> Option<&mut V> {
        let slot = *self.at.get(key)?;
        self.unlink(slot);
        self.link_newest(slot);
        self.slots[slot].value.as_mut()
    }

    /// Sets the value of `key`, which counts as a use.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if let Some(present) = self.touch(&key) {
            *present = value;
            return;
        }
        if self.at.len() >= self.cap
            && let Some((_, oldest)) = self.ends
        {
            let key = self.slots[oldest].key;
            self.remove(&key);
        }
        let fresh = Slot { key, value: Some(value), newer: None, older: None };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = fresh;
                slot
            }
            None => {
                self.slots.push(fresh);
                self.slots.len() - 1
            }
        };
        self.at.insert(key, slot);
        self.link_newest(slot);
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.at.remove(key)?;
        self.unlink(slot);
        self.free.push(slot);
        self.slots[slot].value.take()
    }

    /// Keeps only what `wanted` says yes to; gives memory back once all is gone.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&K, &V) -> bool) {
        let gone: Vec<K> = self
            .slots
            .iter()
            .filter(|slot| slot.value.as_ref().is_some_and(|value| !wanted(&slot.key, value)))
            .map(|slot| slot.key)
            .collect();
        for key in gone {
            self.remove(&key);
        }
        if self.at.is_empty() {
            *self = Self::new(self.cap);
        }
    }

    fn unlink(&mut self, slot: usize) {
        let (newer, older) = (self.slots[slot].newer.take(), self.slots[slot].older.take());
        if let Some(newer) = newer {
            self.slots[newer].older = older;
        }
        if let Some(older) = older {
            self.slots[older].newer = newer;
        }
        self.ends = self.ends.and_then(|(newest, oldest)| {
            let newest = if newest == slot { older } else { Some(newest) };
            let oldest = if oldest == slot { newer } else { Some(oldest) };
            newest.zip(oldest)
        });
    }

    fn link_newest(&mut self, slot: usize) {
        self.ends = Some(match self.ends {
            Some((newest, oldest)) => {
                self.slots[newest].newer = Some(slot);
                self.slots[slot].older = Some(newest);
                (slot, oldest)
            }
            None => (slot, slot),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A plain list, newest last, is the model.
        #[test]
        fn it_forgets_what_was_used_least_recently(steps: Vec<(u8, u8)>, cap in 1usize..8) {
            let mut lru = Lru::new(cap);
            let mut model: Vec<(u8, u8)> = Vec::new();
            for (what, key) in steps {
                let key = key % 12;
                let known = model.iter().position(|(have, _)| *have == key);
                match what % 4 {
                    0 => {
                        let expected = known.map(|at| model.remove(at));
                        prop_assert_eq!(lru.remove(&key), expected.map(|(_, value)| value));
                    }
                    1 => {
                        if let Some(at) = known {
                            let entry = model.remove(at);
                            model.push(entry);
                        }
                        prop_assert_eq!(lru.touch(&key).copied(), known.and(model.last()).map(|(_, value)| *value));
                    }
                    2 => {
                        lru.retain(|key, _| key % 3 != what / 4 % 3);
                        model.retain(|(key, _)| key % 3 != what / 4 % 3);
                    }
                    _ => {
                        if let Some(at) = known {
                            model.remove(at);
                        } else if model.len() == cap {
                            model.remove(0);
                        }
                        model.push((key, what));
                        lru.insert(key, what);
                    }
                }
                prop_assert_eq!(lru.len(), model.len());
            }
            for (key, value) in model {
                prop_assert_eq!(lru.touch(&key).copied(), Some(value));
            }
        }
    }
}
