//! Routing by flooded, signed beacons: for up to 200 nodes, for tests, and as the yardstick of other protocols.
//!
//! Each node now and then signs a *claim* ("I exist, this is my newest number") and floods it. Whoever hears a claim
//! learns a way back to its signer. Claims are numbered and neighbours are compared by what they announced for one and
//! the same claim, so ways never form a loop; a loss is told at once and mended by a new claim, out of turn.
//! Networks larger than a few hundred nodes need another protocol: every node hears of every other one.
//!
//! ```text
//!              ┌ Router: a full node ─ Neighbour per hop, Node per address ─ Way per plane
//! Beacon ──────┤
//!              └ Leaf: a hosted node, all of whose knowledge is its hub
//! ```
//!
//! The wire format and the reasons are in `spec/60-networks/beacon.md`.
//!
//! ```
//! use std::time::Instant;
//!
//! use byway_beacon::Beacon;
//! use byway_identity::{SeededEntropy, SigningKey};
//! use byway_network::{Action, Class, Constraint, Cost, Family, Hop, Network, NetworkId, Outbox, Plane, Setup, To};
//!
//! let setup = |seed: u64| Setup {
//!     key: SigningKey::from_seed(&[seed as u8; 32]),
//!     network: NetworkId::new("example", None),
//!     digest: [0; 32],
//!     boot: 1,
//!     leaf: false,
//!     entropy: Box::new(SeededEntropy::new(seed)),
//! };
//! let now = Instant::now();
//! let (mut a, mut b) = (Beacon::new(now, setup(1)), Beacon::new(now, setup(2)));
//! let hop = |seed: u8| Hop { peer: SigningKey::from_seed(&[seed; 32]).public().addr(), family: Family::Ip };
//!
//! // Each is told of the other, and each greets the other.
//! let mut out = Outbox::default();
//! b.peer_up(now, hop(1), Class::UDP, Cost::from_units(50), &mut out);
//! let greetings: Vec<Action> = out.drain().collect();
//! a.peer_up(now, hop(2), Class::UDP, Cost::from_units(50), &mut out);
//! out.drain();
//! for action in greetings {
//!     let Action::Send { frame, .. } = action else { continue };
//!     a.handle_below(now, hop(2), frame, &mut out)?;
//! }
//! let to = To::Node(hop(2).peer);
//! assert_eq!(a.next_hop(to, &Constraint::in_plane(Plane::Any)), Some(hop(2)));
//! # Ok::<(), byway_network::FrameError>(())
//! ```

mod asks;
mod claim;
mod frame;
mod leaf;
mod limit;
mod neighbour;
mod picture;
mod router;
#[cfg(test)]
mod vectors;
mod way;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::Prefix;
use byway_network::{
    Class, Constraint, Cost, Family, FrameError, Hop, Map, Network, Outbox, Picture, Protocol, Route, Setup,
    To, Unroutable,
};

use crate::leaf::Leaf;
use crate::router::Router;

/// Shortest time between two regular beacons of a node.
pub(crate) const PERIOD_MIN: Duration = Duration::from_secs(2);
/// Longest payload: what is left of the largest frame that a link carries.
pub(crate) const PAYLOAD_MAX: usize = 65_535 - frame::DATA_OVERHEAD;

/// This protocol, for whoever chooses among several.
pub const PROTOCOL: Protocol = Protocol::new("beacon", |now, setup| Box::new(Beacon::new(now, setup)));

/// A node of a network of beacons; see the [crate's front page](crate).
pub struct Beacon {
    role: Role,
}

enum Role {
    Full(Box<Router>),
    Leaf(Box<Leaf>),
}

impl Beacon {
    /// Bytes per second that a node spends on beacons of its own and of others, once nothing changes.
    pub const DEFAULT_BUDGET: u64 = 4_000;

    /// A node without neighbours.
    pub fn new(now: Instant, setup: Setup) -> Self {
        Self::with_budget(now, setup, Self::DEFAULT_BUDGET)
    }

    /// A node that spends `budget` bytes per second on beacons: 2 % of its slowest link, and at most
    /// [`Beacon::DEFAULT_BUDGET`]. A leaf follows the pace of its hub instead.
    pub fn with_budget(now: Instant, setup: Setup, budget: u64) -> Self {
        let role = if setup.leaf {
            Role::Leaf(Box::new(Leaf::new(now, setup)))
        } else {
            let mut router = Router::new(now, setup, budget.min(Self::DEFAULT_BUDGET));
            router.heartbeat(now, &mut Outbox::default());
            Role::Full(Box::new(router))
        };
        Self { role }
    }
}

impl Network for Beacon {
    fn peer_up(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        match &mut self.role {
            Role::Full(router) => router.peer_up(now, hop, class, cost, out),
            Role::Leaf(leaf) => leaf.peer_up(now, hop, cost, out),
        }
    }

    fn peer_cost(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        match &mut self.role {
            Role::Full(router) => router.peer_cost(now, hop, class, cost, out),
            Role::Leaf(leaf) => leaf.peer_cost(hop, cost),
        }
    }

    fn peer_down(&mut self, now: Instant, hop: Hop, out: &mut Outbox) {
        match &mut self.role {
            Role::Full(router) => router.peer_down(now, hop, out),
            Role::Leaf(leaf) => leaf.peer_down(hop),
        }
    }

    fn handle_above(
        &mut self,
        _now: Instant,
        to: To,
        payload: Bytes,
        by: &Constraint,
        out: &mut Outbox,
    ) -> Result<(), Unroutable> {
        match &mut self.role {
            Role::Full(router) => router.handle_above(to, &payload, by, out),
            Role::Leaf(leaf) => leaf.handle_above(to, &payload, by, out),
        }
    }

    fn handle_below(
        &mut self,
        now: Instant,
        hop: Hop,
        frame: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        match &mut self.role {
            Role::Full(router) => router.handle_below(now, hop, frame, out),
            Role::Leaf(leaf) => leaf.handle_below(now, hop, &frame, out),
        }
    }

    fn find(&mut self, now: Instant, prefix: Prefix, by: &Constraint, out: &mut Outbox) {
        match &mut self.role {
            Role::Full(router) => router.find(now, prefix, by, out),
            Role::Leaf(leaf) => leaf.find(now, prefix, by, out),
        }
    }

    fn sample(&mut self, now: Instant, by: &Constraint, out: &mut Outbox) {
        match &mut self.role {
            Role::Full(router) => router.sample(by, out),
            Role::Leaf(leaf) => leaf.sample(now, by, out),
        }
    }

    fn set_digest(&mut self, now: Instant, digest: [u8; 32], out: &mut Outbox) {
        match &mut self.role {
            Role::Full(router) => router.set_digest(now, digest, out),
            Role::Leaf(leaf) => leaf.set_digest(now, digest, out),
        }
    }

    fn heartbeat(&mut self, now: Instant, out: &mut Outbox) {
        match &mut self.role {
            Role::Full(router) => router.heartbeat(now, out),
            Role::Leaf(leaf) => leaf.heartbeat(now, out),
        }
    }

    fn next_heartbeat(&self) -> Option<Instant> {
        match &self.role {
            Role::Full(router) => router.next_heartbeat(),
            Role::Leaf(leaf) => leaf.next_heartbeat(),
        }
    }

    fn overhead(&self) -> usize {
        frame::DATA_OVERHEAD
    }

    fn next_hop(&self, to: To, by: &Constraint) -> Option<Hop> {
        match &self.role {
            Role::Full(router) => router.next_hop(to, by),
            Role::Leaf(leaf) => leaf.next_hop(to, by),
        }
    }

    fn routes(&self, limit: usize) -> Vec<Route> {
        match &self.role {
            Role::Full(router) => router.routes(limit),
            Role::Leaf(leaf) => leaf.routes(limit),
        }
    }

    fn map(&self, limit: usize) -> Map {
        match &self.role {
            Role::Full(router) => router.map(limit),
            // A leaf knows its hub, and nobody draws that.
            Role::Leaf(_) => Map::default(),
        }
    }

    fn generation(&self) -> u64 {
        match &self.role {
            Role::Full(router) => router.generation(),
            Role::Leaf(leaf) => leaf.generation(),
        }
    }

    fn picture(&self) -> Option<Arc<dyn Picture>> {
        Some(match &self.role {
            Role::Full(router) => router.picture(),
            Role::Leaf(leaf) => leaf.picture(),
        })
    }

    fn header(&self, to: To, by: &Constraint) -> Option<(Hop, Bytes)> {
        match &self.role {
            Role::Full(router) => router.header(to, by),
            Role::Leaf(leaf) => leaf.header(to, by),
        }
    }
}

/// The prefix that every address begins with.
fn anyone() -> Option<Prefix> {
    Prefix::new(&[0], 0)
}

/// Whether a constraint asks for what this protocol can never show: relays, or ways that share no node with others.
fn refused_anyway(by: &Constraint) -> bool {
    by.relays > 0 || !by.disjoint_from.is_empty()
}

/// Whether a way to `target` by `hop` is sure to satisfy `by`. Of a way that is longer than one hop nothing is known but its plane.
fn permits(by: &Constraint, hop: Hop, target: byway_identity::Addr) -> bool {
    let direct = hop.peer == target;
    let counted = |family: Family| u8::from(direct && hop.family == family);
    // A loopback link never leaves the machine; behind it, any family of the plane may be the first that a watcher sees.
    let first_hop = if hop.family == Family::Loopback {
        let outside = |family: &&Family| **family != Family::Loopback && by.plane.has(**family);
        direct || Family::ALL.iter().filter(outside).all(|family| by.first_hop.has(*family))
    } else {
        by.first_hop.has(hop.family)
    };
    by.plane.has(hop.family)
        && first_hop
        && (direct || by.avoid.is_empty())
        && by.at_least.iter().all(|(family, count)| *count <= counted(*family))
}
