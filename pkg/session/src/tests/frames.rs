//! Sessions that are up: loss, order, ratchets, roaming, ends.

use std::collections::HashMap;
use std::time::Duration;

use byway_identity::Entropy;
use proptest::prelude::*;

use super::world::{Datagram, LATENCY, World, config, pattern};
use crate::{CloseReason, Config, Event, FrameKind, SendError, Use};

const BOTH: [Use; 2] = [Use::Link, Use::EndToEnd];

/// A message with a number in front.
fn numbered(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(length.max(4), 0x5a);
    bytes
}

fn numbers(world: &World, node: usize) -> Vec<u32> {
    world
        .received(node)
        .iter()
        .map(|payload| u32::from_le_bytes(*payload.first_chunk().expect("numbered")))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_stream_that_is_lost_doubled_and_reordered_delivers_each_message_at_most_once(
        seed: u64,
        loss in 0u64..30,
        double in 0u64..30,
        link: bool,
    ) {
        let mut world = World::pair(if link { Use::Link } else { Use::EndToEnd }, seed);
        let (a, _) = world.link_up();
        world.fate = Box::new(move |_, entropy| {
            let mut delays = Vec::new();
            if entropy.below(100) >= loss {
                delays.push(Duration::from_millis(entropy.below(80)));
            }
            if entropy.below(100) < double {
                delays.push(Duration::from_millis(entropy.below(500)));
            }
            delays
        });
        for number in 0..300 {
            world.send(0, a, &numbered(number, if number % 10 == 0 { 4000 } else { 100 }));
            world.run_for(Duration::from_millis(1));
        }
        world.run_for(Duration::from_secs(2));
        let mut seen = HashMap::new();
        for number in numbers(&world, 1) {
            *seen.entry(number).or_insert(0) += 1;
        }
        prop_assert!(seen.values().all(|times| *times == 1), "{:?}", seen);
        if loss == 0 {
            prop_assert_eq!(seen.len(), 300);
        }
    }

    #[test]
    fn ratchets_and_new_handshakes_lose_nothing_under_reordering(seed: u64, link: bool) {
        let mut world = World::new(if link { Use::Link } else { Use::EndToEnd }, seed);
        for key in [1, 2] {
            world.add(Config { ratchet: Duration::from_secs(3), ..config(world.usage, key) });
        }
        let (a, b) = world.link_up();
        world.fate = Box::new(|_, entropy| vec![Duration::from_millis(entropy.below(1000))]);
        // Twenty minutes, so two new handshakes; some 400 ratchets on each side.
        for number in 0..4_000 {
            world.send(0, world.session(0, 1).unwrap_or(a), &numbered(number, 40));
            world.send(1, world.session(1, 0).unwrap_or(b), &numbered(number, 40));
            world.run_for(Duration::from_millis(350));
        }
        world.run_for(Duration::from_secs(5));
        for node in [0, 1] {
            let mut got = numbers(&world, node);
            got.sort_unstable();
            prop_assert_eq!(got, (0..4_000).collect::<Vec<_>>());
            prop_assert!(world.ups(node) >= 3, "{} handshakes", world.ups(node));
            prop_assert_eq!(world.downs(node), 0);
        }
    }
}

#[test]
fn a_session_whose_keys_change_fast_has_a_successor_before_its_epochs_are_used_up() {
    for usage in BOTH {
        for (seed, seconds) in [(1, 1), (2, 2)] {
            let mut world = World::new(usage, seed);
            for key in [1, 2] {
                world.add(Config { ratchet: Duration::from_secs(seconds), ..config(usage, key) });
            }
            let (a, b) = world.link_up();
            // 256 epochs are all that a session has.
            for number in 0..1_200 {
                world.send(0, world.session(0, 1).unwrap_or(a), &numbered(number, 40));
                world.send(1, world.session(1, 0).unwrap_or(b), &numbered(number, 40));
                world.run_for(Duration::from_millis(500));
            }
            world.run_for(Duration::from_secs(5));
            for node in [0, 1] {
                assert_eq!(numbers(&world, node).len(), 1_200, "{usage:?}, every {seconds} s, seed {seed}");
                assert_eq!(world.downs(node), 0, "{usage:?}, every {seconds} s, seed {seed}");
            }
        }
    }
}

#[test]
fn new_handshakes_survive_loss_and_lose_no_more_than_the_network_does() {
    for usage in BOTH {
        for seed in 0..4 {
            let mut world = World::pair(usage, seed);
            world.link_up();
            let mut sent = 0;
            world.fate = Box::new(|_, entropy| if entropy.below(5) == 0 { vec![] } else { vec![LATENCY] });
            for number in 0..5_000 {
                let session = world.session(0, 1).expect("it stays up");
                world.send(0, session, &numbered(number, 40));
                sent += 1;
                world.run_for(Duration::from_millis(500));
            }
            let got = numbers(&world, 1).len();
            // A fifth is lost, give or take four standard deviations.
            assert!((sent * 4 / 5i64 - got as i64).abs() < 120, "{usage:?} seed {seed}: {got}");
            assert!(world.ups(0) >= 4, "{usage:?} seed {seed}: {} handshakes", world.ups(0));
            assert_eq!(world.downs(0) + world.downs(1), 0, "{usage:?} seed {seed}");
        }
    }
}

#[test]
fn kinds_arrive_as_they_were_sent() {
    let mut world = World::pair(Use::Link, 1);
    let (a, _) = world.link_up();
    let kinds = [FrameKind::Packet, FrameKind::Message, FrameKind::Control];
    for kind in kinds {
        for length in [0, 10, 3000] {
            world.act(0, |node, now, out| node.send(now, a, kind, &pattern(length, 1), out)).expect("up");
        }
    }
    world.run_for(Duration::from_secs(1));
    let got: Vec<_> = world.events[1]
        .iter()
        .filter_map(|event| match event {
            Event::Received { kind, payload, .. } => Some((*kind, payload.len())),
            _ => None,
        })
        .collect();
    let sent: Vec<_> =
        kinds.into_iter().flat_map(|kind| [0, 10, 3000].map(|length| (kind, length))).collect();
    assert_eq!(got, sent);
}

#[test]
fn what_is_too_long_or_too_late_is_an_error() {
    let mut world = World::pair(Use::Link, 1);
    let (a, _) = world.link_up();
    let too_long = world.act(0, |node, now, out| node.send(now, a, FrameKind::Message, &[0; 65_536], out));
    assert_eq!(too_long, Err(SendError::TooLong));
    world.act(0, |node, now, out| node.close(now, a, out));
    let gone = world.act(0, |node, now, out| node.send(now, a, FrameKind::Message, b"", out));
    assert_eq!(gone, Err(SendError::Gone));
    assert_eq!((world.nodes[0].place(a), world.nodes[0].payload_mtu(a)), (None, None));
}

#[test]
fn lengths_on_the_wire_are_multiples_of_64_or_the_whole_path() {
    let mut world = World::pair(Use::EndToEnd, 1);
    let (a, _) = world.link_up();
    let before = world.tape.len();
    for length in 0..1400 {
        world.send(0, a, &pattern(length, 1));
    }
    let frames = &world.tape[before..];
    assert!(frames.iter().all(|frame| frame.bytes.len() % 64 == 0 || frame.bytes.len() == 1400));
}

#[test]
fn a_full_frame_has_32_bytes_more_than_its_payload() {
    let mut world = World::pair(Use::Link, 1);
    let (a, _) = world.link_up();
    let room = world.nodes[0].payload_mtu(a).expect("up");
    assert_eq!(room + crate::Endpoint::<super::world::Spot>::OVERHEAD, world.mtu);
    let before = world.tape.len();
    world.send(0, a, &pattern(room, 1));
    assert_eq!(world.tape[before..].iter().map(|frame| frame.bytes.len()).collect::<Vec<_>>(), [world.mtu]);
}

#[test]
fn closing_is_told_to_the_other_side() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        let (a, _) = world.link_up();
        world.act(0, |node, now, out| node.close(now, a, out));
        world.run_for(Duration::from_secs(1));
        let why = |node: usize| {
            world.events[node].iter().find_map(|event| match event {
                Event::Down { why, plane: 0, .. } => Some(*why),
                _ => None,
            })
        };
        assert_eq!((why(0), why(1)), (Some(CloseReason::Local), Some(CloseReason::Remote)));
        assert!(world.nodes.iter().all(|node| node.sessions().is_empty()));
    }
}

#[test]
fn a_session_without_use_is_dropped_after_ten_minutes() {
    let mut world = World::pair(Use::Link, 1);
    let (a, _) = world.link_up();
    world.run_for(Duration::from_secs(300));
    world.send(0, a, b"use");
    world.run_for(Duration::from_secs(590));
    assert!(world.is_up(0, 1));
    world.run_for(Duration::from_secs(20));
    assert!(world.nodes.iter().all(|node| node.sessions().is_empty()));
    assert_eq!((world.downs(0), world.downs(1)), (1, 1));
    assert!(matches!(world.events[0].last(), Some(Event::Down { why: CloseReason::Idle, .. })));
}

#[test]
fn nothing_is_sealed_in_a_session_of_thirty_minutes() {
    let mut world = World::pair(Use::Link, 1);
    let (a, _) = world.link_up();
    // From now on nobody answers, so no newer session comes about.
    world.fate = Box::new(|datagram, _| if datagram.from == 1 { vec![] } else { vec![LATENCY] });
    let mut last = world.now;
    while world.act(0, |node, now, out| node.send(now, a, FrameKind::Message, b"", out)).is_ok() {
        last = world.now;
        world.run_for(Duration::from_secs(1));
    }
    let age = last - world.start;
    assert!((Duration::from_secs(1795)..Duration::from_secs(1800)).contains(&age), "{age:?}");
    assert_eq!(world.downs(0), 1);
}

#[test]
fn a_busy_session_replaces_itself_every_ten_minutes_and_only_the_new_one_stays() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        world.link_up();
        for _ in 0..3590 {
            let session = world.session(0, 1).expect("it stays up");
            world.send(0, session, b"use");
            world.run_for(Duration::from_secs(1));
        }
        assert_eq!((world.ups(0), world.ups(1)), (6, 6), "{usage:?}");
        assert_eq!(world.received(1).len(), 3590);
        assert_eq!((world.nodes[0].sessions().len(), world.nodes[1].sessions().len()), (1, 1));
        let indices = world.nodes.iter().map(|node| node.sizes().indices);
        assert_eq!(indices.collect::<Vec<_>>(), [1, 1], "each session has one index");
    }
}

#[test]
fn a_peer_whose_address_changed_is_followed_after_a_challenge() {
    let mut world = World::pair(Use::Link, 1);
    let (a, b) = world.link_up();
    world.roam(0, 10, true);
    world.send(0, a, b"from elsewhere");
    world.run_until(Duration::from_secs(1), |world| world.nodes[1].place(b) == Some(&world.spot(10)));
    let moved: Vec<_> = world.events[1]
        .iter()
        .filter_map(|event| match event {
            Event::Moved { session, place } => Some((*session, place.at)),
            _ => None,
        })
        .collect();
    assert_eq!(moved, [(b, 10)]);
    world.send(1, b, b"there you are");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.received(0).len(), 1);
}

#[test]
fn a_frame_that_someone_sent_on_from_elsewhere_moves_nothing() {
    let mut world = World::pair(Use::Link, 1);
    let (a, b) = world.link_up();
    world.fate = Box::new(|datagram, _| if datagram.bytes.len() < 200 { vec![LATENCY] } else { vec![] });
    world.send(0, a, &pattern(500, 1));
    let frame = world.tape.last().expect("sent").bytes.clone();
    let before = world.tape.len();
    world.inject(1, 66, &frame);
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.nodes[1].place(b), Some(&world.spot(0)));
    let told: usize = world.tape[before..]
        .iter()
        .filter(|datagram| datagram.to == 66)
        .map(|datagram| datagram.bytes.len())
        .sum();
    assert!(told > 0 && told <= 3 * frame.len(), "{told} bytes for {}", frame.len());
}

#[test]
fn a_peer_that_sends_from_two_places_stays_where_it_answers() {
    let mut world = World::pair(Use::Link, 1);
    let (a, b) = world.link_up();
    world.roam(0, 10, false);
    for turn in 0..100 {
        world.home[0] = if turn % 2 == 0 { 10 } else { 0 };
        world.send(0, a, b"here and there");
        world.run_for(Duration::from_millis(300));
    }
    assert_eq!(world.nodes[1].place(b), Some(&world.spot(0)));
    assert_eq!(world.received(1).len(), 100);
}

#[test]
fn a_frame_in_another_plane_is_neither_opened_nor_answered() {
    let mut world = World::pair(Use::EndToEnd, 1);
    let (a, _) = world.link_up();
    let mut kept = Vec::new();
    world.send(0, a, b"secret plane");
    kept.push(world.tape.last().cloned().expect("sent"));
    let Datagram { bytes, .. } = kept.remove(0);
    let mut place = world.spot(0);
    place.plane = 1;
    let opened = world.nodes[1].counters().opened;
    let answer = world.act(1, |node, now, out| {
        node.handle(now, place, bytes::BytesMut::from(&bytes[..]), out);
        out.len()
    });
    assert_eq!((answer, world.nodes[1].counters().opened), (0, opened));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.received(1).len(), 1, "in its own plane it opens");
}

#[test]
fn a_session_takes_less_than_two_kibibytes() {
    // Two expanded keys and a window of 128 bytes are behind pointers or in it; nothing else is while it is idle.
    const { assert!(crate::Endpoint::<super::world::Spot>::SESSION_SIZE + 128 < 2048) };
}
