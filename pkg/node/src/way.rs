//! A way through the network, as the place that an end-to-end session belongs to.

use std::hash::{Hash, Hasher};

use byway_identity::Addr;
use byway_network::{PathId, Plane, To};

/// Where end-to-end frames go: a plane, and a target or a way back.
///
/// A session belongs to a plane, not to a path: ways are equal when plane and way back are, whatever the target's
/// name and the frame size.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The plane of the frames.
    pub plane: Plane,
    /// Where they go, if that is known yet.
    pub to: Option<To>,
    /// Longest payload that the way carries in one frame, in bytes.
    pub mtu: u16,
}

/// Longest payload that any way carries in one link frame: what is left of a 1,280-byte underlay, rounded down.
pub(crate) const SAFE_MTU: u16 = 1_120;

impl Way {
    /// To the node `addr`.
    pub fn to(plane: Plane, addr: Addr, mtu: u16) -> Self {
        Self { plane, to: Some(To::Node(addr)), mtu }
    }

    /// The way that a payload came, which may tell the way back.
    pub fn back(plane: Plane, back: Option<PathId>) -> Self {
        Self { plane, to: back.map(To::Back), mtu: SAFE_MTU }
    }

    fn path(&self) -> Option<PathId> {
        match self.to {
            Some(To::Back(path)) => Some(path),
            _ => None,
        }
    }
}

impl PartialEq for Way {
    fn eq(&self, other: &Self) -> bool {
        self.plane == other.plane && self.path() == other.path()
    }
}

impl Eq for Way {}

impl Hash for Way {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plane.hash(state);
        self.path().hash(state);
    }
}

impl byway_session::Place for Way {
    fn rate_key(&self) -> Option<u64> {
        None
    }

    fn mtu(&self) -> usize {
        self.mtu.into()
    }

    fn plane(&self) -> u8 {
        self.plane.byte()
    }

    fn masked(&self) -> bool {
        false
    }

    fn with_remote(&self, remote: Addr) -> Self {
        if self.to.is_some() { *self } else { Self::to(self.plane, remote, self.mtu) }
    }
}
