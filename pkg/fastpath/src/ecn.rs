//! Explicit congestion notification through the tunnel (RFC 3168, RFC 6040).

/// The two bits of an IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// The transport does not know of it.
    #[default]
    NotEct = 0,
    /// Capable, by the experiments of RFC 8311.
    Ect1 = 1,
    /// Capable.
    Ect0 = 2,
    /// Congestion was met.
    Ce = 3,
}

impl Ecn {
    /// The low two bits of a traffic class or TOS byte.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// As the low two bits of a traffic class.
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// What the IPv6 `packet` says; for less than two bytes, nothing.
    pub fn of(packet: &[u8]) -> Self {
        packet.get(1).map_or(Self::NotEct, |byte| Self::from_bits(byte >> 4))
    }

    /// Writes it into the IPv6 `packet`.
    pub fn set(self, packet: &mut [u8]) {
        if let Some(byte) = packet.get_mut(1) {
            *byte = *byte & 0xcf | self.bits() << 4;
        }
    }

    /// What a packet that says `self` says after it came out of a tunnel whose outer header said `outer`
    /// (RFC 6040, section 4.2). `None`: drop it, since congestion cannot be told to its transport in another way.
    pub const fn leaving(self, outer: Self) -> Option<Self> {
        match (self, outer) {
            (Self::NotEct, Self::Ce) => None,
            (Self::Ect0 | Self::Ect1, Self::Ce) => Some(Self::Ce),
            (Self::Ect0, Self::Ect1) => Some(Self::Ect1),
            (inner, _) => Some(inner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_a_tunnel_is_as_the_table_of_rfc_6040_says() {
        use Ecn::{Ce, Ect0, Ect1, NotEct};
        // Columns: outer NotEct, Ect0, Ect1, Ce.
        let table = [
            (NotEct, [Some(NotEct), Some(NotEct), Some(NotEct), None]),
            (Ect0, [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)]),
            (Ect1, [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)]),
            (Ce, [Some(Ce), Some(Ce), Some(Ce), Some(Ce)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [NotEct, Ect0, Ect1, Ce].into_iter().zip(row) {
                assert_eq!(inner.leaving(outer), expected, "{inner:?} in {outer:?}");
            }
        }
    }

    #[test]
    fn the_bits_lie_between_the_traffic_class_and_the_flow_label() {
        let mut packet = [0x6f, 0xff, 0, 0];
        for bits in 0..4 {
            let ecn = Ecn::from_bits(bits);
            ecn.set(&mut packet);
            assert_eq!((Ecn::of(&packet), ecn.bits()), (ecn, bits));
            assert_eq!((packet[0], packet[1] & 0xcf), (0x6f, 0xcf));
        }
        assert_eq!(Ecn::of(&[0x60]), Ecn::NotEct);
    }
}
