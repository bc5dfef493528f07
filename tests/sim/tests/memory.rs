//! What a small node needs: two trees and 64 neighbours in a network of a thousand.

use std::collections::BTreeSet;
use std::time::Duration;

use byway_grove::{Config, Grove, Registry};
use byway_network::{Class, Plane};
use byway_sim::{Dice, Topology, Wire, World};
use byway_simlab::memory::{Counting, freed_by};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NODES: usize = 1_000;
const PEERS: usize = 64;
const SEED: u64 = 1;

/// A random network, in which node 0 has 64 neighbours from anywhere.
fn topology() -> Topology {
    let mut dice = Dice::new(SEED);
    let mut topology = Topology::random(NODES, NODES / 2, &mut dice);
    let mut peers: BTreeSet<usize> =
        topology.links.iter().filter(|(a, _)| *a == 0).map(|(_, b)| *b).collect();
    while peers.len() < PEERS {
        let peer = 1 + dice.below(NODES - 1);
        if peers.insert(peer) {
            topology.links.push((0, peer));
        }
    }
    topology
}

#[test]
fn two_trees_and_64_peers_need_less_than_256_kib() {
    let shared = Registry::new();
    let mut made = 0;
    let factory = move |now, setup| {
        // What is counted shares nothing with other nodes.
        let registry = if made == 0 { Registry::new() } else { shared.clone() };
        made += 1;
        Box::new(Grove::with_config(now, setup, Config { trees: 2, registry, ..Config::default() }))
    };
    let mut world = World::of(SEED, factory, &topology(), Wire::clean(Class::UDP));
    world.run_for(Duration::from_secs(90));
    // It talks with some, and carries for others.
    for other in 1..20 {
        world.send(0, other * 50, Plane::Any).expect("there is room");
        world.send(other * 50, other * 49, Plane::Any).expect("there is room");
        world.run_for(Duration::from_millis(200));
    }
    assert_eq!(world.router(0).stats().hops, PEERS);
    let certs = world.router(0).stats().certs;
    let bytes = world.take(0).map_or(0, freed_by);
    println!("{bytes} bytes, {certs} certificates");
    assert!(bytes > 10_000, "nobody has counted: {bytes} bytes");
    assert!(bytes <= 256 << 10, "seed {SEED}: {bytes} bytes");
}
