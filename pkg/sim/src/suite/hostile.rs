//! Whatever a neighbour sends, the router goes on working, believes nobody but the signer, and stays small.

use std::time::Duration;

use bytes::Bytes;
use byway_network::{Class, Constraint, Family, FrameError, Plane, To};

use super::{SOON, Verdict, all_pairs, clean_world, ensure, missing};
use crate::{Factory, Recorded, Topology, Wire};

/// Most ways that a router may keep, whatever neighbours tell it: 1,024 nodes in four planes.
const WAYS_MAX: usize = 4_096;

pub(super) fn random_bytes_change_nothing(factory: Factory) -> Verdict {
    let mut world = clean_world(80, factory, &Topology::ring(5));
    let leaf = world.add_leaf(0);
    world.run_for(SOON);
    for round in 0..20_000 {
        let length = world.dice().below(if round % 10 == 0 { 2_000 } else { 80 });
        let mut bytes = world.dice().bytes(length);
        if let Some(first) = bytes.first_mut() {
            *first %= 16;
        }
        let (to, from, family) = match round % 3 {
            0 => (leaf, 0, Family::Loopback),
            1 => (0, leaf, Family::Loopback),
            _ => (0, 1, Family::Ip),
        };
        // Either answer is fine; a panic, a stray delivery or a lasting effect is not.
        let _ = world.inject(to, from, family, bytes.into());
    }
    world.run_for(SOON);
    all_pairs(&mut world, 80)?;
    only_real_nodes_are_known(&world)
}

fn only_real_nodes_are_known(world: &crate::World) -> Verdict {
    for node in 0..world.len() {
        for route in world.router(node).routes(usize::MAX) {
            let real = (0..world.len()).any(|other| world.addr(other) == route.to);
            ensure!(real, "node {node} believes in a node that never was");
        }
    }
    Ok(())
}

pub(super) fn mutated_frames_change_nothing(factory: Factory) -> Verdict {
    let mut world = clean_world(81, factory, &Topology::ring(5));
    world.record();
    let leaf = world.add_leaf(0);
    for node in 1..5 {
        world.cut(node - 1, node);
        world.run_for(world.detection + SOON);
        world.restore(node - 1, node);
        world.run_for(SOON);
    }
    let frames = world.take_recorded(false);
    ensure!(!frames.is_empty(), "the routers said nothing that could be mutated");
    for round in 0..20_000 {
        let Some(Recorded { to, from, family, frame, .. }) = world.dice().pick(&frames).cloned() else {
            break;
        };
        let mut bytes = frame.to_vec();
        for _ in 0..1 + world.dice().below(4) {
            let at = world.dice().below(bytes.len());
            let bit = world.dice().below(8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        match round % 5 {
            0 => bytes.truncate(world.dice().below(frame.len())),
            1 => bytes.extend_from_slice(&frame[..world.dice().below(frame.len())]),
            _ => {}
        }
        let _ = world.inject(to, from, family, bytes.into());
        if round % 100 == 0 {
            world.run_for(Duration::from_millis(20));
        }
    }
    world.run_for(Duration::from_secs(20));
    all_pairs(&mut world, 81)?;
    ensure!(world.is_alive(leaf), "the leaf is gone");
    only_real_nodes_are_known(&world)
}

pub(super) fn frames_of_the_past_change_nothing(factory: Factory) -> Verdict {
    let mut world = clean_world(82, factory, &Topology::ring(6));
    world.record();
    world.run_for(Duration::from_secs(30));
    let past = world.take_recorded(false);
    ensure!(!past.is_empty(), "the routers said nothing that could be replayed");
    world.kill(3);
    world.run_for(SOON);
    world.restart(3);
    world.run_for(SOON);
    for round in 0..5 {
        // Everything that neighbours of node 0 ever said, again, and what others said, from its neighbours.
        for (at, Recorded { from, frame, .. }) in past.iter().enumerate() {
            let from = if *from == 1 || *from == 5 { *from } else { [1, 5][at % 2] };
            let _ = world.inject(0, from, Family::Ip, frame.clone());
        }
        world.run_for(Duration::from_secs(3));
        all_pairs(&mut world, 82).map_err(|fault| format!("after replay {round}: {fault}"))?;
    }
    Ok(())
}

pub(super) fn a_neighbour_that_is_not_up_is_not_heard(factory: Factory) -> Verdict {
    let mut world = clean_world(83, factory, &Topology::chain(3));
    world.record();
    world.run_for(Duration::from_secs(10));
    let said = world.take_recorded(false);
    ensure!(!said.is_empty(), "the routers said nothing");
    for Recorded { frame, .. } in said {
        let unlinked = world.inject(0, 2, Family::Ip, frame.clone());
        ensure!(unlinked == Err(FrameError::NotUp), "a frame of a stranger: {unlinked:?}");
        let elsewhere = world.inject(0, 1, Family::Tor, frame);
        ensure!(elsewhere == Err(FrameError::NotUp), "a frame over a link that is not up: {elsewhere:?}");
    }
    all_pairs(&mut world, 83)
}

pub(super) fn a_flood_of_nodes_fills_no_more_than_its_share(factory: Factory) -> Verdict {
    let mut world = clean_world(84, factory, &Topology::chain(3));
    let bad = world.add();
    world.connect(1, bad, Wire::clean(Class::UDP));
    for _ in 0..1_500 {
        world.add_leaf(bad);
        world.run_for(Duration::from_millis(20));
    }
    world.run_for(SOON);
    for node in 0..3 {
        let ways = world.router(node).routes(usize::MAX).len();
        ensure!(ways <= WAYS_MAX, "node {node} keeps {ways} ways");
    }
    let newcomer = world.add();
    world.connect(2, newcomer, Wire::clean(Class::UDP));
    world.run_for(SOON);
    let honest = [(0, 2), (2, 0), (0, 1), (newcomer, 2), (2, newcomer)];
    let missing = missing(&mut world, &honest, Plane::Any, SOON);
    ensure!(missing.is_empty(), "a flood of nodes cut {missing:?} off");
    world.verdict()
}

pub(super) fn a_frame_that_goes_round_is_dropped(factory: Factory) -> Verdict {
    let mut world = clean_world(85, factory, &Topology::ring(4));
    world.record();
    let number = world.send(0, 2, Plane::Any).map_err(|why| why.to_string())?;
    world.run_for(SOON);
    ensure!(world.flight(number).arrived(), "the payload did not arrive");
    let Recorded { to, from, family, frame: first, .. } =
        world.take_recorded(true).first().cloned().ok_or("no frame carried the payload")?;
    // A hostile neighbour hands the same frame back again and again: each round uses up what is left of its life.
    let mut frame: Bytes = first;
    let mut rounds = 0;
    loop {
        world.record();
        let result = world.inject(to, from, family, frame.clone());
        world.run_for(Duration::from_millis(50));
        let onwards = world.take_recorded(true);
        let Some(Recorded { frame: next, .. }) = onwards.iter().find(|onwards| onwards.from == to) else {
            ensure!(result.is_err(), "a frame vanished without a reason");
            break;
        };
        ensure!(*next != frame, "a frame is passed on just as it came");
        frame = next.clone();
        rounds += 1;
        ensure!(rounds <= 128, "a frame has gone round {rounds} times");
    }
    let by = Constraint::in_plane(Plane::Any);
    ensure!(world.router(0).next_hop(To::Node(world.addr(2)), &by).is_some(), "the way is gone");
    Ok(())
}
