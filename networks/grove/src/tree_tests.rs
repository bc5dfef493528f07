use byway_identity::SigningKey;
use byway_network::{Family, NetworkId, Plane};

use super::*;
use crate::names::rank;

fn network() -> NetworkId {
    NetworkId::new("test", None)
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

/// Nodes in the order of their ranks in the tree, the best root first.
fn ranked(id: TreeId) -> Vec<u8> {
    let mut numbers: Vec<u8> = (0..12).collect();
    numbers.sort_by_key(|number| rank(&network(), id, &key(*number).public().addr()));
    numbers
}

struct Bench {
    id: TreeId,
    order: Vec<u8>,
    tree: Tree,
    now: Instant,
}

impl Bench {
    /// A node with the rank `own`, in the tree with this index.
    fn new(index: u8, own: usize) -> Self {
        let id = TreeId::new(Plane::Any, index);
        let order = ranked(id);
        let now = Instant::now();
        let addr = key(order[own]).public().addr();
        let tree = Tree::new(now, id, addr, rank(&network(), id, &addr), Seq::new(1));
        Self { id, order, tree, now }
    }

    fn root(&self, at: usize) -> Addr {
        key(self.order[at]).public().addr()
    }

    /// A peer, by the number in its address, under the root with the rank `root`.
    fn candidate(&self, peer: u8, root: usize, there: u32, link: u32) -> Candidate {
        let root = self.root(root);
        Candidate {
            hop: Hop { peer: Addr::from_bytes([peer; 32]), family: Family::Ip },
            root,
            rank: rank(&network(), self.id, &root),
            there,
            total: there + link,
        }
    }

    fn decide(&mut self, own: usize, candidates: &[Candidate]) -> Choice {
        let addr = self.root(own);
        let own = (addr, rank(&network(), self.id, &addr));
        self.tree.decide(self.now, own, candidates, false, 128)
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }
}

fn parent(choice: &Choice) -> Option<u8> {
    match choice {
        Choice::Parent(candidate) => Some(candidate.hop.peer.as_bytes()[0]),
        _ => None,
    }
}

#[test]
fn the_best_root_wins_and_then_the_cheapest_way_to_it() {
    let mut bench = Bench::new(1, 9);
    let candidates =
        [bench.candidate(1, 4, 5, 5), bench.candidate(2, 2, 90, 10), bench.candidate(3, 2, 60, 10)];
    assert_eq!(parent(&bench.decide(9, &candidates)), Some(3));
    assert_eq!(bench.tree.root, bench.root(2));
    let better = bench.candidate(4, 0, 500, 10);
    assert_eq!(parent(&bench.decide(9, &[candidates[2].clone(), better])), Some(4), "at once");
}

#[test]
fn a_node_with_the_best_rank_stays_its_own_root() {
    let mut bench = Bench::new(1, 0);
    let others = [bench.candidate(1, 3, 5, 5)];
    assert!(matches!(bench.decide(0, &others), Choice::Keep));
    assert_eq!(bench.tree.parent, None);
}

#[test]
fn a_cheaper_parent_is_taken_only_in_calm_and_never_one_that_may_be_below() {
    let mut bench = Bench::new(1, 9);
    let used = bench.candidate(1, 0, 90, 10);
    assert_eq!(parent(&bench.decide(9, std::slice::from_ref(&used))), Some(1));
    bench.pass(600);
    let cheaper = bench.candidate(2, 0, 40, 10);
    assert_eq!(
        parent(&bench.decide(9, &[used.clone(), cheaper.clone()])),
        Some(2),
        "the first change comes soon"
    );
    let cheapest = bench.candidate(3, 0, 20, 10);
    bench.pass(5_000);
    assert!(matches!(bench.decide(9, &[cheaper.clone(), cheapest.clone()]), Choice::Keep));
    assert!(bench.tree.due().is_some(), "it is looked at again when there is calm");
    bench.pass(26_000);
    assert_eq!(parent(&bench.decide(9, &[cheaper, cheapest.clone()])), Some(3));
    // The way has become dearer since: a peer that is further than this node ever was may be below it.
    bench.pass(60_000);
    let dear = Candidate { there: 300, total: 310, ..cheapest };
    let below = bench.candidate(4, 0, 50, 10);
    assert!(matches!(bench.decide(9, &[dear, below]), Choice::Keep));
}

#[test]
fn a_lost_parent_is_replaced_at_once_by_one_that_is_surely_not_below() {
    let mut bench = Bench::new(1, 9);
    let used = bench.candidate(1, 0, 90, 10);
    bench.decide(9, &[used]);
    let nearer = bench.candidate(2, 0, 99, 50);
    assert_eq!(parent(&bench.decide(9, &[nearer])), Some(2));
}

#[test]
fn a_lost_parent_is_replaced_by_any_under_the_same_root_after_a_moment() {
    let mut bench = Bench::new(1, 9);
    bench.decide(9, &[bench.candidate(1, 0, 90, 10)]);
    let further = bench.candidate(2, 0, 120, 10);
    assert!(matches!(bench.decide(9, std::slice::from_ref(&further)), Choice::Root), "it may be below");
    bench.pass(50);
    assert!(matches!(bench.decide(9, std::slice::from_ref(&further)), Choice::Keep));
    bench.pass(80);
    assert_eq!(parent(&bench.decide(9, &[further])), Some(2));
}

#[test]
fn another_root_is_taken_only_after_holding_down_unless_it_is_better() {
    for (root, early) in [(5, false), (0, true)] {
        let mut bench = Bench::new(1, 9);
        bench.decide(9, &[bench.candidate(1, 2, 90, 10)]);
        assert!(matches!(bench.decide(9, &[]), Choice::Root));
        let other = bench.candidate(2, root, 10, 10);
        bench.pass(200);
        assert_eq!(parent(&bench.decide(9, std::slice::from_ref(&other))).is_some(), early, "root {root}");
        bench.pass(450);
        assert!(bench.decide(9, &[other]).is_parent() || early);
    }
}

#[test]
fn a_parent_that_lost_its_root_is_followed_while_the_old_root_is_looked_for() {
    let mut bench = Bench::new(1, 9);
    bench.decide(9, &[bench.candidate(1, 2, 90, 10)]);
    // The parent has detached: it is under itself now, which is worse.
    let orphan = bench.candidate(1, 7, 0, 10);
    assert!(matches!(bench.decide(9, std::slice::from_ref(&orphan)), Choice::Keep));
    bench.pass(130);
    let found = bench.candidate(2, 2, 400, 10);
    assert_eq!(parent(&bench.decide(9, &[orphan, found])), Some(2));
}

/// A root that comes for a moment and goes again.
fn flap(bench: &mut Bench, times: u32) {
    for _ in 0..times {
        let choice = bench.decide(9, &[bench.candidate(1, 0, 10, 10)]);
        assert_eq!(parent(&choice), Some(1));
        bench.decide(9, &[]);
        bench.pass(700);
        bench.decide(9, &[]);
        // Until those who still offer it can have heard.
        bench.pass(300);
    }
}

#[test]
fn a_root_that_flaps_is_kept_waiting() {
    let mut bench = Bench::new(1, 9);
    flap(&mut bench, 2);
    let again = [bench.candidate(1, 0, 10, 10)];
    assert!(matches!(bench.decide(9, &again), Choice::Keep), "its time is not come");
    let mut waited = 0;
    while parent(&bench.decide(9, &again)).is_none() {
        bench.pass(1_000);
        waited += 1;
        assert!(waited < 200, "it is let in again");
    }
    assert!(waited >= 55, "{waited} s");
}

#[test]
fn the_first_tree_is_never_kept_waiting_for_long() {
    let mut bench = Bench::new(0, 9);
    for _ in 0..20 {
        let candidates = [bench.candidate(1, 0, 10, 10)];
        let mut waited = 0;
        while parent(&bench.decide(9, &candidates)).is_none() {
            bench.pass(100);
            waited += 100;
            assert!(waited <= 2_100, "{waited} ms");
        }
        bench.decide(9, &[]);
        bench.pass(700);
        bench.decide(9, &[]);
        // Until those who still offer it can have heard.
        bench.pass(300);
    }
}

#[test]
fn a_root_that_nobody_follows_gives_way_for_a_while() {
    let mut bench = Bench::new(1, 0);
    let other = [bench.candidate(1, 4, 10, 10)];
    assert!(matches!(bench.decide(0, &other), Choice::Keep));
    bench.pass(10_500);
    assert_eq!(parent(&bench.decide(0, &other)), Some(1));
    assert!(bench.decide(0, &other).is_keep());
}

#[test]
fn what_is_remembered_of_roots_has_a_bound() {
    let mut bench = Bench::new(1, 9);
    for number in 0..500u32 {
        let mut candidate = bench.candidate(1, 0, 10, 10);
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        candidate.root = Addr::from_bytes(bytes);
        bench.decide(9, &[candidate]);
    }
    assert!(bench.tree.pasts.len() <= ROOTS_MAX);
}

#[test]
fn a_root_without_a_pulse_is_silent_after_a_while() {
    let mut bench = Bench::new(1, 9);
    bench.decide(9, &[bench.candidate(1, 0, 10, 10)]);
    assert!(!bench.tree.is_silent(bench.now + PULSE_LIFE / 2));
    assert!(bench.tree.is_silent(bench.now + PULSE_LIFE));
}

#[test]
fn below_a_slow_link_a_root_may_be_silent_for_longer_than_between_two_pulses() {
    let mut bench = Bench::new(1, 9);
    bench.decide(9, &[bench.candidate(1, 0, 10, 10 + SLOW)]);
    assert!(!bench.tree.is_silent(bench.now + 3 * SLOW_PERIOD));
    assert!(bench.tree.is_silent(bench.now + SLOW_LIFE));
}

impl Choice {
    fn is_parent(&self) -> bool {
        matches!(self, Self::Parent(_))
    }

    fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}
