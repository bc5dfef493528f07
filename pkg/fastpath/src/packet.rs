//! Where things are in an IPv6 packet whose transport header follows at once.

/// Bytes of the fixed header.
pub(crate) const FIXED: usize = 40;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const URG: u8 = 32;
pub(crate) const CWR: u8 = 128;

/// Where the flags of TCP are, in a packet without extension headers.
pub(crate) const TCP_FLAGS: usize = FIXED + 13;
/// Where its sequence number is.
pub(crate) const TCP_SEQUENCE: usize = FIXED + 4;
/// Where the length of UDP is.
pub(crate) const UDP_LENGTH: usize = FIXED + 4;

/// Transports that can be merged and split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// A transport header that follows the fixed header at once and is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upper {
    pub(crate) protocol: Protocol,
    /// Bytes of all headers.
    pub(crate) headers: usize,
}

impl Protocol {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Where in the transport header the checksum is.
    pub(crate) const fn checksum(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

impl Upper {
    /// Reads `packet`, which [is whole](is_whole).
    pub(crate) fn of(packet: &[u8]) -> Option<Self> {
        let (protocol, length) = match packet.get(6)? {
            6 => (Protocol::Tcp, tcp_header(packet, FIXED)?),
            17 => {
                let length = usize::from(u16_at(packet, UDP_LENGTH)?);
                (length == packet.len().checked_sub(FIXED)? && length >= 8).then_some((Protocol::Udp, 8))?
            }
            _ => return None,
        };
        Some(Self { protocol, headers: FIXED + length })
    }

    /// Where in the packet the checksum is.
    pub(crate) const fn checksum(self) -> usize {
        FIXED + self.protocol.checksum()
    }
}

/// Length of the TCP header that begins at `start`, if it is whole.
pub(crate) fn tcp_header(packet: &[u8], start: usize) -> Option<usize> {
    let length = usize::from(packet.get(start + 12)? >> 4) * 4;
    (length >= 20 && start + length <= packet.len()).then_some(length)
}

/// Whether `packet` is one IPv6 packet, from its first to its last byte.
pub(crate) fn is_whole(packet: &[u8]) -> bool {
    packet.len() >= FIXED
        && packet[0] >> 4 == 6
        && usize::from(u16::from_be_bytes([packet[4], packet[5]])) == packet.len() - FIXED
}

/// Writes the length field for the packet's length.
pub(crate) fn set_length(packet: &mut [u8]) {
    let length = packet.len() - FIXED;
    put_u16(packet, 4, length as u16);
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().copied().map_or(0, u32::from_be_bytes)
}

pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
