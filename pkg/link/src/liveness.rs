//! Whether the other end still answers.
//!
//! ```text
//!          nothing heard for 5 s + 1 s, or traffic unanswered for max(300 ms, 3 RTT)
//!   Alive ──────────────────────────────────────────────► Suspect: up to 4 probes
//!     ▲  ▲            heard                                  │ none answered
//!     │  └───────────────────────────────────────────────────┤
//!     └───────────────── an answer ◄──────────────────── Silent: a probe each 0.5 s … 1 s
//! ```
//!
//! Any authentic frame is a sign of life, but only the answer to a probe of one's own ends silence: where a path is cut in
//! one direction, both ends come to see it, since the end that hears nothing says so in its probes.

use std::time::{Duration, Instant};

/// What a look at the clock brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send a probe.
    Probe,
    /// The other end is gone; do not use the link.
    Dead,
}

/// How often a link is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// While it is idle.
    pub(crate) keepalive: Duration,
    /// After how much silence, and how often from then on.
    pub(crate) silent: (Duration, Duration),
}

/// Watches one link.
#[derive(Debug)]
pub(crate) struct Liveness {
    pace: Pace,
    state: State,
    /// When an authentic frame came last.
    heard: Instant,
    /// The first frame sent since.
    waiting: Option<Instant>,
    next_probe: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Alive,
    Suspect { sent: u32, next: Instant, fast: bool, answer_only: bool },
    Silent { since: Instant, next: Instant },
}

/// Probes without answer after which a link is dead.
const PROBES: u32 = 4;
/// Least time that traffic may stay unanswered.
const PATIENCE: Duration = Duration::from_millis(300);
/// Least time between the probes of a suspicion under traffic.
const STEP: Duration = Duration::from_millis(200);
/// The same without traffic, where there is no hurry and a wrong verdict would be worse.
const IDLE_STEP: Duration = Duration::from_secs(1);
/// Pause between probes of a silent link at first.
const SILENT_STEP: Duration = Duration::from_millis(500);
/// No round trip is believed to take longer.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);

impl Liveness {
    /// A link that was just heard of.
    pub(crate) fn new(now: Instant, pace: Pace) -> Self {
        Self { pace, state: State::Alive, heard: now, waiting: None, next_probe: now }
    }

    /// Probes at another pace from now on.
    pub(crate) fn set_pace(&mut self, now: Instant, pace: Pace) {
        if pace == self.pace {
            return;
        }
        self.pace = pace;
        self.next_probe = self.next_probe.min(now + pace.keepalive);
        if let State::Silent { since, next } = &mut self.state {
            *next = (*next).min(now + pace.silent_step(now.saturating_duration_since(*since)));
        }
    }

    /// How long an answer may take before its absence means something.
    pub(crate) fn patience(round_trip: Duration) -> Duration {
        (round_trip.min(ROUND_TRIP_MAX) * 3).max(PATIENCE)
    }

    /// Whether the link must not be used.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.state, State::Silent { .. })
    }

    /// Whether an answer is overdue.
    pub(crate) fn is_suspect(&self) -> bool {
        matches!(self.state, State::Suspect { .. })
    }

    /// How long it has been silent.
    pub(crate) fn silent_for(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Silent { since, .. } => Some(now.saturating_duration_since(since)),
            State::Alive | State::Suspect { .. } => None,
        }
    }

    /// An authentic frame came.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.waiting = None;
        if let State::Suspect { answer_only: false, .. } = self.state {
            self.state = State::Alive;
        }
    }

    /// An answer came; true if that ended silence.
    pub(crate) fn answered(&mut self, now: Instant) -> bool {
        let was_silent = self.is_silent();
        self.state = State::Alive;
        self.heard(now);
        if was_silent {
            self.next_probe = now;
        }
        was_silent
    }

    /// A session with the other end is new: whatever was suspected of the old one is void.
    pub(crate) fn renewed(&mut self, now: Instant) {
        self.answered(now);
    }

    /// The other end says that it hears nothing from here.
    pub(crate) fn other_end_is_deaf(&mut self, now: Instant) {
        if matches!(self.state, State::Alive | State::Suspect { answer_only: false, .. }) {
            self.state = State::Suspect { sent: 0, next: now, fast: true, answer_only: true };
        }
    }

    /// A frame was sent that should bring something back.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.waiting.get_or_insert(now);
    }

    /// Others have used the link after `since`: when they sent and heard last, if ever.
    pub(crate) fn carried(&mut self, since: Instant, sent: Option<Instant>, heard: Option<Instant>) {
        if let Some(heard) = heard.filter(|heard| *heard > self.heard) {
            self.heard(heard);
        }
        if let Some(sent) = sent.filter(|sent| *sent > self.heard) {
            // When the first of them left is not known: the earliest that it is likely to have been counts.
            let earliest = sent.checked_sub(STEP).unwrap_or(sent);
            self.sent(since.max(earliest).max(self.heard));
        }
    }

    /// What is due at `now`, at most one thing; `round_trip` is the smoothed one.
    pub(crate) fn poll(&mut self, now: Instant, round_trip: Duration) -> Option<Verdict> {
        let round_trip = round_trip.min(ROUND_TRIP_MAX);
        match self.state {
            State::Alive => {
                let idle = self.heard + self.pace.keepalive + IDLE_STEP.max(Self::patience(round_trip));
                let unanswered = self.waiting.map(|since| since + Self::patience(round_trip));
                if unanswered.is_some_and(|due| due <= now) || idle <= now {
                    let fast = unanswered.is_some_and(|due| due <= now);
                    let next = now + Self::step(fast, round_trip);
                    self.state = State::Suspect { sent: 1, next, fast, answer_only: false };
                    return Some(Verdict::Probe);
                }
                if self.next_probe <= now {
                    self.next_probe = now + self.pace.keepalive;
                    return Some(Verdict::Probe);
                }
                None
            }
            State::Suspect { sent, next, fast, answer_only } => {
                // Traffic that begins during a slow suspicion hurries it.
                if !fast && self.waiting.is_some_and(|since| since + Self::patience(round_trip) <= now) {
                    let next = next.min(now + Self::step(true, round_trip));
                    self.state = State::Suspect { sent, next, fast: true, answer_only };
                    return self.poll(now, round_trip);
                }
                if now < next {
                    return None;
                }
                if sent >= PROBES {
                    self.state = State::Silent { since: now, next: now + SILENT_STEP };
                    self.waiting = None;
                    return Some(Verdict::Dead);
                }
                let next = now + Self::step(fast, round_trip);
                self.state = State::Suspect { sent: sent + 1, next, fast, answer_only };
                Some(Verdict::Probe)
            }
            State::Silent { since, next } => {
                if now < next {
                    return None;
                }
                let step = self.pace.silent_step(now.saturating_duration_since(since));
                self.state = State::Silent { since, next: now + step };
                Some(Verdict::Probe)
            }
        }
    }

    /// When something is due next.
    pub(crate) fn due(&self, round_trip: Duration) -> Instant {
        let patience = Self::patience(round_trip);
        let unanswered = self.waiting.map(|since| since + patience);
        match self.state {
            State::Alive => {
                let idle = self.heard + self.pace.keepalive + IDLE_STEP.max(patience);
                unanswered.map_or(idle, |due| due.min(idle)).min(self.next_probe)
            }
            State::Suspect { next, fast: false, .. } => unanswered.map_or(next, |due| due.min(next)),
            State::Suspect { next, .. } | State::Silent { next, .. } => next,
        }
    }

    fn step(fast: bool, round_trip: Duration) -> Duration {
        if fast { STEP.max(round_trip) } else { IDLE_STEP.max(round_trip * 2) }
    }
}

impl Pace {
    /// Pause between probes of a link that has been silent for `silence`.
    fn silent_step(&self, silence: Duration) -> Duration {
        let (later, step) = self.silent;
        if silence < later { SILENT_STEP } else { step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(20);
    const PACE: Pace = Pace {
        keepalive: Duration::from_secs(5),
        silent: (Duration::from_secs(120), Duration::from_secs(1)),
    };

    /// Runs until the verdict `Dead`; returns when it came and how many probes went before.
    fn until_dead(
        liveness: &mut Liveness,
        mut traffic: impl FnMut(&mut Liveness, Instant),
        from: Instant,
    ) -> (Duration, usize) {
        let mut probes = 0;
        for tick in 0..30_000 {
            let now = from + Duration::from_millis(tick);
            traffic(liveness, now);
            match liveness.poll(now, RTT) {
                Some(Verdict::Dead) => return (now - from, probes),
                Some(Verdict::Probe) => probes += 1,
                None => {}
            }
        }
        panic!("never dead");
    }

    #[test]
    fn a_dead_end_is_noticed_within_1500_ms_under_traffic() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, PACE);
        let (after, probes) = until_dead(&mut liveness, Liveness::sent, start);
        assert!(after < Duration::from_millis(1_500), "{after:?}");
        assert!(probes >= 4, "{probes}");
        assert!(liveness.is_silent());
    }

    #[test]
    fn a_dead_end_is_noticed_within_15_s_when_idle() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, PACE);
        let (after, _) = until_dead(&mut liveness, |_, _| {}, start);
        assert!(after > Duration::from_secs(8) && after < Duration::from_secs(15), "{after:?}");
    }

    #[test]
    fn one_way_traffic_with_answered_probes_is_no_death() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, PACE);
        let mut answer = None;
        for tick in 0..20_000 {
            let now = start + Duration::from_millis(tick);
            liveness.sent(now);
            if answer.is_some_and(|at| at <= now) {
                answer = None;
                liveness.heard(now);
                liveness.answered(now);
            }
            match liveness.poll(now, RTT) {
                Some(Verdict::Probe) => answer = Some(now + RTT),
                Some(Verdict::Dead) => panic!("dead at {:?}", now - start),
                None => {}
            }
        }
    }

    #[test]
    fn silence_ends_with_an_answer_and_with_nothing_less() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, PACE);
        let (after, _) = until_dead(&mut liveness, Liveness::sent, start);
        let later = start + after + Duration::from_secs(1);
        liveness.heard(later);
        assert!(liveness.is_silent());
        assert_eq!(liveness.poll(later, RTT), Some(Verdict::Probe));
        assert!(liveness.answered(later));
        assert!(!liveness.is_silent());
    }

    #[test]
    fn an_end_that_is_told_of_its_silence_dies_though_it_hears() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, PACE);
        let (after, _) = until_dead(
            &mut liveness,
            |liveness, now| {
                liveness.heard(now);
                liveness.other_end_is_deaf(now);
            },
            start,
        );
        assert!(after < Duration::from_millis(1_500), "{after:?}");
    }

    #[test]
    fn a_link_that_stands_by_is_probed_less_often_alive_or_silent_until_it_is_needed() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let spare = Pace { keepalive: 15 * second, silent: (10 * second, 5 * second) };
        let probes = |liveness: &mut Liveness, from: u64, to: u64| {
            let times = (from..to).map(|tick| start + Duration::from_millis(tick * 100));
            times
                .filter(|now| {
                    let probe = liveness.poll(*now, RTT) == Some(Verdict::Probe);
                    if probe && !liveness.is_silent() {
                        liveness.answered(*now);
                    }
                    probe
                })
                .count()
        };
        let mut liveness = Liveness::new(start, PACE);
        liveness.set_pace(start, spare);
        assert_eq!(probes(&mut liveness, 0, 600), 4);
        liveness.set_pace(start + 60 * second, PACE);
        assert!((11..=13).contains(&probes(&mut liveness, 600, 1_200)));

        let mut liveness = Liveness::new(start, PACE);
        let (after, _) = until_dead(&mut liveness, Liveness::sent, start);
        liveness.set_pace(start + after, spare);
        let dead = after.as_millis() as u64 / 100;
        assert!(probes(&mut liveness, dead, dead + 100) >= 18, "at first as often as any");
        assert!(probes(&mut liveness, dead + 100, dead + 600) <= 11);
        liveness.set_pace(start + after + 60 * second, PACE);
        assert!(probes(&mut liveness, dead + 600, dead + 610) >= 1, "it is needed now");
    }

    #[test]
    fn a_late_look_at_the_clock_kills_nothing_at_once() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, PACE);
        liveness.sent(start);
        let late = start + Duration::from_secs(3_600);
        for _ in 0..10 {
            assert_ne!(liveness.poll(late, RTT), Some(Verdict::Dead));
        }
    }
}
