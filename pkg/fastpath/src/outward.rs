//! From the device to the links.

use std::time::Instant;

use byway_identity::Entropy;

use crate::{Gate, Sink, Snapshot, vnet};

/// Most bytes of one read: the vnet header and the longest packet.
pub const READ: usize = vnet::LENGTH + 65_575;

/// Takes what programs send, and makes trains of frames of it.
///
/// ```text
///  read into space() ─► enqueue ─► fair queue ─► next: gate, way, slots ─► flush: seal, transmit
///                                  read: the same without the queue ─┘
/// ```
pub struct Outward {
    space: Box<[u8]>,
}

impl Outward {
    /// `entropy` seeds the hash that tells flows apart.
    pub fn new(entropy: &mut dyn Entropy) -> Self {
        let _ = entropy;
        Self { space: vec![0; READ].into() }
    }

    /// Where the next read from the device goes: vnet header and packet.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.space
    }

    /// Queues the `length` bytes that were read into [`Outward::space`].
    pub fn enqueue(&mut self, now: Instant, length: usize) {
        let _ = (now, length);
    }

    /// Takes the packet from the queue whose turn it is, and seals what is full. `false`: none waits, and what was begun has been
    /// flushed.
    pub fn next<S: Sink + ?Sized>(
        &mut self,
        now: Instant,
        tables: &Snapshot,
        gate: &dyn Gate,
        sink: &mut S,
    ) -> bool {
        let _ = (now, tables, gate, sink);
        false
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
        let _ = (now, tables, gate);
        if let Some(packet) = bytes.get(vnet::LENGTH..) {
            sink.to_portal(packet);
        }
    }

    /// Seals and transmits what has been begun. Call it when nothing more is to be read at once.
    pub fn flush<S: Sink + ?Sized>(&mut self, now: Instant, sink: &mut S) {
        let _ = (now, sink);
    }
}
