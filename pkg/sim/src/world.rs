//! Routers, links between them, and a clock that jumps from event to event.

mod engine;
mod links;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Addr, Prefix, SigningKey};
use byway_network::{
    Constraint, Family, Found, FrameError, Hop, Network, NetworkId, Outbox, Plane, Setup, To, Unroutable,
};

use crate::flight::{self, Flight};
use crate::queue::Queue;
use crate::world::engine::Event;
use crate::world::links::Link;
use crate::{Dice, Terrain, Topology, Wire};

/// Makes the router of one node.
pub type Factory = fn(Instant, Setup) -> Box<dyn Network>;

/// How the world treats the timers of its routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timers {
    /// A heartbeat when it was asked for.
    Exact,
    /// A heartbeat so much after it was asked for.
    Late(Duration),
    /// Twice when it was asked for, and again after each other event, whether asked for or not.
    Eager,
}

/// One node.
struct Place<N: ?Sized> {
    key: SigningKey,
    addr: Addr,
    leaf: bool,
    router: Option<Box<N>>,
    boot: u64,
    /// Its links by the hop at the other end, in order.
    links: Vec<(Hop, u32)>,
    found: Vec<Found>,
    unroutable: Vec<(To, Unroutable)>,
    frames_in: u64,
    sent: [Tally; KINDS],
    errors: BTreeMap<String, u64>,
    /// For when a heartbeat is planned.
    woken_for: Option<u64>,
}

/// How many kinds of frames are told apart; all that follow are counted with the last one.
const KINDS: usize = 16;

/// Frames that a node has put on links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub frames: u64,
    /// How many bytes they had together.
    pub bytes: u64,
}

/// A frame that was put on a link.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The node at the other end.
    pub to: usize,
    /// The node that sent it.
    pub from: usize,
    /// The family of the link.
    pub family: Family,
    /// The frame.
    pub frame: Bytes,
    /// When it was put there, since the world began.
    pub at: Duration,
    /// Whether the link was cut or lost it.
    pub lost: bool,
}

impl Recorded {
    /// The number of the flight whose payload is inside, if there is one.
    pub fn flight(&self) -> Option<u64> {
        flight::read(&self.frame).map(|(number, _)| number)
    }
}

/// A world of routers in virtual time. Everything that happens follows from the seed and the calls.
///
/// Its routers are any protocols at all, or of the one type `N`, of which the test may then ask more than [`Network`] tells.
pub struct World<N: Network + ?Sized = dyn Network> {
    seed: u64,
    start: Instant,
    now: Instant,
    dice: Dice,
    factory: Box<dyn FnMut(Instant, Setup) -> Box<N>>,
    network: NetworkId,
    places: Vec<Place<N>>,
    numbers: HashMap<Addr, usize>,
    links: Vec<Link>,
    queue: Queue<Event>,
    happened: u64,
    outbox: Outbox,
    flights: Vec<Flight>,
    recorded: Option<Vec<Recorded>>,
    broken: Vec<String>,
    longest_frame: usize,
    /// How long after a cut the ends are told that the link is down.
    pub detection: Duration,
    /// Whether neighbours learn that a node was away when it comes back before they noticed.
    pub restarts_are_told: bool,
    /// How timers are treated.
    pub timers: Timers,
}

impl<N: Network + ?Sized> World<N> {
    /// A world without nodes.
    pub fn new(seed: u64, factory: impl FnMut(Instant, Setup) -> Box<N> + 'static) -> Self {
        let start = Instant::now();
        Self {
            seed,
            start,
            now: start,
            dice: Dice::new(seed),
            factory: Box::new(factory),
            network: NetworkId::new("simulation", None),
            places: Vec::new(),
            numbers: HashMap::new(),
            links: Vec::new(),
            queue: Queue::new(),
            happened: 0,
            outbox: Outbox::default(),
            flights: Vec::new(),
            recorded: None,
            broken: Vec::new(),
            longest_frame: 0,
            detection: Duration::from_secs(1),
            restarts_are_told: true,
            timers: Timers::Exact,
        }
    }

    /// A world of full nodes, linked as `topology` says by links like `wire`.
    pub fn of(
        seed: u64,
        factory: impl FnMut(Instant, Setup) -> Box<N> + 'static,
        topology: &Topology,
        wire: Wire,
    ) -> Self {
        Self::on(seed, factory, &Terrain::even(topology.clone(), wire))
    }

    /// A world of full nodes on `terrain`: all there at once, and then all links.
    pub fn on(seed: u64, factory: impl FnMut(Instant, Setup) -> Box<N> + 'static, terrain: &Terrain) -> Self {
        let mut world = Self::new(seed, factory);
        for _ in 0..terrain.topology.nodes {
            world.add();
        }
        for ((a, b), wire) in terrain.links() {
            world.connect(a, b, wire);
        }
        world
    }

    // --- what is there ---------------------------------------------------------------------------------------

    /// Adds a full node, and returns its number.
    pub fn add(&mut self) -> usize {
        self.add_node(false)
    }

    /// Adds a leaf of `hub`, attached over loopback, and returns its number.
    pub fn add_leaf(&mut self, hub: usize) -> usize {
        let leaf = self.add_node(true);
        self.connect(hub, leaf, Wire::LOOPBACK);
        leaf
    }

    /// Ends a node without a word.
    pub fn kill(&mut self, node: usize) {
        self.take(node);
    }

    /// Ends a node without a word, and hands out its router.
    pub fn take(&mut self, node: usize) -> Option<Box<N>> {
        let router = self.places[node].router.take();
        for link in self.links_of(node) {
            self.cut_link(link);
            self.links[link as usize].forget(node);
        }
        router
    }

    /// Starts a node again, with its key and nothing else.
    pub fn restart(&mut self, node: usize) {
        self.places[node].boot += 1;
        self.make_router(node);
        for link in self.links_of(node) {
            let other = self.links[link as usize].other(node);
            if self.places[other].router.is_some() {
                self.restore_link(link);
            }
        }
    }

    /// Puts what `wrap` makes of a node's router in its place: a misbehaving one around an honest one, for example. Lasts until
    /// the node is started again. Nothing happens to a dead node.
    pub fn replace(&mut self, node: usize, wrap: impl FnOnce(Box<N>) -> Box<N>) {
        if let Some(router) = self.places[node].router.take() {
            self.places[node].router = Some(wrap(router));
            self.plan_heartbeat(node);
        }
    }

    /// Whether the node runs.
    pub fn is_alive(&self, node: usize) -> bool {
        self.places[node].router.is_some()
    }

    /// How often the node has been started.
    pub fn starts(&self, node: usize) -> u64 {
        self.places[node].boot
    }

    /// How many nodes there are, dead ones included.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The address of a node.
    pub fn addr(&self, node: usize) -> Addr {
        self.places[node].addr
    }

    /// The node that has an address.
    pub fn number(&self, addr: &Addr) -> Option<usize> {
        self.numbers.get(addr).copied()
    }

    /// The hop by which others know `node` over links of `family`.
    pub fn hop(&self, node: usize, family: Family) -> Hop {
        Hop { peer: self.addr(node), family }
    }

    /// The router of a node.
    ///
    /// # Panics
    ///
    /// When the node is dead.
    pub fn router(&self, node: usize) -> &N {
        self.places[node].router.as_deref().expect("the caller asks for living nodes only")
    }

    /// Chance, for the test that drives the world.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// Virtual time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Virtual time as the routers see it.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How many events there have been.
    pub fn happened(&self) -> u64 {
        self.happened
    }

    // --- what nodes do ---------------------------------------------------------------------------------------

    /// Sends a payload of its own from one node to another, and returns the number of its flight.
    pub fn send(&mut self, from: usize, to: usize, plane: Plane) -> Result<u64, Unroutable> {
        self.send_by(from, to, &Constraint::in_plane(plane), 40)
    }

    /// Sends a payload of `length` bytes (at least those of a marker) by a way that satisfies `by`.
    pub fn send_by(
        &mut self,
        from: usize,
        to: usize,
        by: &Constraint,
        length: usize,
    ) -> Result<u64, Unroutable> {
        let number = self.flights.len() as u64;
        let payload = flight::payload(number, by.plane, length);
        let to = To::Node(self.addr(to));
        self.send_raw(from, to, payload, by)?;
        Ok(number)
    }

    /// Sends any payload to anywhere.
    pub fn send_raw(
        &mut self,
        from: usize,
        to: To,
        payload: Bytes,
        by: &Constraint,
    ) -> Result<(), Unroutable> {
        let now = self.now;
        let target = match to {
            To::Node(addr) => self.numbers.get(&addr).copied(),
            To::Back(_) => None,
        };
        // In before the call, for a payload to oneself arrives during it.
        self.flights.push(Flight::new(from, target, by.plane, now));
        let result = self.act(from, |router, out| router.handle_above(now, to, payload, by, out));
        let result = result.unwrap_or(Err(Unroutable::Unknown));
        if result.is_err() {
            self.flights.pop();
        }
        result
    }

    /// Looks for a node by a prefix of its address.
    pub fn find(&mut self, from: usize, prefix: Prefix, plane: Plane) {
        let (now, by) = (self.now, Constraint::in_plane(plane));
        self.act(from, |router, out| router.find(now, prefix, &by, out));
    }

    /// Asks for a random node.
    pub fn sample(&mut self, from: usize, plane: Plane) {
        let (now, by) = (self.now, Constraint::in_plane(plane));
        self.act(from, |router, out| router.sample(now, &by, out));
    }

    /// Hands `frame` to `node` as if the neighbour `from` had sent it over a link of `family`.
    pub fn inject(
        &mut self,
        node: usize,
        from: usize,
        family: Family,
        frame: Bytes,
    ) -> Result<(), FrameError> {
        let (now, hop) = (self.now, self.hop(from, family));
        let result = self.act(node, |router, out| router.handle_below(now, hop, frame, out));
        result.unwrap_or(Ok(()))
    }

    /// The record that a node vouches for has another digest now.
    pub fn set_digest(&mut self, node: usize, digest: [u8; 32]) {
        let now = self.now;
        self.act(node, |router, out| router.set_digest(now, digest, out));
    }

    // --- what came of it -------------------------------------------------------------------------------------

    /// What became of a payload.
    pub fn flight(&self, number: u64) -> &Flight {
        &self.flights[number as usize]
    }

    /// Answers that a node got and nobody has taken yet.
    pub fn take_found(&mut self, node: usize) -> Vec<Found> {
        std::mem::take(&mut self.places[node].found)
    }

    /// The answers that [`World::take_found`] would take.
    pub fn found(&self, node: usize) -> &[Found] {
        &self.places[node].found
    }

    /// Bytes of the longest frame so far.
    pub fn longest_frame(&self) -> usize {
        self.longest_frame
    }

    /// Payloads of a node that turned out to have no way, and nobody has taken yet.
    pub fn take_unroutable(&mut self, node: usize) -> Vec<(To, Unroutable)> {
        std::mem::take(&mut self.places[node].unroutable)
    }

    /// Frames that came to a node so far.
    pub fn frames_in(&self, node: usize) -> u64 {
        self.places[node].frames_in
    }

    /// Bytes of frames that a node has sent so far.
    pub fn bytes_out(&self, node: usize) -> u64 {
        self.places[node].sent.iter().map(|tally| tally.bytes).sum()
    }

    /// Frames that a node has sent so far and whose first byte is `kind`; those of 15 and more are counted together.
    pub fn sent(&self, node: usize, kind: u8) -> Tally {
        self.places[node].sent[usize::from(kind).min(KINDS - 1)]
    }

    /// The same for all nodes together.
    pub fn sent_by_all(&self, kind: u8) -> Tally {
        (0..self.len()).map(|node| self.sent(node, kind)).fold(Tally::default(), |sum, tally| Tally {
            frames: sum.frames + tally.frames,
            bytes: sum.bytes + tally.bytes,
        })
    }

    /// Frames that a node refused, by reason.
    pub fn errors(&self, node: usize) -> &BTreeMap<String, u64> {
        &self.places[node].errors
    }

    /// Keeps a copy of every frame from now on.
    pub fn record(&mut self) {
        self.recorded = Some(Vec::new());
    }

    /// Frames since [`World::record`]: those that carried a payload of the test, or all others.
    pub fn take_recorded(&mut self, payloads: bool) -> Vec<Recorded> {
        let mut recorded = self.recorded.take().unwrap_or_default();
        recorded.retain(|recorded| flight::read(&recorded.frame).is_some() == payloads);
        recorded
    }

    /// Rules that every router must keep: no frame outside its plane, nothing to a hop that is down, nothing to a stranger,
    /// no copy that the links did not make, timers that come to rest.
    pub fn verdict(&self) -> Result<(), String> {
        match self.broken.first() {
            None => Ok(()),
            Some(first) => Err(format!("seed {}: {first} ({} such faults)", self.seed, self.broken.len())),
        }
    }

    // --- time ------------------------------------------------------------------------------------------------

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
            // Not after each event, for what is asked may be costly; not seldom, for the answer is a time.
            let pause = self.now + Duration::from_millis(1);
            while self.step(pause) {}
            let next = self.queue.next().map_or(until, |at| self.start + Duration::from_nanos(at));
            self.now = next.min(pause + Duration::from_millis(9)).max(pause).min(until);
        }
    }
}
