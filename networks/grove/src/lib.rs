//! Routing by several spanning trees at once: compact, loop-free, quick to heal.
//!
//! Each plane has several trees with different roots. A node's *place* in a tree is the way of links down from the root,
//! and two places tell how far apart their nodes are at most. A frame goes to the neighbour that promises the shortest rest
//! of the way over all trees, two hops ahead; what it may still cost falls at each hop, so it never goes round. Names are
//! found by summaries of subtrees; endpoints probe a few ways and pin the best.
//!
//! ```text
//!           ┌ Tree per plane and index: parent, feasible distance, holding down, damping
//!           ├ Store: the certificates of the chains, of which all places are read
//! Router ───┼ Peer per hop: link, offers, view of its peers, summary of what is below it
//!           ├ Seeks, Remotes, Memory: questions, and where others said that they are
//!           └ Paths, Backs: ways that probes have shown, and ways back
//! ```
//!
//! The wire format and the reasons are in `spec/60-networks/grove.md`.
//!
//! ```
//! use std::time::Instant;
//!
//! use byway_grove::Grove;
//! use byway_identity::{SeededEntropy, SigningKey};
//! use byway_network::{Action, Class, Constraint, Cost, Family, Hop, Network, NetworkId, Outbox, Plane, Setup, To};
//!
//! let setup = |seed: u8| Setup {
//!     key: SigningKey::from_seed(&[seed; 32]),
//!     network: NetworkId::new("example", None),
//!     digest: [0; 32],
//!     boot: 1,
//!     leaf: false,
//!     entropy: Box::new(SeededEntropy::new(seed.into())),
//! };
//! let now = Instant::now();
//! let (mut a, mut b) = (Grove::new(now, setup(1)), Grove::new(now, setup(2)));
//! let hop = |seed: u8| Hop { peer: SigningKey::from_seed(&[seed; 32]).public().addr(), family: Family::Ip };
//!
//! // Each is told of the other, and each greets the other.
//! let mut out = Outbox::default();
//! a.peer_up(now, hop(2), Class::UDP, Cost::from_units(50), &mut out);
//! out.drain();
//! b.peer_up(now, hop(1), Class::UDP, Cost::from_units(50), &mut out);
//! let greetings: Vec<Action> = out.drain().collect();
//! for action in greetings {
//!     let Action::Send { frame, .. } = action else { continue };
//!     a.handle_below(now, hop(2), frame, &mut out)?;
//! }
//! let to = To::Node(hop(2).peer);
//! assert_eq!(a.next_hop(to, &Constraint::in_plane(Plane::Any)), Some(hop(2)));
//! # Ok::<(), byway_network::FrameError>(())
//! ```

mod blame;
mod cert;
mod coords;
mod few;
mod filter;
mod frame;
mod limit;
mod location;
mod names;
mod packet;
mod paths;
mod peer;
mod picture;
mod registry;
mod remote;
mod router;
mod seek;
mod sketch;
mod steer;
mod store;
mod trail;
mod tree;
#[cfg(test)]
mod vectors;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use byway_identity::{Addr, Prefix};
use byway_network::{
    Class, Constraint, Cost, FrameError, Hop, Map, Network, Outbox, Path, Picture, Plane, Protocol, Route,
    Setup, To, Unroutable,
};

pub use registry::Registry;

use crate::router::Router;

/// This protocol, for whoever chooses among several.
pub const PROTOCOL: Protocol = Protocol::new("grove", |now, setup| Box::new(Grove::new(now, setup)));

/// How many trees there are, and what is shared with other nodes of the process.
///
/// All nodes of a network must agree on the numbers.
#[derive(Clone, Debug)]
pub struct Config {
    /// Trees of plane `any`, 1 to 8.
    pub trees: u8,
    /// Trees of each other plane, 1 to 8.
    pub trees_apart: u8,
    /// Signatures that have been checked.
    pub registry: Registry,
}

impl Default for Config {
    fn default() -> Self {
        Self { trees: 4, trees_apart: 2, registry: Registry::new() }
    }
}

impl Config {
    fn trees(&self, plane: Plane) -> u8 {
        let count = if plane == Plane::Any { self.trees } else { self.trees_apart };
        count.clamp(1, names::TREES_MAX)
    }
}

/// A node of a network of trees; see the [crate's front page](crate).
pub struct Grove {
    router: Box<Router>,
}

impl Grove {
    /// A node without neighbours.
    pub fn new(now: Instant, setup: Setup) -> Self {
        Self::with_config(now, setup, Config::default())
    }

    /// The same, with other numbers of trees, or a [`Registry`] that is shared.
    pub fn with_config(now: Instant, setup: Setup, config: Config) -> Self {
        Self { router: Box::new(Router::new(now, setup, config)) }
    }
}

/// What a node holds, for those who measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Certificates: those of its own chains and of its neighbours'.
    pub certs: usize,
    /// Hops that are up.
    pub hops: usize,
}

impl Grove {
    /// What the node holds now.
    pub fn stats(&self) -> Stats {
        self.router.stats()
    }
}

impl Network for Grove {
    fn peer_up(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        self.router.peer_up(now, hop, class, cost, out);
    }

    fn peer_cost(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        self.router.peer_cost(now, hop, class, cost, out);
    }

    fn peer_down(&mut self, now: Instant, hop: Hop, out: &mut Outbox) {
        self.router.peer_down(now, hop, out);
    }

    fn handle_above(
        &mut self,
        now: Instant,
        to: To,
        payload: Bytes,
        by: &Constraint,
        out: &mut Outbox,
    ) -> Result<(), Unroutable> {
        self.router.handle_above(now, to, &payload, by, out)
    }

    fn handle_below(
        &mut self,
        now: Instant,
        hop: Hop,
        frame: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        self.router.handle_below(now, hop, frame, out)
    }

    fn find(&mut self, now: Instant, prefix: Prefix, by: &Constraint, out: &mut Outbox) {
        self.router.find(now, prefix, by, out);
    }

    fn sample(&mut self, now: Instant, by: &Constraint, out: &mut Outbox) {
        self.router.sample(now, by, out);
    }

    fn set_digest(&mut self, _now: Instant, digest: [u8; 32], _out: &mut Outbox) {
        self.router.set_digest(digest);
    }

    fn heartbeat(&mut self, now: Instant, out: &mut Outbox) {
        self.router.heartbeat(now, out);
    }

    fn next_heartbeat(&self) -> Option<Instant> {
        self.router.next_heartbeat()
    }

    fn overhead(&self) -> usize {
        packet::OVERHEAD
    }

    fn next_hop(&self, to: To, by: &Constraint) -> Option<Hop> {
        self.router.next_hop(to, by)
    }

    fn routes(&self, limit: usize) -> Vec<Route> {
        self.router.routes(limit)
    }

    fn map(&self, limit: usize) -> Map {
        self.router.map(limit)
    }

    fn generation(&self) -> u64 {
        self.router.generation()
    }

    fn picture(&self) -> Option<Arc<dyn Picture>> {
        Some(self.router.picture())
    }

    fn header(&self, to: To, by: &Constraint) -> Option<(Hop, Bytes)> {
        self.router.header(to, by)
    }

    fn carried(&mut self, now: Instant, to: &Addr, plane: Plane, payloads: u64, out: &mut Outbox) {
        self.router.carried(now, *to, plane, payloads, out);
    }

    fn paths(&self, to: &Addr) -> Vec<Path> {
        self.router.paths(to)
    }
}
