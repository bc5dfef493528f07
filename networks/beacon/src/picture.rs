//! What a node does with DATA, for threads that do not own it.
//!
//! The same rules as `Router::carry` and `Leaf::handle_below`, and a test holds them to be; whatever these would refuse or answer
//! is left to them.

use std::collections::{HashMap, HashSet};

use byway_identity::Addr;
use byway_network::{Hop, Picture, Plane, Step};

use crate::frame::{DATA_OVERHEAD, Frame, TTL_AT};

/// The next hops of one node at one moment.
#[derive(Debug)]
pub(crate) struct Ways {
    pub(crate) own: Addr,
    /// Neighbours that frames are taken from.
    pub(crate) hops: HashSet<Hop>,
    pub(crate) next: HashMap<(Plane, Addr), Hop>,
}

impl Picture for Ways {
    fn carry(&self, from: Hop, frame: &mut [u8]) -> Step {
        if !self.hops.contains(&from) {
            return Step::Core;
        }
        let Some((plane, ttl, target)) = Frame::parse_data(frame, from.family) else { return Step::Core };
        if target == self.own {
            return Step::Deliver { plane, at: DATA_OVERHEAD };
        }
        let next = self.next.get(&(plane, target));
        let next = next.filter(|next| ttl > 1 && next.peer != from.peer && plane.has(next.family));
        let (Some(next), Some(byte)) = (next, frame.get_mut(TTL_AT)) else { return Step::Core };
        *byte = ttl - 1;
        Step::Forward { hop: *next, head: DATA_OVERHEAD }
    }
}

#[cfg(test)]
mod tests;
