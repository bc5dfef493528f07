//! Two neighbours: what one reads from its device, the other writes to its own.

use std::sync::atomic::Ordering;
use std::time::Duration;

use byway_identity::{Entropy, SeededEntropy};
use byway_session::Ciphers;

use crate::checksum::tests::is_right;
use crate::testing::{FRAME_MAX, Memory, OpenGate, PORT, Super, World, place};
use crate::vnet::{self, GsoKind, Header};
use crate::{Ecn, Inward, Offloads, Outward, Snapshot};

const ALL: Offloads = Offloads { checksum: true, tso: true, uso: true };

/// Two neighbours and their engines.
struct Pair {
    world: World,
    tables: [Snapshot; 2],
    gates: [OpenGate; 2],
    out: Outward,
    into: Inward,
}

impl Pair {
    fn new(offloads: Offloads) -> Self {
        let (world, tables) = World::neighbours(Ciphers::AES);
        let gates = [0, 1].map(|node| OpenGate::new(world.nodes[node], &world.nodes));
        let (out, into) = (Outward::new(&mut SeededEntropy::new(1)), Inward::new(offloads));
        Self { world, tables, gates, out, into }
    }

    fn read(&self, shape: &Super) -> Vec<u8> {
        shape.read(&self.world.nodes[0], &self.world.nodes[1])
    }

    /// Reads all of `shapes`, then flushes.
    fn send(&mut self, shapes: &[Super]) -> Memory {
        let mut sink = Memory::default();
        for shape in shapes {
            let mut bytes = self.read(shape);
            self.out.read(self.world.now, &mut bytes, &self.tables[0], &self.gates[0], &mut sink);
        }
        self.out.flush(self.world.now, &mut sink);
        sink
    }

    fn receive(&mut self, ecn: Ecn, bytes: &[u8], stride: usize, sink: &mut Memory) {
        let (now, gate) = (self.world.now, &self.gates[1]);
        let mut bytes = bytes.to_vec();
        let tables = &self.tables[1];
        self.into.train(now, PORT, place(0), ecn, &mut bytes, stride, tables, Some(gate), sink);
    }

    /// What comes out at the other end.
    fn carry(&mut self, shapes: &[Super]) -> (Memory, Memory) {
        let sent = self.send(shapes);
        let mut received = Memory::default();
        for (to, ecn, bytes, stride) in &sent.trains {
            assert_eq!(*to, place(1));
            self.receive(*ecn, bytes, *stride, &mut received);
        }
        (sent, received)
    }
}

fn small(count: usize, size: usize) -> Vec<Super> {
    vec![Super { is_tcp: false, payload: size, size: u16::MAX, ..Super::default() }; count]
}

#[test]
fn a_super_packet_leaves_as_one_train_and_comes_out_as_it_was() {
    for is_tcp in [true, false] {
        let mut pair = Pair::new(ALL);
        let shape = Super { is_tcp, ..Super::default() };
        let (sent, received) = pair.carry(&[shape]);
        assert_eq!(sent.trains.len(), 1);
        assert_eq!(sent.trains[0].3, 1452);
        let read = pair.read(&shape);
        assert_eq!(received.injected.len(), 1);
        let (header, packet) = &received.injected[0];
        assert!(packet == &read[vnet::LENGTH..], "the packet is another one");
        assert_eq!(header.emit(), read[..vnet::LENGTH]);
        let [asked, told] = [&pair.gates[0].asked_out, &pair.gates[1].asked_in];
        assert_eq!((asked.load(Ordering::Relaxed), told.load(Ordering::Relaxed)), (1, 1));
        assert_eq!(pair.gates[1].received.load(Ordering::Relaxed), 45);
        assert_eq!(pair.gates[0].sent.load(Ordering::Relaxed), 45);
    }
}

#[test]
fn small_datagrams_of_separate_reads_become_one_train_and_one_write() {
    let mut pair = Pair::new(ALL);
    let (sent, received) = pair.carry(&small(64, 256));
    assert_eq!(sent.trains.len(), 1);
    assert_eq!(received.injected.len(), 1);
    let (header, packet) = &received.injected[0];
    assert_eq!(packet.len(), 48 + 64 * 256);
    let gso = header.gso.expect("a super-packet");
    assert_eq!((gso.kind, gso.size), (GsoKind::Udp, 256));
    let gates = &pair.gates;
    assert_eq!(gates[0].asked_out.load(Ordering::Relaxed), 1, "one verdict serves the flow");
    assert_eq!(gates[1].asked_in.load(Ordering::Relaxed), 1);
}

#[test]
fn packets_of_two_flows_share_a_train_and_stay_apart() {
    let mut pair = Pair::new(ALL);
    let flow = |port| Super { is_tcp: false, payload: 200, port, ..Super::default() };
    let (sent, received) = pair.carry(&[flow(1), flow(1), flow(2), flow(2), flow(1)]);
    assert_eq!(sent.trains.len(), 1);
    let sizes: Vec<_> = received.injected.iter().map(|(_, packet)| packet.len()).collect();
    assert_eq!(sizes, [448, 448, 248]);
}

#[test]
fn frames_are_padded_so_that_their_length_tells_little() {
    let mut pair = Pair::new(ALL);
    for payload in [1, 100, 500, 1000, 1372] {
        let sent = pair.send(&small(1, payload));
        let length = sent.trains[0].2.len();
        assert!(length.is_multiple_of(64) || length == usize::from(FRAME_MAX), "{length}");
        assert!(length >= payload + 48 + 32 && length < payload + 48 + 32 + 64);
    }
}

#[test]
fn a_shorter_frame_ends_a_train_and_a_longer_one_begins_another() {
    let mut pair = Pair::new(ALL);
    let sizes = [500, 500, 100, 500, 900, 900];
    let shapes: Vec<_> = sizes.iter().flat_map(|size| small(1, *size)).collect();
    let (sent, received) = pair.carry(&shapes);
    let frames: Vec<_> = sent.trains.iter().map(|train| train.2.len().div_ceil(train.3)).collect();
    assert_eq!(frames, [3, 1, 2]);
    let payload: usize = received.injected.iter().map(|(_, packet)| packet.len() - 48).sum();
    assert_eq!(payload, sizes.iter().sum::<usize>());
}

#[test]
fn what_is_longer_than_a_train_goes_in_two() {
    let mut pair = Pair::new(ALL);
    let shape = Super { payload: 65_400, size: 1000, ..Super::default() };
    let (sent, received) = pair.carry(&[shape]);
    assert_eq!(sent.trains.len(), 2);
    let payload: Vec<u8> = received.injected.iter().flat_map(|(_, packet)| packet[72..].to_vec()).collect();
    assert_eq!(payload, pair.read(&shape)[vnet::LENGTH + 72..]);
}

#[test]
fn a_device_without_offloads_gets_plain_packets_that_are_right() {
    for (offloads, is_merged) in [
        (Offloads::default(), false),
        (Offloads { checksum: true, ..Offloads::default() }, false),
        (Offloads { uso: false, ..ALL }, true),
    ] {
        let mut pair = Pair::new(offloads);
        let (_, received) = pair.carry(&[Super::default()]);
        assert_eq!(received.injected.len(), if is_merged { 1 } else { 45 });
        let udp = Super { is_tcp: false, sequence: 0, ..Super::default() };
        let (_, datagrams) = pair.carry(&[udp]);
        assert_eq!(datagrams.injected.len(), 45);
        for (header, packet) in &datagrams.injected {
            assert_eq!(header.gso, None);
            assert_eq!(header.checksum.is_none(), is_right(packet));
            assert_eq!(header.checksum.is_some(), offloads.checksum);
        }
    }
}

#[test]
fn plain_packets_pass_as_they_are() {
    let mut pair = Pair::new(ALL);
    let mut read = pair.read(&Super { is_tcp: false, payload: 64, ..Super::default() });
    read[..vnet::LENGTH].fill(0);
    // ICMPv6, as ping sends it.
    read[vnet::LENGTH + 6] = 58;
    let mut sink = Memory::default();
    for _ in 0..2 {
        let mut bytes = read.clone();
        pair.out.read(pair.world.now, &mut bytes, &pair.tables[0], &pair.gates[0], &mut sink);
    }
    pair.out.flush(pair.world.now, &mut sink);
    let mut received = Memory::default();
    let (_, ecn, bytes, stride) = &sink.trains[0];
    pair.receive(*ecn, bytes, *stride, &mut received);
    let plain = (Header::default(), read[vnet::LENGTH..].to_vec());
    assert_eq!(received.injected, [plain.clone(), plain]);
    assert_eq!(pair.gates[1].asked_in.load(Ordering::Relaxed), 2);
}

#[test]
fn what_has_no_way_or_no_room_goes_to_the_slow_path_as_plain_packets() {
    let mut pair = Pair::new(ALL);
    let big = Super { size: 1400, payload: 5000, ..Super::default() };
    let sent = pair.send(&[big]);
    assert!(sent.trains.is_empty());
    assert_eq!(sent.portal.len(), 4);
    assert!(sent.portal.iter().all(|packet| is_right(packet)));
    let payload: Vec<u8> = sent.portal.iter().flat_map(|packet| packet[72..].to_vec()).collect();
    assert_eq!(payload, pair.read(&big)[vnet::LENGTH + 72..]);

    pair.tables[0].ways.clear();
    let sent = pair.send(&[Super { payload: 3000, ..Super::default() }]);
    assert_eq!((sent.trains.len(), sent.portal.len()), (0, 3));

    let mut pair = Pair::new(ALL);
    pair.tables[0].planes.default = None;
    let sent = pair.send(&small(2, 100));
    assert_eq!((sent.trains.len(), sent.portal.len()), (0, 2));
    assert!(sent.portal.iter().all(|packet| is_right(packet)));
}

#[test]
fn a_session_that_has_ended_gives_its_packets_back_to_the_slow_path() {
    let mut pair = Pair::new(ALL);
    let later = pair.world.now + Duration::from_secs(3600);
    let mut sink = Memory::default();
    let mut bytes = pair.read(&Super { payload: 3000, ..Super::default() });
    pair.out.read(later, &mut bytes, &pair.tables[0], &pair.gates[0], &mut sink);
    pair.out.flush(later, &mut sink);
    assert_eq!((sink.trains.len(), sink.portal.len()), (0, 3));
    assert!(sink.portal.iter().all(|packet| is_right(packet)));
}

#[test]
fn congestion_marks_go_through_the_tunnel() {
    // Traffic class: not capable, ECT(1), ECT(0), met.
    for (inner, ecn) in [(0, Ecn::NotEct), (1, Ecn::Ect1), (2, Ecn::Ect0), (3, Ecn::Ce)] {
        let mut pair = Pair::new(ALL);
        let sent = pair.send(&[Super { class: inner, ..Super::default() }]);
        let (_, outer, bytes, stride) = &sent.trains[0];
        assert_eq!(*outer, ecn);
        let mut received = Memory::default();
        pair.receive(Ecn::Ce, bytes, *stride, &mut received);
        if inner == 0 {
            assert!(received.injected.is_empty());
            assert_eq!(pair.into.counters().congested, 45);
        } else {
            assert_eq!(received.injected.len(), 1);
            assert_eq!(Ecn::of(&received.injected[0].1), Ecn::Ce);
        }
    }
}

#[test]
fn a_flow_that_waits_too_long_loses_one_segment_or_is_marked() {
    for class in [0, 2] {
        let mut pair = Pair::new(ALL);
        let mut now = pair.world.now;
        let mut sink = Memory::default();
        let read = pair.read(&Super { class, payload: 10 * 1348, ..Super::default() });
        for _ in 0..300 {
            // Eight come and five go, so that something waits always.
            for _ in 0..8 {
                pair.out.space()[..read.len()].copy_from_slice(&read);
                pair.out.enqueue(now, read.len());
            }
            now += Duration::from_millis(1);
            pair.out.next(now, &pair.tables[0], &pair.gates[0], &mut sink);
        }
        let counters = pair.out.counters();
        if class == 0 {
            assert!(counters.left_out > 0 && counters.marked == 0);
            assert!(sink.trains.iter().any(|train| train.2.len() % 1452 == 0));
        } else {
            assert!(counters.marked > 0 && counters.left_out == 0);
            assert!(sink.trains.iter().any(|train| train.1 == Ecn::Ce));
        }
    }
}

#[test]
fn what_is_read_while_nothing_waits_passes_the_queue_and_the_order_stays() {
    let mut pair = Pair::new(ALL);
    let now = pair.world.now;
    let mut sink = Memory::default();
    for number in 0..600u32 {
        // More than goes straight, small and large.
        let payload = if number % 3 == 0 { 4000 } else { 400 };
        let read = pair.read(&Super { sequence: number, payload, flags: 0x18, ..Super::default() });
        pair.out.space()[..read.len()].copy_from_slice(&read);
        pair.out.take(now, read.len(), &pair.tables[0], &pair.gates[0], &mut sink);
        if number % 150 == 149 {
            assert!(!pair.out.is_idle());
            while pair.out.next(now, &pair.tables[0], &pair.gates[0], &mut sink) {}
            assert!(pair.out.is_idle());
        }
    }
    assert_eq!(pair.out.counters().overflowed, 0);
    let mut received = Memory::default();
    for (_, ecn, bytes, stride) in &sink.trains {
        pair.receive(*ecn, bytes, *stride, &mut received);
    }
    let numbers: Vec<_> = received
        .injected
        .iter()
        .map(|(_, packet)| u32::from_be_bytes([packet[44], packet[45], packet[46], packet[47]]))
        .collect();
    assert_eq!(numbers, (0..600).collect::<Vec<_>>());
}

#[test]
fn what_waits_is_bounded() {
    let mut pair = Pair::new(ALL);
    let read = pair.read(&Super::default());
    for _ in 0..200 {
        pair.out.space()[..read.len()].copy_from_slice(&read);
        pair.out.enqueue(pair.world.now, read.len());
    }
    let overflowed = pair.out.counters().overflowed;
    assert!(overflowed >= 200 - 64, "{overflowed}");
    let mut sink = Memory::default();
    while pair.out.next(pair.world.now, &pair.tables[0], &pair.gates[0], &mut sink) {}
    assert_eq!(sink.trains.len() as u64, 200 - overflowed);
}

#[test]
fn lost_reordered_and_repeated_frames_neither_corrupt_nor_double_anything() {
    for seed in 0..30 {
        let mut entropy = SeededEntropy::new(seed);
        let mut pair = Pair::new(ALL);
        // Each datagram carries its number, so that what comes out can be told apart.
        let mut frames = Vec::new();
        let mut expected = Vec::new();
        for number in 0..40u16 {
            let payload = 200 + entropy.below(9_000) as usize;
            let shape = Super { is_tcp: false, size: 1200, payload, port: number, ..Super::default() };
            let read = pair.read(&shape);
            for piece in read[vnet::LENGTH + 48..].chunks(1200) {
                expected.push((number, piece.to_vec()));
            }
            for (_, _, bytes, stride) in pair.send(&[shape]).trains {
                frames.extend(bytes.chunks(stride).map(<[u8]>::to_vec));
            }
        }
        let mut mail = Vec::new();
        for frame in &frames {
            match entropy.below(10) {
                0 => {}
                1 => mail.extend([frame.clone(), frame.clone()]),
                _ => mail.push(frame.clone()),
            }
        }
        for _ in 0..mail.len() / 5 {
            let at = entropy.below(mail.len() as u64 - 4) as usize;
            mail.swap(at, at + 1 + entropy.below(3) as usize);
        }
        // Trains as the kernel makes them: equal lengths, and a shorter one last.
        let mut received = Memory::default();
        let mut at = 0;
        while at < mail.len() {
            let stride = mail[at].len();
            let mut train = Vec::new();
            let most = 1 + entropy.below(44) as usize;
            for _ in 0..most {
                let Some(frame) = mail.get(at).filter(|frame| frame.len() <= stride) else { break };
                train.extend_from_slice(frame);
                at += 1;
                if train.len() % stride != 0 {
                    break;
                }
            }
            pair.receive(Ecn::NotEct, &train, stride, &mut received);
        }
        let mut got = Vec::new();
        for (header, packet) in &received.injected {
            assert!(crate::packet::is_whole(packet), "seed {seed}");
            let port = u16::from_be_bytes([packet[40], packet[41]]);
            let size = header.gso.map_or(packet.len(), |gso| gso.size.into());
            got.extend(packet[48..].chunks(size).map(|piece| (port, piece.to_vec())));
        }
        let total = got.len();
        got.sort();
        got.dedup();
        assert_eq!(got.len(), total, "seed {seed}: something came twice");
        expected.sort();
        assert!(
            got.iter().all(|piece| expected.binary_search(piece).is_ok()),
            "seed {seed}: something is new"
        );
        assert!(total > expected.len() * 7 / 10, "seed {seed}: {total} of {}", expected.len());
        let counters = pair.into.counters();
        assert!(counters.replayed > 0 && counters.forged == 0, "seed {seed}");
    }
}

#[test]
fn traffic_is_noted_on_both_halves_and_on_the_link() {
    let mut pair = Pair::new(ALL);
    let before = pair.world.now;
    pair.world.now += Duration::from_secs(5);
    pair.carry(&[Super::default()]);
    let [one, other] = &pair.tables;
    let to = (pair.world.nodes[1], crate::Plane::Any);
    let way = &one.ways[&to];
    let there = other.links.values().next().expect("one link");
    assert_eq!((way.outbound.sent().frames, way.link.outbound.sent().frames), (45, 45));
    assert_eq!(there.inbound.received().frames, 45);
    assert!(there.inbound.received().last > Some(before));
    let ends: u64 = other.sessions.values().map(|session| session.inbound.received().frames).sum();
    assert_eq!(ends, 90);
}
