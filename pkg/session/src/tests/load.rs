//! Floods: what strangers can make grow has a cap, and honest ones get through.

use std::time::Duration;

use byway_identity::{Addr, SeededEntropy, SigningKey};

use super::world::{Spot, World, config, pattern};
use crate::handshake::{Head, end_to_end, link};
use crate::mask::Secret;
use crate::message;
use crate::noise::Pattern;
use crate::record::{Form, Record};
use crate::{Endpoint, Event, FrameKind, Use};

/// First messages of a stranger who knows the target's address and record.
struct Flood {
    target: Addr,
    record: Record,
    usage: Use,
    entropy: SeededEntropy,
    local: x25519_dalek::StaticSecret,
    own: Vec<u8>,
    template: Vec<u8>,
}

impl Flood {
    fn new(world: &World, record: Record) -> Self {
        Self::of(world, record, 77)
    }

    fn of(world: &World, record: Record, seed: u64) -> Self {
        let mut entropy = SeededEntropy::new(10_000 + seed);
        let key = SigningKey::generate(&mut entropy);
        let keys = crate::keys::LocalKeys::new(world.now, super::world::UNIX, 1, key, None, &mut entropy);
        let local = keys.current().x25519.clone();
        let own = keys.current().record.emit(Form::Short);
        let mut flood =
            Self { target: record.addr, record, usage: world.usage, entropy, local, own, template: vec![] };
        flood.template = flood.genuine();
        flood
    }

    /// An m1 that opens.
    fn genuine(&mut self) -> Vec<u8> {
        let version = self.record.content.version as u8;
        let index = 256 + self.entropy_index();
        match self.usage {
            Use::Link => {
                let head = Head { pattern: Pattern::Link, plane: 0, version, index };
                let key = self.record.content.x25519;
                let started =
                    link::Initiator::start(&head, &self.target, &key, &self.local, 2, &mut self.entropy);
                message::m1(&head.emit(), &started.expect("good keys").1)
            }
            Use::EndToEnd => {
                let head = Head { pattern: Pattern::EndToEnd, plane: 0, version, index };
                let own = end_to_end::Own { local: &self.local, record: &self.own, ciphers: 2, early: b"" };
                let started =
                    end_to_end::Initiator::start(&head, &self.record, &own, None, &mut self.entropy);
                message::m1(&head.emit(), &started.expect("good keys").1)
            }
        }
    }

    fn entropy_index(&mut self) -> u32 {
        byway_identity::Entropy::next_u32(&mut self.entropy) >> 1
    }

    /// An m1 like a genuine one, at no cost: under load nobody looks into it.
    fn cheap(&mut self, number: u32) -> Vec<u8> {
        let mut m1 = self.template.clone();
        m1[20..24].copy_from_slice(&number.to_le_bytes());
        m1
    }

    fn masked(&self, m1: &[u8]) -> Vec<u8> {
        Secret::new(&self.target, None).mask(m1).to_vec()
    }
}

/// Longest a flooded endpoint may hold what it holds.
fn is_capped(node: &Endpoint<Spot>) {
    let sizes = node.sizes();
    assert!(sizes.waiting <= 1024, "{sizes:?}");
    assert!(sizes.indices <= 1024 + sizes.sessions + 8, "{sizes:?}");
    assert!(sizes.sources <= 4096, "{sizes:?}");
    assert!(sizes.sets <= 64, "{sizes:?}");
    assert!(sizes.records <= 1024, "{sizes:?}");
    assert!(sizes.replays <= 65_536, "{sizes:?}");
    assert!(sizes.timers <= 4096, "{sizes:?}");
}

#[test]
fn ten_thousand_first_messages_a_second_keep_no_honest_newcomer_out() {
    for genuine_sources in [false, true] {
        let mut world = World::pair(Use::Link, 1);
        let record = world.nodes[1].own_record();
        let mut flood = Flood::new(&world, record);
        let mut newcomer = None;
        for millisecond in 0u32..20_000 {
            for burst in 0..10 {
                let number = millisecond * 10 + burst;
                let m1 = flood.cheap(number);
                // Forged sources, a new one each time; or a few that are real, and far beyond their rate.
                let source = if genuine_sources { 1000 + number % 20 } else { 1000 + number };
                let masked = flood.masked(&m1);
                world.inject(1, source, &masked);
            }
            world.tape.clear();
            if millisecond == 10_000 {
                world.connect(0, 1);
                newcomer = Some(world.now);
            }
            world.run_for(Duration::from_millis(1));
            if millisecond % 1000 == 0 {
                is_capped(&world.nodes[1]);
            }
            if let Some(since) = newcomer.filter(|_| world.is_up(0, 1)) {
                assert!(world.now - since < Duration::from_secs(2));
                newcomer = None;
            }
        }
        assert!(newcomer.is_none(), "the newcomer was never linked");
        assert!(world.nodes[1].counters().overload > 190_000);
    }
}

#[test]
fn where_sources_mean_nothing_a_puzzle_lets_the_honest_one_in() {
    puzzled(World::pair(Use::EndToEnd, 1));
}

#[test]
fn where_datagrams_have_no_way_back_either_it_does_too() {
    let mut world = World::pair(Use::EndToEnd, 1);
    world.forget_sources();
    puzzled(world);
}

fn puzzled(mut world: World) {
    let record = world.nodes[1].own_record();
    let mut flood = Flood::new(&world, record);
    let mut newcomer = None;
    for millisecond in 0u32..6_000 {
        let m1 = flood.cheap(millisecond);
        // Parts, since it is longer than a datagram.
        for part in crate::mask::cut(&m1, 0, world.mtu, millisecond).expect("it fits") {
            world.inject(1, 500, &part);
        }
        world.tape.clear();
        if millisecond == 3_000 {
            world.connect(0, 1);
            newcomer = Some(world.now);
        }
        world.run_for(Duration::from_millis(1));
        if let Some(since) = newcomer.filter(|_| world.is_up(0, 1)) {
            assert!(world.now - since < Duration::from_secs(2));
            newcomer = None;
        }
    }
    assert!(newcomer.is_none(), "the newcomer got no session");
    is_capped(&world.nodes[1]);
}

#[test]
fn unfinished_handshakes_are_at_most_1024_and_end_after_ten_seconds() {
    let mut world = World::pair(Use::Link, 1);
    let record = world.nodes[1].own_record();
    let mut flood = Flood::new(&world, record);
    // Each source answers the cookie, and never goes on.
    for number in 0..1_500u32 {
        let m1 = flood.genuine();
        let from = 10_000 + number;
        let masked = flood.masked(&m1);
        let before = world.tape.len();
        world.inject(1, from, &masked);
        let mut answer = bytes::BytesMut::from(&world.tape[before].bytes[..]);
        assert!(Secret::new(&flood.target, None).unmask(&mut answer));
        if answer[..4] == message::RETRY.to_le_bytes() {
            let retry = message::Retry::read(byway_wire::Reader::new(&answer[4..])).expect("well formed");
            let proof = message::Proof { cookie: retry.cookie, bits: retry.bits, nonce: 0 };
            let again = flood.masked(&proof.emit(&m1));
            assert_eq!(world.inject(1, from, &again), 1, "a cookie opens the door");
        }
        world.run_for(Duration::from_micros(500));
    }
    is_capped(&world.nodes[1]);
    assert_eq!(world.nodes[1].sizes().waiting, 1024);
    world.run_for(Duration::from_secs(11));
    assert_eq!(world.nodes[1].sizes().waiting, 0);
    assert_eq!(world.nodes[1].sizes().indices, 0);
}

#[test]
fn a_cookie_is_good_for_one_source_and_one_first_message() {
    let mut world = World::pair(Use::Link, 1);
    let record = world.nodes[1].own_record();
    let mut flood = Flood::new(&world, record);
    for number in 0..300 {
        let cheap = flood.cheap(number);
        let masked = flood.masked(&cheap);
        world.inject(1, 1000 + number, &masked);
    }
    let m1 = flood.genuine();
    let masked = flood.masked(&m1);
    let before = world.tape.len();
    world.inject(1, 5, &masked);
    let mut answer = bytes::BytesMut::from(&world.tape[before].bytes[..]);
    assert!(Secret::new(&flood.target, None).unmask(&mut answer));
    let retry = message::Retry::read(byway_wire::Reader::new(&answer[4..])).expect("well formed");
    let proof = message::Proof { cookie: retry.cookie, bits: retry.bits, nonce: 0 };
    let handshakes = world.nodes[1].counters().handshakes;
    let elsewhere = flood.masked(&proof.emit(&m1));
    world.inject(1, 6, &elsewhere);
    let other = flood.genuine();
    let other = flood.masked(&proof.emit(&other));
    world.inject(1, 5, &other);
    assert_eq!(world.nodes[1].counters().handshakes, handshakes);
    world.inject(1, 5, &elsewhere);
    assert_eq!(world.nodes[1].counters().handshakes, handshakes + 1);
    // It ages.
    world.run_for(Duration::from_secs(300));
    for number in 0..300 {
        let cheap = flood.cheap(number);
        let masked = flood.masked(&cheap);
        world.inject(1, 1000 + number, &masked);
    }
    world.run_for(Duration::from_secs(1));
    let handshakes = world.nodes[1].counters().handshakes;
    world.inject(1, 5, &elsewhere);
    assert!(world.nodes[1].counters().handshakes <= handshakes + 1);
}

#[test]
fn one_source_starts_ten_handshakes_a_second_at_most() {
    let mut world = World::pair(Use::Link, 1);
    let record = world.nodes[1].own_record();
    let mut flood = Flood::new(&world, record);
    let before = world.nodes[1].counters().handshakes;
    for _ in 0..40 {
        let m1 = flood.genuine();
        let masked = flood.masked(&m1);
        world.inject(1, 5, &masked);
    }
    assert_eq!(world.nodes[1].counters().handshakes - before, 10);
}

#[test]
fn parts_fill_no_more_than_their_64_sets() {
    let mut world = World::pair(Use::Link, 1);
    let target = world.addr(1);
    for number in 0..10_000u32 {
        let mut part = message::PART.to_le_bytes().to_vec();
        part.extend(number.to_le_bytes());
        part.extend([0, 4]);
        part.extend(pattern(1000, number.into()));
        let masked = Secret::new(&target, None).mask(&part);
        world.inject(1, number, &masked);
    }
    assert_eq!(world.nodes[1].sizes().sets, 64);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.nodes[1].sizes().sets, 0);
}

#[test]
fn questions_for_the_record_amplify_at_most_three_times_and_twenty_times_a_second() {
    let mut world = World::pair(Use::EndToEnd, 1);
    world.mtu = 4000;
    let ask = |length: usize, nonce| {
        let ask = message::KeyAsk {
            nonce,
            form: Form::Whole,
            requester: Addr::from_bytes([5; 32]),
            unanswered: None,
        };
        ask.emit(length)
    };
    assert_eq!(world.inject(1, 0, &ask(600, 0)), 0, "too short a question");
    let answered: usize = (1..100).map(|nonce| world.inject(1, 0, &ask(912, nonce))).sum();
    assert_eq!(answered, 20);
    let longest = world.tape.iter().map(|datagram| datagram.bytes.len()).max();
    assert!(longest.is_some_and(|longest| longest <= 3 * 912));
    // Who asks at full length is served all the same.
    assert_eq!(world.inject(1, 0, &ask(2720, 200)), 1);
}

#[test]
fn fragments_of_one_remote_fill_no_more_than_their_share() {
    let mut world = World::pair(Use::Link, 1);
    world.add(config(Use::Link, 3));
    let (a, _) = world.link_up();
    world.connect(2, 1);
    world.run_until(Duration::from_secs(2), |world| world.is_up(2, 1));
    let c = world.session(2, 1).expect("up");
    // The last fragment of each message is lost, so that all stay open.
    world.fate = Box::new(|datagram, _| {
        if datagram.from == 0 && datagram.bytes.len() < 1400 {
            vec![]
        } else {
            vec![Duration::from_millis(1)]
        }
    });
    world.act(2, |node, now, out| node.send(now, c, FrameKind::Message, &pattern(2000, 9), out)).expect("up");
    for number in 0..500 {
        world.send(0, a, &pattern(20_000, number));
    }
    world.run_for(Duration::from_secs(1));
    let sizes = world.nodes[1].sizes();
    assert!(sizes.fragments <= 64 && sizes.fragment_bytes <= 256 * 1024, "{sizes:?}");
    assert!(sizes.fragments >= 10, "{sizes:?}");
    assert_eq!(world.received(1), [pattern(2000, 9)], "the other remote is not disturbed");
    world.run_for(Duration::from_secs(11));
    assert_eq!((world.nodes[1].sizes().fragments, world.nodes[1].sizes().fragment_bytes), (0, 0));
}

#[test]
fn sessions_have_a_cap_and_those_that_are_up_stay() {
    let mut world = World::pair(Use::Link, 1);
    world.link_up();
    world.nodes[1].limit_sessions(3);
    for seed in 3..8 {
        let node = world.add(config(Use::Link, seed));
        world.connect(node, 1);
        world.run_for(Duration::from_secs(12));
    }
    assert_eq!(world.nodes[1].sizes().sessions, 3);
    assert!(world.is_up(0, 1));
    let failed = (2..7).filter(|node| matches!(world.events[*node][..], [Event::Failed { .. }])).count();
    assert_eq!(failed, 3);
}

#[test]
fn records_of_a_thousand_strangers_give_way_to_newer_ones() {
    let mut world = World::pair(Use::EndToEnd, 1);
    let record = world.nodes[1].own_record();
    for seed in 0..1_100 {
        let mut flood = Flood::of(&world, record.clone(), seed);
        let m1 = flood.genuine();
        for part in crate::mask::cut(&m1, 0, world.mtu, seed as u32).expect("it fits") {
            world.inject(1, 500, &part);
        }
        world.tape.clear();
        world.run_for(Duration::from_millis(300));
    }
    assert_eq!(world.nodes[1].sizes().records, 1024);
    assert_eq!(world.nodes[1].counters().overload, 0);
    is_capped(&world.nodes[1]);
}

#[test]
fn one_remote_has_at_most_four_sessions() {
    let mut world = World::pair(Use::Link, 1);
    world.link_up();
    for _ in 0..20 {
        world.connect(0, 1);
        world.run_for(Duration::from_secs(1));
    }
    assert!(world.nodes[1].sizes().sessions <= 4);
    assert_eq!(world.downs(0) + world.downs(1), 0);
    let last = world.events[1].iter().rev().find_map(|event| match event {
        Event::Up { session, .. } => Some(*session),
        _ => None,
    });
    assert_eq!(last, world.session(1, 0));
}
