//! The world that the tests run in: cores, a wire between them, virtual time, one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_identity::{Addr, Entropy, SeededEntropy, SigningKey};
use byway_network::{Class, Cost, Family, Hop, NetworkId};

use crate::{
    Accept, Action, Config, Core, DialError, Endpoint, Event, PeerConfig, Place, Profile, Remote, Scheme,
    TransportId,
};

pub(super) const UDP: TransportId = TransportId(0);
pub(super) const TLS: TransportId = TransportId(1);
pub(super) const TOR: TransportId = TransportId(2);
pub(super) const MTU: u16 = 1_472;

/// One daemon's links, and what they told.
pub(super) struct Node {
    pub(super) core: Core,
    pub(super) addr: Addr,
    pub(super) at: SocketAddr,
    pub(super) up: BTreeMap<Hop, (Class, Cost)>,
    /// Ups and Downs, and when.
    pub(super) log: Vec<(Instant, Hop, bool)>,
    pub(super) costs: Vec<(Instant, Cost)>,
    pub(super) received: Vec<(Instant, Bytes)>,
    pub(super) dials: usize,
    /// What was dialled, and what was sent over each transport.
    pub(super) dialled: Vec<(Instant, TransportId, Scheme)>,
    pub(super) sent: BTreeMap<TransportId, usize>,
    pub(super) longest: usize,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) seed: u64,
    pub(super) nodes: Vec<Node>,
    wire: BTreeMap<(Instant, u64), (usize, Event)>,
    serial: u64,
    dice: SeededEntropy,
    /// Whether the daemons have TLS and Tor as well; counts from their next start.
    pub(super) is_rich: bool,
    /// Transports over which nothing passes.
    pub(super) dropped: BTreeSet<TransportId>,
    /// Transports over which nothing can be dialled.
    pub(super) refused: BTreeSet<TransportId>,
    /// Cut ways, from and to.
    pub(super) cuts: BTreeSet<(usize, usize)>,
    pub(super) delay: Duration,
    /// Lost datagrams of a hundred.
    pub(super) loss: u64,
    /// Bytes per second that go from each daemon; the others need no time.
    pub(super) rates: BTreeMap<usize, u32>,
    /// What the paths carry.
    pub(super) narrow: usize,
    /// What names stand for; others do not resolve.
    pub(super) names: BTreeMap<String, Vec<SocketAddr>>,
    /// Routing protocols of those that speak another one than the rest; counts from their next start.
    pub(super) protocols: BTreeMap<usize, &'static str>,
    /// Everything that was put on the wire, if asked for.
    pub(super) tape: Option<Vec<(usize, usize, Bytes)>>,
}

pub(super) fn key(index: usize) -> SigningKey {
    SigningKey::from_seed(&[index as u8 + 1; 32])
}

pub(super) fn at(index: usize) -> SocketAddr {
    ([198, 51, 100, index as u8 + 1], 2_561).into()
}

pub(super) fn endpoint(index: usize) -> Endpoint {
    Endpoint::udp(at(index))
}

/// The connection to a node, which is numbered as that is.
fn connection(transport: TransportId, to: usize) -> Place {
    Place { transport, remote: Remote::Connection(to as u64), mtu: 16_384 }
}

impl World {
    /// `count` daemons of one network that know nobody.
    pub(super) fn new(seed: u64, count: usize) -> Self {
        let start = Instant::now();
        let mut world = Self {
            now: start,
            start,
            seed,
            nodes: Vec::new(),
            wire: BTreeMap::new(),
            serial: 0,
            dice: SeededEntropy::new(seed),
            is_rich: false,
            dropped: BTreeSet::new(),
            refused: BTreeSet::new(),
            cuts: BTreeSet::new(),
            delay: Duration::from_millis(10),
            loss: 0,
            rates: BTreeMap::new(),
            narrow: MTU.into(),
            names: BTreeMap::new(),
            protocols: BTreeMap::new(),
            tape: None,
        };
        for index in 0..count {
            let node = world.make(index, 1, "world", Accept::Peers);
            world.nodes.push(node);
        }
        world
    }

    fn make(&mut self, index: usize, boot: u64, network: &str, accept: Accept) -> Node {
        let config = Config {
            key: key(index),
            protocol: self.protocols.get(&index).copied().unwrap_or("grove"),
            network: NetworkId::new(network, None),
            group_key: None,
            accept,
            boot,
            unix: 1_800_000_000 + (self.now - self.start).as_secs(),
            ratchet: Duration::from_secs(120),
            ciphers: crate::Ciphers::AES,
        };
        let entropy = SeededEntropy::new(self.dice.next_u64());
        let mut core = Core::new(self.now, config, Box::new(entropy));
        let profile =
            Profile { class: Class::UDP, typical_rtt: Duration::from_millis(40), rate: None, lossy: true };
        core.add_transport(self.now, UDP, profile, &[Scheme::Udp]);
        if self.is_rich {
            let stream = |class, milliseconds| Profile {
                class,
                typical_rtt: Duration::from_millis(milliseconds),
                rate: None,
                lossy: false,
            };
            core.add_transport(self.now, TLS, stream(Class::new(Family::Ip, 3), 50), &[Scheme::Tls]);
            core.add_transport(self.now, TOR, stream(Class::new(Family::Tor, 0), 600), &[Scheme::Tor]);
        }
        Node {
            core,
            addr: key(index).public().addr(),
            at: at(index),
            up: BTreeMap::new(),
            log: Vec::new(),
            costs: Vec::new(),
            received: Vec::new(),
            dials: 0,
            dialled: Vec::new(),
            sent: BTreeMap::new(),
            longest: 0,
        }
    }

    /// Ends a daemon without a word and starts it anew.
    pub(super) fn restart(&mut self, index: usize, network: &str, accept: Accept) {
        let boot = self.now.duration_since(self.start).as_millis() as u64 + 2;
        let node = self.make(index, boot, network, accept);
        self.nodes[index] = node;
        self.wire.retain(|_, (to, _)| *to != index);
    }

    /// `from` gets `to` as a peer, to be dialled or not.
    pub(super) fn peer(&mut self, from: usize, to: usize, dial: bool) {
        let endpoints = if dial { vec![endpoint(to)] } else { Vec::new() };
        self.peer_at(from, to, endpoints);
    }

    pub(super) fn peer_at(&mut self, from: usize, to: usize, endpoints: Vec<Endpoint>) {
        let peer = PeerConfig::new(self.nodes[to].addr, endpoints);
        self.act(from, |core, now, out| core.add_peer(now, peer, out));
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        self.cuts.extend([(a, b), (b, a)]);
    }

    pub(super) fn mend(&mut self, a: usize, b: usize) {
        self.cuts.remove(&(a, b));
        self.cuts.remove(&(b, a));
    }

    /// Lets a core act, and carries out what it wants.
    pub(super) fn act<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Core, Instant, &mut Vec<Action>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let result = act(&mut self.nodes[index].core, self.now, &mut out);
        for action in out {
            self.apply(index, action);
        }
        result
    }

    fn apply(&mut self, index: usize, action: Action) {
        let now = self.now;
        match action {
            Action::Transmit { place, frame } => self.transmit(index, place, &frame),
            Action::Dial { id, endpoint, transport, peer } => {
                self.nodes[index].dials += 1;
                self.nodes[index].dialled.push((now, transport, endpoint.scheme()));
                if transport != UDP {
                    let to = self.nodes.iter().position(|node| node.addr == peer);
                    let to = to.filter(|_| !self.refused.contains(&transport));
                    let result = to.map(|to| vec![connection(transport, to)]).ok_or(DialError::Unreachable);
                    self.schedule(self.delay_of(transport), index, Event::Dialled { id, result });
                    return;
                }
                let found = match (endpoint.socket_addr(), endpoint.host_port()) {
                    (Some(address), _) => Some(vec![address]),
                    (None, Some((host, _))) => self.names.get(&host).cloned(),
                    (None, None) => None,
                };
                let place = |address| Place { transport: UDP, remote: Remote::Ip(address), mtu: MTU };
                let result = found.map(|found| found.into_iter().map(place).collect()).ok_or(DialError::Name);
                self.schedule(Duration::ZERO, index, Event::Dialled { id, result });
            }
            Action::HangUp { .. } => {}
            Action::Up { hop, class, cost } => {
                let node = &mut self.nodes[index];
                assert!(node.up.insert(hop, (class, cost)).is_none(), "seed {}: up twice", self.seed);
                node.log.push((now, hop, true));
            }
            Action::Cost { hop, class, cost } => {
                let node = &mut self.nodes[index];
                assert!(
                    node.up.insert(hop, (class, cost)).is_some(),
                    "seed {}: a cost, but not up",
                    self.seed
                );
                node.costs.push((now, cost));
            }
            Action::Down { hop } => {
                let node = &mut self.nodes[index];
                assert!(node.up.remove(&hop).is_some(), "seed {}: down, but not up", self.seed);
                node.log.push((now, hop, false));
            }
            Action::Received { hop, frame } => {
                let node = &mut self.nodes[index];
                assert!(node.up.contains_key(&hop), "seed {}: a frame from a hop that is not up", self.seed);
                node.received.push((now, frame));
            }
        }
    }

    fn transmit(&mut self, from: usize, place: Place, frame: &Bytes) {
        self.nodes[from].longest = self.nodes[from].longest.max(frame.len());
        *self.nodes[from].sent.entry(place.transport).or_default() += 1;
        let address = match place.remote {
            Remote::Ip(address) => address,
            Remote::Connection(number) => {
                // A stream loses nothing, unless nothing passes at all.
                if !self.dropped.contains(&place.transport) && !self.refused.contains(&place.transport) {
                    let frame = BytesMut::from(&frame[..]);
                    let place = connection(place.transport, from);
                    self.schedule(
                        self.delay_of(place.transport),
                        number as usize,
                        Event::Frame { place, frame },
                    );
                }
                return;
            }
        };
        if self.dropped.contains(&UDP) {
            return;
        }
        let Some(to) = self.nodes.iter().position(|node| node.at == address) else { return };
        if let Some(tape) = &mut self.tape {
            tape.push((from, to, frame.clone()));
        }
        if frame.len() > self.narrow || self.cuts.contains(&(from, to)) || self.dice.below(100) < self.loss {
            return;
        }
        let source = self.nodes[from].at;
        let bytes = frame.len() as u32;
        let time =
            self.rates.get(&from).map_or(Duration::ZERO, |rate| Duration::from_secs(1) * bytes / *rate);
        let place = Place { transport: UDP, remote: Remote::Ip(source), mtu: MTU };
        self.schedule(self.delay + time, to, Event::Frame { place, frame: BytesMut::from(&frame[..]) });
    }

    /// A datagram from `source` is on its way.
    pub(super) fn datagram(&mut self, source: SocketAddr, to: usize, bytes: &[u8]) {
        let place = Place { transport: UDP, remote: Remote::Ip(source), mtu: MTU };
        self.schedule(self.delay, to, Event::Frame { place, frame: BytesMut::from(bytes) });
    }

    /// All connections of a transport are reset, and no more can be made.
    pub(super) fn reset(&mut self, transport: TransportId) {
        self.refused.insert(transport);
        for (one, other) in [(0, 1), (1, 0)] {
            let place = connection(transport, other);
            self.act(one, |core, now, out| core.handle(now, Event::Closed { place }, out));
        }
    }

    fn delay_of(&self, transport: TransportId) -> Duration {
        if transport == TOR { self.delay + Duration::from_millis(200) } else { self.delay }
    }

    fn schedule(&mut self, after: Duration, to: usize, event: Event) {
        self.serial += 1;
        self.wire.insert((self.now + after, self.serial), (to, event));
    }

    /// Lets time pass.
    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.run_until(end, |_| false);
    }

    /// Lets time pass until `done`; the time that it took, or a failure after `limit`.
    pub(super) fn wait(&mut self, limit: Duration, what: &str, done: impl FnMut(&Self) -> bool) -> Duration {
        let start = self.now;
        assert!(self.run_until(start + limit, done), "seed {}: not {what} within {limit:?}", self.seed);
        self.now - start
    }

    fn run_until(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        let mut idle = 0;
        loop {
            if done(self) {
                return true;
            }
            let wire = self.wire.first_key_value().map(|((at, _), _)| *at);
            let timers = self.nodes.iter().filter_map(|node| node.core.next_heartbeat());
            let next = timers.chain(wire).min().unwrap_or(end).max(self.now);
            if next >= end {
                self.now = end;
                return done(self);
            }
            idle = if next == self.now { idle + 1 } else { 0 };
            assert!(idle < 100_000, "seed {}: time stands still", self.seed);
            self.now = next;
            while let Some(entry) = self.wire.first_entry() {
                if entry.key().0 > next {
                    break;
                }
                let (to, event) = entry.remove();
                self.act(to, |core, now, out| core.handle(now, event, out));
            }
            for index in 0..self.nodes.len() {
                if self.nodes[index].core.next_heartbeat().is_some_and(|due| due <= next) {
                    self.act(index, Core::heartbeat);
                }
            }
        }
    }

    /// The hop from `from` to `to` over clear IP.
    pub(super) fn hop(&self, to: usize) -> Hop {
        Hop { peer: self.nodes[to].addr, family: Family::Ip }
    }

    pub(super) fn is_up(&self, a: usize, b: usize) -> bool {
        self.nodes[a].up.contains_key(&self.hop(b)) && self.nodes[b].up.contains_key(&self.hop(a))
    }

    /// Links `a` and `b`, `a` dialling.
    pub(super) fn link(&mut self, a: usize, b: usize) -> Duration {
        self.peer(b, a, false);
        self.peer(a, b, true);
        self.wait(Duration::from_secs(5), "linked", |world| world.is_up(a, b))
    }

    pub(super) fn send(&mut self, from: usize, to: usize, frame: &[u8]) {
        let hop = self.hop(to);
        self.act(from, |core, now, out| core.send(now, hop, frame, out));
    }

    /// Sends both ways each 20 ms for `span`, as a busy network would.
    pub(super) fn traffic(&mut self, a: usize, b: usize, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.send(a, b, b"traffic");
            self.send(b, a, b"traffic");
            self.run_for(Duration::from_millis(20));
        }
    }

    /// When `to` got its first frame after `since`.
    pub(super) fn first_after(&self, to: usize, since: Instant) -> Option<Duration> {
        let after = self.nodes[to].received.iter().find(|(at, _)| *at > since);
        after.map(|(at, _)| *at - since)
    }
}
