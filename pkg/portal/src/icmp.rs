//! ICMPv6 errors that the portal sends to programs of its own host (RFC 4443).
//!
//! ```text
//!  0      1      2          4                8
//!  +------+------+----------+----------------+------------------------------------------+
//!  | type | code | checksum | MTU or 0       | as much of the packet as 1,280 bytes hold|
//!  +------+------+----------+----------------+------------------------------------------+
//! ```

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use byway_api::Code;

use crate::packet::{HEADER, ICMP, Packet};

/// The smallest MTU that IPv6 allows; packets up to it are always carried.
pub const MINIMUM_MTU: usize = 1280;

/// What a program's host is told about a packet that could not be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// 1/0: no route to the destination.
    NoRoute,
    /// 1/1: forbidden, here by the level that the request demands.
    Prohibited,
    /// 1/3: there is no such address, or it does not answer.
    AddressUnreachable,
    /// 1/4: the destination refuses.
    PortUnreachable,
    /// 2/0: longer than the way carries whole; never below [`MINIMUM_MTU`].
    TooBig(usize),
}

impl Notice {
    /// What a failed request means to the sender of a packet; `None` where silence is right, as for a full queue.
    pub fn for_code(code: Code) -> Option<Self> {
        match code {
            Code::ManconUnsatisfied | Code::TargetForbidden => Some(Self::Prohibited),
            Code::NoWay | Code::Closed => Some(Self::NoRoute),
            Code::Down | Code::Unknown => Some(Self::AddressUnreachable),
            Code::Refused => Some(Self::PortUnreachable),
            Code::TooLong => Some(Self::TooBig(MINIMUM_MTU)),
            _ => None,
        }
    }

    /// The ICMPv6 packet that tells the source of `about`, or `None` if no error may be sent about it.
    ///
    /// It seems to come from the destination of `about`: the portal has no address of its own on the way.
    pub fn packet(self, about: &[u8]) -> Option<Bytes> {
        let read = Packet::parse(about).ok()?;
        if !read.may_be_answered() {
            return None;
        }
        let quoted = &about[..about.len().min(MINIMUM_MTU - HEADER - 8)];
        let mut body = BytesMut::with_capacity(8 + quoted.len());
        let (kind, code) = self.numbers();
        body.put_slice(&[kind, code, 0, 0]);
        body.put_u32(match self {
            Self::TooBig(mtu) => u32::try_from(mtu.max(MINIMUM_MTU)).unwrap_or(u32::MAX),
            _ => 0,
        });
        body.put_slice(quoted);
        let sum = checksum(read.destination, read.source, ICMP, &body);
        body[2..4].copy_from_slice(&sum.to_be_bytes());

        let mut packet = BytesMut::with_capacity(HEADER + body.len());
        packet.put_u32(6 << 28);
        packet.put_u16(u16::try_from(body.len()).expect("at most 1,240 bytes"));
        packet.put_slice(&[ICMP, 64]);
        packet.put_slice(&read.destination.octets());
        packet.put_slice(&read.source.octets());
        packet.put_slice(&body);
        Some(packet.freeze())
    }

    /// ICMPv6 type and code.
    const fn numbers(self) -> (u8, u8) {
        match self {
            Self::NoRoute => (1, 0),
            Self::Prohibited => (1, 1),
            Self::AddressUnreachable => (1, 3),
            Self::PortUnreachable => (1, 4),
            Self::TooBig(_) => (2, 0),
        }
    }
}

/// The Internet checksum of `body` with the pseudo-header of RFC 8200, section 8.1.
///
/// Over a body that holds its checksum already it is 0, if that is right.
pub fn checksum(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, body: &[u8]) -> u16 {
    let mut sum = u64::from(protocol) + body.len() as u64;
    for bytes in [&source.octets()[..], &destination.octets()[..], body] {
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from);
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A token bucket: so many at once, so many a second.
#[derive(Debug)]
pub(crate) struct Limiter {
    tokens: u32,
    burst: u32,
    /// Time in which one token grows.
    every: Duration,
    filled: Option<Instant>,
}

impl Limiter {
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        Self { tokens: burst, burst, every: Duration::from_secs(1) / per_second, filled: None }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let filled = *self.filled.get_or_insert(now);
        let grown = now.saturating_duration_since(filled).as_nanos() / self.every.as_nanos();
        let grown = u32::try_from(grown).unwrap_or(u32::MAX);
        if grown >= self.burst - self.tokens {
            self.tokens = self.burst;
            self.filled = Some(now);
        } else {
            self.tokens += grown;
            self.filled = Some(filled + self.every * grown);
        }
        let taken = self.tokens > 0;
        self.tokens -= u32::from(taken);
        taken
    }

    /// Puts one back that was taken for nothing.
    pub(crate) fn give_back(&mut self) {
        self.tokens = (self.tokens + 1).min(self.burst);
    }
}

#[cfg(test)]
#[path = "icmp_tests.rs"]
mod tests;
