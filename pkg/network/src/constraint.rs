//! What a way must satisfy.

use byway_identity::Addr;

use crate::{ClassSet, Family, PathId, Plane};

/// What a way must satisfy; what cannot be shown to satisfy it is refused, never sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Every link of the way is in this plane.
    pub plane: Plane,
    /// The first link, which a local watcher sees, is of one of these families.
    pub first_hop: ClassSet,
    /// At least so many links of a family are on the way.
    pub at_least: Vec<(Family, u8)>,
    /// These nodes are not on the way.
    pub avoid: Vec<Addr>,
    /// The way shares no node with these but its ends.
    pub disjoint_from: Vec<PathId>,
    /// Onion relays on the way.
    pub relays: u8,
}

impl Constraint {
    /// Any way inside `plane`.
    pub fn in_plane(plane: Plane) -> Self {
        Self {
            plane,
            first_hop: ClassSet::ALL,
            at_least: Vec::new(),
            avoid: Vec::new(),
            disjoint_from: Vec::new(),
            relays: 0,
        }
    }
}
