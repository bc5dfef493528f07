use byway_network::{ClassSet, Plane};

use super::*;

fn addr(number: u8) -> Addr {
    Addr::from_bytes([number; 32])
}

const TOR: Class = Class::new(Family::Tor, 0);

const SALT: u64 = 7;

/// Links `(label, class, cost, node behind)`.
fn trace(hops: &[(u16, Class, u32, u8)]) -> Vec<Noted> {
    let noted = |(out, class, cost, node): &(u16, Class, u32, u8)| Noted {
        out: *out,
        back: 0,
        class: *class,
        cost: Cost::from_units(*cost).encode(),
        tag: if *node == 0 { [0; 6] } else { tag(SALT, &addr(*node)) },
    };
    hops.iter().map(noted).collect()
}

/// Numbers that are given to new ways.
fn fresh() -> PathId {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    PathId(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn add(paths: &mut Paths, now: Instant, hops: &[(u16, Class, u32, u8)]) {
    paths.add(now, &trace(hops), Duration::ZERO, fresh);
}

fn paths(traces: &[&[(u16, Class, u32, u8)]]) -> Paths {
    let mut paths = Paths::new(SALT, &addr(1), &addr(9));
    paths.begin();
    traces.iter().for_each(|hops| add(&mut paths, Instant::now(), hops));
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
    assert_eq!(paths.chosen[0].cost(), 50);
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
fn the_way_in_use_stays_until_another_is_a_fifth_better_for_a_while() {
    let now = Instant::now();
    let mut paths = paths(&[&[(1, Class::UDP, 50, 2), (2, Class::UDP, 50, 9)]]);
    // The first rounds are for looking around.
    for _ in 0..LOOKS {
        paths.begin();
        add(&mut paths, now, &[(1, Class::UDP, 50, 2), (2, Class::UDP, 50, 9)]);
        paths.end();
    }
    let id = paths.chosen[0].id;
    for (second, cost, left) in
        [(0, 45, false), (30, 30, false), (45, 30, false), (50, 45, false), (55, 30, false), (85, 30, true)]
    {
        let now = now + Duration::from_secs(second);
        paths.begin();
        add(&mut paths, now, &[(3, Class::UDP, cost, 3), (4, Class::UDP, cost, 9)]);
        add(&mut paths, now, &[(1, Class::UDP, 50, 2), (2, Class::UDP, 50, 9)]);
        assert_eq!(paths.chosen[0].id != id, left, "{second}");
        assert_eq!(paths.chosen.len(), 2, "{second}: the other one is there for copies");
        paths.end();
    }
}

#[test]
fn a_way_that_takes_longer_than_its_nodes_say_costs_what_it_takes() {
    let mut paths = paths(&[]);
    let (near, far) =
        ([(1, Class::UDP, 5, 2), (2, Class::UDP, 5, 9)], [(3, Class::UDP, 30, 3), (4, Class::UDP, 30, 9)]);
    for (hops, millis) in [(&near, 80), (&far, 10)] {
        let took = Duration::from_millis(millis);
        paths.add(Instant::now(), &trace(hops), took, fresh);
    }
    assert_eq!(labels(&paths), [vec![3, 4], vec![1, 2]], "who promises too much is not believed");
    assert_eq!(paths.chosen.iter().map(Path::cost).collect::<Vec<_>>(), [60, 400]);
    let second = &mut paths.chosen[1];
    for _ in 0..60 {
        second.measure(Duration::from_millis(2));
    }
    assert!(second.cost() < 30, "{}: times are smoothed, and what is over is forgotten", second.cost());
    assert_eq!(second.patience(), Duration::from_millis(300));
}

#[test]
fn a_silent_way_gives_place_to_the_next_one() {
    let mut paths = paths(&[
        &[(1, Class::UDP, 10, 2), (2, Class::UDP, 10, 9)],
        &[(3, Class::UDP, 30, 3), (5, Class::UDP, 50, 9)],
    ]);
    paths.silent(paths.chosen[0].id);
    assert_eq!(labels(&paths), [vec![3, 5]]);
    paths.end();
    assert_eq!(labels(&paths), [vec![3, 5]]);
}

#[test]
fn rounds_that_show_nothing_new_are_counted_and_so_are_those_that_show_nothing() {
    let mut paths = paths(&[&[(1, Class::UDP, 10, 2), (2, Class::UDP, 10, 9)]]);
    paths.starts = BTreeMap::from([(1, false)]);
    for round in 1..4 {
        paths.end();
        assert_eq!(paths.barren, round);
    }
    for _ in 0..3 {
        paths.begin();
        paths.starts = BTreeMap::from([(1, false), (3, false)]);
        add(&mut paths, Instant::now(), &[(1, Class::UDP, 10, 2), (2, Class::UDP, 10, 9)]);
        paths.end();
        assert_eq!(paths.barren, 0);
        assert_eq!(paths.starts, BTreeMap::from([(1, true), (3, false)]), "nothing came back by 3");
    }
    assert_eq!(paths.steady, 3);
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
    for _ in 1..KEPT {
        paths.begin();
        paths.end();
        assert_eq!(labels(&paths), [vec![3, 5]], "one of the last rounds has shown it");
    }
    paths.begin();
    assert_eq!(paths.chosen.len(), 1, "there is time until the round ends");
    paths.end();
    assert!(paths.chosen.is_empty());
}

#[test]
fn the_answers_of_several_rounds_make_one_graph() {
    let mut paths = paths(&[&[(1, Class::UDP, 10, 2), (2, Class::UDP, 90, 3), (3, Class::UDP, 10, 9)]]);
    paths.end();
    paths.begin();
    add(
        &mut paths,
        Instant::now(),
        &[(4, Class::UDP, 10, 4), (5, Class::UDP, 10, 3), (6, Class::UDP, 70, 9)],
    );
    let cheapest = paths.cheapest(&BTreeSet::new()).expect("there is one");
    assert_eq!(cheapest.iter().map(|edge| edge.label).collect::<Vec<_>>(), [4, 5, 3]);
}

#[test]
fn a_graph_has_a_bound() {
    let mut paths = paths(&[]);
    for at in 0..2_000u16 {
        let node = (at % 250) as u8 + 2;
        add(&mut paths, Instant::now(), &[(at, Class::UDP, 10, node), (1, Class::UDP, 10, 9)]);
    }
    assert_eq!(paths.edges.len(), EDGES_MAX);
    assert!(paths.chosen.len() <= PATHS_MAX);
}
