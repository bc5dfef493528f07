//! Round trips, loss, and the cost that is made of them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use byway_network::Cost;

use crate::serialise::Serialise;

/// Measures one link.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Bytes per second, where the transport knows them.
    rate: Option<u64>,
    /// Where it does not, and frames may show it.
    pub(crate) serialise: Option<Serialise>,
    typical: Duration,
    smoothed: Option<Duration>,
    /// What round trips usually take: follows within hours, not within minutes.
    usual: Option<Duration>,
    /// Smallest round trips of the current half window and of the one before.
    low: [Option<Duration>; 2],
    low_since: Instant,
    next_number: u32,
    under_way: VecDeque<UnderWay>,
    /// Outcomes of the last probes, newest in bit 0, lost = 1, and how many there are.
    outcomes: u64,
    count: u32,
    told_by_peer: Cost,
    announced: Cost,
    is_measured: bool,
    /// Since when the cost has been another one than announced.
    differs: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    number: u32,
    sent: Instant,
    counts: bool,
    /// Bytes of its datagram, if it was made longer than it need be.
    length: u16,
}

/// The smallest round trip of the last 30 to 60 s counts.
const HALF_WINDOW: Duration = Duration::from_secs(30);
/// How many round trips are needed to change what is usual.
const USUAL: u32 = 1_024;
/// Less than this beyond the usual is never slow.
const SLOW_LEAST: Duration = Duration::from_millis(50);
/// Probes that may be under way at once.
const UNDER_WAY_MAX: usize = 32;
/// Fewer outcomes than these count as so many, so that one early loss is not "half of all".
const OUTCOMES_MIN: u32 = 16;
/// A cost is announced when it has differed by a quarter for this long.
const STEADY: Duration = Duration::from_secs(10);

impl Meter {
    /// Nothing measured yet: `typical` stands for the round trip until something is. `rate`: bytes per second, if known.
    pub(crate) fn new(now: Instant, typical: Duration, rate: Option<u64>) -> Self {
        Self {
            rate,
            serialise: None,
            typical,
            smoothed: None,
            usual: None,
            low: [None; 2],
            low_since: now,
            next_number: 0,
            under_way: VecDeque::new(),
            outcomes: 0,
            count: 0,
            told_by_peer: Cost::ZERO,
            announced: Cost::of_link(typical, 0.0, rate),
            is_measured: false,
            differs: None,
        }
    }

    /// The smoothed round trip, if one was measured.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The smoothed round trip, or what is typical.
    pub(crate) fn round_trip(&self) -> Duration {
        self.smoothed.unwrap_or(self.typical)
    }

    /// Whether round trips take three times what is usual here, and enough to be noticed.
    pub(crate) fn is_slow(&self) -> bool {
        let (Some(smoothed), Some(usual)) = (self.smoothed, self.usual) else { return false };
        smoothed > usual * 3 && smoothed > usual + SLOW_LEAST
    }

    /// Share of probes lost, 0 to 1.
    pub(crate) fn loss(&self) -> f64 {
        f64::from(self.outcomes.count_ones()) / f64::from(self.count.max(OUTCOMES_MIN))
    }

    /// The cost that is announced.
    pub(crate) fn cost(&self) -> Cost {
        self.announced
    }

    /// What this end measures now.
    pub(crate) fn measured(&self) -> Cost {
        let low = self.low.iter().flatten().min().copied().unwrap_or(self.typical);
        let measured = || self.serialise.as_ref()?.rate();
        Cost::of_link(low, self.loss(), self.rate.or_else(measured))
    }

    /// What the other end is told: nothing before something was measured.
    pub(crate) fn to_tell(&self) -> Cost {
        if self.smoothed.is_some() { self.measured() } else { Cost::ZERO }
    }

    /// A number for a probe sent at `now`; `counts`: whether its loss says something about the link. `length`: bytes of
    /// its datagram, if it was made longer than it need be.
    pub(crate) fn number(&mut self, now: Instant, counts: bool, length: Option<u16>) -> u32 {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        if self.under_way.len() == UNDER_WAY_MAX {
            self.under_way.pop_front();
        }
        self.under_way.push_back(UnderWay { number, sent: now, counts, length: length.unwrap_or(0) });
        number
    }

    /// The answer to the probe `number` came; false if none is awaited, so that an answer counts once.
    pub(crate) fn answered(&mut self, now: Instant, number: u32) -> bool {
        let Some(at) = self.under_way.iter().position(|probe| probe.number == number) else {
            return false;
        };
        let Some(probe) = self.under_way.remove(at) else { return false };
        let round_trip = now.saturating_duration_since(probe.sent);
        self.round_trip_was(now, round_trip);
        let low = self.low.iter().flatten().min().copied().unwrap_or(round_trip);
        if let Some(serialise) = &mut self.serialise {
            serialise.answered(probe.length, round_trip, low);
        }
        if probe.counts {
            self.outcome(false);
        }
        true
    }

    /// A round trip was measured.
    pub(crate) fn round_trip_was(&mut self, now: Instant, sample: Duration) {
        self.smoothed = Some(self.smoothed.map_or(sample, |old| (old * 7 + sample) / 8));
        self.usual = Some(self.usual.map_or(sample, |old| (old * (USUAL - 1) + sample) / USUAL));
        if now >= self.low_since + HALF_WINDOW {
            self.low = if now >= self.low_since + 2 * HALF_WINDOW { [None; 2] } else { [None, self.low[0]] };
            self.low_since = now;
        }
        self.low[0] = Some(self.low[0].map_or(sample, |low| low.min(sample)));
    }

    /// The other end told what it measures; the larger value counts.
    pub(crate) fn told(&mut self, cost: Cost) {
        self.told_by_peer = cost;
    }

    /// Counts probes that have been under way for too long as lost.
    pub(crate) fn expire(&mut self, now: Instant) {
        let patience = (self.round_trip() * 4).max(Duration::from_secs(1));
        while let Some(oldest) = self.under_way.front().copied() {
            if now < oldest.sent + patience {
                return;
            }
            self.under_way.pop_front();
            if oldest.counts {
                self.outcome(true);
            }
        }
    }

    /// The link is down: what is under way says nothing about loss.
    pub(crate) fn forget_under_way(&mut self) {
        for probe in &mut self.under_way {
            probe.counts = false;
        }
    }

    /// Brings the announced cost up to date; true if it changed.
    ///
    /// The first measured value counts at once; later ones when they have differed by a quarter for 10 s.
    pub(crate) fn update(&mut self, now: Instant) -> bool {
        if self.smoothed.is_none() {
            return false;
        }
        let cost = self.measured().max(self.told_by_peer);
        let (old, new) = (u64::from(self.announced.units()), u64::from(cost.units()));
        if !self.is_measured {
            self.is_measured = true;
            self.announced = cost;
            return old != new;
        }
        if old.abs_diff(new) * 4 < old {
            self.differs = None;
            return false;
        }
        if now < *self.differs.get_or_insert(now) + STEADY {
            return false;
        }
        self.differs = None;
        self.announced = cost;
        true
    }

    fn outcome(&mut self, lost: bool) {
        self.outcomes = self.outcomes << 1 | u64::from(lost);
        self.count = (self.count + 1).min(u64::BITS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    fn meter(start: Instant) -> Meter {
        Meter::new(start, Duration::from_millis(30), None)
    }

    fn probe(meter: &mut Meter, sent: Instant, round_trip: u64) {
        let number = meter.number(sent, true, None);
        let back = at(sent, round_trip);
        assert!(meter.answered(back, number));
        assert!(!meter.answered(back, number), "an answer counts once");
    }

    #[test]
    fn the_smallest_round_trip_counts_and_is_forgotten_after_a_minute() {
        let start = Instant::now();
        let mut meter = meter(start);
        probe(&mut meter, start, 10);
        for second in 1..20 {
            probe(&mut meter, at(start, second * 1_000), 50);
        }
        assert_eq!(meter.measured(), Cost::of_link(Duration::from_millis(10), 0.0, None));
        for second in 20..100 {
            probe(&mut meter, at(start, second * 1_000), 50);
        }
        assert_eq!(meter.measured(), Cost::of_link(Duration::from_millis(50), 0.0, None));
    }

    #[test]
    fn the_first_measure_counts_at_once_and_later_ones_after_ten_steady_seconds() {
        let start = Instant::now();
        let mut meter = meter(start);
        assert!(!meter.update(start));
        probe(&mut meter, start, 10);
        assert!(meter.update(at(start, 10)));
        let first = meter.cost();
        meter.told(Cost::from_units(first.units() * 6 / 5));
        assert!(!meter.update(at(start, 20)) && !meter.update(at(start, 60_000)), "below a quarter");
        meter.told(Cost::from_units(first.units() * 2));
        assert!(!meter.update(at(start, 61_000)), "not steady yet");
        meter.told(Cost::ZERO);
        assert!(!meter.update(at(start, 65_000)), "back again: the clock starts anew");
        meter.told(Cost::from_units(first.units() * 2));
        assert!(!meter.update(at(start, 66_000)) && !meter.update(at(start, 75_000)));
        assert!(meter.update(at(start, 76_000)));
        assert_eq!(meter.cost().units(), first.units() * 2);
    }

    #[test]
    fn lost_probes_raise_the_cost_and_those_of_a_dead_link_do_not() {
        let start = Instant::now();
        let mut meter = meter(start);
        for second in 0..32 {
            probe(&mut meter, at(start, second * 1_000), 10);
        }
        let clean = meter.measured();
        for second in 32..40 {
            meter.number(at(start, second * 1_000), true, None);
        }
        meter.expire(at(start, 60_000));
        assert!((meter.loss() - 0.2).abs() < 0.001, "{}", meter.loss());
        assert!(meter.measured() > clean);
        let before = meter.loss();
        meter.number(at(start, 61_000), true, None);
        meter.forget_under_way();
        meter.expire(at(start, 90_000));
        assert!((meter.loss() - before).abs() < f64::EPSILON);
    }

    #[test]
    fn a_round_trip_of_three_times_the_usual_is_slow_unless_it_is_short() {
        let start = Instant::now();
        for (usual, now, slow) in [(40, 160, true), (40, 110, false), (1, 20, false)] {
            let mut meter = meter(start);
            for _ in 0..100 {
                meter.round_trip_was(start, Duration::from_millis(usual));
            }
            assert!(!meter.is_slow());
            for _ in 0..60 {
                meter.round_trip_was(start, Duration::from_millis(now));
            }
            assert_eq!(meter.is_slow(), slow, "{usual} {now}");
        }
    }

    #[test]
    fn a_slow_link_costs_what_a_frame_needs_on_it_and_what_is_known_of_it_is_not_measured() {
        let start = Instant::now();
        let (rtt, frame) = (Duration::from_millis(10), Duration::from_micros(37_500));
        for known in [None, Some(8_000)] {
            let mut meter = Meter::new(start, rtt, known);
            meter.serialise = Some(Serialise::new(start));
            probe(&mut meter, start, 10);
            for second in 1..6 {
                let sent = at(start, second * 1_000);
                let number = meter.number(sent, true, Some(1_264));
                assert!(meter.answered(sent + rtt + frame, number));
            }
            let rate = known.unwrap_or(32_000);
            assert_eq!(meter.measured(), Cost::of_link(rtt, 0.0, Some(rate)));
        }
    }

    #[test]
    fn probes_that_are_never_answered_take_no_room() {
        let start = Instant::now();
        let mut meter = meter(start);
        for _ in 0..10_000 {
            meter.number(start, false, None);
        }
        assert!(meter.under_way.len() <= UNDER_WAY_MAX);
    }
}
