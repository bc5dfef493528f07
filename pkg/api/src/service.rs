//! The daemon, as those above it see it.

use std::sync::Arc;

use byway_identity::{Addr, SigningKey};

use crate::body::{LinkInfo, Map, NodeInfo, PeerInfo, PeerSpec, RouteInfo, SessionInfo, Status, Trace};
use crate::{ApiError, BoxFuture, ManCon, Node, Request};

/// What a new node should be like.
#[derive(Clone, Default)]
pub struct OpenNode {
    /// Its key; none: a new one that exists only as long as the node.
    pub key: Option<SigningKey>,
    /// Level of its requests that carry none; none: the daemon's default.
    pub mancon: Option<ManCon>,
}

/// A daemon: a place to open nodes at, and its state.
pub trait Service: Send + Sync {
    /// Opens a node. A second one with the same key is refused with [`Code::Conflict`](crate::Code::Conflict).
    fn open(&self, options: OpenNode) -> BoxFuture<'_, Result<Arc<dyn Node>, ApiError>>;

    /// The daemon's own node.
    fn main(&self) -> Arc<dyn Node>;

    /// Overview.
    fn status(&self) -> BoxFuture<'_, Result<Status, ApiError>>;

    /// Configured and known peers.
    fn peers(&self) -> BoxFuture<'_, Result<Vec<PeerInfo>, ApiError>>;

    /// Open links.
    fn links(&self) -> BoxFuture<'_, Result<Vec<LinkInfo>, ApiError>>;

    /// Known routes.
    fn routes(&self) -> BoxFuture<'_, Result<Vec<RouteInfo>, ApiError>>;

    /// End-to-end sessions.
    fn sessions(&self) -> BoxFuture<'_, Result<Vec<SessionInfo>, ApiError>>;

    /// Nodes that this daemon hosts.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeInfo>, ApiError>>;

    /// Adds or replaces a peer.
    fn add_peer(&self, peer: PeerSpec) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Removes a peer and its links; [`Code::Unknown`](crate::Code::Unknown) if there is none.
    fn remove_peer(&self, addr: Addr) -> BoxFuture<'_, Result<(), ApiError>>;

    /// What is known of the network around the daemon's own node: at most `limit` nodes and `limit` links. With 0, its
    /// places in trees alone.
    fn map(&self, limit: usize) -> BoxFuture<'_, Result<Map, ApiError>>;

    /// The way that requests to `to` take now, and the others that are known.
    fn trace(&self, to: Addr, request: Request) -> BoxFuture<'_, Result<Trace, ApiError>>;

    /// Counters and gauges, in the text form of OpenMetrics.
    fn metrics(&self) -> BoxFuture<'_, Result<String, ApiError>>;

    /// Re-reads the configuration; the answer says in words what was applied and what needs a restart.
    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, ApiError>>;

    /// Asks the daemon to stop.
    fn shutdown(&self) -> BoxFuture<'_, Result<(), ApiError>>;
}
