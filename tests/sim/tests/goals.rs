//! Grove keeps its goals on 1,000 nodes, on all five kinds of networks.

use byway_sim::{Dice, Kind, Terrain};
use byway_simlab::goals::{Goal, Plan, measure};
use byway_simlab::memory::Counting;

// So that the goal of memory is measured too.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NODES: usize = 1_000;
const SEED: u64 = 1;

fn keeps_its_goals(kind: Kind) {
    let terrain = Terrain::new(kind, NODES, &mut Dice::new(SEED));
    let figures = measure(&Plan {
        name: kind.name().into(),
        terrain,
        kind: Some(kind),
        seed: SEED,
        trees: 4,
        quiet: false,
    });
    let judged = figures.iter().filter(|figure| figure.bound.is_some()).count();
    assert_eq!(judged, 16, "each goal is measured and has a bound");
    assert!(figures.iter().any(|figure| figure.goal == Goal::Memory && figure.value > 10_000.0));
    let missed: Vec<_> = figures.iter().filter(|figure| !figure.ok).collect();
    assert!(missed.is_empty(), "seed {SEED}: {missed:#?}");
}

#[test]
fn overlay_of_a_thousand_nodes_keeps_all_goals() {
    keeps_its_goals(Kind::Overlay);
}

#[test]
fn preferential_attachment_of_a_thousand_nodes_keeps_all_goals() {
    keeps_its_goals(Kind::Ba);
}

#[test]
fn tree_of_a_thousand_nodes_keeps_all_goals() {
    keeps_its_goals(Kind::Tree);
}

#[test]
fn random_geometric_graph_of_a_thousand_nodes_keeps_all_goals() {
    keeps_its_goals(Kind::Rgg);
}

#[test]
fn grid_of_a_thousand_nodes_keeps_all_goals() {
    keeps_its_goals(Kind::Grid);
}
