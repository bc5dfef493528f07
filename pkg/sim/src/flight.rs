//! Payloads that can be followed on their way.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use byway_network::Plane;

/// What no router writes by chance.
const MARKER: [u8; 8] = *b"\xf0FLIGHT\x0f";

/// Bytes of a marker with number and plane.
const HEAD: usize = 17;

/// What became of one payload.
#[derive(Clone, Debug)]
pub struct Flight {
    from: usize,
    to: Option<usize>,
    plane: Plane,
    arrivals: Vec<(Instant, usize)>,
    hops: u32,
    visits: BTreeMap<usize, u32>,
    copies: usize,
}

impl Flight {
    pub(crate) fn new(from: usize, to: Option<usize>, plane: Plane) -> Self {
        let visits = BTreeMap::from([(from, 1)]);
        Self { from, to, plane, arrivals: Vec::new(), hops: 0, visits, copies: 0 }
    }

    /// Who sent it.
    pub fn from(&self) -> usize {
        self.from
    }

    /// Whom it is for.
    pub fn to(&self) -> Option<usize> {
        self.to
    }

    /// The plane that it was sent in.
    pub fn plane(&self) -> Plane {
        self.plane
    }

    /// How often it was delivered.
    pub fn arrivals(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether it was delivered.
    pub fn arrived(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// How often it was put on a link.
    pub fn hops(&self) -> u32 {
        self.hops
    }

    /// The most often that one node saw it, the copies of links included.
    pub fn most_visits(&self) -> u32 {
        self.visits.values().copied().max().unwrap_or(0)
    }

    pub(crate) fn copies_made_by_links(&self) -> usize {
        self.copies
    }

    pub(crate) fn copied(&mut self, copies: usize) {
        self.copies += copies;
    }

    pub(crate) fn hop(&mut self) {
        self.hops += 1;
    }

    pub(crate) fn visit(&mut self, node: usize) {
        *self.visits.entry(node).or_default() += 1;
    }

    pub(crate) fn arrive(&mut self, now: Instant, node: usize) {
        self.arrivals.push((now, node));
    }
}

/// A payload that says which flight it is, `length` bytes long but never shorter than its head.
pub(crate) fn payload(number: u64, plane: Plane, length: usize) -> Bytes {
    let mut payload = [&MARKER[..], &number.to_be_bytes(), &[plane.byte()]].concat();
    payload.resize(length.max(HEAD), 0x5a);
    payload.into()
}

/// The number and plane of the flight inside a frame or payload, if there is one.
pub(crate) fn read(bytes: &[u8]) -> Option<(u64, Plane)> {
    let at = bytes.windows(MARKER.len()).position(|window| window == MARKER)?;
    let head = bytes.get(at + MARKER.len()..at + HEAD)?;
    let (number, plane) = head.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), Plane::from_byte(plane[0])?))
}
