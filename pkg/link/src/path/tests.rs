//! Paths of every length, that lose, narrow and widen, in virtual time.

use super::*;
use byway_identity::{Entropy, SeededEntropy};
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_millis(300);
const ROUND_TRIP: Duration = Duration::from_millis(40);

/// A path, and the search at its end.
struct World {
    now: Instant,
    search: PathLength,
    /// What the path carries.
    carries: u16,
    /// Lost probes of a hundred.
    loss: u64,
    /// Whether long frames are in use.
    busy: bool,
    dice: SeededEntropy,
    probes: u32,
    answers: Vec<(Instant, u32)>,
    /// Probes of each length since the last change.
    tried: Vec<u16>,
}

impl World {
    fn new(carries: u16) -> Self {
        Self::with_ceiling(carries, 1_472)
    }

    fn with_ceiling(carries: u16, ceiling: u16) -> Self {
        let now = Instant::now();
        Self {
            now,
            search: PathLength::new(now, ceiling, true),
            carries,
            loss: 0,
            busy: true,
            dice: SeededEntropy::new(1),
            probes: 0,
            answers: Vec::new(),
            tried: Vec::new(),
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.step();
        }
    }

    fn run_seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    /// Runs until `length` is used; how long that took.
    fn until(&mut self, length: impl Fn(u16) -> bool) -> Duration {
        let start = self.now;
        while !length(self.search.length()) {
            self.step();
            assert!(self.now - start < Duration::from_secs(3_600), "{:?}", self.search);
        }
        self.now - start
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(10);
        if self.busy {
            self.search.used(self.search.length().into());
        }
        while let Some(at) = self.answers.iter().position(|(at, _)| *at <= self.now) {
            let (_, number) = self.answers.remove(at);
            self.search.answered(self.now, number);
        }
        let due = self.search.due().is_some_and(|due| due <= self.now);
        match self.search.poll(self.now) {
            Some(length) => {
                assert!(due, "{length} was due, but not announced: {:?}", self.search);
                self.probes += 1;
                self.tried.push(length);
                self.search.probed(self.now, self.probes, PATIENCE);
                if length <= self.carries && self.dice.below(100) >= self.loss {
                    self.answers.push((self.now + ROUND_TRIP, self.probes));
                }
            }
            None => assert!(self.search.due().is_none_or(|due| due > self.now), "{:?}", self.search),
        }
    }

    /// Whether the length is what the path carries, or so little less that it is not worth a probe.
    fn fits(&self) -> bool {
        let most = self.carries.min(self.search.ceiling);
        self.search.length() <= most && most - self.search.length() <= FINE
    }
}

proptest! {
    #[test]
    fn whatever_a_path_carries_is_found_with_few_probes(carries in LEAST..=1_500u16, ceiling in 1_201u16..=1_472) {
        let mut world = World::with_ceiling(carries, ceiling);
        world.busy = false;
        world.run_seconds(30);
        prop_assert!(world.fits(), "{carries}: {:?}", world.search);
        let lengths = 12;
        prop_assert!(world.probes <= lengths * PROBES_MAX as u32, "{} probes", world.probes);
        if COMMON.contains(&carries.min(ceiling)) {
            prop_assert_eq!(world.search.length(), carries.min(ceiling));
        }
    }

    #[test]
    fn a_path_that_changes_is_followed(from in LEAST..=1_500u16, to in LEAST..=1_500u16) {
        let mut world = World::new(from);
        world.run_seconds(60);
        world.carries = to;
        world.run_seconds(60);
        prop_assert!(world.search.length() <= to, "{from} to {to}: {:?}", world.search);
        world.run_seconds(600);
        prop_assert!(world.fits(), "{from} to {to}: {:?}", world.search);
    }

    #[test]
    fn loss_makes_no_length_wrong_for_long(seed: u64, carries in LEAST..=1_500u16) {
        let mut world = World::new(carries);
        world.dice = SeededEntropy::new(seed);
        world.loss = 5;
        world.run_seconds(30);
        let mut wrong = Duration::ZERO;
        for _ in 0..720 {
            world.run_seconds(5);
            wrong = if world.fits() { Duration::ZERO } else { wrong + Duration::from_secs(5) };
            prop_assert!(world.search.length() <= carries, "seed {seed}: {:?}", world.search);
            prop_assert!(wrong <= RAISE + Duration::from_secs(15), "seed {seed}: {:?}", world.search);
        }
    }

    #[test]
    fn any_order_of_calls_leaves_a_length_that_the_transport_carries(
        ceiling: u16,
        lossy: bool,
        calls in prop::collection::vec((0u8..6, 0u16..1_600, 0u64..20_000), 0..200),
    ) {
        let mut now = Instant::now();
        let mut path = PathLength::new(now, ceiling, lossy);
        let mut number = 0;
        for (call, length, wait) in calls {
            match call {
                0 => now += Duration::from_millis(wait),
                1 => path.used(length.into()),
                2 => path.doubt(now),
                3 => path.resumed(now),
                4 => drop(path.answered(now, number)),
                _ => {
                    if let Some(length) = path.poll(now) {
                        prop_assert!(length <= ceiling);
                        number += 1;
                        path.probed(now, number, PATIENCE);
                    }
                }
            }
            prop_assert!(path.length() <= ceiling && path.length() >= ceiling.min(LEAST));
            prop_assert!(path.seeks || path.length() == ceiling && path.due().is_none());
            prop_assert!(path.trial.is_some() || path.phase == Phase::Complete);
        }
    }
}

#[test]
fn a_full_path_is_found_with_one_probe_in_one_round_trip() {
    let mut world = World::new(1_500);
    assert_eq!(world.search.length(), BASE);
    assert!(world.until(|length| length == 1_472) < ROUND_TRIP * 2);
    world.run_seconds(10);
    assert_eq!(world.tried, [1_472]);
}

#[test]
fn the_least_path_of_ipv6_is_used_to_its_last_byte() {
    for (ceiling, carries) in [(1_452, 1_232), (1_472, 1_252)] {
        let mut world = World::with_ceiling(carries, ceiling);
        world.run_seconds(10);
        assert_eq!(world.search.length(), carries);
    }
}

#[test]
fn a_black_hole_is_noticed_though_nothing_looks_suspicious_and_sooner_in_doubt() {
    for (doubt, most) in [(false, CHECK), (true, DOUBT)] {
        let mut world = World::new(1_472);
        world.run_seconds(20);
        world.carries = 1_372;
        let start = world.now;
        while world.search.length() > 1_372 {
            world.step();
            if doubt {
                world.search.doubt(world.now);
            }
            assert!(world.now - start < most + PATIENCE * 4, "{:?}", world.search);
        }
        assert!(world.until(|length| length > BASE) < Duration::from_secs(8));
        world.run_seconds(8);
        assert_eq!(world.search.length(), 1_372);
    }
}

#[test]
fn doubt_about_small_frames_asks_nothing_and_that_about_long_ones_not_all_the_time() {
    let mut world = World::new(1_472);
    world.busy = false;
    world.run_seconds(5);
    let before = world.probes;
    for _ in 0..1_000 {
        world.search.used(200);
        world.search.doubt(world.now);
        world.step();
    }
    assert_eq!(world.probes, before);
    world.busy = true;
    for _ in 0..1_000 {
        world.search.doubt(world.now);
        world.step();
    }
    assert!((8..=11).contains(&(world.probes - before)), "{}", world.probes - before);
}

#[test]
fn a_link_at_rest_is_left_in_peace() {
    let mut world = World::new(1_472);
    world.busy = false;
    world.run_seconds(10);
    assert_eq!((world.probes, world.search.due()), (1, None));
    world.run_seconds(3_600);
    assert_eq!(world.probes, 1);
}

#[test]
fn a_path_that_widens_is_noticed_when_the_raise_timer_has_run() {
    let mut world = World::new(1_300);
    world.run_seconds(30);
    assert!(world.fits());
    world.carries = 1_472;
    let took = world.until(|length| length == 1_472);
    assert!(took > RAISE - Duration::from_secs(40) && took < RAISE + Duration::from_secs(1), "{took:?}");
}

#[test]
fn where_not_even_the_base_passes_small_frames_do_and_a_way_back_is_sought_every_minute() {
    let mut world = World::new(1_000);
    world.until(|length| length == LEAST);
    assert!(world.until(|length| 1_000 - length <= FINE) < Duration::from_secs(10));
    world.run_seconds(10);
    world.carries = 1_472;
    let took = world.until(|length| length == 1_472);
    assert!(took < RAISE_ERROR + Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_path_of_the_base_alone_that_narrows_is_no_grave() {
    let mut world = World::new(BASE);
    world.run_seconds(20);
    assert_eq!(world.search.length(), BASE);
    world.carries = 700;
    world.run_seconds(30);
    assert!(world.fits(), "{:?}", world.search);
}

#[test]
fn after_a_silence_the_length_is_confirmed_and_an_unfinished_search_begins_anew() {
    let mut world = World::new(1_472);
    world.busy = false;
    world.run_seconds(5);
    world.search.resumed(world.now);
    world.run_seconds(1);
    assert_eq!(world.tried, [1_472, 1_472]);

    // All probes were lost while the link was cut: that says nothing about lengths.
    let mut world = World::new(0);
    world.until(|length| length == LEAST);
    world.carries = 1_472;
    world.search.resumed(world.now);
    assert!(world.until(|length| length == 1_472) < ROUND_TRIP * 2);
}

#[test]
fn streams_and_short_transports_need_no_search() {
    for (ceiling, lossy) in [(16_384, false), (u16::MAX, false), (1_000, true), (BASE, true)] {
        let now = Instant::now();
        let mut path = PathLength::new(now, ceiling, lossy);
        path.used(9_000);
        path.doubt(now + RAISE);
        path.resumed(now + RAISE);
        assert_eq!((path.length(), path.due(), path.poll(now + RAISE)), (ceiling, None, None));
    }
}

#[test]
fn a_late_answer_counts_and_one_to_another_question_does_not() {
    let start = Instant::now();
    let mut path = PathLength::new(start, 1_452, true);
    for number in 7..9 {
        let now = start + PATIENCE * (number - 7);
        assert_eq!(path.poll(now), Some(1_452));
        path.probed(now, number, PATIENCE);
    }
    assert!(!path.answered(start, 6) && !path.answered(start, 0));
    assert_eq!(path.length(), BASE);
    assert!(path.answered(start + PATIENCE, 7), "the first of two");
    assert_eq!(path.length(), 1_452);
    assert!(!path.answered(start + PATIENCE, 8));
}
