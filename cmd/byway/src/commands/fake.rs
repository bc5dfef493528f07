//! A daemon in memory for the tests of commands, with a peer, a link, a route and a session to show.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use byway_api::body::{
    LinkInfo, Map, MapLink, NodeInfo, PathInfo, PeerInfo, PeerSpec, RouteInfo, SessionInfo, Status, Trace,
    TraceHop, TransportInfo, TreeInfo,
};
use byway_api::memory::Realm;
use byway_api::{ApiError, BoxFuture, Code, ManCon, Node, OpenNode, Request, Service};
use byway_identity::Addr;
use tokio::sync::{mpsc, watch};

use super::Context;
use crate::failure::Failure;
use crate::out::Out;
use crate::stop::Stop;

/// The daemon, and the user's wish to end what runs with it.
pub(crate) struct Fake {
    double: Double,
    sender: watch::Sender<bool>,
    stop: Stop,
}

/// What a command left behind.
pub(crate) struct Ran {
    data: Vec<u8>,
    notes: Vec<u8>,
    outcome: Result<(), Failure>,
}

/// A command that runs in a thread of its own.
pub(crate) struct Running {
    data: mpsc::UnboundedReceiver<String>,
    notes: mpsc::UnboundedReceiver<String>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let (sender, stop) = Stop::new();
        let inner =
            Inner { realm: Realm::new(), added: Mutex::default(), down: false.into(), stays: false.into() };
        Self { double: Double(Arc::new(inner)), sender, stop }
    }

    pub(crate) fn addr(&self) -> Addr {
        self.double.0.realm.main().addr()
    }

    pub(crate) fn service(&self) -> &dyn Service {
        &self.double
    }

    /// Peers that were added and not removed.
    pub(crate) fn added(&self) -> Vec<PeerSpec> {
        self.double.0.added.lock().expect("no test panics with it").clone()
    }

    /// No way for what is above `level`.
    pub(crate) fn refuse_above(&self, level: ManCon) {
        self.double.0.realm.refuse_above(level);
    }

    pub(crate) fn is_down(&self) -> bool {
        self.double.0.down.load(Ordering::SeqCst)
    }

    pub(crate) fn refuse_to_stop(&self) {
        self.double.0.stays.store(true, Ordering::SeqCst);
    }

    /// Ctrl-C.
    pub(crate) fn stop(&self) {
        self.sender.send_replace(true);
    }

    pub(crate) async fn run(
        &self,
        command: impl AsyncFnOnce(&mut Context<'_, '_>) -> Result<(), Failure>,
    ) -> Ran {
        self.run_as(false, command).await
    }

    pub(crate) async fn json(
        &self,
        command: impl AsyncFnOnce(&mut Context<'_, '_>) -> Result<(), Failure>,
    ) -> Ran {
        self.run_as(true, command).await
    }

    async fn run_as(
        &self,
        json: bool,
        command: impl AsyncFnOnce(&mut Context<'_, '_>) -> Result<(), Failure>,
    ) -> Ran {
        let (mut data, mut notes) = (Vec::new(), Vec::new());
        let mut out = Out::new(&mut data, &mut notes);
        out.json = json;
        let mut context =
            Context { service: &self.double, out: &mut out, level: None, stop: self.stop.clone() };
        let outcome = command(&mut context).await;
        Ran { data, notes, outcome }
    }

    /// Runs a command that goes on by itself.
    pub(crate) fn start<F>(&self, command: F) -> Running
    where
        F: AsyncFnOnce(&mut Context<'_, '_>) -> Result<(), Failure> + Send + 'static,
    {
        let (double, stop) = (self.double.clone(), self.stop.clone());
        let ((mut data, data_lines), (mut notes, note_lines)) = (Lines::new(), Lines::new());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut out = Out::new(&mut data, &mut notes);
            let mut context = Context { service: &double, out: &mut out, level: None, stop };
            runtime.block_on(command(&mut context))
        });
        Running { data: data_lines, notes: note_lines, thread }
    }
}

impl Ran {
    pub(crate) fn data(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }

    /// What it noted, and what it would say on stderr at its end.
    pub(crate) fn notes(&self) -> String {
        let end = self.outcome.as_ref().err().and_then(|failure| failure.status().1).unwrap_or_default();
        format!("{}{end}", String::from_utf8_lossy(&self.notes))
    }

    pub(crate) fn status(&self) -> u8 {
        self.outcome.as_ref().map_or_else(|failure| failure.status().0, |()| 0)
    }
}

impl Running {
    /// The next line of data.
    pub(crate) async fn line(&mut self) -> String {
        self.data.recv().await.expect("the command still runs")
    }

    /// The next note.
    pub(crate) async fn note(&mut self) -> String {
        self.notes.recv().await.expect("the command still runs")
    }

    /// Waits for its end: the exit status.
    pub(crate) async fn end(self) -> u8 {
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await.expect("it is waited for");
        ended.expect("the command did not panic").map_or_else(|failure| failure.status().0, |()| 0)
    }
}

/// A writer that hands on whole lines.
struct Lines {
    pending: Vec<u8>,
    lines: mpsc::UnboundedSender<String>,
}

impl Lines {
    fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (lines, receiver) = mpsc::unbounded_channel();
        (Self { pending: Vec::new(), lines }, receiver)
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let _ = self.lines.send(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Clone)]
struct Double(Arc<Inner>);

struct Inner {
    realm: Realm,
    added: Mutex<Vec<PeerSpec>>,
    down: AtomicBool,
    stays: AtomicBool,
}

impl Double {
    fn here<T>(&self, value: T) -> Result<T, ApiError> {
        if self.0.down.load(Ordering::SeqCst) {
            return Err(ApiError::new(Code::Closed, "the daemon has stopped"));
        }
        Ok(value)
    }
}

/// The neighbour.
pub(crate) const OTHER: Addr = Addr::from_bytes([7; 32]);
/// A node behind it, the whole way to which is known.
pub(crate) const FAR: Addr = Addr::from_bytes([9; 32]);

impl Service for Double {
    fn open(&self, options: OpenNode) -> BoxFuture<'_, Result<Arc<dyn Node>, ApiError>> {
        self.0.realm.open(options)
    }

    fn main(&self) -> Arc<dyn Node> {
        self.0.realm.main()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, ApiError>> {
        Box::pin(async {
            let status = self.0.realm.status().await?;
            let tor = TransportInfo {
                kind: "tor".into(),
                state: "starting".into(),
                percent: Some(45),
                detail: Some("asking for relays".into()),
                endpoints: Vec::new(),
            };
            self.here(Status { warnings: vec!["no peers".into()], transports: vec![tor], ..status })
        })
    }

    fn peers(&self) -> BoxFuture<'_, Result<Vec<PeerInfo>, ApiError>> {
        Box::pin(async {
            let mut peers = self.0.realm.peers().await?;
            let endpoints = vec!["udp://192.0.2.7:2561".into()];
            let name = Some("neighbour".into());
            peers.push(PeerInfo {
                addr: OTHER,
                name,
                endpoints,
                state: "up".into(),
                links: 1,
                trouble: None,
            });
            self.here(peers)
        })
    }

    fn links(&self) -> BoxFuture<'_, Result<Vec<LinkInfo>, ApiError>> {
        Box::pin(async {
            self.here(vec![LinkInfo {
                peer: OTHER,
                endpoint: "udp://192.0.2.7:2561".into(),
                class: "ip".into(),
                role: "active".into(),
                state: "up".into(),
                state_s: 61,
                why: None,
                rtt_ms: Some(1.5),
                loss: 0.0,
                cost_ms: 1.5,
                mtu: 1_400,
                sent: 1_000,
                received: 2_000,
                up_s: 61,
            }])
        })
    }

    fn routes(&self) -> BoxFuture<'_, Result<Vec<RouteInfo>, ApiError>> {
        Box::pin(async {
            let (plane, family) = ("any".into(), "ip".into());
            let (class, hops) = ("ip/udp".into(), Some(1));
            self.here(vec![RouteInfo {
                to: OTHER,
                plane,
                next: OTHER,
                family,
                class,
                hops,
                cost_ms: 1.5,
                paths: 0,
            }])
        })
    }

    fn sessions(&self) -> BoxFuture<'_, Result<Vec<SessionInfo>, ApiError>> {
        Box::pin(async {
            self.here(vec![SessionInfo {
                local: self.0.realm.main().addr(),
                remote: OTHER,
                plane: "any".into(),
                cipher: "AES-256-GCM".into(),
                rtt_ms: None,
                age_s: 5,
                sent: 1,
                received: 2,
            }])
        })
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeInfo>, ApiError>> {
        self.0.realm.nodes()
    }

    fn add_peer(&self, peer: PeerSpec) -> BoxFuture<'_, Result<(), ApiError>> {
        self.0.added.lock().expect("no test panics with it").push(peer.clone());
        self.0.realm.add_peer(peer)
    }

    fn remove_peer(&self, addr: Addr) -> BoxFuture<'_, Result<(), ApiError>> {
        self.0.added.lock().expect("no test panics with it").retain(|peer| peer.addr != addr);
        self.0.realm.remove_peer(addr)
    }

    fn map(&self, limit: usize) -> BoxFuture<'_, Result<Map, ApiError>> {
        Box::pin(async move {
            let addr = self.0.realm.main().addr();
            let link = |a, b, in_tree| MapLink { a, b, class: "ip/udp".into(), cost_ms: 1.5, in_tree };
            let tree = TreeInfo {
                plane: "any".into(),
                index: 0,
                root: FAR,
                parent: Some(OTHER),
                family: Some("ip".into()),
                cost_ms: 3.0,
                coordinates: vec![4, 17],
                children: vec![],
            };
            let (nodes, links) =
                (vec![addr, OTHER, FAR], vec![link(addr, OTHER, true), link(OTHER, FAR, true)]);
            let (nodes, links) = if limit == 0 { (vec![], vec![]) } else { (nodes, links) };
            self.here(Map { addr, trees: vec![tree], nodes, links, cut: limit == 0 })
        })
    }

    fn trace(&self, to: Addr, _request: Request) -> BoxFuture<'_, Result<Trace, ApiError>> {
        Box::pin(async move {
            let hop = |addr, class: &str| TraceHop { addr, class: class.into(), cost_ms: 1.5 };
            let next = Trace {
                to,
                mancon: ManCon::Low,
                plane: "any".into(),
                hops: vec![hop(Some(OTHER), "ip/udp")],
                complete: false,
                why: Some("each node on the way knows just the next hop".into()),
                distance: Some(2),
                cost_ms: Some(3.0),
                rtt_ms: Some(3.5),
                paths: vec![],
            };
            if to != FAR {
                return self.here(next);
            }
            let used = vec![hop(Some(OTHER), "ip/udp"), hop(None, "tor/onion"), hop(Some(to), "ip/udp")];
            let other = vec![hop(None, "i2p/stream"), hop(Some(to), "ip/udp")];
            let paths = vec![
                PathInfo { in_use: true, cost_ms: 4.5, hops: used.clone() },
                PathInfo { in_use: false, cost_ms: 6.0, hops: other },
            ];
            let (distance, cost_ms) = (Some(3), Some(4.5));
            self.here(Trace { hops: used, complete: true, why: None, distance, cost_ms, paths, ..next })
        })
    }

    fn metrics(&self) -> BoxFuture<'_, Result<String, ApiError>> {
        self.0.realm.metrics()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, ApiError>> {
        Box::pin(async { Ok(vec!["peers: applied".into()]) })
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async {
            if !self.0.stays.load(Ordering::SeqCst) {
                self.0.down.store(true, Ordering::SeqCst);
            }
            Ok(())
        })
    }
}
