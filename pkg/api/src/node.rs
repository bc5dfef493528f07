//! A node: one address, from which messages go and at which they arrive.

use std::time::Duration;

use bytes::Bytes;
use byway_identity::{Addr, Prefix, PublicKey};

use crate::{ApiError, BoxFuture, ManCon};

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message between applications, 0 to [`MESSAGE_MAX`](crate::MESSAGE_MAX) bytes. Kept in order on one path, and slowed down
    /// to what the way and the receiver can take.
    Message,
    /// An IPv6 packet between portals. What is too many is dropped, as IP does.
    Packet,
}

/// What a request asks for, besides its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Request {
    /// The level; none: the node's, else the daemon's default.
    pub mancon: Option<ManCon>,
    /// How long to wait; none: [`DEFAULT_DEADLINE`](crate::DEFAULT_DEADLINE).
    pub deadline: Option<Duration>,
}

/// A payload to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The receiver.
    pub to: Addr,
    /// Message or packet.
    pub kind: Kind,
    /// The content.
    pub payload: Bytes,
    /// Level and deadline.
    pub request: Request,
}

/// A payload that arrived, with its authenticated sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The sender, proven by the end-to-end session.
    pub from: Addr,
    /// The content.
    pub payload: Bytes,
}

/// What became of a payload that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The level that was used.
    pub mancon: ManCon,
    /// Whether it waits for a way or a session, rather than having left.
    pub held: bool,
}

/// One address in the network.
///
/// Delivery is at most once, best effort, never corrupted; the sender is authenticated. All methods may be called from
/// several tasks at once; each received payload goes to one caller.
pub trait Node: Send + Sync {
    /// The address.
    fn addr(&self) -> Addr;

    /// The public key that the address is the hash of.
    fn public_key(&self) -> PublicKey;

    /// Sends one payload; waits while the queue to the receiver is full, until the deadline.
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Sent, ApiError>>;

    /// The next payload of `kind`; an error with [`Code::Closed`](crate::Code::Closed) when the node has ended.
    fn recv(&self, kind: Kind) -> BoxFuture<'_, Result<Incoming, ApiError>>;

    /// A payload of `kind` that is there already.
    fn try_recv(&self, kind: Kind) -> Option<Incoming>;

    /// The whole address of a node whose address begins with `prefix`.
    fn find(&self, prefix: Prefix, request: Request) -> BoxFuture<'_, Result<Addr, ApiError>>;

    /// The public key behind `addr`.
    fn lookup(&self, addr: Addr, request: Request) -> BoxFuture<'_, Result<PublicKey, ApiError>>;

    /// Asks `to` for a sign of life inside the end-to-end session: the round-trip time.
    fn ping(&self, to: Addr, request: Request) -> BoxFuture<'_, Result<Duration, ApiError>>;

    /// Largest payload, in bytes, that now reaches `to` in one frame; what is longer is fragmented.
    fn path_mtu(&self, to: Addr) -> usize;

    /// Ends the node; what it had queued is dropped, and waiting calls end with [`Code::Closed`](crate::Code::Closed).
    fn close(&self);
}
