//! Addresses as IPv6, so that programs which know only IP can name a node.
//!
//! An IPv6 address holds how many zero bits the 256-bit address starts with, and as many of the bits after the
//! first one-bit as there is room for. Leading zeros can be mined, so the mapping spends its bits on what an
//! attacker has to work for: a second key with the same IPv6 address takes 2^(z + 122 − range bits) tries.
//!
//! ```text
//!  0            range            range + 7                            128
//!  ├─ range bits ─┼─ z, 7 bits ─────┼─ bits of the address after its ───┤
//!  │   0000001    │  leading zeros  │  first one-bit                    │
//! ```

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::{Addr, Prefix};

/// A block of IPv6 addresses that stands for nodes; `0200::/7` unless the operator chooses another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv6Range {
    base: u128,
    bits: u8,
}

/// The 256-bit address starts with 128 zero bits or more, for which the IPv6 form has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address starts with 128 zero bits or more, so it has no IPv6 form")]
pub struct NoIpv6;

/// Why a text or a pair of base and length is no range for nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ipv6RangeError {
    /// The text is not `ADDRESS/LENGTH`.
    #[error("a range is written as an IPv6 address, a slash and a length, for example 0200::/7")]
    Syntax,
    /// Shorter lengths would claim too much of all addresses; longer ones would leave too few bits to tell nodes apart.
    #[error("the length of a range is 3 to 48, not {0}")]
    Length(u8),
    /// The base has one-bits beyond the length.
    #[error("the address of the range has bits set beyond its length")]
    HostBits,
    /// The range meets loopback, IPv4-mapped, link-local or multicast addresses.
    #[error("the range overlaps {0}, which has a meaning of its own")]
    Taken(&'static str),
}

/// Bits that hold the count of leading zeros.
const ZEROS_BITS: u32 = 7;
/// Leading zeros that do not fit.
const ZEROS_END: u32 = 1 << ZEROS_BITS;
/// Blocks that no route can give to nodes: first address, length, text.
const TAKEN: [(u128, u8, &str); 3] =
    [(0, 64, "::/64"), (0xfe80 << 112, 10, "fe80::/10"), (0xff00 << 112, 8, "ff00::/8")];

impl Ipv6Range {
    /// Shortest and longest length of a range.
    pub const LENGTHS: std::ops::RangeInclusive<u8> = 3..=48;

    /// The range that starts at `base` and shares its first `bits` bits.
    pub fn new(base: Ipv6Addr, bits: u8) -> Result<Self, Ipv6RangeError> {
        if !Self::LENGTHS.contains(&bits) {
            return Err(Ipv6RangeError::Length(bits));
        }
        let base = base.to_bits();
        if base & !mask(bits) != 0 {
            return Err(Ipv6RangeError::HostBits);
        }
        for (other, other_bits, text) in TAKEN {
            let shared = mask(bits.min(other_bits));
            if base & shared == other & shared {
                return Err(Ipv6RangeError::Taken(text));
            }
        }
        Ok(Self { base, bits })
    }

    /// The first address of the range.
    pub fn base(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.base)
    }

    /// How many leading bits all its addresses share.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether `address` lies in the range.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        address.to_bits() & mask(self.bits) == self.base
    }

    /// The IPv6 form of `addr`.
    pub fn ipv6(&self, addr: &Addr) -> Result<Ipv6Addr, NoIpv6> {
        let zeros = addr.leading_zeros();
        if zeros >= ZEROS_END {
            return Err(NoIpv6);
        }
        let (high, low) = halves(addr.as_bytes());
        // The first one-bit is skipped, so 1 to 128 bits go; a shift by all 128 is not defined.
        let after_one = high.checked_shl(zeros + 1).unwrap_or(0) | low >> (127 - zeros);
        let zeros_shift = 128 - ZEROS_BITS - u32::from(self.bits);
        Ok(Ipv6Addr::from_bits(
            self.base | u128::from(zeros) << zeros_shift | after_one >> (128 - zeros_shift),
        ))
    }

    /// What `address` tells of the 256-bit address behind it: its leading zeros, the first one-bit, and the bits after it
    /// (z + 115 bits in all for a range of 7 bits). `None` outside the range.
    pub fn prefix(&self, address: Ipv6Addr) -> Option<Prefix> {
        if !self.contains(address) {
            return None;
        }
        let tail_bits = 128 - ZEROS_BITS - u32::from(self.bits);
        let address = address.to_bits();
        let zeros = (address >> tail_bits) as u32 % ZEROS_END;
        let known = 1 << 127 | (address << (128 - tail_bits)) >> 1;
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&(known >> zeros).to_be_bytes());
        bytes[16..].copy_from_slice(&known.checked_shl(128 - zeros).unwrap_or(0).to_be_bytes());
        Prefix::new(&bytes, (zeros + 1 + tail_bits) as u16)
    }
}

impl Addr {
    /// The IPv6 form in the default range, `0200::/7`.
    pub fn ipv6(&self) -> Result<Ipv6Addr, NoIpv6> {
        Ipv6Range::default().ipv6(self)
    }
}

impl Default for Ipv6Range {
    /// `0200::/7`, as INET256 has it.
    fn default() -> Self {
        Self { base: 0x0200 << 112, bits: 7 }
    }
}

/// `0200::/7`: the base with at least the zeros that make the length visible.
impl fmt::Display for Ipv6Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            f.write_str("0200::/7")
        } else {
            write!(f, "{}/{}", self.base(), self.bits)
        }
    }
}

impl fmt::Debug for Ipv6Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ipv6Range {
    type Err = Ipv6RangeError;

    fn from_str(text: &str) -> Result<Self, Ipv6RangeError> {
        let (base, bits) = text.split_once('/').ok_or(Ipv6RangeError::Syntax)?;
        if bits.starts_with('+') {
            return Err(Ipv6RangeError::Syntax);
        }
        let base = base.parse().map_err(|_| Ipv6RangeError::Syntax)?;
        Self::new(base, bits.parse().map_err(|_| Ipv6RangeError::Syntax)?)
    }
}

/// The first `bits` of 128 bits, which are 1 to 127.
const fn mask(bits: u8) -> u128 {
    !(u128::MAX >> bits)
}

/// Both halves of the address as numbers.
fn halves(bytes: &[u8; 32]) -> (u128, u128) {
    let (mut high, mut low) = ([0; 16], [0; 16]);
    high.copy_from_slice(&bytes[..16]);
    low.copy_from_slice(&bytes[16..]);
    (u128::from_be_bytes(high), u128::from_be_bytes(low))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Entropy, SeededEntropy};

    /// INET256's Test256To6: 10,000 ids, here with every count of leading zeros and a check of each bit that is known.
    #[test]
    fn test_256_to_6_ten_thousand_addresses_come_back_as_a_prefix_of_themselves() {
        let mut entropy = SeededEntropy::new(256);
        for round in 0..10_000u32 {
            let zeros = round % ZEROS_END;
            let addr = with_zeros(zeros, &mut entropy);
            assert_eq!(addr.leading_zeros(), zeros, "round {round}");
            let ipv6 = addr.ipv6().expect("fewer than 128 zeros");
            let prefix = Ipv6Range::default().prefix(ipv6).expect("inside the range");
            assert_eq!(u32::from(prefix.bits()), zeros + 115, "round {round}");
            assert!(prefix.matches(&addr), "round {round}: {ipv6}");
        }
    }

    #[test]
    fn an_address_with_128_zero_bits_or_more_has_no_ipv6_form() {
        let mut bytes = [0; 32];
        assert_eq!(Addr::from_bytes(bytes).ipv6(), Err(NoIpv6));
        bytes[16] = 0xff;
        assert_eq!(Addr::from_bytes(bytes).ipv6(), Err(NoIpv6));
        bytes[15] = 1;
        assert!(Addr::from_bytes(bytes).ipv6().is_ok());
    }

    #[test]
    fn ranges_that_cannot_carry_nodes_are_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<Ipv6Range>().expect_err(text);
        assert_eq!(refused("0200::"), Ipv6RangeError::Syntax);
        assert_eq!(refused("/7"), Ipv6RangeError::Syntax);
        assert_eq!(refused("10.0.0.0/8"), Ipv6RangeError::Syntax);
        assert_eq!(refused("0200::/+7"), Ipv6RangeError::Syntax);
        assert_eq!(refused("0200::/7 "), Ipv6RangeError::Syntax);
        assert_eq!(refused("0200::/2"), Ipv6RangeError::Length(2));
        assert_eq!(refused("fd00::/49"), Ipv6RangeError::Length(49));
        assert_eq!(refused("0300::/7"), Ipv6RangeError::HostBits);
        assert_eq!(refused("::/3"), Ipv6RangeError::Taken("::/64"));
        assert_eq!(refused("fe80::/16"), Ipv6RangeError::Taken("fe80::/10"));
        assert_eq!(refused("e000::/3"), Ipv6RangeError::Taken("fe80::/10"));
        assert_eq!(refused("ff00::/8"), Ipv6RangeError::Taken("ff00::/8"));
    }

    #[test]
    fn the_default_range_is_written_with_its_leading_zero() {
        assert_eq!(Ipv6Range::default().to_string(), "0200::/7");
        assert_eq!("200::/7".parse(), Ok(Ipv6Range::default()));
        assert_eq!(
            "fd00:256::/32".parse::<Ipv6Range>().map(|range| range.to_string()),
            Ok("fd00:256::/32".into())
        );
    }

    proptest! {
        #[test]
        fn every_range_maps_there_and_back(bits in Ipv6Range::LENGTHS, zeros in 0..ZEROS_END, seed: u64) {
            let base = Ipv6Addr::from_bits(0xfd56_1234_5678_u128 << 80 & mask(bits));
            let Ok(range) = Ipv6Range::new(base, bits) else { return Ok(()) };
            let addr = with_zeros(zeros, &mut SeededEntropy::new(seed));
            let ipv6 = range.ipv6(&addr)?;
            prop_assert!(range.contains(ipv6));
            let prefix = range.prefix(ipv6).expect("inside the range");
            prop_assert_eq!(u32::from(prefix.bits()), zeros + 122 - u32::from(bits));
            prop_assert!(prefix.matches(&addr));
            prop_assert_eq!(range.to_string().parse::<Ipv6Range>(), Ok(range));
        }

        #[test]
        fn what_an_ipv6_address_tells_leads_back_to_it(low in any::<u128>()) {
            let range = Ipv6Range::default();
            let ipv6 = Ipv6Addr::from_bits(range.base().to_bits() | low & !mask(range.bits()));
            let prefix = range.prefix(ipv6).expect("inside the range");
            prop_assert_eq!(range.ipv6(&Addr::from_bytes(*prefix.as_bytes())), Ok(ipv6));
        }

        #[test]
        fn no_address_outside_the_range_has_a_prefix(bits: u128) {
            let range = Ipv6Range::default();
            let ipv6 = Ipv6Addr::from_bits(bits);
            prop_assert_eq!(range.prefix(ipv6).is_some(), bits >> 121 == 1);
        }
    }

    fn with_zeros(zeros: u32, entropy: &mut dyn Entropy) -> Addr {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        let whole = zeros as usize / 8;
        bytes[..whole].fill(0);
        bytes[whole] = (bytes[whole] | 0x80) >> (zeros % 8);
        Addr::from_bytes(bytes)
    }
}
