//! A map of a few entries, as long as they are and no longer.
//!
//! Of most peers little is kept for each tree, and often nothing. A tree of maps begins with room for eleven entries.

use crate::names::TreeId;

/// Something for each of a few trees, in order.
#[derive(Clone, Debug)]
pub(crate) struct Few<T> {
    entries: Vec<(TreeId, T)>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> Few<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, id: TreeId) -> Option<&T> {
        let at = self.entries.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.entries.get(at).map(|(_, what)| what)
    }

    pub(crate) fn insert(&mut self, id: TreeId, what: T) {
        match self.entries.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(at) => self.entries[at].1 = what,
            Err(at) => {
                self.entries.reserve_exact(1);
                self.entries.insert(at, (id, what));
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TreeId, &T)> {
        self.entries.iter().map(|(id, what)| (*id, what))
    }

    /// Keeps what `stays`.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(TreeId) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|(id, _)| stays(*id));
        if self.entries.len() != before {
            self.entries.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use byway_network::Plane;

    use super::*;

    #[test]
    fn a_few_are_kept_in_order_and_take_no_more_room_than_they_need() {
        let tree = |index| TreeId::new(Plane::Any, index);
        let mut few = Few::default();
        for (index, what) in [(3, 'c'), (1, 'a'), (2, 'x'), (2, 'b')] {
            few.insert(tree(index), what);
        }
        let all: Vec<(TreeId, char)> = few.iter().map(|(id, what)| (id, *what)).collect();
        assert_eq!(all, [(tree(1), 'a'), (tree(2), 'b'), (tree(3), 'c')]);
        assert_eq!((few.len(), few.entries.capacity()), (3, 3));
        few.retain(|id| id != tree(2));
        assert_eq!((few.get(tree(2)), few.get(tree(3))), (None, Some(&'c')));
        assert_eq!((few.len(), few.entries.capacity()), (2, 2));
    }
}
