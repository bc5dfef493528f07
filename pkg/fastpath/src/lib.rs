//! Seals, opens, splits, merges and forwards batches of packets by table.

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
