//! Hundreds of nodes with links of random classes, some of which die and come back: nothing of a plane leaves it.

#[expect(dead_code, reason = "its adversaries are for other tests")]
mod field;

use std::time::Duration;

use byway_network::{Class, Family, Plane};
use byway_sim::{Dice, Topology, Wire, World};
use byway_simlab::frames::{self, planes};

const NODES: usize = 250;
/// Mesh twice: it has a plane to itself, which else falls into parts too small to see anything in.
const CLASSES: [Class; 6] = [
    Class::UDP,
    Class::LAN,
    Class::new(Family::Tor, 0),
    Class::new(Family::I2p, 1),
    Class::new(Family::Mesh, 0),
    Class::new(Family::Mesh, 4),
];

/// A random graph of links of random classes; between some neighbours there are two.
fn mixed_world(seed: u64) -> (World, Vec<(usize, usize)>) {
    let mut dice = Dice::new(seed);
    let topology = Topology::random(NODES, NODES, &mut dice);
    let mut world = World::new(seed, field::honest());
    (0..NODES).for_each(|_| {
        world.add();
    });
    for (a, b) in &topology.links {
        for _ in 0..1 + dice.below(2) {
            let class = *dice.pick(&CLASSES).expect("there are some");
            world.connect(*a, *b, Wire { latency: Duration::from_millis(2), ..Wire::clean(class) });
        }
    }
    (world, topology.links)
}

/// Every frame since the last look was of planes that its link is in. How many frames named a plane.
fn look(world: &mut World, seed: u64) -> usize {
    let recorded = world.take_recorded(false);
    world.record();
    let mut named = 0;
    for frame in recorded {
        let spoken_of = planes(&frame.frame).expect("routers send nothing but frames");
        for plane in &spoken_of {
            assert!(
                plane.has(frame.family),
                "seed {seed}: {} of plane {} left node {} over {}",
                frames::name(frame.frame[0]),
                plane.name(),
                frame.from,
                frame.family.name(),
            );
        }
        named += spoken_of.len();
    }
    named
}

#[test]
fn no_frame_of_a_plane_crosses_a_link_outside_of_it_while_nodes_come_and_go() {
    for seed in [21, 22] {
        let (mut world, links) = mixed_world(seed);
        world.record();
        let (mut sent, mut named) = (Vec::new(), 0);
        for round in 0..60 {
            match world.dice().below(4) {
                0 => {
                    let node = world.dice().below(NODES);
                    if world.is_alive(node) { world.kill(node) } else { world.restart(node) }
                }
                1 => {
                    let (a, b) = *world.dice().pick(&links).expect("there are links");
                    world.cut(a, b);
                }
                2 => {
                    let (a, b) = *world.dice().pick(&links).expect("there are links");
                    world.restore(a, b);
                }
                _ => {}
            }
            for plane in Plane::ALL {
                for _ in 0..3 {
                    let (from, to) = (world.dice().below(NODES), world.dice().below(NODES));
                    sent.extend(world.send(from, to, plane).ok().map(|number| (plane, number)));
                }
            }
            world.run_for(Duration::from_millis(if round == 0 { 5_000 } else { 400 }));
            named += look(&mut world, seed);
        }
        world.run_for(Duration::from_secs(10));
        named += look(&mut world, seed);
        // It shows nothing unless there was something to see in every plane.
        assert!(named > 100_000, "seed {seed}: only {named} times a plane was named");
        for plane in Plane::ALL {
            let arrived = |(_, number): &&(Plane, u64)| world.flight(*number).arrived();
            let arrived = sent.iter().filter(|(other, _)| *other == plane).filter(arrived).count();
            assert!(arrived > 3, "seed {seed}: {arrived} payloads arrived in plane {}", plane.name());
        }
        world.verdict().expect("payloads stay in their planes");
    }
}
