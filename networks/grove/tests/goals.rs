//! What only `grove` promises: ways that probes have shown, no loops, little for the idle, nothing for the idle leaf.

use std::time::{Duration, Instant};

use byway_grove::{Config, Grove, Registry};
use byway_network::{Class, Constraint, Family, Network, Plane, Setup};
use byway_sim::{Dice, Topology, Wire, World};

fn grove(now: Instant, setup: Setup) -> Box<dyn Network> {
    Box::new(Grove::new(now, setup))
}

/// All nodes of these worlds check each certificate once together.
fn shared(now: Instant, setup: Setup) -> Box<dyn Network> {
    static REGISTRY: std::sync::OnceLock<Registry> = std::sync::OnceLock::new();
    let registry = REGISTRY.get_or_init(Registry::new).clone();
    Box::new(Grove::with_config(now, setup, Config { registry, ..Config::default() }))
}

/// A chain 0 – 1 – 3 over UDP and a detour 0 – 2 – 3 over Tor, dearer.
fn diamond() -> World {
    let mut world = World::new(1, grove);
    for _ in 0..4 {
        world.add();
    }
    let tor = Wire { latency: Duration::from_millis(40), ..Wire::clean(Class::new(Family::Tor, 0)) };
    for (a, b, wire) in
        [(0, 1, Wire::clean(Class::UDP)), (1, 3, Wire::clean(Class::UDP)), (0, 2, tor), (2, 3, tor)]
    {
        world.connect(a, b, wire);
    }
    world.run_for(Duration::from_secs(3));
    world
}

#[test]
fn a_constraint_is_granted_once_probes_have_shown_a_way() {
    let mut world = diamond();
    let any = Constraint::in_plane(Plane::Any);
    let demands = [
        Constraint { at_least: vec![(Family::Tor, 2)], ..any.clone() },
        Constraint { avoid: vec![world.addr(1)], ..any.clone() },
    ];
    for by in &demands {
        assert!(world.send_by(0, 3, by, 40).is_err(), "nothing is known yet");
    }
    for _ in 0..4 {
        world.send(0, 3, Plane::Any).expect("there is a way");
        world.run_for(Duration::from_millis(500));
    }
    world.run_for(Duration::from_secs(2));
    for by in &demands {
        world.record();
        let number = world.send_by(0, 3, by, 40).expect("probes have shown a way");
        world.run_for(Duration::from_secs(1));
        assert!(world.flight(number).arrived(), "{by:?}");
        let families: Vec<Family> = world.take_recorded(true).iter().map(|frame| frame.family).collect();
        assert_eq!(families, [Family::Tor; 2], "{by:?}");
    }
    world.verdict().expect("no rule is broken");
}

#[test]
fn no_payload_comes_to_a_node_twice_on_random_graphs() {
    for seed in 0..3 {
        let topology = Topology::random(60, 50, &mut Dice::new(seed));
        let mut world = World::of(seed, shared, &topology, Wire::clean(Class::UDP));
        world.run_for(Duration::from_secs(5));
        let mut sent = Vec::new();
        for from in 0..60 {
            let to = (from * 7 + 13) % 60;
            if from != to {
                sent.push(world.send(from, to, Plane::Any).expect("there is a way"));
            }
        }
        world.run_for(Duration::from_secs(2));
        for number in sent {
            let flight = world.flight(number);
            assert!(flight.arrived(), "seed {seed}: nothing from {} to {:?}", flight.from(), flight.to());
            assert_eq!(flight.most_visits(), 1, "seed {seed}");
        }
        world.verdict().expect("no rule is broken");
    }
}

#[test]
fn an_idle_node_says_little() {
    let topology = Topology::random(60, 50, &mut Dice::new(9));
    let mut world = World::of(9, shared, &topology, Wire::clean(Class::UDP));
    world.run_for(Duration::from_secs(120));
    let before: u64 = (0..60).map(|node| world.bytes_out(node)).sum();
    world.run_for(Duration::from_secs(60));
    let bytes = (0..60).map(|node| world.bytes_out(node)).sum::<u64>() - before;
    assert!(bytes / 60 / 60 <= 100, "{} B/s for each node", bytes / 60 / 60);
}

#[test]
fn an_idle_node_sleeps() {
    let topology = Topology::random(60, 50, &mut Dice::new(9));
    let mut world = World::of(9, shared, &topology, Wire::clean(Class::UDP));
    world.run_for(Duration::from_secs(30));
    let before = world.happened();
    world.run_for(Duration::from_secs(120));
    let events = (world.happened() - before) / 60 / 120;
    assert!(events <= 20, "{events} events a second for each node");
}
