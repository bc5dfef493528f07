//! Payloads that can be followed on their way.

use std::time::{Duration, Instant};

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
    sent: Instant,
    arrivals: Vec<(Instant, usize)>,
    hops: u32,
    way: Vec<u32>,
    travelled: Duration,
    copies: usize,
}

impl Flight {
    pub(crate) fn new(from: usize, to: Option<usize>, plane: Plane, sent: Instant) -> Self {
        Self {
            from,
            to,
            plane,
            sent,
            arrivals: Vec::new(),
            hops: 0,
            way: vec![from as u32],
            travelled: Duration::ZERO,
            copies: 0,
        }
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

    /// From sending to the first delivery, the search for the target included.
    pub fn took(&self) -> Option<Duration> {
        self.arrivals.first().map(|(at, _)| *at - self.sent)
    }

    /// How often it was put on a link.
    pub fn hops(&self) -> u32 {
        self.hops
    }

    /// The nodes that saw it, in the order in which they did, the sender first. A node stands there once for each time.
    pub fn way(&self) -> impl Iterator<Item = usize> + '_ {
        self.way.iter().map(|node| *node as usize)
    }

    /// Latency of all links that it came over, together.
    pub fn travelled(&self) -> Duration {
        self.travelled
    }

    /// The most often that one node saw it, the copies of links included.
    pub fn most_visits(&self) -> u32 {
        let mut seen = self.way.clone();
        seen.sort_unstable();
        seen.chunk_by(|a, b| a == b).map(|same| same.len() as u32).max().unwrap_or(0)
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

    pub(crate) fn visit(&mut self, node: usize, latency: Duration) {
        self.way.push(node as u32);
        self.travelled += latency;
    }

    pub(crate) fn arrive(&mut self, now: Instant, node: usize) {
        self.arrivals.push((now, node));
    }
}

/// A payload that says which flight it is, `length` bytes long but never shorter than its head.
pub(crate) fn payload(number: u64, plane: Plane, length: usize) -> Bytes {
    let mut payload = Vec::with_capacity(length.max(HEAD));
    payload.extend_from_slice(&MARKER);
    payload.extend_from_slice(&number.to_be_bytes());
    payload.push(plane.byte());
    payload.resize(length.max(HEAD), 0x5a);
    payload.into()
}

/// The number and plane of the flight inside a frame or payload, if there is one.
pub(crate) fn read(bytes: &[u8]) -> Option<(u64, Plane)> {
    let last = bytes.len().checked_sub(HEAD)?;
    let mut from = 0;
    loop {
        let at = from + bytes[from..=last].iter().position(|byte| *byte == MARKER[0])?;
        if bytes[at..].starts_with(&MARKER) {
            let (number, plane) = bytes[at + MARKER.len()..at + HEAD].split_first_chunk()?;
            return Some((u64::from_be_bytes(*number), Plane::from_byte(plane[0])?));
        }
        from = at + 1;
        if from > last {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flight_is_read_wherever_it_lies_in_a_frame() {
        let payload = payload(77, Plane::Anon, 40);
        for before in [0, 1, 9] {
            let frame = [&vec![0xf0; before][..], &payload].concat();
            assert_eq!(read(&frame), Some((77, Plane::Anon)));
            assert_eq!(read(&frame[..before + HEAD]), Some((77, Plane::Anon)));
            assert_eq!(read(&frame[..before + HEAD - 1]), None);
        }
        assert_eq!(read(&[0xf0; 64]), None);
        assert_eq!(read(b""), None);
    }

    #[test]
    fn the_way_tells_who_saw_it_how_often() {
        let mut flight = Flight::new(3, Some(4), Plane::Any, Instant::now());
        for node in [5, 3, 5, 4] {
            flight.visit(node, Duration::from_millis(2));
        }
        assert_eq!(flight.way().collect::<Vec<_>>(), [3, 5, 3, 5, 4]);
        assert_eq!((flight.most_visits(), flight.travelled()), (2, Duration::from_millis(8)));
    }
}
