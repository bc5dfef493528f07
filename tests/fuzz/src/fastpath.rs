//! Targets for the fast path: what programs and authenticated peers send, and the queue between flows.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use byway_fastpath::queue::{FairQueue, Limits, Ticket};
use byway_fastpath::testing::{Memory, OpenGate, PORT, Super, World, place};
use byway_fastpath::vnet::{self, Header};
use byway_fastpath::{Ecn, Inward, Offloads, Outward, Plane, Snapshot, checksum};
use byway_identity::SeededEntropy;
use byway_session::{Ciphers, frame};

use crate::input::Input;

/// Most steps of one run.
const STEPS: usize = 64;

thread_local! {
    /// A handshake takes longer than a run; its sessions serve all runs of a thread.
    static NEIGHBOURS: (World, [Snapshot; 2]) = World::neighbours(Ciphers::default());
}

/// Reads from the device: each packet that leaves arrives or is refused for what it is, and what goes the slow way is whole.
pub fn fast_reads(data: &[u8]) {
    NEIGHBOURS.with(|(world, tables)| drop(reads(&mut Input::new(data), world, tables)));
}

/// What the device at the other end got.
fn reads(input: &mut Input<'_>, world: &World, tables: &[Snapshot; 2]) -> Memory {
    let gates = [0, 1].map(|node| OpenGate::new(world.nodes[node], &world.nodes));
    let mut out = Outward::new(&mut SeededEntropy::new(1));
    let offloads = offloads(input.u8());
    let (mut into, mut sink, mut now) = (Inward::new(offloads), Memory::default(), world.now);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0 => {
                out.next(now, &tables[0], &gates[0], &mut sink);
            }
            1 => out.flush(now, &mut sink),
            2 => now += Duration::from_millis(u64::from(input.u8())),
            kind => {
                let read = read(input, world);
                let length = read.len().min(out.space().len());
                out.space()[..length].copy_from_slice(&read[..length]);
                match kind {
                    3 | 4 => out.enqueue(now, length),
                    _ => out.take(now, length, &tables[0], &gates[0], &mut sink),
                }
            }
        }
    }
    while out.next(now, &tables[0], &gates[0], &mut sink) {}
    assert!(out.is_idle());
    // A packet whose read said that its checksum is there need not be one that the slow path takes; others are whole.
    for packet in &sink.portal {
        assert!(packet.len() >= 40 && packet[0] >> 4 == 6);
    }
    let mut received = Memory::default();
    for (to, ecn, bytes, stride) in &mut sink.trains {
        assert_eq!(*to, place(1));
        let (now, tables, gate) = (world.now, &tables[1], &gates[1]);
        into.train(now, PORT, place(0), *ecn, bytes, *stride, tables, Some(gate), &mut received);
    }
    check_injected(&received, offloads);
    assert!(received.datagrams.is_empty() && received.unsealed.is_empty());
    let counters = into.counters();
    assert_eq!((counters.forged, counters.replayed, counters.malformed, counters.congested), (0, 0, 0, 0));
    let [sent, came, refused] =
        [&gates[0].sent, &gates[1].received, &gates[1].refused].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(sent, came + refused, "something is lost between two engines");
    assert_eq!(refused, counters.refused);
    received
}

/// A read that makes sense, or one that nearly does.
fn read(input: &mut Input<'_>, world: &World) -> Vec<u8> {
    if input.u8() % 8 == 7 {
        return input.bytes().to_vec();
    }
    let mut read = shape(input).read(&world.nodes[0], &world.nodes[1]);
    for _ in 0..input.u8() % 4 {
        let (at, value) = (input.below(90), input.u8());
        if let Some(byte) = read.get_mut(at) {
            *byte ^= value;
        }
    }
    read
}

fn shape(input: &mut Input<'_>) -> Super {
    let choice = input.u8();
    Super {
        is_tcp: choice & 1 == 0,
        size: 1 + input.below(1400) as u16,
        payload: if choice & 2 == 0 { input.below(400) } else { input.below(20_000) },
        options: usize::from(choice >> 2 & 3) * 4,
        flags: if choice & 16 == 0 { 0x10 } else { input.u8() },
        class: if choice & 32 == 0 { 0 } else { input.u8() },
        port: u16::from(choice >> 6),
        sequence: u32::from(input.u16()),
    }
}

/// Trains from an authenticated peer that seals what it likes, with losses, repetitions and changes on the way.
pub fn fast_trains(data: &[u8]) {
    NEIGHBOURS.with(|(world, tables)| drop(trains(&mut Input::new(data), world, tables)));
}

fn trains(input: &mut Input<'_>, world: &World, tables: &[Snapshot; 2]) -> Memory {
    let gate = OpenGate::new(world.nodes[1], &world.nodes);
    let offloads = offloads(input.u8());
    let (mut into, mut sink) = (Inward::new(offloads), Memory::default());
    let way = &tables[0].ways[&(world.nodes[1], Plane::Any)];
    let (mut sent, mut train) = (0u64, Vec::new());
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let choice = input.u8();
        let packet = read(input, world);
        let packet = packet.get(vnet::LENGTH..).unwrap_or_default();
        let packet = &packet[..packet.len().min(1400)];
        let mut bytes = vec![0; packet.len() + frame::OVERHEAD];
        bytes[frame::PAYLOAD..][..packet.len()].copy_from_slice(packet);
        let outbound = if choice & 0x80 == 0 { &way.outbound } else { &way.link.outbound };
        let mut sealer = outbound.take(world.now, 1).expect("the session is young");
        let kind = if choice & 0x40 == 0 { frame::PACKET } else { input.u8() };
        sealer.seal(kind, choice & 3, packet.len(), &mut bytes).expect("it fits");
        sent += 1;
        match choice >> 2 & 15 {
            0 => {}
            1 => train.extend([bytes.clone(), bytes]),
            2 => {
                let at = input.below(bytes.len());
                bytes[at] ^= input.u8();
                train.push(bytes);
            }
            3 => bytes.truncate(input.below(bytes.len())),
            4 => train.insert(input.below(train.len() + 1), bytes),
            _ => train.push(bytes),
        }
        if choice & 0x1c == 0x1c {
            give(&mut train, world, &tables[1], &gate, &mut into, &mut sink, Ecn::from_bits(choice));
        }
    }
    give(&mut train, world, &tables[1], &gate, &mut into, &mut sink, Ecn::NotEct);
    let mut noise = input.bytes().to_vec();
    let stride = input.below(2000);
    into.train(world.now, PORT, place(1), Ecn::Ce, &mut noise, stride, &tables[1], Some(&gate), &mut sink);
    check_injected(&sink, offloads);
    assert!(gate.received.load(Ordering::Relaxed) + gate.refused.load(Ordering::Relaxed) <= sent, "twice");
    sink
}

/// Gives the frames as the kernel would: those of one length side by side, a shorter one last.
fn give(
    train: &mut Vec<Vec<u8>>,
    world: &World,
    tables: &Snapshot,
    gate: &OpenGate,
    into: &mut Inward,
    sink: &mut Memory,
    ecn: Ecn,
) {
    let mut frames = train.drain(..).peekable();
    while let Some(first) = frames.next() {
        let stride = first.len();
        let mut bytes = first;
        while bytes.len().is_multiple_of(stride.max(1))
            && let Some(next) = frames.next_if(|next| next.len() <= stride)
        {
            bytes.extend_from_slice(&next);
        }
        into.train(world.now, PORT, place(0), ecn, &mut bytes, stride, tables, Some(gate), sink);
    }
}

fn offloads(choice: u8) -> Offloads {
    Offloads { checksum: choice & 1 == 0, tso: choice & 2 == 0, uso: choice & 4 == 0 }
}

/// What the device gets: from and to the right addresses, whole, and no more than it said that it takes.
fn check_injected(sink: &Memory, offloads: Offloads) {
    for (header, packet) in &sink.injected {
        assert!((40..=65_535).contains(&packet.len()));
        assert_eq!(
            (packet[0] >> 4, usize::from(u16::from_be_bytes([packet[4], packet[5]]))),
            (6, packet.len() - 40)
        );
        assert!(header.checksum.is_none() || offloads.checksum);
        if let Some(gso) = header.gso {
            let headers = usize::from(header.header);
            let count = (packet.len() - headers).div_ceil(gso.size.into());
            assert!((2..=64).contains(&count) && (offloads.tso || offloads.uso));
        }
        if header.checksum.is_some() {
            assert!(checksum::finish(&mut packet.clone()), "the kernel could not finish it either");
            assert_eq!(Header::parse(&header.emit()).as_ref(), Some(header));
        }
    }
}

/// Packets pushed and taken in any order: none is lost unseen, each flow stays in order, the bounds hold.
pub fn fast_queue(data: &[u8]) {
    let mut input = Input::new(data);
    let limits = Limits { memory: 10_000, packets: 50 };
    let mut queue = FairQueue::new(limits);
    let mut now = Instant::now();
    let (mut pushed, mut gone, mut last) = (0u64, 0u64, HashMap::<u64, u64>::new());
    for _ in 0..4096 {
        if input.is_empty() {
            break;
        }
        let choice = input.u8();
        match choice % 4 {
            0 | 1 => {
                let flow = u64::from(choice >> 2);
                let length = u32::from(input.u16());
                let ticket = Ticket { peer: flow % 3, flow, bytes: length, memory: length % 4096 };
                queue.push(now, ticket, (flow, pushed), |_| gone += 1);
                pushed += 1;
            }
            2 => {
                if let Some(((flow, number), _)) = queue.pop(now) {
                    let before = last.insert(flow, number);
                    assert!(before.is_none_or(|before| before < number), "flow {flow} is out of order");
                    gone += 1;
                }
            }
            _ => now += Duration::from_millis(u64::from(choice)),
        }
        assert!(queue.len() <= limits.packets && queue.memory() <= limits.memory);
        assert_eq!(pushed, gone + queue.len() as u64);
    }
    while queue.pop(now).is_some() {
        gone += 1;
    }
    assert_eq!((pushed, queue.memory()), (gone, 0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::seeds;

    type Run = fn(&mut Input<'_>, &World, &[Snapshot; 2]) -> Memory;

    #[test]
    fn the_seeds_reach_the_device_and_merge_there() {
        NEIGHBOURS.with(|(world, tables)| {
            for (target, run) in [("fast_reads", reads as Run), ("fast_trains", trains)] {
                let seeds = seeds(target);
                let got: Vec<Memory> =
                    seeds.iter().map(|seed| run(&mut Input::new(seed), world, tables)).collect();
                assert!(got.iter().all(|sink| !sink.injected.is_empty()), "{target}: a seed reaches nothing");
                let mut headers = got.iter().flat_map(|sink| &sink.injected).map(|(header, _)| header);
                assert!(headers.any(|header| header.gso.is_some()), "{target}: nothing merges");
            }
        });
    }
}
