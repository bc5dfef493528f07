//! Seals, opens, splits, merges and forwards batches of packets by table.

mod ecn;
mod edges;
mod inward;
mod outward;
mod tables;
mod underlay;
pub mod vnet;

pub use ecn::Ecn;
pub use edges::{Gate, Handover, Sink, Train};
pub use inward::{Inward, Offloads};
pub use outward::{Outward, READ};
pub use tables::{Link, Owner, Planes, Session, Snapshot, Tables, Way};
pub use underlay::{HandUp, Head, Trains, Underlay};
pub use byway_network::Plane;
