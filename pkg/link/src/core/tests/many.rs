//! Several links to one peer: which of them carries, and which are not there at all.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use byway_identity::{Entropy, SeededEntropy};
use byway_network::{Class, Family, Hop};

use super::world::{TLS, TOR, UDP, World, endpoint};
use crate::{Accept, Allowed, Endpoint, PeerConfig, Role, Scheme, State, TransportId};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const KINDS: [(TransportId, Scheme); 3] = [(UDP, Scheme::Udp), (TLS, Scheme::Tls), (TOR, Scheme::Tor)];

fn endpoints(to: usize) -> Vec<Endpoint> {
    let tls = format!("tls://198.51.100.{}:443", to + 1);
    let tor = format!("tor://{}.onion:2561", "a".repeat(56));
    vec![tor.parse().unwrap(), tls.parse().unwrap(), endpoint(to)]
}

/// Two daemons that know each other, with UDP, TLS and Tor, of which the first dials by what `allowed` holds.
fn rich(seed: u64, allowed: [Allowed; 2], both_dial: bool) -> World {
    let mut world = World::new(seed, 2);
    world.is_rich = true;
    for index in [0, 1] {
        world.restart(index, "world", Accept::Peers);
    }
    for (from, to) in [(1, 0), (0, 1)] {
        let dials = from == 0 || both_dial;
        let endpoints = if dials { endpoints(to) } else { Vec::new() };
        let peer = PeerConfig { addr: world.nodes[to].addr, endpoints, allowed: allowed[from] };
        world.act(from, |core, now, out| core.add_peer(now, peer, out));
    }
    world
}

fn all_up(world: &World) -> bool {
    world.nodes.iter().all(|node| node.core.links().len() == 3)
}

/// The transport that carries at a node.
fn active(world: &World, node: usize) -> Option<TransportId> {
    let links = world.nodes[node].core.links();
    let mut active = links.iter().filter(|link| link.role == Role::Active);
    let one = active.next().map(|link| link.place.transport);
    assert!(active.next().is_none(), "seed {}: two links are active", world.seed);
    one
}

/// Sends as a network does that prefers the cheapest hop.
fn send(world: &mut World, from: usize, frame: &[u8]) {
    let cheapest = world.nodes[from].up.iter().min_by_key(|(_, (class, cost))| (*cost, *class));
    let Some(hop) = cheapest.map(|(hop, _)| *hop) else { return };
    world.act(from, |core, now, out| core.send(now, hop, frame, out));
}

/// Sends both ways for `span`; returns the longest time without a frame at either end.
fn flow(world: &mut World, span: Duration) -> Duration {
    let (begin, end) = (world.now, world.now + span);
    while world.now < end {
        send(world, 0, b"there");
        send(world, 1, b"back");
        world.run_for(20 * MS);
    }
    let gap = |node: usize| {
        let times = world.nodes[node].received.iter().map(|(at, _)| *at).filter(|at| *at >= begin);
        let times: Vec<Instant> = std::iter::once(begin).chain(times).chain([world.now]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    };
    gap(0).max(gap(1))
}

#[test]
fn all_links_are_kept_and_the_best_carries() {
    let mut world = rich(1, [Allowed::ALL; 2], false);
    world.wait(10 * SECOND, "three links", all_up);
    world.run_for(5 * SECOND);
    flow(&mut world, 5 * SECOND);
    for node in 0..2 {
        assert_eq!(active(&world, node), Some(UDP));
        for link in world.nodes[node].core.links() {
            let carried = link.sent.0 > 20;
            assert_eq!(carried, link.place.transport == UDP, "{link:?}");
            assert_eq!(link.state.0, State::Up);
        }
        assert!(world.nodes[node].core.ways().is_empty());
    }
    assert!(all_up(&world));
}

#[test]
fn what_is_quickest_is_dialled_first_however_endpoints_are_listed() {
    let mut world = rich(2, [Allowed::ALL; 2], false);
    world.wait(10 * SECOND, "three links", all_up);
    let order: Vec<TransportId> =
        world.nodes[0].dialled.iter().map(|(_, transport, _)| *transport).take(3).collect();
    assert_eq!(order, [UDP, TLS, TOR]);
    let times: Vec<Instant> = world.nodes[0].dialled.iter().map(|(at, ..)| *at).take(3).collect();
    assert!(times[1] > times[0] && times[2] > times[1]);
}

#[test]
fn traffic_moves_to_the_next_best_within_five_seconds_and_back_within_sixty() {
    let mut world = rich(3, [Allowed::ALL; 2], false);
    world.wait(10 * SECOND, "three links", all_up);
    flow(&mut world, 3 * SECOND);

    world.dropped.insert(UDP);
    let gap = flow(&mut world, 8 * SECOND);
    assert!(gap < 2 * SECOND, "UDP drops: {gap:?}");
    assert_eq!([active(&world, 0), active(&world, 1)], [Some(TLS); 2]);
    let ways = world.nodes[0].core.ways();
    assert_eq!(ways.len(), 1);
    assert_eq!(ways[0].class, Class::UDP);
    assert!(ways[0].why.as_ref().is_some_and(|why| why.starts_with("no answer")), "{ways:?}");

    world.reset(TLS);
    let gap = flow(&mut world, 8 * SECOND);
    assert!(gap < 2 * SECOND, "TLS is reset: {gap:?}");
    assert_eq!([active(&world, 0), active(&world, 1)], [Some(TOR); 2]);
    flow(&mut world, 40 * SECOND);
    let states: Vec<_> = world.nodes[0].core.ways().iter().map(|way| way.state).collect();
    assert_eq!(states.len(), 2, "{:?}", world.nodes[0].core.ways());
    assert!(states.iter().all(|state| matches!(state, State::Suspect | State::Blocked)), "{states:?}");

    world.dropped.clear();
    world.refused.clear();
    let mut took = Duration::ZERO;
    while [active(&world, 0), active(&world, 1)] != [Some(UDP); 2] {
        let gap = flow(&mut world, SECOND);
        assert!(gap < SECOND, "nothing is lost on the way back: {gap:?}");
        took += SECOND;
        assert!(took < 60 * SECOND);
    }
    assert!(took >= 9 * SECOND, "it was held for steady after {took:?}");
    world.wait(60 * SECOND, "three links", all_up);
}

#[test]
fn a_long_outage_of_what_was_best_ends_within_sixty_seconds_though_its_session_is_gone() {
    let mut world = rich(4, [Allowed::ALL; 2], false);
    world.wait(10 * SECOND, "three links", all_up);
    world.dropped.insert(UDP);
    flow(&mut world, 10 * SECOND);
    world.run_for(1_500 * SECOND);
    let before = world.nodes[0].dialled.len();
    world.run_for(600 * SECOND);
    let dialled = world.nodes[0].dialled.len() - before;
    assert!((10..40).contains(&dialled), "{dialled} dials in ten minutes");
    world.dropped.clear();
    let took = world
        .wait(60 * SECOND, "back", |world| active(world, 0) == Some(UDP) && active(world, 1) == Some(UDP));
    println!("back after {took:?}");
}

#[test]
fn a_link_that_flaps_loses_its_traffic() {
    let mut world = rich(5, [Allowed::ALL; 2], false);
    world.wait(10 * SECOND, "three links", all_up);
    flow(&mut world, 3 * SECOND);
    let (mut moves, mut last) = (0, active(&world, 0));
    for second in 0..600 {
        if second % 30 == 0 && !world.dropped.remove(&UDP) {
            world.dropped.insert(UDP);
        }
        for _ in 0..10 {
            send(&mut world, 0, b"there");
            send(&mut world, 1, b"back");
            world.run_for(100 * MS);
        }
        let now = active(&world, 0);
        moves += usize::from(now != last);
        last = now;
    }
    assert!(moves <= 3, "{moves} moves");
    assert_eq!(last, Some(TLS));
}

#[test]
fn when_the_last_link_falls_what_is_dialled_now_and_then_is_dialled_at_once() {
    let mut world = rich(6, [Allowed::ALL; 2], false);
    world.refused.extend([TLS, TOR]);
    world.wait(10 * SECOND, "UDP", |world| active(world, 0) == Some(UDP));
    flow(&mut world, 300 * SECOND);
    world.refused.clear();
    world.dropped.insert(UDP);
    let gap = flow(&mut world, 10 * SECOND);
    assert!(gap < 3 * SECOND, "{gap:?}");
}

#[test]
fn with_only_tor_allowed_nothing_else_is_dialled_and_nothing_leaves() {
    let tor = Allowed::only([Scheme::Tor]);
    let mut world = rich(7, [tor, Allowed::ALL], false);
    world.wait(10 * SECOND, "Tor", |world| active(world, 0) == Some(TOR));
    flow(&mut world, 10 * SECOND);
    // Tor fails: nothing is sent another way.
    world.reset(TOR);
    flow(&mut world, 300 * SECOND);
    assert!(world.nodes[0].core.links().is_empty());
    let dialled: BTreeSet<Scheme> = world.nodes[0].dialled.iter().map(|(.., scheme)| *scheme).collect();
    assert_eq!(dialled, BTreeSet::from([Scheme::Tor]));
    let used: Vec<TransportId> = world.nodes[0].sent.keys().copied().collect();
    assert_eq!(used, [TOR]);
}

#[test]
fn a_peer_that_dials_by_what_is_not_allowed_is_not_linked_and_hears_no_more_than_a_handshake() {
    let tor = Allowed::only([Scheme::Tor]);
    let mut world = rich(8, [Allowed::ALL, tor], false);
    world.wait(10 * SECOND, "Tor", |world| active(world, 1) == Some(TOR));
    flow(&mut world, 60 * SECOND);
    for link in world.nodes[1].core.links() {
        assert_eq!(link.place.transport, TOR);
    }
    let handshakes = world.nodes[1].core.counters().session.handshakes as usize;
    for transport in [UDP, TLS] {
        let sent = world.nodes[1].sent[&transport];
        assert!(sent <= handshakes, "{sent} frames over {transport:?}");
    }
    assert!(world.nodes[1].core.counters().dropped.forbidden > 0);
    assert!(world.nodes[0].received.len() > 1_000 && world.nodes[1].received.len() > 1_000);
}

#[test]
fn what_is_no_longer_allowed_ends_at_once_and_without_a_word() {
    let mut world = rich(9, [Allowed::ALL; 2], false);
    world.wait(10 * SECOND, "three links", all_up);
    let before = [UDP, TLS].map(|transport| world.nodes[0].sent[&transport]);
    let tor = Allowed::only([Scheme::Tor]);
    let peer = PeerConfig { addr: world.nodes[1].addr, endpoints: endpoints(1), allowed: tor };
    world.act(0, |core, now, out| core.add_peer(now, peer, out));
    assert_eq!(active(&world, 0), Some(TOR));
    flow(&mut world, 30 * SECOND);
    assert_eq!([UDP, TLS].map(|transport| world.nodes[0].sent[&transport]), before);
    assert!(world.nodes[0].core.ways().is_empty(), "nor are they missed");
}

#[test]
fn a_peer_with_endpoints_of_no_allowed_kind_says_so() {
    let unix = Allowed::only([Scheme::Unix]);
    let mut world = rich(10, [unix, Allowed::ALL], false);
    world.run_for(60 * SECOND);
    let peers = world.nodes[0].core.peers();
    assert!(peers[0].trouble.as_ref().is_some_and(|why| why.contains("`transports`")), "{peers:?}");
    assert!(world.nodes[0].dialled.is_empty() && world.nodes[0].sent.is_empty());
}

#[test]
fn a_frame_for_a_family_goes_by_that_family_or_not_at_all() {
    let mut world = rich(11, [Allowed::ALL; 2], false);
    world.wait(10 * SECOND, "three links", all_up);
    let tor = Hop { peer: world.nodes[1].addr, family: Family::Tor };
    world.reset(TOR);
    let before = [UDP, TLS].map(|transport| {
        let links = world.nodes[0].core.links();
        links.iter().find(|link| link.place.transport == transport).map(|link| link.sent)
    });
    for _ in 0..100 {
        world.act(0, |core, now, out| core.send(now, tor, b"hidden", out));
        world.run_for(10 * MS);
    }
    let after = [UDP, TLS].map(|transport| {
        let links = world.nodes[0].core.links();
        links.iter().find(|link| link.place.transport == transport).map(|link| link.sent)
    });
    assert_eq!(before, after);
    assert!(world.nodes[1].received.is_empty());
    assert_eq!(world.nodes[0].core.counters().dropped.not_up, 100);
}

#[test]
fn on_a_lan_where_udp_is_of_a_family_of_its_own_it_is_told_as_cheaper_than_a_stream() {
    let mut world = rich(12, [Allowed::ALL; 2], false);
    world.wait(10 * SECOND, "three links", all_up);
    flow(&mut world, 5 * SECOND);
    world.nodes[0].at = "192.168.1.5:2561".parse().unwrap();
    flow(&mut world, 2 * SECOND);
    world.nodes[1].at = "192.168.1.6:2561".parse().unwrap();
    world.dropped.insert(UDP);
    flow(&mut world, 3 * SECOND);
    world.dropped.clear();
    let peer = PeerConfig::new(world.nodes[1].addr, {
        let mut endpoints = endpoints(1);
        endpoints[2] = Endpoint::udp(world.nodes[1].at);
        endpoints
    });
    world.act(0, |core, now, out| core.add_peer(now, peer, out));
    world.wait(60 * SECOND, "near", |world| {
        world.nodes.iter().all(|node| node.up.keys().any(|hop| hop.family == Family::Ethernet))
    });
    let cost = |world: &World, node: usize, family| {
        world.nodes[node].up.iter().find(|(hop, _)| hop.family == family).map(|(_, (_, cost))| *cost)
    };
    for node in 0..2 {
        let costs = [Family::Ip, Family::Ethernet].map(|family| cost(&world, node, family).unwrap());
        assert!(costs[1] > costs[0], "it has just come back: {costs:?}");
    }
    flow(&mut world, 60 * SECOND);
    for node in 0..2 {
        let costs = [Family::Ethernet, Family::Ip].map(|family| cost(&world, node, family).unwrap());
        assert!(costs[1] > costs[0], "a stream of the same round trip is worth less: {costs:?}");
        assert_eq!(active(&world, node), Some(UDP));
    }
}

/// Checks what must hold at every moment.
fn check(world: &World, allowed: [Allowed; 2]) {
    let seed = world.seed;
    for (node, allowed) in allowed.into_iter().enumerate() {
        let links = world.nodes[node].core.links();
        let of = |transport: TransportId| KINDS.iter().find(|(id, _)| *id == transport).unwrap().1;
        for link in &links {
            assert!(allowed.has(of(link.place.transport)), "seed {seed}: {link:?}");
        }
        for (_, _, scheme) in &world.nodes[node].dialled {
            assert!(allowed.has(*scheme), "seed {seed}: {scheme} was dialled");
        }
        let active = links.iter().filter(|link| link.role == Role::Active).count();
        assert_eq!(active, usize::from(!links.is_empty()), "seed {seed}: {links:?}");
        for (hop, (class, _)) in &world.nodes[node].up {
            assert_eq!(class.family(), hop.family, "seed {seed}");
            assert!(links.iter().any(|link| link.class == *class), "seed {seed}: {hop:?} has no link");
        }
        let families: BTreeSet<Family> = links.iter().map(|link| link.class.family()).collect();
        let up: BTreeSet<Family> = world.nodes[node].up.keys().map(|hop| hop.family).collect();
        assert_eq!(families, up, "seed {seed}");
    }
}

#[test]
fn whatever_fails_and_returns_nothing_goes_by_what_is_forbidden_or_arrives_twice() {
    for seed in 400..460 {
        let mut dice = SeededEntropy::new(seed);
        let mut some = || {
            let bits = dice.below(7) + 1;
            Allowed::only(KINDS.iter().zip(0..).filter(|(_, bit)| bits >> bit & 1 == 1).map(|((_, s), _)| *s))
        };
        let mut allowed = [some(), some()];
        let mut world = rich(seed, allowed, dice.below(2) == 0);
        let mut serial = 0u64;
        for _ in 0..80 {
            let (transport, scheme) = KINDS[dice.below(3) as usize];
            match dice.below(8) {
                0 => drop(world.dropped.insert(transport)),
                1 => world.dropped.clear(),
                2 if transport != UDP => world.reset(transport),
                3 => world.refused.clear(),
                4 => world.loss = dice.below(30),
                5 => world.delay = Duration::from_millis(dice.below(150)),
                6 if dice.below(4) == 0 => {
                    // The user changes his mind.
                    let node = dice.below(2) as usize;
                    let only = Allowed::only([scheme, KINDS[dice.below(3) as usize].1]);
                    let both = Allowed::only(KINDS.map(|(_, scheme)| scheme));
                    let next = if dice.below(2) == 0 { only } else { both };
                    let peer = PeerConfig {
                        addr: world.nodes[1 - node].addr,
                        endpoints: if node == 0 { endpoints(1) } else { Vec::new() },
                        allowed: next,
                    };
                    allowed[node] = next;
                    // What was dialled before was right before.
                    world.nodes[node].dialled.clear();
                    world.act(node, |core, now, out| core.add_peer(now, peer, out));
                }
                _ => {}
            }
            for _ in 0..dice.below(40) {
                for node in 0..2 {
                    let hops: Vec<Hop> = world.nodes[node].up.keys().copied().collect();
                    for hop in hops {
                        serial += 1;
                        let mut frame = serial.to_be_bytes().to_vec();
                        frame.push(hop.family as u8);
                        world.act(node, |core, now, out| core.send(now, hop, &frame, out));
                    }
                }
                world.run_for(Duration::from_millis(dice.below(100)));
                check(&world, allowed);
            }
            world.run_for(Duration::from_millis(dice.below(3_000)));
            check(&world, allowed);
        }
        for node in &world.nodes {
            let mut seen: Vec<_> = node.received.iter().map(|(_, frame)| frame.clone()).collect();
            let count = seen.len();
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), count, "seed {seed}: a frame came twice");
        }
    }
}
