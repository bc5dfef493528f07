//! A realm in memory: daemons and nodes of one process that exchange messages by address.
//!
//! It keeps every promise of [`Node`] and [`Service`] without a network: bounded queues, back-pressure, deadlines,
//! authenticated senders (a node can only send as itself). So portal, HTTP API, client and commands are tested against it,
//! and it says what the traits mean. It does not know links, routes and
//! sessions, and shows none; its map has the peers that are there.

mod mailbox;
mod node;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use byway_identity::{Addr, OsEntropy, SigningKey};
use tokio::sync::watch;

use self::mailbox::Mailbox;
use self::node::MemoryNode;
use crate::body::{
    LinkInfo, Map, MapLink, NodeInfo, PathInfo, PeerInfo, PeerSpec, RouteInfo, SessionInfo, Status, Trace,
    TraceHop,
};
use crate::{ApiError, BoxFuture, Code, Kind, ManCon, Node, OpenNode, Request, Service};

/// A daemon in memory; [`Realm::neighbour`] makes more of them that reach each other. Clones are the same daemon.
#[derive(Clone)]
pub struct Realm {
    daemon: Arc<Daemon>,
}

struct Daemon {
    medium: Arc<Medium>,
    main: Arc<MemoryNode>,
    hosted: Mutex<HashMap<Addr, Weak<MemoryNode>>>,
    peers: Mutex<BTreeMap<Addr, PeerSpec>>,
    started: time::OffsetDateTime,
    stopped: watch::Sender<bool>,
}

/// What all daemons of a realm share: who is there.
#[derive(Default)]
struct Medium {
    nodes: RwLock<HashMap<Addr, Arc<Mailbox>>>,
    ceiling: RwLock<Option<ManCon>>,
}

/// Most nodes that a daemon hosts, its own included.
pub const NODES_MAX: usize = 4_096;

/// Most peers that a daemon keeps.
pub const PEERS_MAX: usize = 1_024;

/// The class of what joins nodes of a realm.
const CLASS: &str = "loopback/memory";

impl Default for Realm {
    fn default() -> Self {
        Self::new()
    }
}

impl Realm {
    /// A realm with one daemon, whose node has a new key.
    pub fn new() -> Self {
        Self::with_key(&SigningKey::generate(&mut OsEntropy))
    }

    /// A realm with one daemon, whose node has this key.
    pub fn with_key(key: &SigningKey) -> Self {
        Self::within(Arc::default(), key)
    }

    /// Another daemon in the same realm: its nodes and these reach each other.
    pub fn neighbour(&self) -> Self {
        Self::within(Arc::clone(&self.daemon.medium), &SigningKey::generate(&mut OsEntropy))
    }

    /// From now on, requests above `level` are refused with [`Code::ManconUnsatisfied`], as where no private transport is there.
    pub fn refuse_above(&self, level: ManCon) {
        *self.daemon.medium.ceiling.write().unwrap_or_else(PoisonError::into_inner) = Some(level);
    }

    /// Waits until someone asked the daemon to stop.
    pub async fn stopped(&self) {
        // The sender lives in `self`, so waiting ends only with the value that is waited for.
        let _ = self.daemon.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    fn within(medium: Arc<Medium>, key: &SigningKey) -> Self {
        let mailbox = Arc::new(Mailbox::new(key.public()));
        medium
            .nodes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(mailbox.addr(), Arc::clone(&mailbox));
        let main = Arc::new(MemoryNode::new(Arc::clone(&medium), mailbox, ManCon::default()));
        Self {
            daemon: Arc::new(Daemon {
                medium,
                main,
                hosted: Mutex::default(),
                peers: Mutex::default(),
                started: time::OffsetDateTime::now_utc(),
                stopped: watch::Sender::new(false),
            }),
        }
    }

    fn open_now(&self, options: &OpenNode) -> Result<Arc<dyn Node>, ApiError> {
        if *self.daemon.stopped.borrow() {
            return Err(ApiError::new(Code::Closed, "the daemon is stopping"));
        }
        let public = match &options.key {
            Some(key) => key.public(),
            None => SigningKey::generate(&mut OsEntropy).public(),
        };
        let mut hosted = lock(&self.daemon.hosted);
        hosted.retain(|_, node| node.upgrade().is_some_and(|node| !node.is_closed()));
        if hosted.len() + 1 >= NODES_MAX {
            return Err(ApiError::new(
                Code::Busy,
                format!("the daemon hosts {NODES_MAX} nodes, and no more"),
            ));
        }
        let mailbox = Arc::new(Mailbox::new(public));
        let addr = mailbox.addr();
        if !self.daemon.medium.join(Arc::clone(&mailbox)) {
            return Err(ApiError::new(Code::Conflict, format!("the node {addr} is open already")));
        }
        let level = options.mancon.unwrap_or_default();
        let node = Arc::new(MemoryNode::new(Arc::clone(&self.daemon.medium), mailbox, level));
        hosted.insert(addr, Arc::downgrade(&node));
        Ok(node)
    }

    /// The daemon's own node, then the others by address.
    fn hosted(&self) -> Vec<Arc<MemoryNode>> {
        let hosted = lock(&self.daemon.hosted);
        let mut nodes: Vec<_> =
            hosted.values().filter_map(Weak::upgrade).filter(|node| !node.is_closed()).collect();
        nodes.sort_by_key(|node| node.addr());
        nodes.insert(0, Arc::clone(&self.daemon.main));
        nodes
    }

    fn status_now(&self) -> Status {
        let peers = lock(&self.daemon.peers);
        let started = self.daemon.started.format(&time::format_description::well_known::Rfc3339);
        Status {
            addr: self.daemon.main.addr(),
            ipv6: None,
            version: env!("CARGO_PKG_VERSION").into(),
            started: started.expect("years up to 9999 have an RFC 3339 form"),
            protocol: "memory".into(),
            network: "memory".into(),
            mancon: ManCon::default(),
            floor: ManCon::Low,
            direct: false,
            endpoints: Vec::new(),
            peers_up: peers.keys().filter(|peer| self.daemon.medium.mailbox(peer).is_some()).count(),
            peers: peers.len(),
            nodes: self.hosted().len(),
            portal: None,
            fast: None,
            transports: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn peers_now(&self) -> Vec<PeerInfo> {
        let here = |addr| self.daemon.medium.mailbox(addr).is_some();
        let peers = lock(&self.daemon.peers);
        peers
            .values()
            .map(|peer| PeerInfo {
                addr: peer.addr,
                name: peer.name.clone(),
                endpoints: peer.endpoints.clone(),
                state: if here(&peer.addr) { "up" } else { "down" }.into(),
                links: usize::from(here(&peer.addr)),
                trouble: (!here(&peer.addr)).then(|| "it is not in this realm".into()),
            })
            .collect()
    }

    /// This daemon in the middle, and its peers that are there.
    fn map_now(&self, limit: usize) -> Map {
        let addr = self.daemon.main.addr();
        let peers = lock(&self.daemon.peers);
        let here = peers.keys().copied().filter(|peer| self.daemon.medium.mailbox(peer).is_some());
        let mut nodes: Vec<Addr> = std::iter::once(addr).chain(here.filter(|peer| *peer != addr)).collect();
        let cut = nodes.len() > limit;
        nodes.truncate(limit);
        let link =
            |peer: &Addr| MapLink { a: addr, b: *peer, class: CLASS.into(), cost_ms: 0.0, in_tree: false };
        let links = nodes.iter().skip(1).map(link).collect();
        Map { addr, trees: Vec::new(), nodes, links, cut }
    }

    fn add_peer_now(&self, peer: PeerSpec) -> Result<(), ApiError> {
        let mut peers = lock(&self.daemon.peers);
        if peers.len() >= PEERS_MAX && !peers.contains_key(&peer.addr) {
            return Err(ApiError::new(
                Code::Busy,
                format!("the daemon keeps {PEERS_MAX} peers, and no more"),
            ));
        }
        peers.insert(peer.addr, peer);
        Ok(())
    }

    fn remove_peer_now(&self, addr: Addr) -> Result<(), ApiError> {
        match lock(&self.daemon.peers).remove(&addr) {
            Some(_) => Ok(()),
            None => Err(ApiError::new(Code::Unknown, format!("{addr} is no peer"))),
        }
    }

    fn metrics_now(&self) -> String {
        let mut text = String::from(
            "# TYPE byway_node_queued gauge\n# HELP byway_node_queued Messages that wait for the application.\n",
        );
        let nodes = self.hosted();
        for node in &nodes {
            let _ =
                writeln!(text, "byway_node_queued{{node=\"{}\"}} {}", node.addr(), node.mailbox().queued());
        }
        text.push_str(
            "# TYPE byway_node_dropped counter\n# HELP byway_node_dropped Packets dropped, queue full.\n",
        );
        for node in &nodes {
            let _ = writeln!(
                text,
                "byway_node_dropped_total{{node=\"{}\"}} {}",
                node.addr(),
                node.mailbox().dropped()
            );
        }
        text.push_str("# EOF\n");
        text
    }
}

impl Medium {
    fn mailbox(&self, addr: &Addr) -> Option<Arc<Mailbox>> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.get(addr).map(Arc::clone)
    }

    /// False when there is such a node.
    fn join(&self, mailbox: Arc<Mailbox>) -> bool {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        match nodes.entry(mailbox.addr()) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(mailbox);
                true
            }
        }
    }

    /// Takes out just this mailbox, not a later one of the same address.
    fn leave(&self, mailbox: &Arc<Mailbox>) {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        if nodes.get(&mailbox.addr()).is_some_and(|known| Arc::ptr_eq(known, mailbox)) {
            nodes.remove(&mailbox.addr());
        }
    }

    fn level(&self, asked: ManCon) -> Result<ManCon, ApiError> {
        let ceiling = *self.ceiling.read().unwrap_or_else(PoisonError::into_inner);
        match ceiling {
            Some(ceiling) if asked > ceiling => Err(ApiError::new(
                Code::ManconUnsatisfied,
                format!("no available transport satisfies {asked}; the most private one satisfies {ceiling}"),
            )),
            _ => Ok(asked),
        }
    }
}

impl Service for Realm {
    fn open(&self, options: OpenNode) -> BoxFuture<'_, Result<Arc<dyn Node>, ApiError>> {
        Box::pin(async move { self.open_now(&options) })
    }

    fn main(&self) -> Arc<dyn Node> {
        Arc::clone(&self.daemon.main) as Arc<dyn Node>
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, ApiError>> {
        Box::pin(async { Ok(self.status_now()) })
    }

    fn peers(&self) -> BoxFuture<'_, Result<Vec<PeerInfo>, ApiError>> {
        Box::pin(async { Ok(self.peers_now()) })
    }

    fn links(&self) -> BoxFuture<'_, Result<Vec<LinkInfo>, ApiError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn routes(&self) -> BoxFuture<'_, Result<Vec<RouteInfo>, ApiError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn sessions(&self) -> BoxFuture<'_, Result<Vec<SessionInfo>, ApiError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeInfo>, ApiError>> {
        Box::pin(async {
            let main = self.daemon.main.addr();
            let info = |node: &Arc<MemoryNode>| NodeInfo {
                addr: node.addr(),
                ipv6: None,
                main: node.addr() == main,
                held: 0,
                queued: node.mailbox().queued(),
                dropped: node.mailbox().dropped(),
            };
            Ok(self.hosted().iter().map(info).collect())
        })
    }

    fn add_peer(&self, peer: PeerSpec) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move { self.add_peer_now(peer) })
    }

    fn remove_peer(&self, addr: Addr) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move { self.remove_peer_now(addr) })
    }

    fn map(&self, limit: usize) -> BoxFuture<'_, Result<Map, ApiError>> {
        Box::pin(async move { Ok(self.map_now(limit)) })
    }

    fn trace(&self, to: Addr, request: Request) -> BoxFuture<'_, Result<Trace, ApiError>> {
        Box::pin(async move {
            let rtt = self.daemon.main.ping(to, request).await?;
            let mancon = self.daemon.medium.level(request.mancon.unwrap_or_default())?;
            let hops = vec![TraceHop { addr: Some(to), class: CLASS.into(), cost_ms: 0.0 }];
            Ok(Trace {
                to,
                mancon,
                plane: "any".into(),
                hops: hops.clone(),
                complete: true,
                why: None,
                distance: Some(1),
                cost_ms: Some(0.0),
                rtt_ms: Some(rtt.as_secs_f64() * 1e3),
                paths: vec![PathInfo { in_use: true, cost_ms: 0.0, hops }],
            })
        })
    }

    fn metrics(&self) -> BoxFuture<'_, Result<String, ApiError>> {
        Box::pin(async { Ok(self.metrics_now()) })
    }

    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, ApiError>> {
        Box::pin(async { Ok(vec!["a realm in memory has no configuration".into()]) })
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async {
            self.daemon.stopped.send_replace(true);
            for node in self.hosted() {
                node.close();
            }
            Ok(())
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot leave these maps half changed: each change is one call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many payloads of `kind` a node keeps for its application.
pub const fn queue(kind: Kind) -> usize {
    match kind {
        Kind::Message => 64,
        Kind::Packet => 256,
    }
}

#[cfg(test)]
mod tests;
