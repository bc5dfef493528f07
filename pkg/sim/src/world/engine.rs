//! What makes a world go: events, calls into routers, and frames on links.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{SeededEntropy, SigningKey};
use byway_network::{Action, Hop, Network, Outbox, Setup};

use crate::flight;
use crate::world::{KINDS, Place, Recorded, Tally, Timers, World};

/// Something that is going to happen.
pub(super) enum Event {
    /// A frame comes to the end `side` of a link.
    Arrive {
        link: u32,
        side: u8,
        age: u32,
        flight: Option<u32>,
        frame: Bytes,
    },
    Wake {
        node: u32,
    },
    TellDown {
        link: u32,
        end: u32,
        age: u32,
    },
    TellUp {
        link: u32,
        end: u32,
        age: u32,
    },
}

impl<N: Network + ?Sized> World<N> {
    pub(super) fn schedule(&mut self, at: Instant, event: Event) {
        self.queue.push(nanos(at - self.start), event);
    }

    /// Lets the next event happen, if it is due by `until`.
    pub(super) fn step(&mut self, until: Instant) -> bool {
        let Some((at, event)) = self.queue.pop(nanos(until - self.start)) else { return false };
        self.now = self.now.max(self.start + Duration::from_nanos(at));
        self.happened += 1;
        self.happen(event);
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { link: number, side, age, flight, frame } => {
                let link = &self.links[number as usize];
                let side = usize::from(side);
                if link.cut || link.age != age || !link.told[side] {
                    return;
                }
                let (at, from, wire) = (link.ends[side] as usize, link.ends[1 - side] as usize, link.wire);
                self.places[at].frames_in += 1;
                if let Some(flight) = flight.and_then(|number| self.flights.get_mut(number as usize)) {
                    flight.visit(at, wire.latency);
                }
                if let Err(error) = self.inject(at, from, wire.class.family(), frame) {
                    *self.places[at].errors.entry(error.to_string()).or_default() += 1;
                }
            }
            Event::Wake { node } => self.wake(node as usize),
            Event::TellDown { link, end, age } => {
                if self.links[link as usize].age == age {
                    self.tell_down(link, end as usize);
                }
            }
            Event::TellUp { link, end, age } => {
                let it = &self.links[link as usize];
                if it.age == age && !it.cut {
                    self.tell_up(link, end as usize);
                }
            }
        }
    }

    fn wake(&mut self, node: usize) {
        let now = self.now;
        // A wake that has been overtaken by an earlier one.
        if self.places[node].woken_for.is_none_or(|at| at > nanos(now - self.start)) {
            return;
        }
        self.places[node].woken_for = None;
        let next = |place: &Place<N>| place.router.as_ref().and_then(|router| router.next_heartbeat());
        if self.timers == Timers::Exact && next(&self.places[node]).is_none_or(|next| next > now) {
            // It has thought better of it meanwhile.
            self.plan_heartbeat(node);
            return;
        }
        self.act(node, |router, out| router.heartbeat(now, out));
        if self.timers == Timers::Eager {
            self.act(node, |router, out| router.heartbeat(now, out));
        }
        if next(&self.places[node]).is_some_and(|next| next <= now) {
            self.broken.push(format!("node {node} wants another heartbeat right after one"));
            self.places[node].woken_for = None;
            self.schedule(now + Duration::from_millis(1), Event::Wake { node: node as u32 });
        }
    }

    pub(super) fn add_node(&mut self, leaf: bool) -> usize {
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
            links: Vec::new(),
            found: Vec::new(),
            unroutable: Vec::new(),
            frames_in: 0,
            sent: [Tally::default(); KINDS],
            errors: BTreeMap::new(),
            woken_for: None,
        });
        self.make_router(number);
        number
    }

    pub(super) fn make_router(&mut self, node: usize) {
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
    pub(super) fn act<R>(&mut self, node: usize, call: impl FnOnce(&mut N, &mut Outbox) -> R) -> Option<R> {
        let now = self.now;
        let router = self.places[node].router.as_deref_mut()?;
        let mut out = std::mem::take(&mut self.outbox);
        let result = call(router, &mut out);
        if self.timers == Timers::Eager {
            router.heartbeat(now, &mut out);
        }
        for action in out.drain() {
            self.carry_out(node, action);
        }
        self.outbox = out;
        self.plan_heartbeat(node);
        Some(result)
    }

    /// Plans the heartbeat that a router wants next, unless an earlier one is planned.
    pub(super) fn plan_heartbeat(&mut self, node: usize) {
        let next = self.places[node].router.as_ref().and_then(|router| router.next_heartbeat());
        let Some(next) = next else { return };
        let late = match self.timers {
            Timers::Late(late) => late,
            Timers::Exact | Timers::Eager => Duration::ZERO,
        };
        let at = nanos(next.max(self.now) + late - self.start);
        if self.places[node].woken_for.is_none_or(|woken| woken > at) {
            self.places[node].woken_for = Some(at);
            self.queue.push(at, Event::Wake { node: node as u32 });
        }
    }

    fn carry_out(&mut self, node: usize, action: Action) {
        match action {
            Action::Send { hop, frame } => self.transmit(node, hop, frame),
            Action::Deliver { plane, payload, .. } => {
                let Some((number, sent_in)) = flight::read(&payload) else { return };
                let Some(flight) = self.flights.get_mut(number as usize) else { return };
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

    fn transmit(&mut self, node: usize, hop: Hop, frame: Bytes) {
        let link = self.link_to(node, hop).filter(|number| self.links[*number as usize].is_told(node));
        let Some(number) = link else {
            self.broken.push(format!("node {node} sends to a hop that is not up"));
            return;
        };
        let link = &mut self.links[number as usize];
        let (wire, age, side) = (link.wire, link.age, 1 - link.side(node));
        let kind = frame.first().map_or(0, |kind| usize::from(*kind)).min(KINDS - 1);
        let tally = &mut self.places[node].sent[kind];
        tally.frames += 1;
        tally.bytes += frame.len() as u64;
        self.longest_frame = self.longest_frame.max(frame.len());
        if let Some(recorded) = &mut self.recorded {
            let to = link.ends[side] as usize;
            let (at, frame) = (self.now - self.start, frame.clone());
            recorded.push(Recorded { to, from: node, family: hop.family, frame, at, lost: false });
        }
        // Nothing carries a flight where there is none.
        let carried = if self.flights.is_empty() { None } else { flight::read(&frame) };
        if let Some((number, plane)) = carried {
            if !plane.has(wire.class.family()) {
                self.broken.push(format!("payload {number} of plane {plane:?} left over {:?}", wire.class));
            }
            if let Some(flight) = self.flights.get_mut(number as usize) {
                flight.hop();
            }
        }
        if link.cut || link.loses(&mut self.dice) {
            if let Some(last) = self.recorded.as_mut().and_then(|recorded| recorded.last_mut()) {
                last.lost = true;
            }
            return;
        }
        let copies = 1 + usize::from(self.dice.chance(wire.duplicates));
        let flight = carried.and_then(|(number, _)| u32::try_from(number).ok());
        if let Some(flight) = flight.and_then(|number| self.flights.get_mut(number as usize)) {
            flight.copied(copies - 1);
        }
        let mut rest = Some(frame);
        for copy in (0..copies).rev() {
            let jitter = if wire.jitter.is_zero() { Duration::ZERO } else { self.dice.time(wire.jitter) };
            let at = self.now + wire.latency + jitter;
            let frame = if copy == 0 { rest.take() } else { rest.clone() };
            let Some(frame) = frame else { return };
            self.schedule(at, Event::Arrive { link: number, side: side as u8, age, flight, frame });
        }
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
