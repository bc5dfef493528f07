//! What a router does with frames of data now, for threads that do not own it.

use std::fmt::Debug;

use crate::{Hop, Plane};

/// What a router does with frames of data now: immutable, so that other threads may read it while the router goes on.
///
/// It is out of date as soon as [`Network::generation`](crate::Network::generation) has grown; a frame that it sends the
/// former way is a frame that was a moment earlier. It decides as the router would, or leaves the decision to the router.
pub trait Picture: Debug + Send + Sync {
    /// What to do with `frame`, which the neighbour `from` sent, and which may be hostile. Where it goes on, it is changed in
    /// place to what goes on, within its first [`FRONT_MAX`] bytes; else it stays as it is.
    fn carry(&self, from: Hop, frame: &mut [u8]) -> Step;
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send it to this neighbour.
    Forward {
        /// The neighbour, and the family of links to use.
        hop: Hop,
        /// So many bytes at the front decided: a frame from the same neighbour that begins with the same ones, and is no
        /// shorter, goes the same way and is changed to begin as this one does now.
        head: usize,
    },
    /// It is for the local node: its payload begins `at` so many bytes.
    Deliver {
        /// The plane that it came by.
        plane: Plane,
        /// Bytes in front of the payload, which decided: whatever else begins with them is delivered too.
        at: usize,
    },
    /// The router itself shall see it, as it is: it is no data, or has no way, or makes no sense.
    Core,
}

/// A [`Picture`] changes nothing of a frame behind so many bytes, so that whoever asked it can take a frame back. It is enough
/// for a label of two bytes for each of 64 hops.
pub const FRONT_MAX: usize = 136;
