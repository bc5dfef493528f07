//! Routers, links between them, and a clock that jumps from event to event.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Addr, Prefix, SeededEntropy, SigningKey};
use byway_network::{
    Action, Class, Constraint, Family, Found, FrameError, Hop, Network, NetworkId, Outbox, Plane, Setup, To,
    Unroutable,
};

use crate::flight::{self, Flight};
use crate::{Dice, Topology, Wire};

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
struct Place {
    key: SigningKey,
    addr: Addr,
    leaf: bool,
    router: Option<Box<dyn Network>>,
    boot: u64,
    found: Vec<Found>,
    unroutable: Vec<(To, Unroutable)>,
    frames_in: u64,
    bytes_out: u64,
    errors: BTreeMap<String, u64>,
    woken_for: Option<Instant>,
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
}

/// A link: what it does, whether it carries, and what each end has been told.
struct Link {
    wire: Wire,
    cut: bool,
    told: BTreeSet<usize>,
    /// Grows when the link is cut, so that what is under way is lost.
    age: u64,
}

type LinkKey = (usize, usize, Family);

enum Event {
    Arrive { at: usize, from: usize, family: Family, age: u64, frame: Bytes },
    Wake { node: usize },
    TellDown { link: LinkKey, end: usize, age: u64 },
    TellUp { link: LinkKey, end: usize, age: u64 },
}

/// A world of routers in virtual time. Everything that happens follows from the seed and the calls.
pub struct World {
    seed: u64,
    start: Instant,
    now: Instant,
    dice: Dice,
    factory: Factory,
    network: NetworkId,
    places: Vec<Place>,
    numbers: BTreeMap<Addr, usize>,
    links: BTreeMap<LinkKey, Link>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    flights: BTreeMap<u64, Flight>,
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

impl World {
    /// A world without nodes.
    pub fn new(seed: u64, factory: Factory) -> Self {
        let start = Instant::now();
        Self {
            seed,
            start,
            now: start,
            dice: Dice::new(seed),
            factory,
            network: NetworkId::new("simulation", None),
            places: Vec::new(),
            numbers: BTreeMap::new(),
            links: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            flights: BTreeMap::new(),
            recorded: None,
            broken: Vec::new(),
            longest_frame: 0,
            detection: Duration::from_secs(1),
            restarts_are_told: true,
            timers: Timers::Exact,
        }
    }

    /// A world of full nodes, linked as `topology` says by links like `wire`.
    pub fn of(seed: u64, factory: Factory, topology: &Topology, wire: Wire) -> Self {
        let mut world = Self::new(seed, factory);
        for _ in 0..topology.nodes {
            world.add();
        }
        for (a, b) in &topology.links {
            world.connect(*a, *b, wire);
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

    /// Links two nodes; both are told at once.
    pub fn connect(&mut self, a: usize, b: usize, wire: Wire) {
        let key = (a.min(b), a.max(b), wire.class.family());
        let link = Link { wire, cut: false, told: BTreeSet::new(), age: 0 };
        self.links.insert(key, link);
        for end in [a, b] {
            self.tell_up(key, end);
        }
    }

    /// Cuts all links between two nodes. Frames are lost from now on; the ends are told when they would notice.
    pub fn cut(&mut self, a: usize, b: usize) {
        for key in self.between(a, b) {
            self.cut_link(key);
        }
    }

    /// Mends all links between two nodes. The ends are told after a handshake's time, if they had noticed the cut.
    pub fn restore(&mut self, a: usize, b: usize) {
        for key in self.between(a, b) {
            self.restore_link(key);
        }
    }

    /// Ends a node without a word.
    pub fn kill(&mut self, node: usize) {
        self.places[node].router = None;
        for key in self.links_of(node) {
            self.cut_link(key);
            if let Some(link) = self.links.get_mut(&key) {
                link.told.remove(&node);
            }
        }
    }

    /// Starts a node again, with its key and nothing else.
    pub fn restart(&mut self, node: usize) {
        self.places[node].boot += 1;
        self.make_router(node);
        for key in self.links_of(node) {
            if self.places[other_end(key, node)].router.is_some() {
                self.restore_link(key);
            }
        }
    }

    /// Whether the node runs.
    pub fn is_alive(&self, node: usize) -> bool {
        self.places[node].router.is_some()
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

    /// The hop by which others know `node` over links of `family`.
    pub fn hop(&self, node: usize, family: Family) -> Hop {
        Hop { peer: self.addr(node), family }
    }

    /// Links that carry now, between nodes that run.
    pub fn open_links(&self) -> impl Iterator<Item = (usize, usize, Class)> {
        self.links.iter().filter_map(|((a, b, _), link)| {
            (!link.cut && self.is_alive(*a) && self.is_alive(*b)).then_some((*a, *b, link.wire.class))
        })
    }

    /// The router of a node.
    ///
    /// # Panics
    ///
    /// When the node is dead.
    pub fn router(&self, node: usize) -> &dyn Network {
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
        let (now, number) = (self.now, self.flights.len() as u64);
        let target = match to {
            To::Node(addr) => self.numbers.get(&addr).copied(),
            To::Back(_) => None,
        };
        // In before the call, for a payload to oneself arrives during it.
        self.flights.insert(number, Flight::new(from, target, by.plane));
        let result = self.act(from, |router, out| router.handle_above(now, to, payload, by, out));
        let result = result.unwrap_or(Err(Unroutable::Unknown));
        if result.is_err() {
            self.flights.remove(&number);
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
        &self.flights[&number]
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
        self.places[node].bytes_out
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
            let next = self.queue.peek().map_or(until, |Reverse((at, _))| *at);
            self.now = next.min(pause + Duration::from_millis(9)).max(pause).min(until);
        }
    }

    fn step(&mut self, until: Instant) -> bool {
        let Some(Reverse((at, number))) = self.queue.peek().copied().filter(|Reverse((at, _))| *at <= until)
        else {
            return false;
        };
        self.queue.pop();
        self.now = self.now.max(at);
        if let Some(event) = self.events.remove(&number) {
            self.happen(event);
        }
        true
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Arrive { at, from, family, age, frame } => {
                let key = (at.min(from), at.max(from), family);
                let link = &self.links[&key];
                if link.cut || link.age != age || !link.told.contains(&at) {
                    return;
                }
                self.places[at].frames_in += 1;
                if let Some(flight) =
                    flight::read(&frame).and_then(|(number, _)| self.flights.get_mut(&number))
                {
                    flight.visit(at);
                }
                if let Err(error) = self.inject(at, from, family, frame) {
                    *self.places[at].errors.entry(error.to_string()).or_default() += 1;
                }
            }
            Event::Wake { node } => {
                if self.places[node].woken_for.is_none_or(|at| at > now) {
                    return;
                }
                self.places[node].woken_for = None;
                self.act(node, |router, out| router.heartbeat(now, out));
                if self.timers == Timers::Eager {
                    self.act(node, |router, out| router.heartbeat(now, out));
                }
                let next = self.places[node].router.as_ref().and_then(|router| router.next_heartbeat());
                if next.is_some_and(|next| next <= now) {
                    self.broken.push(format!("node {node} wants another heartbeat right after one"));
                    self.places[node].woken_for = None;
                    self.schedule(now + Duration::from_millis(1), Event::Wake { node });
                }
            }
            Event::TellDown { link, end, age } => {
                if self.links.get(&link).is_some_and(|link| link.age == age) {
                    self.tell_down(link, end);
                }
            }
            Event::TellUp { link, end, age } => {
                if self.links.get(&link).is_some_and(|link| link.age == age && !link.cut) {
                    self.tell_up(link, end);
                }
            }
        }
    }

    // --- inside ----------------------------------------------------------------------------------------------

    fn add_node(&mut self, leaf: bool) -> usize {
        let number = self.places.len();
        let mut seed = [0; 32];
        seed.copy_from_slice(&self.dice.bytes(32));
        let key = SigningKey::from_seed(&seed);
        let addr = key.public().addr();
        self.numbers.insert(addr, number);
        self.places.push(Place {
            key,
            addr,
            leaf,
            router: None,
            boot: 1,
            found: Vec::new(),
            unroutable: Vec::new(),
            frames_in: 0,
            bytes_out: 0,
            errors: BTreeMap::new(),
            woken_for: None,
        });
        self.make_router(number);
        number
    }

    fn make_router(&mut self, node: usize) {
        let seed = self.dice.seed();
        let place = &mut self.places[node];
        let setup = Setup {
            key: place.key.clone(),
            network: self.network,
            digest: *place.addr.as_bytes(),
            boot: place.boot,
            leaf: place.leaf,
            entropy: Box::new(SeededEntropy::new(seed)),
        };
        place.router = Some((self.factory)(self.now, setup));
        place.woken_for = None;
        self.act(node, |_, _| ());
    }

    /// Calls the router of a node, carries out what it wants, and sees to its next heartbeat.
    fn act<R>(&mut self, node: usize, call: impl FnOnce(&mut dyn Network, &mut Outbox) -> R) -> Option<R> {
        let now = self.now;
        let router = self.places[node].router.as_deref_mut()?;
        let mut out = Outbox::default();
        let result = call(router, &mut out);
        if self.timers == Timers::Eager {
            router.heartbeat(now, &mut out);
        }
        let next = router.next_heartbeat();
        for action in out.drain() {
            self.carry_out(node, action);
        }
        if let Some(next) = next {
            let late = match self.timers {
                Timers::Late(late) => late,
                Timers::Exact | Timers::Eager => Duration::ZERO,
            };
            let at = next.max(now) + late;
            if self.places[node].woken_for.is_none_or(|woken| woken > at) {
                self.places[node].woken_for = Some(at);
                self.schedule(at, Event::Wake { node });
            }
        }
        Some(result)
    }

    fn carry_out(&mut self, node: usize, action: Action) {
        match action {
            Action::Send { hop, frame } => self.transmit(node, hop, &frame),
            Action::Deliver { plane, payload, .. } => {
                let Some((number, sent_in)) = flight::read(&payload) else { return };
                let Some(flight) = self.flights.get_mut(&number) else { return };
                flight.arrive(self.now, node);
                if flight.to() != Some(node) {
                    self.broken.push(format!("payload {number} was delivered to node {node}, a stranger"));
                } else if plane != sent_in {
                    self.broken.push(format!("payload {number} changed from plane {sent_in:?} to {plane:?}"));
                } else if flight.arrivals() > 1 + flight.copies_made_by_links() {
                    self.broken.push(format!("payload {number} was delivered more often than it was sent"));
                }
            }
            Action::Found(found) => {
                if !found.asked.matches(&found.key.addr()) {
                    self.broken.push(format!("node {node} was told of a node that it did not ask for"));
                }
                self.places[node].found.push(found);
            }
            Action::Unroutable { to, why } => self.places[node].unroutable.push((to, why)),
        }
    }

    fn transmit(&mut self, node: usize, hop: Hop, frame: &Bytes) {
        let peer = self.numbers.get(&hop.peer).copied();
        let key = peer.map(|peer| (node.min(peer), node.max(peer), hop.family));
        let link = key.and_then(|key| self.links.get(&key)).filter(|link| link.told.contains(&node));
        let (Some(peer), Some(link)) = (peer, link) else {
            self.broken.push(format!("node {node} sends to a hop that is not up"));
            return;
        };
        let (wire, age, cut) = (link.wire, link.age, link.cut);
        self.places[node].bytes_out += frame.len() as u64;
        self.longest_frame = self.longest_frame.max(frame.len());
        if let Some(recorded) = &mut self.recorded {
            recorded.push(Recorded { to: peer, from: node, family: hop.family, frame: frame.clone() });
        }
        let carried = flight::read(frame);
        if let Some((number, plane)) = carried {
            if !plane.has(wire.class.family()) {
                self.broken.push(format!("payload {number} of plane {plane:?} left over {:?}", wire.class));
            }
            if let Some(flight) = self.flights.get_mut(&number) {
                flight.hop();
            }
        }
        if cut || self.dice.chance(wire.loss) {
            return;
        }
        let copies = 1 + usize::from(self.dice.chance(wire.duplicates));
        if let Some(flight) = carried.and_then(|(number, _)| self.flights.get_mut(&number)) {
            flight.copied(copies - 1);
        }
        for _ in 0..copies {
            let at = self.now + wire.latency + self.dice.time(wire.jitter);
            let frame = frame.clone();
            self.schedule(at, Event::Arrive { at: peer, from: node, family: hop.family, age, frame });
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.next_event += 1;
        self.queue.push(Reverse((at, self.next_event)));
        self.events.insert(self.next_event, event);
    }

    fn between(&self, a: usize, b: usize) -> Vec<LinkKey> {
        let ends = (a.min(b), a.max(b));
        self.links.keys().filter(|(a, b, _)| (*a, *b) == ends).copied().collect()
    }

    fn links_of(&self, node: usize) -> Vec<LinkKey> {
        self.links.keys().filter(|(a, b, _)| *a == node || *b == node).copied().collect()
    }

    fn cut_link(&mut self, key: LinkKey) {
        let at = self.now + self.detection;
        let Some(link) = self.links.get_mut(&key).filter(|link| !link.cut) else { return };
        link.cut = true;
        link.age += 1;
        let age = link.age;
        for end in [key.0, key.1] {
            self.schedule(at, Event::TellDown { link: key, end, age });
        }
    }

    fn restore_link(&mut self, key: LinkKey) {
        let told_again = self.restarts_are_told;
        let now = self.now;
        let Some(link) = self.links.get_mut(&key).filter(|link| link.cut) else { return };
        link.cut = false;
        link.age += 1;
        let (age, told, wire) = (link.age, link.told.clone(), link.wire);
        for end in [key.0, key.1] {
            let at = now + wire.latency * 4;
            if !told.contains(&end) {
                self.schedule(at, Event::TellUp { link: key, end, age });
            } else if told_again && told.len() == 1 {
                // The other end has started anew, and this one's link layer noticed by its handshake.
                self.schedule(at, Event::TellDown { link: key, end, age });
                self.schedule(at, Event::TellUp { link: key, end, age });
            }
        }
    }

    fn tell_up(&mut self, key: LinkKey, end: usize) {
        let hop = self.hop(other_end(key, end), key.2);
        let now = self.now;
        let Some(link) = self.links.get_mut(&key) else { return };
        if self.places[end].router.is_some() && link.told.insert(end) {
            let (class, cost) = (link.wire.class, link.wire.cost());
            self.act(end, |router, out| router.peer_up(now, hop, class, cost, out));
        }
    }

    fn tell_down(&mut self, key: LinkKey, end: usize) {
        let hop = self.hop(other_end(key, end), key.2);
        let now = self.now;
        let Some(link) = self.links.get_mut(&key) else { return };
        if link.told.remove(&end) {
            self.act(end, |router, out| router.peer_down(now, hop, out));
        }
    }
}

fn other_end(key: LinkKey, end: usize) -> usize {
    if key.0 == end { key.1 } else { key.0 }
}
