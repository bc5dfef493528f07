//! The leading bits of an address, by which nodes are looked for.

use crate::Addr;

/// The leading bits of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    bytes: [u8; 32],
    bits: u16,
}

impl Prefix {
    /// The first `bits` bits of `bytes`, most significant first; `None` when there are more than 256 bits, fewer bytes than
    /// `bits` asks for, or no bytes at all. (One byte and 0 bits match every address; nothing at all asks nothing.)
    pub fn new(bytes: &[u8], bits: u16) -> Option<Self> {
        let wanted = usize::from(bits).div_ceil(8);
        if bits > 256 || bytes.is_empty() || bytes.len() < wanted {
            return None;
        }
        let mut kept = [0; 32];
        kept[..wanted].copy_from_slice(&bytes[..wanted]);
        if let (Some(last), spare @ 1..) = (wanted.checked_sub(1), wanted * 8 - usize::from(bits)) {
            kept[last] &= 0xff << spare;
        }
        Some(Self { bytes: kept, bits })
    }

    /// All 256 bits of `addr`.
    pub fn whole(addr: Addr) -> Self {
        Self { bytes: *addr.as_bytes(), bits: 256 }
    }

    /// How many bits it has.
    pub const fn bits(&self) -> u16 {
        self.bits
    }

    /// The bits, then zeros.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The address, if all 256 bits are there.
    pub fn addr(&self) -> Option<Addr> {
        (self.bits == 256).then(|| Addr::from_bytes(self.bytes))
    }

    /// Whether `addr` begins with it.
    pub fn matches(&self, addr: &Addr) -> bool {
        Self::new(addr.as_bytes(), self.bits).is_some_and(|prefix| prefix.bytes == self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_begins_with_each_of_its_prefixes(bytes: [u8; 32], bits in 0u16..=256) {
            let addr = Addr::from_bytes(bytes);
            prop_assert!(Prefix::new(&bytes, bits).is_some_and(|prefix| prefix.matches(&addr)));
        }

        #[test]
        fn a_changed_bit_inside_the_prefix_does_not_match(bytes: [u8; 32], bits in 1u16..=256, at: prop::sample::Index) {
            let prefix = Prefix::new(&bytes, bits).expect("the bits are there");
            let bit = at.index(bits.into());
            let mut other = bytes;
            other[bit / 8] ^= 0x80 >> (bit % 8);
            prop_assert!(!prefix.matches(&Addr::from_bytes(other)));
        }
    }

    #[test]
    fn more_bits_than_there_are_make_no_prefix() {
        assert_eq!(Prefix::new(&[], 0), None);
        assert_eq!(Prefix::new(&[0xff], 9), None);
        assert_eq!(Prefix::new(&[0; 64], 257), None);
    }
}
