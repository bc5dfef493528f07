//! Strangers, liars and noise: counted, bounded, and nobody else's trouble.

use std::time::Duration;

use byway_identity::{Entropy, SeededEntropy};

use super::world::{World, at, endpoint};
use crate::{Accept, Endpoint, PeerState};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_peer_of_another_network_is_refused_counted_and_left_alone() {
    let mut world = World::new(200, 3);
    world.link(0, 2);
    world.restart(1, "elsewhere", Accept::Peers);
    world.peer(1, 0, false);
    world.peer(0, 1, true);
    world.traffic(0, 2, 60 * SECOND);
    assert!(!world.nodes[0].up.contains_key(&world.hop(1)));
    let dropped = world.nodes[0].core.counters().dropped;
    assert!((1..=3).contains(&dropped.other_network), "{dropped:?}");
    assert!(world.nodes[0].dials <= 4, "{} dials", world.nodes[0].dials);
    let addr = world.nodes[1].addr;
    let status = world.nodes[0].core.peers().into_iter().find(|peer| peer.addr == addr).unwrap();
    assert_eq!(status.trouble.as_deref(), Some("it is of another network"));
    assert!(world.is_up(0, 2) && world.nodes[0].log.len() == 1);

    // Once it has come home, it is linked.
    world.restart(1, "world", Accept::Peers);
    world.peer(1, 0, false);
    world.wait(90 * SECOND, "linked", |world| world.is_up(0, 1));
}

#[test]
fn a_peer_with_another_routing_protocol_is_refused_with_the_reason_at_both_ends() {
    for seed in 210..220 {
        let mut world = World::new(seed, 2);
        // The first greetings may be lost; whoever tries again is told all the same.
        world.loss = 30;
        world.protocols.insert(1, "beacon");
        world.restart(1, "world", Accept::Peers);
        world.peer(0, 1, true);
        world.peer(1, 0, true);
        let trouble = |world: &World, node: usize| world.nodes[node].core.peers()[0].trouble.clone();
        let told = |world: &World, node: usize, text: &str| {
            trouble(world, node).is_some_and(|trouble| trouble.contains(text))
        };
        world.wait(90 * SECOND, "told", |world| {
            told(world, 0, "beacon there, grove here") && told(world, 1, "grove there, beacon here")
        });
        assert!(world.nodes.iter().all(|node| node.log.is_empty()), "seed {seed}: linked");
        let drops = world.nodes.iter().map(|node| node.core.counters().dropped.other_protocol);
        assert!(drops.min() > Some(0), "seed {seed}");

        world.protocols.clear();
        world.restart(1, "world", Accept::Peers);
        world.peer(1, 0, true);
        world.wait(120 * SECOND, "linked", |world| world.is_up(0, 1));
    }
}

#[test]
fn a_stranger_is_not_linked_unless_the_network_is_welcome() {
    let mut world = World::new(201, 2);
    world.peer(0, 1, true);
    world.run_for(20 * SECOND);
    assert!(world.nodes.iter().all(|node| node.up.is_empty()));
    assert!(world.nodes[1].core.counters().dropped.unlisted > 0);
    assert!(world.nodes[1].core.peers().is_empty() && world.nodes[1].core.links().is_empty());

    let mut world = World::new(202, 2);
    world.restart(1, "world", Accept::Network);
    world.peer(0, 1, true);
    world.wait(5 * SECOND, "linked", |world| world.is_up(0, 1));
    assert_eq!(world.nodes[1].core.peers()[0].state, PeerState::Up);
    let peer = world.nodes[1].addr;
    world.act(0, |core, now, out| core.remove_peer(now, &peer, out));
    world.run_for(SECOND);
    assert!(world.nodes[1].core.peers().is_empty(), "a stranger is known as long as it is linked");
}

#[test]
fn strangers_are_bounded_and_give_way_to_listed_peers() {
    let mut world = World::new(203, 4);
    world.restart(0, "world", Accept::Network);
    for node in 1..4 {
        world.peer(node, 0, true);
    }
    world.wait(5 * SECOND, "linked", |world| (1..4).all(|node| world.is_up(0, node)));
    let core = &mut world.nodes[0].core;
    for index in 0..super::super::PEERS_MAX as u32 {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&index.to_le_bytes());
        let peer = crate::PeerConfig::new(byway_identity::Addr::from_bytes(bytes), Vec::new());
        core.add_peer(world.now, peer, &mut Vec::new());
    }
    assert_eq!(core.peers().len(), super::super::PEERS_MAX);
    assert!(core.links().is_empty(), "the strangers made room");
}

#[test]
fn noise_is_dropped_and_leaves_no_trace() {
    let mut world = World::new(204, 2);
    world.link(0, 1);
    world.run_for(3 * SECOND);
    let mut dice = SeededEntropy::new(204);
    let before = world.nodes[1].core.counters().session.established;
    for round in 0..20_000u32 {
        let mut bytes = vec![0; dice.below(2_000) as usize];
        dice.fill(&mut bytes);
        // From strangers, and in the peer's name.
        let source = if round % 2 == 0 { at(0) } else { ([203, 0, 113, (round % 250) as u8], 9).into() };
        world.datagram(source, 1, &bytes);
        if round % 100 == 0 {
            world.run_for(Duration::from_millis(10));
        }
    }
    world.datagram(at(0), 1, &[]);
    world.run_for(SECOND);
    let counters = world.nodes[1].core.counters().session;
    assert!(counters.unknown + counters.forged + counters.malformed >= 20_000, "{counters:?}");
    assert_eq!(counters.established, before);
    assert_eq!(world.nodes[1].log.len(), 1);
    assert_eq!(world.nodes[1].core.lanes[0].spots.len(), 1);
    assert_eq!(world.nodes[1].core.peers().len(), 1);
    assert!(world.nodes[1].received.is_empty());
    assert_eq!(world.nodes[1].longest.min(1_500), world.nodes[1].longest);
}

#[test]
fn what_is_played_again_reflected_cut_or_bent_is_dropped() {
    let mut world = World::new(205, 2);
    world.tape = Some(Vec::new());
    world.link(0, 1);
    for number in 0..100u8 {
        world.send(0, 1, &[number; 100]);
        world.send(1, 0, &[number; 100]);
    }
    world.run_for(3 * SECOND);
    let tape = world.tape.take().unwrap();
    assert_eq!((world.nodes[0].received.len(), world.nodes[1].received.len()), (100, 100));
    let mut dice = SeededEntropy::new(205);
    for (from, to, frame) in &tape {
        world.datagram(at(*from), *to, frame);
        world.datagram("203.0.113.200:1".parse().unwrap(), *to, frame);
        world.datagram(at(*to), *from, frame);
        let cut = dice.below(frame.len() as u64) as usize;
        world.datagram(at(*from), *to, &frame[..cut]);
        let mut bent = frame.to_vec();
        bent[cut] ^= 1 << dice.below(8);
        world.datagram(at(*from), *to, &bent);
        let longer = [&frame[..], &[0; 40]].concat();
        world.datagram(at(*from), *to, &longer);
        world.run_for(Duration::from_millis(5));
    }
    world.run_for(10 * SECOND);
    for node in &world.nodes {
        assert_eq!(node.received.len(), 100, "each frame once");
        assert_eq!(node.log.len(), 1, "the link does not care");
        let counters = node.core.counters().session;
        assert!(counters.replayed >= 100 && counters.forged > 0, "{counters:?}");
        assert_eq!(node.core.peers().len(), 1);
    }
    assert!(world.is_up(0, 1));
    let place = world.nodes[1].core.links()[0].place;
    assert!(place.remote == crate::Remote::Ip(at(0)), "replays from elsewhere move nothing");
}

#[test]
fn a_recorded_handshake_makes_no_link_with_a_peer_that_started_anew() {
    let mut world = World::new(206, 2);
    world.tape = Some(Vec::new());
    world.link(0, 1);
    world.run_for(3 * SECOND);
    let tape = world.tape.take().unwrap();
    world.restart(1, "world", Accept::Network);
    world.cut(0, 1);
    for (from, to, frame) in &tape {
        world.datagram(at(*from), *to, frame);
    }
    world.run_for(20 * SECOND);
    assert!(world.nodes[1].up.is_empty() && world.nodes[1].core.peers().is_empty());
    assert_eq!(world.nodes[1].core.counters().session.established, 0);
}

#[test]
fn who_does_not_know_the_address_gets_no_byte() {
    let mut world = World::new(207, 3);
    world.tape = Some(Vec::new());
    // It dials the right endpoint, but takes it for somebody else's.
    world.peer_at(0, 2, vec![endpoint(1)]);
    world.run_for(30 * SECOND);
    let tape = world.tape.take().unwrap();
    assert!(tape.iter().any(|(from, to, _)| (*from, *to) == (0, 1)));
    assert!(tape.iter().all(|(from, _, _)| *from != 1), "it answered");
}

#[test]
fn a_token_that_the_other_side_does_not_have_gets_no_byte() {
    let mut world = World::new(208, 2);
    world.tape = Some(Vec::new());
    world.peer(1, 0, false);
    let with_token: Endpoint = endpoint(1).with_token(Some([5; 32]));
    world.peer_at(0, 1, vec![with_token]);
    world.run_for(10 * SECOND);
    let tape = world.tape.take().unwrap();
    assert!(tape.iter().all(|(from, _, _)| *from != 1), "it answered");
    assert!(world.nodes[0].up.is_empty());
    world.peer(0, 1, true);
    world.wait(5 * SECOND, "linked without", |world| world.is_up(0, 1));
}

#[test]
fn a_peer_that_reports_a_huge_cost_makes_only_itself_dear() {
    let mut world = World::new(209, 3);
    world.link(0, 1);
    world.link(0, 2);
    world.traffic(0, 2, 5 * SECOND);
    let clean = world.nodes[0].core.links().iter().map(|link| (link.peer, link.cost)).collect::<Vec<_>>();
    let peer = world.nodes[1].addr;
    let own = world.nodes[0].addr;
    world.act(1, |core, now, _| {
        // A meter for a link of one byte a second.
        let link = core.peers.get_mut(&own).unwrap().link_mut(0).unwrap();
        link.meter = crate::meter::Meter::new(now, SECOND, Some(1));
    });
    world.traffic(0, 1, 30 * SECOND);
    for (addr, before) in clean {
        let now = world.nodes[0].core.links().into_iter().find(|link| link.peer == addr).unwrap().cost;
        if addr == peer {
            assert!(now > before);
        } else {
            assert_eq!(now, before);
        }
    }
}

#[test]
fn long_frames_before_the_greeting_are_held_up_to_a_bound_of_bytes() {
    let mut world = World::new(211, 2);
    world.link(0, 1);
    world.run_for(SECOND);
    let peer = world.nodes[1].addr;
    world.act(0, |core, now, out| {
        core.peers.get_mut(&peer).unwrap().link_mut(0).unwrap().class = None;
        core.announce(now, &peer, out);
    });
    for _ in 0..10 {
        world.send(1, 0, &[7; 20_000]);
    }
    world.run_for(Duration::from_millis(100));
    let held = world.nodes[0].core.peers[&peer].slots[&0].link.as_ref().map_or(0, |link| link.early.len());
    assert_eq!(held, 1, "32 KiB hold one frame of 20,000 bytes");
}

#[test]
fn frames_before_the_greeting_are_held_up_to_a_bound_and_come_after_it() {
    let mut world = World::new(210, 2);
    world.link(0, 1);
    world.run_for(SECOND);
    let (peer, own) = (world.nodes[1].addr, world.nodes[0].addr);
    world.act(0, |core, now, out| {
        core.peers.get_mut(&peer).unwrap().link_mut(0).unwrap().class = None;
        core.announce(now, &peer, out);
    });
    for number in 0..100u8 {
        world.send(1, 0, &[number]);
    }
    world.run_for(Duration::from_millis(50));
    let held = world.nodes[0].core.peers[&peer].slots[&0].link.as_ref().map_or(0, |link| link.early.len());
    assert_eq!(held, crate::link::EARLY_MAX);
    assert_eq!(world.nodes[0].core.counters().dropped.early, 100 - held as u64);
    assert!(world.nodes[0].received.is_empty() && world.nodes[0].core.links().is_empty());
    world.act(1, |core, now, out| {
        core.greet(now, 0, &own);
        core.settle(now, out);
    });
    world.run_for(Duration::from_millis(50));
    let numbers: Vec<u8> = world.nodes[0].received.iter().map(|(_, frame)| frame[0]).collect();
    assert_eq!(numbers, (0..16).collect::<Vec<u8>>());
    assert_eq!(world.nodes[0].core.links()[0].dropped.early, 100 - held as u64);
}

#[test]
fn a_peer_that_never_greets_is_given_up() {
    let mut world = World::new(214, 2);
    world.peer(1, 0, false);
    world.peer(0, 1, true);
    world.wait(5 * SECOND, "in session", |world| !world.nodes[0].core.lanes[0].owners.is_empty());
    // The other end is there, but nothing that it says gets through any more.
    world.cuts.insert((1, 0));
    world.run_for(15 * SECOND);
    assert!(world.nodes[0].up.is_empty());
    assert!(world.nodes[0].core.links().is_empty());
    assert!(world.nodes[0].core.peers()[0].trouble.is_some());
}

#[test]
fn connections_that_no_link_uses_are_bounded_and_hung_up() {
    let mut world = World::new(213, 1);
    let most = super::super::CONNECTIONS_MAX;
    let mut hung_up = 0;
    let mut opened = |world: &mut World, number: u64| {
        let remote = crate::Remote::Connection(number);
        let place = crate::Place { transport: super::world::UDP, remote, mtu: 16_384 };
        let mut out = Vec::new();
        world.nodes[0].core.handle(world.now, crate::Event::Opened { place }, &mut out);
        hung_up += out.iter().filter(|action| matches!(action, crate::Action::HangUp { .. })).count();
    };
    for number in 0..most as u64 + 500 {
        opened(&mut world, number);
    }
    assert_eq!((hung_up, world.nodes[0].core.connections.len()), (500, most));
    world.run_for(11 * SECOND);
    assert!(world.nodes[0].core.connections.is_empty());
}

#[test]
fn malformed_frames_of_a_peer_are_counted_and_do_not_end_the_link() {
    let mut world = World::new(211, 2);
    world.link(0, 1);
    let mut dice = SeededEntropy::new(211);
    for _ in 0..1_000 {
        let mut bytes = vec![0; dice.below(80) as usize];
        dice.fill(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            // Probes and answers; a greeting may rightly end the link.
            *first = 2 + (*first & 3);
        }
        let to = world.nodes[0].addr;
        world.act(1, |core, now, out| {
            core.say(now, 0, &to, &bytes);
            core.settle(now, out);
        });
        world.run_for(Duration::from_millis(2));
    }
    let malformed = world.nodes[0].core.counters().dropped.malformed;
    assert!(malformed > 10);
    assert_eq!(world.nodes[0].core.links()[0].dropped.malformed, malformed);
    world.traffic(0, 1, 5 * SECOND);
    assert!(world.is_up(0, 1));
}

#[test]
fn frames_for_hops_that_are_not_up_are_counted() {
    let mut world = World::new(212, 2);
    world.send(0, 1, b"nowhere");
    world.peer(0, 1, false);
    world.send(0, 1, b"nowhere");
    assert_eq!(world.nodes[0].core.counters().dropped.not_up, 2);
    assert_eq!(world.nodes[0].core.frame_mtu(world.hop(1)), None);
}

#[test]
fn a_link_counts_what_came_forged_or_again() {
    let mut world = World::new(215, 2);
    world.link(0, 1);
    world.run_for(SECOND);
    let before = world.nodes[0].core.links()[0].dropped;
    assert_eq!(before, crate::LinkDropped::default());
    let place = world.nodes[0].core.links()[0].place;
    let (peer, me) = (world.nodes[1].addr, world.nodes[0].addr);
    let mut out = Vec::new();
    let hop = byway_network::Hop { peer: me, family: byway_network::Family::Ip };
    world.nodes[1].core.send(world.now, hop, b"payload", &mut out);
    let frame = out.iter().find_map(|action| match action {
        crate::Action::Transmit { frame, .. } => Some(frame.clone()),
        _ => None,
    });
    let frame = frame.expect("it was sent");
    let mut forged = frame.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    // A counter that was seen already is looked at no closer.
    for bytes in [&forged, &forged, &frame[..], &frame, &forged, &frame[..8]] {
        let frame = bytes::BytesMut::from(bytes);
        world.nodes[0].core.handle(world.now, crate::Event::Frame { place, frame }, &mut Vec::new());
    }
    let link = &world.nodes[0].core.links()[0];
    let dropped = link.dropped;
    assert_eq!((dropped.replayed, dropped.forged, dropped.malformed), (2, 2, 1));
    assert_eq!((link.peer, link.lane, link.rekeys), (peer, 0, 0));
    assert!(link.handshakes > 0);
}

#[test]
fn of_many_endpoints_of_one_peer_the_first_eight_count() {
    let mut world = World::new(216, 2);
    let endpoint = |number: u16| format!("udp://192.0.2.1:{}", 1 + number).parse().unwrap();
    let peer = crate::PeerConfig::new(world.nodes[1].addr, (0..500).map(endpoint).collect());
    world.act(0, |core, now, out| core.add_peer(now, peer, out));
    let endpoints = world.nodes[0].core.peers()[0].endpoints.clone();
    assert_eq!(endpoints, (0..super::super::ENDPOINTS_MAX as u16).map(endpoint).collect::<Vec<_>>());
}
