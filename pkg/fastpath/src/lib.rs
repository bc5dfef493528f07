//! Seals, opens, splits, merges and forwards batches of packets by table.

mod underlay;

pub use underlay::{Ecn, HandUp, Head, Trains, Underlay};
