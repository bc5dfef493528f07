//! The portal's verdicts for the threads of the fast path: one look at its core for a whole super-packet.

use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use byway_fastpath::{Gate, Plane, Planes};
use byway_identity::Addr;

use crate::counters::{Counters, Reason};
use crate::portal::Inner;

/// What threads count: beside the core, so that counting asks for no lock.
#[derive(Debug, Default)]
pub(crate) struct FastCounters {
    packets_out: AtomicU64,
    bytes_out: AtomicU64,
    packets_in: AtomicU64,
    bytes_in: AtomicU64,
    refused: AtomicU64,
}

impl FastCounters {
    /// Adds what was counted here to what the core counted.
    pub(crate) fn add_to(&self, counters: &mut Counters) {
        counters.packets_out += self.packets_out.load(Ordering::Relaxed);
        counters.bytes_out += self.bytes_out.load(Ordering::Relaxed);
        counters.packets_in += self.packets_in.load(Ordering::Relaxed);
        counters.bytes_in += self.bytes_in.load(Ordering::Relaxed);
        counters.drop_many(Reason::InwardForeignSource, self.refused.load(Ordering::Relaxed));
    }
}

impl Gate for Inner {
    fn outgoing(&self, now: Instant, packet: &[u8], planes: &Planes) -> Option<(Addr, Plane)> {
        let plane = planes.of(self.mancon().map(|level| level as u8))?;
        let to = self.core().fast_outgoing(now, packet)?;
        Some((to, plane))
    }

    fn incoming(&self, now: Instant, from: &Addr, packet: &[u8]) -> bool {
        self.core().fast_incoming(now, from, packet)
    }

    fn addresses(&self, from: &Addr) -> Option<(Ipv6Addr, Ipv6Addr)> {
        Some((self.range().ipv6(from).ok()?, self.own()))
    }

    fn note_sent(&self, packets: u64, bytes: u64) {
        self.fast.packets_out.fetch_add(packets, Ordering::Relaxed);
        self.fast.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    fn note_received(&self, packets: u64, bytes: u64) {
        self.fast.packets_in.fetch_add(packets, Ordering::Relaxed);
        self.fast.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    fn note_refused(&self, packets: u64) {
        self.fast.refused.fetch_add(packets, Ordering::Relaxed);
    }
}
