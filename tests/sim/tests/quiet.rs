//! What thirty nodes say when nobody has anything to say: after much traffic, and while nodes come and go.

use std::time::Duration;

use byway_grove::{Config, Grove, Registry};
use byway_network::Plane;
use byway_sim::{Dice, Kind, Terrain, World};
use byway_simlab::frames::name;

const NODES: usize = 30;
const SEED: u64 = 1;
/// Frames that look for better ways of sessions: PROBE to ECHO.
const PROBING: std::ops::RangeInclusive<u8> = 10..=13;
/// Frames that keep trees, summaries and views as they are: HELLO to VIEW.
const KEEPING: std::ops::RangeInclusive<u8> = 1..=5;

fn world() -> World<Grove> {
    let shared = Registry::new();
    let factory = move |now, setup| {
        Box::new(Grove::with_config(now, setup, Config { registry: shared.clone(), ..Config::default() }))
    };
    let terrain = Terrain::new(Kind::Rgg, NODES, &mut Dice::new(SEED));
    let mut world = World::on(SEED, factory, &terrain);
    world.run_for(Duration::from_secs(10));
    world
}

/// Bytes of each kind of frame, by all.
fn sent(world: &World<Grove>) -> [u64; 16] {
    std::array::from_fn(|kind| world.sent_by_all(kind as u8).bytes)
}

/// Bytes per second and node of these kinds, and all of them in words.
fn rate(
    before: &[u64; 16],
    after: &[u64; 16],
    node_seconds: f64,
) -> impl Fn(std::ops::RangeInclusive<u8>) -> f64 + use<> {
    let each: Vec<f64> =
        after.iter().zip(before).map(|(after, before)| (after - before) as f64 / node_seconds).collect();
    for (kind, bytes) in each.iter().enumerate().filter(|(_, bytes)| **bytes > 0.0) {
        println!("{:>7} {bytes:.1} B/s", name(kind as u8));
    }
    move |kinds| kinds.map(|kind| each[usize::from(kind)]).sum()
}

/// Every node sends something to every other one.
fn all_send(world: &mut World<Grove>, over: Duration) {
    for from in 0..NODES {
        for to in (0..NODES).filter(|to| *to != from) {
            if world.is_alive(from) && world.is_alive(to) {
                let _ = world.send(from, to, Plane::Any);
            }
            world.run_for(over / (NODES * NODES) as u32);
        }
    }
}

#[test]
fn when_all_have_spoken_with_all_and_are_silent_nobody_looks_for_ways() {
    let mut world = world();
    for _ in 0..6 {
        all_send(&mut world, Duration::from_secs(12));
    }
    world.run_for(Duration::from_secs(4));
    let (before, seconds) = (sent(&world), 60);
    world.run_for(Duration::from_secs(seconds));
    let rate = rate(&before, &sent(&world), (NODES as u64 * seconds) as f64);
    assert!(rate(PROBING) < 5.0, "seed {SEED}: {:.1} B/s of probes and echoes", rate(PROBING));
    assert!(rate(0..=15) < 100.0, "seed {SEED}: {:.1} B/s", rate(0..=15));
    assert!(rate(KEEPING) > 5.0, "nobody has counted");
}

#[test]
fn one_that_comes_or_goes_every_five_seconds_costs_each_node_less_than_800_bytes_a_second() {
    let mut world = world();
    let mut dice = Dice::new(SEED);
    let (mut before, mut node_seconds) = (sent(&world), 0.0);
    for turn in 0..140 {
        // A fifth stays; of the others a quarter is away on average.
        let coming: Vec<usize> = (NODES / 5..NODES).filter(|node| !world.is_alive(*node)).collect();
        let here: Vec<usize> = (NODES / 5..NODES).filter(|node| world.is_alive(*node)).collect();
        let away = coming.len() as f64 / (NODES - NODES / 5) as f64;
        let comes = !coming.is_empty() && (away > 0.25 || dice.below(3) == 0);
        if comes {
            world.restart(coming[dice.below(coming.len())]);
        } else {
            world.kill(here[dice.below(here.len())]);
        }
        world.run_for(Duration::from_secs(5));
        if turn < 20 {
            (before, node_seconds) = (sent(&world), 0.0);
        }
        node_seconds += 5.0 * (0..NODES).filter(|node| world.is_alive(*node)).count() as f64;
    }
    let rate = rate(&before, &sent(&world), node_seconds);
    assert!(rate(KEEPING) < 800.0, "seed {SEED}: {:.1} B/s", rate(KEEPING));
    assert!(rate(KEEPING) > 5.0, "nobody has counted");
}
