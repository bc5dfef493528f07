//! Whole daemons with the engines of their threads, in virtual time: what goes past the cores, and what the cores make of it.

use std::time::Duration;

use byway_api::{Kind, ManCon};
use byway_fastpath::vnet::Header;
use byway_fastpath::{Owner, Snapshot};
use byway_identity::Addr;
use byway_link::PeerState;
use byway_network::{Class, Plane, Protocol};
use byway_node::Levels;
use byway_sim::{Daemons, Topology, Wire, checksum, packet};

const WIRE: Wire = Wire::clean(Class::UDP);
const SETTLED: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(20);

/// A chain of daemons, all with threads, between whose ends a first packet has made a session.
fn chain(protocol: Protocol, seed: u64, count: usize) -> Daemons {
    let mut world = Daemons::of(protocol, seed, &Topology::chain(count), WIRE);
    for daemon in 0..count {
        world.start_threads(daemon);
    }
    world.run_for(SETTLED);
    for (from, to) in [(0, count - 1), (count - 1, 0)] {
        world.send_packet(from, to, b"hello");
        world.run_for(Duration::from_secs(1));
    }
    let (one, other) = (world.main(0), world.main(count - 1));
    assert_eq!((packets(&world, other).len(), packets(&world, one).len()), (1, 1));
    world.clear_received();
    world
}

/// Payloads of the packets that a node has received, each of which was whole and right.
fn packets(world: &Daemons, node: Addr) -> Vec<Vec<u8>> {
    let received = world.received(node).iter().filter(|got| got.kind == Kind::Packet);
    received
        .map(|got| {
            assert_eq!(checksum(&got.payload), 0, "seed {}: a packet with a wrong checksum", world.seed());
            got.payload[48..].to_vec()
        })
        .collect()
}

/// Sends numbered packets every 20 ms for `time`; how many.
fn stream(world: &mut Daemons, from: usize, to: usize, time: Duration) -> u32 {
    let count = (time.as_millis() / TICK.as_millis()) as u32;
    for number in 0..count {
        world.send_packet(from, to, &number.to_be_bytes());
        world.run_for(TICK);
    }
    count
}

fn numbers(world: &Daemons, node: Addr) -> Vec<u32> {
    packets(world, node)
        .iter()
        .filter_map(|payload| Some(u32::from_be_bytes(*payload.first_chunk()?)))
        .collect()
}

/// The time until packets from `from` come through, tried every 20 ms.
fn time_until_through(world: &mut Daemons, from: usize, to: usize) -> Duration {
    let (began, node) = (world.elapsed(), world.main(to));
    world.clear_received();
    for number in 0..2_000u32 {
        world.send_packet(from, to, &number.to_be_bytes());
        world.run_for(TICK);
        if !packets(world, node).is_empty() {
            return world.elapsed() - began;
        }
    }
    panic!("seed {}: nothing came through in {:?}", world.seed(), world.elapsed() - began);
}

/// The receiver index by which `world.main(daemon)` knows its session with `remote`.
fn index(snapshot: &Snapshot, with: Addr) -> u32 {
    let is_it = |owner: &Owner| matches!(owner, Owner::Node { remote, .. } if *remote == with);
    let mut found = snapshot.sessions.iter().filter(|(_, session)| is_it(&session.owner));
    *found.next().expect("there is a session").0
}

fn first_four(datagram: &[u8]) -> u32 {
    u32::from_le_bytes(*datagram.first_chunk().expect("long enough"))
}

fn packets_between_neighbours_pass_no_core_and_go_bare(protocol: Protocol) {
    let mut world = chain(protocol, 1, 2);
    let before = [world.thread_counters(0), world.thread_counters(1)];
    world.record();
    let count = stream(&mut world, 0, 1, Duration::from_secs(2));
    let after = [world.thread_counters(0), world.thread_counters(1)];
    let to = world.main(1);
    assert_eq!(numbers(&world, to), (0..count).collect::<Vec<_>>());
    assert_eq!((after[0].to_portal, after[1].injected - before[1].injected), (1, u64::from(count)));
    let bare = index(&world.snapshot(1), world.main(0));
    let datagrams = world.take_recorded();
    let sealed = datagrams.iter().filter(|(to, _, datagram)| *to == 1 && first_four(datagram) == bare);
    // Not counting signs of life.
    let sealed = sealed.filter(|(_, _, datagram)| datagram.len() > 64);
    let lengths: Vec<usize> = sealed.map(|(_, _, datagram)| datagram.len()).collect();
    assert_eq!(lengths.len(), count as usize, "all went bare");
    assert!(lengths.iter().all(|length| *length == 128), "52 bytes and 32, padded: {lengths:?}");
}

fn what_threads_carry_is_counted_by_links_nodes_and_sessions(protocol: Protocol) {
    let mut world = chain(protocol, 2, 2);
    let counted = |world: &Daemons, daemon: usize| {
        let core = world.core(daemon);
        let (node, link) = (core.nodes()[0].counters, core.links().links()[0].clone());
        let session = core.sessions()[0].1.clone();
        [node.sent.0, node.received.0, link.sent.0, link.received.0, session.sent, session.received]
    };
    let before = [counted(&world, 0), counted(&world, 1)];
    let count = u64::from(stream(&mut world, 0, 1, Duration::from_secs(2)));
    world.run_for(Duration::from_millis(250));
    let [sent, received] = [0, 1].map(|daemon| {
        let after = counted(&world, daemon);
        std::array::from_fn::<u64, 6, _>(|at| after[at] - before[daemon][at])
    });
    for (what, counted) in [("node", sent[0]), ("link", sent[2]), ("session", sent[4])] {
        assert!((count..count + 10).contains(&counted), "sent by {what}: {counted} of {count}");
    }
    for (what, counted) in [("node", received[1]), ("link", received[3]), ("session", received[5])] {
        assert!((count..count + 10).contains(&counted), "received by {what}: {counted} of {count}");
    }
}

fn a_relay_passes_packets_on_without_its_core(protocol: Protocol) {
    let mut world = chain(protocol, 3, 3);
    let before = world.thread_counters(1);
    let count = stream(&mut world, 0, 2, Duration::from_secs(2));
    let after = world.thread_counters(1);
    let to = world.main(2);
    assert_eq!(numbers(&world, to), (0..count).collect::<Vec<_>>());
    assert!(after.frames - before.frames >= u64::from(count));
    assert_eq!(after.injected, before.injected, "they are none of its business");
    let core = after.unsealed + after.datagrams - before.unsealed - before.datagrams;
    assert!(core < 60, "{core} frames went to the relay's core, for {count} packets");
}

fn the_longest_packets_that_fit_are_carried_whole(protocol: Protocol) {
    let mut world = chain(protocol, 4, 3);
    // Time to find the length of the path.
    world.run_for(Duration::from_secs(30));
    // A pinned way of two links is shorter to write than a beacon's target.
    let over_two = if protocol.name() == "grove" { 1_375 } else { 1_353 };
    for (to, room) in [(1, 1_420), (2, over_two)] {
        world.send_packet(0, to, b"hello");
        world.run_for(SETTLED);
        let way = (world.main(to), Plane::Any);
        let snapshot = world.snapshot(0);
        let fits = snapshot.ways.get(&way).expect("there is a session").room;
        assert!(fits <= room && fits + 32 > room, "{fits} bytes to {to}, {room} expected");
        world.clear_received();
        let before = world.thread_counters(0);
        world.send_packet(0, to, &vec![7; usize::from(fits) - 48]);
        world.run_for(TICK);
        let node = world.main(to);
        assert_eq!(packets(&world, node), [vec![7; usize::from(fits) - 48]]);
        assert_eq!(world.thread_counters(0).frames - before.frames, 1);
    }
}

fn keys_rotate_and_sessions_are_renewed_and_no_packet_is_lost(protocol: Protocol) {
    let mut world = chain(protocol, 5, 3);
    let handshakes = |world: &Daemons| world.core(0).nodes()[0].sessions.established;
    let (to, before) = (world.main(2), handshakes(&world));
    let mut lost = Vec::new();
    for minute in 0..25 {
        world.clear_received();
        let all: Vec<u32> = (0..600).collect();
        for number in &all {
            world.send_packet(0, 2, &number.to_be_bytes());
            world.run_for(Duration::from_millis(100));
        }
        if numbers(&world, to) != all {
            lost.push((minute, 600 - numbers(&world, to).len()));
        }
    }
    assert!(handshakes(&world) >= before + 2, "a new handshake every ten minutes of use");
    assert_eq!(lost, []);
    let slow = world.thread_counters(0);
    assert!(slow.to_portal < 20, "{slow:?}");
}

fn a_cut_is_noticed_though_only_threads_send_and_a_mended_wire_carries_at_once(protocol: Protocol) {
    let mut world = chain(protocol, 6, 2);
    stream(&mut world, 0, 1, Duration::from_secs(3));
    world.set_wire(0, 1, false);
    let up = |world: &Daemons, daemon: usize| world.core(daemon).links().peers()[0].state == PeerState::Up;
    let cut = world.elapsed();
    while up(&world, 0) {
        world.send_packet(0, 1, b"anybody?");
        world.run_for(TICK);
        assert!(world.elapsed() - cut < Duration::from_millis(1_800), "the link is held for alive");
    }
    assert!(world.snapshot(0).links.is_empty(), "threads use no dead link");
    stream(&mut world, 0, 1, Duration::from_secs(5));
    world.set_wire(0, 1, true);
    let after = time_until_through(&mut world, 0, 1);
    assert!(after < Duration::from_secs(2), "{after:?}");
    // The first packet may be faster than the snapshot that tells threads of the session.
    world.run_for(TICK);
    let before = world.thread_counters(0);
    let count = stream(&mut world, 0, 1, Duration::from_secs(2));
    assert_eq!(world.thread_counters(0).frames - before.frames, u64::from(count));
}

fn another_way_takes_over_when_the_first_is_cut(protocol: Protocol) {
    let mut world = Daemons::of(protocol, 7, &Topology::ring(4), WIRE);
    for daemon in 0..4 {
        world.start_threads(daemon);
    }
    world.run_for(SETTLED);
    time_until_through(&mut world, 0, 1);
    stream(&mut world, 0, 1, Duration::from_secs(2));
    world.set_wire(0, 1, false);
    let after = time_until_through(&mut world, 0, 1);
    // Nothing comes from the other end, which has to miss the link by itself once it answers: with beacons it hears by the
    // long way that the direct one is gone.
    let most = Duration::from_millis(if protocol.name() == "grove" { 3_500 } else { 2_500 });
    assert!(after < most, "{after:?}");
    let before = world.thread_counters(2);
    let count = stream(&mut world, 0, 1, Duration::from_secs(2));
    let frames = world.thread_counters(2).frames - before.frames;
    assert!(frames >= u64::from(count), "{frames} of {count} by the long way, past the cores");
}

fn a_peer_that_has_forgotten_its_sessions_is_noticed(protocol: Protocol) {
    let mut world = chain(protocol, 8, 3);
    stream(&mut world, 0, 2, Duration::from_secs(2));
    world.kill(2);
    stream(&mut world, 0, 2, Duration::from_millis(500));
    world.restart(2);
    world.start_threads(2);
    let after = time_until_through(&mut world, 0, 2);
    assert!(after < Duration::from_secs(6), "{after:?}");
}

fn a_session_that_was_closed_carries_nothing_more_whatever_snapshot_is_used(protocol: Protocol) {
    let mut world = chain(protocol, 9, 2);
    let old = world.snapshot(0);
    let now = std::time::Instant::now();
    assert!(old.ways.values().all(|way| way.outbound.take(now, 1).is_some()));
    let peer = world.main(1);
    world.remove_peer(0, peer);
    world.run_for(SETTLED);
    assert!(world.snapshot(0).links.is_empty());
    assert!(old.links.values().all(|link| link.outbound.take(now, 1).is_none()), "the link has ended");
}

fn below_a_raised_level_no_thread_sends_from_that_moment_on(protocol: Protocol) {
    let mut world = chain(protocol, 10, 2);
    stream(&mut world, 0, 1, Duration::from_secs(1));
    world.clear_received();
    let levels = Levels { default: ManCon::Low, floor: ManCon::High, direct: true };
    world.set_levels(0, levels);
    let bare = index(&world.snapshot(1), world.main(0));
    world.run_for(Duration::from_millis(100));
    world.clear_received();
    world.record();
    let before = world.thread_counters(0);
    let count = stream(&mut world, 0, 1, Duration::from_secs(3));
    let after = world.thread_counters(0);
    assert_eq!(after.to_portal - before.to_portal, u64::from(count), "they are for the core to refuse");
    let to = world.main(1);
    assert_eq!(packets(&world, to), Vec::<Vec<u8>>::new());
    let sealed = world.take_recorded().into_iter().filter(|(to, _, datagram)| {
        // Signs of life of the session that is there; packets are longer.
        *to == 1 && first_four(datagram) == bare && datagram.len() > 64
    });
    assert_eq!(sealed.count(), 0);
    world.set_levels(0, Levels { floor: ManCon::Low, ..levels });
    time_until_through(&mut world, 0, 1);
    let before = world.thread_counters(0);
    stream(&mut world, 0, 1, Duration::from_secs(1));
    assert_eq!(world.thread_counters(0).to_portal, before.to_portal);
}

fn a_bare_frame_counts_once_wherever_it_comes_from_and_moves_no_link(protocol: Protocol) {
    for threads in [true, false] {
        let mut world = chain(protocol, 11, 2);
        if !threads {
            world.stop_threads(1);
        }
        world.set_wire(0, 1, false);
        world.record();
        world.send_packet(0, 1, b"by another way");
        let bare = index(&world.snapshot(1), world.main(0));
        let recorded = world.take_recorded();
        let (_, _, frame) = recorded
            .iter()
            .find(|(_, _, datagram)| first_four(datagram) == bare)
            .expect("the packet was sealed");
        // What came before the cut has been looked at.
        world.run_for(Duration::from_millis(300));
        let before = world.core(1).links().links()[0].clone();
        let stranger = ([198, 51, 100, 9], 4_242).into();
        for _ in 0..5 {
            world.inject_from(1, stranger, frame);
            world.run_for(TICK);
        }
        let to = world.main(1);
        assert_eq!(packets(&world, to), [b"by another way".to_vec()], "threads: {threads}");
        let after = world.core(1).links().links()[0].clone();
        assert_eq!(after.place, before.place, "threads: {threads}");
        assert_eq!(after.received, before.received, "it shows nothing of the link; threads: {threads}");
    }
}

fn a_link_frame_from_another_place_is_for_the_core_to_judge(protocol: Protocol) {
    let mut world = chain(protocol, 12, 3);
    world.set_wire(0, 1, false);
    world.record();
    world.send_packet(0, 2, b"roaming");
    let recorded = world.take_recorded();
    let (_, _, frame) =
        recorded.iter().find(|(to, _, _)| *to == 1).expect("the packet was sealed for the relay");
    let before = world.thread_counters(1);
    world.inject_from(1, ([198, 51, 100, 9], 4_242).into(), frame);
    let after = world.thread_counters(1);
    assert_eq!((after.frames, after.datagrams), (before.frames, before.datagrams + 1));
    world.run_for(SETTLED);
    let to = world.main(2);
    assert_eq!(
        packets(&world, to),
        [b"roaming".to_vec()],
        "the core opens it, and asks the new place who is there"
    );
}

fn a_checksum_that_was_left_to_the_receiver_is_finished_by_a_core_without_threads(protocol: Protocol) {
    let mut world = chain(protocol, 13, 2);
    world.stop_threads(1);
    let (from, to) = (world.main(0), world.main(1));
    let mut bytes = packet(&from, &to, b"partial");
    // As a kernel leaves it: the field holds the sum of the pseudo-header alone.
    bytes[46..48].fill(0);
    let pseudo = [&bytes[8..40], &[0, 0, 0, 15, 0, 0, 0, 17]].concat();
    let words = pseudo.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[46..48].copy_from_slice(&(sum as u16).to_be_bytes());
    let header = Header { checksum: Some((40, 6)), gso: None, header: 48 };
    let before = world.thread_counters(0);
    world.send_whole_packet(0, header.emit(), &bytes);
    world.run_for(TICK);
    assert_eq!(world.thread_counters(0).to_portal, before.to_portal, "a thread sealed it as it was");
    assert_eq!(packets(&world, to), [b"partial".to_vec()]);
}

fn daemons_with_and_without_threads_understand_each_other(protocol: Protocol) {
    for (one, other) in [(true, false), (false, true), (false, false)] {
        let mut world = chain(protocol, 14, 3);
        if !one {
            world.stop_threads(0);
        }
        if !other {
            world.stop_threads(2);
        }
        world.stop_threads(1);
        for (from, to) in [(0, 2), (2, 0), (0, 1), (1, 2)] {
            world.clear_received();
            time_until_through(&mut world, from, to);
            world.clear_received();
            let count = stream(&mut world, from, to, Duration::from_secs(1));
            let node = world.main(to);
            assert_eq!(
                numbers(&world, node),
                (0..count).collect::<Vec<_>>(),
                "{from} to {to}: {one} {other}"
            );
        }
    }
}

fn messages_pass_beside_packets_that_threads_carry(protocol: Protocol) {
    let mut world = chain(protocol, 15, 3);
    let (from, to) = (world.main(0), world.main(2));
    for number in 0..200u32 {
        world.send_packet(0, 2, &number.to_be_bytes());
        let payload = number.to_be_bytes().repeat(1 + number as usize * 20);
        world.send_patiently(from, to, &payload.into()).expect("it is taken");
        world.run_for(Duration::from_millis(5));
    }
    world.run_for(SETTLED);
    assert_eq!(packets(&world, to).len(), 200);
    let messages = world.received(to).iter().filter(|got| got.kind == Kind::Message);
    let sizes: Vec<usize> = messages.map(|got| got.payload.len()).collect();
    assert_eq!(sizes, (0..200).map(|number| 4 + number * 80).collect::<Vec<_>>());
}

fn a_second_node_of_a_daemon_cannot_be_asked_for_by_bare_frames(protocol: Protocol) {
    let mut world = chain(protocol, 16, 2);
    for threads in [true, false] {
        let second = world.open(1);
        if !threads {
            world.stop_threads(1);
        }
        let first = world.main(0);
        world.send_patiently(first, second, &b"hello"[..].into()).expect("it is taken");
        world.run_for(SETTLED);
        let snapshot = world.snapshot(1);
        let mine = |owner: &Owner| matches!(owner, Owner::Node { local, .. } if *local == second);
        let of_second = snapshot.sessions.iter().find(|(_, session)| mine(&session.owner));
        let index = *of_second.expect("it has a session").0;
        let counters = |world: &Daemons| {
            let nodes = world.core(1).nodes();
            let node = nodes.iter().find(|node| node.addr == second).expect("it is open");
            (node.sessions.opened, node.sessions.forged, node.sessions.unknown)
        };
        // Links and sessions ask for signs of life now and then.
        let quiet = (0..100).any(|_| {
            world.record();
            world.run_for(TICK);
            world.take_recorded().is_empty()
        });
        assert!(quiet, "it is never quiet");
        let before = counters(&world);
        world.record();
        let mut frame = vec![0; 64];
        frame[..4].copy_from_slice(&index.to_le_bytes());
        world.inject(1, 0, &frame);
        world.run_for(TICK);
        assert_eq!(counters(&world), before, "it was not even tried; threads: {threads}");
        let answers = world.take_recorded().into_iter().filter(|(to, from, _)| (*to, *from) == (0, 1));
        assert_eq!(answers.count(), 0, "threads: {threads}");
    }
}

byway_sim::with_each_protocol! {
    packets_between_neighbours_pass_no_core_and_go_bare
    what_threads_carry_is_counted_by_links_nodes_and_sessions
    a_relay_passes_packets_on_without_its_core
    the_longest_packets_that_fit_are_carried_whole
    keys_rotate_and_sessions_are_renewed_and_no_packet_is_lost
    a_cut_is_noticed_though_only_threads_send_and_a_mended_wire_carries_at_once
    another_way_takes_over_when_the_first_is_cut
    a_peer_that_has_forgotten_its_sessions_is_noticed
    a_session_that_was_closed_carries_nothing_more_whatever_snapshot_is_used
    below_a_raised_level_no_thread_sends_from_that_moment_on
    a_bare_frame_counts_once_wherever_it_comes_from_and_moves_no_link
    a_link_frame_from_another_place_is_for_the_core_to_judge
    a_checksum_that_was_left_to_the_receiver_is_finished_by_a_core_without_threads
    daemons_with_and_without_threads_understand_each_other
    messages_pass_beside_packets_that_threads_carry
    a_second_node_of_a_daemon_cannot_be_asked_for_by_bare_frames
}
