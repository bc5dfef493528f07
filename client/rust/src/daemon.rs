//! A daemon that answered: what code written for the traits takes.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use byway_api::body::{LinkInfo, Map, NodeInfo, PeerInfo, PeerSpec, RouteInfo, SessionInfo, Status, Trace};
use byway_api::{
    ApiError, BoxFuture, Code, Incoming, Kind, Node, OpenNode, Outgoing, Request, Sent, Service,
};
use byway_identity::{Addr, Prefix, PublicKey};

use crate::client::{Client, Local};
use crate::node::PATH_MTU;

/// A daemon from afar, as [`Service`]; it has the calls of its [`Client`] too.
#[derive(Clone)]
pub struct Daemon {
    client: Client,
    main: Arc<Main>,
}

impl Daemon {
    pub(crate) fn new(client: Client, addr: Addr, key: PublicKey) -> Self {
        let main = Arc::new(Main { client: client.clone(), addr, key });
        Self { client, main }
    }
}

impl Deref for Daemon {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Service for Daemon {
    fn open(&self, options: OpenNode) -> BoxFuture<'_, Result<Arc<dyn Node>, ApiError>> {
        Box::pin(async move {
            let node = self.client.open(&options).await?;
            Ok(Arc::new(node) as Arc<dyn Node>)
        })
    }

    fn main(&self) -> Arc<dyn Node> {
        Arc::clone(&self.main) as Arc<dyn Node>
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, ApiError>> {
        Box::pin(self.client.status())
    }

    fn peers(&self) -> BoxFuture<'_, Result<Vec<PeerInfo>, ApiError>> {
        Box::pin(self.client.peers())
    }

    fn links(&self) -> BoxFuture<'_, Result<Vec<LinkInfo>, ApiError>> {
        Box::pin(self.client.links())
    }

    fn routes(&self) -> BoxFuture<'_, Result<Vec<RouteInfo>, ApiError>> {
        Box::pin(self.client.routes())
    }

    fn sessions(&self) -> BoxFuture<'_, Result<Vec<SessionInfo>, ApiError>> {
        Box::pin(self.client.sessions())
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeInfo>, ApiError>> {
        Box::pin(self.client.nodes())
    }

    fn add_peer(&self, peer: PeerSpec) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move { self.client.add_peer(&peer).await })
    }

    fn remove_peer(&self, addr: Addr) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(self.client.remove_peer(addr))
    }

    fn map(&self, limit: usize) -> BoxFuture<'_, Result<Map, ApiError>> {
        Box::pin(self.client.map(limit))
    }

    fn trace(&self, to: Addr, request: Request) -> BoxFuture<'_, Result<Trace, ApiError>> {
        Box::pin(self.client.trace(to, request))
    }

    fn metrics(&self) -> BoxFuture<'_, Result<String, ApiError>> {
        Box::pin(self.client.metrics())
    }

    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, ApiError>> {
        Box::pin(self.client.reload())
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(self.client.shutdown())
    }
}

/// The daemon's own node, from afar: it asks, but its messages are the daemon's.
struct Main {
    client: Client,
    addr: Addr,
    key: PublicKey,
}

impl Main {
    fn local(&self) -> Local<'_> {
        Local { addr: self.addr, token: None }
    }
}

impl Node for Main {
    fn addr(&self) -> Addr {
        self.addr
    }

    fn public_key(&self) -> PublicKey {
        self.key
    }

    fn send(&self, _: Outgoing) -> BoxFuture<'_, Result<Sent, ApiError>> {
        Box::pin(async { Err(not_ours()) })
    }

    fn recv(&self, _: Kind) -> BoxFuture<'_, Result<Incoming, ApiError>> {
        Box::pin(async { Err(not_ours()) })
    }

    fn try_recv(&self, _: Kind) -> Option<Incoming> {
        None
    }

    fn find(&self, prefix: Prefix, request: Request) -> BoxFuture<'_, Result<Addr, ApiError>> {
        Box::pin(self.client.find(self.local(), prefix, request))
    }

    fn lookup(&self, addr: Addr, request: Request) -> BoxFuture<'_, Result<PublicKey, ApiError>> {
        Box::pin(self.client.key_behind(self.local(), addr, request))
    }

    fn ping(&self, to: Addr, request: Request) -> BoxFuture<'_, Result<Duration, ApiError>> {
        Box::pin(self.client.ping(to, request))
    }

    fn path_mtu(&self, _: Addr) -> usize {
        PATH_MTU
    }

    /// Does nothing: the daemon's own node ends with the daemon.
    fn close(&self) {}
}

fn not_ours() -> ApiError {
    ApiError::new(
        Code::Refused,
        "the messages of the daemon's own node are the daemon's; open a node for yours",
    )
}
