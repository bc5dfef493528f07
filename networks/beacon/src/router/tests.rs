use byway_identity::{SeededEntropy, SigningKey};
use byway_network::NetworkId;

use super::*;
use crate::claim::TICK;

fn network() -> NetworkId {
    NetworkId::new("test", None)
}

fn key(number: u64) -> SigningKey {
    SigningKey::generate(&mut SeededEntropy::new(number))
}

fn addr(number: u64) -> Addr {
    key(number).public().addr()
}

fn hop(number: u64) -> Hop {
    Hop { peer: addr(number), family: Family::Ip }
}

fn claim(number: u64, boot: u64, counter: u64) -> Claim {
    let mut own = Own::new(key(number), network(), [number as u8; 32], boot, PERIOD_MIN);
    for _ in 1..counter {
        own.renew(PERIOD_MIN);
    }
    (**own.claim()).clone()
}

fn beacon(claim: Claim, hops: u8) -> Bytes {
    let advert = Advert { hops, cost: Cost::from_units(u32::from(hops) * 20), left: claim.life() };
    Frame::Beacon { plane: Plane::Any, advert, claim }.emit()
}

fn setup(number: u64, leaf: bool) -> Setup {
    let entropy = Box::new(SeededEntropy::new(number));
    Setup { key: key(number), network: network(), digest: [0; 32], boot: 1, leaf, entropy }
}

/// Node 0 with the neighbours `peers`.
fn router(now: Instant, peers: &[u64]) -> Router {
    let mut router = Router::new(now, setup(0, false), 4_000);
    for peer in peers {
        router.peer_up(now, hop(*peer), Class::UDP, Cost::from_units(20), &mut Outbox::default());
    }
    router
}

fn hears(
    router: &mut Router,
    now: Instant,
    from: u64,
    frame: Bytes,
) -> (Result<(), FrameError>, Vec<Action>) {
    let mut out = Outbox::default();
    let result = router.handle_below(now, hop(from), frame, &mut out);
    (result, out.drain().collect())
}

fn next(router: &Router, to: u64) -> Option<Hop> {
    router.next_hop(To::Node(addr(to)), &Constraint::in_plane(Plane::Any))
}

#[test]
fn forged_beacons_are_rejected() {
    let now = Instant::now();
    let mut router = router(now, &[1]);
    let genuine = beacon(claim(5, 10, 3), 2);
    for at in 7..genuine.len() {
        let mut forged = genuine.to_vec();
        forged[at] ^= 1;
        let (result, actions) = hears(&mut router, now, 1, forged.into());
        assert!(result.is_err(), "byte {at}");
        assert!(actions.is_empty(), "byte {at} is passed on");
    }
    let other = Own::new(key(5), NetworkId::new("other", None), [5; 32], 10, PERIOD_MIN);
    let (result, _) = hears(&mut router, now, 1, beacon((**other.claim()).clone(), 2));
    assert_eq!(result, Err(FrameError::Forged), "a beacon of another network");
    assert_eq!(router.routes(9), []);
    assert_eq!(hears(&mut router, now, 1, genuine).0, Ok(()));
    assert_eq!(next(&router, 5), Some(hop(1)));
}

#[test]
fn one_overheard_beacon_lets_nobody_forge_a_newer_one() {
    let now = Instant::now();
    let mut router = router(now, &[1, 2]);
    hears(&mut router, now, 1, beacon(claim(5, 10, 3), 2)).0.expect("it is genuine");
    let (old, new) = (claim(5, 10, 3), claim(5, 10, 4));
    let spliced = [&new.bytes[..new.bytes.len() - 64], &old.bytes[old.bytes.len() - 64..]].concat();
    let advert = Advert { hops: 0, cost: Cost::ZERO, left: old.life() };
    let frame = Frame::Beacon { plane: Plane::Any, advert, claim: new }.emit();
    let forged = [&frame[..7], &spliced].concat();
    assert_eq!(hears(&mut router, now, 2, forged.into()).0, Err(FrameError::Forged));
    assert_eq!(next(&router, 5), Some(hop(1)));
}

#[test]
fn a_replayed_beacon_is_ignored() {
    let now = Instant::now();
    let mut router = router(now, &[1, 2, 3]);
    let later = now + Duration::from_secs(1);
    hears(&mut router, now, 1, beacon(claim(5, 10, 3), 2)).0.expect("it is genuine");
    hears(&mut router, later, 1, beacon(claim(5, 10, 4), 2)).0.expect("it is genuine");
    for (boot, counter) in [(10, 3), (10, 1), (9, 100)] {
        let (result, actions) = hears(&mut router, later, 2, beacon(claim(5, boot, counter), 0));
        assert_eq!(result, Ok(()));
        assert!(!actions.iter().any(|action| matches!(action, Action::Send { .. })), "it is passed on");
        assert_eq!(next(&router, 5), Some(hop(1)), "claim {counter} of start {boot}");
    }
    let expired = later + claim(5, 10, 4).life();
    router.heartbeat(expired, &mut Outbox::default());
    assert_eq!(next(&router, 5), None, "replays keep nobody alive");
}

#[test]
fn a_replay_in_another_plane_is_ignored_too() {
    let now = Instant::now();
    let mut router = router(now, &[1]);
    let tor = Hop { peer: addr(2), family: Family::Tor };
    router.peer_up(now, tor, Class::UDP, Cost::from_units(20), &mut Outbox::default());
    hears(&mut router, now, 1, beacon(claim(5, 10, 4), 2)).0.expect("it is genuine");
    let advert = Advert { hops: 0, cost: Cost::ZERO, left: Duration::from_secs(8) };
    let frame = Frame::Beacon { plane: Plane::Anon, advert, claim: claim(5, 10, 3) }.emit();
    router.handle_below(now, tor, frame, &mut Outbox::default()).expect("it is genuine, and old");
    assert_eq!(router.next_hop(To::Node(addr(5)), &Constraint::in_plane(Plane::Anon)), None);
}

#[test]
fn a_restart_takes_over_at_once_and_the_former_life_is_over() {
    let now = Instant::now();
    let mut router = router(now, &[1, 2]);
    hears(&mut router, now, 1, beacon(claim(5, 10, 90), 2)).0.expect("it is genuine");
    let (_, actions) = hears(&mut router, now, 2, beacon(claim(5, 11, 1), 3));
    assert_eq!(next(&router, 5), Some(hop(2)));
    let passed_on = |action: &Action| matches!(action, Action::Send { hop: to, .. } if *to == hop(1));
    assert!(actions.iter().any(passed_on), "the other neighbours learn it at once");
    hears(&mut router, now, 1, beacon(claim(5, 10, 91), 1)).0.expect("it is genuine, and old");
    assert_eq!(next(&router, 5), Some(hop(2)));
}

#[test]
fn a_greeting_in_the_name_of_another_is_rejected() {
    let now = Instant::now();
    let mut router = router(now, &[1]);
    let hello = |claim| Frame::Hello { leaf: false, answer: true, claim }.emit();
    assert_eq!(hears(&mut router, now, 1, hello(claim(2, 1, 1))).0, Err(FrameError::Forged));
    assert_eq!(hears(&mut router, now, 1, hello(claim(1, 1, 1))).0, Ok(()));
    assert_eq!(next(&router, 1), Some(hop(1)));
}

#[test]
fn a_start_with_the_clock_set_back_is_outbid() {
    let now = Instant::now();
    let mut router = router(now, &[1]);
    let before = router.own.claim().seq;
    hears(&mut router, now, 1, beacon(claim(0, 500, 7), 2)).0.expect("it is genuine");
    router.heartbeat(now + Duration::from_secs(1), &mut Outbox::default());
    assert!(router.own.claim().seq > Seq { boot: 500, counter: 7 });
    assert!(before < router.own.claim().seq);
}

#[test]
fn a_neighbour_introduces_its_share_and_no_more() {
    let now = Instant::now();
    let mut router = router(now, &[1, 2]);
    let mut excess = 0;
    for stranger in 100..400 {
        excess += u32::from(
            hears(&mut router, now, 1, beacon(claim(stranger, 1, 1), 2)).0 == Err(FrameError::Excess),
        );
    }
    assert_eq!((router.nodes.len(), excess), (256, 44), "a burst is bounded");
    let mut later = now;
    for stranger in 400..800 {
        later += Duration::from_millis(40);
        // Those that came first would expire; here only the share of the neighbour is of interest.
        let mut claim = claim(stranger, 1, 1);
        claim.period = PERIOD_MAX;
        let _ = hears(&mut router, later, 1, beacon(claim, 2));
    }
    assert!(router.nodes.values().filter(|node| node.introduced_by == hop(1)).count() <= NODES_PER_HOP);
    let (result, _) = hears(&mut router, later, 2, beacon(claim(900, 1, 1), 2));
    assert_eq!((result, next(&router, 900)), (Ok(()), Some(hop(2))), "another neighbour is not disturbed");
}

#[test]
fn a_full_table_takes_no_stranger_but_still_a_neighbour() {
    let now = Instant::now();
    let peers: Vec<u64> = (1..=8).collect();
    let mut router = router(now, &peers);
    let long = |number: u64| (**Own::new(key(number), network(), [0; 32], 1, PERIOD_MAX).claim()).clone();
    for stranger in 0..1_100 {
        let _ = hears(&mut router, now, peers[stranger % 8], beacon(long(100 + stranger as u64), 2));
    }
    assert_eq!(router.nodes.len(), NODES_MAX);
    let (result, _) = hears(&mut router, now, 1, beacon(long(5_000), 2));
    assert_eq!((result, next(&router, 5_000)), (Ok(()), None));
    hears(&mut router, now, 3, Frame::Hello { leaf: false, answer: false, claim: long(3) }.emit())
        .0
        .expect("it is genuine");
    assert_eq!((router.nodes.len(), next(&router, 3)), (NODES_MAX, Some(hop(3))));
}

#[test]
fn neighbours_are_counted_too() {
    let now = Instant::now();
    let mut router = router(now, &[]);
    for number in 0..HOPS_MAX as u64 + 10 {
        let mut peer = [1; 32];
        peer[..8].copy_from_slice(&number.to_be_bytes());
        let hop = Hop { peer: Addr::from_bytes(peer), family: Family::Ip };
        router.peer_up(now, hop, Class::UDP, Cost::LOOPBACK, &mut Outbox::default());
    }
    assert_eq!(router.hops.len(), HOPS_MAX);
}

#[test]
fn signatures_are_checked_only_so_often_for_one_neighbour() {
    let now = Instant::now();
    let mut router = router(now, &[1]);
    hears(&mut router, now, 1, beacon(claim(5, 1, 1), 1)).0.expect("it is genuine");
    let mut forged = beacon(claim(5, 1, 2), 1).to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged = Bytes::from(forged);
    let refused =
        (0..2_000).filter(|_| hears(&mut router, now, 1, forged.clone()).0 == Err(FrameError::Excess));
    assert!(refused.count() >= 900);
    assert_eq!(next(&router, 5), Some(hop(1)));
}

#[test]
fn a_node_that_talks_too_much_is_heard_only_so_often() {
    let now = Instant::now();
    let mut router = router(now, &[1, 2]);
    hears(&mut router, now, 2, Frame::Hello { leaf: false, answer: false, claim: claim(2, 1, 1) }.emit())
        .0
        .expect("it is genuine");
    let mut own = Own::new(key(5), network(), [5; 32], 1, PERIOD_MIN);
    let mut passed_on = 0;
    for _ in 0..100 {
        own.renew(PERIOD_MIN);
        let (result, actions) = hears(&mut router, now, 1, beacon((**own.claim()).clone(), 1));
        assert_eq!(result, Ok(()), "the neighbour is not to blame");
        let onwards = |action: &&Action| matches!(action, Action::Send { hop: to, .. } if *to == hop(2));
        passed_on += actions.iter().filter(onwards).count();
    }
    assert!(passed_on <= 10, "{passed_on} beacons were passed on");
    let later = now + Duration::from_secs(1);
    own.renew(PERIOD_MIN);
    hears(&mut router, later, 1, beacon((**own.claim()).clone(), 1)).0.expect("it is genuine");
    assert!(router.way_of(Plane::Any, addr(5)).is_some_and(|way| way.claim() == own.claim()));
}

#[test]
fn complaints_of_a_neighbour_cost_only_its_own_ways() {
    let now = Instant::now();
    let mut router = router(now, &[1, 2]);
    hears(&mut router, now, 1, beacon(claim(5, 1, 1), 1)).0.expect("it is genuine");
    let lost = Lost { target: addr(5), seq: Seq::NOTHING_KNOWN };
    let frame = Frame::Lost { plane: Plane::Any, lost: vec![lost; frame::LOST_MAX] }.emit();
    let results: Vec<_> = (0..1_100).map(|_| hears(&mut router, now, 2, frame.clone()).0).collect();
    assert_eq!(next(&router, 5), Some(hop(1)));
    assert!(results.contains(&Err(FrameError::Excess)), "complaints are not endless");
    hears(&mut router, now, 1, frame).0.expect("the neighbour in use may complain");
    assert_eq!(next(&router, 5), None);
}

#[test]
fn the_hop_limit_holds_for_data_and_beacons() {
    let now = Instant::now();
    let mut router = router(now, &[1, 2]);
    hears(&mut router, now, 1, beacon(claim(5, 1, 1), 1)).0.expect("it is genuine");
    let data = |ttl| frame::with_ttl(frame::data(Plane::Any, addr(5), b"x"), ttl);
    assert_eq!(hears(&mut router, now, 2, data(1)).0, Err(FrameError::HopLimit));
    let (result, actions) = hears(&mut router, now, 2, data(2));
    assert_eq!((result, actions), (Ok(()), vec![Action::Send { hop: hop(1), frame: data(1) }]));
    let (result, actions) = hears(&mut router, now, 1, data(9));
    assert_eq!(result, Err(FrameError::NoWay), "nothing goes back to where it came from");
    assert!(!actions.is_empty(), "and the neighbour is told");
    let endless = Frame::Beacon {
        plane: Plane::Any,
        advert: Advert { hops: HOP_LIMIT, cost: Cost::ZERO, left: TICK },
        claim: claim(6, 1, 1),
    };
    assert_eq!(hears(&mut router, now, 1, endless.emit()).0, Err(FrameError::HopLimit));
}

#[test]
fn what_an_idle_node_sends_stays_within_its_budget() {
    let now = Instant::now();
    let peers: Vec<u64> = (1..=10).collect();
    let mut router = router(now, &peers);
    for peer in &peers {
        let hello = Frame::Hello { leaf: false, answer: false, claim: claim(*peer, 1, 1) };
        hears(&mut router, now, *peer, hello.emit()).0.expect("it is genuine");
    }
    for stranger in 100..290 {
        let from = peers[stranger as usize % 10];
        hears(&mut router, now, from, beacon(claim(stranger, 1, 1), 2)).0.expect("it is genuine");
    }
    assert_eq!(router.nodes.len(), 200);
    // Once per period each node's beacon leaves by each of 10 hops.
    let period = router.period_now();
    assert!(201 * 10 * BEACON_SIZE <= 4_000 * (period.as_secs() + 1), "{period:?}");
    assert!(period < PERIOD_MAX);
}

#[test]
fn a_leaf_is_told_what_it_asked_for_and_believes_only_the_signer() {
    use crate::leaf::Leaf;

    let now = Instant::now();
    let hub = Hop { peer: addr(0), family: Family::Loopback };
    let at_hub = Hop { peer: addr(7), family: Family::Loopback };
    let mut router = router(now, &[1]);
    let mut leaf = Leaf::new(now, setup(7, true));
    let (mut to_hub, mut to_leaf) = (Outbox::default(), Outbox::default());
    leaf.peer_up(now, hub, Cost::LOOPBACK, &mut to_hub);
    router.peer_up(now, at_hub, Class::UDP, Cost::LOOPBACK, &mut to_leaf);
    leaf.find(now, Prefix::whole(addr(5)), &Constraint::in_plane(Plane::Any), &mut to_hub);
    for action in to_hub.drain() {
        let Action::Send { frame, .. } = action else { panic!("{action:?}") };
        router.handle_below(now, at_hub, frame, &mut to_leaf).expect("a leaf says nothing wrong");
    }
    assert_eq!(router.next_hop(To::Node(addr(7)), &Constraint::in_plane(Plane::Offgrid)), Some(at_hub));
    to_leaf.drain();

    let genuine = claim(5, 1, 1);
    let mut out = Outbox::default();
    let mut forged = Frame::Tell { plane: Plane::Any, claim: genuine.clone() }.emit().to_vec();
    forged[60] ^= 1;
    assert_eq!(leaf.handle_below(now, hub, &forged.into(), &mut out), Err(FrameError::Forged));
    let unasked = Frame::Tell { plane: Plane::Any, claim: claim(6, 1, 1) }.emit();
    assert_eq!(leaf.handle_below(now, hub, &unasked, &mut out), Ok(()));
    assert!(out.is_empty());

    let (result, actions) = hears(&mut router, now, 1, beacon(genuine.clone(), 1));
    assert_eq!(result, Ok(()));
    let tell = actions.into_iter().find_map(|action| match action {
        Action::Send { hop, frame } if hop == at_hub => Some(frame),
        _ => None,
    });
    leaf.handle_below(now, hub, &tell.expect("the question waited"), &mut out).expect("it is genuine");
    assert_eq!(out.drain().collect::<Vec<_>>(), [found(Prefix::whole(addr(5)), &genuine)]);
}

#[test]
fn a_target_that_the_hub_does_not_know_is_reported_to_the_leaf() {
    use crate::leaf::Leaf;

    let now = Instant::now();
    let hub = Hop { peer: addr(0), family: Family::Loopback };
    let at_hub = Hop { peer: addr(7), family: Family::Loopback };
    let mut router = router(now, &[]);
    let mut leaf = Leaf::new(now, setup(7, true));
    let mut out = Outbox::default();
    leaf.peer_up(now, hub, Cost::LOOPBACK, &mut out);
    router.peer_up(now, at_hub, Class::UDP, Cost::LOOPBACK, &mut Outbox::default());
    out.drain();
    let by = Constraint::in_plane(Plane::Any);
    leaf.handle_above(To::Node(addr(5)), &Bytes::from_static(b"x"), &by, &mut out)
        .expect("a leaf has its hub");
    let Some(Action::Send { frame, .. }) = out.drain().next() else { panic!("nothing was sent") };
    let result = router.handle_below(now, at_hub, frame, &mut out);
    assert_eq!(result, Err(FrameError::NoWay));
    let Some(Action::Send { frame, .. }) = out.drain().next() else { panic!("nothing was answered") };
    leaf.handle_below(now, hub, &frame, &mut out).expect("it is a fine answer");
    let why = Unroutable::Unknown;
    assert_eq!(out.drain().collect::<Vec<_>>(), [Action::Unroutable { to: To::Node(addr(5)), why }]);
}

#[test]
fn the_map_has_the_links_of_this_node_and_the_nodes_beyond_without_theirs() {
    let now = Instant::now();
    let mut router = router(now, &[1, 2]);
    router.peer_cost(now, hop(2), Class::new(Family::Ip, 1), Cost::from_units(40), &mut Outbox::default());
    for node in [2, 5] {
        assert_eq!(hears(&mut router, now, 1, beacon(claim(node, 10, 3), 2)).0, Ok(()));
    }
    let map = router.map(10);
    assert!(map.trees.is_empty());
    assert_eq!(map.nodes[0], addr(0), "this node comes first");
    let nodes: BTreeSet<Addr> = map.nodes.iter().copied().collect();
    assert_eq!((nodes.len(), map.nodes.len()), (4, 4), "each once");
    assert_eq!(map.nodes[3], addr(5), "neighbours come before the others");
    let mut links: Vec<_> = map.links.iter().map(|link| (link.b, link.class, link.cost.units())).collect();
    links.sort();
    let mut expected = [(addr(1), Class::UDP, 20), (addr(2), Class::new(Family::Ip, 1), 40)];
    expected.sort();
    assert_eq!(links, expected);
    for limit in 0..5 {
        let map = router.map(limit);
        assert_eq!((map.nodes.len(), map.links.len()), (limit.min(4), limit.min(2)));
    }
}
