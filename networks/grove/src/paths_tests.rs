use byway_network::{ClassSet, Plane};

use super::*;

fn addr(number: u8) -> Addr {
    Addr::from_bytes([number; 32])
}

const TOR: Class = Class::new(Family::Tor, 0);

/// Links `(label, class, cost, node behind)`.
fn trace(salt: u64, hops: &[(u16, Class, u32, u8)]) -> Vec<Noted> {
    let noted = |(out, class, cost, node): &(u16, Class, u32, u8)| Noted {
        out: *out,
        back: 0,
        class: *class,
        cost: Cost::from_units(*cost).encode(),
        tag: if *node == 0 { [0; 6] } else { tag(salt, &addr(*node)) },
    };
    hops.iter().map(noted).collect()
}

fn paths(traces: &[&[(u16, Class, u32, u8)]]) -> Paths {
    let mut paths = Paths::default();
    paths.begin(7);
    let mut next = 0;
    for hops in traces {
        paths.add(&addr(1), &trace(7, hops), || {
            next += 1;
            PathId(next)
        });
    }
    paths
}

fn labels(paths: &Paths) -> Vec<Vec<u16>> {
    paths.chosen.iter().map(|path| path.labels.clone()).collect()
}

#[test]
fn the_halves_of_two_traces_make_a_better_way() {
    // 1 → 2 → 3 → 9 and 1 → 4 → 3 → 9: the good half of each.
    let paths = paths(&[
        &[(1, Class::UDP, 10, 2), (2, Class::UDP, 100, 3), (3, Class::UDP, 10, 9)],
        &[(4, Class::UDP, 20, 4), (5, Class::UDP, 20, 3), (6, Class::UDP, 90, 9)],
    ]);
    assert_eq!(labels(&paths)[0], [4, 5, 3]);
    assert_eq!(paths.chosen[0].cost, 50);
}

#[test]
fn further_ways_share_no_node_with_the_first() {
    let paths = paths(&[
        &[(1, Class::UDP, 10, 2), (2, Class::UDP, 10, 9)],
        &[(3, Class::UDP, 30, 3), (4, Class::UDP, 30, 2), (2, Class::UDP, 10, 9)],
        &[(3, Class::UDP, 30, 3), (5, Class::UDP, 50, 9)],
    ]);
    assert_eq!(labels(&paths), [vec![1, 2], vec![3, 5]]);
    let by = Constraint::in_plane(Plane::Any);
    let first = paths.chosen[0].clone();
    assert_eq!(paths.best(&by, &[first]).map(|path| &path.labels), Some(&vec![3, 5]));
}

#[test]
fn only_a_way_that_shows_it_satisfies_a_constraint() {
    let paths = paths(&[
        &[(1, TOR, 10, 2), (2, Class::UDP, 10, 9)],
        &[(3, Class::UDP, 30, 3), (4, TOR, 30, 4), (5, TOR, 30, 9)],
    ]);
    let any = Constraint::in_plane(Plane::Any);
    let best = |by: &Constraint| paths.best(by, &[]).map(|path| path.labels.clone());
    assert_eq!(best(&any), Some(vec![1, 2]));
    assert_eq!(best(&Constraint { at_least: vec![(Family::Tor, 2)], ..any.clone() }), Some(vec![3, 4, 5]));
    assert_eq!(best(&Constraint { at_least: vec![(Family::Tor, 3)], ..any.clone() }), None);
    assert_eq!(best(&Constraint { avoid: vec![addr(2)], ..any.clone() }), Some(vec![3, 4, 5]));
    assert_eq!(best(&Constraint { avoid: vec![addr(2), addr(4)], ..any.clone() }), None);
    let first_hop = ClassSet::of(&[Family::Ip]);
    assert_eq!(best(&Constraint { first_hop, ..any.clone() }), Some(vec![3, 4, 5]));
    assert_eq!(best(&Constraint::in_plane(Plane::Anon)), None);
    assert_eq!(best(&Constraint { relays: 1, ..any }), None);
}

#[test]
fn a_node_that_is_not_tagged_is_on_no_way_that_avoids_somebody() {
    let mut paths = paths(&[&[(1, Class::UDP, 10, 0), (2, Class::UDP, 10, 9)]]);
    assert!(paths.chosen.is_empty(), "{paths:?}");
    assert!(!paths.broken(&[1]));
}

#[test]
fn the_way_in_use_stays_until_another_is_a_fifth_better() {
    let mut paths = paths(&[&[(1, Class::UDP, 50, 2), (2, Class::UDP, 50, 9)]]);
    let id = paths.chosen[0].id;
    for (cost, left) in [(45, false), (30, true)] {
        paths.begin(7);
        paths.add(&addr(1), &trace(7, &[(1, Class::UDP, 50, 2), (2, Class::UDP, 50, 9)]), || PathId(50));
        paths.add(&addr(1), &trace(7, &[(3, Class::UDP, cost, 3), (4, Class::UDP, cost, 9)]), || PathId(60));
        assert_eq!(paths.chosen[0].id != id, left, "{cost}");
    }
}

#[test]
fn a_broken_way_and_one_that_no_probe_shows_are_left() {
    let mut paths = paths(&[
        &[(1, Class::UDP, 10, 2), (2, Class::UDP, 10, 9)],
        &[(3, Class::UDP, 30, 3), (5, Class::UDP, 50, 9)],
    ]);
    assert!(!paths.broken(&[7]));
    assert!(paths.broken(&[1, 2]));
    assert_eq!(labels(&paths), [vec![3, 5]]);
    paths.end();
    assert_eq!(paths.chosen.len(), 1, "this round has shown it");
    paths.begin(8);
    assert_eq!(paths.chosen.len(), 1, "there is time until the round ends");
    paths.end();
    assert!(paths.chosen.is_empty());
}

#[test]
fn a_graph_has_a_bound() {
    let mut paths = Paths::default();
    paths.begin(1);
    for at in 0..2_000u16 {
        let node = (at % 250) as u8 + 2;
        paths.add(&addr(1), &trace(1, &[(at, Class::UDP, 10, node)]), || PathId(at.into()));
    }
    assert_eq!(paths.edges.len(), EDGES_MAX);
    assert!(paths.chosen.len() <= PATHS_MAX);
}
