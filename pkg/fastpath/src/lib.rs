//! Seals, opens, splits, merges and forwards batches of packets by table, without IO.
//!
//! Two engines carry what needs no decision: [`Outward`] from the device to the links, [`Inward`] from the links to the
//! device and to other links. They obey [`Tables`], which the node core publishes, ask a [`Gate`] once for each
//! super-packet, and say through a [`Sink`] what is to be done; loops elsewhere do it with system calls. Whatever has no
//! entry in the tables goes to the core or to the portal, which do by themselves all that is done here, only slower.
//!
//! ```text
//!            ┌──────────────────────────────── Outward ─────────────────────────────────┐
//!  device ──►│ read ─► fair queue ─► gate ─► way ─► split into slots ─► seal where it is │──► trains to a socket
//!            └────────────────────────────────┬─────────────────────────────────────────┘
//!                          ▲                  └─► slow path: plain packets, checksums finished
//!             Tables: sessions, ways, links, a picture of the router          ▲ published by the core
//!                          ▼
//!            ┌──────────────────────────────── Inward ──────────────────────────────────┐
//!  device ◄──│ merge ◄─ gate ◄─ checks ◄─ open ◄─┬─ deliver ◄─ picture ◄─ open ◄─ index  │◄── trains from a socket
//!            │                                   └─ bare frames end to end ◄────┘        │
//!            │               trains to a socket ◄─ seal where it is ◄─ forward ◄ picture │
//!            └────────────────────────────────┬─────────────────────────────────────────┘
//!                                             └─► core: datagrams as they came, and what was opened but is not for here
//! ```
//!
//! A super-packet of 64 KiB crosses all that with one look-up, one verdict, one copy and one pass of the cipher. No byte of
//! a stranger is believed: the rules are in `spec/35-fastpath.md`.
//!
//! Without tables everything takes the slow path:
//!
//! ```
//! use std::io::IoSlice;
//! use std::net::Ipv6Addr;
//! use std::time::Instant;
//!
//! use byway_fastpath::{Gate, Handover, Outward, Plane, Planes, Sink, Snapshot, Train, vnet};
//! use byway_identity::{Addr, OsEntropy};
//!
//! struct Closed;
//!
//! impl Gate for Closed {
//!     fn outgoing(&self, _: Instant, _: &[u8], _: &Planes) -> Option<(Addr, Plane)> { None }
//!     fn incoming(&self, _: Instant, _: &Addr, _: &[u8]) -> bool { false }
//!     fn addresses(&self, _: &Addr) -> Option<(Ipv6Addr, Ipv6Addr)> { None }
//! }
//!
//! #[derive(Default)]
//! struct Slow(Vec<Vec<u8>>);
//!
//! impl Sink for Slow {
//!     fn transmit(&mut self, _: Train<'_>) {}
//!     fn inject(&mut self, _: &[u8; vnet::LENGTH], _: &[IoSlice<'_>]) {}
//!     fn to_portal(&mut self, packet: &[u8]) { self.0.push(packet.to_vec()) }
//!     fn to_core(&mut self, _: Handover<'_>) {}
//! }
//!
//! let packet = [&[0x60, 0, 0, 0, 0, 2, 59, 64][..], &[0; 32], b"hi"].concat();
//! let mut engine = Outward::new(&mut OsEntropy);
//! let length = vnet::LENGTH + packet.len();
//! engine.space()[vnet::LENGTH..length].copy_from_slice(&packet);
//!
//! let (tables, mut sink) = (Snapshot::new(Addr::from_bytes([1; 32])), Slow::default());
//! engine.take(Instant::now(), length, &tables, &Closed, &mut sink);
//! assert_eq!(sink.0, [packet]);
//! ```

pub mod checksum;
mod ecn;
mod edges;
mod flow;
mod forward;
mod inject;
mod inward;
mod merge;
mod outward;
mod packet;
pub mod queue;
mod slots;
mod split;
mod tables;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod underlay;
pub mod vnet;

pub use ecn::Ecn;
pub use edges::{Gate, Handover, Sink, Train};
pub use inward::{Inward, InwardCounters, Offloads};
pub use outward::{Outward, OutwardCounters, READ};
pub use tables::{Link, Owner, Planes, Session, Snapshot, Tables, Way};
pub use underlay::{HandUp, Head, Trains, Underlay};

/// Part of a gate's verdict.
pub use byway_network::Plane;
