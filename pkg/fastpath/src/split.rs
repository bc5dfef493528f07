//! What is read from the device, cut into packets of which each is whole.
//!
//! ```text
//!  vnet header · IPv6 · TCP · payload ..................        one read
//!                IPv6 · TCP · piece │ IPv6 · TCP · piece │ …    lengths, sequence, flags and sums of each its own
//! ```
//!
//! A checksum stays unfinished where TCP or UDP follow the fixed header at once; elsewhere it is finished here.

use crate::checksum;
use crate::packet::{
    self, CWR, FIN, FIXED, PSH, Protocol, TCP_FLAGS, Upper, put_u16, put_u32, tcp_header, u16_at, u32_at,
};
use crate::vnet::{GsoKind, Header};

/// How one read is to be cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Bytes of all headers, which each segment gets.
    headers: usize,
    /// Payload of each segment but the last.
    size: usize,
    count: usize,
    length: usize,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// The checksum, if there is one, is there.
    Plain,
    /// It is left unfinished, with the sum over the pseudo-header but for the length.
    Partial { upper: Upper, pseudo: u64 },
    /// It is finished here, where the header says.
    Finish { start: usize, offset: usize, protocol: Option<Protocol> },
}

impl Plan {
    /// `None`: no IPv6 packet, or a header that makes no sense with it.
    pub(crate) fn new(header: &Header, packet: &[u8]) -> Option<Self> {
        if !packet::is_whole(packet) {
            return None;
        }
        let length = packet.len();
        let Some((start, offset)) = header.checksum else {
            let plain = Self { headers: FIXED, size: length, count: 1, length, form: Form::Plain };
            return header.gso.is_none().then_some(plain);
        };
        let (start, offset) = (usize::from(start), usize::from(offset));
        if start < FIXED || start + offset + 2 > length {
            return None;
        }
        let upper = Upper::of(packet).filter(|upper| start == FIXED && offset == upper.protocol.checksum());
        let protocol = header.gso.map(|gso| match gso.kind {
            GsoKind::Tcp => Protocol::Tcp,
            GsoKind::Udp => Protocol::Udp,
        });
        if protocol.is_some_and(|protocol| offset != protocol.checksum()) {
            return None;
        }
        let (headers, form) = match (upper, protocol) {
            (Some(upper), _) if protocol.is_none_or(|protocol| protocol == upper.protocol) => {
                let pseudo = checksum::pseudo(packet, upper.protocol);
                (upper.headers, Form::Partial { upper, pseudo })
            }
            (Some(_), _) => return None,
            (None, None) => (FIXED, Form::Finish { start, offset, protocol }),
            (None, Some(Protocol::Tcp)) => {
                (start + tcp_header(packet, start)?, Form::Finish { start, offset, protocol })
            }
            (None, Some(Protocol::Udp)) => (start + 8, Form::Finish { start, offset, protocol }),
        };
        let payload = length.checked_sub(headers)?;
        let size = match header.gso {
            Some(gso) if gso.size == 0 => return None,
            Some(gso) => usize::from(gso.size),
            None => payload.max(1),
        };
        Some(Self { headers, size, count: payload.div_ceil(size).max(1), length, form })
    }

    /// How many segments there are; at least one.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Length of segment `index`; none is longer than the first.
    pub(crate) fn segment(&self, index: usize) -> usize {
        self.headers + self.size.min(self.length - self.headers - index * self.size)
    }

    /// Whether the segments' checksums are left unfinished.
    pub(crate) fn is_partial(&self) -> bool {
        matches!(self.form, Form::Partial { .. })
    }

    /// Writes segment `index` of `packet` to `out`, which has its length.
    pub(crate) fn write(&self, packet: &[u8], index: usize, out: &mut [u8]) {
        let from = self.headers + index * self.size;
        let (head, body) = out.split_at_mut(self.headers);
        head.copy_from_slice(&packet[..self.headers]);
        body.copy_from_slice(&packet[from..from + body.len()]);
        let is_only = self.count == 1;
        match self.form {
            Form::Plain => {}
            Form::Partial { upper, pseudo } => {
                if !is_only {
                    self.rewrite(out, index, FIXED, upper.protocol);
                }
                let sum = checksum::fold(pseudo + (out.len() - FIXED) as u64);
                put_u16(out, upper.checksum(), sum);
            }
            Form::Finish { start, offset, protocol } => {
                if let Some(protocol) = protocol.filter(|_| !is_only) {
                    self.rewrite(out, index, start, protocol);
                    // The sum held the length of the whole; end-around, taking away is adding the complement.
                    let whole = checksum::fold((self.length - start) as u64);
                    let sum = u16_at(out, start + offset).map_or(0, u64::from)
                        + u64::from(!whole)
                        + (out.len() - start) as u64;
                    put_u16(out, start + offset, checksum::fold(sum));
                }
                checksum::finish_at(out, start, offset);
            }
        }
    }

    /// The same, with the checksum finished.
    pub(crate) fn write_finished(&self, packet: &[u8], index: usize, out: &mut [u8]) {
        self.write(packet, index, out);
        if let Form::Partial { upper, .. } = self.form {
            checksum::finish_at(out, FIXED, upper.protocol.checksum());
        }
    }

    /// Makes the headers those of one segment among several.
    fn rewrite(&self, out: &mut [u8], index: usize, start: usize, protocol: Protocol) {
        packet::set_length(out);
        let behind = start - FIXED;
        match protocol {
            Protocol::Tcp => {
                let sequence = u32_at(out, start + 4).wrapping_add((index * self.size) as u32);
                put_u32(out, start + 4, sequence);
                if index > 0 {
                    out[TCP_FLAGS + behind] &= !CWR;
                }
                if index + 1 < self.count {
                    out[TCP_FLAGS + behind] &= !(FIN | PSH);
                }
            }
            Protocol::Udp => {
                let length = out.len() - start;
                put_u16(out, start + 4, length as u16);
            }
        }
    }
}
