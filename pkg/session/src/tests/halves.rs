//! Sessions that threads use beside the endpoint.

use std::time::Duration;

use bytes::Bytes;

use super::world::{LATENCY, Spot, World, config, pattern};
use crate::{Endpoint, Event, FrameKind, Halves, Indices, OpenError, SessionId, Use, frame};

const BOTH: [Use; 2] = [Use::Link, Use::EndToEnd];

fn half(endpoint: &Endpoint<Spot>, session: SessionId) -> Halves<'_, Spot> {
    endpoint.halves().find(|half| half.session == session).expect("it is shared")
}

/// Seals a packet in the session that is in use, as a thread would; gives the frame.
fn seal_beside(world: &World, node: usize, flags: u8, payload: &[u8]) -> Vec<u8> {
    let half = world.nodes[node].halves().find(|half| half.in_use).expect("one is in use");
    let mut bytes = vec![0; frame::padded(frame::OVERHEAD + payload.len(), world.mtu)];
    bytes[frame::PAYLOAD..][..payload.len()].copy_from_slice(payload);
    let mut sealer = half.outbound.take(world.now, 1).expect("it is young");
    sealer.seal(frame::PACKET, flags, payload.len(), &mut bytes).expect("it fits");
    half.outbound.note_sent(world.now, 1, payload.len() as u64);
    bytes
}

/// Sends a packet each way that no endpoint seals or opens, unless the session is too new to be shared.
fn exchange_beside(world: &mut World) {
    for (from, to) in [(0, 1), (1, 0)] {
        if !world.nodes[from].halves().any(|half| half.in_use) {
            world.send(from, world.session(from, to).expect("up"), b"packet");
            continue;
        }
        let mut bytes = seal_beside(world, from, 0, b"packet");
        let index = frame::index(&bytes);
        let Some(half) = world.nodes[to].halves().find(|half| Some(half.index) == index) else {
            world.inject(to, from as u32, &bytes);
            continue;
        };
        half.inbound.lock().open(world.now, &mut bytes).expect("it opens");
        half.inbound.note_received(world.now, 1, 6);
    }
}

/// Both sides share their halves once each has heard the other.
fn shared(usage: Use) -> (World, SessionId, SessionId) {
    let mut world = World::pair(usage, 1);
    let (a, b) = world.link_up();
    world.send(0, a, b"hello");
    world.run_for(Duration::from_secs(1));
    (world, a, b)
}

#[test]
fn a_session_is_shared_once_a_frame_came_in_it() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        // What the responder says in frames is lost, so the initiator does not know yet that both have the session.
        world.fate = Box::new(|datagram, _| {
            let is_frame = datagram.bytes.len() <= 64;
            if datagram.from == 1 && is_frame { vec![] } else { vec![LATENCY] }
        });
        world.connect(0, 1);
        world.run_until(Duration::from_secs(5), |world| world.session(0, 1).is_some());
        world.run_for(Duration::from_millis(100));
        assert_eq!(world.nodes[0].halves().count(), 0, "{usage:?}: not heard yet");
        let generation = world.nodes[0].generation();
        world.fate = Box::new(|_, _| vec![LATENCY]);
        world.run_until(Duration::from_secs(5), |world| world.nodes[0].halves().count() == 1);
        assert!(world.nodes[0].generation() > generation);
        let (session, remote) = (world.session(0, 1).expect("up"), world.addr(1));
        let half = half(&world.nodes[0], session);
        assert_eq!((half.remote, half.plane, half.in_use), (remote, 0, true));
        assert_eq!(half.place, &world.spot(1));
    }
}

#[test]
fn the_endpoint_and_others_seal_and_open_in_one_session_and_each_frame_arrives_once() {
    for usage in BOTH {
        let (mut world, a, b) = shared(usage);
        let before = world.received(1).len();
        let mut frames = Vec::new();
        for number in 0..100u8 {
            if number % 2 == 0 {
                frames.push(seal_beside(&world, 0, frame::CONT, &[number]));
            } else {
                let at = world.tape.len();
                world.fate = Box::new(|_, _| vec![]);
                world.send(0, a, &[number]);
                frames.push(world.tape[at].bytes.to_vec());
            }
        }
        world.fate = Box::new(|_, _| vec![LATENCY]);
        let counters: Vec<_> =
            frames.iter().map(|frame| u64::from_le_bytes(*frame[4..].first_chunk().expect("long"))).collect();
        assert!(counters.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{counters:?}");
        let mut beside = Vec::new();
        for (number, bytes) in frames.iter().enumerate() {
            let half = half(&world.nodes[1], b);
            if number % 3 == 0 {
                let mut bytes = bytes.clone();
                let opened = half.inbound.lock().open(world.now, &mut bytes).expect("fresh");
                beside.push(bytes[opened.payload].to_vec());
                let (forged, replayed) =
                    (world.nodes[1].counters().forged, world.nodes[1].counters().replayed);
                world.inject(1, 0, &frames[number]);
                let counters = world.nodes[1].counters();
                assert_eq!((counters.forged, counters.replayed), (forged, replayed + 1));
            } else {
                world.inject(1, 0, bytes);
                let half = crate::tests::halves::half(&world.nodes[1], b);
                let again = half.inbound.lock().open(world.now, &mut bytes.clone());
                assert_eq!(again, Err(OpenError::Replayed));
            }
        }
        let flags = |event: &Event<Spot>| match event {
            Event::Received { kind, flags, payload, .. } => Some((*kind, *flags, payload.to_vec())),
            _ => None,
        };
        let received: Vec<_> = world.events[1].iter().filter_map(flags).skip(before).collect();
        let expected: Vec<_> = (0..100u8)
            .filter(|number| number % 3 != 0)
            .map(|number| match number % 2 {
                0 => (FrameKind::Packet, frame::CONT, vec![number]),
                _ => (FrameKind::Message, 0, vec![number]),
            })
            .collect();
        assert_eq!(received, expected);
        assert_eq!(beside, (0..100u8).step_by(3).map(|number| vec![number]).collect::<Vec<_>>());
    }
}

#[test]
fn frames_opened_beside_the_endpoint_have_the_same_effect() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        world.beside = true;
        world.link_up();
        let mut sent = 0;
        for second in 0..2_950 {
            let session = world.session(0, 1).expect("it stays up");
            // One in ten goes in pieces.
            let length = if second % 10 == 0 { 5_000 } else { 100 };
            world.send(0, session, &pattern(length, second));
            sent += 1;
            world.run_for(Duration::from_secs(1));
        }
        assert_eq!(world.received(1).len(), sent, "{usage:?}");
        for (second, payload) in world.received(1).iter().enumerate() {
            assert_eq!(payload, &pattern(payload.len(), second as u64));
        }
        assert_eq!((world.ups(0), world.ups(1)), (5, 5), "{usage:?}: handshakes go inside");
        assert_eq!(world.nodes[1].sessions().len(), 1);
        assert!(world.opened_beside > 2_900, "{usage:?}: {}", world.opened_beside);
        let session = world.session(0, 1).expect("up");
        world.act(0, |node, now, out| node.close(now, session, out));
        world.run_for(Duration::from_secs(1));
        assert_eq!((world.downs(0), world.downs(1)), (1, 1), "{usage:?}: the end is heard");
    }
}

#[test]
fn a_session_that_only_others_use_is_neither_idle_nor_forgets_to_renew_itself() {
    for usage in BOTH {
        let (mut world, ..) = shared(usage);
        // Use begins only when the endpoint has long put it down as out of use, and has nothing else to wake it.
        world.run_for(Duration::from_secs(500));
        for _ in 0..3_000 {
            exchange_beside(&mut world);
            world.run_for(Duration::from_secs(1));
        }
        assert!(world.ups(0) >= 5 && world.ups(1) >= 5, "{usage:?}: {} handshakes", world.ups(0));
        assert_eq!((world.downs(0), world.downs(1)), (0, 0), "{usage:?}");
        let status = world.nodes[0].sessions();
        assert_eq!(status.len(), 1, "what was replaced and is out of use has ended");
        assert!(status[0].sent > 100 && status[0].received > 100, "{status:?}");
        let counters = world.nodes[0].counters();
        assert!(counters.sealed > 3_000 && counters.opened > 3_000, "{counters:?}");
        // Without use it ends, after one more handshake at most.
        world.run_for(Duration::from_secs(800));
        assert_eq!((world.downs(0), world.downs(1)), (1, 1), "{usage:?}");
    }
}

#[test]
fn use_that_begins_late_still_renews_the_session_in_time() {
    let (mut world, a, _) = shared(Use::EndToEnd);
    // The endpoint's own use pushes its timer behind the time at which a new handshake is due.
    world.run_for(Duration::from_secs(450));
    world.send(0, a, b"use");
    world.run_for(Duration::from_secs(190));
    assert_eq!(world.ups(0), 1, "out of use for more than two minutes when it was due");
    exchange_beside(&mut world);
    world.run_for(Duration::from_secs(35));
    assert_eq!((world.ups(0), world.ups(1)), (2, 2));
}

#[test]
fn a_replaced_session_stays_while_others_receive_in_it() {
    let (mut world, a, b) = shared(Use::EndToEnd);
    let outbound = half(&world.nodes[0], a).outbound.clone();
    let inbound = half(&world.nodes[1], b).inbound.clone();
    world.connect(0, 1);
    world.run_until(Duration::from_secs(5), |world| world.session(1, 0).is_some_and(|now| now != b));
    world.run_for(Duration::from_secs(1));
    assert!(!half(&world.nodes[1], b).in_use, "another one is in use");
    // A thread that has not seen the new picture goes on sending in the old one.
    for _ in 0..100 {
        let mut bytes = vec![0; 64];
        outbound.take(world.now, 1).expect("not over").seal(frame::PACKET, 0, 0, &mut bytes).expect("fits");
        inbound.lock().open(world.now, &mut bytes).expect("it opens");
        outbound.note_sent(world.now, 1, 0);
        inbound.note_received(world.now, 1, 0);
        world.run_for(Duration::from_secs(1));
    }
    world.run_for(Duration::from_secs(31));
    assert!(outbound.take(world.now, 1).is_none(), "it ended half a minute after the last frame");
    assert_eq!(inbound.lock().open(world.now, &mut [0; 64]), Err(OpenError::Ended));
}

#[test]
fn what_ends_ends_for_others_at_once() {
    let (mut world, a, b) = shared(Use::Link);
    let outbound = half(&world.nodes[0], a).outbound.clone();
    let inbound = half(&world.nodes[0], a).inbound.clone();
    let bytes = seal_beside(&world, 1, 0, b"late");
    let generation = world.nodes[0].generation();
    world.act(0, |node, now, out| node.close(now, a, out));
    assert!(world.nodes[0].generation() > generation);
    assert_eq!(world.nodes[0].halves().count(), 0);
    assert!(outbound.take(world.now, 1).is_none());
    assert_eq!(inbound.lock().open(world.now, &mut bytes.clone()), Err(OpenError::Ended));
    let unknown = world.nodes[0].counters().unknown;
    let index = frame::index(&bytes).expect("long");
    let place = world.spot(1);
    world.act(0, |node, now, out| node.handle_opened(now, index, place, 0, 0, Bytes::new(), out));
    assert_eq!(world.nodes[0].counters().unknown, unknown + 1, "it comes too late for anybody");
    // An endpoint that is dropped takes its sessions along.
    let outbound = half(&world.nodes[1], b).outbound.clone();
    drop(world);
    assert!(outbound.take(std::time::Instant::now(), 1).is_none());
}

#[test]
fn a_frame_opened_in_another_plane_is_not_taken() {
    let (mut world, _, b) = shared(Use::EndToEnd);
    let index = half(&world.nodes[1], b).index;
    let (mut place, before) = (world.spot(0), world.received(1).len());
    for (plane, more) in [(1, 0), (0, 1)] {
        place.plane = plane;
        let place = place.clone();
        let payload = Bytes::from_static(b"packet");
        world.act(1, |node, now, out| node.handle_opened(now, index, place, 0, 0, payload, out));
        assert_eq!(world.received(1).len(), before + more);
    }
}

#[test]
fn endpoints_that_share_a_table_never_have_the_same_index() {
    let indices = Indices::default();
    let mut world = World::pair(Use::Link, 1);
    // The same randomness would make the same indices.
    for node in [0, 1] {
        world.restart_alike(node, config(Use::Link, node as u64 + 1), 7);
        world.nodes[node].share_indices(indices.clone(), 40 + node as u32);
    }
    let (a, b) = world.link_up();
    world.send(0, a, b"hello");
    world.run_for(Duration::from_secs(1));
    let (one, other) = (half(&world.nodes[0], a).index, half(&world.nodes[1], b).index);
    assert_ne!(one, other);
    assert_eq!((indices.owner(one), indices.owner(other), indices.len()), (Some(40), Some(41), 2));
    // New sessions take new ones, and old ones are given back.
    for _ in 0..2_500 {
        world.send(0, world.session(0, 1).expect("up"), b"use");
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!((indices.len(), indices.owner(one)), (2, None));
    let session = world.session(0, 1).expect("up");
    world.act(0, |node, now, out| node.close(now, session, out));
    world.run_for(Duration::from_secs(1));
    assert!(indices.is_empty());
    // Handshakes that come to nothing give theirs back too, and so does an endpoint that goes.
    world.fate = Box::new(|_, _| vec![]);
    world.connect(0, 1);
    assert_eq!(indices.len(), 1);
    world.run_for(Duration::from_secs(30));
    assert!(indices.is_empty());
    world.connect(0, 1);
    drop(world);
    assert!(indices.is_empty());
}
