use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{SeededEntropy, SigningKey};
use byway_network::{Action, Constraint, Cost, Family, FrameError, Network, NetworkId, Outbox, Setup, To};
use proptest::prelude::*;

use super::*;
use crate::Beacon;
use crate::claim::{Claim, Own, PERIOD_MAX};
use crate::frame::{self, Advert};

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

/// Keys and claims are slow to make, and all cases need the same ones.
fn addr(number: u8) -> Addr {
    static ADDRS: LazyLock<Vec<Addr>> =
        LazyLock::new(|| (0..16).map(|number| key(number).public().addr()).collect());
    ADDRS[usize::from(number)]
}

fn hop(number: u8, family: Family) -> Hop {
    Hop { peer: addr(number), family }
}

fn claim(number: u8, counter: u64) -> Claim {
    static CLAIMS: LazyLock<Vec<Vec<Claim>>> = LazyLock::new(|| {
        let of = |number| {
            let mut own = Own::new(key(number), NetworkId::new("test", None), [0; 32], 1, PERIOD_MAX);
            let claims = (0..8).map(|_| {
                let claim = (**own.claim()).clone();
                own.renew(PERIOD_MAX);
                claim
            });
            claims.collect()
        };
        (0..9).map(of).collect()
    });
    CLAIMS[usize::from(number)][counter as usize - 1].clone()
}

/// Node 0; a leaf or not.
fn node(now: Instant, leaf: bool) -> Beacon {
    let (network, entropy) = (NetworkId::new("test", None), Box::new(SeededEntropy::new(1)));
    Beacon::new(now, Setup { key: key(0), network, digest: [0; 32], boot: 1, leaf, entropy })
}

fn beacon(plane: Plane, claim: Claim, cost: u32) -> Bytes {
    let advert = Advert { hops: 2, cost: Cost::from_units(cost), left: Duration::from_secs(60) };
    Frame::Beacon { plane, advert, claim }.emit()
}

/// Anything that changes what a node knows.
#[derive(Clone, Debug)]
enum Event {
    Up(u8, Family, u32),
    Down(u8, Family),
    Reprice(u8, Family, u32),
    Beacon { from: u8, family: Family, plane: Plane, of: u8, counter: u64, cost: u32 },
    Time(u64),
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(&[Family::Loopback, Family::Ip, Family::Tor][..])
}

fn plane() -> impl Strategy<Value = Plane> {
    prop::sample::select(&Plane::ALL[..])
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1u8..5, family(), 1u32..90).prop_map(|(peer, family, cost)| Event::Up(peer, family, cost)),
        1 => (1u8..5, family()).prop_map(|(peer, family)| Event::Down(peer, family)),
        1 => (1u8..5, family(), 1u32..90).prop_map(|(peer, family, cost)| Event::Reprice(peer, family, cost)),
        6 => (1u8..5, family(), plane(), 5u8..9, 1u64..4, 1u32..200).prop_map(
            |(from, family, plane, of, counter, cost)| Event::Beacon { from, family, plane, of, counter, cost }
        ),
        1 => (1u64..40_000).prop_map(Event::Time),
    ]
}

fn apply(node: &mut Beacon, now: &mut Instant, event: &Event) {
    let mut out = Outbox::default();
    let class = |family| byway_network::Class::new(family, 0);
    match *event {
        Event::Up(peer, family, cost) => {
            node.peer_up(*now, hop(peer, family), class(family), Cost::from_units(cost), &mut out);
        }
        Event::Down(peer, family) => node.peer_down(*now, hop(peer, family), &mut out),
        Event::Reprice(peer, family, cost) => {
            node.peer_cost(*now, hop(peer, family), class(family), Cost::from_units(cost), &mut out);
        }
        Event::Beacon { from, family, plane, of, counter, cost } => {
            let frame = beacon(plane, claim(of, counter), cost);
            // Many a one is refused, which is as good.
            let _refused = node.handle_below(*now, hop(from, family), frame, &mut out);
        }
        Event::Time(millis) => {
            *now += Duration::from_millis(millis);
            node.heartbeat(*now, &mut out);
        }
    }
}

/// A frame of data that is often right, and its sender.
fn data() -> impl Strategy<Value = (u8, Family, Vec<u8>)> {
    let ttl = prop_oneof![Just(0u8), Just(1), Just(2), 3u8..128, Just(128), Just(129), Just(255)];
    let frame = (plane(), ttl, 0u8..10, prop::collection::vec(any::<u8>(), 0..40));
    let frame = frame.prop_map(|(plane, ttl, target, payload)| {
        frame::with_ttl(frame::data(plane, addr(target), &payload), ttl).to_vec()
    });
    let cut =
        (frame, any::<prop::sample::Index>(), 0u8..8, any::<u8>()).prop_map(|(mut frame, at, what, byte)| {
            match what {
                0 => frame.truncate(at.index(frame.len())),
                1 => frame[0] = byte % 8,
                2 => frame[1] = byte % 6,
                _ => {}
            }
            frame
        });
    (1u8..6, family(), cut)
}

/// What the node itself does with the frame, in the words of a picture; and what goes on.
fn decided(node: &mut Beacon, now: Instant, from: Hop, frame: &[u8]) -> (Step, Bytes) {
    let frame = Bytes::copy_from_slice(frame);
    let mut out = Outbox::default();
    let is_data = matches!(Frame::parse(&frame, from.family), Ok(Frame::Data { .. }));
    let result = node.handle_below(now, from, frame.clone(), &mut out);
    let mut actions = out.drain();
    match (result, actions.next(), actions.next()) {
        (Ok(()), Some(Action::Send { hop, frame: onwards }), None) if is_data => {
            (Step::Forward { hop, head: DATA_OVERHEAD }, onwards)
        }
        (Ok(()), Some(Action::Deliver { plane, payload, .. }), None) if is_data => {
            (Step::Deliver { plane, at: frame.len() - payload.len() }, frame)
        }
        _ => (Step::Core, frame),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_picture_carries_as_the_node_that_it_is_of(
        leaf: bool,
        events in prop::collection::vec(event(), 0..60),
        frames in prop::collection::vec(data(), 1..40),
    ) {
        let mut now = Instant::now();
        let mut node = node(now, leaf);
        for event in &events {
            apply(&mut node, &mut now, event);
        }
        let picture = node.picture().expect("every node has one");
        let mut generation = node.generation();
        for (from, family, frame) in frames {
            let from = hop(from, family);
            let mut carried = frame.clone();
            let step = picture.carry(from, &mut carried);
            let (expected, onwards) = decided(&mut node, now, from, &frame);
            prop_assert_eq!(step, expected);
            prop_assert_eq!(&carried[..], &onwards[..]);
            if let Step::Forward { hop: next, .. } = step {
                let plane = Plane::from_byte(frame[1]).expect("it was parsed");
                prop_assert!(plane.has(from.family) && plane.has(next.family) && next.peer != from.peer);
            }
            // The mutations of a frame's type may have been control frames, but data changes no way.
            prop_assert!(frame.first() != Some(&2) || node.generation() == generation);
            generation = node.generation();
        }
    }

    #[test]
    fn a_picture_and_headers_are_good_until_the_generation_grows(
        leaf: bool,
        events in prop::collection::vec(event(), 1..80),
    ) {
        let mut now = Instant::now();
        let mut node = node(now, leaf);
        let known = |node: &Beacon| {
            let targets = Plane::ALL.into_iter().flat_map(|plane| (0..9).map(move |of| (plane, of)));
            let header = |(plane, of)| node.header(To::Node(addr(of)), &Constraint::in_plane(plane));
            let headers: Vec<_> = targets.map(header).collect();
            let mut steps = Vec::new();
            let picture = node.picture().expect("every node has one");
            for (plane, of) in Plane::ALL.into_iter().flat_map(|plane| (0..9).map(move |of| (plane, of))) {
                for from in (1..6).flat_map(|peer| Family::ALL.map(|family| hop(peer, family))) {
                    steps.push(picture.carry(from, &mut frame::data(plane, addr(of), b"x").to_vec()));
                }
            }
            (headers, steps)
        };
        let mut before = (node.generation(), known(&node));
        for event in &events {
            apply(&mut node, &mut now, event);
            let after = (node.generation(), known(&node));
            prop_assert!(after.0 > before.0 || after == before, "{:?}", event);
            before = after;
        }
    }

    #[test]
    fn a_header_makes_the_frame_that_the_node_would_send(
        leaf: bool,
        events in prop::collection::vec(event(), 0..60),
        plane in plane(),
        of in 0u8..9,
        payload in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut now = Instant::now();
        let mut node = node(now, leaf);
        for event in &events {
            apply(&mut node, &mut now, event);
        }
        let (to, by) = (To::Node(addr(of)), Constraint::in_plane(plane));
        let header = node.header(to, &by);
        let mut out = Outbox::default();
        let sent = node.handle_above(now, to, payload.clone().into(), &by, &mut out);
        match out.drain().next() {
            Some(Action::Send { hop, frame }) => {
                let (next, header) = header.expect("there is a way");
                prop_assert_eq!(next, hop);
                prop_assert_eq!([&header[..], &payload].concat(), &frame[..]);
            }
            _ => prop_assert!(header.is_none(), "{:?}", sent),
        }
    }
}

#[test]
fn newer_beacons_by_the_same_way_leave_the_generation_alone() {
    let now = Instant::now();
    let mut node = node(now, false);
    let neighbour = hop(1, Family::Ip);
    let mut out = Outbox::default();
    node.peer_up(now, neighbour, byway_network::Class::UDP, Cost::from_units(20), &mut out);
    node.handle_below(now, neighbour, beacon(Plane::Any, claim(5, 1), 40), &mut out).expect("it is genuine");
    let (generation, picture) = (node.generation(), node.picture().expect("there is one"));
    for counter in 2..6 {
        let later = now + Duration::from_secs(counter);
        node.heartbeat(later, &mut out);
        node.handle_below(
            later,
            neighbour,
            beacon(Plane::Any, claim(5, counter), 40 + counter as u32),
            &mut out,
        )
        .expect("it is genuine");
    }
    assert_eq!(node.generation(), generation);
    let same = node.picture().expect("there is one");
    assert!(std::ptr::addr_eq(Arc::as_ptr(&picture), Arc::as_ptr(&same)), "it is not drawn anew");
    node.peer_down(now, neighbour, &mut out);
    assert!(node.generation() > generation);
    let mut data = frame::data(Plane::Any, addr(5), b"x").to_vec();
    assert_eq!(node.picture().expect("there is one").carry(neighbour, &mut data), Step::Core);
    assert_eq!(node.handle_below(now, neighbour, data.into(), &mut out), Err(FrameError::NotUp));
}
