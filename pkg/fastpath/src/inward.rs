//! From the links to the device, and to other links.

use std::net::SocketAddr;
use std::time::Instant;

use crate::{Ecn, Gate, Handover, Sink, Snapshot};

/// What the device takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Packets with unfinished checksums.
    pub checksum: bool,
    /// TCP super-packets.
    pub tso: bool,
    /// Super-packets of UDP datagrams.
    pub uso: bool,
}

/// Takes trains of frames, and injects, forwards or hands over what they hold.
pub struct Inward {
    _offloads: Offloads,
}

impl Inward {
    /// For a device that takes what `offloads` says.
    pub fn new(offloads: Offloads) -> Self {
        Self { _offloads: offloads }
    }

    /// Takes datagrams of `stride` bytes side by side, the last one maybe shorter, which came together from one place.
    /// Without a `gate` there is no portal: packets go to the core.
    #[expect(clippy::too_many_arguments, reason = "what is known of a train, and who deals with it")]
    pub fn train<S: Sink + ?Sized>(
        &mut self,
        now: Instant,
        port: u16,
        from: SocketAddr,
        ecn: Ecn,
        bytes: &mut [u8],
        stride: usize,
        tables: &Snapshot,
        gate: Option<&dyn Gate>,
        sink: &mut S,
    ) {
        let _ = (now, ecn, tables, gate);
        for datagram in bytes.chunks(stride.max(1)) {
            sink.to_core(Handover::Datagram { port, from, datagram });
        }
    }
}
