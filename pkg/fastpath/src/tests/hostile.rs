//! An authenticated peer that sends what no honest one does, and strangers that send noise.

use std::sync::atomic::Ordering;

use byway_identity::{Entropy, SeededEntropy};
use byway_network::Plane;
use byway_session::{Ciphers, frame};

use crate::testing::{Memory, OpenGate, PORT, Super, World, place};
use crate::{Ecn, Inward, Offloads, Snapshot, vnet};

const ALL: Offloads = Offloads { checksum: true, tso: true, uso: true };

/// A peer that seals what it likes, and its victim.
struct Peer {
    world: World,
    tables: [Snapshot; 2],
    gate: OpenGate,
    engine: Inward,
}

impl Peer {
    fn new() -> Self {
        let (world, tables) = World::neighbours(Ciphers::default());
        let gate = OpenGate::new(world.nodes[1], &world.nodes);
        Self { world, tables, gate, engine: Inward::new(ALL) }
    }

    fn packet(&self, shape: &Super) -> Vec<u8> {
        shape.read(&self.world.nodes[0], &self.world.nodes[1])[vnet::LENGTH..].to_vec()
    }

    /// Packets with flags, sealed side by side in frames of one length.
    fn seal(&self, packets: &[(u8, Vec<u8>)]) -> (Vec<u8>, usize) {
        let longest = packets.iter().map(|(_, packet)| packet.len()).max().unwrap_or_default();
        let stride = longest + frame::OVERHEAD;
        let mut bytes = vec![0; stride * packets.len()];
        let way = &self.tables[0].ways[&(self.world.nodes[1], Plane::Any)];
        let mut sealer = way.outbound.take(self.world.now, packets.len() as u32).expect("counters");
        for ((flags, packet), frame) in packets.iter().zip(bytes.chunks_mut(stride)) {
            frame[frame::PAYLOAD..][..packet.len()].copy_from_slice(packet);
            sealer.seal(frame::PACKET, *flags, packet.len(), frame).expect("it fits");
        }
        (bytes, stride)
    }

    fn take(&mut self, bytes: &[u8], stride: usize) -> Memory {
        let mut sink = Memory::default();
        let mut bytes = bytes.to_vec();
        let (now, tables, gate) = (self.world.now, &self.tables[1], Some(&self.gate as &dyn crate::Gate));
        self.engine.train(now, PORT, place(0), Ecn::NotEct, &mut bytes, stride, tables, gate, &mut sink);
        sink
    }

    fn send(&mut self, packets: &[(u8, Vec<u8>)]) -> Memory {
        let (bytes, stride) = self.seal(packets);
        self.take(&bytes, stride)
    }
}

const NEEDS: u8 = frame::NEEDS_CSUM;
const CONT: u8 = frame::NEEDS_CSUM | frame::CONT;

#[test]
fn packets_from_or_for_somebody_else_and_nonsense_are_refused() {
    let mut peer = Peer::new();
    let good = peer.packet(&Super { payload: 100, ..Super::default() });
    let mut bad = Vec::new();
    for at in [0, 4, 5, 8, 23, 24, 39] {
        let mut packet = good.clone();
        packet[at] ^= 0x10;
        bad.push(packet);
    }
    bad.extend([vec![], vec![0x60; 39], good[..good.len() - 1].to_vec()]);
    let count = bad.len() as u64;
    for flags in [0, NEEDS, CONT, 0xff] {
        let packets: Vec<_> = bad.iter().map(|packet| (flags, packet.clone())).collect();
        let got = peer.send(&packets);
        assert!(got.injected.is_empty() && got.unsealed.is_empty(), "flags {flags}");
    }
    assert_eq!(peer.engine.counters().refused, 4 * count);
    assert_eq!(peer.gate.refused.load(Ordering::Relaxed), 4 * count);
    assert_eq!(peer.gate.asked_in.load(Ordering::Relaxed), 0);
    assert_eq!(peer.send(&[(NEEDS, good)]).injected.len(), 1);
}

#[test]
fn an_unfinished_checksum_is_for_whole_tcp_and_udp_headers_only() {
    let mut peer = Peer::new();
    let tcp = peer.packet(&Super { payload: 0, options: 0, ..Super::default() });
    let udp = peer.packet(&Super { is_tcp: false, payload: 30, ..Super::default() });
    let change = |packet: &[u8], at: usize, value: u8| {
        let mut packet = packet.to_vec();
        packet[at] = value;
        packet
    };
    let bad = [
        change(&tcp, 6, 58),
        change(&tcp, 6, 0),
        change(&tcp, 52, 0x40),
        change(&tcp, 52, 0x60),
        change(&udp, 45, 37),
        change(&udp, 45, 39),
        change(&udp, 45, 7),
    ];
    for packet in &bad {
        assert!(peer.send(&[(NEEDS, packet.clone())]).injected.is_empty());
        // Without the flag it is a plain packet, which programs judge.
        assert_eq!(peer.send(&[(0, packet.clone())]).injected.len(), 1);
    }
    assert_eq!(peer.engine.counters().refused, bad.len() as u64);
}

#[test]
fn whatever_the_checksum_field_held_the_device_gets_the_right_sum() {
    let mut peer = Peer::new();
    for payload in [10, 5000] {
        let shape = Super { payload, size: 1200, ..Super::default() };
        let read = shape.read(&peer.world.nodes[0], &peer.world.nodes[1]);
        let header = vnet::Header::parse(read.first_chunk().expect("a header")).expect("known");
        let packet = &read[vnet::LENGTH..];
        let plan = crate::split::Plan::new(&header, packet).expect("sound");
        let packets: Vec<_> = (0..plan.count())
            .map(|index| {
                let mut segment = vec![0; plan.segment(index)];
                plan.write(packet, index, &mut segment);
                segment[56..58].copy_from_slice(&[0xab, index as u8]);
                (if index == 0 { NEEDS } else { CONT }, segment)
            })
            .collect();
        let got = peer.send(&packets);
        assert_eq!(got.injected.len(), 1);
        assert!(got.injected[0].1 == packet, "payload {payload}");
    }
}

#[test]
fn a_false_continuation_starts_a_chain_of_its_own() {
    let mut peer = Peer::new();
    let udp =
        |port, payload| peer_packet(&peer.world, &Super { is_tcp: false, port, payload, ..Super::default() });
    let packets = [
        (CONT, udp(1, 100)),
        (CONT, udp(2, 100)),
        (CONT, udp(2, 200)),
        (CONT, udp(2, 200)),
        (NEEDS, udp(2, 200)),
    ];
    let got = peer.send(&packets);
    let sizes: Vec<_> = got.injected.iter().map(|(_, packet)| packet.len() - 48).collect();
    assert_eq!(sizes, [100, 100, 400, 200]);
}

fn peer_packet(world: &World, shape: &Super) -> Vec<u8> {
    shape.read(&world.nodes[0], &world.nodes[1])[vnet::LENGTH..].to_vec()
}

#[test]
fn a_lost_frame_ends_a_chain() {
    let mut peer = Peer::new();
    let packet = peer.packet(&Super { is_tcp: false, payload: 100, ..Super::default() });
    let (mut bytes, stride) = peer.seal(&vec![(CONT, packet); 10]);
    bytes.drain(4 * stride..5 * stride);
    let got = peer.take(&bytes, stride);
    let sizes: Vec<_> = got.injected.iter().map(|(_, packet)| packet.len() - 48).collect();
    assert_eq!(sizes, [400, 500]);
}

#[test]
fn the_filter_sees_the_first_of_a_flow_and_all_that_open_end_or_reset() {
    let mut peer = Peer::new();
    let nodes = peer.world.nodes.clone();
    let tcp = |flags, sequence| {
        let shape = Super { payload: 100, flags, sequence, options: 0, ..Super::default() };
        shape.read(&nodes[0], &nodes[1])[vnet::LENGTH..].to_vec()
    };
    let asked = |peer: &Peer| peer.gate.asked_in.swap(0, Ordering::Relaxed);
    let packets = [
        (NEEDS, tcp(0x10, 0)),
        (CONT, tcp(0x10, 100)),
        (CONT, tcp(0x10, 200)),
        // Another one of the flow that cannot be merged.
        (NEEDS, tcp(0x10, 900)),
    ];
    assert_eq!(peer.send(&packets).injected.len(), 2);
    assert_eq!(asked(&peer), 1);
    let fin = [(NEEDS, tcp(0x10, 0)), (CONT, tcp(0x11, 100))];
    let got = peer.send(&fin);
    assert_eq!((got.injected.len(), got.injected[0].1[53]), (1, 0x11));
    assert_eq!(asked(&peer), 2);
    let special = [(NEEDS, tcp(0x02, 0)), (CONT, tcp(0x04, 100)), (CONT, tcp(0x12, 200))];
    assert_eq!(peer.send(&special).injected.len(), 3);
    assert_eq!(asked(&peer), 3);
    peer.gate.closed = 5201;
    assert!(peer.send(&packets).injected.is_empty());
    assert_eq!(asked(&peer), 4, "a refusal is no verdict for others");
    assert_eq!(peer.gate.received.load(Ordering::Relaxed), 4 + 2 + 3);
}

#[test]
fn a_link_can_seal_no_packets_for_the_device() {
    let mut peer = Peer::new();
    let packet = peer.packet(&Super { is_tcp: false, payload: 100, ..Super::default() });
    let mut bytes = vec![0; packet.len() + frame::OVERHEAD];
    bytes[frame::PAYLOAD..][..packet.len()].copy_from_slice(&packet);
    let link = peer.tables[0].links.values().next().expect("one link").clone();
    let mut sealer = link.outbound.take(peer.world.now, 1).expect("counters");
    sealer.seal(frame::PACKET, NEEDS, packet.len(), &mut bytes).expect("it fits");
    let got = peer.take(&bytes, 9999);
    assert!(got.injected.is_empty());
    assert_eq!(got.unsealed.len(), 1);
    assert_eq!((got.unsealed[0].1, &got.unsealed[0].3), (frame::PACKET, &packet));
}

#[test]
fn forged_truncated_and_repeated_frames_are_dropped_and_counted() {
    let mut peer = Peer::new();
    let packet = peer.packet(&Super { is_tcp: false, payload: 100, ..Super::default() });
    let (bytes, stride) = peer.seal(&[(NEEDS, packet)]);
    for at in 4..bytes.len() {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        assert!(peer.take(&forged, stride).injected.is_empty(), "byte {at}");
    }
    let mut datagrams = 0;
    for length in 0..bytes.len() {
        let got = peer.take(&bytes[..length], stride);
        assert!(got.injected.is_empty(), "{length} bytes");
        datagrams += got.datagrams.len();
    }
    assert_eq!(datagrams, 3, "without an index it is somebody else's");
    assert_eq!(peer.take(&bytes, stride).injected.len(), 1, "none of that harmed the session");
    assert!(peer.take(&bytes, stride).injected.is_empty());
    let counters = peer.engine.counters();
    assert_eq!((counters.replayed, counters.malformed), (1, 28));
    assert_eq!(counters.forged as usize, bytes.len() - 4 + bytes.len() - 32);
}

#[test]
fn noise_goes_to_the_core_in_one_piece_each() {
    let mut peer = Peer::new();
    let mut entropy = SeededEntropy::new(9);
    for seed in 0..200 {
        let mut noise = vec![0; entropy.below(5000) as usize];
        entropy.fill(&mut noise);
        let stride = entropy.below(1600) as usize;
        let got = peer.take(&noise, stride);
        assert_eq!(got.datagrams.concat(), noise, "round {seed}");
        assert!(got.injected.is_empty() && got.unsealed.is_empty());
    }
}

#[test]
fn no_train_of_true_frames_makes_more_than_the_device_takes() {
    let mut peer = Peer::new();
    let mut entropy = SeededEntropy::new(3);
    for round in 0..200 {
        let count = 1 + entropy.below(64) as usize;
        let packets: Vec<_> = (0..count)
            .map(|_| {
                let is_tcp = entropy.below(2) == 0;
                let shape = Super {
                    is_tcp,
                    payload: entropy.below(3) as usize * 600,
                    flags: entropy.below(256) as u8,
                    sequence: entropy.below(4) as u32 * 600,
                    class: entropy.below(4) as u8,
                    ..Super::default()
                };
                let mut packet = peer_packet(&peer.world, &shape);
                if entropy.below(4) == 0 {
                    let at = entropy.below(packet.len().min(80) as u64) as usize;
                    packet[at] = entropy.below(256) as u8;
                }
                (entropy.below(4) as u8, packet)
            })
            .collect();
        for (header, packet) in peer.send(&packets).injected {
            assert!(packet.len() <= 65_535 && packet.len() >= 40, "round {round}");
            if let Some(gso) = header.gso {
                let headers = usize::from(header.header);
                let count = (packet.len() - headers).div_ceil(gso.size.into());
                assert!((2..=64).contains(&count), "round {round}");
                assert!(crate::packet::is_whole(&packet), "round {round}");
            }
        }
    }
}
