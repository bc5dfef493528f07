//! Whole daemons in virtual time: sizes, order, bursts, damage, strangers.

use std::time::Duration;

use bytes::Bytes;
use byway_identity::Addr;
use byway_network::{Class, Plane, Protocol};
use byway_node::{Answer, Question};
use byway_sim::{Daemons, Topology, Wire};

const WIRE: Wire = Wire::clean(Class::UDP);
const SETTLED: Duration = Duration::from_secs(2);

fn chain(protocol: Protocol, seed: u64, count: usize) -> Daemons {
    let mut world = Daemons::of(protocol, seed, &Topology::chain(count), WIRE);
    world.run_for(SETTLED);
    world
}

/// Sends numbered messages every 20 ms from `from` to `to` for `time`; the numbers that arrived.
fn stream(world: &mut Daemons, from: Addr, to: Addr, time: Duration) -> (Vec<u32>, u32) {
    // What waited for a way leaves first.
    world.run_for(Duration::from_secs(1));
    world.clear_received();
    let count = (time.as_millis() / 20) as u32;
    for number in 0..count {
        // A message that is refused counts as one that did not arrive.
        let _refused = world.send(from, to, Bytes::copy_from_slice(&number.to_be_bytes()));
        world.run_for(Duration::from_millis(20));
    }
    (numbers(world, from, to), count)
}

fn numbers(world: &Daemons, from: Addr, to: Addr) -> Vec<u32> {
    let received = world.received(to).iter().filter(|got| got.from == from);
    received.filter_map(|got| Some(u32::from_be_bytes(*got.payload.first_chunk()?))).collect()
}

/// The time from now until a message passes, trying every 20 ms.
fn time_until_through(world: &mut Daemons, from: Addr, to: Addr) -> Duration {
    let began = world.elapsed();
    world.clear_received();
    for number in 0..1_000u32 {
        let _refused = world.send(from, to, Bytes::copy_from_slice(&number.to_be_bytes()));
        world.run_for(Duration::from_millis(20));
        if !world.received(to).is_empty() {
            return world.elapsed() - began;
        }
    }
    panic!("seed {}: nothing came through in {:?}", world.seed(), world.elapsed() - began);
}

fn messages_of_0_to_65535_bytes_arrive_over_0_to_3_hops(protocol: Protocol) {
    let mut world = chain(protocol, 1, 4);
    let (one, other) = (world.open(0), world.open(0));
    let mut sizes: Vec<usize> = (0..=16).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]).collect();
    sizes.extend((1_000..1_500).step_by(7));
    sizes.extend((0..60).map(|_| world.dice().below(65_536)));
    sizes.extend([65_449, 65_450, 65_534, 65_535]);
    sizes.retain(|size| *size <= 65_535);
    let to: Vec<Addr> = [one, other].into_iter().chain((0..4).map(|daemon| world.main(daemon))).collect();
    for to in to {
        world.clear_received();
        for size in &sizes {
            let payload: Bytes = (0..*size).map(|at| (at * 31 + size) as u8).collect();
            world.send_patiently(one, to, &payload).expect("it is taken");
        }
        world.run_until(Duration::from_secs(20), |world| world.received(to).len() == sizes.len());
        let got: Vec<usize> = world.received(to).iter().map(|got| got.payload.len()).collect();
        assert_eq!(got, sizes, "to {to}");
        for got in world.received(to) {
            let size = got.payload.len();
            let whole = got.payload.iter().enumerate().all(|(at, byte)| *byte == (at * 31 + size) as u8);
            assert!(whole && got.from == one, "{size} bytes arrived changed");
        }
    }
}

fn a_thousand_messages_sent_right_after_opening_arrive_in_order_over_0_to_3_hops(protocol: Protocol) {
    for hops in 0..=3 {
        let mut world = chain(protocol, 2, 4);
        // No pause between opening, at both ends, and sending.
        let (from, to) = (world.open(0), world.open(hops));
        let reverse = world.main(hops);
        for number in 0..1_000u32 {
            let payload = Bytes::copy_from_slice(&number.to_be_bytes());
            world.send_patiently(from, to, &payload).expect("it is taken");
            world.send_patiently(reverse, from, &payload).expect("it is taken");
        }
        let all: Vec<u32> = (0..1_000).collect();
        world.run_until(Duration::from_secs(10), |world| {
            world.received(to).len() == 1_000 && world.received(from).len() == 1_000
        });
        assert_eq!(numbers(&world, from, to), all, "{hops} hops");
        assert_eq!(numbers(&world, reverse, from), all, "{hops} hops, towards the fresh node");
    }
}

fn bulk_traffic_loses_nothing_and_keeps_its_order_on_a_clean_link(protocol: Protocol) {
    let mut world = chain(protocol, 3, 3);
    let (from, to) = (world.open(0), world.open(2));
    for number in 0..3_000u32 {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(1_280, 0);
        world.send_patiently(from, to, &payload.into()).expect("it is taken");
    }
    world.run_until(Duration::from_secs(20), |world| world.received(to).len() == 3_000);
    assert_eq!(numbers(&world, from, to), (0..3_000).collect::<Vec<_>>());
}

fn dead_peers_cost_the_others_nothing(protocol: Protocol) {
    let mut world = chain(protocol, 4, 3);
    for daemon in [0, 1] {
        for port in [9_001, 9_002, 9_003] {
            world.dial_nobody(daemon, ([198, 51, 100, 7], port).into());
        }
    }
    let (from, to) = (world.main(0), world.main(2));
    let (arrived, sent) = stream(&mut world, from, to, Duration::from_secs(5));
    assert_eq!(sent, 250);
    assert_eq!(arrived, (0..sent).collect::<Vec<_>>());
}

fn a_link_that_is_mended_carries_within_two_seconds(protocol: Protocol) {
    // After five minutes in vain a peer is dialled less often (spec/30-link.md).
    for (away, most) in [(1, 2), (5, 2), (60, 2), (250, 2), (900, 20)] {
        let mut world = chain(protocol, 5, 3);
        let (from, to) = (world.main(0), world.main(2));
        stream(&mut world, from, to, Duration::from_secs(1));
        world.set_wire(0, 1, false);
        stream(&mut world, from, to, Duration::from_secs(1));
        world.run_for(Duration::from_secs(away - 1));
        assert!(world.received(to).is_empty());
        world.set_wire(0, 1, true);
        for (from, to) in [(from, to), (to, from)] {
            let took = time_until_through(&mut world, from, to);
            assert!(took < Duration::from_secs(most), "cut for {away} s, back after {took:?}");
        }
        let (arrived, sent) = stream(&mut world, from, to, Duration::from_secs(60));
        assert_eq!(arrived.len() as u32, sent, "cut for {away} s: it did not last");
    }
}

fn a_daemon_that_is_killed_and_started_again_carries_within_five_seconds(protocol: Protocol) {
    for away in [0, 1, 10, 120] {
        let mut world = chain(protocol, 6, 3);
        let (from, to) = (world.open(0), world.main(2));
        stream(&mut world, from, to, Duration::from_secs(1));
        world.kill(1);
        world.run_for(Duration::from_secs(away));
        world.restart(1);
        let took = time_until_through(&mut world, from, to);
        assert!(took < Duration::from_secs(5), "away for {away} s, back after {took:?}");
        let (arrived, sent) = stream(&mut world, from, to, Duration::from_secs(20));
        assert_eq!(arrived.len() as u32, sent, "away for {away} s: it did not last");
    }
}

fn of_two_ways_one_is_cut_and_traffic_is_back_and_stays(protocol: Protocol) {
    let mut world = Daemons::of(protocol, 7, &Topology::ring(3), WIRE);
    world.run_for(SETTLED);
    let (from, to) = (world.main(0), world.main(1));
    let (arrived, sent) = stream(&mut world, from, to, Duration::from_secs(5));
    assert_eq!(arrived.len() as u32, sent);
    world.set_wire(0, 1, false);
    let noticed = world.run_until(Duration::from_secs(10), |world| {
        // Traffic, so that the link is missed as soon as it can be.
        let _refused = world.send(from, to, Bytes::new());
        let links = world.core(0).links().links();
        !links.iter().any(|link| link.peer == to)
    });
    let noticed = noticed.expect("the link layer notices");
    assert!(noticed < Duration::from_secs(3), "the cut was noticed only after {noticed:?}");
    let took = time_until_through(&mut world, from, to);
    assert!(took < Duration::from_secs(1), "back {took:?} after the cut was noticed");
    let (arrived, sent) = stream(&mut world, from, to, Duration::from_secs(60));
    assert_eq!(arrived, (0..sent).collect::<Vec<_>>(), "it did not last");
    world.set_wire(0, 1, true);
    let (arrived, sent) = stream(&mut world, from, to, Duration::from_secs(20));
    assert!(arrived.len() as u32 >= sent - 2, "{} of {sent} while the link came back", arrived.len());
}

fn loss_and_delay_lose_their_share_and_no_more(protocol: Protocol) {
    let wire = Wire { loss: 0.01, latency: Duration::from_millis(30), ..WIRE };
    let mut world = Daemons::of(protocol, 8, &Topology::chain(3), wire);
    world.run_for(Duration::from_secs(5));
    let (from, to) = (world.main(0), world.main(2));
    let (arrived, sent) = stream(&mut world, from, to, Duration::from_secs(60));
    world.run_for(SETTLED);
    let share = arrived.len() as f64 / f64::from(sent);
    assert!(share > 0.95, "{share} of the messages arrived over two links that lose one in a hundred");
    assert!(arrived.is_sorted(), "messages overtook one another on one path");
}

fn reordering_and_copies_deliver_each_message_at_most_once(protocol: Protocol) {
    let wire = Wire { jitter: Duration::from_millis(40), duplicates: 0.3, ..WIRE };
    let mut world = Daemons::of(protocol, 9, &Topology::chain(3), wire);
    world.run_for(Duration::from_secs(5));
    let (from, to) = (world.main(0), world.main(2));
    let (_, sent) = stream(&mut world, from, to, Duration::from_secs(20));
    world.run_for(SETTLED);
    let mut arrived = numbers(&world, from, to);
    arrived.sort_unstable();
    assert_eq!(arrived, (0..sent).collect::<Vec<_>>());
}

fn hostile_datagrams_change_nothing(protocol: Protocol) {
    let mut world = chain(protocol, 10, 3);
    let (from, to) = (world.main(0), world.main(2));
    world.record();
    stream(&mut world, from, to, Duration::from_secs(2));
    let past = world.take_recorded();
    assert!(past.len() > 100);
    for round in 0..20_000 {
        let Some((daemon, sender, datagram)) = world.dice().pick(&past).cloned() else { break };
        let mut bytes = datagram.to_vec();
        match round % 6 {
            0 => bytes.truncate(world.dice().below(datagram.len())),
            1 => bytes = world.dice().bytes(datagram.len()),
            2 => bytes.extend_from_slice(&datagram),
            3 => {
                let at = world.dice().below(bytes.len());
                bytes[at] ^= 1 << world.dice().below(8);
            }
            // As it was: a replay to its receiver, or reflected to its sender.
            _ => {}
        }
        if round % 6 == 5 {
            world.inject(sender, daemon, &bytes);
        } else {
            world.inject(daemon, sender, &bytes);
        }
        if round % 200 == 0 {
            world.run_for(Duration::from_millis(10));
        }
    }
    world.run_for(Duration::from_secs(5));
    let (arrived, sent) = stream(&mut world, from, to, Duration::from_secs(10));
    assert_eq!(arrived, (0..sent).collect::<Vec<_>>());
    for daemon in 0..3 {
        assert!(world.core(daemon).routes(100).len() <= 2, "daemon {daemon} believes in strangers");
    }
}

fn a_daemon_of_another_network_is_no_neighbour(protocol: Protocol) {
    let mut world = chain(protocol, 11, 2);
    let stranger = world.add("another network");
    world.link(stranger, 0, WIRE);
    world.link(1, stranger, WIRE);
    world.run_for(Duration::from_secs(20));
    let addr = world.main(stranger);
    for daemon in [0, 1] {
        assert!(world.core(daemon).routes(100).iter().all(|route| route.to != addr));
    }
    let (from, to) = (world.main(0), world.main(1));
    let ping = world.ask(from, Question::Ping { to: addr, plane: Plane::Any });
    let (arrived, sent) = stream(&mut world, from, to, Duration::from_secs(10));
    assert_eq!(arrived.len() as u32, sent);
    assert!(!matches!(world.answer(ping), Some(Ok(Answer::Pong(_)))), "a node of another network answers");
}

/// Two daemons of each kind of network on one LAN, where everybody dials everybody and takes whoever comes.
#[test]
fn networks_that_differ_in_anything_never_mix_on_one_lan() {
    let (grove, beacon) = (byway_grove::PROTOCOL, byway_beacon::PROTOCOL);
    let kinds = [
        (grove, "ours", None),
        (beacon, "ours", None),
        (grove, "theirs", None),
        (beacon, "theirs", None),
        (grove, "ours", Some([1; 32])),
        (grove, "ours", Some([2; 32])),
    ];
    let mut world = Daemons::new(grove, 14, 0);
    let count = 2 * kinds.len();
    let kind = |daemon: usize| kinds[daemon % kinds.len()];
    for daemon in 0..count {
        let (protocol, network, group_key) = kind(daemon);
        world.add_with(protocol, network, group_key);
    }
    for daemon in 0..count {
        (0..count).filter(|other| *other != daemon).for_each(|other| world.link(daemon, other, WIRE));
    }
    world.run_for(Duration::from_secs(10));
    let ping = |world: &mut Daemons, from: usize, to: usize| {
        let (from, to) = (world.main(from), world.main(to));
        world.ask(from, Question::Ping { to, plane: Plane::Any })
    };
    let pairs: Vec<_> = (0..count).flat_map(|from| (0..count).map(move |to| (from, to))).collect();
    let pings: Vec<_> = pairs.iter().map(|(from, to)| ping(&mut world, *from, *to)).collect();
    world.run_for(Duration::from_secs(35));
    for ((from, to), ping) in pairs.into_iter().zip(pings) {
        let (same, addr) = (from % kinds.len() == to % kinds.len(), world.main(to));
        let (core, who) = (world.core(from), format!("{from} and {to}"));
        let answered = matches!(world.answer(ping), Some(Ok(Answer::Pong(_))));
        assert_eq!(answered, same, "{who}: {:?}", world.answer(ping));
        if from == to {
            continue;
        }
        assert_eq!(core.routes(100).iter().any(|route| route.to == addr), same, "{who}: a way");
        assert_eq!(core.links().links().iter().any(|link| link.peer == addr), same, "{who}: a link");
        let peers = core.links().peers();
        let trouble = peers.iter().find(|peer| peer.addr == addr).and_then(|peer| peer.trouble.clone());
        let (ours, theirs) = (kind(from), kind(to));
        let reasons = if ours.2 != theirs.2 {
            // What can be told without the key: handshakes do not come to their end.
            match ours.2 {
                Some(_) => vec!["it may not have this group's key".to_owned()],
                None => vec!["it may be of a closed group".to_owned(), "no answer".to_owned()],
            }
        } else if ours.1 != theirs.1 {
            vec!["it is of another network".to_owned()]
        } else {
            vec![format!("{} there, {} here", theirs.0.name(), ours.0.name())]
        };
        let told = |why: &String| reasons.iter().any(|reason| why.contains(reason));
        assert!(same || trouble.as_ref().is_some_and(told), "{who}: {trouble:?}");
    }
    for daemon in 0..count {
        let core = world.core(daemon);
        assert_eq!(core.nodes()[0].counters.refused, 0, "a frame of another network came through");
        assert_eq!(core.links().links().len(), 1, "daemon {daemon}");
    }
}

fn an_idle_chain_spends_little(protocol: Protocol) {
    let mut world = chain(protocol, 12, 3);
    world.run_for(Duration::from_secs(60));
    world.record();
    world.run_for(Duration::from_secs(60));
    let bytes: usize = world.take_recorded().iter().map(|(.., datagram)| datagram.len()).sum();
    let rate = bytes / 60 / 4;
    assert!(rate < 1_000, "{rate} B/s on each link and direction of an idle chain");
}

fn thirty_nodes_on_one_daemon_exchange_messages_all_to_all(protocol: Protocol) {
    let mut world = chain(protocol, 13, 2);
    let nodes: Vec<Addr> = (0..30).map(|_| world.open(0)).collect();
    for from in &nodes {
        for to in &nodes {
            world.send(*from, *to, Bytes::copy_from_slice(from.as_bytes())).expect("it is taken");
        }
    }
    let whole = |world: &mut Daemons| nodes.iter().all(|node| world.received(*node).len() == nodes.len());
    world.run_until(Duration::from_secs(5), whole);
    for node in &nodes {
        let mut from: Vec<Addr> = world.received(*node).iter().map(|got| got.from).collect();
        from.sort_unstable();
        let mut all = nodes.clone();
        all.sort_unstable();
        assert_eq!(from, all, "at {node}");
        assert!(world.received(*node).iter().all(|got| got.payload == got.from.as_bytes()[..]));
    }
}

byway_sim::with_each_protocol! {
    messages_of_0_to_65535_bytes_arrive_over_0_to_3_hops
    a_thousand_messages_sent_right_after_opening_arrive_in_order_over_0_to_3_hops
    bulk_traffic_loses_nothing_and_keeps_its_order_on_a_clean_link
    dead_peers_cost_the_others_nothing
    a_link_that_is_mended_carries_within_two_seconds
    a_daemon_that_is_killed_and_started_again_carries_within_five_seconds
    of_two_ways_one_is_cut_and_traffic_is_back_and_stays
    loss_and_delay_lose_their_share_and_no_more
    reordering_and_copies_deliver_each_message_at_most_once
    hostile_datagrams_change_nothing
    a_daemon_of_another_network_is_no_neighbour
    an_idle_chain_spends_little
    thirty_nodes_on_one_daemon_exchange_messages_all_to_all
}
