//! What nodes and trees are called on the wire, and the hashes behind it.

use std::fmt;

use byway_identity::{Addr, labelled_hash, shake256};
use byway_network::{Family, NetworkId, Plane};

/// Which tree: the plane in the high nibble, the index in the low one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TreeId(u8);

/// Most trees of one plane.
pub(crate) const TREES_MAX: u8 = 8;

/// The first 8 bytes of a hash of an address: enough for the last hop to compare, too little to learn the address from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShortId(pub(crate) [u8; 8]);

/// How good a node is as the root of a tree; the lowest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank([u8; 16]);

impl TreeId {
    /// Tree number `index` of `plane`; the index is taken modulo [`TREES_MAX`].
    pub(crate) const fn new(plane: Plane, index: u8) -> Self {
        Self((plane.byte() << 4) | (index % TREES_MAX))
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let plane = Plane::from_byte(byte >> 4)?;
        (byte & 0x0f < TREES_MAX).then(|| Self::new(plane, byte & 0x0f))
    }

    pub(crate) const fn byte(self) -> u8 {
        self.0
    }

    pub(crate) fn plane(self) -> Plane {
        Plane::from_byte(self.0 >> 4).unwrap_or(Plane::Any)
    }

    pub(crate) const fn index(self) -> u8 {
        self.0 & 0x0f
    }

    /// The bit that stands for the tree in the mask of a frame.
    pub(crate) const fn bit(self) -> u8 {
        1 << self.index()
    }

    /// Whether frames of the tree may use links of `family`.
    pub(crate) fn has(self, family: Family) -> bool {
        self.plane().has(family)
    }
}

impl ShortId {
    /// What a led frame has of it.
    pub(crate) fn front(self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0;
        [a, b, c, d]
    }
}

impl fmt::Debug for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.plane().name(), self.index())
    }
}

/// How `addr` is called in the frames that are on their way to it.
pub(crate) fn short_id(addr: &Addr) -> ShortId {
    let hash = labelled_hash("grove/to", &[addr.as_bytes()]);
    let mut id = [0; 8];
    id.copy_from_slice(&hash[..8]);
    ShortId(id)
}

impl Rank {
    /// Worse than any.
    pub(crate) const WORST: Self = Self([0xff; 16]);

    /// The bytes, as they are compared.
    #[cfg(test)]
    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The rank of `addr` as root of `tree`.
pub(crate) fn rank(network: &NetworkId, tree: TreeId, addr: &Addr) -> Rank {
    let hash = labelled_hash("grove/rank", &[network.as_bytes(), &[tree.byte()], addr.as_bytes()]);
    let mut rank = [0; 16];
    rank.copy_from_slice(&hash[..16]);
    Rank(rank)
}

/// How a node is called in the answers to the probes of one session: another name for each salt.
pub(crate) fn tag(salt: u64, addr: &Addr) -> [u8; 6] {
    let hash = labelled_hash("grove/tag", &[&salt.to_be_bytes(), addr.as_bytes()]);
    let mut tag = [0; 6];
    tag.copy_from_slice(&hash[..6]);
    tag
}

/// The address of the node with this Ed25519 key, without asking whether the bytes are a key at all.
pub(crate) fn addr_of(raw: &[u8; 32]) -> Addr {
    Addr::from_bytes(shake256(&[&7u16.to_le_bytes(), b"ed25519", raw]))
}

#[cfg(test)]
mod tests {
    use byway_identity::SigningKey;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_is_that_of_the_key(seed: [u8; 32]) {
            let key = SigningKey::from_seed(&seed).public();
            prop_assert_eq!(addr_of(key.as_raw()), key.addr());
        }

        #[test]
        fn a_tree_has_one_byte(byte: u8) {
            if let Some(tree) = TreeId::from_byte(byte) {
                prop_assert_eq!(tree.byte(), byte);
                prop_assert_eq!(TreeId::new(tree.plane(), tree.index()), tree);
            } else {
                prop_assert!(byte >> 4 > 3 || byte & 0x0f >= TREES_MAX);
            }
        }
    }

    #[test]
    fn no_node_is_first_in_all_trees_but_by_chance() {
        let network = NetworkId::new("test", None);
        let addrs: Vec<Addr> = (0..64).map(|at| Addr::from_bytes([at; 32])).collect();
        let first = |index| {
            let tree = TreeId::new(Plane::Any, index);
            addrs.iter().min_by_key(|addr| rank(&network, tree, addr)).copied()
        };
        let firsts: std::collections::BTreeSet<_> = (0..4).map(first).collect();
        assert!(firsts.len() >= 3, "{firsts:?}");
    }
}
