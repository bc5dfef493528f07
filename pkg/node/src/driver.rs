//! Gives a [`Core`] real time and real transports.
//!
//! One task owns the core, so nothing is locked. In each turn it takes what transports and handles have, lets the core
//! act, and hands transports what the core wants sent; decisions about protocols are the core's alone.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use byway_api::{ApiError, Incoming, Kind};
use byway_identity::{Addr, OsEntropy, SigningKey};
use byway_link::{Event, PeerConfig, Place, Transport, TransportId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use crate::core::Core;
use crate::flow::cost;
use crate::handle::{Handle, NodeHandle, Shared};
use crate::inbox::Taken;
use crate::level::Levels;
use crate::publish::Publisher;
use crate::types::{Answer, Config, Disposition, Output, Question, SendRequest};

/// Commands that wait for the driver; more wait in their tasks.
const COMMANDS: usize = 1_024;
/// Commands taken in one turn.
const COMMANDS_A_TURN: usize = 128;
/// Turns before other tasks get theirs.
const TURNS: usize = 8;
/// Frames that wait for a transport before no more payloads are taken from applications.
const CONGESTED: usize = 512;
/// Frames that wait for a transport before more are dropped.
const OUTGOING_MAX: usize = 8_192;
/// Payloads are taken again after this, however many frames wait: one stuck transport must not stop the others.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often the core is told the wall clock, which may have been set.
const CLOCK: Duration = Duration::from_secs(60);
/// How long the goodbyes may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// What handles ask of the driver.
pub(crate) enum Command {
    Open {
        key: Box<SigningKey>,
        /// Comes back once it is open; whoever has it, be it a reply that nobody waits for, closes the node by dropping it.
        node: Arc<NodeHandle>,
        reply: oneshot::Sender<Result<Arc<NodeHandle>, ApiError>>,
    },
    Close {
        addr: Addr,
    },
    Send {
        from: Arc<Shared>,
        request: SendRequest,
        /// Permits of the sender's gate, to be given back.
        cost: u64,
        reply: Option<oneshot::Sender<Result<Disposition, ApiError>>>,
    },
    Ask {
        from: Addr,
        question: Question,
        level: byway_api::ManCon,
        until: Instant,
        reply: oneshot::Sender<Result<Answer, ApiError>>,
    },
    Consumed {
        local: Addr,
        taken: Taken,
    },
    With(Box<dyn FnOnce(&mut Driver) + Send>),
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// One transport, and frames that it has not taken yet.
pub(crate) struct Slot {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) outgoing: VecDeque<(Place, Bytes)>,
    /// Frames dropped because too many waited.
    pub(crate) dropped: u64,
    congested_since: Option<Instant>,
}

/// See the module.
pub(crate) struct Driver {
    pub(crate) core: Core,
    pub(crate) slots: Vec<Slot>,
    pub(crate) nodes: HashMap<Addr, Arc<Shared>>,
    pub(crate) names: HashMap<Addr, String>,
    pub(crate) started: Instant,
    commands: mpsc::Receiver<Command>,
    taken: Vec<Command>,
    /// With the node that asks.
    questions: HashMap<u64, (Addr, oneshot::Sender<Result<Answer, ApiError>>)>,
    next_question: u64,
    events: Vec<Event>,
    outputs: Vec<Output>,
    timer: Pin<Box<Sleep>>,
    clock_at: Instant,
    publisher: Publisher,
    stop: Option<oneshot::Sender<()>>,
}

/// Starts a core on the current tokio runtime. `transports` are numbered in their order.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn start(config: Config, transports: Vec<Box<dyn Transport>>) -> Handle {
    let now = Instant::now();
    let levels = Arc::new(RwLock::new(config.levels));
    let public = config.key.public();
    let names = config.peers.iter().filter_map(|(peer, name)| Some((peer.addr, name.clone()?))).collect();
    let mut core = Core::new(now, config, Box::new(|| Box::new(OsEntropy)));
    let (sender, commands) = mpsc::channel(COMMANDS);
    let shared = Arc::new(Shared::new(public, None));
    let mut outputs = Vec::new();
    for (number, transport) in transports.iter().enumerate() {
        core.add_transport(now, TransportId(number as u16), transport.profile(), transport.schemes());
    }
    core.connect_peers(now, &mut outputs);
    let slots = transports
        .into_iter()
        .map(|transport| Slot { transport, outgoing: VecDeque::new(), dropped: 0, congested_since: None })
        .collect();
    let publisher = Publisher::new(now, &core);
    let tables = publisher.tables();
    let driver = Driver {
        core,
        slots,
        nodes: HashMap::from([(shared.addr, shared.clone())]),
        names,
        started: now,
        commands,
        taken: Vec::new(),
        questions: HashMap::new(),
        next_question: 0,
        events: Vec::new(),
        outputs,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        clock_at: now + CLOCK,
        publisher,
        stop: None,
    };
    tokio::spawn(driver.run());
    let main = Arc::new(NodeHandle { shared, commands: sender.clone(), levels: levels.clone() });
    Handle { commands: sender, levels, main, tables }
}

impl Driver {
    async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll_turns(cx)).await;
        self.core.shutdown(Instant::now(), &mut self.outputs);
        self.apply();
        let goodbye = std::future::poll_fn(|cx| self.poll_goodbye(cx));
        // Peers that do not hear it notice by themselves.
        let _late = tokio::time::timeout(GOODBYE, goodbye).await;
        for node in self.nodes.values() {
            node.end();
        }
    }

    /// Ready when the driver is to end.
    fn poll_turns(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.publisher.wake(cx);
        self.apply();
        for _ in 0..TURNS {
            let mut busy = self.poll_transports(cx);
            busy |= self.do_due();
            match self.poll_commands(cx) {
                Poll::Ready(true) => busy = true,
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            self.flush(cx);
            if busy {
                self.publisher.stale();
            }
            self.publisher.publish(Instant::now(), &self.core);
            if !busy && self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.flush(cx);
        if self.slots.iter().all(|slot| slot.outgoing.is_empty()) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_transports(&mut self, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        for number in 0..self.slots.len() {
            let mut events = std::mem::take(&mut self.events);
            match self.slots[number].transport.poll_recv(cx, &mut events) {
                Poll::Ready(Ok(())) => busy = true,
                Poll::Ready(Err(error)) => {
                    tracing::warn!(transport = number, kind = ?error.kind(), "a transport failed to receive");
                }
                Poll::Pending => {}
            }
            let now = Instant::now();
            for event in events.drain(..) {
                self.core.handle(now, event, &mut self.outputs);
            }
            self.events = events;
            self.apply();
        }
        busy
    }

    /// Does what is due; whether anything was.
    fn do_due(&mut self) -> bool {
        let now = Instant::now();
        if self.clock_at <= now {
            self.clock_at = now + CLOCK;
            self.core.set_clock(now, unix_now());
        }
        self.publisher.look(now, &mut self.core, &mut self.outputs);
        let is_due = self.core.next_heartbeat().is_some_and(|at| at <= now);
        if is_due {
            self.core.heartbeat(now, &mut self.outputs);
        }
        self.apply();
        is_due
    }

    /// Ready when something is due.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let congestion =
            self.slots.iter().filter_map(|slot| slot.congested_since).map(|since| since + PATIENCE);
        let others = [self.core.next_heartbeat(), self.publisher.due()];
        let due = others.into_iter().flatten().chain(congestion.filter(|at| *at > now));
        let next = due.fold(self.clock_at, Instant::min);
        if next <= now {
            return Poll::Ready(());
        }
        let next = tokio::time::Instant::from_std(next);
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
        self.timer.as_mut().poll(cx)
    }

    /// Ready(true): something was done; Ready(false): the end.
    fn poll_commands(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let now = Instant::now();
        let congested = |slot: &Slot| slot.congested_since.is_some_and(|since| since + PATIENCE > now);
        if self.slots.iter().any(congested) {
            return Poll::Pending;
        }
        let mut commands = std::mem::take(&mut self.taken);
        let count = ready!(self.commands.poll_recv_many(cx, &mut commands, COMMANDS_A_TURN));
        let now = Instant::now();
        for command in commands.drain(..) {
            self.command(now, command);
        }
        self.taken = commands;
        self.apply();
        Poll::Ready(count > 0 && self.stop.is_none())
    }

    fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Open { key, node, reply } => {
                let result = self.core.open(now, &key, &mut self.outputs).map(|addr| {
                    node.shared.open();
                    self.nodes.insert(addr, node.shared.clone());
                    node
                });
                if reply.send(result).is_err() {
                    tracing::debug!("whoever opened a node has gone; its handle closes it");
                }
            }
            Command::Close { addr } => {
                if addr == self.core.main() {
                    return;
                }
                self.core.close(now, &addr, &mut self.outputs);
                if let Some(node) = self.nodes.remove(&addr) {
                    node.end();
                }
                // Nothing answers them any more.
                self.questions.retain(|_, (from, _)| *from != addr);
            }
            Command::Send { from, request, cost, reply } => self.send(now, &from, request, cost, reply),
            Command::Ask { from, question, level, until, reply } => {
                let id = self.next_question;
                self.next_question += 1;
                self.questions.insert(id, (from, reply));
                self.core.ask(now, &from, (id, question, level), until, &mut self.outputs);
            }
            Command::Consumed { local, taken } => {
                for (sender, cost) in taken {
                    self.core.consumed(now, &local, sender, cost, &mut self.outputs);
                }
            }
            Command::With(look) => look(self),
            Command::Stop { reply } => self.stop = Some(reply),
        }
    }

    fn send(
        &mut self,
        now: Instant,
        from: &Shared,
        request: SendRequest,
        cost: u64,
        reply: Option<oneshot::Sender<Result<Disposition, ApiError>>>,
    ) {
        let (to, plane) = (request.to, request.plane);
        let result = self.core.send(now, &from.addr, request, &mut self.outputs);
        if cost > 0 && result != Ok(Disposition::Held) {
            from.release(to, plane, cost);
        }
        match reply {
            // Whoever sent it may have given up waiting.
            Some(reply) => drop(reply.send(result)),
            None => {
                if let Err(error) = result {
                    tracing::debug!(code = %error.code, "a payload was refused after its session had ended");
                }
            }
        }
    }

    /// Does what the core wants done.
    fn apply(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            self.apply_one(output);
        }
        self.outputs = outputs;
    }

    fn apply_one(&mut self, output: Output) {
        match output {
            Output::Transmit { place, frame } => {
                let Some(slot) = self.slots.get_mut(usize::from(place.transport.0)) else { return };
                if slot.outgoing.len() >= OUTGOING_MAX {
                    slot.dropped += 1;
                } else {
                    slot.outgoing.push_back((place, frame));
                }
            }
            Output::Dial { id, transport, peer, endpoint } => {
                if let Some(slot) = self.slots.get_mut(usize::from(transport.0)) {
                    slot.transport.dial_peer(id, &peer, &endpoint);
                }
            }
            Output::HangUp { place } => {
                if let Some(slot) = self.slots.get_mut(usize::from(place.transport.0)) {
                    slot.transport.hang_up(place);
                }
            }
            Output::Deliver { local, from, plane, kind, payload } => {
                if let Some(node) = self.nodes.get(&local) {
                    let payload = if kind == Kind::Message { unshared(payload) } else { payload };
                    let cost = cost(payload.len());
                    let is_kept = node.inbox(kind).push(Incoming { from, payload }, plane);
                    if !is_kept && kind == Kind::Message {
                        self.core.dropped(&local, (from, plane), cost);
                    }
                }
            }
            Output::Released { local, remote, plane, cost } => {
                if let Some(node) = self.nodes.get(&local) {
                    node.release(remote, plane, cost);
                }
            }
            Output::Ready { local, remote, plane, ready, mtu } => {
                if let Some(node) = self.nodes.get(&local) {
                    node.set_ready(remote, plane, ready, mtu);
                }
            }
            Output::Forgotten { local, remote, plane } => {
                if let Some(node) = self.nodes.get(&local) {
                    node.forget(remote, plane);
                }
            }
            Output::Answer { id, answer } => {
                if let Some((_, reply)) = self.questions.remove(&id) {
                    // Whoever asked may have gone.
                    let _gone = reply.send(answer);
                }
            }
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        for slot in &mut self.slots {
            while !slot.outgoing.is_empty() {
                match slot.transport.poll_send(cx, &mut slot.outgoing) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(kind = ?error.kind(), "a transport failed to send");
                        slot.dropped += u64::from(slot.outgoing.pop_front().is_some());
                    }
                    Poll::Pending => break,
                }
            }
            slot.congested_since =
                (slot.outgoing.len() >= CONGESTED).then(|| slot.congested_since.unwrap_or_else(Instant::now));
        }
    }

    pub(crate) fn listening(&mut self) -> Vec<String> {
        self.slots
            .iter()
            .flat_map(|slot| slot.transport.listening())
            .map(|endpoint| endpoint.to_string())
            .collect()
    }

    pub(crate) fn set_levels(&mut self, levels: Levels) {
        let now = Instant::now();
        self.core.set_levels(now, levels, &mut self.outputs);
        // Before whoever asked learns that it is done: threads must not send below the levels any more.
        self.publisher.publish_now(now, &self.core);
    }

    pub(crate) fn add_peer(&mut self, peer: PeerConfig, name: Option<String>) {
        match name {
            Some(name) => self.names.insert(peer.addr, name),
            None => self.names.remove(&peer.addr),
        };
        self.core.add_peer(Instant::now(), peer, &mut self.outputs);
    }

    pub(crate) fn remove_peer(&mut self, addr: &Addr) -> bool {
        self.names.remove(addr);
        self.core.remove_peer(Instant::now(), addr, &mut self.outputs)
    }
}

/// A small payload is a slice of a large receive buffer; while it waits for its application it must not keep all of that.
fn unshared(payload: Bytes) -> Bytes {
    const SMALL: usize = 2_048;
    if payload.len() <= SMALL { Bytes::copy_from_slice(&payload) } else { payload }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
