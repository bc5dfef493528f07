//! On a clean network everyone reaches and finds everyone.

use std::time::Duration;

use byway_identity::Prefix;
use byway_network::{Class, Constraint, Plane, To, Unroutable};

use super::{SOON, Verdict, all_pairs, clean_world, ensure, finds, missing, pairs, time_until_all};
use crate::{Dice, Factory, Topology, Wire};

pub(super) fn chain_2_send_recv_all(factory: Factory) -> Verdict {
    all_pairs(&mut clean_world(1, factory, &Topology::chain(2)), 1)
}

pub(super) fn chain_5_send_recv_all(factory: Factory) -> Verdict {
    all_pairs(&mut clean_world(2, factory, &Topology::chain(5)), 2)
}

pub(super) fn ring_10_send_recv_all(factory: Factory) -> Verdict {
    all_pairs(&mut clean_world(3, factory, &Topology::ring(10)), 3)
}

pub(super) fn chain_2_find_addr(factory: Factory) -> Verdict {
    find_all(factory, &Topology::chain(2))
}

pub(super) fn chain_5_find_addr(factory: Factory) -> Verdict {
    find_all(factory, &Topology::chain(5))
}

pub(super) fn ring_10_find_addr(factory: Factory) -> Verdict {
    find_all(factory, &Topology::ring(10))
}

fn find_all(factory: Factory, topology: &Topology) -> Verdict {
    let mut world = clean_world(4, factory, topology);
    for (from, to) in pairs(&world) {
        for bits in [256, 122, 64] {
            finds(&mut world, from, to, bits)?;
        }
    }
    world.verdict()
}

pub(super) fn all_pairs_on_star_tree_mesh_and_random_graphs(factory: Factory) -> Verdict {
    for seed in 10..13 {
        let mut dice = Dice::new(seed);
        let topologies = [
            Topology::star(12),
            Topology::tree(20, &mut dice),
            Topology::mesh(8),
            Topology::random(25, 15, &mut dice),
        ];
        for topology in topologies {
            all_pairs(&mut clean_world(seed, factory, &topology), seed)?;
        }
    }
    Ok(())
}

pub(super) fn loopback_reaches_oneself(factory: Factory) -> Verdict {
    let mut world = clean_world(20, factory, &Topology::chain(2));
    let leaf = world.add_leaf(0);
    world.run_for(SOON);
    for node in [0, 1, leaf] {
        let missing = missing(&mut world, &[(node, node)], Plane::Anon, SOON);
        ensure!(missing.is_empty(), "node {node} does not reach itself");
        finds(&mut world, node, node, 256)?;
    }
    world.verdict()
}

pub(super) fn a_node_is_found_by_a_short_prefix(factory: Factory) -> Verdict {
    let mut world = clean_world(21, factory, &Topology::ring(10));
    for (from, to) in pairs(&world) {
        finds(&mut world, from, to, 7)?;
    }
    world.verdict()
}

pub(super) fn a_question_asked_too_early_is_answered_once_the_node_is_there(factory: Factory) -> Verdict {
    let mut world = clean_world(22, factory, &Topology::chain(3));
    let late = world.add();
    let leaf = world.add_leaf(0);
    world.run_for(SOON);
    let asked = Prefix::whole(world.addr(late));
    for node in [1, leaf] {
        world.find(node, asked, Plane::Any);
    }
    world.run_for(SOON);
    ensure!(world.take_found(1).is_empty(), "a node was found that nobody can reach");
    world.connect(2, late, Wire::clean(Class::UDP));
    for node in [1, leaf] {
        let answered = world.run_until(SOON, |world| !world.found(node).is_empty());
        ensure!(answered.is_some(), "node {node} asked too early and never got an answer");
    }
    world.verdict()
}

pub(super) fn a_sample_is_a_node_that_can_be_reached(factory: Factory) -> Verdict {
    let mut world = clean_world(23, factory, &Topology::random(12, 6, &mut Dice::new(23)));
    world.add_leaf(0);
    world.run_for(SOON);
    for node in 0..world.len() {
        world.sample(node, Plane::Any);
        world.run_for(SOON);
        let found = world.take_found(node);
        ensure!(!found.is_empty(), "node {node} gets no sample");
        for answer in found {
            let (to, by) = (To::Node(answer.key.addr()), Constraint::in_plane(Plane::Any));
            ensure!(world.router(node).next_hop(to, &by).is_some(), "a sample of node {node} has no way");
        }
    }
    world.verdict()
}

pub(super) fn a_changed_record_is_vouched_for(factory: Factory) -> Verdict {
    let mut world = clean_world(24, factory, &Topology::chain(4));
    let leaf = world.add_leaf(3);
    world.run_for(SOON);
    for node in [3, leaf] {
        world.set_digest(node, [0xd1; 32]);
        world.run_for(SOON);
        world.find(0, Prefix::whole(world.addr(node)), Plane::Any);
        world.run_for(SOON);
        let found = world.take_found(0);
        ensure!(
            found.last().is_some_and(|answer| answer.digest == [0xd1; 32]),
            "node 0 was not told of the changed record of node {node}"
        );
    }
    world.verdict()
}

pub(super) fn leaves_reach_everyone_and_are_reached(factory: Factory) -> Verdict {
    let mut world = clean_world(25, factory, &Topology::chain(3));
    for hub in [0, 0, 0, 2, 2, 1] {
        world.add_leaf(hub);
    }
    world.run_for(SOON);
    all_pairs(&mut world, 25)?;
    for (from, to) in pairs(&world) {
        finds(&mut world, from, to, 256)?;
        finds(&mut world, from, to, 64)?;
    }
    world.verdict()
}

pub(super) fn a_hundred_leaves_are_up_at_once(factory: Factory) -> Verdict {
    let mut world = clean_world(26, factory, &Topology::chain(2));
    let leaves: Vec<usize> = (0..100).map(|_| world.add_leaf(0)).collect();
    let around = |at: usize| (leaves[at], leaves[(at + 37) % leaves.len()]);
    let mut pairs: Vec<_> = (0..leaves.len()).map(around).collect();
    pairs.extend(leaves.iter().flat_map(|leaf| [(*leaf, 0), (1, *leaf), (*leaf, 1)]));
    let took = time_until_all(&mut world, &pairs, Plane::Any, Duration::from_secs(10))
        .map_err(|missing| format!("{} of {} pairs never got through", missing.len(), pairs.len()))?;
    ensure!(took < Duration::from_millis(500), "100 leaves took {took:?}");
    let fresh = world.add_leaf(1);
    let took = time_until_all(&mut world, &[(fresh, leaves[5]), (leaves[7], fresh)], Plane::Any, SOON)
        .map_err(|missing| format!("a fresh leaf: {missing:?} never got through"))?;
    ensure!(took < Duration::from_millis(100), "a fresh leaf took {took:?}");
    world.verdict()
}

pub(super) fn a_leaf_is_spared_the_flood(factory: Factory) -> Verdict {
    let mut world = clean_world(27, factory, &Topology::random(30, 20, &mut Dice::new(27)));
    let leaf = world.add_leaf(0);
    world.run_for(SOON);
    all_pairs(&mut world, 27)?;
    let before = world.frames_in(leaf);
    let time = Duration::from_secs(60);
    world.run_for(time);
    let frames = world.frames_in(leaf) - before;
    ensure!(frames <= time.as_secs(), "an idle leaf got {frames} frames in {time:?}");
    let routes = world.router(leaf).routes(usize::MAX).len();
    ensure!(routes <= 4, "a leaf knows {routes} ways");
    world.verdict()
}

pub(super) fn a_payload_of_any_size_arrives_and_one_too_long_is_refused(factory: Factory) -> Verdict {
    let mut world = clean_world(28, factory, &Topology::chain(3));
    let leaf = world.add_leaf(2);
    world.run_for(SOON);
    let by = Constraint::in_plane(Plane::Any);
    let overhead = world.router(0).overhead();
    let longest = 65_535 - overhead;
    for (from, to) in [(0, 2), (0, leaf), (leaf, 0)] {
        for length in [17, 1_120, 9_000, longest] {
            let number =
                world.send_by(from, to, &by, length).map_err(|why| format!("{length} bytes: {why}"))?;
            world.run_for(SOON);
            ensure!(world.flight(number).arrived(), "{length} bytes did not arrive from {from} to {to}");
        }
        let refused = world.send_by(from, to, &by, longest + 1);
        ensure!(refused == Err(Unroutable::TooLong), "a payload too long was taken: {refused:?}");
    }
    let most = world.longest_frame();
    ensure!(most <= 65_535, "a frame of {most} bytes is more than a link carries");
    world.verdict()
}
