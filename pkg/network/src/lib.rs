//! What a routing protocol is.
//!
//! A [`Network`] decides which neighbour carries a message next. It is a value without IO: links that came and
//! went, frames, payloads and time go in; [`Action`]s come out of an [`Outbox`]. Protocols live in `networks/`,
//! and each passes the shared suite in `pkg/sim`.
//!
//! Whatever a protocol does, these rules hold (spec/40-network.md): who is one hop away has been authenticated
//! below it; nothing about a third node is believed without that node's signature; and a frame of a [`Plane`]
//! never uses a link outside it.
//!
//! The smallest network of all carries payloads to direct neighbours, and no further:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::time::Instant;
//!
//! use bytes::Bytes;
//! use byway_identity::{Addr, Prefix};
//! use byway_network::{
//!     Action, Class, Constraint, Cost, Family, FrameError, Hop, Network, Outbox, Plane, Route, To, Unroutable,
//! };
//!
//! #[derive(Default)]
//! struct Neighbours {
//!     up: BTreeMap<Hop, Cost>,
//! }
//!
//! impl Network for Neighbours {
//!     fn peer_up(&mut self, _: Instant, hop: Hop, _: Class, cost: Cost, _: &mut Outbox) {
//!         self.up.insert(hop, cost);
//!     }
//!
//!     fn peer_cost(&mut self, _: Instant, hop: Hop, _: Class, cost: Cost, _: &mut Outbox) {
//!         self.up.insert(hop, cost);
//!     }
//!
//!     fn peer_down(&mut self, _: Instant, hop: Hop, _: &mut Outbox) {
//!         self.up.remove(&hop);
//!     }
//!
//!     // A frame is the plane's byte and the payload.
//!     fn handle_above(
//!         &mut self,
//!         _: Instant,
//!         to: To,
//!         payload: Bytes,
//!         by: &Constraint,
//!         out: &mut Outbox,
//!     ) -> Result<(), Unroutable> {
//!         let hop = self.next_hop(to, by).ok_or(Unroutable::Unknown)?;
//!         out.send(hop, [&[by.plane.byte()], &payload[..]].concat().into());
//!         Ok(())
//!     }
//!
//!     fn handle_below(
//!         &mut self,
//!         _: Instant,
//!         hop: Hop,
//!         frame: Bytes,
//!         out: &mut Outbox,
//!     ) -> Result<(), FrameError> {
//!         if !self.up.contains_key(&hop) {
//!             return Err(FrameError::NotUp);
//!         }
//!         let mut reader = byway_wire::Reader::new(&frame);
//!         let plane = Plane::from_byte(reader.u8()?).filter(|plane| plane.has(hop.family));
//!         let plane = plane.ok_or(FrameError::Plane)?;
//!         out.push(Action::Deliver { plane, payload: frame.slice(1..), back: None });
//!         Ok(())
//!     }
//!
//!     fn next_hop(&self, to: To, by: &Constraint) -> Option<Hop> {
//!         let fits = |hop: &Hop| {
//!             to == To::Node(hop.peer) && by.plane.has(hop.family) && by.first_hop.has(hop.family)
//!         };
//!         // What this network cannot promise, it refuses.
//!         let is_plain = by.at_least.is_empty() && by.relays == 0;
//!         let hops = self.up.iter().filter(|(hop, _)| is_plain && fits(hop));
//!         hops.min_by_key(|(_, cost)| **cost).map(|(hop, _)| *hop)
//!     }
//!
//!     fn find(&mut self, _: Instant, _: Prefix, _: &Constraint, _: &mut Outbox) {}
//!     fn sample(&mut self, _: Instant, _: &Constraint, _: &mut Outbox) {}
//!     fn set_digest(&mut self, _: Instant, _: [u8; 32], _: &mut Outbox) {}
//!     fn heartbeat(&mut self, _: Instant, _: &mut Outbox) {}
//!
//!     fn next_heartbeat(&self) -> Option<Instant> {
//!         None
//!     }
//!
//!     fn overhead(&self) -> usize {
//!         1
//!     }
//!
//!     fn routes(&self, _: usize) -> Vec<Route> {
//!         Vec::new()
//!     }
//! }
//!
//! let (now, mut out) = (Instant::now(), Outbox::default());
//! let (ann, bob) = (Addr::from_bytes([1; 32]), Addr::from_bytes([2; 32]));
//! let (to_ann, to_bob) = (Hop { peer: ann, family: Family::Ip }, Hop { peer: bob, family: Family::Ip });
//! let (mut at_ann, mut at_bob) = (Neighbours::default(), Neighbours::default());
//! at_ann.peer_up(now, to_bob, Class::UDP, Cost::LOOPBACK, &mut out);
//! at_bob.peer_up(now, to_ann, Class::UDP, Cost::LOOPBACK, &mut out);
//!
//! let (to, payload) = (To::Node(bob), Bytes::from("hello"));
//! at_ann.handle_above(now, to, payload.clone(), &Constraint::in_plane(Plane::Any), &mut out)?;
//! let Some(Action::Send { hop, frame }) = out.drain().next() else { panic!("Bob is a neighbour") };
//! assert_eq!(hop, to_bob);
//!
//! at_bob.handle_below(now, to_ann, frame, &mut out)?;
//! assert_eq!(out.drain().next(), Some(Action::Deliver { plane: Plane::Any, payload: payload.clone(), back: None }));
//!
//! // No link to Bob hides anything, so what must be hidden does not leave.
//! let refused = at_ann.handle_above(now, to, payload, &Constraint::in_plane(Plane::Anon), &mut out);
//! assert_eq!(refused, Err(Unroutable::Unknown));
//! assert!(out.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod class;
mod constraint;
mod cost;
mod outbox;
mod picture;
mod protocol;
mod view;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use byway_identity::{Addr, Prefix, PublicKey};

pub use class::{Class, ClassSet, Family, Plane};
pub use constraint::Constraint;
pub use cost::Cost;
pub use outbox::{Action, Outbox};
pub use picture::{FRONT_MAX, Picture, Step};
pub use protocol::Protocol;
pub use view::{KnownLink, Map, Path, PathStep, Tree};

/// A neighbour, over one family of links.
///
/// A peer that can be reached over clear IP and over Tor is two hops, each with a cost of its own, so that a frame
/// for the one can never leave by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The authenticated address of the neighbour.
    pub peer: Addr,
    /// The family of links that it is reached by.
    pub family: Family,
}

/// A way back to whoever sent a payload: opaque, local to one [`Network`], and good for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u64);

/// Where a payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum To {
    /// To the node with this address.
    Node(Addr),
    /// Back by the way that an earlier payload came.
    Back(PathId),
}

/// Names one network; nodes of different networks never join.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId([u8; 32]);

/// An answer to [`Network::find`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The prefix that was asked for.
    pub asked: Prefix,
    /// The key of a node whose address begins with it; checked against the address.
    pub key: PublicKey,
    /// Digest of that node's key record (spec/20-session.md), vouched for by the key's signature.
    pub digest: [u8; 32],
}

/// Why there is no way for a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unroutable {
    /// Nothing is known of the target, or of the way back.
    #[error("no way to the target is known")]
    Unknown,
    /// Ways are known, but none satisfies the constraint.
    #[error("no way satisfies the constraint")]
    Constraint,
    /// The payload exceeds what a frame of this network may hold.
    #[error("the payload is too long for this network")]
    TooLong,
}

/// Why a frame from a neighbour was dropped; it counts against the neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes are no frame of this protocol.
    #[error("malformed: {0}")]
    Malformed(#[from] byway_wire::Malformed),
    /// A key or signature does not fit what it vouches for.
    #[error("forged")]
    Forged,
    /// The frame came over a link outside its plane.
    #[error("outside its plane")]
    Plane,
    /// The hop limit is used up.
    #[error("hop limit used up")]
    HopLimit,
    /// No way onwards is known.
    #[error("no way onwards")]
    NoWay,
    /// The neighbour sends more of this kind than it may.
    #[error("more than the neighbour may send")]
    Excess,
    /// The frame came from a neighbour that was never announced as up.
    #[error("from a neighbour that is not up")]
    NotUp,
}

/// What is known of the way to one node, to be shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The node.
    pub to: Addr,
    /// The plane that the way lies in.
    pub plane: Plane,
    /// The neighbour that frames go to next.
    pub next: Hop,
    /// Hops to the node, the neighbour included, if the protocol knows.
    pub hops: Option<u8>,
    /// What the way costs.
    pub cost: Cost,
}

/// A routing protocol: decides which neighbour carries a message next.
///
/// An implementation owns no socket, task or clock. The same calls in the same order always have the same
/// outcome, and on that rest the simulator, the fuzzer and every bug report.
pub trait Network: Send {
    /// `hop`, an authenticated peer over one family of links, can be reached from now on.
    ///
    /// May come for a hop that is up: then the peer has started anew, and has forgotten whatever it knew.
    fn peer_up(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox);

    /// The best link to `hop` has another class or cost now.
    fn peer_cost(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox);

    /// `hop` can no longer be reached.
    fn peer_down(&mut self, now: Instant, hop: Hop, out: &mut Outbox);

    /// From above: the local node wants `payload` carried to `to`, by a way that satisfies `by`.
    fn handle_above(
        &mut self,
        now: Instant,
        to: To,
        payload: Bytes,
        by: &Constraint,
        out: &mut Outbox,
    ) -> Result<(), Unroutable>;

    /// From below: `hop` sent `frame`, and may be hostile.
    ///
    /// An error counts against the peer and leaves the router as it was.
    fn handle_below(
        &mut self,
        now: Instant,
        hop: Hop,
        frame: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError>;

    /// Starts to look for a node whose address begins with `prefix`; see [`Action::Found`]. The answer may come
    /// at once, late or never, and more than once; the caller repeats and gives up as it sees fit.
    fn find(&mut self, now: Instant, prefix: Prefix, by: &Constraint, out: &mut Outbox);

    /// Starts a walk to some node that is willing to be found; the answer's prefix has no bits.
    fn sample(&mut self, now: Instant, by: &Constraint, out: &mut Outbox);

    /// The local node's key record has another digest now.
    fn set_digest(&mut self, now: Instant, digest: [u8; 32], out: &mut Outbox);

    /// Does what is due at `now`. Calling early, late or twice is harmless.
    fn heartbeat(&mut self, now: Instant, out: &mut Outbox);

    /// When [`heartbeat`](Self::heartbeat) should be called next, if ever.
    fn next_heartbeat(&self) -> Option<Instant>;

    /// Most bytes that this protocol adds to a payload.
    fn overhead(&self) -> usize;

    /// The neighbour that a payload for `to` would be handed to now, if a way is known.
    fn next_hop(&self, to: To, by: &Constraint) -> Option<Hop>;

    /// The ways known now, at most `limit`, for people to look at.
    fn routes(&self, limit: usize) -> Vec<Route>;

    /// What is known of the network around this node, for people to look at: at most `limit` nodes and `limit` links.
    fn map(&self, _limit: usize) -> Map {
        Map::default()
    }

    /// The whole ways to `to` that are known, the one in use first. Empty: payloads go from hop to hop, and no node knows
    /// the whole way.
    fn paths(&self, _to: &Addr) -> Vec<Path> {
        Vec::new()
    }

    /// Grows whenever [`Network::picture`] or [`Network::header`] would give something else than before.
    fn generation(&self) -> u64 {
        0
    }

    /// What is done with frames of data now, for other threads to read. `None`: they hand every frame to the router.
    fn picture(&self) -> Option<Arc<dyn Picture>> {
        None
    }

    /// The neighbour for payloads to `to`, and the bytes in front of each of them that make it the frame which
    /// [`Network::handle_above`] would send; good until [`Network::generation`] grows. `None`: ask for every payload.
    fn header(&self, _to: To, _by: &Constraint) -> Option<(Hop, Bytes)> {
        None
    }

    /// So many payloads have left for `to` with what [`Network::header`] gave, since the last call: the router has not seen
    /// them, but may have to mind the way that they take.
    fn carried(&mut self, _now: Instant, _to: &Addr, _plane: Plane, _payloads: u64, _out: &mut Outbox) {}
}

/// What every routing protocol is made from.
pub struct Setup {
    /// The key of the local node, which signs what the node says of itself.
    pub key: byway_identity::SigningKey,
    /// The network to take part in.
    pub network: NetworkId,
    /// Digest of the local node's key record.
    pub digest: [u8; 32],
    /// Grows at each start of the node (Unix milliseconds will do), so that what it says now beats what it said before.
    pub boot: u64,
    /// Whether the node is a leaf: one that has a single neighbour, announces itself and carries for no one.
    pub leaf: bool,
    /// Randomness.
    pub entropy: Box<dyn byway_identity::Entropy>,
}

/// Most hops that a frame may make, whatever the protocol.
pub const HOP_LIMIT: u8 = 128;

impl NetworkId {
    /// The network called `name`, closed by `group_key` if there is one.
    pub fn new(name: &str, group_key: Option<&[u8; 32]>) -> Self {
        let group_key = group_key.unwrap_or(&[0; 32]);
        Self(byway_identity::labelled_hash("network/id", &[group_key, name.as_bytes()]))
    }

    /// The 32 bytes that stand for the network on the wire.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NetworkId({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}
