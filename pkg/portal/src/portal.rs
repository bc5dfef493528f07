//! The portal with its device and its node: real time, two loops.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{ApiError, BoxFuture, Code, Incoming, Kind, ManCon, Node, Outgoing, Request};
use byway_fastpath::Gate;
use byway_identity::{Addr, Ipv6Range};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::core::{Action, Core};
use crate::counters::Counters;
use crate::device::{BATCH, Device};
use crate::filter::Allow;
use crate::gate::FastCounters;
use crate::icmp::MINIMUM_MTU;
use crate::queue::Direct;
use crate::resolve::Resolver;
use crate::tun::Setup;
use crate::{OpenError, RunError};

/// What a portal should be like.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the TUN device.
    pub device: String,
    /// Range of the IPv6 addresses of all nodes.
    pub range: Ipv6Range,
    /// MTU of the device; 0: [`DEFAULT_MTU`](Self::DEFAULT_MTU).
    pub mtu: u16,
    /// Who may open flows to this host.
    pub allow: Vec<Allow>,
    /// Level of packets; none: the node's default.
    pub mancon: Option<ManCon>,
    /// 1: both directions share a task; more: each has its own.
    pub threads: usize,
    /// Whether the device may give and take super-packets and unfinished checksums, where the kernel has them.
    pub offload: bool,
    /// Queues of the device, for as many pairs of threads; 0 is 1.
    pub queues: usize,
}

impl Config {
    /// Carried whole by a path with the MTU of Ethernet, with what links and sessions add.
    pub const DEFAULT_MTU: u16 = 1420;
    /// Most queues of a device.
    pub const QUEUES: usize = 32;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device: "byway0".into(),
            range: Ipv6Range::default(),
            mtu: 0,
            allow: Vec::new(),
            mancon: None,
            threads: 2,
            offload: true,
            queues: 1,
        }
    }
}

/// Carries the IPv6 packets of this host's programs to other nodes, and theirs to them.
///
/// The device, its address and its route exist as long as this does.
#[derive(Clone)]
pub struct Portal {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    core: Mutex<Core>,
    own: Ipv6Addr,
    range: Ipv6Range,
    pub(crate) fast: FastCounters,
    node: Arc<dyn Node>,
    device: Box<dyn Device>,
    mancon: Option<ManCon>,
    mtu: u16,
    threads: usize,
}

impl Portal {
    /// Creates the TUN device with the IPv6 address of `node` and a route for the range.
    pub async fn open(config: Config, node: Arc<dyn Node>) -> Result<Self, OpenError> {
        let core = Self::core(&config, &*node)?;
        let mtu = config.effective_mtu()?;
        let setup = Setup {
            name: &config.device,
            address: core.ipv6(),
            range: config.range,
            mtu,
            offload: config.offload,
            queues: config.queues.clamp(1, Config::QUEUES),
        };
        let device = Box::new(setup.open().await?);
        Ok(Self::join(&config, core, mtu, node, device))
    }

    /// A portal over another device than TUN; the name in `config` means nothing here.
    pub fn over(device: Box<dyn Device>, config: &Config, node: Arc<dyn Node>) -> Result<Self, OpenError> {
        let core = Self::core(config, &*node)?;
        let mtu = config.effective_mtu()?;
        Ok(Self::join(config, core, mtu, node, device))
    }

    fn core(config: &Config, node: &dyn Node) -> Result<Core, OpenError> {
        Core::new(node.addr(), config.range, config.allow.clone()).ok_or(OpenError::NoAddress)
    }

    fn join(config: &Config, core: Core, mtu: u16, node: Arc<dyn Node>, device: Box<dyn Device>) -> Self {
        let inner = Inner {
            own: core.ipv6(),
            range: config.range,
            fast: FastCounters::default(),
            core: Mutex::new(core),
            node,
            device,
            mancon: config.mancon,
            mtu,
            threads: config.threads,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Name of the device.
    pub fn device(&self) -> &str {
        self.inner.device.name()
    }

    /// This node's IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.inner.core().ipv6()
    }

    /// MTU of the device, in bytes.
    pub fn mtu(&self) -> u16 {
        self.inner.mtu
    }

    /// What passed and what did not since the portal was opened.
    pub fn counters(&self) -> Counters {
        let mut counters = self.inner.core().counters().clone();
        self.inner.fast.add_to(&mut counters);
        counters
    }

    /// The descriptors of the device, which threads read from now on; none of a device without.
    pub(crate) fn direct(&self) -> Option<Direct> {
        self.inner.device.direct()
    }

    /// The verdicts of this portal, for threads.
    pub(crate) fn gate(&self) -> Arc<dyn Gate> {
        Arc::clone(&self.inner) as Arc<dyn Gate>
    }

    /// Other rules from now on; flows from inside go on.
    pub fn set_allow(&self, allow: Vec<Allow>) {
        self.inner.core().set_allow(allow);
    }

    /// Carries packets until `shutdown` ends, the node is closed or the device is gone.
    ///
    /// Only one call at a time makes sense: packets go to whichever runs.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RunError> {
        // One task writes to the device; the other's notices reach it by this queue.
        let (notices, from_outward) = mpsc::channel(BATCH);
        let outward = Arc::clone(&self.inner).outward(notices.clone());
        let inward = Arc::clone(&self.inner).inward(notices, from_outward);
        if self.inner.threads < 2 {
            return tokio::select! {
                ended = outward => ended,
                ended = inward => ended,
                () = shutdown => Ok(()),
            };
        }
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(outward);
        tasks.spawn(inward);
        // Dropping the set ends whichever task still runs.
        tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(Ok(ended)) => ended,
                Some(Err(panicked)) if panicked.is_panic() => std::panic::resume_unwind(panicked.into_panic()),
                _ => Ok(()),
            },
            () = shutdown => Ok(()),
        }
    }
}

impl Config {
    fn effective_mtu(&self) -> Result<u16, OpenError> {
        match self.mtu {
            0 => Ok(Self::DEFAULT_MTU),
            mtu if usize::from(mtu) < MINIMUM_MTU => Err(OpenError::Mtu(mtu)),
            mtu => Ok(mtu),
        }
    }
}

impl Inner {
    /// Most sends that may wait for the node, in all and for one destination.
    const SENDS: usize = 256;
    const SENDS_EACH: usize = 16;
    /// The node keeps the deadline of a search itself; this is for one that does not.
    const GRACE: Duration = Duration::from_secs(1);

    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's IPv6 address.
    pub(crate) fn own(&self) -> Ipv6Addr {
        self.own
    }

    pub(crate) fn range(&self) -> Ipv6Range {
        self.range
    }

    pub(crate) fn mancon(&self) -> Option<ManCon> {
        self.mancon
    }

    fn path_mtu(&self, to: &Addr) -> usize {
        self.node.path_mtu(*to)
    }

    /// From the device to the node.
    async fn outward(self: Arc<Self>, notices: mpsc::Sender<Bytes>) -> Result<(), RunError> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut actions = Vec::new();
        let mut work = Work::default();
        let mtu = |to: &Addr| self.path_mtu(to);
        loop {
            let next = self.core().next_heartbeat();
            tokio::select! {
                result = poll_fn(|cx| self.device.poll_recv(cx, &mut batch)) => {
                    result.map_err(RunError::Device)?;
                    let now = Instant::now();
                    let mut core = self.core();
                    for packet in batch.drain(..) {
                        core.from_device(now, packet, &mtu, &mut actions);
                    }
                }
                Some((destination, answer)) = work.finds.next(), if !work.finds.is_empty() => {
                    self.core().found(Instant::now(), destination, answer, &mtu, &mut actions);
                }
                Some((to, packet, result)) = work.sends.next(), if !work.sends.is_empty() => {
                    work.done(to);
                    if let Err(error) = result {
                        self.core().send_failed(Instant::now(), &packet, error.code, &mut actions);
                    }
                }
                () = reach(next) => self.core().heartbeat(Instant::now(), &mut actions),
            }
            self.apply(&mut actions, &mut work, &notices).await?;
        }
    }

    /// From the node to the device.
    async fn inward(
        self: Arc<Self>,
        notices: mpsc::Sender<Bytes>,
        mut from_outward: mpsc::Receiver<Bytes>,
    ) -> Result<(), RunError> {
        let mut actions = Vec::new();
        let mut packets = VecDeque::new();
        let mut work = Work::default();
        let mtu = |to: &Addr| self.path_mtu(to);
        // Kept over the turns of the loop: dropping it might lose a packet.
        let mut arriving = self.node.recv(Kind::Packet);
        loop {
            tokio::select! {
                first = &mut arriving => {
                    let Ok(first) = first else { return Err(RunError::Closed) };
                    arriving = self.node.recv(Kind::Packet);
                    let now = Instant::now();
                    let mut core = self.core();
                    let more = std::iter::from_fn(|| self.node.try_recv(Kind::Packet));
                    for Incoming { from, payload } in std::iter::once(first).chain(more.take(BATCH - 1)) {
                        core.from_node(now, &from, payload, &mtu, &mut actions);
                    }
                }
                Some(notice) = from_outward.recv() => packets.push_back(notice),
                Some((to, packet, result)) = work.sends.next(), if !work.sends.is_empty() => {
                    work.done(to);
                    if let Err(error) = result {
                        self.core().send_failed(Instant::now(), &packet, error.code, &mut actions);
                    }
                }
            }
            for action in actions.extract_if(.., |action| matches!(action, Action::Inject(_))) {
                if let Action::Inject(packet) = action {
                    packets.push_back(packet);
                }
            }
            while !packets.is_empty() {
                if poll_fn(|cx| self.device.poll_send(cx, &mut packets)).await.is_err() {
                    self.core().inject_failed();
                }
            }
            self.apply(&mut actions, &mut work, &notices).await?;
        }
    }

    /// Does what the core wants done; new actions that arise on the way too.
    async fn apply<'a>(
        &'a self,
        actions: &mut Vec<Action>,
        work: &mut Work<'a>,
        notices: &mpsc::Sender<Bytes>,
    ) -> Result<(), RunError> {
        while !actions.is_empty() {
            for action in std::mem::take(actions) {
                match action {
                    Action::Inject(packet) => {
                        if notices.try_send(packet).is_err() {
                            self.core().inject_failed();
                        }
                    }
                    Action::Find { destination, prefix } => {
                        let request = Request { mancon: self.mancon, deadline: Some(Resolver::HOLD) };
                        let asked = self.node.find(prefix, request);
                        work.finds.push(Box::pin(async move {
                            let answer = tokio::time::timeout(Resolver::HOLD + Self::GRACE, asked).await;
                            let answer = match answer {
                                Ok(answer) => answer.map_err(|error| error.code),
                                Err(_) => Err(Resolver::IN_VAIN),
                            };
                            (destination, answer)
                        }));
                    }
                    Action::Send { to, packet } => self.send(to, packet, work, actions).await?,
                }
            }
        }
        Ok(())
    }

    /// Sends one packet; what the node does not take at once waits beside the loop, within bounds.
    async fn send<'a>(
        &'a self,
        to: Addr,
        packet: Bytes,
        work: &mut Work<'a>,
        actions: &mut Vec<Action>,
    ) -> Result<(), RunError> {
        if work.is_full(&to) {
            self.core().overrun();
            return Ok(());
        }
        let request = Request { mancon: self.mancon, deadline: Some(Resolver::HOLD) };
        let outgoing = Outgoing { to, kind: Kind::Packet, payload: packet.clone(), request };
        let mut sending = self.node.send(outgoing);
        match poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) if error.code == Code::Closed => return Err(RunError::Closed),
            Poll::Ready(Err(error)) => {
                self.core().send_failed(Instant::now(), &packet, error.code, actions);
            }
            Poll::Pending => {
                *work.waiting.entry(to).or_default() += 1;
                work.sends.push(Box::pin(async move {
                    let result = sending.await.map(drop);
                    (to, packet, result)
                }));
            }
        }
        Ok(())
    }
}

/// A packet whose send has ended.
type Finished = (Addr, Bytes, Result<(), ApiError>);

/// What a loop has begun and not finished.
#[derive(Default)]
struct Work<'a> {
    finds: FuturesUnordered<BoxFuture<'a, (Ipv6Addr, Result<Addr, Code>)>>,
    sends: FuturesUnordered<BoxFuture<'a, Finished>>,
    /// How many of the sends are for each destination.
    waiting: HashMap<Addr, usize>,
}

impl Work<'_> {
    fn is_full(&self, to: &Addr) -> bool {
        self.sends.len() >= Inner::SENDS
            || (!self.sends.is_empty() && self.waiting.get(to).is_some_and(|each| *each >= Inner::SENDS_EACH))
    }

    fn done(&mut self, to: Addr) {
        if let Some(each) = self.waiting.get_mut(&to) {
            *each -= 1;
            if *each == 0 {
                self.waiting.remove(&to);
            }
        }
    }
}

/// Waits until `when`, for ever if there is none.
async fn reach(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

impl std::fmt::Debug for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Portal").field("device", &self.device()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "portal_tests.rs"]
mod tests;
