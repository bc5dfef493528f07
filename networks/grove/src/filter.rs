//! Small summaries of the nodes below a node.
//!
//! A Bloom filter of 8,192 bits with 8 hashes, keyed by tree and the first 64 bits of an address, so that it serves
//! whole addresses and every prefix of 64 bits or more. Most nodes have little below them, so a filter is a short list
//! of positions until that is the longer form.

use byway_identity::labelled_hash;

use crate::names::TreeId;

/// Bits of a filter.
pub(crate) const BITS: u16 = 8_192;
/// Bits that one node sets.
pub(crate) const HASHES: usize = 8;
/// Bits of an address that a filter knows.
pub(crate) const PREFIX_BITS: u16 = 64;
/// More nodes than this make a filter that says yes to everything.
pub(crate) const NODES_MAX: u64 = 4_096;
/// Positions beyond which the bits themselves are shorter.
const SPARSE_MAX: usize = 384;
const WORDS: usize = BITS as usize / 64;

/// A set of positions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Bits {
    /// In order, each once.
    Sparse(Vec<u16>),
    Dense(Box<[u64; WORDS]>),
    /// All of them: too many nodes to tell apart.
    Full,
}

/// The positions that `addr`, or a prefix of at least [`PREFIX_BITS`] of it, sets in the filters of `tree`.
pub(crate) fn positions(tree: TreeId, addr: &[u8; 32]) -> [u16; HASHES] {
    let hash = labelled_hash("grove/filter", &[&[tree.byte()], &addr[..usize::from(PREFIX_BITS / 8)]]);
    std::array::from_fn(|at| u16::from_be_bytes([hash[2 * at], hash[2 * at + 1]]) % BITS)
}

impl Default for Bits {
    fn default() -> Self {
        Self::Sparse(Vec::new())
    }
}

impl Bits {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Sparse(positions) => positions.len(),
            Self::Dense(words) => words.iter().map(|word| word.count_ones() as usize).sum(),
            Self::Full => BITS.into(),
        }
    }

    pub(crate) fn has(&self, position: u16) -> bool {
        match self {
            Self::Sparse(positions) => positions.binary_search(&position).is_ok(),
            Self::Dense(words) => {
                words.get(usize::from(position / 64)).is_some_and(|word| word & (1 << (position % 64)) != 0)
            }
            Self::Full => true,
        }
    }

    /// Whether a node with these positions may be below.
    pub(crate) fn matches(&self, positions: &[u16; HASHES]) -> bool {
        positions.iter().all(|position| self.has(*position))
    }

    pub(crate) fn insert(&mut self, position: u16) {
        match self {
            Self::Sparse(positions) => {
                let Err(at) = positions.binary_search(&position) else { return };
                positions.insert(at, position);
                if positions.len() > SPARSE_MAX {
                    *self = Self::Dense(dense(positions));
                }
            }
            Self::Dense(words) => {
                if let Some(word) = words.get_mut(usize::from(position / 64)) {
                    *word |= 1 << (position % 64);
                }
            }
            Self::Full => {}
        }
    }

    /// Gives back the room that is not used.
    pub(crate) fn shrink(&mut self) {
        if let Self::Sparse(positions) = self {
            positions.shrink_to_fit();
        }
    }

    /// All positions, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let (sparse, words): (&[u16], Option<&[u64; WORDS]>) = match self {
            Self::Sparse(positions) => (positions, None),
            Self::Dense(words) => (&[], Some(words)),
            Self::Full => (&[], None),
        };
        let dense = (0..BITS).filter(move |position| match words {
            Some(words) => words[usize::from(position / 64)] & (1 << (position % 64)) != 0,
            None => false,
        });
        let full = if *self == Self::Full { 0..BITS } else { 0..0 };
        sparse.iter().copied().chain(dense).chain(full)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if *other == Self::Full {
            *self = Self::Full;
        }
        for position in other.iter() {
            self.insert(position);
        }
    }

    /// What is in here and not in `other`.
    pub(crate) fn beyond(&self, other: &Self) -> Vec<u16> {
        self.iter().filter(|position| !other.has(*position)).collect()
    }

    /// The bits themselves, 1,024 bytes: position 0 is the most significant bit of the first.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(BITS) / 8];
        for position in self.iter() {
            bytes[usize::from(position / 8)] |= 0x80 >> (position % 8);
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; BITS as usize / 8]) -> Self {
        let is_set = |position: &u16| bytes[usize::from(position / 8)] & (0x80 >> (position % 8)) != 0;
        (0..BITS).filter(is_set).collect()
    }

    /// Whether `count` nodes explain so many ones, with half as many to spare: else somebody claims to have what it has not.
    pub(crate) fn is_explained_by(&self, count: u64) -> bool {
        if *self == Self::Full {
            return count > NODES_MAX;
        }
        let expected = f64::from(BITS) * (1.0 - (-(HASHES as f64) * count as f64 / f64::from(BITS)).exp());
        self.len() as f64 <= expected * 1.5
    }
}

impl FromIterator<u16> for Bits {
    fn from_iter<I: IntoIterator<Item = u16>>(positions: I) -> Self {
        let mut positions: Vec<u16> = positions.into_iter().collect();
        positions.sort_unstable();
        positions.dedup();
        if positions.len() > SPARSE_MAX { Self::Dense(dense(&positions)) } else { Self::Sparse(positions) }
    }
}

fn dense(positions: &[u16]) -> Box<[u64; WORDS]> {
    let mut words = Box::new([0; WORDS]);
    for position in positions {
        words[usize::from(position / 64) % WORDS] |= 1 << (position % 64);
    }
    words
}

#[cfg(test)]
mod tests {
    use byway_network::Plane;
    use proptest::prelude::*;

    use super::*;

    fn tree() -> TreeId {
        TreeId::new(Plane::Any, 0)
    }

    fn of_nodes(count: u32) -> Bits {
        let mut bits = Bits::default();
        for node in 0..count {
            for position in positions(tree(), &labelled_hash("test", &[&node.to_be_bytes()])) {
                bits.insert(position);
            }
        }
        bits
    }

    #[test]
    fn whoever_is_in_is_found_and_few_others_are() {
        let bits = of_nodes(400);
        let asked =
            |node: u32| bits.matches(&positions(tree(), &labelled_hash("test", &[&node.to_be_bytes()])));
        assert!((0..400).all(asked));
        let strangers = (400..4_400).filter(|node| asked(*node)).count();
        assert!(strangers < 20, "{strangers} of 4,000 strangers match");
    }

    #[test]
    fn an_honest_filter_is_explained_and_one_of_ones_is_not() {
        for count in [1, 3, 10, 100, 1_000, 4_096] {
            let bits = of_nodes(count);
            assert!(bits.is_explained_by(count.into()), "{count} nodes");
            let half = bits.is_explained_by(u64::from(count) / 2);
            assert!(count > 1_000 || !half, "{count} nodes told as half as many");
        }
        assert!(!Bits::Full.is_explained_by(100));
        assert!(!Bits::Full.is_explained_by(NODES_MAX));
        assert!(Bits::Full.is_explained_by(NODES_MAX + 1));
        assert!(!(0..BITS).collect::<Bits>().is_explained_by(500));
    }

    proptest! {
        #[test]
        fn both_forms_are_the_same_set(positions in prop::collection::btree_set(0..BITS, 0..900)) {
            let mut one_by_one = Bits::default();
            for position in &positions {
                one_by_one.insert(*position);
            }
            let at_once: Bits = positions.iter().copied().collect();
            prop_assert_eq!(&one_by_one, &at_once);
            prop_assert_eq!(at_once.len(), positions.len());
            prop_assert!(at_once.iter().eq(positions.iter().copied()));
            let bytes: [u8; 1_024] = at_once.to_bytes().try_into().expect("1,024 bytes");
            prop_assert_eq!(Bits::from_bytes(&bytes), at_once);
        }

        #[test]
        fn a_sum_has_what_either_has(a in prop::collection::btree_set(0..BITS, 0..600), b in prop::collection::btree_set(0..BITS, 0..600)) {
            let (mut sum, other): (Bits, Bits) = (a.iter().copied().collect(), b.iter().copied().collect());
            let before = sum.clone();
            sum.add(&other);
            prop_assert!(sum.iter().eq(a.union(&b).copied()));
            prop_assert_eq!(sum.beyond(&before), b.difference(&a).copied().collect::<Vec<_>>());
        }
    }
}
