//! The daemon's side of [`byway_api`]: handles through which tasks reach the driver.

use std::sync::Arc;
use std::time::Duration;

use byway_api::body::{LinkInfo, NodeInfo, PeerInfo, PeerSpec, RouteInfo, SessionInfo, Trace};
use byway_api::{ApiError, BoxFuture, Incoming, Kind, Node, OpenNode, Outgoing, Request, Sent};
use byway_identity::{Addr, Prefix, PublicKey};

use crate::Levels;

/// A running core. Cheap to clone; the driver ends when [`Handle::shutdown`] was called or the last handle is gone.
///
/// The daemon wraps it to implement [`byway_api::Service`]: methods have the same names and meanings.
#[derive(Clone)]
pub struct Handle {}

/// One hosted node; closes when [`Node::close`] is called or the last handle to it is gone.
pub struct NodeHandle {}

impl Handle {
    /// The daemon's own node.
    pub fn main(&self) -> Arc<dyn Node> {
        todo!()
    }
    /// Opens a node.
    pub async fn open(&self, _options: OpenNode) -> Result<Arc<dyn Node>, ApiError> {
        todo!()
    }
    /// Peers.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, ApiError> {
        todo!()
    }
    /// Links.
    pub async fn links(&self) -> Result<Vec<LinkInfo>, ApiError> {
        todo!()
    }
    /// Routes.
    pub async fn routes(&self) -> Result<Vec<RouteInfo>, ApiError> {
        todo!()
    }
    /// Sessions.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, ApiError> {
        todo!()
    }
    /// Nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, ApiError> {
        todo!()
    }
    /// Adds or replaces a peer (does not persist it: the daemon does).
    pub async fn add_peer(&self, _peer: PeerSpec) -> Result<(), ApiError> {
        todo!()
    }
    /// Removes a peer.
    pub async fn remove_peer(&self, _addr: Addr) -> Result<(), ApiError> {
        todo!()
    }
    /// The way to a node, with a ping over it.
    pub async fn trace(&self, _to: Addr, _request: Request) -> Result<Trace, ApiError> {
        todo!()
    }
    /// OpenMetrics text without the closing `# EOF` line.
    pub async fn metrics(&self) -> Result<String, ApiError> {
        todo!()
    }
    /// Endpoints that transports listen at.
    pub async fn listening(&self) -> Result<Vec<String>, ApiError> {
        todo!()
    }
    /// Replaces the levels of requests from now on; `direct` cannot change while running.
    pub async fn set_levels(&self, _levels: Levels) -> Result<(), ApiError> {
        todo!()
    }
    /// Says goodbye to peers, then stops the driver.
    pub async fn shutdown(&self) {
        todo!()
    }
}

impl Node for NodeHandle {
    fn addr(&self) -> Addr {
        todo!()
    }
    fn public_key(&self) -> PublicKey {
        todo!()
    }
    fn send(&self, _outgoing: Outgoing) -> BoxFuture<'_, Result<Sent, ApiError>> {
        todo!()
    }
    fn recv(&self, _kind: Kind) -> BoxFuture<'_, Result<Incoming, ApiError>> {
        todo!()
    }
    fn try_recv(&self, _kind: Kind) -> Option<Incoming> {
        todo!()
    }
    fn find(&self, _prefix: Prefix, _request: Request) -> BoxFuture<'_, Result<Addr, ApiError>> {
        todo!()
    }
    fn lookup(&self, _addr: Addr, _request: Request) -> BoxFuture<'_, Result<PublicKey, ApiError>> {
        todo!()
    }
    fn ping(&self, _to: Addr, _request: Request) -> BoxFuture<'_, Result<Duration, ApiError>> {
        todo!()
    }
    fn path_mtu(&self, _to: Addr) -> usize {
        todo!()
    }
    fn close(&self) {
        todo!()
    }
}
