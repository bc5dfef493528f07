//! Some of the nodes misbehave, and the others still reach one another.

mod field;

use std::collections::BTreeSet;
use std::time::Duration;

use byway_sim::Kind;
use byway_simlab::adversary::mischief::{AllOnes, BlackHole, FlappingRoot, Forger, LabelReuse, LookupFlood};
use byway_simlab::frames::kind;
use field::{Field, roots, tenth};

const NODES: usize = 200;

#[test]
fn black_holes_swallow_little_of_what_others_send() {
    for (topology, seed) in [(Kind::Overlay, 1), (Kind::Rgg, 2)] {
        Field::new(topology, NODES, seed, tenth(NODES, seed), |_, _| BlackHole).hold();
    }
}

#[test]
fn a_root_that_flaps_takes_its_own_tree_and_no_other() {
    for (topology, seed) in [(Kind::Ba, 3), (Kind::Rgg, 4)] {
        let roots = roots(topology, NODES, seed);
        // The first tree, which knows no ban, and one that does.
        let flapping = roots.clone();
        let bad = BTreeSet::from([roots[0], roots[1]]);
        Field::new(topology, NODES, seed, bad, move |now, node| {
            let tree = flapping.iter().position(|root| *root == node).unwrap_or_default();
            FlappingRoot::new(tree as u8, Duration::from_secs(2), now + Duration::from_secs(5))
        })
        .hold();
    }
}

#[test]
fn whoever_claims_to_have_everyone_below_it_hides_nobody() {
    for (topology, seed) in [(Kind::Overlay, 5), (Kind::Rgg, 6)] {
        Field::new(topology, NODES, seed, tenth(NODES, seed), |_, _| AllOnes).hold();
    }
}

/// Forgers swallow what they should carry as well.
fn forge(topology: Kind, seed: u64) {
    let forgers = |now, _| Forger::new(now + Duration::from_secs(10));
    let mut field = Field::new(topology, NODES, seed, tenth(NODES, seed), forgers);
    field.hold();
    let honest = (0..field.world.len()).filter(|node| !field.bad.contains(node));
    let forged: u64 = honest.map(|node| field.world.errors(node).get("forged").copied().unwrap_or(0)).sum();
    assert!(forged > 1_000, "seed {seed}: only {forged} forgeries were noticed");
}

#[test]
fn forged_and_replayed_certificates_move_nobody() {
    forge(Kind::Overlay, 7);
}

#[test]
fn forged_and_replayed_certificates_move_nobody_in_a_mesh() {
    forge(Kind::Rgg, 8);
}

#[test]
fn a_label_given_twice_leads_few_astray() {
    for (topology, seed) in [(Kind::Overlay, 9), (Kind::Rgg, 10)] {
        Field::new(topology, NODES, seed, tenth(NODES, seed), |_, _| LabelReuse).hold();
    }
}

#[test]
fn a_flood_of_questions_drowns_no_other_question() {
    for (topology, seed, disguised) in
        [(Kind::Overlay, 11, false), (Kind::Rgg, 12, false), (Kind::Rgg, 13, true)]
    {
        let flood = move |now, node: usize| {
            LookupFlood::new(now + Duration::from_secs(20), field::TREES, disguised, seed ^ node as u64)
        };
        // Two in a hundred: each shouts into all of its links.
        let bad: BTreeSet<usize> = tenth(NODES, seed).into_iter().take(NODES / 50).collect();
        let mut field = Field::new(topology, NODES, seed, bad.clone(), flood);
        // What the first burst has let through is gone.
        field.world.run_for(Duration::from_secs(30));
        let passed = |field: &Field| -> u64 {
            let honest = (0..field.world.len()).filter(|node| !bad.contains(node));
            honest.map(|node| field.world.sent(node, kind::LOOKUP).frames).sum()
        };
        let (before, began) = (passed(&field), field.world.elapsed());
        field.hold();
        let seconds = (field.world.elapsed() - began).as_secs_f64();
        let rate = (passed(&field) - before) as f64 / seconds / (NODES - bad.len()) as f64;
        println!("{} seed {seed}: {rate:.1} questions per second and honest node", topology.name());
    }
}
