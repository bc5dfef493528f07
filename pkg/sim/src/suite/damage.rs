//! On a damaged network traffic comes back, soon, and stays.

use std::time::Duration;

use byway_network::{Class, Constraint, Plane, To};

use super::{SOON, Verdict, all_pairs, clean_world, ensure, missing, pairs, time_until_all};
use crate::{Dice, Factory, Timers, Topology, Wire, World, parts};

const UDP: Wire = Wire::clean(Class::UDP);

pub(super) fn losses_delay_nobody_for_long(factory: Factory) -> Verdict {
    for seed in 30..33 {
        let wire = Wire { loss: 0.2, latency: Duration::from_millis(15), ..UDP };
        let topology = Topology::random(12, 8, &mut Dice::new(seed));
        let mut world = World::of(seed, factory, &topology, wire);
        let pairs = pairs(&world);
        let took =
            time_until_all(&mut world, &pairs, Plane::Any, Duration::from_secs(20)).map_err(|missing| {
                format!("seed {seed}: with a fifth lost, nothing passes between {missing:?}")
            })?;
        ensure!(took < Duration::from_secs(10), "seed {seed}: with a fifth lost, all pairs took {took:?}");
        world.verdict()?;
    }
    Ok(())
}

pub(super) fn delay_and_reordering_change_nothing(factory: Factory) -> Verdict {
    for seed in 33..36 {
        let (latency, jitter) = (Duration::from_millis(100), Duration::from_millis(200));
        let wire = Wire { latency, jitter, ..UDP };
        let mut world = World::of(seed, factory, &Topology::ring(10), wire);
        world.run_for(Duration::from_secs(10));
        for _ in 0..5 {
            let pairs = pairs(&world);
            let missing = missing(&mut world, &pairs, Plane::Any, Duration::from_secs(5));
            ensure!(missing.is_empty(), "seed {seed}: nothing arrived between {missing:?}");
        }
        world.verdict()?;
    }
    Ok(())
}

pub(super) fn copies_made_by_links_are_not_multiplied(factory: Factory) -> Verdict {
    let wire = Wire { duplicates: 0.5, jitter: Duration::from_millis(10), ..UDP };
    let mut world = World::of(36, factory, &Topology::random(12, 8, &mut Dice::new(36)), wire);
    world.run_for(SOON);
    all_pairs(&mut world, 36)?;
    let before: u64 = (0..world.len()).map(|node| world.bytes_out(node)).sum();
    world.run_for(Duration::from_secs(30));
    let copied: u64 = (0..world.len()).map(|node| world.bytes_out(node)).sum::<u64>() - before;
    let mut clean = clean_world(36, factory, &Topology::random(12, 8, &mut Dice::new(36)));
    let before: u64 = (0..clean.len()).map(|node| clean.bytes_out(node)).sum();
    clean.run_for(Duration::from_secs(30));
    let plain: u64 = (0..clean.len()).map(|node| clean.bytes_out(node)).sum::<u64>() - before;
    ensure!(
        copied <= plain * 3 / 2,
        "idle nodes send {copied} bytes where links copy, and {plain} where not"
    );
    world.verdict()
}

pub(super) fn a_ring_heals_within_a_second_and_stays_healed(factory: Factory) -> Verdict {
    for (seed, size) in [(37, 3), (38, 4), (39, 10)] {
        let mut world = clean_world(seed, factory, &Topology::ring(size));
        world.run_for(Duration::from_secs(10));
        world.cut(0, 1);
        world.run_for(world.detection);
        let pairs = pairs(&world);
        let took = time_until_all(&mut world, &pairs, Plane::Any, Duration::from_secs(10))
            .map_err(|missing| format!("ring of {size}: {missing:?} never came back"))?;
        ensure!(took < Duration::from_secs(1), "ring of {size}: traffic was back only after {took:?}");
        stays_whole(&mut world, Duration::from_secs(60))?;
        world.restore(0, 1);
        stays_whole(&mut world, Duration::from_secs(20))?;
    }
    Ok(())
}

/// From now on every payload between 0 and all others arrives.
fn stays_whole(world: &mut World, time: Duration) -> Verdict {
    let pairs: Vec<_> = (1..world.len()).flat_map(|node| [(0, node), (node, 0)]).collect();
    let until = world.elapsed() + time;
    while world.elapsed() < until {
        let missing = missing(world, &pairs, Plane::Any, Duration::from_millis(500));
        ensure!(missing.is_empty(), "at {:?}, long after the repair, {missing:?} fail", world.elapsed());
    }
    world.verdict()
}

pub(super) fn a_restored_link_carries_within_two_seconds(factory: Factory) -> Verdict {
    for (seed, away) in [(40, 3), (41, 20), (42, 300)] {
        let mut world = clean_world(seed, factory, &Topology::chain(5));
        let leaf = world.add_leaf(4);
        world.run_for(SOON);
        world.cut(1, 2);
        world.run_for(Duration::from_secs(away));
        let across = [(0, 4), (4, 0), (1, 2), (leaf, 0), (0, leaf)];
        let parted = missing(&mut world, &across, Plane::Any, SOON);
        ensure!(parted == across, "payloads cross a link that is cut");
        world.restore(1, 2);
        let took = time_until_all(&mut world, &across, Plane::Any, Duration::from_secs(10))
            .map_err(|missing| format!("cut for {away} s: {missing:?} never came back"))?;
        ensure!(took < Duration::from_secs(2), "cut for {away} s: back only after {took:?}");
        stays_whole(&mut world, Duration::from_secs(30))?;
    }
    Ok(())
}

pub(super) fn a_restarted_node_is_back_within_five_seconds(factory: Factory) -> Verdict {
    for (seed, away) in [(43, 2), (44, 30)] {
        let mut world = clean_world(seed, factory, &Topology::chain(5));
        world.kill(2);
        world.run_for(Duration::from_secs(away));
        back_after_restart(&mut world, 2)?;
    }
    Ok(())
}

pub(super) fn a_node_that_restarts_unnoticed_is_back_within_five_seconds(factory: Factory) -> Verdict {
    for (seed, told) in [(45, true), (46, false)] {
        let mut world = clean_world(seed, factory, &Topology::chain(5));
        world.restarts_are_told = told;
        world.kill(2);
        world.run_for(world.detection / 2);
        back_after_restart(&mut world, 2)?;
    }
    Ok(())
}

fn back_after_restart(world: &mut World, node: usize) -> Verdict {
    world.restart(node);
    let pairs = pairs(world);
    let took = time_until_all(world, &pairs, Plane::Any, Duration::from_secs(20))
        .map_err(|missing| format!("after a restart {missing:?} never came back"))?;
    ensure!(took < Duration::from_secs(5), "after a restart traffic was back only after {took:?}");
    stays_whole(world, Duration::from_secs(30))
}

pub(super) fn partitions_part_and_merge(factory: Factory) -> Verdict {
    let mut world = clean_world(47, factory, &Topology::ring(12));
    let halves = |world: &mut World, inside: bool| -> Vec<(usize, usize)> {
        pairs(world).into_iter().filter(|(a, b)| ((a / 6) == (b / 6)) == inside).collect()
    };
    world.cut(5, 6);
    world.cut(0, 11);
    world.run_for(world.detection * 2);
    let (inside, across) = (halves(&mut world, true), halves(&mut world, false));
    let apart = missing(&mut world, &inside, Plane::Any, SOON);
    ensure!(apart.is_empty(), "a half of the ring fell apart: {apart:?}");
    let parted = missing(&mut world, &across, Plane::Any, SOON);
    ensure!(parted.len() == across.len(), "payloads cross the border");
    world.run_for(Duration::from_secs(120));
    world.restore(5, 6);
    let took = time_until_all(&mut world, &across, Plane::Any, Duration::from_secs(20))
        .map_err(|missing| format!("after the merge {missing:?} never got through"))?;
    ensure!(took < Duration::from_secs(5), "the halves merged only after {took:?}");
    all_pairs(&mut world, 47)
}

pub(super) fn churn_leaves_no_scars(factory: Factory) -> Verdict {
    for seed in 50..56 {
        let topology = Topology::random(16, 14, &mut Dice::new(seed));
        let mut world = World::of(seed, factory, &topology, UDP);
        world.run_for(SOON);
        let mut sent = Vec::new();
        for _ in 0..150 {
            damage_something(&mut world, &topology);
            for _ in 0..5 {
                let (from, to) = (world.dice().below(16), world.dice().below(16));
                sent.extend(world.send(from, to, Plane::Any).ok());
                let pause = world.dice().time(Duration::from_millis(100));
                world.run_for(pause);
            }
        }
        let worst = sent.iter().map(|number| world.flight(*number).hops()).max().unwrap_or(0);
        ensure!(worst <= 64, "seed {seed}: a payload went over {worst} links in a world of 16 nodes");
        ensure!(!sent.is_empty(), "seed {seed}: nothing could be sent at all");
        for node in 0..world.len() {
            if !world.is_alive(node) {
                world.restart(node);
            }
        }
        // What stays cut is as it may be; whoever has a way must have it soon.
        let part = parts(16, world.open_links().map(|(a, b, _)| (a, b)).collect::<Vec<_>>().into_iter());
        let linked: Vec<_> = pairs(&world).into_iter().filter(|(a, b)| part[*a] == part[*b]).collect();
        time_until_all(&mut world, &linked, Plane::Any, Duration::from_secs(5))
            .map_err(|missing| format!("seed {seed}: after churn {missing:?} do not reach each other"))?;
        world.run_for(SOON);
        let calm: Vec<_> = linked.iter().filter_map(|(a, b)| world.send(*a, *b, Plane::Any).ok()).collect();
        world.run_for(SOON);
        for number in calm {
            let flight = world.flight(number);
            ensure!(flight.arrived(), "seed {seed}: a payload from {} was lost in calm", flight.from());
            ensure!(flight.most_visits() == 1, "seed {seed}: a payload came to one node twice in calm");
        }
        world.verdict()?;
    }
    Ok(())
}

pub(super) fn damage_something(world: &mut World, topology: &Topology) {
    let Some((a, b)) = world.dice().pick(&topology.links).copied() else { return };
    match world.dice().below(8) {
        0..3 => world.cut(a, b),
        3..6 if world.is_alive(a) && world.is_alive(b) => world.restore(a, b),
        6 if world.is_alive(a) => world.kill(a),
        _ if !world.is_alive(b) => world.restart(b),
        _ if !world.is_alive(a) => world.restart(a),
        _ => {}
    }
}

pub(super) fn timers_may_be_early_late_or_twice(factory: Factory) -> Verdict {
    for timers in [Timers::Eager, Timers::Late(Duration::from_millis(400))] {
        let mut world = World::new(57, factory);
        world.timers = timers;
        for _ in 0..8 {
            world.add();
        }
        for (a, b) in Topology::ring(8).links {
            world.connect(a, b, UDP);
        }
        world.add_leaf(0);
        world.run_for(SOON);
        all_pairs(&mut world, 57).map_err(|fault| format!("{timers:?}: {fault}"))?;
        world.cut(0, 1);
        world.run_for(world.detection + SOON);
        all_pairs(&mut world, 57).map_err(|fault| format!("{timers:?}, one link cut: {fault}"))?;
        world.run_for(Duration::from_secs(60));
        all_pairs(&mut world, 57).map_err(|fault| format!("{timers:?}, later: {fault}"))?;
    }
    Ok(())
}

pub(super) fn memory_is_given_back(factory: Factory) -> Verdict {
    let mut world = clean_world(58, factory, &Topology::ring(6));
    for hub in 0..6 {
        for _ in 0..10 {
            world.add_leaf(hub);
        }
    }
    world.run_for(SOON);
    let by = Constraint::in_plane(Plane::Any);
    let gone: Vec<usize> = (3..world.len()).collect();
    all_pairs(&mut world, 58)?;
    for node in &gone {
        world.kill(*node);
    }
    world.run_for(Duration::from_secs(300));
    for node in 0..3 {
        for other in &gone {
            let way = world.router(node).next_hop(To::Node(world.addr(*other)), &by);
            ensure!(way.is_none(), "node {node} still knows a way to node {other}, dead for minutes");
        }
        let routes = world.router(node).routes(usize::MAX);
        let to_dead =
            routes.iter().filter(|route| gone.iter().any(|dead| world.addr(*dead) == route.to)).count();
        ensure!(to_dead == 0, "node {node} still keeps {to_dead} ways to the dead");
    }
    all_pairs(&mut world, 58)
}

pub(super) fn a_slow_link_with_a_dead_end_costs_the_others_nothing(factory: Factory) -> Verdict {
    let mut world = clean_world(59, factory, &Topology::chain(3));
    let silent: Vec<usize> = (0..4).map(|_| world.add()).collect();
    for node in &silent {
        // Up, as far as the link layer says, but nothing ever comes through.
        world.connect(1, *node, Wire { loss: 1.0, ..UDP });
        world.connect(0, *node, Wire { loss: 1.0, ..UDP });
    }
    world.run_for(SOON);
    for _ in 0..20 {
        let missing = missing(&mut world, &[(0, 2), (2, 0), (0, 1)], Plane::Any, SOON);
        ensure!(missing.is_empty(), "dead peers disturb {missing:?}");
    }
    world.verdict()
}
