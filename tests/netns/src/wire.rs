//! What a wire does to frames on their way: a fault model without IO or clock.
//!
//! A frame that enters a [`Lane`] may be dropped by a rule, by chance or for its length, waits its turn at the
//! rate of the lane, then travels for the delay of the lane. The same frames at the same times with the same seed
//! always fare alike.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::frame::{Frame, Protocol};
use crate::random::Random;

/// How one direction of a wire treats frames. The default is a perfect wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// How long a frame travels, in milliseconds.
    pub delay_ms: f64,
    /// Up to how much longer it may travel, in milliseconds; this alone does not reorder.
    pub jitter_ms: f64,
    /// Share of frames that are lost, 0 to 1.
    pub loss: f64,
    /// Share of frames that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Share of frames that later ones may overtake, 0 to 1.
    pub reorder: f64,
    /// How far such a frame falls back, in milliseconds.
    pub reorder_ms: f64,
    /// Bits a second; none: no limit.
    pub rate: Option<u64>,
    /// Bytes that may wait for their turn at the rate.
    pub queue: usize,
    /// Longest IP packet, in bytes; longer ones vanish; none: no limit.
    pub mtu: Option<usize>,
    /// Share of packets that are marked as having met congestion, 0 to 1, of those that say they understand it (RFC 3168).
    pub congested: f64,
    /// Frames that match one of these are dropped.
    pub drop: Vec<Matcher>,
    /// Nothing passes.
    pub cut: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            delay_ms: 0.0,
            jitter_ms: 0.0,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_ms: 5.0,
            rate: None,
            queue: 256 * 1024,
            mtu: None,
            congested: 0.0,
            drop: Vec::new(),
            cut: false,
        }
    }
}

impl Faults {
    /// A wire with this delay each way, in milliseconds, and this share of lost frames.
    pub fn lossy(delay_ms: f64, loss: f64) -> Self {
        Self { delay_ms, loss, ..Self::default() }
    }
}

/// Which frames a rule is about; what is not set matches all. Frames that do not carry IP never match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matcher {
    /// Protocol.
    pub protocol: Option<Protocol>,
    /// Source or destination address.
    pub host: Option<IpAddr>,
    /// Source or destination port.
    pub port: Option<u16>,
}

impl Matcher {
    fn matches(&self, frame: &Frame) -> bool {
        let host = |host| frame.source == host || frame.destination == host;
        let port =
            |port| frame.ports.is_some_and(|(source, destination)| source == port || destination == port);
        self.protocol.is_none_or(|protocol| frame.protocol == protocol)
            && self.host.is_none_or(host)
            && self.port.is_none_or(port)
    }
}

/// What became of the frames of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames that entered.
    pub entered: u64,
    /// Bytes that entered.
    pub bytes: u64,
    /// Frames that left, duplicates counted.
    pub left: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Marked as having met congestion.
    pub marked: u64,
    /// Put behind later ones.
    pub reordered: u64,
    /// Dropped by a rule.
    pub ruled_out: u64,
    /// Longer than the MTU.
    pub too_long: u64,
    /// The queue was full.
    pub overflowed: u64,
    /// Dropped since the wire was cut.
    pub cut: u64,
}

/// One direction of a wire.
#[derive(Debug)]
pub struct Lane {
    faults: Faults,
    random: Random,
    /// Dice of their own, so that older tests see the same faults as ever.
    marks: Random,
    /// Frames under way, by arrival, then by entry.
    under_way: BTreeMap<(Instant, u64), Vec<u8>>,
    serial: u64,
    /// When the last frame will have left at the rate.
    busy_until: Option<Instant>,
    /// When the last frame that keeps its place arrives.
    last_arrival: Option<Instant>,
    counters: Counters,
}

impl Lane {
    /// A direction with `faults`, whose dice are those of `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            faults,
            random: Random::new(seed),
            marks: Random::new(!seed),
            under_way: BTreeMap::new(),
            serial: 0,
            busy_until: None,
            last_arrival: None,
            counters: Counters::default(),
        }
    }

    /// Other faults from now on; what is under way arrives, unless the wire is cut.
    pub fn set(&mut self, faults: Faults) {
        if faults.cut {
            self.counters.cut += self.under_way.len() as u64;
            self.under_way.clear();
        }
        self.busy_until = None;
        self.last_arrival = None;
        self.faults = faults;
    }

    /// The present faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What became of the frames so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A frame enters.
    pub fn push(&mut self, now: Instant, mut frame: Vec<u8>) {
        self.counters.entered += 1;
        self.counters.bytes += frame.len() as u64;
        // All dice of a frame are thrown whatever becomes of it.
        let lost = self.random.chance(self.faults.loss);
        let duplicate = self.random.chance(self.faults.duplicate);
        let reorder = self.random.chance(self.faults.reorder);
        let jitter = self.random.unit() * self.faults.jitter_ms;
        let congested = self.marks.chance(self.faults.congested);
        if let Some(count) = self.verdict(&frame, lost) {
            *count += 1;
            return;
        }

        if congested && Frame::mark_congested(&mut frame) {
            self.counters.marked += 1;
        }
        let mut leaves = now;
        if let Some(rate) = self.faults.rate {
            let begins = self.busy_until.map_or(now, |until| until.max(now));
            let waiting = begins.saturating_duration_since(now).as_secs_f64() * rate as f64 / 8.0;
            if waiting + frame.len() as f64 > self.faults.queue as f64 {
                self.counters.overflowed += 1;
                return;
            }
            leaves = begins + Duration::from_secs_f64(frame.len() as f64 * 8.0 / rate.max(1) as f64);
            self.busy_until = Some(leaves);
        }
        let mut arrives = leaves + milliseconds(self.faults.delay_ms + jitter);
        if reorder {
            self.counters.reordered += 1;
            arrives += milliseconds(self.faults.reorder_ms);
        } else {
            arrives = self.last_arrival.map_or(arrives, |last| last.max(arrives));
            self.last_arrival = Some(arrives);
        }
        if duplicate {
            self.counters.duplicated += 1;
            self.enqueue(arrives, frame.clone());
        }
        self.enqueue(arrives, frame);
    }

    /// A frame that has arrived by `now`.
    pub fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        let first = self.under_way.first_entry().filter(|entry| entry.key().0 <= now)?;
        self.counters.left += 1;
        Some(first.remove())
    }

    /// When the next frame arrives.
    pub fn next(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|(key, _)| key.0)
    }

    fn enqueue(&mut self, arrives: Instant, frame: Vec<u8>) {
        self.serial += 1;
        self.under_way.insert((arrives, self.serial), frame);
    }

    /// The counter of the reason why a frame does not pass, if it does not.
    fn verdict(&mut self, frame: &[u8], lost: bool) -> Option<&mut u64> {
        let faults = &self.faults;
        if faults.cut {
            return Some(&mut self.counters.cut);
        }
        if faults.mtu.is_some_and(|mtu| frame.len() > mtu + Frame::ETHERNET) {
            return Some(&mut self.counters.too_long);
        }
        let read = Frame::parse(frame);
        if read.is_some_and(|frame| faults.drop.iter().any(|rule| rule.matches(&frame))) {
            return Some(&mut self.counters.ruled_out);
        }
        lost.then_some(&mut self.counters.lost)
    }
}

fn milliseconds(count: f64) -> Duration {
    Duration::from_secs_f64(count.max(0.0) / 1000.0)
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
