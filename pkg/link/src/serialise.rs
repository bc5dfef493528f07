//! How long a link needs to put bytes on the wire, found by comparing long probes with short ones.
//!
//! A slow link keeps a long frame longer than a short one; the answer is short both times. So a long probe's round trip less
//! the smallest of short ones is what its additional bytes need, and whatever else delayed it. Of several such differences
//! the smallest counts, and probes wait for times at which the link has nothing else to carry.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Serialise {
    /// What 1,200 bytes needed, as the last long probes showed.
    samples: VecDeque<Duration>,
    /// When the next long probe should leave.
    next: Instant,
    /// Long probes sent.
    sent: u32,
    /// Bytes that the link had carried when it was looked at last.
    carried: u64,
}

/// Of so many samples the smallest counts; with fewer nothing is known.
const SAMPLES: usize = 4;
/// Pause between the first long probes, and between later ones.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(60);
/// The first long probes: one may be lost, and the others shall do.
const FIRST: u32 = SAMPLES as u32 + 1;
/// A link that has carried more than this since it was looked at last is busy, and is looked at again after a while.
const BUSY: u64 = 16 * 1024;
const PAUSE_BUSY: Duration = Duration::from_secs(2);
/// About as many bytes has the datagram of a short probe.
const SHORT: u16 = 64;
/// A probe is long from here on.
const LONG: u16 = 1_000;
/// What the cost takes for the size of a frame.
const FRAME: u32 = 1_200;
/// Less than this cannot be told from chance.
const LEAST: Duration = Duration::from_micros(100);

impl Serialise {
    pub(crate) fn new(now: Instant) -> Self {
        Self { samples: VecDeque::new(), next: now + PAUSE_FIRST, sent: 0, carried: 0 }
    }

    /// When [`Serialise::poll`] should be called next.
    pub(crate) fn due(&self) -> Instant {
        self.next
    }

    /// Whether a long probe should leave now, on a link that has carried so many bytes in all.
    pub(crate) fn poll(&mut self, now: Instant, carried: u64) -> bool {
        if now < self.next {
            return false;
        }
        let busy = carried.saturating_sub(self.carried) > BUSY;
        self.carried = carried;
        if busy {
            self.next = now + PAUSE_BUSY;
            return false;
        }
        self.sent = self.sent.saturating_add(1);
        self.next = now + if self.sent < FIRST { PAUSE_FIRST } else { PAUSE };
        true
    }

    /// A probe of `length` bytes took `round_trip`, and short ones take `low`.
    pub(crate) fn answered(&mut self, length: u16, round_trip: Duration, low: Duration) {
        if length < LONG {
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        let more = round_trip.saturating_sub(low);
        self.samples.push_back(more * FRAME / u32::from(length - SHORT));
    }

    /// Bytes per second, if the link is slow enough that they can be told.
    pub(crate) fn rate(&self) -> Option<u64> {
        let time = self.samples.iter().min().filter(|_| self.samples.len() == SAMPLES)?;
        (*time >= LEAST).then(|| (f64::from(FRAME) / time.as_secs_f64()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: Duration = Duration::from_millis(20);

    /// What a probe of `length` bytes takes at `rate` bytes per second.
    fn round_trip(length: u16, rate: u64) -> Duration {
        LOW + Duration::from_secs_f64(f64::from(length - SHORT) / rate as f64)
    }

    #[test]
    fn the_rate_of_a_slow_link_is_found_whatever_the_length_of_probes() {
        for rate in [1_000, 32_000, 1_000_000] {
            let mut serialise = Serialise::new(Instant::now());
            for length in [1_452, 1_200, 1_232, 1_452] {
                assert_eq!(serialise.rate(), None, "too few samples");
                serialise.answered(length, round_trip(length, rate), LOW);
            }
            let found = serialise.rate().expect("it can be told");
            assert!(found.abs_diff(rate) * 100 < rate, "{found} instead of {rate}");
        }
    }

    #[test]
    fn a_fast_link_has_no_rate_and_what_delays_some_probes_makes_it_no_slower() {
        let mut serialise = Serialise::new(Instant::now());
        for delay in [0, 40, 7, 12] {
            serialise.answered(1_452, LOW + Duration::from_millis(delay), LOW);
        }
        assert_eq!(serialise.rate(), None);
        for length in [40, 64, 999] {
            serialise.answered(length, 2 * LOW, LOW);
        }
        assert_eq!(serialise.samples.len(), SAMPLES, "short probes say nothing");
    }

    #[test]
    fn a_link_that_became_slower_or_faster_is_known_after_as_many_samples_as_count() {
        let mut serialise = Serialise::new(Instant::now());
        for rate in [64_000, 16_000, 128_000] {
            for _ in 0..SAMPLES {
                serialise.answered(1_452, round_trip(1_452, rate), LOW);
            }
            let found = serialise.rate().expect("it can be told");
            assert!(found.abs_diff(rate) * 100 < rate, "{found} instead of {rate}");
        }
    }

    #[test]
    fn long_probes_are_seldom_and_wait_while_the_link_is_busy() {
        let start = Instant::now();
        let mut serialise = Serialise::new(start);
        let probes = |serialise: &mut Serialise, seconds: std::ops::Range<u64>, each: u64| {
            let at = |second: u64| (start + Duration::from_secs(second), second * each);
            let sent = seconds.filter(|second| {
                let (now, carried) = at(*second);
                serialise.poll(now, carried)
            });
            sent.count()
        };
        assert_eq!(probes(&mut serialise, 0..20, 100), FIRST as usize);
        assert_eq!(probes(&mut serialise, 20..620, 100), 10);
        assert_eq!(probes(&mut serialise, 620..1_210, 1_000_000), 0, "a busy link");
        let little = probes(&mut serialise, 1_210..1_810, 1_000);
        assert!((8..=11).contains(&little), "{little} on a link that carries a little all the time");
    }
}
