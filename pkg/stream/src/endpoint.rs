//! The endpoint: opens streams to remotes and takes theirs.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use byway_api::{DEFAULT_DEADLINE, Kind, Node, Request};
use byway_identity::Addr;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::remote::Remote;
use crate::socket::Queues;
use crate::stream::{Incoming, Stream};
use crate::tls::Tls;
use crate::{ConnectError, header};

/// Streams that wait for [`Endpoint::accept`].
const ACCEPTED: usize = 64;
/// Connections that remotes may hold open to us, all together.
const CONNECTIONS: usize = 256;
/// What is kept for a remote without connections is forgotten after this.
const FORGET: Duration = Duration::from_secs(60);
/// How long [`Endpoint::close`] waits for the remotes to hear of it.
const FAREWELL: Duration = Duration::from_secs(2);

/// How an [`Endpoint`] behaves.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Whether streams of others are taken at all; if not, they are refused.
    pub accept: bool,
    /// Level of what is sent, and how long one datagram may wait for a way.
    pub request: Request,
    /// How long opening a stream may take.
    pub deadline: Duration,
    /// A remote from which nothing comes for this long is gone: its streams end with an error. 1 s to 1 h.
    pub idle: Duration,
    /// How long a connection is kept that no stream uses.
    pub linger: Duration,
    /// Bytes of one stream that may be on the way, or wait for its reader.
    pub window: u32,
    /// Remotes at once.
    pub remotes: usize,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            accept: true,
            request: Request::default(),
            deadline: DEFAULT_DEADLINE,
            idle: Duration::from_secs(60),
            linger: Duration::from_secs(30),
            window: 1024 * 1024,
            remotes: 256,
        }
    }
}

/// Byte streams of one node.
///
/// It takes *all* messages that arrive at the node, so a node that is given to an endpoint is not read elsewhere. Streams
/// outlive the endpoint; with the last of them the connections are closed. Must be made and used inside a tokio runtime.
pub struct Endpoint {
    alive: Arc<Alive>,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
}

impl Endpoint {
    /// An endpoint at `node`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(node: Arc<dyn Node>, config: EndpointConfig) -> Self {
        let tls = Tls::generate().expect("the provider has Ed25519, X25519 and TLS 1.3, as its tests show");
        let (accepted, incoming) = mpsc::channel(ACCEPTED);
        let shared = Arc::new(Shared {
            node,
            tls,
            accepted: config.accept.then_some(accepted),
            strangers: Arc::new(Semaphore::new(CONNECTIONS)),
            remotes: Mutex::new(HashMap::new()),
            ended: watch::Sender::new(false),
            alive: Mutex::new(Weak::new()),
            config,
        });
        let demultiplexer = tokio::spawn(demultiplex(Arc::clone(&shared))).abort_handle();
        let alive = Arc::new(Alive { shared: Arc::clone(&shared), demultiplexer });
        *lock(&shared.alive) = Arc::downgrade(&alive);
        Self { alive, incoming: tokio::sync::Mutex::new(incoming) }
    }

    /// Opens a stream to `service` at `to`, by a connection that is there or a new one.
    ///
    /// Comes back once the other side has accepted, within [`EndpointConfig::deadline`].
    pub async fn connect(&self, to: Addr, service: &str) -> Result<Stream, ConnectError> {
        let header = header::emit(service).ok_or(ConnectError::Service)?;
        let shared = &self.alive.shared;
        let mut ended = shared.ended.subscribe();
        let remote = shared.remote(to)?;
        tokio::select! {
            stream = timeout(shared.config.deadline, self.open(&remote, to, &header)) => match stream {
                Ok(Err(ConnectError::Timeout)) | Err(_) => {
                    Err(remote.failure().map_or(ConnectError::Timeout, ConnectError::Unreachable))
                }
                Ok(stream) => stream,
            },
            _ = ended.wait_for(|ended| *ended) => Err(ConnectError::Closed),
        }
    }

    async fn open(&self, remote: &Arc<Remote>, to: Addr, header: &[u8]) -> Result<Stream, ConnectError> {
        let shared = &self.alive.shared;
        let mut dead = None;
        loop {
            let (connection, reused) = remote.connection(shared, dead.as_ref()).await?;
            match connection.open(Arc::clone(&self.alive), to, header, reused).await {
                // The other side may have restarted, or closed it in this moment. A new one tells.
                Err(ConnectError::Lost(_) | ConnectError::Closed) if reused => dead = Some(connection),
                outcome => return outcome,
            }
        }
    }

    /// The next stream that a remote opens; none once the node or the endpoint has ended.
    pub async fn accept(&self) -> Option<Incoming> {
        let mut ended = self.alive.shared.ended.subscribe();
        let mut incoming = self.incoming.lock().await;
        let next = tokio::select! {
            next = incoming.recv() => next,
            _ = ended.wait_for(|ended| *ended) => return None,
        };
        if next.is_none() {
            // Nothing is accepted here, so there is only the end to wait for.
            let _ = ended.wait_for(|ended| *ended).await;
        }
        next
    }

    /// The node whose messages carry the streams.
    pub fn node(&self) -> &Arc<dyn Node> {
        &self.alive.shared.node
    }

    /// Connections that are open or being made.
    pub fn connections(&self) -> usize {
        lock(&self.alive.shared.remotes).values().map(|remote| remote.connections()).sum()
    }

    /// Breaks off all streams and tells the remotes; waits a moment until they know. The node stays open.
    ///
    /// What was written but not waited for with [`Stream::close`] may be lost.
    pub async fn close(&self) {
        let shared = &self.alive.shared;
        let remotes = shared.end();
        let _ = timeout(FAREWELL, async {
            for remote in remotes {
                remote.close().await;
            }
        })
        .await;
        self.alive.demultiplexer.abort();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("addr", &self.node().addr()).finish_non_exhaustive()
    }
}

/// What the tasks of an endpoint share.
pub(crate) struct Shared {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) config: EndpointConfig,
    pub(crate) tls: Tls,
    /// Streams of others go here; none: they are refused.
    pub(crate) accepted: Option<mpsc::Sender<Incoming>>,
    /// One permit for each connection that a remote holds open to us.
    pub(crate) strangers: Arc<Semaphore>,
    remotes: Mutex<HashMap<Addr, Arc<Remote>>>,
    ended: watch::Sender<bool>,
    alive: Mutex<Weak<Alive>>,
}

impl Shared {
    /// Keeps the endpoint working; none: everyone who used it is gone.
    pub(crate) fn alive(&self) -> Option<Arc<Alive>> {
        lock(&self.alive).upgrade()
    }

    /// What is kept for `addr`, made if it is new and there is room.
    fn remote(self: &Arc<Self>, addr: Addr) -> Result<Arc<Remote>, ConnectError> {
        let mut remotes = lock(&self.remotes);
        if *self.ended.borrow() {
            return Err(ConnectError::Closed);
        }
        if let Some(remote) = remotes.get(&addr) {
            return Ok(Arc::clone(remote));
        }
        let now = Instant::now();
        remotes.retain(|_, remote| !remote.is_unused() || now.duration_since(remote.last_used()) < FORGET);
        if remotes.len() >= self.config.remotes {
            let oldest = remotes
                .iter()
                .filter(|(_, remote)| remote.is_unused())
                .min_by_key(|(_, remote)| remote.last_used())
                .map(|(addr, _)| *addr)
                .ok_or(ConnectError::TooMany)?;
            remotes.remove(&oldest);
        }
        let remote = Remote::new(self, addr).map_err(|error| ConnectError::Lost(error.to_string()))?;
        remotes.insert(addr, Arc::clone(&remote));
        Ok(remote)
    }

    /// From now on there are no remotes; those there were.
    fn end(&self) -> Vec<Arc<Remote>> {
        let mut remotes = lock(&self.remotes);
        self.ended.send_replace(true);
        remotes.drain().map(|(_, remote)| remote).collect()
    }
}

/// Held by the endpoint and its streams; with the last of them everything ends.
pub(crate) struct Alive {
    shared: Arc<Shared>,
    demultiplexer: AbortHandle,
}

impl Drop for Alive {
    fn drop(&mut self) {
        // Dropping a remote closes its connections.
        drop(self.shared.end());
        self.demultiplexer.abort();
    }
}

/// Gives each message to the remote it came from.
async fn demultiplex(shared: Arc<Shared>) {
    // Any error means that no message will come any more.
    while let Ok(message) = shared.node.recv(Kind::Message).await {
        if !Queues::takes(&message.payload) {
            // Not worth making anything for its sender.
            tracing::debug!(from = ?message.from, "dropped a message that is no datagram");
            continue;
        }
        match shared.remote(message.from) {
            Ok(remote) => remote.receive(message.payload),
            Err(ConnectError::Closed) => return,
            Err(error) => tracing::debug!(from = ?message.from, %error, "dropped a message"),
        }
    }
    for remote in shared.end() {
        remote.end();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
