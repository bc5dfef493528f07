//! What worlds themselves promise: loss in bursts, churn, flights with their way, counts by kind, and routers that are replaced.

use std::time::{Duration, Instant};

use byway_beacon::Beacon;
use byway_network::{Class, Network, Plane, Setup};
use byway_sim::{Churn, Dice, Topology, Wire, World};

fn beacon(now: Instant, setup: Setup) -> Box<Beacon> {
    Box::new(Beacon::new(now, setup))
}

const UDP: Wire = Wire::clean(Class::UDP);

#[test]
fn losses_in_bursts_are_as_many_as_was_asked_for_and_stand_together() {
    for burst in [1.0, 8.0] {
        let wire = Wire { loss: 0.2, burst, ..UDP };
        let mut world = World::of(1, beacon, &Topology::chain(2), UDP);
        world.run_for(Duration::from_secs(2));
        world.alter(0, 1, wire);
        let mut arrived = Vec::new();
        for _ in 0..20_000 {
            let number = world.send(0, 1, Plane::Any).expect("neighbours always reach each other");
            world.run_for(Duration::from_millis(6));
            arrived.push(world.flight(number).arrived());
        }
        let lost = arrived.iter().filter(|arrived| !**arrived).count() as f64;
        let runs = arrived.chunk_by(|a, b| a == b).filter(|run| !run[0]).count() as f64;
        assert!((0.16..0.24).contains(&(lost / 20_000.0)), "burst {burst}: {lost} lost");
        let mean = lost / runs;
        let wanted = if burst > 1.0 { 6.0..10.0 } else { 1.1..1.4 };
        assert!(wanted.contains(&mean), "burst {burst}: {mean} lost in a row");
    }
}

#[test]
fn churn_keeps_as_many_away_as_sessions_and_pauses_say() {
    let mut world = World::of(2, beacon, &Topology::random(60, 60, &mut Dice::new(2)), UDP);
    let mut churn = Churn::new(&mut world, Duration::from_secs(30), Duration::from_secs(10));
    let (mut away, mut changes) = (0, 0);
    for _ in 0..200 {
        changes += churn.run_for(&mut world, Duration::from_secs(1));
        away += (0..60).filter(|node| !world.is_alive(*node)).count();
    }
    // Of each 40 s a node is away for 10, and changes twice.
    let share = away as f64 / (60.0 * 200.0);
    assert!((0.2..0.3).contains(&share), "{share} are away");
    assert!((480..720).contains(&changes), "{changes} changes");
    world.verdict().expect("no rule is broken");
}

#[test]
fn a_flight_tells_its_way_and_frames_are_counted_by_kind() {
    let mut world = World::of(3, beacon, &Topology::chain(4), UDP);
    world.run_for(Duration::from_secs(3));
    let data = byway_sim::Tally::default();
    assert_eq!(world.sent_by_all(2), data, "beacon's second kind is data");
    let number = world.send(0, 3, Plane::Any).expect("there is a way");
    world.run_for(Duration::from_secs(1));
    let flight = world.flight(number);
    assert_eq!(flight.way().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(flight.travelled(), UDP.latency * 3);
    assert_eq!(flight.took(), Some(UDP.latency * 3));
    assert_eq!(world.sent_by_all(2).frames, 3);
    assert!(world.sent(1, 1).bytes > 0 && world.sent(1, 1).bytes < world.bytes_out(1));
}

#[test]
fn a_router_that_was_replaced_is_in_use_until_the_node_starts_again() {
    let factory = |now, setup| Box::new(Beacon::new(now, setup)) as Box<dyn Network>;
    let mut world = World::of(4, factory, &Topology::chain(2), UDP);
    world.run_for(Duration::from_secs(2));
    let stranger = world.add();
    let mut other = world.take(stranger);
    // A router that knows nobody in the place of one that has a neighbour.
    world.replace(0, |old| {
        let new = other.take().expect("the stranger was alive");
        drop(old);
        new
    });
    assert!(world.router(0).routes(9).is_empty());
    world.kill(0);
    world.restart(0);
    world.run_for(Duration::from_secs(8));
    assert!(!world.router(0).routes(9).is_empty());
}

#[test]
fn a_world_of_two_thousand_nodes_is_no_trouble() {
    let begun = Instant::now();
    let topology = Topology::tree(2_000, &mut Dice::new(5));
    let mut world = World::of(5, beacon, &topology, UDP);
    world.run_for(Duration::from_millis(20));
    assert!(world.happened() > 4_000, "each link has carried something both ways");
    for node in 0..1_000 {
        world.kill(node);
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "it took {:?}", begun.elapsed());
}
