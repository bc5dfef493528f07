use byway_identity::{Prefix, SeededEntropy};
use byway_network::Action;

use super::*;
use crate::cert::CertClaim;
use crate::cert::tests::{cert, key, network};
use crate::frame::{Item, Lookup, Manner};

fn hop(number: u8, family: Family) -> Hop {
    Hop { peer: key(number).public().addr(), family }
}

fn router(now: Instant) -> Router {
    let entropy = Box::new(SeededEntropy::new(1));
    let setup = Setup { key: key(0), network: network(), digest: [0; 32], boot: 1, leaf: false, entropy };
    Router::new(now, setup, Config::default())
}

/// Node 0 with the peer 1, which has said who it is.
fn with_peer(now: Instant) -> Router {
    let mut router = router(now);
    let hop = hop(1, Family::Ip);
    router.peer_up(now, hop, Class::UDP, Cost::from_units(50), &mut Outbox::default());
    let key = Some(*key(1).public().as_raw());
    let (leaf, answer) = (false, false);
    let hello = Hello { leaf, answer, boot: 1, cost: 50, certs: 0, filters: 0, view: 0, key };
    hears(&mut router, now, &Frame::Hello(hello)).expect("it is a greeting");
    router
}

fn hears(router: &mut Router, now: Instant, frame: &Frame) -> Result<(), FrameError> {
    router.handle_below(now, hop(1, Family::Ip), frame.emit(), &mut Outbox::default())
}

/// One link below the peer 1, which is the root of tree 1.
fn below_peer() -> Coords {
    let (tree, root) = (TreeId::new(Plane::Any, 1), crate::coords::root_id(&key(1).public().addr()));
    let steps = Box::new([Step { label: 9, cost: 30 }]);
    Coords::new(vec![crate::coords::Place { tree, root, steps }])
}

#[test]
fn there_is_room_for_so_many_hops_and_no_more() {
    let now = Instant::now();
    let mut router = router(now);
    for number in 0..LEAVES_MAX as u32 + 100 {
        for (family, class) in [(Family::Ip, Class::UDP), (Family::Loopback, Class::LOOPBACK)] {
            let mut bytes = [3; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            let hop = Hop { peer: Addr::from_bytes(bytes), family };
            router.peer_up(now, hop, class, Cost::LOOPBACK, &mut Outbox::default());
        }
    }
    assert_eq!(router.peers.len(), HOPS_MAX + LEAVES_MAX);
    assert_eq!(router.labels.len(), router.peers.len(), "no two links have one label");
}

#[test]
fn forged_and_replayed_certificates_change_nothing() {
    let now = Instant::now();
    let mut router = with_peer(now);
    let (old, new) = (cert(2, 1, 3), cert(2, 1, 4));
    hears(&mut router, now, &Frame::Certs(vec![Item::Cert(cert(1, 1, 1).claim()), Item::Cert(new.claim())]))
        .expect("they are genuine");
    let spliced = CertClaim { seq: Seq { boot: 9, counter: 5 }, ..new.claim() };
    let forged = hears(&mut router, now, &Frame::Certs(vec![Item::Cert(spliced)]));
    assert_eq!(forged, Err(FrameError::Forged));
    hears(&mut router, now, &Frame::Certs(vec![Item::Cert(old.claim())])).expect("it is genuine, if old");
    let held = router.store.get(new.tree, &new.child()).map(|held| held.seq);
    assert!(held.is_none_or(|held| held == new.seq), "{held:?}");
}

#[test]
fn a_flood_of_lookups_is_cut_off() {
    let now = Instant::now();
    let mut router = with_peer(now);
    let manner = Manner { sample: false, wide: true, down: false, fresh: true };
    let prefix = Prefix::whole(Addr::from_bytes([7; 32]));
    let tree = TreeId::new(Plane::Any, 0);
    let lookup = |nonce| Lookup { tree, manner, prefix, nonce, ttl: 9, way: Vec::new() };
    let refused = (0..3_000)
        .find(|nonce| hears(&mut router, now, &Frame::Lookup(lookup(*nonce))) == Err(FrameError::Excess));
    assert_eq!(refused, Some(1_024));
}

#[test]
fn a_question_is_passed_on_for_neighbours_in_its_tree_alone() {
    let now = Instant::now();
    let mut router = with_peer(now);
    let manner = Manner { sample: false, wide: true, down: false, fresh: true };
    let asked = |tree, addr| {
        let prefix = Prefix::whole(addr);
        Frame::Lookup(Lookup { tree, manner, prefix, nonce: 1, ttl: 9, way: Vec::new() })
    };
    let tree = TreeId::new(Plane::Any, 0);
    let (own, stranger) = (router.own.addr, Addr::from_bytes([7; 32]));
    assert_eq!(hears(&mut router, now, &asked(tree, stranger)), Err(FrameError::NoWay));
    assert_eq!(hears(&mut router, now, &asked(tree, own)), Ok(()), "the target answers whoever asks");
    let parent = router.trees.get_mut(&tree).expect("there is a peer, so there are trees");
    parent.parent = Some(hop(1, Family::Ip));
    assert_eq!(hears(&mut router, now, &asked(tree, stranger)), Ok(()));
    assert_eq!(hears(&mut router, now, &asked(TreeId::new(Plane::Any, 1), stranger)), Err(FrameError::NoWay));
}

#[test]
fn remaining_falls_at_each_hop_and_the_mask_never_grows() {
    let now = Instant::now();
    let mut router = with_peer(now);
    hears(&mut router, now, &Frame::Certs(vec![Item::Cert(cert(1, 1, 1).claim())])).expect("it is genuine");
    let tree = TreeId::new(Plane::Any, 1);
    for remaining in [0, 1, 60, 200, u32::MAX] {
        let coords = below_peer();
        let to = ShortId([5; 8]);
        let head = packet::Steered { plane: Plane::Any, ttl: 9, mask: tree.bit(), remaining, to, coords };
        if let Some((best, mask, left)) = router.steer(&head) {
            assert!(mask != head.mask || left < remaining, "{remaining}");
            assert!(mask & !head.mask == 0 && best.link >= 1);
        }
    }
    let mut out = Outbox::default();
    router.heartbeat(now + Duration::from_secs(1), &mut out);
    assert!(!out.drain().any(|action| matches!(action, Action::Deliver { .. })));
}

#[test]
fn a_payload_that_comes_back_is_sent_again_so_often_and_over_links_like_that_alone() {
    let now = Instant::now();
    let mut router = with_peer(now);
    hears(&mut router, now, &Frame::Certs(vec![Item::Cert(cert(1, 1, 1).claim())])).expect("it is genuine");
    let seq = Seq { boot: 1, counter: 1 };
    let location = Location::make(&key(5), &network(), seq, Plane::Any, below_peer(), [0; 32]);
    assert!(router.remotes.learn(now, location));
    let to = short_id(&key(5).public().addr());
    let what = [&to.0[..], &[0, 0], b"payload"].concat();
    let broken =
        packet::Led { at: 0, ..packet::Led::start(Plane::Any, Vec::new()) }.emit(packet::BROKEN, &what);
    let sent_again = |router: &mut Router, by: Family| {
        let mut out = Outbox::default();
        let heard = router.handle_below(now, hop(1, by), broken.clone(), &mut out);
        let data = |action: &Action| {
            matches!(action, Action::Send { hop, frame }
                if hop.family == by && frame[0] == packet::DATA && frame.ends_with(b"payload"))
        };
        let again = out.drain().filter(data).count();
        assert!(heard.is_ok() || again == 0);
        again
    };
    assert_eq!((0..100).map(|_| sent_again(&mut router, Family::Ip)).sum::<usize>(), 32);
    // What left by a link of another kind does not leave by this one now.
    let mut other = with_peer(now);
    let remote = router.remotes.get(&key(5).public().addr(), Plane::Any).expect("it was learned").clone();
    let location = Location::make(&key(5), &network(), remote.seq, Plane::Any, remote.coords, [0; 32]);
    assert!(other.remotes.learn(now, location));
    other.peer_up(
        now,
        hop(1, Family::Tor),
        Class::new(Family::Tor, 0),
        Cost::from_units(9),
        &mut Outbox::default(),
    );
    assert_eq!(sent_again(&mut other, Family::Tor), 0);
}
