//! The shared suite, for `beacon`, and what only `beacon` promises.

use std::time::Duration;

use byway_beacon::Beacon;
use byway_network::{Class, Constraint, Network, Plane, Setup, To};
use byway_sim::{Dice, Topology, Wire, World};

fn beacon(now: std::time::Instant, setup: Setup) -> Box<dyn Network> {
    Box::new(Beacon::new(now, setup))
}

byway_sim::network_suite!(beacon);

/// Follows next hops from each node to each other one; the nodes on a way that never ends, if there is one.
fn loop_in(world: &World) -> Option<Vec<usize>> {
    let by = Constraint::in_plane(Plane::Any);
    let number = |addr| (0..world.len()).find(|node| world.addr(*node) == addr);
    for target in 0..world.len() {
        let to = To::Node(world.addr(target));
        for start in 0..world.len() {
            let mut way = vec![start];
            while let Some(here) = way.last().copied().filter(|here| *here != target && world.is_alive(*here))
            {
                let Some(next) = world.router(here).next_hop(to, &by).and_then(|hop| number(hop.peer)) else {
                    break;
                };
                let round = way.contains(&next);
                way.push(next);
                if round {
                    return Some(way);
                }
            }
        }
    }
    None
}

#[test]
fn at_no_instant_do_next_hops_form_a_loop_while_links_come_and_go() {
    for seed in 0..8 {
        let topology = Topology::random(14, 12, &mut Dice::new(seed));
        let wire = Wire { jitter: Duration::from_millis(20), loss: 0.1, ..Wire::clean(Class::UDP) };
        let mut world = World::of(seed, beacon, &topology, wire);
        for step in 0..300 {
            let Some((a, b)) = world.dice().pick(&topology.links).copied() else { break };
            if world.dice().chance(0.5) {
                world.cut(a, b);
            } else {
                world.restore(a, b);
            }
            for _ in 0..10 {
                let pause = world.dice().time(Duration::from_millis(30));
                world.run_for(pause);
                assert_eq!(loop_in(&world), None, "seed {seed}, step {step}");
            }
        }
        world.verdict().expect("no rule is broken");
    }
}

#[test]
fn a_loop_through_a_node_that_forgot_everything_ends_at_once() {
    for seed in 0..8 {
        let topology = Topology::random(14, 12, &mut Dice::new(seed));
        let mut world = World::of(seed, beacon, &topology, Wire::clean(Class::UDP));
        world.restarts_are_told = false;
        world.run_for(Duration::from_secs(3));
        for step in 0..60 {
            let node = world.dice().below(14);
            world.kill(node);
            let away = world.dice().time(Duration::from_millis(1_500));
            world.run_for(away);
            world.restart(node);
            world.run_for(Duration::from_millis(300));
            assert_eq!(loop_in(&world), None, "seed {seed}, step {step}");
        }
    }
}
