//! The world: endpoints, and datagrams on their way between them.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_identity::{Addr, Entropy, SeededEntropy, SigningKey};

use crate::{
    Ciphers, Config, Connect, Endpoint, Event, FrameKind, Halves, Opened, Place, SessionId, Use, frame,
};

pub(crate) const UNIX: u64 = 1_800_000_000;
pub(crate) const LATENCY: Duration = Duration::from_millis(10);

/// Place number `at`, as others see it: each endpoint has at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spot {
    pub(crate) at: u32,
    pub(crate) mtu: usize,
    pub(crate) plane: u8,
    pub(crate) masked: bool,
    pub(crate) rated: bool,
    /// Where who is, if datagrams do not tell.
    book: Book,
}

/// No part of a place's name.
#[derive(Clone, Debug, Default)]
struct Book(Arc<BTreeMap<Addr, u32>>);

impl PartialEq for Book {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Book {}

impl Hash for Book {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Where nobody is.
const NOWHERE: u32 = u32::MAX;

impl Place for Spot {
    fn rate_key(&self) -> Option<u64> {
        self.rated.then_some(self.at.into())
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn plane(&self) -> u8 {
        self.plane
    }

    fn masked(&self) -> bool {
        self.masked
    }

    fn with_remote(&self, remote: Addr) -> Self {
        let at = self.book.0.get(&remote).copied().unwrap_or(self.at);
        Self { at, ..self.clone() }
    }
}

/// A datagram that a test can look at.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) bytes: Bytes,
}

type Fate = Box<dyn FnMut(&Datagram, &mut SeededEntropy) -> Vec<Duration>>;

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) usage: Use,
    pub(crate) mtu: usize,
    /// Whether handshakes are masked; unless told, those of links are.
    pub(crate) masked: Option<bool>,
    pub(crate) nodes: Vec<Endpoint<Spot>>,
    /// Whose a spot is.
    spots: BTreeMap<u32, usize>,
    book: Book,
    /// From which spot a node sends.
    pub(crate) home: Vec<u32>,
    pub(crate) events: Vec<Vec<Event<Spot>>>,
    /// All that was sent, if asked for.
    pub(crate) tape: Vec<Datagram>,
    queue: BTreeMap<(Instant, u64), Datagram>,
    sequence: u64,
    entropy: SeededEntropy,
    /// Whether frames are opened beside the endpoints, as threads do, wherever that is possible.
    pub(crate) beside: bool,
    /// How many were.
    pub(crate) opened_beside: u64,
    /// After which delays a datagram arrives; none: it is lost.
    pub(crate) fate: Fate,
}

pub(crate) fn config(usage: Use, seed: u64) -> Config {
    Config {
        usage,
        key: SigningKey::generate(&mut SeededEntropy::new(seed)),
        group_key: None,
        boot: 1,
        unix: UNIX,
        ratchet: Duration::from_secs(120),
        ciphers: Ciphers::AES,
    }
}

impl World {
    pub(crate) fn new(usage: Use, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            usage,
            mtu: 1400,
            masked: None,
            nodes: Vec::new(),
            spots: BTreeMap::new(),
            book: Book::default(),
            home: Vec::new(),
            events: Vec::new(),
            tape: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            entropy: SeededEntropy::new(seed),
            beside: false,
            opened_beside: 0,
            fate: Box::new(|_, _| vec![LATENCY]),
        }
    }

    pub(crate) fn pair(usage: Use, seed: u64) -> Self {
        let mut world = Self::new(usage, seed);
        world.add(config(usage, 1));
        world.add(config(usage, 2));
        world
    }

    pub(crate) fn add(&mut self, config: Config) -> usize {
        let node = self.nodes.len();
        let entropy = SeededEntropy::new(self.entropy.next_u64());
        self.nodes.push(Endpoint::new(self.now, config, Box::new(entropy)));
        self.events.push(Vec::new());
        self.home.push(node as u32);
        self.spots.insert(node as u32, node);
        node
    }

    /// The node dies, and comes again with the same identity and nothing else.
    pub(crate) fn restart(&mut self, node: usize, config: Config) {
        let entropy = SeededEntropy::new(self.entropy.next_u64());
        self.nodes[node] = Endpoint::new(self.now, config, Box::new(entropy));
    }

    /// As [`World::restart`], with this randomness.
    pub(crate) fn restart_alike(&mut self, node: usize, config: Config, seed: u64) {
        self.nodes[node] = Endpoint::new(self.now, config, Box::new(SeededEntropy::new(seed)));
    }

    /// From now on the node sends from `spot`; what is sent to its old spots is lost if `leave`.
    pub(crate) fn roam(&mut self, node: usize, spot: u32, leave: bool) {
        if leave {
            self.spots.retain(|_, owner| *owner != node);
        }
        self.spots.insert(spot, node);
        self.home[node] = spot;
    }

    pub(crate) fn spot(&self, at: u32) -> Spot {
        let is_link = self.usage == Use::Link;
        Spot {
            at,
            mtu: self.mtu,
            plane: 0,
            masked: self.masked.unwrap_or(is_link),
            rated: is_link,
            book: self.book.clone(),
        }
    }

    /// From now on datagrams do not tell where they came from; addresses must.
    pub(crate) fn forget_sources(&mut self) {
        let known = (0..self.nodes.len()).map(|node| (self.addr(node), node as u32));
        self.book = Book(Arc::new(known.collect()));
    }

    /// Where a datagram from `at` seems to come from.
    fn source(&self, at: u32) -> Spot {
        self.spot(if self.book.0.is_empty() { at } else { NOWHERE })
    }

    pub(crate) fn addr(&self, node: usize) -> Addr {
        self.nodes[node].addr()
    }

    pub(crate) fn connect(&mut self, from: usize, to: usize) {
        let place = self.spot(self.home[to]);
        let connect = Connect { remote: self.addr(to), place, token: None, digest: None };
        self.act(from, |node, now, out| node.connect(now, connect, out));
    }

    /// Lets `node` do something, and sends what comes of it.
    pub(crate) fn act<T>(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Endpoint<Spot>, Instant, &mut Vec<Event<Spot>>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let before = (self.nodes[node].generation(), self.nodes[node].shown());
        let result = act(&mut self.nodes[node], self.now, &mut out);
        if self.nodes[node].generation() == before.0 {
            assert_eq!(self.nodes[node].shown(), before.1, "what is shared changed without a word");
        }
        for event in out {
            match event {
                Event::Transmit { place, bytes } => {
                    assert!(bytes.len() <= place.mtu(), "{} bytes do not fit {}", bytes.len(), place.mtu());
                    let datagram = Datagram { from: self.home[node], to: place.at, bytes };
                    for delay in (self.fate)(&datagram, &mut self.entropy) {
                        self.sequence += 1;
                        self.queue.insert((self.now + delay, self.sequence), datagram.clone());
                    }
                    self.tape.push(datagram);
                }
                event => self.events[node].push(event),
            }
        }
        result
    }

    pub(crate) fn send(&mut self, node: usize, session: SessionId, payload: &[u8]) {
        self.act(node, |node, now, out| node.send(now, session, FrameKind::Message, payload, out))
            .expect("the session is up");
    }

    /// Hands bytes to a node as if they had come from `from`; gives what it sent in answer.
    pub(crate) fn inject(&mut self, node: usize, from: u32, bytes: &[u8]) -> usize {
        let place = self.source(from);
        let before = self.tape.len();
        self.act(node, |node, now, out| node.handle(now, place, BytesMut::from(bytes), out));
        self.tape.len() - before
    }

    /// A datagram came to `node`.
    fn arrive(&mut self, node: usize, place: Spot, bytes: &[u8]) {
        let mut bytes = BytesMut::from(bytes);
        let index = frame::index(&bytes);
        let half = |half: &Halves<'_, Spot>| Some(half.index) == index && *half.place == place;
        let inbound = self.nodes[node].halves().find(half).map(|half| half.inbound.clone());
        let Some(inbound) = inbound.filter(|_| self.beside) else {
            return self.act(node, |node, now, out| node.handle(now, place, bytes, out));
        };
        let opened = inbound.lock().open(self.now, &mut bytes);
        if let (Some(index), Ok(Opened { kind, flags, payload, .. })) = (index, opened) {
            self.opened_beside += 1;
            let payload = bytes.freeze().slice(payload);
            self.act(node, |node, now, out| {
                node.handle_opened(now, index, place, kind, flags, payload, out);
            });
        }
    }

    /// The next thing that happens, if it does before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let arrival = self.queue.keys().next().map(|(at, _)| *at);
        let beat =
            (0..self.nodes.len()).filter_map(|node| Some((self.nodes[node].next_heartbeat()?, node))).min();
        match (arrival, beat) {
            (Some(at), beat) if at <= until && beat.is_none_or(|(due, _)| at <= due) => {
                self.now = self.now.max(at);
                let (_, datagram) = self.queue.pop_first().expect("it was seen");
                if let Some(node) = self.spots.get(&datagram.to).copied() {
                    let place = self.source(datagram.from);
                    self.arrive(node, place, &datagram.bytes);
                }
                true
            }
            (_, Some((due, node))) if due <= until => {
                self.now = self.now.max(due);
                self.act(node, Endpoint::heartbeat);
                true
            }
            _ => {
                self.now = self.now.max(until);
                false
            }
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs until `done`, or panics after `limit`.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) {
        let until = self.now + limit;
        while !done(self) {
            assert!(self.step(until), "not within {limit:?}: {:?}", self.events);
        }
    }

    pub(crate) fn session(&self, node: usize, with: usize) -> Option<SessionId> {
        self.nodes[node].session(&self.addr(with), 0)
    }

    pub(crate) fn is_up(&self, a: usize, b: usize) -> bool {
        self.session(a, b).is_some() && self.session(b, a).is_some()
    }

    /// Connects the first two and waits until both can send.
    pub(crate) fn link_up(&mut self) -> (SessionId, SessionId) {
        self.connect(0, 1);
        self.run_until(Duration::from_secs(5), |world| world.is_up(0, 1));
        self.run_for(Duration::from_millis(100));
        (self.session(0, 1).expect("up"), self.session(1, 0).expect("up"))
    }

    /// Payloads that came in at `node`, in order.
    pub(crate) fn received(&self, node: usize) -> Vec<Bytes> {
        self.events[node]
            .iter()
            .filter_map(|event| match event {
                Event::Received { payload, .. } => Some(payload.clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn ups(&self, node: usize) -> usize {
        self.events[node].iter().filter(|event| matches!(event, Event::Up { .. })).count()
    }

    pub(crate) fn downs(&self, node: usize) -> usize {
        self.events[node].iter().filter(|event| matches!(event, Event::Down { .. })).count()
    }
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SeededEntropy::new(seed).fill(&mut bytes);
    bytes
}
