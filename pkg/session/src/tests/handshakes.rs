//! Handshakes, as both uses see them.

use std::time::Duration;

use super::world::{LATENCY, World, pattern};
use crate::{Event, Use};

const BOTH: [Use; 2] = [Use::Link, Use::EndToEnd];

#[test]
fn a_session_comes_up_on_both_sides_and_carries_payloads_both_ways() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        let (a, b) = world.link_up();
        for length in [0, 1, 64, 1368, 1369, 5000, 65_535] {
            world.send(0, a, &pattern(length, 1));
            world.send(1, b, &pattern(length, 2));
            world.run_for(Duration::from_secs(1));
            assert_eq!(
                world.received(1).last().expect("it arrives"),
                &pattern(length, 1),
                "{usage:?} {length}"
            );
            assert_eq!(
                world.received(0).last().expect("it arrives"),
                &pattern(length, 2),
                "{usage:?} {length}"
            );
        }
        assert_eq!((world.ups(0), world.ups(1), world.downs(0), world.downs(1)), (1, 1, 0, 0));
        let initiator = |node: usize| {
            world.events[node].iter().find_map(|event| match event {
                Event::Up { initiator, .. } => Some(*initiator),
                _ => None,
            })
        };
        assert_eq!((initiator(0), initiator(1)), (Some(true), Some(false)));
    }
}

#[test]
fn a_first_session_takes_two_round_trips_and_the_next_one() {
    for (usage, trips) in [(Use::Link, 2), (Use::EndToEnd, 2)] {
        let mut world = World::pair(usage, 1);
        world.connect(0, 1);
        world.run_until(Duration::from_secs(5), |world| world.session(0, 1).is_some());
        assert_eq!(world.now - world.start, trips * 2 * LATENCY, "{usage:?}");
    }
}
