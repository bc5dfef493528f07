//! From the device to the links.

use std::time::Instant;

use byway_identity::{Addr, Entropy};
use byway_network::Plane;

use crate::flow::FlowHash;
use crate::merge;
use crate::packet::{FIXED, Upper};
use crate::queue::{FairQueue, Limits, Signal, Ticket};
use crate::slots::Slots;
use crate::split::Plan;
use crate::vnet::Header;
use crate::{Ecn, Gate, Planes, Sink, Snapshot, Way, vnet};

/// Most bytes of one read: the vnet header and the longest packet.
pub const READ: usize = vnet::LENGTH + FIXED + 65_535;

/// Reads up to this size, in bytes, are copied to wait, longer ones keep the buffer that they were read into.
const SMALL: usize = 2048;
/// Bytes that go past the queue before it is used, when nothing waits.
const STRAIGHT: usize = 128 * 1024;
/// Bytes that one call of [`Outward::next`] takes from the queue.
const TURN: usize = 64 * 1024;
/// What may wait.
const LIMITS: Limits = Limits { memory: 4 * 1024 * 1024, packets: 4096 };
/// Buffers that are kept for the next time they are needed.
const KEPT: usize = 16;
const KEPT_SMALL: usize = 256;

/// Takes what programs send, and makes trains of frames of it.
///
/// ```text
///  read into space() ─► take ─┬► fair queue ─► next ─┬─► gate ─► way ─► slots ─► seal ─► transmit
///                            └──── nothing waits ────┘     └───────┴─► slow path
/// ```
///
/// The loop reads until the device is dry or a budget is spent, each time into [`Outward::space`] and then
/// [`Outward::take`], calls [`Outward::next`], and does so again until `next` says that nothing waits and the
/// device is dry. So what waits, waits here, where it is fair, and not in the device.
pub struct Outward {
    space: Box<[u8]>,
    hash: FlowHash,
    queue: FairQueue<Read>,
    spare: Vec<Box<[u8]>>,
    spare_small: Vec<Vec<u8>>,
    /// Bytes that went past the queue since nothing waited.
    straight: usize,
    engine: Engine,
}

/// What has been counted on the way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutwardCounters {
    /// Reads whose vnet header makes no sense with the packet.
    pub odd: u64,
    /// Reads that did not fit the queue.
    pub overflowed: u64,
    /// Reads that waited too long and were marked so.
    pub marked: u64,
    /// Packets that were left out because their flow waited too long.
    pub left_out: u64,
}

/// A read that waits.
enum Read {
    Small(Vec<u8>),
    Long(Box<[u8]>, usize),
}

/// What is behind the queue.
struct Engine {
    slots: Slots,
    verdict: Option<Verdict>,
    scratch: Vec<u8>,
    counters: OutwardCounters,
}

/// The way of the last packet, for further ones of the same flow until the next flush.
struct Verdict {
    next: u8,
    /// Addresses and ports.
    flow: [u8; 36],
    planes: Planes,
    way: Way,
}

impl Outward {
    /// `entropy` seeds the hash that tells flows apart.
    pub fn new(entropy: &mut dyn Entropy) -> Self {
        Self {
            space: vec![0; READ].into(),
            hash: FlowHash::new(entropy),
            queue: FairQueue::new(LIMITS),
            spare: Vec::new(),
            spare_small: Vec::new(),
            straight: 0,
            engine: Engine {
                slots: Slots::new(),
                verdict: None,
                scratch: Vec::new(),
                counters: OutwardCounters::default(),
            },
        }
    }

    /// Where the next read from the device goes: vnet header and packet. A device without such headers reads behind
    /// [`vnet::LENGTH`] zeros.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.space
    }

    /// Whether nothing waits and nothing has been begun.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.engine.slots.is_empty()
    }

    /// What has been counted.
    pub fn counters(&self) -> OutwardCounters {
        OutwardCounters { overflowed: self.queue.overflowed(), ..self.engine.counters }
    }

    /// Takes the first `length` bytes of [`Outward::space`], header included: at once while nothing waits and little has
    /// been taken so, else like [`Outward::enqueue`].
    pub fn take<S: Sink + ?Sized>(
        &mut self,
        now: Instant,
        length: usize,
        tables: &Snapshot,
        gate: &dyn Gate,
        sink: &mut S,
    ) {
        let length = length.min(self.space.len());
        if self.queue.is_empty() && self.straight + length <= STRAIGHT {
            self.straight += length;
            let bytes = &mut self.space[..length];
            self.engine.carry(now, bytes, Signal::None, tables, gate, sink);
        } else {
            self.enqueue(now, length);
        }
    }

    /// Queues the first `length` bytes of [`Outward::space`], header included.
    pub fn enqueue(&mut self, now: Instant, length: usize) {
        let length = length.min(self.space.len());
        let (peer, flow) = self.hash.of(self.space.get(vnet::LENGTH..length).unwrap_or_default());
        let is_small = length <= SMALL;
        let memory = if is_small { SMALL } else { READ } as u32;
        let ticket = Ticket { peer, flow, bytes: length as u32, memory };
        let read = if is_small {
            let mut buffer = self.spare_small.pop().unwrap_or_else(|| Vec::with_capacity(SMALL));
            buffer.extend_from_slice(&self.space[..length]);
            Read::Small(buffer)
        } else {
            let fresh = self.spare.pop().unwrap_or_else(|| vec![0; READ].into());
            Read::Long(std::mem::replace(&mut self.space, fresh), length)
        };
        let (spare, spare_small) = (&mut self.spare, &mut self.spare_small);
        self.queue.push(now, ticket, read, |dropped| keep(spare, spare_small, dropped));
    }

    /// Takes those whose turn it is from the queue, about 64 KiB, then seals and transmits all that has been begun. `false`:
    /// nothing waits any more.
    pub fn next<S: Sink + ?Sized>(
        &mut self,
        now: Instant,
        tables: &Snapshot,
        gate: &dyn Gate,
        sink: &mut S,
    ) -> bool {
        let mut done = 0;
        while done < TURN
            && let Some((mut read, signal)) = self.queue.pop(now)
        {
            let bytes = match &mut read {
                Read::Small(bytes) => &mut bytes[..],
                Read::Long(bytes, length) => &mut bytes[..*length],
            };
            done += bytes.len();
            self.engine.carry(now, bytes, signal, tables, gate, sink);
            keep(&mut self.spare, &mut self.spare_small, read);
        }
        self.flush(now, sink);
        if self.queue.is_empty() {
            self.straight = 0;
        }
        !self.queue.is_empty()
    }

    /// Takes one read, vnet header and packet, past the queue. Its frames may wait for [`Outward::flush`].
    pub fn read<S: Sink + ?Sized>(
        &mut self,
        now: Instant,
        bytes: &mut [u8],
        tables: &Snapshot,
        gate: &dyn Gate,
        sink: &mut S,
    ) {
        self.engine.carry(now, bytes, Signal::None, tables, gate, sink);
    }

    /// Seals and transmits what has been begun.
    pub fn flush<S: Sink + ?Sized>(&mut self, now: Instant, sink: &mut S) {
        self.engine.verdict = None;
        self.engine.slots.flush(now, sink);
    }
}

impl Engine {
    fn carry<S: Sink + ?Sized>(
        &mut self,
        now: Instant,
        bytes: &mut [u8],
        signal: Signal,
        tables: &Snapshot,
        gate: &dyn Gate,
        sink: &mut S,
    ) {
        let Some((header, packet)) = bytes.split_first_chunk_mut() else { return };
        let header = Header::parse(header);
        let Some(plan) = header.and_then(|header| Plan::new(&header, packet)) else {
            self.counters.odd += 1;
            return;
        };
        let mut from = 0;
        let mut ecn = Ecn::of(packet);
        if signal == Signal::SlowDown {
            if ecn == Ecn::NotEct {
                // One segment is enough to tell; losing 64 KiB would tell no more.
                self.counters.left_out += 1;
                from = 1;
            } else {
                self.counters.marked += 1;
                ecn = Ecn::Ce;
                ecn.set(packet);
            }
        }
        let Self { slots, verdict, scratch, .. } = self;
        let Some(way) = Verdict::way(verdict, now, packet, tables, gate) else {
            return give_back(scratch, &plan, from, packet, sink);
        };
        let (mut packets, mut count) = (0, 0);
        for index in from..plan.count() {
            let length = plan.segment(index);
            let Some(place) = slots.place(now, way, ecn, length, sink) else {
                // Too long for one frame. No later segment is longer, but they belong together.
                give_back(scratch, &plan, index, packet, sink);
                break;
            };
            plan.write(packet, index, place);
            slots.commit(plan.is_partial());
            packets += 1;
            count += length as u64;
        }
        gate.note_sent(packets, count);
    }
}

impl Verdict {
    /// Where the packet goes, asking the gate once for all packets of a flow that come in one go.
    fn way<'a>(
        last: &'a mut Option<Self>,
        now: Instant,
        packet: &[u8],
        tables: &'a Snapshot,
        gate: &dyn Gate,
    ) -> Option<&'a Way> {
        let plain = Upper::of(packet).filter(|upper| !merge::is_special(packet, *upper));
        let flow: Option<[u8; 36]> = plain.and_then(|_| packet.get(8..44)?.try_into().ok());
        let is_same = last.as_ref().is_some_and(|last| {
            last.next == packet[6] && flow == Some(last.flow) && last.planes == tables.planes
        });
        if !is_same {
            let to: (Addr, Plane) = gate.outgoing(now, packet, &tables.planes)?;
            let way = tables.ways.get(&to)?;
            let Some(flow) = flow else { return Some(way) };
            *last = Some(Self { next: packet[6], flow, planes: tables.planes, way: way.clone() });
        }
        last.as_ref().map(|last| &last.way)
    }
}

/// Hands the segments from `from` on to the slow path, each a plain packet.
fn give_back<S: Sink + ?Sized>(scratch: &mut Vec<u8>, plan: &Plan, from: usize, packet: &[u8], sink: &mut S) {
    for index in from..plan.count() {
        scratch.resize(plan.segment(index), 0);
        plan.write_finished(packet, index, scratch);
        sink.to_portal(scratch);
    }
}

/// Keeps the buffer of a read that is done with, up to a bound.
fn keep(spare: &mut Vec<Box<[u8]>>, spare_small: &mut Vec<Vec<u8>>, read: Read) {
    match read {
        Read::Small(mut bytes) if spare_small.len() < KEPT_SMALL => {
            bytes.clear();
            spare_small.push(bytes);
        }
        Read::Long(bytes, _) if spare.len() < KEPT => spare.push(bytes),
        Read::Small(_) | Read::Long(..) => {}
    }
}
