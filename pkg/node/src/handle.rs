//! The daemon's side of [`byway_api`]: handles through which tasks reach the driver.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use byway_api::body::{
    LinkInfo, Map, NodeInfo, PeerInfo, PeerSpec, RouteInfo, SessionInfo, Trace, TransportInfo,
};
use byway_api::{
    ApiError, BoxFuture, Code, DEFAULT_DEADLINE, HELD_LIFE, Incoming, Kind, MESSAGE_MAX, ManCon, Node,
    OpenNode, Outgoing, Request, Sent,
};
use byway_fastpath::Tables;
use byway_identity::{Addr, Prefix, PublicKey};
use byway_link::{Allowed, Scheme};
use byway_network::Plane;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::Levels;
use crate::driver::{Command, Driver};
use crate::flow::cost;
use crate::inbox::{Inbox, Taken};
use crate::report;
use crate::types::{Answer, Disposition, Question, SendRequest};
use crate::way::SAFE_MTU;

/// Messages that one sender may have under way to one receiver, by [`cost`]; more of them wait outside the core.
const UNDER_WAY: u64 = 1024 * 1024;
/// Room for messages that an application has not taken.
const MESSAGE_ROOM: u64 = 16 * 1024 * 1024;
/// Room for packets that the portal has not taken.
const PACKET_ROOM: u64 = 4 * 1024 * 1024;
/// Receivers that one node keeps a gate for.
const GATES_MAX: usize = 8_192;
/// A call never waits longer, whatever its caller asks.
const DEADLINE_MAX: Duration = Duration::from_secs(3_600);

/// What tasks and the driver share of one hosted node.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) addr: Addr,
    pub(crate) public: PublicKey,
    mancon: Option<ManCon>,
    messages: Inbox,
    packets: Inbox,
    gates: Mutex<HashMap<(Addr, Plane), Arc<Gate>>>,
    closed: AtomicBool,
}

/// The way to one receiver, as senders see it.
#[derive(Debug)]
struct Gate {
    permits: Semaphore,
    ready: AtomicBool,
    mtu: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(public: PublicKey, mancon: Option<ManCon>) -> Self {
        Self {
            addr: public.addr(),
            public,
            mancon,
            messages: Inbox::new(MESSAGE_ROOM),
            packets: Inbox::new(PACKET_ROOM),
            gates: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// The core has opened the node.
    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::Release);
    }

    pub(crate) fn inbox(&self, kind: Kind) -> &Inbox {
        match kind {
            Kind::Message => &self.messages,
            Kind::Packet => &self.packets,
        }
    }

    pub(crate) fn release(&self, remote: Addr, plane: Plane, cost: u64) {
        if let Some(gate) = self.known_gate(remote, plane) {
            gate.permits.add_permits(cost as usize);
        }
    }

    pub(crate) fn set_ready(&self, remote: Addr, plane: Plane, ready: bool, mtu: usize) {
        if let Ok(gate) = self.gate(remote, plane) {
            gate.mtu.store(mtu, Ordering::Relaxed);
            gate.ready.store(ready, Ordering::Release);
        }
    }

    /// The core keeps nothing of `remote`: nor need we, unless somebody is sending to it just now.
    pub(crate) fn forget(&self, remote: Addr, plane: Plane) {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if gates.get(&(remote, plane)).is_some_and(|gate| Arc::strong_count(gate) == 1) {
            gates.remove(&(remote, plane));
        }
    }

    pub(crate) fn end(&self) {
        self.closed.store(true, Ordering::Release);
        self.messages.close();
        self.packets.close();
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        for gate in gates.values() {
            gate.permits.close();
        }
    }

    fn known_gate(&self, remote: Addr, plane: Plane) -> Option<Arc<Gate>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).get(&(remote, plane)).cloned()
    }

    fn gate(&self, remote: Addr, plane: Plane) -> Result<Arc<Gate>, ApiError> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(&(remote, plane)) {
            return Ok(gate.clone());
        }
        if gates.len() >= GATES_MAX {
            // Those that nobody uses and no session needs, such as of receivers that were refused at once.
            gates.retain(|_, gate| !gate.is_idle() || Arc::strong_count(gate) > 1);
        }
        if gates.len() >= GATES_MAX {
            return Err(ApiError::new(Code::Busy, "this node talks to too many others at once"));
        }
        let gate = Arc::new(Gate {
            permits: Semaphore::new(UNDER_WAY as usize),
            ready: AtomicBool::new(false),
            mtu: AtomicUsize::new(SAFE_MTU.into()),
        });
        gates.insert((remote, plane), gate.clone());
        Ok(gate)
    }
}

impl Gate {
    fn is_idle(&self) -> bool {
        !self.ready.load(Ordering::Acquire) && self.permits.available_permits() >= UNDER_WAY as usize
    }
}

/// A running core. Cheap to clone; the driver ends when [`Handle::shutdown`] was called or the last handle is gone.
///
/// The daemon wraps it to implement [`byway_api::Service`]: methods have the same names and meanings.
#[derive(Clone)]
pub struct Handle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) levels: Arc<RwLock<Levels>>,
    pub(crate) main: Arc<NodeHandle>,
    pub(crate) tables: Arc<Tables>,
}

/// One hosted node; closes when [`Node::close`] is called or the last handle to it is gone.
pub struct NodeHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) levels: Arc<RwLock<Levels>>,
}

impl Handle {
    /// The daemon's own node.
    pub fn main(&self) -> Arc<dyn Node> {
        self.main.clone()
    }

    /// What threads of the fast path may do, kept up to date while the core runs; the last of it stays when it has stopped,
    /// but its sessions seal and open nothing then.
    pub fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    /// Opens a node.
    ///
    /// # Errors
    ///
    /// [`Code::Conflict`] when it is open already, [`Code::Busy`] when the daemon hosts as many as it can.
    pub async fn open(&self, options: OpenNode) -> Result<Arc<dyn Node>, ApiError> {
        let key = options
            .key
            .unwrap_or_else(|| byway_identity::SigningKey::generate(&mut byway_identity::OsEntropy));
        let shared = Arc::new(Shared::new(key.public(), options.mancon));
        // Until the core has opened it there is nothing to close; the address may even be that of another node.
        shared.closed.store(true, Ordering::Release);
        let node =
            Arc::new(NodeHandle { shared, commands: self.commands.clone(), levels: self.levels.clone() });
        let (reply, answer) = oneshot::channel();
        let command = Command::Open { key: Box::new(key), node, reply };
        self.commands.send(command).await.map_err(|_| stopped())?;
        let node = answer.await.map_err(|_| stopped())??;
        Ok(node)
    }

    /// Peers.
    ///
    /// # Errors
    ///
    /// [`Code::Closed`] when the core has stopped; so with all that follow.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, ApiError> {
        self.with(report::peers).await
    }

    /// Open links.
    pub async fn links(&self) -> Result<Vec<LinkInfo>, ApiError> {
        self.with(report::links).await
    }

    /// Known routes, at most 10,000.
    pub async fn routes(&self) -> Result<Vec<RouteInfo>, ApiError> {
        self.with(report::routes).await
    }

    /// End-to-end sessions.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, ApiError> {
        self.with(report::sessions).await
    }

    /// Hosted nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, ApiError> {
        self.with(report::nodes).await
    }

    /// Counters and gauges in the text form of OpenMetrics, without the closing `# EOF`.
    pub async fn metrics(&self) -> Result<String, ApiError> {
        self.with(crate::metrics::text).await
    }

    /// Endpoints that transports listen at.
    pub async fn listening(&self) -> Result<Vec<String>, ApiError> {
        self.with(Driver::listening).await
    }

    /// Transports that are on, and how each is doing.
    pub async fn transports(&self) -> Result<Vec<TransportInfo>, ApiError> {
        self.with(report::transports).await
    }

    /// Adds or replaces a peer; the daemon keeps it in its state if it is to last.
    ///
    /// # Errors
    ///
    /// [`Code::BadRequest`] when an endpoint cannot be read, or a transport is none.
    pub async fn add_peer(&self, peer: PeerSpec) -> Result<(), ApiError> {
        let config = byway_link::PeerConfig {
            addr: peer.addr,
            endpoints: peer
                .endpoints
                .iter()
                .map(|text| {
                    text.parse()
                        .map_err(|error| ApiError::new(Code::BadRequest, format!("{text:?}: {error}")))
                })
                .collect::<Result<_, _>>()?,
            allowed: allowed(&peer.transports)?,
        };
        self.with(move |driver| driver.add_peer(config, peer.name)).await
    }

    /// Removes a peer and its links.
    ///
    /// # Errors
    ///
    /// [`Code::Unknown`] when there is none with this address.
    pub async fn remove_peer(&self, addr: Addr) -> Result<(), ApiError> {
        if self.with(move |driver| driver.remove_peer(&addr)).await? {
            Ok(())
        } else {
            Err(ApiError::new(Code::Unknown, format!("{addr} is no peer of this daemon")))
        }
    }

    /// What the daemon's own node knows of the network around it: at most `limit` nodes and `limit` links.
    pub async fn map(&self, limit: usize) -> Result<Map, ApiError> {
        self.with(move |driver| report::map(driver, limit)).await
    }

    /// The ways to a node, with a ping.
    ///
    /// # Errors
    ///
    /// [`Code::ManconUnsatisfied`] when the level allows no way, [`Code::NoWay`] when none is known in time.
    pub async fn trace(&self, to: Addr, request: Request) -> Result<Trace, ApiError> {
        let (level, plane) = self.main.allowed(request.mancon)?;
        let rtt = self.main.ping(to, request).await;
        let trace = self.with(move |driver| report::trace(driver, to, level, plane)).await?;
        match (trace, rtt) {
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(ApiError::new(Code::NoWay, format!("no way to {to} is known now"))),
            (Some(trace), rtt) => {
                Ok(Trace { rtt_ms: rtt.ok().map(|rtt| rtt.as_secs_f64() * 1_000.0), ..trace })
            }
        }
    }

    /// Replaces the levels of requests from now on; `direct` should stay, as links are opened by it at the start.
    pub async fn set_levels(&self, levels: Levels) -> Result<(), ApiError> {
        *self.levels.write().unwrap_or_else(PoisonError::into_inner) = levels;
        self.with(move |driver| driver.set_levels(levels)).await
    }

    /// Says goodbye to peers, then stops the driver; returns when it has ended.
    pub async fn shutdown(&self) {
        let (reply, ended) = oneshot::channel();
        if self.commands.send(Command::Stop { reply }).await.is_ok() {
            // The driver drops the sender when it ends, whether it answered or not.
            let _ended = ended.await;
        }
    }

    async fn with<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Driver) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |driver: &mut Driver| {
            // Whoever asked may have gone.
            let _gone = reply.send(look(driver));
        });
        self.commands.send(Command::With(look)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}

impl NodeHandle {
    /// The level of a request, and the plane that it allows.
    fn allowed(&self, asked: Option<ManCon>) -> Result<(ManCon, Plane), ApiError> {
        let levels = *self.levels.read().unwrap_or_else(PoisonError::into_inner);
        let level = levels.effective(asked.or(self.shared.mancon));
        Ok((level, levels.plane(level)?))
    }

    async fn send_payload(&self, outgoing: Outgoing) -> Result<Sent, ApiError> {
        let Outgoing { to, kind, payload, request } = outgoing;
        if payload.len() > MESSAGE_MAX {
            return Err(ApiError::new(
                Code::TooLong,
                format!("a message has at most {MESSAGE_MAX} bytes, not {}", payload.len()),
            ));
        }
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(ApiError::new(Code::Closed, "the node was closed"));
        }
        let (level, plane) = self.allowed(request.mancon)?;
        let now = Instant::now();
        let until = now + request.deadline.unwrap_or(HELD_LIFE).min(DEADLINE_MAX);
        let gate = self.shared.gate(to, plane)?;
        let ready = gate.ready.load(Ordering::Acquire);
        let send = SendRequest { to, kind, payload, level, plane, until };
        match kind {
            Kind::Packet => self.send_packet(send, ready).await,
            Kind::Message => self.send_message(send, &gate, ready, now + deadline(request)).await,
        }
    }

    /// Packets wait for the driver only, so that a burst stays in the device's queue, where senders notice it; what finds
    /// a full queue further on is dropped, as IP does.
    async fn send_packet(&self, request: SendRequest, ready: bool) -> Result<Sent, ApiError> {
        let mancon = request.level;
        let (reply, answer) = reply_unless(ready);
        let command = Command::Send { from: self.shared.clone(), request, cost: 0, reply };
        self.commands.send(command).await.map_err(|_| stopped())?;
        Ok(Sent { mancon, held: held(answer).await? })
    }

    async fn send_message(
        &self,
        request: SendRequest,
        gate: &Gate,
        ready: bool,
        patience: Instant,
    ) -> Result<Sent, ApiError> {
        let mancon = request.level;
        let cost = cost(request.payload.len());
        let permits = cost as u32;
        let permit = match gate.permits.try_acquire_many(permits) {
            Ok(permit) => permit,
            Err(tokio::sync::TryAcquireError::Closed) => return Err(stopped()),
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                let patience = tokio::time::Instant::from_std(patience);
                tokio::time::timeout_at(patience, gate.permits.acquire_many(permits))
                    .await
                    .map_err(|_| {
                        ApiError::new(
                            Code::Busy,
                            format!("the queue to {} stayed full until the deadline", request.to),
                        )
                    })?
                    .map_err(|_| stopped())?
            }
        };
        let (reply, answer) = reply_unless(ready);
        let slot = self.commands.reserve().await.map_err(|_| stopped())?;
        // From here on the driver gives the permits back.
        permit.forget();
        slot.send(Command::Send { from: self.shared.clone(), request, cost, reply });
        Ok(Sent { mancon, held: held(answer).await? })
    }

    async fn ask(&self, level: ManCon, question: Question, request: Request) -> Result<Answer, ApiError> {
        let (reply, answer) = oneshot::channel();
        let until = Instant::now() + deadline(request);
        let command = Command::Ask { from: self.shared.addr, question, level, until, reply };
        self.commands.send(command).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    async fn find_key(&self, prefix: Prefix, request: Request) -> Result<PublicKey, ApiError> {
        let (level, plane) = self.allowed(request.mancon)?;
        match self.ask(level, Question::Find { prefix, plane }, request).await? {
            Answer::Found(key) => Ok(key),
            Answer::Pong(_) => Err(ApiError::new(Code::Internal, "the core mixed up two answers")),
        }
    }

    /// Tells the core that the application has room again.
    fn report(&self, taken: Option<Taken>) {
        let Some(taken) = taken else { return };
        let command = Command::Consumed { local: self.shared.addr, taken };
        match self.commands.try_send(command) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(command)) => {
                let commands = self.commands.clone();
                tokio::spawn(async move {
                    // A core that has stopped needs no report.
                    let _stopped = commands.send(command).await;
                });
            }
        }
    }
}

impl Node for NodeHandle {
    fn addr(&self) -> Addr {
        self.shared.addr
    }

    fn public_key(&self) -> PublicKey {
        self.shared.public
    }

    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Sent, ApiError>> {
        Box::pin(self.send_payload(outgoing))
    }

    fn recv(&self, kind: Kind) -> BoxFuture<'_, Result<Incoming, ApiError>> {
        Box::pin(async move {
            let (incoming, taken) = self.shared.inbox(kind).take().await?;
            self.report(taken);
            Ok(incoming)
        })
    }

    fn try_recv(&self, kind: Kind) -> Option<Incoming> {
        let (incoming, taken) = self.shared.inbox(kind).try_take()?;
        self.report(taken);
        Some(incoming)
    }

    fn find(&self, prefix: Prefix, request: Request) -> BoxFuture<'_, Result<Addr, ApiError>> {
        Box::pin(async move { Ok(self.find_key(prefix, request).await?.addr()) })
    }

    fn lookup(&self, addr: Addr, request: Request) -> BoxFuture<'_, Result<PublicKey, ApiError>> {
        Box::pin(self.find_key(Prefix::whole(addr), request))
    }

    fn ping(&self, to: Addr, request: Request) -> BoxFuture<'_, Result<Duration, ApiError>> {
        Box::pin(async move {
            let (level, plane) = self.allowed(request.mancon)?;
            match self.ask(level, Question::Ping { to, plane }, request).await? {
                Answer::Pong(rtt) => Ok(rtt),
                Answer::Found(_) => Err(ApiError::new(Code::Internal, "the core mixed up two answers")),
            }
        })
    }

    fn path_mtu(&self, to: Addr) -> usize {
        Plane::ALL
            .into_iter()
            .filter_map(|plane| self.shared.known_gate(to, plane))
            .filter(|gate| gate.ready.load(Ordering::Acquire))
            .map(|gate| gate.mtu.load(Ordering::Relaxed))
            .min()
            .unwrap_or(SAFE_MTU.into())
    }

    fn close(&self) {
        // Closed once is enough: by the second time its address may be that of another node.
        if self.shared.closed.load(Ordering::Acquire) {
            return;
        }
        self.shared.end();
        let command = Command::Close { addr: self.shared.addr };
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(command)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let commands = self.commands.clone();
            runtime.spawn(async move {
                // A core that has stopped has closed its nodes.
                let _stopped = commands.send(command).await;
            });
        }
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        if !self.shared.closed.load(Ordering::Acquire) {
            self.close();
        }
    }
}

type Reply = oneshot::Sender<Result<Disposition, ApiError>>;

/// While a session is up the core has nothing to say about a payload that the sender needs to wait for.
fn reply_unless(ready: bool) -> (Option<Reply>, Option<oneshot::Receiver<Result<Disposition, ApiError>>>) {
    if ready {
        return (None, None);
    }
    let (reply, answer) = oneshot::channel();
    (Some(reply), Some(answer))
}

async fn held(answer: Option<oneshot::Receiver<Result<Disposition, ApiError>>>) -> Result<bool, ApiError> {
    let Some(answer) = answer else { return Ok(false) };
    Ok(answer.await.map_err(|_| stopped())?? == Disposition::Held)
}

fn deadline(request: Request) -> Duration {
    request.deadline.unwrap_or(DEFAULT_DEADLINE).min(DEADLINE_MAX)
}

fn stopped() -> ApiError {
    ApiError::new(Code::Closed, "the daemon is stopping")
}

/// What `transports` name; nothing named: all.
fn allowed(transports: &[String]) -> Result<Allowed, ApiError> {
    if transports.is_empty() {
        return Ok(Allowed::ALL);
    }
    let scheme = |text: &String| {
        let known = Scheme::ALL.into_iter().find(|scheme| scheme.name() == text);
        known.ok_or_else(|| ApiError::new(Code::BadRequest, format!("{text:?} is no transport")))
    };
    Ok(Allowed::only(transports.iter().map(scheme).collect::<Result<Vec<_>, _>>()?))
}
