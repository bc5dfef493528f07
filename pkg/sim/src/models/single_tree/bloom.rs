//! The set of nodes behind a link of the tree.

use byway_identity::{Addr, labelled_hash};
use byway_wire::{Malformed, Reader, Writer};

const WORDS: usize = 128;
const HASHES: usize = 8;

/// A Bloom filter of 8,192 bits with 8 hashes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bloom(Box<[u64; WORDS]>);

/// The bits that a node sets.
pub(super) fn positions(addr: &Addr) -> [usize; HASHES] {
    let hash = labelled_hash("model/bloom", &[addr.as_bytes()]);
    std::array::from_fn(|at| usize::from(u16::from_be_bytes([hash[2 * at], hash[2 * at + 1]])) % (WORDS * 64))
}

impl Bloom {
    pub(super) fn empty() -> Self {
        Self(Box::new([0; WORDS]))
    }

    pub(super) fn insert(&mut self, positions: &[usize; HASHES]) {
        for position in positions {
            self.0[position / 64] |= 1 << (position % 64);
        }
    }

    pub(super) fn has(&self, positions: &[usize; HASHES]) -> bool {
        positions.iter().all(|position| self.0[position / 64] & (1 << (position % 64)) != 0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0.iter()) {
            *word |= more;
        }
    }

    /// Which words are all zeros, which are all ones, and the others.
    pub(super) fn write(&self, writer: &mut Writer) {
        let flags = |word: u64| {
            self.0.iter().fold(0, |flags: u128, each| flags << 1 | u128::from(*each == word)).to_be_bytes()
        };
        writer.bytes(&flags(0)).bytes(&flags(u64::MAX));
        for word in self.0.iter().filter(|word| **word != 0 && **word != u64::MAX) {
            writer.u64_be(*word);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (zeros, ones) = (u128::from_be_bytes(reader.array()?), u128::from_be_bytes(reader.array()?));
        let mut bloom = Self::empty();
        for (at, word) in bloom.0.iter_mut().enumerate() {
            let is_set = |flags: u128| flags >> (WORDS - 1 - at) & 1 == 1;
            *word = match (is_set(zeros), is_set(ones)) {
                (true, false) => 0,
                (false, true) => u64::MAX,
                (false, false) => reader.u64_be()?,
                (true, true) => return Err(Malformed::Invalid("flags")),
            };
        }
        Ok(bloom)
    }
}
