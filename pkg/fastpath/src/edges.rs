//! What surrounds the engines: verdicts of the portal, and the system calls that the loops make.

use std::io::IoSlice;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Instant;

use byway_identity::Addr;
use byway_network::Plane;

use crate::{Ecn, Planes, vnet};

/// The portal's verdicts. One call for each super-packet or chain, not for each segment, so a lock behind them costs little.
pub trait Gate: Send + Sync {
    /// A program of this host sends `packet`: who gets it, and in which of `planes`.
    ///
    /// The packet is whole, its length field right; it may be a super-packet, of up to 64 KiB. Checks its source and range,
    /// resolves its destination and notes the flow. `None`: the slow path shall see it, and nothing has been noted.
    fn outgoing(&self, now: Instant, packet: &[u8], planes: &Planes) -> Option<(Addr, Plane)>;

    /// Whether `packet` of the node `from` passes the filter; it is whole, and its addresses are the ones expected.
    ///
    /// `false`: it is dropped, and the gate has counted it.
    fn incoming(&self, now: Instant, from: &Addr, packet: &[u8]) -> bool;

    /// The IPv6 addresses of the node `from` and of this one: the source and destination that each of its packets must
    /// have. `None`: `from` has none, so nothing of it passes.
    fn addresses(&self, from: &Addr) -> Option<(Ipv6Addr, Ipv6Addr)>;

    /// So many packets and bytes left the fast way, segments counted one by one. Called once for each train.
    fn note_sent(&self, packets: u64, bytes: u64) {
        let _ = (packets, bytes);
    }

    /// So many packets and bytes were injected, segments counted one by one. Called once for each train.
    fn note_received(&self, packets: u64, bytes: u64) {
        let _ = (packets, bytes);
    }

    /// So many packets of `from` were dropped because they are none, or not from and to the addresses that they must be.
    fn note_refused(&self, packets: u64) {
        let _ = packets;
    }
}

/// What the engines want done; the loops do it with system calls. None of it reports back: what fails is lost, as on any network.
pub trait Sink {
    /// Sends frames side by side to one place.
    fn transmit(&mut self, train: Train<'_>);

    /// Writes one packet or super-packet to the device: the vnet header, then `parts`.
    fn inject(&mut self, header: &[u8; vnet::LENGTH], parts: &[IoSlice<'_>]);

    /// Hands a packet of this host to the portal's slow path: one whole packet, its checksum finished.
    fn to_portal(&mut self, packet: &[u8]);

    /// Hands what came to the node core.
    fn to_core(&mut self, handover: Handover<'_>);
}

/// Frames for one place, side by side.
#[derive(Clone, Copy)]
pub struct Train<'a> {
    /// Number of the transport.
    pub port: u16,
    /// Where to.
    pub to: SocketAddr,
    /// Explicit congestion notification of the outer header.
    pub ecn: Ecn,
    /// The frames; at most 65,507 bytes and 64 frames.
    pub bytes: &'a [u8],
    /// Length of each frame; the last one may be shorter.
    pub segment: usize,
}

/// What the engines have no entry for, or no business with.
#[derive(Clone, Copy)]
pub enum Handover<'a> {
    /// A datagram as it came.
    Datagram {
        /// Number of the transport.
        port: u16,
        /// From where.
        from: SocketAddr,
        /// What.
        datagram: &'a [u8],
    },
    /// What a frame held; its counter has been accepted, so it cannot be opened again.
    Unsealed {
        /// Number of the transport.
        port: u16,
        /// From where.
        from: SocketAddr,
        /// Receiver index of the session that it belongs to: a link's, or an end-to-end one's.
        index: u32,
        /// Kind of the frame.
        kind: u8,
        /// Its flags.
        flags: u8,
        /// Its payload.
        payload: &'a [u8],
    },
}
