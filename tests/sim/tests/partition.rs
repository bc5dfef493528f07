//! Networks that fall apart and come together again.

#[expect(dead_code, reason = "its adversaries are for other tests")]
mod field;

use std::time::{Duration, Instant};

use byway_beacon::Beacon;
use byway_network::{Class, Network, Plane, Setup};
use byway_sim::{Dice, Kind, Terrain, Topology, Wire, World, parts};

/// All of `pairs` within `most`, sending anew every half second; those that nothing came through between.
fn unreached(world: &mut World, pairs: &[(usize, usize)], most: Duration) -> Vec<(usize, usize)> {
    let end = world.elapsed() + most;
    let mut open: Vec<((usize, usize), Vec<u64>)> = pairs.iter().map(|pair| (*pair, Vec::new())).collect();
    while world.elapsed() < end && !open.is_empty() {
        for ((from, to), sent) in &mut open {
            sent.extend(world.send(*from, *to, Plane::Any).ok());
        }
        world.run_for(Duration::from_millis(500));
        open.retain(|(_, sent)| !sent.iter().any(|number| world.flight(*number).arrived()));
    }
    open.into_iter().map(|(pair, _)| pair).collect()
}

/// Two networks of 500 nodes with one link in between; which link that is.
fn two_halves(kind: Kind, seed: u64) -> (World, usize, (usize, usize)) {
    let mut dice = Dice::new(seed);
    let (one, two) = (Terrain::new(kind, 500, &mut dice), Terrain::new(kind, 500, &mut dice));
    let half = one.topology.nodes;
    let mut world = World::new(seed, field::honest());
    (0..half + two.topology.nodes).for_each(|_| {
        world.add();
    });
    for ((a, b), wire) in one.links() {
        world.connect(a, b, wire);
    }
    for ((a, b), wire) in two.links() {
        world.connect(half + a, half + b, wire);
    }
    let bridge = (dice.below(half), half + dice.below(two.topology.nodes));
    world.connect(bridge.0, bridge.1, Wire { latency: Duration::from_millis(10), ..Wire::clean(Class::UDP) });
    (world, half, bridge)
}

/// Parts the halves, joins them again, and sees how long it takes until everyone is reached.
fn part_and_merge(kind: Kind, seed: u64) {
    let (mut world, half, bridge) = two_halves(kind, seed);
    let count = world.len();
    world.run_for(Duration::from_secs(15));
    // Some have talked across before, and remember where the others were.
    let old: Vec<_> = (0..100).map(|at| (at, half + at)).collect();
    let lost = unreached(&mut world, &old, Duration::from_secs(5));
    assert!(lost.is_empty(), "{} seed {seed}: before the cut nothing between {lost:?}", kind.name());
    world.cut(bridge.0, bridge.1);
    world.run_for(Duration::from_secs(20));
    let across = unreached(&mut world, &old[..10], Duration::from_secs(2));
    assert_eq!(across.len(), 10, "{} seed {seed}: the halves are not apart", kind.name());
    let back = world.elapsed();
    world.restore(bridge.0, bridge.1);
    // Every node asks for one on the other side and one on its own, and is asked for by others.
    let mut pairs = old;
    for node in 0..count {
        let (mine, other) = if node < half { (0, half) } else { (half, 0) };
        let size = |from: usize| if from == 0 { half } else { count - half };
        pairs.push((node, other + world.dice().below(size(other))));
        pairs.push((node, mine + world.dice().below(size(mine))));
    }
    pairs.retain(|(from, to)| from != to);
    let lost = unreached(&mut world, &pairs, Duration::from_secs(5));
    let took = world.elapsed() - back;
    println!("{} seed {seed}: {took:?}", kind.name());
    assert!(
        lost.is_empty(),
        "{} seed {seed}: {} of {} pairs are not joined: {:?}",
        kind.name(),
        lost.len(),
        pairs.len(),
        &lost[..lost.len().min(20)]
    );
    world.verdict().expect("no rule is broken");
}

#[test]
fn two_halves_of_an_overlay_are_one_within_five_seconds_of_the_link() {
    part_and_merge(Kind::Overlay, 31);
}

#[test]
fn two_halves_of_a_mesh_are_one_within_five_seconds_of_the_link() {
    part_and_merge(Kind::Rgg, 32);
}

fn beacon(now: Instant, setup: Setup) -> Box<dyn Network> {
    Box::new(Beacon::new(now, setup))
}

/// Who reaches whom, by the first payload or the second: the first may go where the target was before something was cut, and be
/// lost; then the sender asks anew.
fn reached(world: &mut World, pairs: &[(usize, usize)]) -> Vec<bool> {
    let mut sent = vec![Vec::new(); pairs.len()];
    for _ in 0..2 {
        for (pair, sent) in pairs.iter().zip(&mut sent) {
            sent.extend(world.send(pair.0, pair.1, Plane::Any).ok());
            // All questions pass near the roots, where they are limited.
            world.run_for(Duration::from_millis(25));
        }
        world.run_for(Duration::from_secs(11));
    }
    let arrived = |number: &u64| world.flight(*number).arrived();
    sent.iter().map(|sent| sent.iter().any(arrived)).collect()
}

#[test]
fn grove_reaches_whom_beacon_reaches_whatever_is_cut() {
    const NODES: usize = 40;
    for seed in 41..43 {
        let mut dice = Dice::new(seed);
        let topology = Topology::random(NODES, 12, &mut dice);
        let wire = Wire::clean(Class::UDP);
        let mut grove = World::of(seed, field::honest(), &topology, wire);
        let mut oracle = World::of(seed, beacon, &topology, wire);
        let pairs: Vec<_> =
            (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
        let mut apart = 0;
        for round in 0..4 {
            for link in dice.sample(topology.links.len(), 6) {
                let (a, b) = topology.links[link];
                // The same happens to both.
                let cut = dice.chance(0.6);
                for world in [&mut grove, &mut oracle] {
                    if cut { world.cut(a, b) } else { world.restore(a, b) }
                }
            }
            grove.run_for(Duration::from_secs(15));
            oracle.run_for(Duration::from_secs(15));
            let (ours, theirs) = (reached(&mut grove, &pairs), reached(&mut oracle, &pairs));
            let unlike: Vec<_> = pairs
                .iter()
                .zip(ours.iter().zip(&theirs))
                .filter(|(_, (ours, theirs))| ours != theirs)
                .collect();
            assert!(unlike.is_empty(), "seed {seed} round {round}: (pair, (grove, beacon)): {unlike:?}");
            // And both are right.
            let part = parts(NODES, grove.open_links().map(|(a, b, _)| (a, b)));
            let right = |((a, b), reached): (&(usize, usize), &bool)| (part[*a] == part[*b]) == *reached;
            assert!(pairs.iter().zip(&ours).all(right), "seed {seed} round {round}: both are wrong");
            apart += ours.iter().filter(|reached| !**reached).count();
        }
        assert!(apart > 0, "seed {seed}: nobody was ever out of reach");
    }
}
