//! A leaf: a node with a single neighbour, its hub, which does all the knowing.
//!
//! A leaf keeps no table. It says who it is, hands everything to the hub, and asks the hub for keys; what the hub tells of
//! a third node is believed for that node's signature alone. So a process more on a daemon costs that daemon one entry.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::Prefix;
use byway_network::{
    Action, Constraint, Cost, Found, FrameError, Hop, Outbox, Plane, Route, Setup, To, Unroutable,
};

use crate::asks::{Ask, Asks};
use crate::claim::{Claim, Own};
use crate::frame::{self, DATA_OVERHEAD, Frame};
use crate::limit::Allowance;
use crate::neighbour::Greeting;
use crate::picture::Ways;
use crate::{PAYLOAD_MAX, PERIOD_MIN, anyone, permits, refused_anyway};

/// Most hops of a leaf; one is usual, a second one may come up before the first goes down.
const HUBS_MAX: usize = 8;

/// The hub, over one family of links.
#[derive(Debug)]
struct Hub {
    link: Cost,
    greeting: Option<Greeting>,
    claim: Option<Arc<Claim>>,
    checks: Allowance,
}

/// A leaf.
pub(crate) struct Leaf {
    own: Own,
    hubs: BTreeMap<Hop, Hub>,
    asks: Asks,
    period: Duration,
    speak_at: Instant,
    generation: u64,
    picture: OnceCell<Arc<Ways>>,
}

impl Leaf {
    pub(crate) fn new(now: Instant, setup: Setup) -> Self {
        Self {
            own: Own::new(setup.key, setup.network, setup.digest, setup.boot, PERIOD_MIN),
            hubs: BTreeMap::new(),
            asks: Asks::default(),
            period: PERIOD_MIN,
            speak_at: now + PERIOD_MIN,
            generation: 0,
            picture: OnceCell::new(),
        }
    }

    pub(crate) fn peer_up(&mut self, now: Instant, hop: Hop, cost: Cost, out: &mut Outbox) {
        if hop.peer == self.own.addr() || self.hubs.len() >= HUBS_MAX {
            return;
        }
        let hub = Hub {
            link: cost,
            greeting: Some(Greeting::new(now)),
            claim: None,
            checks: Allowance::new(now, 1_024),
        };
        self.hubs.insert(hop, hub);
        self.hubs_changed();
        self.greet(hop, true, out);
        for ask in self.asks.iter().filter(|ask| ask.plane.has(hop.family)) {
            out.send(hop, Frame::Ask { plane: ask.plane, prefix: ask.prefix }.emit());
        }
    }

    pub(crate) fn peer_cost(&mut self, hop: Hop, cost: Cost) {
        if let Some(hub) = self.hubs.get_mut(&hop)
            && hub.link != cost
        {
            hub.link = cost;
            if self.hubs.len() > 1 {
                self.hubs_changed();
            }
        }
    }

    pub(crate) fn peer_down(&mut self, hop: Hop) {
        if self.hubs.remove(&hop).is_some() {
            self.hubs_changed();
        }
    }

    pub(crate) fn handle_above(
        &mut self,
        to: To,
        payload: &Bytes,
        by: &Constraint,
        out: &mut Outbox,
    ) -> Result<(), Unroutable> {
        let To::Node(target) = to else { return Err(Unroutable::Unknown) };
        if payload.len() > PAYLOAD_MAX {
            return Err(Unroutable::TooLong);
        }
        if target == self.own.addr() {
            out.push(Action::Deliver { plane: by.plane, payload: payload.clone(), back: None });
            return Ok(());
        }
        let hop = self.choose(to, by)?;
        out.send(hop, frame::data(by.plane, target, payload));
        Ok(())
    }

    pub(crate) fn handle_below(
        &mut self,
        now: Instant,
        hop: Hop,
        bytes: &Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if !self.hubs.contains_key(&hop) {
            return Err(FrameError::NotUp);
        }
        match Frame::parse(bytes, hop.family)? {
            Frame::Data { plane, target, .. } => {
                if target != self.own.addr() {
                    return Err(FrameError::NoWay);
                }
                out.push(Action::Deliver { plane, payload: bytes.slice(DATA_OVERHEAD..), back: None });
                Ok(())
            }
            Frame::Hello { answer, claim, .. } => self.hear_hello(now, hop, answer, claim, out),
            Frame::Tell { plane, claim } => self.hear_tell(now, hop, plane, &claim, out),
            Frame::Lost { lost, .. } => {
                for entry in lost {
                    let to = To::Node(entry.target);
                    out.push(Action::Unroutable { to, why: Unroutable::Unknown });
                }
                Ok(())
            }
            // A hub that does not know yet that this is a leaf treats it as any neighbour.
            Frame::Beacon { .. } | Frame::Ask { .. } => Ok(()),
        }
    }

    pub(crate) fn find(&mut self, now: Instant, prefix: Prefix, by: &Constraint, out: &mut Outbox) {
        let own = self.own.claim();
        if prefix.addr() == Some(own.addr) {
            out.push(Action::Found(Found { asked: prefix, key: own.key, digest: own.digest }));
        } else if !refused_anyway(by) {
            self.asks.add(now, Ask { hop: None, plane: by.plane, prefix });
            for hop in self.hubs.keys().filter(|hop| by.plane.has(hop.family)) {
                out.send(*hop, Frame::Ask { plane: by.plane, prefix }.emit());
            }
        }
    }

    /// Asks for anyone, and takes whom the hub names.
    pub(crate) fn sample(&mut self, now: Instant, by: &Constraint, out: &mut Outbox) {
        if let Some(anyone) = anyone() {
            self.find(now, anyone, by, out);
        }
    }

    pub(crate) fn set_digest(&mut self, now: Instant, digest: [u8; 32], out: &mut Outbox) {
        self.own.set_digest(digest);
        self.speak(now, out);
    }

    pub(crate) fn heartbeat(&mut self, now: Instant, out: &mut Outbox) {
        self.asks.sweep(now);
        if self.speak_at <= now {
            self.speak(now, out);
        }
        let due: Vec<Hop> = self
            .hubs
            .iter_mut()
            .filter_map(|(hop, hub)| hub.greeting.as_mut()?.is_due(now).then_some(*hop))
            .collect();
        for hop in due {
            self.greet(hop, true, out);
        }
    }

    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        let greetings = self.hubs.values().filter_map(|hub| hub.greeting.map(|greeting| greeting.at()));
        greetings.chain([self.speak_at]).chain(self.asks.due()).min()
    }

    pub(crate) fn next_hop(&self, to: To, by: &Constraint) -> Option<Hop> {
        self.choose(to, by).ok()
    }

    pub(crate) fn routes(&self, limit: usize) -> Vec<Route> {
        let route = |(hop, hub): (&Hop, &Hub)| Route {
            to: hop.peer,
            plane: Plane::Any,
            next: *hop,
            hops: Some(1),
            cost: hub.link,
        };
        self.hubs.iter().map(route).take(limit).collect()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// A leaf carries for no one, so it has no next hop for anybody's frames.
    pub(crate) fn picture(&self) -> Arc<Ways> {
        let hops = || self.hubs.keys().copied().collect();
        let draw = || Arc::new(Ways { own: self.own.addr(), hops: hops(), next: HashMap::new() });
        self.picture.get_or_init(draw).clone()
    }

    pub(crate) fn header(&self, to: To, by: &Constraint) -> Option<(Hop, Bytes)> {
        let To::Node(target) = to else { return None };
        let hop = self.choose(to, by).ok().filter(|_| target != self.own.addr())?;
        Some((hop, frame::data(by.plane, target, &[])))
    }

    fn hubs_changed(&mut self) {
        self.generation += 1;
        self.picture.take();
    }

    fn hear_hello(
        &mut self,
        now: Instant,
        hop: Hop,
        answer: bool,
        claim: Claim,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if claim.addr != hop.peer {
            return Err(FrameError::Forged);
        }
        let Some(hub) = self.hubs.get_mut(&hop) else { return Err(FrameError::NotUp) };
        if hub.claim.as_ref().is_none_or(|known| known.seq < claim.seq) {
            check(now, hub, &self.own, &claim)?;
            self.period = claim.period;
            hub.claim = Some(Arc::new(claim));
        }
        hub.greeting = None;
        if answer {
            self.greet(hop, false, out);
        }
        Ok(())
    }

    fn hear_tell(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        claim: &Claim,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let Some(hub) = self.hubs.get_mut(&hop) else { return Err(FrameError::NotUp) };
        if !self.asks.iter().any(|ask| ask.plane == plane && ask.prefix.matches(&claim.addr)) {
            return Ok(()); // Answered before, or waited for too long.
        }
        check(now, hub, &self.own, claim)?;
        for ask in self.asks.take(now, plane, claim.addr) {
            let found = Found { asked: ask.prefix, key: claim.key, digest: claim.digest };
            out.push(Action::Found(found));
        }
        Ok(())
    }

    fn speak(&mut self, now: Instant, out: &mut Outbox) {
        self.own.renew(self.period);
        self.speak_at = now + self.period;
        for hop in self.hubs.keys() {
            self.greet(*hop, false, out);
        }
    }

    fn greet(&self, hop: Hop, answer: bool, out: &mut Outbox) {
        let claim = (**self.own.claim()).clone();
        out.send(hop, Frame::Hello { leaf: true, answer, claim }.emit());
    }

    fn choose(&self, to: To, by: &Constraint) -> Result<Hop, Unroutable> {
        let To::Node(target) = to else { return Err(Unroutable::Unknown) };
        if refused_anyway(by) {
            return Err(Unroutable::Constraint);
        }
        let hubs = || self.hubs.iter().filter(|(hop, _)| by.plane.has(hop.family));
        let permitted = hubs().filter(|(hop, _)| permits(by, **hop, target));
        let best = permitted.min_by_key(|(hop, hub)| (hub.link, **hop)).map(|(hop, _)| *hop);
        let none = if self.hubs.is_empty() { Unroutable::Unknown } else { Unroutable::Constraint };
        best.ok_or(none)
    }
}

fn check(now: Instant, hub: &mut Hub, own: &Own, claim: &Claim) -> Result<(), FrameError> {
    if !hub.checks.take(now, Duration::from_millis(2)) {
        return Err(FrameError::Excess);
    }
    if claim.is_genuine(own.network()) { Ok(()) } else { Err(FrameError::Forged) }
}
