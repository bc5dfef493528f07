//! When to dial whom: rounds of attempts with pauses between them.
//!
//! A round asks for the places of every endpoint of a peer, a little apart, and begins a handshake with each place as it
//! becomes known, so that a dead address does not hold up a live one. While an outage is young the pauses stay short: a
//! path that was cut must be in use again within two seconds of its return.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use byway_identity::Entropy;

use crate::{Endpoint, Place, TransportId};

/// Dials one peer over one kind of transport.
#[derive(Debug, Default)]
pub(crate) struct Dialler {
    pub(crate) state: State,
    failures: u32,
    /// Since when a link has been missed.
    since: Option<Instant>,
    /// The place of the last good link: tried first, without a resolver.
    pub(crate) last_good: Option<(Place, Option<[u8; 32]>)>,
    /// Endpoints whose places are being looked up.
    pub(crate) looking_up: Vec<Endpoint>,
    /// Least pause, for what soon dialling would not help.
    floor: Duration,
    /// How long a handshake is waited for, where it takes longer than [`PATIENCE`].
    pub(crate) patience: Duration,
}

#[derive(Debug, Default)]
pub(crate) enum State {
    /// There is a link, or nothing to dial.
    #[default]
    Off,
    /// Until the next round.
    Wait { until: Instant },
    /// Attempts are being made.
    Round(Round),
}

#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) ends: Instant,
    pub(crate) steps: VecDeque<(Instant, Step)>,
    /// Where handshakes were begun.
    pub(crate) places: Vec<Place>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Ask a transport for the places of an endpoint.
    Dial { transport: TransportId, endpoint: Endpoint },
    /// Begin a handshake.
    Connect { place: Place, token: Option<[u8; 32]> },
}

/// Between attempts of one round.
const STAGGER: Duration = Duration::from_millis(250);
/// Between the first rounds over several kinds of transports.
const TURN: Duration = Duration::from_millis(150);
/// How long a handshake is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// A second attempt in short datagrams, for paths that swallow long ones.
const SHORT_AFTER: Duration = Duration::from_millis(700);
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_YOUNG_MAX: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// While another link to the peer carries its traffic: at first, and after a while.
const PAUSE_SPARE: Duration = Duration::from_secs(2);
const PAUSE_SPARE_MAX: Duration = Duration::from_secs(30);
const YOUNG: Duration = Duration::from_secs(300);
/// Attempts of one round.
const STEPS_MAX: usize = 64;
/// Places of one endpoint that are tried.
const PLACES_MAX: usize = 8;

impl Dialler {
    /// Dials, in turn with others that begin at the same time: at once if `place` is 0.
    pub(crate) fn in_turn(&mut self, now: Instant, place: usize) {
        let turn = u32::try_from(place).unwrap_or(u32::MAX);
        self.since.get_or_insert(now);
        self.state = State::Wait { until: now + TURN.saturating_mul(turn) };
    }

    /// It is needed now: what waited long does so no longer.
    pub(crate) fn hurry(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        if let State::Wait { until } = &mut self.state
            && self.floor.is_zero()
        {
            *until = (*until).min(now + jitter(PAUSE, entropy));
            self.failures = 0;
            self.since = Some(now);
        }
    }

    /// There is no link any more: dials soon, unless it is dialling.
    pub(crate) fn soon(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        self.since.get_or_insert(now);
        if matches!(self.state, State::Off) {
            self.state = State::Wait { until: now + jitter(PAUSE, entropy) };
        }
    }

    /// Dials no sooner than `until`.
    pub(crate) fn not_before(&mut self, until: Instant) {
        self.state = State::Wait { until };
    }

    /// There is a link.
    pub(crate) fn succeeded(&mut self, place: Place, token: Option<[u8; 32]>) {
        let token = token.or(self.last_good.and_then(|(_, token)| token));
        *self = Self {
            last_good: Some((place, token)),
            looking_up: std::mem::take(&mut self.looking_up),
            ..Self::default()
        };
    }

    pub(crate) fn is_dialling(&self) -> bool {
        matches!(self.state, State::Round(_))
    }

    /// Begins a round over `targets`.
    pub(crate) fn begin(&mut self, now: Instant, targets: impl Iterator<Item = (TransportId, Endpoint)>) {
        let patience = self.patience.max(PATIENCE);
        let mut round = Round { ends: now + patience, steps: VecDeque::new(), places: Vec::new() };
        if let Some((place, token)) = self.last_good
            && matches!(place.remote, crate::Remote::Ip(_))
        {
            round.steps.push_back((now, Step::Connect { place, token }));
        }
        let mut at = now;
        for (transport, endpoint) in targets {
            if !self.looking_up.contains(&endpoint) {
                round.steps.push_back((at, Step::Dial { transport, endpoint }));
                at += STAGGER;
            }
        }
        round.ends = at + patience;
        self.floor = Duration::ZERO;
        self.state = State::Round(round);
    }

    /// The places of an endpoint are known; they join the round, or make one. False if they are of no use any more.
    pub(crate) fn add_places(
        &mut self,
        now: Instant,
        places: &[Place],
        token: Option<[u8; 32]>,
        short: Option<u16>,
    ) -> bool {
        if matches!(self.state, State::Off) {
            return false;
        }
        if let State::Wait { .. } = self.state {
            self.begin(now, std::iter::empty());
        }
        let patience = self.patience.max(PATIENCE);
        let State::Round(round) = &mut self.state else { return false };
        for (index, place) in (0u32..).zip(places.iter().take(PLACES_MAX)) {
            let at = now + STAGGER * index;
            let short =
                short.filter(|mtu| *mtu < place.mtu).map(|mtu| (at + SHORT_AFTER, Place { mtu, ..*place }));
            for (at, place) in std::iter::once((at, *place)).chain(short) {
                let is_step =
                    |step: &Step| matches!(step, Step::Connect { place: other, .. } if *other == place);
                let known =
                    round.places.contains(&place) || round.steps.iter().any(|(_, step)| is_step(step));
                if !known && round.steps.len() < STEPS_MAX {
                    round.steps.push_back((at, Step::Connect { place, token }));
                    round.ends = round.ends.max(at + patience);
                }
            }
        }
        true
    }

    /// The next step that is due.
    pub(crate) fn step(&mut self, now: Instant) -> Option<Step> {
        let State::Round(round) = &mut self.state else { return None };
        let at = round.steps.iter().position(|(due, _)| *due <= now)?;
        round.steps.remove(at).map(|(_, step)| step)
    }

    /// Soon dialling again will not help.
    pub(crate) fn at_least(&mut self, pause: Duration) {
        self.floor = self.floor.max(pause);
    }

    /// Gives a handshake that is nearly done until `until`, and begins no others.
    pub(crate) fn hold(&mut self, until: Instant) {
        if let State::Round(round) = &mut self.state {
            round.steps.clear();
            round.ends = round.ends.max(until);
        }
    }

    /// What the transport carries to the remote end of `place`, if that is being dialled: the attempt that succeeded may
    /// have been a short one.
    pub(crate) fn mtu_of(&self, place: Place) -> Option<u16> {
        let State::Round(round) = &self.state else { return None };
        let there = |other: &&Place| other.transport == place.transport && other.remote == place.remote;
        round.places.iter().filter(there).map(|other| other.mtu).max()
    }

    /// Whether the round has ended, for time or for lack of anything to wait for.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        match &self.state {
            State::Round(round) => {
                round.ends <= now
                    || round.steps.is_empty() && round.places.is_empty() && self.looking_up.is_empty()
            }
            State::Off | State::Wait { .. } => false,
        }
    }

    /// Ends the round without success and waits; returns where handshakes were begun. `spare`: another link to the peer is up.
    pub(crate) fn end(&mut self, now: Instant, spare: bool, entropy: &mut dyn Entropy) -> Vec<Place> {
        self.failures = self.failures.saturating_add(1);
        let is_young = self.since.is_none_or(|since| now < since + YOUNG);
        let (least, most) = match (spare, is_young) {
            (true, _) => (PAUSE_SPARE, PAUSE_SPARE_MAX),
            (false, true) => (PAUSE, PAUSE_YOUNG_MAX),
            (false, false) => (PAUSE, PAUSE_MAX),
        };
        let pause = (least * 2u32.pow((self.failures - 1).min(6))).min(most).max(self.floor);
        let wait = State::Wait { until: now + jitter(pause, entropy) };
        match std::mem::replace(&mut self.state, wait) {
            State::Round(round) => round.places,
            State::Off | State::Wait { .. } => Vec::new(),
        }
    }

    /// When something is due next.
    pub(crate) fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Off => None,
            State::Wait { until } => Some(*until),
            State::Round(round) => round.steps.iter().map(|(due, _)| *due).chain([round.ends]).min(),
        }
    }
}

/// Three quarters to five quarters of `pause`, so that many nodes that lost the same peer do not dial in step.
fn jitter(pause: Duration, entropy: &mut dyn Entropy) -> Duration {
    let milliseconds = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    pause * 3 / 4 + Duration::from_millis(entropy.below(milliseconds / 2 + 1))
}

#[cfg(test)]
mod tests {
    use byway_identity::SeededEntropy;

    use super::*;
    use crate::Remote;

    fn place(last: u8) -> Place {
        let remote = Remote::Ip(([192, 0, 2, last], 2_561).into());
        Place { transport: TransportId(0), remote, mtu: 1_472 }
    }

    /// Rounds without success from `from` on, for `span`; returns the longest pause between two rounds.
    fn longest_pause(dialler: &mut Dialler, from: Instant, span: Duration, spare: bool) -> Duration {
        let mut entropy = SeededEntropy::new(1);
        let (mut longest, mut ended, mut now) = (Duration::ZERO, from, from);
        while now < from + span {
            now = dialler.due().expect("it never stops").max(now);
            if !dialler.is_dialling() {
                longest = longest.max(now - ended);
                let endpoint = "udp://192.0.2.1:2561".parse().unwrap();
                dialler.begin(now, std::iter::once((TransportId(0), endpoint)));
                dialler.add_places(now, &[place(1)], None, None);
            }
            while let Some(step) = dialler.step(now) {
                if let (Step::Connect { place, .. }, State::Round(round)) = (step, &mut dialler.state) {
                    round.places.push(place);
                }
            }
            if dialler.is_over(now) {
                dialler.end(now, spare, &mut entropy);
                ended = now;
            }
        }
        longest
    }

    #[test]
    fn pauses_are_short_in_the_first_minutes_and_at_most_19_s_later() {
        let start = Instant::now();
        let mut dialler = Dialler::default();
        dialler.in_turn(start, 0);
        let young = longest_pause(&mut dialler, start, Duration::from_secs(290), false);
        assert!(young < Duration::from_secs(1), "{young:?}");
        let later = longest_pause(&mut dialler, start + YOUNG, Duration::from_secs(600), false);
        assert!(later > Duration::from_secs(11) && later < Duration::from_secs(19), "{later:?}");
    }

    #[test]
    fn what_stands_by_is_dialled_each_half_minute_and_at_once_when_it_is_needed() {
        let start = Instant::now();
        let mut dialler = Dialler::default();
        dialler.in_turn(start, 0);
        let longest = longest_pause(&mut dialler, start, Duration::from_secs(600), true);
        assert!(longest > Duration::from_secs(22) && longest < Duration::from_secs(38), "{longest:?}");
        let now = start + Duration::from_secs(600);
        dialler.end(now, true, &mut SeededEntropy::new(3));
        assert!(dialler.due().unwrap() > now + Duration::from_secs(20));
        dialler.hurry(now, &mut SeededEntropy::new(4));
        assert!(dialler.due().unwrap() < now + Duration::from_millis(400));
        let longest = longest_pause(&mut dialler, now, Duration::from_secs(100), false);
        assert!(longest < Duration::from_secs(1), "{longest:?}");
    }

    #[test]
    fn a_handshake_over_a_slow_transport_gets_its_time() {
        let start = Instant::now();
        let mut dialler = Dialler { patience: Duration::from_secs(12), ..Dialler::default() };
        dialler.in_turn(start, 0);
        assert!(dialler.add_places(start, &[place(1)], None, None));
        assert!(dialler.step(start).is_some());
        let State::Round(round) = &mut dialler.state else { panic!("no round") };
        round.places.push(place(1));
        assert!(!dialler.is_over(start + Duration::from_millis(11_900)));
        assert!(dialler.is_over(start + Duration::from_secs(12)));
    }

    #[test]
    fn success_resets_the_pauses() {
        let start = Instant::now();
        let mut dialler = Dialler::default();
        dialler.in_turn(start, 0);
        longest_pause(&mut dialler, start, Duration::from_secs(900), false);
        dialler.succeeded(place(1), None);
        assert_eq!(dialler.due(), None);
        dialler.soon(start + Duration::from_secs(1_000), &mut SeededEntropy::new(2));
        let due = dialler.due().unwrap();
        assert!(due < start + Duration::from_millis(1_000_400));
    }

    #[test]
    fn every_place_gets_its_turn_and_a_short_attempt() {
        let start = Instant::now();
        let mut dialler = Dialler::default();
        dialler.in_turn(start, 0);
        dialler.begin(start, std::iter::empty());
        assert!(dialler.add_places(start, &[place(1), place(2), place(1)], None, Some(1_200)));
        let mut seen = Vec::new();
        for tick in 0..300 {
            while let Some(Step::Connect { place, .. }) =
                dialler.step(start + Duration::from_millis(tick * 10))
            {
                seen.push((tick * 10, place));
            }
        }
        let short = |last| Place { mtu: 1_200, ..place(last) };
        assert_eq!(seen, [(0, place(1)), (250, place(2)), (700, short(1)), (950, short(2))]);
    }

    #[test]
    fn a_round_is_bounded_however_many_places_are_named() {
        let start = Instant::now();
        let mut dialler = Dialler::default();
        dialler.in_turn(start, 0);
        dialler.begin(start, std::iter::empty());
        for chunk in 0..100u8 {
            dialler.add_places(start, &[place(chunk), place(chunk + 100)], None, None);
        }
        let State::Round(round) = &dialler.state else { panic!("no round") };
        assert!(round.steps.len() <= STEPS_MAX + 1);
    }
}
