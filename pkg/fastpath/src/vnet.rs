//! The header in front of each packet of a TUN device with offloads (`struct virtio_net_hdr`).
//!
//! ```text
//! flags u8 · gso_type u8 · hdr_len u16 · gso_size u16 · csum_start u16 · csum_offset u16        10 bytes, native-endian
//! ```

/// Its length in bytes.
pub const LENGTH: usize = 10;

/// The checksum field holds the sum of the pseudo-header only.
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Beside a GSO type: the first segment has CWR set.
const GSO_ECN: u8 = 0x80;

/// What the header says. Only the local kernel writes what is read here, and only this crate what is emitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Where the unfinished checksum is: offset of the transport header, and of the field within it.
    pub checksum: Option<(u16, u16)>,
    /// Into which segments the packet is to be cut.
    pub gso: Option<Gso>,
    /// Length of all headers; a hint.
    pub header: u16,
}

/// How a super-packet is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// What its segments are.
    pub kind: GsoKind,
    /// Payload of each segment but the last, in bytes.
    pub size: u16,
    /// Whether congestion window reduced is set, which is for the first segment alone.
    pub cwr: bool,
}

/// What the segments of a super-packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv6.
    Tcp,
    /// UDP datagrams.
    Udp,
}

impl Header {
    /// Reads it. `None`: another GSO type than those that were asked for.
    pub fn parse(bytes: &[u8; LENGTH]) -> Option<Self> {
        let at = |index: usize| u16::from_ne_bytes([bytes[index], bytes[index + 1]]);
        let kind = match bytes[1] & !GSO_ECN {
            0 => None,
            GSO_TCPV6 => Some(GsoKind::Tcp),
            GSO_UDP_L4 => Some(GsoKind::Udp),
            _ => return None,
        };
        Some(Self {
            checksum: (bytes[0] & NEEDS_CSUM != 0).then(|| (at(6), at(8))),
            gso: kind.map(|kind| Gso { kind, size: at(4), cwr: bytes[1] & GSO_ECN != 0 }),
            header: at(2),
        })
    }

    /// Writes it.
    pub fn emit(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let mut put =
            |index: usize, value: u16| bytes[index..index + 2].copy_from_slice(&value.to_ne_bytes());
        put(2, self.header);
        if let Some(gso) = self.gso {
            put(4, gso.size);
        }
        if let Some((start, offset)) = self.checksum {
            put(6, start);
            put(8, offset);
            bytes[0] = NEEDS_CSUM;
        }
        if let Some(gso) = self.gso {
            let kind = match gso.kind {
                GsoKind::Tcp => GSO_TCPV6,
                GsoKind::Udp => GSO_UDP_L4,
            };
            bytes[1] = kind | if gso.cwr { GSO_ECN } else { 0 };
        }
        bytes
    }
}
