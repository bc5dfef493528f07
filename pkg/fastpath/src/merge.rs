//! Segments that came one after another, joined to what the device takes in one write.
//!
//! Nothing here is believed because of a flag: the sender's CONT only says where looking is worth while.

use crate::checksum;
use crate::packet::{
    CWR, FIN, FIXED, PSH, Protocol, RST, SYN, TCP_FLAGS, TCP_SEQUENCE, UDP_LENGTH, URG, Upper, put_u16,
    u32_at,
};
use crate::vnet::{Gso, GsoKind, Header};

/// Most segments of one super-packet; what older kernels cut at most.
pub(crate) const SEGMENTS: usize = 64;
/// Most bytes of one.
pub(crate) const LONGEST: usize = 65_535;

/// A super-packet that grows: what the next segment is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growing {
    pub(crate) upper: Upper,
    /// Payload of the first segment: that of all but the last.
    size: usize,
    /// Payload so far.
    payload: usize,
    count: usize,
    /// TCP flags of the last segment.
    flags: u8,
    /// Whether nothing may follow.
    is_closed: bool,
}

impl Growing {
    /// Begins with `first`, which is whole and has the header `upper`.
    pub(crate) fn begin(first: &[u8], upper: Upper) -> Self {
        let size = first.len() - upper.headers;
        let flags = flags(first, upper);
        let is_closed = size == 0 || flags & (FIN | SYN | RST | PSH | URG) != 0;
        Self { upper, size, payload: size, count: 1, flags, is_closed }
    }

    /// Takes `next`, which is whole and has the header `upper`, as the continuation of what began with `first`, if it is one.
    pub(crate) fn take(&mut self, first: &[u8], next: &[u8], upper: Upper) -> bool {
        let size = next.len() - upper.headers;
        let fits = !self.is_closed
            && upper == self.upper
            && (1..=self.size).contains(&size)
            && self.count < SEGMENTS
            && upper.headers + self.payload + size <= LONGEST
            && self.has_headers(first, next);
        if !fits {
            return false;
        }
        self.flags = flags(next, upper);
        self.payload += size;
        self.count += 1;
        self.is_closed = size < self.size || self.flags & (FIN | PSH) != 0;
        true
    }

    /// Whether the headers are those of a segment right behind.
    fn has_headers(&self, first: &[u8], next: &[u8]) -> bool {
        // Version, traffic class, label; next header, hop limit, addresses, ports.
        if first[..4] != next[..4] || first[6..FIXED + 4] != next[6..FIXED + 4] {
            return false;
        }
        match self.upper.protocol {
            Protocol::Udp => true,
            Protocol::Tcp => {
                let sequence = u32_at(first, TCP_SEQUENCE).wrapping_add(self.payload as u32);
                let (before, after) = (first[TCP_FLAGS], next[TCP_FLAGS]);
                u32_at(next, TCP_SEQUENCE) == sequence
                    // Acknowledgement, data offset.
                    && first[FIXED + 8..FIXED + 13] == next[FIXED + 8..FIXED + 13]
                    && after & (SYN | RST | URG | CWR) == 0
                    && before & !CWR == after & !(FIN | PSH)
                    // Window; urgent pointer and options.
                    && first[FIXED + 14..FIXED + 16] == next[FIXED + 14..FIXED + 16]
                    && first[FIXED + 18..self.upper.headers] == next[FIXED + 18..self.upper.headers]
            }
        }
    }

    /// Writes the headers of the whole into those of its first segment, and gives the vnet header.
    pub(crate) fn finish(&self, first: &mut [u8]) -> Header {
        let Upper { protocol, headers } = self.upper;
        let length = headers + self.payload;
        let sum = checksum::pseudo(first, protocol) + (length - FIXED) as u64;
        put_u16(first, self.upper.checksum(), checksum::fold(sum));
        let mut cwr = false;
        if self.count > 1 {
            put_u16(first, 4, (length - FIXED) as u16);
            match protocol {
                Protocol::Tcp => {
                    cwr = first[TCP_FLAGS] & CWR != 0;
                    first[TCP_FLAGS] |= self.flags & (FIN | PSH);
                }
                Protocol::Udp => put_u16(first, UDP_LENGTH, (length - FIXED) as u16),
            }
        }
        let kind = match protocol {
            Protocol::Tcp => GsoKind::Tcp,
            Protocol::Udp => GsoKind::Udp,
        };
        Header {
            checksum: Some((FIXED as u16, protocol.checksum() as u16)),
            gso: (self.count > 1).then_some(Gso { kind, size: self.size as u16, cwr }),
            header: headers as u16,
        }
    }
}

/// Whether `packet` is one whose flags matter to a filter: it opens, ends or resets a connection.
pub(crate) fn is_special(packet: &[u8], upper: Upper) -> bool {
    flags(packet, upper) & (FIN | SYN | RST) != 0
}

fn flags(packet: &[u8], upper: Upper) -> u8 {
    match upper.protocol {
        Protocol::Tcp => packet[TCP_FLAGS],
        Protocol::Udp => 0,
    }
}
