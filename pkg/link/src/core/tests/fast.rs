//! What threads need of links, what they do on them, and frames without a link frame.

use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_network::{Class, Family, Hop};
use byway_session::{Indices, frame};

use super::world::{MTU, UDP, World, at};
use crate::core::fast::{FastLink, LINK_TAG};
use crate::{Action, Event, Place, Remote};

const SECOND: Duration = Duration::from_secs(1);

fn linked(seed: u64) -> World {
    let mut world = World::new(seed, 2);
    world.link(0, 1);
    // Time to find the length of the path.
    world.run_for(10 * SECOND);
    world
}

fn only_link(world: &World, node: usize) -> FastLink {
    let mut links = world.nodes[node].core.fast_links();
    assert_eq!(links.len(), 1, "seed {}", world.seed);
    links.remove(0)
}

/// A frame of the network, as a thread seals it.
fn sealed(now: Instant, link: &FastLink, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; payload.len() + frame::OVERHEAD];
    frame[frame::PAYLOAD..frame::PAYLOAD + payload.len()].copy_from_slice(payload);
    let mut sealer = link.outbound.take(now, 1).expect("the session is up");
    sealer.seal(frame::MESSAGE, 0, payload.len(), &mut frame).expect("one counter was taken");
    link.outbound.note_sent(now, 1, frame.len() as u64);
    frame
}

/// The core looks at what threads did, as often as it should.
fn run(world: &mut World, span: Duration, mut each: impl FnMut(&mut World)) {
    let end = world.now + span;
    while world.now < end {
        for node in [0, 1] {
            world.act(node, |core, now, _| core.sync(now));
        }
        for _ in 0..10 {
            each(world);
            world.run_for(Duration::from_millis(20));
        }
    }
}

#[test]
fn threads_are_told_of_each_link_that_is_up_with_its_place_and_length() {
    let mut world = linked(1);
    let link = only_link(&world, 0);
    assert_eq!((link.hop, link.transport, link.to, link.is_best), (world.hop(1), UDP, at(1), true));
    assert_eq!(link.frame_max, MTU);
    assert_eq!(world.nodes[0].core.bare_mtu(world.hop(1)), Some(MTU));
    let frame = sealed(world.now, &link, b"by a thread");
    world.datagram(at(0), 1, &frame);
    world.run_for(SECOND);
    let received: Vec<&[u8]> = world.nodes[1].received.iter().map(|(_, frame)| &frame[..]).collect();
    assert_eq!(received, [b"by a thread"], "the core opens what a thread has sealed");
    world.cut(0, 1);
    world.traffic(0, 1, 3 * SECOND);
    assert_eq!(world.nodes[0].core.fast_links().len(), 0, "a silent link is nobody's to use");
    assert_eq!(world.nodes[0].core.bare_mtu(world.hop(1)), None);
}

#[test]
fn what_threads_are_told_is_the_same_until_the_generation_grows() {
    let mut world = World::new(2, 3);
    world.peer(0, 2, true);
    world.peer(2, 0, false);
    world.peer(0, 1, true);
    world.peer(1, 0, false);
    let told = |world: &World| {
        let show = |link: FastLink| {
            let mut indices: Vec<u32> = link.sessions.iter().map(|(index, _)| *index).collect();
            indices.sort_unstable();
            (link.hop, link.to, link.frame_max, link.is_best, indices)
        };
        let links = world.nodes[0].core.fast_links().into_iter().map(show);
        (world.nodes[0].core.generation(), links.collect::<Vec<_>>())
    };
    let mut before = told(&world);
    let mut changes = 0;
    for turn in 0..4_000 {
        match turn {
            500 => world.narrow = 1_300,
            1_000 => world.cut(0, 1),
            1_500 => world.mend(0, 1),
            2_000 => world.restart(2, "world", crate::Accept::Network),
            3_000 => world.restart(1, "other", crate::Accept::Network),
            _ => {}
        }
        world.send(0, 1, &[7; 1_000]);
        world.run_for(Duration::from_millis(50));
        let after = told(&world);
        assert!(after.0 > before.0 || after == before, "seed {}, turn {turn}: {after:?}", world.seed);
        changes += usize::from(after.1 != before.1);
        before = after;
    }
    assert!(changes >= 6, "{changes}: otherwise nothing was tried");
}

#[test]
fn a_path_that_dies_under_the_traffic_of_threads_alone_is_noticed_in_time() {
    let mut world = linked(3);
    let link = only_link(&world, 0);
    let carry = |world: &mut World| {
        let frame = sealed(world.now, &link, b"traffic");
        if !world.cuts.contains(&(0, 1)) {
            only_link(world, 1).inbound.note_received(world.now, 1, frame.len() as u64);
        }
    };
    run(&mut world, 5 * SECOND, carry);
    assert!(world.is_up(0, 1), "one-way traffic is no death");
    world.cut(0, 1);
    let cut = world.now;
    run(&mut world, 2 * SECOND, carry);
    let (down, _, is_up) = world.nodes[0].log.last().copied().expect("it was up once");
    assert!(!is_up && down - cut < Duration::from_millis(1_600), "{:?}", down - cut);
}

#[test]
fn what_threads_carry_is_counted_once() {
    let mut world = linked(4);
    let (one, other) = (only_link(&world, 0), only_link(&world, 1));
    let counted = |world: &World, node: usize| {
        let link = world.nodes[node].core.links().remove(0);
        (link.sent, link.received)
    };
    let before = [counted(&world, 0), counted(&world, 1)];
    let mut bytes = 0;
    for number in 0..50u8 {
        let mut frame = sealed(world.now, &one, &[number; 100]);
        bytes += frame.len() as u64;
        let opened = other.inbound.lock().open(world.now, &mut frame).expect("it is genuine");
        other.inbound.note_received(world.now, 1, frame.len() as u64);
        // Every second one is for the core.
        if number % 2 == 0 {
            let place = Place { transport: UDP, remote: Remote::Ip(at(0)), mtu: MTU };
            let payload = Bytes::copy_from_slice(&frame[opened.payload.clone()]);
            let index = frame::index(&frame).expect("it has a head");
            let event = Event::Unsealed { place, index, kind: opened.kind, flags: opened.flags, payload };
            world.act(1, |core, now, out| core.handle(now, event, out));
        }
    }
    for _ in 0..3 {
        for node in [0, 1] {
            world.act(node, |core, now, _| core.sync(now));
        }
    }
    let after = [counted(&world, 0), counted(&world, 1)];
    assert_eq!(world.nodes[1].received.len(), 25);
    assert_eq!((after[0].0.0 - before[0].0.0, after[0].0.1 - before[0].0.1), (50, bytes));
    assert_eq!(after[1].1.0 - before[1].1.0, 50);
}

#[test]
fn bare_frames_go_over_clear_links_as_long_as_they_fit() {
    let mut world = linked(5);
    let hop = world.hop(1);
    world.tape = Some(Vec::new());
    let send = |world: &mut World, hop: Hop, length: usize| {
        let frame = Bytes::from(vec![9; length]);
        world.act(0, |core, now, out| core.send_bare(now, hop, &frame, out))
    };
    let before = world.nodes[0].core.links().remove(0).sent;
    assert!(send(&mut world, hop, MTU.into()));
    assert!(!send(&mut world, hop, usize::from(MTU) + 1), "longer than the link carries");
    assert!(!send(&mut world, Hop { family: Family::Tor, ..hop }, 100), "there is no such link");
    let after = world.nodes[0].core.links().remove(0).sent;
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, u64::from(MTU)));
    let tape = world.tape.take().expect("it was asked for");
    assert_eq!(tape, [(0, 1, Bytes::from(vec![9; MTU.into()]))], "and as they are");
}

#[test]
fn only_the_links_own_peer_and_place_make_a_bare_frame_a_sign_of_life() {
    let mut world = linked(6);
    let peer = world.nodes[1].addr;
    let heard = |world: &mut World, from, remote| {
        let place = Place { transport: UDP, remote: Remote::Ip(from), mtu: MTU };
        let before = world.nodes[0].core.links().remove(0).received.0;
        world.act(0, |core, now, _| core.bare_heard(now, place, &remote, 500));
        world.nodes[0].core.links().remove(0).received.0 - before
    };
    assert_eq!(heard(&mut world, at(1), peer), 1);
    assert_eq!(heard(&mut world, at(7), peer), 0, "from elsewhere");
    let stranger = world.nodes[0].addr;
    assert_eq!(heard(&mut world, at(1), stranger), 0, "in a session with somebody else");
}

#[test]
fn links_over_connections_carry_nothing_bare() {
    let mut world = linked(7);
    let link = world.nodes[0].core.peers.values_mut().next().and_then(|peer| peer.link_mut(0));
    link.expect("it is up").place.remote = Remote::Connection(5);
    let hop = world.hop(1);
    assert_eq!(world.nodes[0].core.bare_mtu(hop), None);
    assert_eq!(world.nodes[0].core.fast_links().len(), 0);
    let link = world.nodes[0].core.peers.values_mut().next().and_then(|peer| peer.link_mut(0));
    let link = link.expect("it is up");
    (link.place.remote, link.class) = (Remote::Ip(at(1)), Some(Class::new(Family::Tor, 0)));
    assert_eq!(world.nodes[0].core.fast_links().len(), 0, "nor does one that hides something");
}

#[test]
fn receiver_indices_of_links_stand_under_a_tag_of_links_while_they_last() {
    let mut world = World::new(8, 2);
    let indices = Indices::default();
    world.nodes[0].core.share_indices(indices.clone());
    world.link(0, 1);
    let link = only_link(&world, 0);
    for (index, _) in &link.sessions {
        assert_eq!(indices.owner(*index), Some(LINK_TAG));
    }
    let peer = world.nodes[1].addr;
    let mut out: Vec<Action> = Vec::new();
    let now = world.now;
    world.nodes[0].core.remove_peer(now, &peer, &mut out);
    assert!(indices.is_empty());
    assert!(link.outbound.take(now, 1).is_none(), "and whoever still knows the session cannot use it");
}
