//! Links that come up, go down and come back.

use std::time::Duration;

use byway_network::{Class, Cost, Family, Hop};

use super::world::{World, at, endpoint, key};
use crate::{Accept, Endpoint, PeerState};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[test]
fn a_link_comes_up_at_both_ends_and_carries_frames_both_ways() {
    let mut world = World::new(1, 2);
    let took = world.link(0, 1);
    assert!(took < 200 * MS, "five trips of 10 ms, and it took {took:?}");
    world.send(0, 1, b"there");
    world.send(1, 0, b"and back");
    world.run_for(SECOND);
    assert_eq!(world.nodes[1].received[0].1, b"there"[..]);
    assert_eq!(world.nodes[0].received[0].1, b"and back"[..]);
    let link = &world.nodes[0].core.links()[0];
    assert_eq!((link.class, link.sent, link.received), (Class::UDP, (1, 5), (1, 8)));
    assert!(link.rtt.is_some_and(|rtt| rtt.abs_diff(20 * MS) < MS), "{:?}", link.rtt);
    assert_eq!(world.nodes[0].core.peers()[0].state, PeerState::Up);
}

#[test]
fn frames_up_to_65_535_bytes_arrive_whole() {
    let mut world = World::new(2, 2);
    world.link(0, 1);
    world.run_for(SECOND);
    for length in [0, 1, 1_440, 1_441, 65_535] {
        world.send(0, 1, &vec![7; length]);
        world.run_for(SECOND);
        assert_eq!(world.nodes[1].received.last().map(|(_, frame)| frame.len()), Some(length));
    }
    world.send(0, 1, &vec![7; 65_536]);
    assert_eq!(world.nodes[0].core.counters().dropped.too_long, 1);
    assert_eq!(world.nodes[0].core.links()[0].dropped.too_long, 1);
}

#[test]
fn a_cut_under_traffic_is_noticed_within_1500_ms_and_mended_within_2_s() {
    for (seed, cut) in (10..).zip([2, 5, 30, 119, 300, 590, 900, 1_150, 3_000]) {
        let mut world = World::new(seed, 2);
        world.link(0, 1);
        world.traffic(0, 1, 3 * SECOND);
        world.cut(0, 1);
        let cut_at = world.now;
        world.traffic(0, 1, 2 * SECOND);
        for node in &world.nodes {
            let down =
                node.log.iter().find(|(at, _, up)| !up && *at > cut_at).expect("it is noticed").0 - cut_at;
            assert!(down < 1_500 * MS, "seed {seed}: {down:?}");
        }
        world.run_for(cut * SECOND);
        world.mend(0, 1);
        let mended = world.now;
        // Beyond twenty minutes the session is gone, and handshakes have become rare.
        let limit = if cut < 1_200 { 2 * SECOND } else { 20 * SECOND };
        world.traffic(0, 1, limit);
        for node in 0..2 {
            let back = world.first_after(node, mended);
            assert!(back.is_some_and(|back| back < limit), "seed {seed}: after a cut of {cut} s {back:?}");
        }
        world.traffic(0, 1, 30 * SECOND);
        assert!(
            world.is_up(0, 1) && world.nodes[0].log.iter().filter(|(_, _, up)| *up).count() == 2,
            "seed {seed}: it stays"
        );
    }
}

#[test]
fn a_cut_without_traffic_is_noticed_within_15_s() {
    let mut world = World::new(20, 2);
    world.link(0, 1);
    world.run_for(60 * SECOND);
    world.cut(0, 1);
    let took = world
        .wait(15 * SECOND, "down at both ends", |world| world.nodes.iter().all(|node| node.up.is_empty()));
    assert!(took > 3 * SECOND, "{took:?}: a few lost probes are no reason");
}

#[test]
fn a_way_that_is_cut_in_one_direction_is_down_at_both_ends() {
    let mut world = World::new(21, 2);
    world.link(0, 1);
    world.traffic(0, 1, 3 * SECOND);
    world.cuts.insert((0, 1));
    world.traffic(0, 1, 4 * SECOND);
    assert!(world.nodes.iter().all(|node| node.up.is_empty()));
    world.mend(0, 1);
    world.wait(2 * SECOND, "linked again", |world| world.is_up(0, 1));
}

#[test]
fn an_idle_link_stays_up_for_hours_and_through_new_keys() {
    let mut world = World::new(22, 2);
    world.link(0, 1);
    world.run_for(3 * 3_600 * SECOND);
    assert!(world.is_up(0, 1));
    assert_eq!(world.nodes[0].log.len(), 1, "{:?}", world.nodes[0].log);
    assert_eq!(world.nodes[1].log.len(), 1, "{:?}", world.nodes[1].log);
    assert!(world.nodes[0].core.counters().session.established > 10, "new keys every ten minutes");
    world.send(0, 1, b"still there");
    world.run_for(SECOND);
    assert_eq!(world.nodes[1].received.len(), 1);
}

#[test]
fn a_peer_that_is_killed_and_starts_again_is_linked_within_5_s() {
    for (seed, pause) in (30..).zip([0, 1, 3, 20, 200]) {
        for dialler_dies in [false, true] {
            let mut world = World::new(seed, 2);
            world.link(0, 1);
            world.traffic(0, 1, 3 * SECOND);
            let dead = usize::from(!dialler_dies);
            world.cut(0, 1);
            world.traffic(0, 1, pause * SECOND);
            world.mend(0, 1);
            world.restart(dead, "world", Accept::Peers);
            let restarted = world.now;
            world.peer(1, 0, false);
            world.peer(0, 1, true);
            world.traffic(0, 1, 5 * SECOND);
            for node in 0..2 {
                let back = world.first_after(node, restarted);
                assert!(
                    back.is_some_and(|back| back < 4_900 * MS),
                    "seed {seed}: {back:?} after a pause of {pause} s"
                );
            }
            // The survivor's network is told that its neighbour is a new one.
            let log: Vec<bool> = world.nodes[1 - dead].log.iter().map(|(_, _, up)| *up).collect();
            assert_eq!(log, [true, false, true], "seed {seed}");
        }
    }
}

#[test]
fn both_ends_dialling_at_once_end_with_a_link_that_stays() {
    for seed in 40..60 {
        let mut world = World::new(seed, 2);
        world.delay = Duration::from_millis(seed);
        world.peer(0, 1, true);
        world.run_for(Duration::from_millis((seed % 7) * seed / 3));
        world.peer(1, 0, true);
        world.wait(3 * SECOND, "linked", |world| world.is_up(0, 1));
        let since = world.now;
        world.traffic(0, 1, 90 * SECOND);
        assert!(world.is_up(0, 1));
        for node in &world.nodes {
            assert_eq!(node.log.len(), 1, "seed {seed}: it never went down");
            let sent = 90_000 / 20;
            let got = node.received.iter().filter(|(at, _)| *at > since).count();
            assert!(got >= sent - 20, "seed {seed}: {got} of {sent} frames");
        }
    }
}

#[test]
fn the_first_frames_after_up_arrive() {
    for seed in 60..80 {
        let mut world = World::new(seed, 2);
        world.delay = Duration::from_millis(seed % 5 * 20);
        world.peer(1, 0, false);
        world.peer(0, 1, true);
        let mut sent = [false; 2];
        let done = world.now + 3 * SECOND;
        while world.now < done {
            for (node, sent) in sent.iter_mut().enumerate() {
                if !*sent && world.nodes[node].up.contains_key(&world.hop(1 - node)) {
                    *sent = true;
                    for number in 0..10u8 {
                        world.send(node, 1 - node, &[number]);
                    }
                }
            }
            world.run_for(MS);
        }
        for node in &world.nodes {
            assert_eq!(node.received.len(), 10, "seed {seed}");
        }
    }
}

#[test]
fn links_come_up_and_stay_up_at_a_loss_of_twenty_percent() {
    for seed in 80..100 {
        let mut world = World::new(seed, 2);
        world.loss = 20;
        world.peer(1, 0, false);
        world.peer(0, 1, true);
        world.wait(15 * SECOND, "linked", |world| world.is_up(0, 1));
        world.traffic(0, 1, 60 * SECOND);
        let downs = world.nodes[0].log.iter().filter(|(_, _, up)| !up).count();
        assert!(downs == 0 && world.is_up(0, 1), "seed {seed}: down {downs} times");
        let loss = world.nodes[0].core.links()[0].loss;
        assert!(loss > 0.05 && loss < 0.9, "seed {seed}: {loss}");
    }
}

#[test]
fn a_dead_peer_costs_the_live_ones_nothing() {
    let mut world = World::new(100, 3);
    world.link(0, 1);
    world.peer_at(
        0,
        2,
        vec!["udp://203.0.113.99:2561".parse().unwrap(), "udp://nowhere.example:2561".parse().unwrap()],
    );
    let since = world.now;
    world.traffic(0, 1, 600 * SECOND);
    let got = world.nodes[1].received.iter().filter(|(at, _)| *at > since).count();
    assert_eq!(got, 600_000 / 20);
    assert_eq!(world.nodes[0].log.len(), 1);
    assert!(world.nodes[0].dials < 1_000, "{} dials", world.nodes[0].dials);
    let dead = world.nodes[2].addr;
    let status = world.nodes[0].core.peers().into_iter().find(|peer| peer.addr == dead).unwrap();
    assert_ne!(status.state, PeerState::Up);
    assert!(status.trouble.is_some());
}

#[test]
fn a_thousand_dead_peers_are_dialled_in_turn_and_the_live_one_is_found() {
    let mut world = World::new(101, 2);
    for index in 0..1_000u32 {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&index.to_le_bytes());
        let addr = byway_identity::SigningKey::from_seed(&seed).public().addr();
        let endpoints = vec!["udp://203.0.113.99:2561".parse().unwrap()];
        world.act(0, |core, now, out| core.add_peer(now, crate::PeerConfig::new(addr, endpoints), out));
        assert!(world.nodes[0].core.rounds <= super::super::ROUNDS_MAX);
    }
    world.peer(1, 0, false);
    world.peer(0, 1, true);
    world.wait(180 * SECOND, "linked among the dead", |world| world.is_up(0, 1));
}

#[test]
fn every_endpoint_gets_its_turn_and_every_address_of_a_name() {
    let mut world = World::new(102, 2);
    world.names.insert("host.example".to_owned(), vec!["203.0.113.1:2561".parse().unwrap(), at(1)]);
    let endpoints = ["udp://203.0.113.2:2561", "udp://gone.example:2561", "udp://host.example:2561"];
    world.peer(1, 0, false);
    world.peer_at(0, 1, endpoints.map(|text| text.parse().unwrap()).to_vec());
    let took = world.wait(5 * SECOND, "linked", |world| world.is_up(0, 1));
    assert!(took < 2 * SECOND, "{took:?}: the dead ones hold nothing up");
}

#[test]
fn the_address_that_a_dialler_roams_to_is_followed() {
    let mut world = World::new(103, 2);
    world.link(0, 1);
    world.traffic(0, 1, 3 * SECOND);
    world.nodes[0].at = "203.0.113.50:4000".parse().unwrap();
    let moved = world.now;
    world.traffic(0, 1, 5 * SECOND);
    let back = world.first_after(0, moved).expect("frames reach the new address");
    assert!(back < 2 * SECOND, "{back:?}");
    assert!(world.is_up(0, 1));
    let place = world.nodes[1].core.links()[0].place;
    assert!(place.remote == crate::Remote::Ip(world.nodes[0].at), "the link's place is the new one");
}

#[test]
fn a_link_that_roams_between_near_and_far_changes_its_family() {
    let mut world = World::new(104, 2);
    world.nodes[0].at = "192.168.1.5:2561".parse().unwrap();
    world.nodes[1].at = "192.168.1.6:2561".parse().unwrap();
    let near = |world: &World, to: usize| Hop { peer: world.nodes[to].addr, family: Family::Ethernet };
    world.peer(1, 0, false);
    world.peer_at(0, 1, vec![Endpoint::udp(world.nodes[1].at)]);
    world.wait(3 * SECOND, "linked on the LAN", |world| {
        world.nodes[0].up.contains_key(&near(world, 1)) && world.nodes[1].up.contains_key(&near(world, 0))
    });
    assert_eq!(world.nodes[0].core.links()[0].class, Class::LAN);
    world.nodes[0].at = "203.0.113.50:4000".parse().unwrap();
    for _ in 0..100 {
        let hops = [near(&world, 1), near(&world, 0)];
        world.act(0, |core, now, out| core.send(now, hops[0], b"x", out));
        world.act(1, |core, now, out| core.send(now, hops[1], b"x", out));
        world.run_for(50 * MS);
    }
    world.wait(5 * SECOND, "far at both ends", |world| world.is_up(0, 1));
    assert!(world.nodes.iter().all(|node| node.up.len() == 1));
}

#[test]
fn frames_grow_to_what_the_path_carries_and_shrink_when_it_narrows() {
    let mut world = World::new(105, 2);
    world.link(0, 1);
    world.run_for(2 * SECOND);
    let hop = world.hop(1);
    assert_eq!(world.nodes[0].core.frame_mtu(hop), Some(1_472 - 32));
    assert_eq!(world.nodes[0].longest, 1_472);

    // A tunnel somewhere on the way: small frames pass, long ones do not.
    world.narrow = 1_300;
    for _ in 0..100 {
        world.send(0, 1, &[1; 1_400]);
        world.run_for(300 * MS);
    }
    let length = world.nodes[0].core.frame_mtu(hop).unwrap() + 32;
    assert!((1_300 - 16..=1_300).contains(&length), "{length}");
    assert!(world.is_up(0, 1) && world.nodes[0].log.len() == 1, "small frames passed all the time");
    let before = world.nodes[1].received.len();
    world.send(0, 1, &[1; 1_400]);
    world.run_for(SECOND);
    assert_eq!(world.nodes[1].received.len(), before + 1);
}

#[test]
fn a_narrow_path_is_no_obstacle_from_the_start() {
    let mut world = World::new(106, 2);
    world.narrow = 1_232;
    let took = world.link(0, 1);
    assert!(took < 2 * SECOND, "{took:?}");
    world.send(0, 1, &[1; 4_000]);
    world.run_for(10 * SECOND);
    assert_eq!(world.nodes[1].received.len(), 1);
    let hop = world.hop(1);
    assert_eq!(world.nodes[0].core.frame_mtu(hop), Some(1_232 - 32));
}

#[test]
fn a_flow_of_long_frames_over_a_path_that_narrows_stops_for_two_seconds_at_most() {
    for seed in 0..5 {
        let mut world = World::new(seed, 2);
        world.link(0, 1);
        world.run_for(5 * SECOND);
        world.narrow = 1_372;
        let start = world.now;
        // One way, as of a program that waits for an answer: what comes back is what the link itself says.
        let arrived = |world: &World| world.nodes[1].received.iter().any(|(at, _)| *at > start);
        while !arrived(&world) {
            world.send(0, 1, &[1; 1_400]);
            world.run_for(50 * MS);
            assert!(world.now - start < 2 * SECOND, "seed {seed}: nothing came");
        }
        world.run_for(8 * SECOND);
        let hop = world.hop(1);
        assert_eq!(world.nodes[0].core.frame_mtu(hop), Some(1_372 - 32), "seed {seed}");
        assert_eq!(world.nodes[0].log.len(), 1, "seed {seed}: the link stayed up");
    }
}

#[test]
fn costs_follow_the_round_trip_slowly_and_both_ends_agree() {
    let mut world = World::new(107, 2);
    world.link(0, 1);
    world.traffic(0, 1, 5 * SECOND);
    let (a, b) = (world.nodes[0].core.links()[0].cost, world.nodes[1].core.links()[0].cost);
    assert_eq!(a, Cost::of_link(20 * MS, 0.0, None));
    assert_eq!(a, b);
    let told = world.nodes[0].costs.len();
    world.delay = 60 * MS;
    world.traffic(0, 1, 9 * SECOND);
    assert_eq!(world.nodes[0].costs.len(), told, "not before it is steady");
    world.traffic(0, 1, 120 * SECOND);
    assert_eq!(world.nodes[0].core.links()[0].cost, Cost::of_link(120 * MS, 0.0, None));
    assert!(world.nodes[0].costs.len() <= told + 2, "{:?}", world.nodes[0].costs);
}

#[test]
fn a_peer_that_is_removed_is_gone_at_both_ends_at_once() {
    let mut world = World::new(108, 2);
    world.link(0, 1);
    let peer = world.nodes[1].addr;
    assert!(world.act(0, |core, now, out| core.remove_peer(now, &peer, out)));
    assert!(!world.act(0, |core, now, out| core.remove_peer(now, &peer, out)));
    world.run_for(100 * MS);
    assert!(world.nodes.iter().all(|node| node.up.is_empty()));
    assert!(world.nodes[0].core.peers().is_empty());
    world.run_for(60 * SECOND);
    assert!(world.nodes[1].up.is_empty());
    assert!(world.nodes[0].core.next_heartbeat().is_some(), "keys rotate all the same");
    assert!(world.nodes[0].core.timers.is_empty() && world.nodes[0].core.dials.is_empty());
}

#[test]
fn shutdown_tells_the_peers() {
    let mut world = World::new(109, 2);
    world.link(0, 1);
    world.act(0, crate::Core::shutdown);
    assert!(world.nodes[0].up.is_empty());
    world.run_for(50 * MS);
    assert!(world.nodes[1].up.is_empty());
}

#[test]
fn a_peer_whose_endpoints_change_is_dialled_at_the_new_ones() {
    let mut world = World::new(110, 2);
    world.peer(1, 0, false);
    world.peer_at(0, 1, vec!["udp://203.0.113.9:2561".parse().unwrap()]);
    world.run_for(30 * SECOND);
    assert!(world.nodes[0].up.is_empty());
    world.peer_at(0, 1, vec![endpoint(1)]);
    world.wait(3 * SECOND, "linked", |world| world.is_up(0, 1));
    world.peer_at(0, 1, vec!["udp://203.0.113.9:2561".parse().unwrap()]);
    world.traffic(0, 1, 5 * SECOND);
    assert!(world.is_up(0, 1), "open links stay");
}

#[test]
fn an_endpoint_that_no_transport_dials_is_named_as_such() {
    let mut world = World::new(111, 2);
    world.peer_at(0, 1, vec!["tor://abc.onion:2561".parse().unwrap()]);
    world.run_for(10 * SECOND);
    let status = &world.nodes[0].core.peers()[0];
    assert_eq!(status.trouble.as_deref(), Some("no transport for this kind of endpoint is on"));
    assert_eq!(status.state, PeerState::Down);
    assert_eq!(status.addr, key(1).public().addr());
}

#[test]
fn a_slow_direction_counts_at_both_ends_with_the_time_that_a_frame_needs() {
    let mut world = World::new(140, 2);
    // 37.5 ms for 1,200 bytes.
    world.rates.insert(1, 32_000);
    world.link(0, 1);
    let (least, most) = (Cost::from_units(480), Cost::from_units(540));
    let cost = |world: &World, node: usize| world.nodes[node].core.links().first().map(|link| link.cost);
    let took = world.wait(40 * SECOND, "known", |world| {
        [0, 1].iter().all(|node| cost(world, *node).is_some_and(|cost| (least..most).contains(&cost)))
    });
    assert!(took < 30 * SECOND, "{took:?}: some samples, and 10 s in which they stay");
    assert_eq!(cost(&world, 0), cost(&world, 1));
    let told = world.nodes.iter().map(|node| node.costs.len()).max();
    assert!(told <= Some(2), "the cost was told {told:?} times");

    world.rates.clear();
    world.wait(400 * SECOND, "forgotten", |world| {
        [0, 1].iter().all(|node| cost(world, *node).is_some_and(|cost| cost < Cost::from_units(130)))
    });
}
