//! A frame of a plane uses links of that plane alone, and what cannot be promised is refused.

use std::time::Duration;

use byway_network::{Class, ClassSet, Constraint, Family, FrameError, PathId, Plane, To, Unroutable};

use super::damage::damage_something;
use super::{SOON, Verdict, clean_world, ensure, missing, pairs};
use crate::{Dice, Factory, Recorded, Topology, Wire, World, parts};

const CLASSES: [Class; 5] = [
    Class::UDP,
    Class::LAN,
    Class::new(Family::Tor, 0),
    Class::new(Family::I2p, 1),
    Class::new(Family::Mesh, 0),
];

/// A random graph whose links are of random classes; some neighbours have links of two.
fn mixed_world(seed: u64, factory: Factory) -> (World, Topology) {
    let mut dice = Dice::new(seed);
    let topology = Topology::random(14, 24, &mut dice);
    let mut world = World::new(seed, factory);
    for _ in 0..topology.nodes {
        world.add();
    }
    for (a, b) in &topology.links {
        for _ in 0..1 + dice.below(2) {
            world.connect(*a, *b, Wire::clean(CLASSES[dice.below(CLASSES.len())]));
        }
    }
    world.run_for(Duration::from_secs(5));
    (world, topology)
}

pub(super) fn no_frame_leaves_its_plane(factory: Factory) -> Verdict {
    for seed in 60..64 {
        let (mut world, topology) = mixed_world(seed, factory);
        let mut reached = 0;
        for plane in Plane::ALL {
            let inside = world.open_links().filter(|(.., class)| plane.has(class.family()));
            let links: Vec<_> = inside.map(|(a, b, _)| (a, b)).collect();
            let part = parts(topology.nodes, links.into_iter());
            let (linked, apart): (Vec<_>, Vec<_>) =
                pairs(&world).into_iter().partition(|(a, b)| part[*a] == part[*b]);
            let lost = missing(&mut world, &linked, plane, SOON);
            ensure!(lost.is_empty(), "seed {seed}: in plane {plane:?} nothing arrived between {lost:?}");
            let refused = missing(&mut world, &apart, plane, SOON);
            ensure!(refused.len() == apart.len(), "seed {seed}: {plane:?} reaches nodes outside of it");
            reached += linked.len();
        }
        ensure!(reached > 0, "seed {seed}: no pair of nodes could be tried");
        world.verdict()?;
    }
    Ok(())
}

pub(super) fn no_frame_leaves_its_plane_during_churn(factory: Factory) -> Verdict {
    for seed in 64..68 {
        let (mut world, topology) = mixed_world(seed, factory);
        let mut arrived = 0;
        for _ in 0..120 {
            damage_something(&mut world, &topology);
            let mut sent = Vec::new();
            for plane in Plane::ALL {
                let (from, to) = (world.dice().below(14), world.dice().below(14));
                sent.extend(world.send(from, to, plane).ok());
            }
            world.run_for(Duration::from_millis(300));
            arrived += sent.iter().filter(|number| world.flight(**number).arrived()).count();
        }
        ensure!(arrived > 0, "seed {seed}: nothing arrived at all");
        world.verdict()?;
    }
    Ok(())
}

pub(super) fn a_constraint_that_cannot_be_shown_is_refused(factory: Factory) -> Verdict {
    let mut world = clean_world(68, factory, &Topology::chain(4));
    let leaf = world.add_leaf(0);
    world.run_for(SOON);
    let any = Constraint::in_plane(Plane::Any);
    let demands = [
        Constraint { relays: 1, ..any.clone() },
        Constraint { at_least: vec![(Family::Tor, 2)], ..any.clone() },
        Constraint { disjoint_from: vec![PathId(7)], ..any.clone() },
        Constraint { avoid: vec![world.addr(1)], ..any.clone() },
    ];
    for from in [0, leaf] {
        for by in &demands {
            let refused = world.send_by(from, 3, by, 40);
            ensure!(refused == Err(Unroutable::Constraint), "node {from} takes {by:?}: {refused:?}");
            let hop = world.router(from).next_hop(To::Node(world.addr(3)), by);
            ensure!(hop.is_none(), "node {from} names a hop for {by:?}");
        }
        let back = To::Back(PathId(99));
        let refused = world.send_raw(from, back, b"lost".as_slice().into(), &any);
        ensure!(refused == Err(Unroutable::Unknown), "node {from} takes a way back that it never gave");
        let fine = world.send_by(from, 3, &any, 40);
        ensure!(fine.is_ok(), "node {from} refuses a request without demands: {fine:?}");
    }
    let other_plane = world.send(0, 3, Plane::Anon);
    ensure!(other_plane.is_err(), "a plane without links carries");
    world.verdict()
}

pub(super) fn the_first_hop_is_of_the_families_that_were_asked_for(factory: Factory) -> Verdict {
    let mut world = World::new(69, factory);
    let (from, by_tor, by_ip, to) = (world.add(), world.add(), world.add(), world.add());
    let tor = Class::new(Family::Tor, 0);
    world.connect(from, by_tor, Wire { latency: Duration::from_millis(40), ..Wire::clean(tor) });
    world.connect(from, by_ip, Wire::clean(Class::UDP));
    world.connect(by_tor, to, Wire::clean(Class::UDP));
    world.connect(by_ip, to, Wire::clean(Class::UDP));
    world.run_for(SOON);
    for family in [Family::Tor, Family::Ip] {
        let by = Constraint { first_hop: ClassSet::of(&[family]), ..Constraint::in_plane(Plane::Any) };
        if let Some(hop) = world.router(from).next_hop(To::Node(world.addr(to)), &by) {
            ensure!(hop.family == family, "{family:?} was asked for, and the first hop is {hop:?}");
        }
        let direct = if family == Family::Tor { by_tor } else { by_ip };
        let number = world.send_by(from, direct, &by, 40).map_err(|why| format!("{family:?}: {why}"))?;
        world.run_for(SOON);
        ensure!(world.flight(number).arrived(), "nothing arrived by {family:?}");
    }
    let none = Constraint { first_hop: ClassSet::of(&[Family::Mesh]), ..Constraint::in_plane(Plane::Any) };
    let refused = world.send_by(from, to, &none, 40);
    ensure!(refused == Err(Unroutable::Constraint), "without such a link the answer is {refused:?}");
    world.verdict()
}

pub(super) fn a_frame_over_a_link_outside_its_plane_is_dropped(factory: Factory) -> Verdict {
    let mut world = World::new(70, factory);
    let (a, b) = (world.add(), world.add());
    world.connect(a, b, Wire::clean(Class::new(Family::Tor, 0)));
    world.connect(a, b, Wire::clean(Class::UDP));
    world.run_for(SOON);
    world.record();
    let number = world.send(a, b, Plane::Anon).map_err(|why| why.to_string())?;
    world.run_for(SOON);
    ensure!(world.flight(number).arrivals() == 1, "a payload did not arrive over Tor");
    let frames = world.take_recorded(true);
    ensure!(!frames.is_empty(), "no frame carried the payload");
    for Recorded { to, from, frame, .. } in frames {
        let result = world.inject(to, from, Family::Ip, frame);
        ensure!(result == Err(FrameError::Plane), "a frame of plane anon over a clear link: {result:?}");
    }
    ensure!(world.flight(number).arrivals() == 1, "a frame outside its plane was delivered");
    world.verdict()
}
