//! Whole daemons without their sockets: cores joined by wires that carry datagrams.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{ApiError, Code, Kind, ManCon};
use byway_identity::{Addr, Entropy, Prefix, SeededEntropy, SigningKey};
use byway_link::{Accept, DialError, Event, PeerConfig, Place, Profile, Remote, Scheme, TransportId};
use byway_network::{Class, Plane, Protocol};
use byway_node::{Answer, Config, Core, Disposition, Levels, Output, Question, SendRequest};

use crate::threads::{Threads, owned};
use crate::{Dice, Topology, Wire};

const PORT: u16 = 2561;
/// Longest datagram that leaves a daemon whole.
pub(crate) const MTU: u16 = 1_452;
/// What a message counts beside its bytes when an application takes it (spec/50-node.md).
const MESSAGE_COST: u64 = 512;
/// How long a message may wait for a way.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A payload that reached a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who sent it, as the node was told.
    pub from: Addr,
    /// Message or packet.
    pub kind: Kind,
    /// The plane that it came by.
    pub plane: Plane,
    /// The content.
    pub payload: Bytes,
}

struct Daemon {
    key: SigningKey,
    protocol: Protocol,
    network: String,
    group_key: Option<[u8; 32]>,
    core: Option<Core>,
    starts: u64,
    peers: BTreeSet<usize>,
    threads: Option<Box<Threads>>,
}

/// Daemons, datagrams between them, and a clock that jumps from event to event.
///
/// Each daemon has an IP address of its own (documentation ranges, IPv4 and IPv6 by turns), a clear transport, and
/// applications that take what comes at once.
pub struct Daemons {
    seed: u64,
    start: Instant,
    now: Instant,
    dice: Dice,
    protocol: Protocol,
    daemons: Vec<Daemon>,
    wires: BTreeMap<(usize, usize), (Wire, bool)>,
    flying: BTreeMap<(Instant, u64), (usize, usize, Bytes)>,
    order: u64,
    hosts: BTreeMap<Addr, usize>,
    received: BTreeMap<Addr, Vec<Received>>,
    answers: BTreeMap<u64, Result<Answer, ApiError>>,
    questions: u64,
    recorded: Option<Vec<(usize, usize, Bytes)>>,
}

impl Daemons {
    /// `count` daemons of one network, not linked.
    pub fn new(protocol: Protocol, seed: u64, count: usize) -> Self {
        let start = Instant::now();
        let mut world = Self {
            seed,
            start,
            now: start,
            dice: Dice::new(seed),
            protocol,
            daemons: Vec::new(),
            wires: BTreeMap::new(),
            flying: BTreeMap::new(),
            order: 0,
            hosts: BTreeMap::new(),
            received: BTreeMap::new(),
            answers: BTreeMap::new(),
            questions: 0,
            recorded: None,
        };
        for _ in 0..count {
            world.add("simulation");
        }
        world
    }

    /// Daemons linked as `topology` says. The one with the lower number dials.
    pub fn of(protocol: Protocol, seed: u64, topology: &Topology, wire: Wire) -> Self {
        let mut world = Self::new(protocol, seed, topology.nodes);
        for (a, b) in &topology.links {
            world.link(*a, *b, wire);
        }
        world
    }

    /// Adds a daemon of the network called `network`, and returns its number.
    pub fn add(&mut self, network: &str) -> usize {
        self.add_with(self.protocol, network, None)
    }

    /// Adds a daemon that may speak another routing protocol than the rest, and be of a closed group.
    pub fn add_with(&mut self, protocol: Protocol, network: &str, group_key: Option<[u8; 32]>) -> usize {
        let number = self.daemons.len();
        let key = self.fresh_key();
        let network = network.to_owned();
        self.daemons.push(Daemon {
            key,
            protocol,
            network,
            group_key,
            core: None,
            starts: 0,
            peers: BTreeSet::new(),
            threads: None,
        });
        self.start_core(number);
        number
    }

    /// Lays a wire between two daemons and makes `a` dial `b`.
    pub fn link(&mut self, a: usize, b: usize, wire: Wire) {
        self.wires.insert((a.min(b), a.max(b)), (wire, true));
        self.daemons[a].peers.insert(b);
        self.dial(a, b);
    }

    /// Makes `a` dial a daemon at `socket` that is not there.
    pub fn dial_nobody(&mut self, a: usize, socket: SocketAddr) {
        let endpoints = format!("udp://{socket}").parse().into_iter().collect();
        let peer = PeerConfig::new(self.fresh_key().public().addr(), endpoints);
        let now = self.now;
        self.act(a, |core, out| core.add_peer(now, peer, out));
    }

    /// Makes `a` give up a peer, and its link with it.
    pub fn remove_peer(&mut self, a: usize, peer: Addr) {
        let now = self.now;
        self.act(a, |core, out| core.remove_peer(now, &peer, out));
    }

    /// Cuts or mends the wire between two daemons.
    pub fn set_wire(&mut self, a: usize, b: usize, carries: bool) {
        if let Some((_, state)) = self.wires.get_mut(&(a.min(b), a.max(b))) {
            *state = carries;
        }
    }

    /// Ends a daemon without a word, and all nodes that it hosts.
    pub fn kill(&mut self, daemon: usize) {
        self.daemons[daemon].core = None;
        self.daemons[daemon].threads = None;
        let main = self.main(daemon);
        self.hosts.retain(|addr, host| *host != daemon || *addr == main);
    }

    /// Starts a daemon again, with its key and its peers.
    pub fn restart(&mut self, daemon: usize) {
        self.start_core(daemon);
        for peer in self.daemons[daemon].peers.clone() {
            self.dial(daemon, peer);
        }
    }

    /// The core of a daemon.
    ///
    /// # Panics
    ///
    /// When it is dead.
    pub fn core(&self, daemon: usize) -> &Core {
        self.daemons[daemon].core.as_ref().expect("the caller asks for living daemons only")
    }

    /// The address of a daemon's own node.
    pub fn main(&self, daemon: usize) -> Addr {
        self.daemons[daemon].key.public().addr()
    }

    /// The key of a daemon's own node.
    pub fn key(&self, daemon: usize) -> &SigningKey {
        &self.daemons[daemon].key
    }

    /// A key that nobody has yet.
    pub fn fresh_key(&mut self) -> SigningKey {
        let seed = self.dice.seed();
        SigningKey::generate(&mut SeededEntropy::new(seed))
    }

    /// Opens a node with a fresh key.
    ///
    /// # Panics
    ///
    /// When the daemon refuses.
    pub fn open(&mut self, daemon: usize) -> Addr {
        let key = self.fresh_key();
        self.open_key(daemon, &key).expect("a fresh key is taken")
    }

    /// Opens a node with `key`.
    pub fn open_key(&mut self, daemon: usize, key: &SigningKey) -> Result<Addr, ApiError> {
        let now = self.now;
        let addr = self.act(daemon, |core, out| core.open(now, key, out)).ok_or_else(dead)??;
        self.hosts.insert(addr, daemon);
        Ok(addr)
    }

    /// Closes a node.
    pub fn close(&mut self, node: Addr) {
        let now = self.now;
        if let Some(daemon) = self.hosts.remove(&node) {
            self.act(daemon, |core, out| core.close(now, &node, out));
        }
    }

    /// Sends a message at a level that clear links carry.
    pub fn send(&mut self, from: Addr, to: Addr, payload: Bytes) -> Result<Disposition, ApiError> {
        let request = SendRequest {
            to,
            kind: Kind::Message,
            payload,
            level: ManCon::Low,
            plane: Plane::Any,
            until: self.now + PATIENCE,
        };
        self.send_request(from, request)
    }

    /// Sends as `request` says.
    pub fn send_request(&mut self, from: Addr, request: SendRequest) -> Result<Disposition, ApiError> {
        let now = self.now;
        let daemon = self.hosts.get(&from).copied().ok_or_else(dead)?;
        self.act(daemon, |core, out| core.send(now, &from, request, out)).ok_or_else(dead)?
    }

    /// Sends, and lets time pass while the queue is full, as a patient application would.
    ///
    /// # Errors
    ///
    /// What [`Daemons::send`] says, but for a full queue that empties in time.
    pub fn send_patiently(&mut self, from: Addr, to: Addr, payload: &Bytes) -> Result<Disposition, ApiError> {
        let until = self.now + PATIENCE;
        loop {
            match self.send(from, to, payload.clone()) {
                Err(error) if error.code == Code::Busy && self.now < until => {
                    self.run_for(Duration::from_millis(1));
                }
                other => return other,
            }
        }
    }

    /// Asks a question on behalf of a node; see [`Daemons::answer`].
    pub fn ask(&mut self, from: Addr, question: Question) -> u64 {
        self.questions += 1;
        let (id, now, until) = (self.questions, self.now, self.now + PATIENCE);
        if let Some(daemon) = self.hosts.get(&from).copied() {
            self.act(daemon, |core, out| core.ask(now, &from, (id, question, ManCon::Low), until, out));
        }
        id
    }

    /// Looks for a node, and waits up to two seconds for the answer.
    pub fn find(&mut self, from: Addr, prefix: Prefix) -> Option<Result<Answer, ApiError>> {
        let id = self.ask(from, Question::Find { prefix, plane: Plane::Any });
        self.run_until(Duration::from_secs(2), |world| world.answer(id).is_some());
        self.answer(id).cloned()
    }

    /// The answer to a question, once it is there.
    pub fn answer(&self, question: u64) -> Option<&Result<Answer, ApiError>> {
        self.answers.get(&question)
    }

    /// What a node has received so far.
    pub fn received(&self, node: Addr) -> &[Received] {
        self.received.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Forgets what nodes have received.
    pub fn clear_received(&mut self) {
        self.received.clear();
    }

    /// Hands `datagram` to `daemon` as if it came from the place of `from`.
    pub fn inject(&mut self, daemon: usize, from: usize, datagram: &[u8]) {
        self.inject_from(daemon, SocketAddr::new(Self::ip(from), PORT), datagram);
    }

    /// Hands `datagram` to `daemon` as if it came from `socket`.
    pub fn inject_from(&mut self, daemon: usize, socket: SocketAddr, datagram: &[u8]) {
        if self.came(daemon, socket, datagram) {
            return;
        }
        let place = Place { transport: TransportId(0), remote: Remote::Ip(socket), mtu: MTU };
        let (now, event) = (self.now, Event::Frame { place, frame: owned(datagram) });
        self.act(daemon, |core, out| core.handle(now, event, out));
    }

    /// Keeps a copy of every datagram from now on.
    pub fn record(&mut self) {
        self.recorded = Some(Vec::new());
    }

    /// Datagrams since [`Daemons::record`]: to, from, bytes.
    pub fn take_recorded(&mut self) -> Vec<(usize, usize, Bytes)> {
        self.recorded.take().unwrap_or_default()
    }

    /// The IP address of a daemon.
    pub fn ip(daemon: usize) -> IpAddr {
        let number = daemon as u16 + 1;
        if daemon.is_multiple_of(2) {
            IpAddr::V4(Ipv4Addr::new(203, 0, 113, number as u8))
        } else {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number))
        }
    }

    /// The number that all chance of this world comes from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Chance, for the test that drives the world.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// Virtual time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
    }

    /// Lets time pass until `done`, but no longer than `most`. Returns the time that passed, if it was enough.
    pub fn run_until(&mut self, most: Duration, mut done: impl FnMut(&mut Self) -> bool) -> Option<Duration> {
        let (from, until) = (self.now, self.now + most);
        loop {
            if done(self) {
                return Some(self.now - from);
            }
            if self.now >= until {
                return None;
            }
            self.run_for(Duration::from_millis(5).min(until - self.now));
        }
    }

    fn step(&mut self, until: Instant) -> bool {
        let timers = self.daemons.iter().filter_map(|daemon| daemon.core.as_ref()?.next_heartbeat());
        let frame = self.flying.first_key_value().map(|((at, _), _)| *at);
        let looks = self.daemons.iter().filter_map(|daemon| daemon.threads.as_ref()?.due());
        let Some(next) = timers.chain(frame).chain(looks).min().filter(|next| *next <= until) else {
            return false;
        };
        // A heartbeat that is due at once again must not stop the clock.
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= now
        {
            let (to, from, frame) = entry.remove();
            if self.carries(to, from) {
                self.inject(to, from, &frame);
            }
        }
        let mut stuck = true;
        for daemon in 0..self.daemons.len() {
            self.look(daemon);
            let due = |world: &Self| {
                let core = world.daemons[daemon].core.as_ref();
                core.and_then(Core::next_heartbeat).is_some_and(|at| at <= now)
            };
            if due(self) {
                self.act(daemon, |core, out| core.heartbeat(now, out));
            }
            stuck &= due(self);
        }
        if stuck {
            self.now += Duration::from_millis(1);
        }
        true
    }

    fn carries(&self, a: usize, b: usize) -> bool {
        self.wires.get(&(a.min(b), a.max(b))).is_some_and(|(_, carries)| *carries)
    }

    fn start_core(&mut self, number: usize) {
        let mut seed = self.dice.seed();
        let unix = 1_800_000_000 + self.elapsed().as_secs();
        let daemon = &mut self.daemons[number];
        daemon.starts += 1;
        let config = Config {
            key: daemon.key.clone(),
            protocol: daemon.protocol,
            network: daemon.network.clone(),
            group_key: daemon.group_key,
            accept: Accept::Network,
            levels: Levels { default: ManCon::Low, floor: ManCon::Low, direct: true },
            peers: Vec::new(),
            boot: unix * 1_000 + daemon.starts,
            unix,
            ratchet: Duration::from_secs(120),
            ciphers: byway_node::Ciphers::AES,
        };
        let entropy = move || -> Box<dyn Entropy> {
            seed = seed.wrapping_add(1);
            Box::new(SeededEntropy::new(seed))
        };
        let mut core = Core::new(self.now, config, Box::new(entropy));
        let typical_rtt = Duration::from_millis(20);
        let profile = Profile { class: Class::UDP, typical_rtt, rate: None, lossy: true };
        core.add_transport(self.now, TransportId(0), profile, &[Scheme::Udp]);
        self.hosts.insert(core.main(), number);
        self.daemons[number].core = Some(core);
    }

    fn dial(&mut self, a: usize, b: usize) {
        let endpoint = format!("udp://{}", SocketAddr::new(Self::ip(b), PORT));
        let endpoints = endpoint.parse().into_iter().collect();
        let peer = PeerConfig::new(self.main(b), endpoints);
        let now = self.now;
        self.act(a, |core, out| core.add_peer(now, peer, out));
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn mains(&self) -> Vec<Addr> {
        self.daemons.iter().map(|daemon| daemon.key.public().addr()).collect()
    }

    pub(crate) fn living(&self, daemon: usize) -> Option<&Core> {
        self.daemons[daemon].core.as_ref()
    }

    pub(crate) fn threads(&self, daemon: usize) -> Option<&Threads> {
        self.daemons[daemon].threads.as_deref()
    }

    pub(crate) fn threads_mut(&mut self, daemon: usize) -> &mut Option<Box<Threads>> {
        &mut self.daemons[daemon].threads
    }

    /// Notes what reached a node.
    pub(crate) fn take(&mut self, node: Addr, received: Received) {
        self.received.entry(node).or_default().push(received);
    }

    pub(crate) fn act<T>(
        &mut self,
        daemon: usize,
        call: impl FnOnce(&mut Core, &mut Vec<Output>) -> T,
    ) -> Option<T> {
        let mut out = Vec::new();
        let result = call(self.daemons[daemon].core.as_mut()?, &mut out);
        for output in out {
            self.carry_out(daemon, output);
        }
        Some(result)
    }

    fn carry_out(&mut self, daemon: usize, output: Output) {
        match output {
            Output::Transmit { place: to, frame } => self.transmit(daemon, to, &frame),
            Output::Dial { id, endpoint, .. } => {
                let text = endpoint.to_string();
                let named =
                    |peer: &usize| text == format!("udp://{}", SocketAddr::new(Self::ip(*peer), PORT));
                let somewhere = || {
                    let socket: SocketAddr = text.strip_prefix("udp://")?.parse().ok()?;
                    Some(Place { transport: TransportId(0), remote: Remote::Ip(socket), mtu: MTU })
                };
                let known = (0..self.daemons.len()).find(named).map(place);
                let result = known.or_else(somewhere).map(|place| vec![place]).ok_or(DialError::Name);
                let now = self.now;
                self.act(daemon, |core, out| core.handle(now, Event::Dialled { id, result }, out));
            }
            Output::Deliver { local, from, plane, kind, payload } => {
                let cost = payload.len() as u64 + MESSAGE_COST;
                self.received.entry(local).or_default().push(Received { from, kind, plane, payload });
                let now = self.now;
                self.act(daemon, |core, out| core.consumed(now, &local, (from, plane), cost, out));
            }
            Output::Answer { id, answer } => {
                self.answers.insert(id, answer);
            }
            Output::HangUp { .. }
            | Output::Released { .. }
            | Output::Ready { .. }
            | Output::Forgotten { .. } => {}
        }
    }

    pub(crate) fn transmit(&mut self, from: usize, to: Place, frame: &Bytes) {
        let Some(peer) = (0..self.daemons.len()).find(|peer| place(*peer).remote == to.remote) else {
            return;
        };
        if let Some(recorded) = &mut self.recorded {
            recorded.push((peer, from, frame.clone()));
        }
        let Some((wire, true)) = self.wires.get(&(from.min(peer), from.max(peer))).copied() else { return };
        if self.dice.chance(wire.loss) {
            return;
        }
        for _ in 0..1 + usize::from(self.dice.chance(wire.duplicates)) {
            let at = self.now + wire.latency + self.dice.time(wire.jitter);
            self.order += 1;
            self.flying.insert((at, self.order), (peer, from, frame.clone()));
        }
    }
}

/// Makes of each function that takes a [`Protocol`] one test for each routing protocol.
#[macro_export]
macro_rules! with_each_protocol {
    ($($name:ident)*) => {
        mod grove {
            $(#[test]
            fn $name() {
                super::$name(byway_grove::PROTOCOL);
            })*
        }

        mod beacon {
            $(#[test]
            fn $name() {
                super::$name(byway_beacon::PROTOCOL);
            })*
        }
    };
}

/// The place of a daemon, as its neighbours see it.
fn place(daemon: usize) -> Place {
    let socket = SocketAddr::new(Daemons::ip(daemon), PORT);
    Place { transport: TransportId(0), remote: Remote::Ip(socket), mtu: MTU }
}

fn dead() -> ApiError {
    ApiError::new(Code::Closed, "the node or its daemon has ended")
}
