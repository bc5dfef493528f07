//! A full node: knows a way to every node, and passes on what it hears.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Addr, Entropy, Prefix};
use byway_network::{
    Action, Class, Constraint, Cost, Family, Found, FrameError, HOP_LIMIT, Hop, KnownLink, Map, Outbox,
    Plane, Route, Setup, To, Unroutable,
};

use crate::asks::{Ask, Asks};
use crate::claim::{Claim, Own, PERIOD_MAX, Seq};
use crate::frame::{self, Advert, BEACON_SIZE, DATA_OVERHEAD, Frame, Lost};
use crate::limit::Allowance;
use crate::neighbour::{Neighbour, Role, Table};
use crate::picture::Ways;
use crate::way::{Change, Copy, Way, round_up};
use crate::{PAYLOAD_MAX, PERIOD_MIN, anyone, permits, refused_anyway};

mod hear;
mod repair;
mod tell;
#[cfg(test)]
mod tests;

/// Most nodes that are known at a time.
pub(crate) const NODES_MAX: usize = 1_024;
/// Most of them that one neighbour has introduced.
pub(crate) const NODES_PER_HOP: usize = 512;
/// Most hops.
pub(crate) const HOPS_MAX: usize = 1_024;
/// Nodes in one portion of the table, and the pause between two portions.
const PORTION: usize = 64;
const PORTION_PAUSE: Duration = Duration::from_millis(20);
/// Newer claims of one node: so many at once, then one per pause. An honest node makes no more.
const NEWS: u32 = 8;
const NEWS_PAUSE: Duration = Duration::from_millis(250);
/// Own beacons out of turn: so many at once, then one per quarter of the period, or per two seconds if that is less.
const HURRIED: u32 = 4;
const HURRIED_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Least time between two own beacons.
const BREATH: Duration = Duration::from_millis(50);

/// What is known of one node.
#[derive(Debug)]
struct Node {
    newest: Arc<Claim>,
    introduced_by: Hop,
    /// How often it may have something new to say.
    news: Allowance,
    ways: [Option<Way>; Plane::ALL.len()],
}

/// A full node.
pub(crate) struct Router {
    own: Own,
    budget: u64,
    entropy: Box<dyn Entropy>,
    hops: BTreeMap<Hop, Neighbour>,
    nodes: BTreeMap<Addr, Node>,
    asks: Asks,
    spoke: Instant,
    period: Duration,
    speak_at: Instant,
    hurried: Allowance,
    wake: Option<Instant>,
    /// Whether a next hop, or a neighbour, is another since the picture was made.
    moved: bool,
    generation: u64,
    picture: OnceCell<Arc<Ways>>,
}

impl Router {
    pub(crate) fn new(now: Instant, setup: Setup, budget: u64) -> Self {
        Self {
            own: Own::new(setup.key, setup.network, setup.digest, setup.boot, PERIOD_MIN),
            budget: budget.max(1),
            entropy: setup.entropy,
            hops: BTreeMap::new(),
            nodes: BTreeMap::new(),
            asks: Asks::default(),
            spoke: now,
            period: PERIOD_MIN,
            speak_at: now + PERIOD_MIN,
            hurried: Allowance::new(now, HURRIED),
            wake: None,
            moved: false,
            generation: 0,
            picture: OnceCell::new(),
        }
    }

    pub(crate) fn peer_up(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        if hop.peer == self.own.addr() {
            return;
        }
        // Up again without down: the neighbour may have started anew and have forgotten every way.
        self.part(now, hop, out);
        if self.hops.len() < HOPS_MAX {
            self.hops.insert(hop, Neighbour::new(now, class, cost));
            self.moved = true;
            self.greet(hop, true, out);
        }
        self.rest(now, out);
    }

    pub(crate) fn peer_cost(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        let Some(neighbour) = self.hops.get_mut(&hop) else { return };
        neighbour.class = class;
        neighbour.link = cost.max(Cost::LOOPBACK);
        let link = neighbour.link;
        self.change_ways(now, hop, out, |way| way.reprice(now, hop, link));
        self.rest(now, out);
    }

    pub(crate) fn peer_down(&mut self, now: Instant, hop: Hop, out: &mut Outbox) {
        self.part(now, hop, out);
        self.rest(now, out);
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
        let hop = self.choose(target, by)?;
        out.send(hop, frame::data(by.plane, target, payload));
        Ok(())
    }

    pub(crate) fn handle_below(
        &mut self,
        now: Instant,
        hop: Hop,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if !self.hops.contains_key(&hop) {
            return Err(FrameError::NotUp);
        }
        let result = match Frame::parse(&bytes, hop.family)? {
            Frame::Data { plane, ttl, target } => {
                return self.carry(now, hop, plane, ttl, target, bytes, out);
            }
            Frame::Beacon { plane, advert, claim } => self.hear_beacon(now, hop, plane, advert, claim, out),
            Frame::Hello { leaf, answer, claim } => self.hear_hello(now, hop, leaf, answer, claim, out),
            Frame::Ask { plane, prefix } => {
                self.hear_ask(now, hop, plane, prefix, out);
                Ok(())
            }
            Frame::Lost { plane, lost } => self.hear_lost(now, hop, plane, &lost, out),
            // An answer to a question that a full node never asks.
            Frame::Tell { .. } => Ok(()),
        };
        self.rest(now, out);
        result
    }

    pub(crate) fn find(&mut self, now: Instant, prefix: Prefix, by: &Constraint, out: &mut Outbox) {
        let satisfies = |addr: &Addr| self.choose(*addr, by).is_ok();
        let known = self.matching(prefix, by.plane).find(|claim| satisfies(&claim.addr)).cloned();
        let own = || prefix.matches(&self.own.addr()).then(|| self.own.claim().clone());
        match known.or_else(own) {
            Some(claim) => out.push(found(prefix, &claim)),
            None if refused_anyway(by) => {}
            None => self.asks.add(now, Ask { hop: None, plane: by.plane, prefix }),
        }
        self.plan();
    }

    pub(crate) fn sample(&mut self, by: &Constraint, out: &mut Outbox) {
        let Some(anyone) = anyone() else { return };
        let reached = |claim: &&Arc<Claim>| self.choose(claim.addr, by).is_ok();
        let claims: Vec<Arc<Claim>> = self.matching(anyone, by.plane).filter(reached).cloned().collect();
        if let Some(claim) = claims.get(self.entropy.below(claims.len() as u64) as usize) {
            out.push(found(anyone, claim));
        }
    }

    pub(crate) fn set_digest(&mut self, now: Instant, digest: [u8; 32], out: &mut Outbox) {
        self.own.set_digest(digest);
        self.hurry(now);
        self.rest(now, out);
    }

    pub(crate) fn heartbeat(&mut self, now: Instant, out: &mut Outbox) {
        if self.wake.is_some_and(|wake| wake > now) {
            return;
        }
        self.asks.sweep(now);
        self.expire(now);
        let settled = self.all_ways(|_, way| way.due().is_some_and(|due| due <= now));
        for (plane, addr) in settled {
            let change = self.way(plane, addr).map(|way| way.settle(now));
            self.act(now, plane, addr, change.unwrap_or(Change::None), out);
        }
        self.complain_again(now, out);
        let greeted: Vec<Hop> = self
            .hops
            .iter_mut()
            .filter_map(|(hop, neighbour)| neighbour.greeting.as_mut()?.is_due(now).then_some(*hop))
            .collect();
        for hop in greeted {
            self.greet(hop, true, out);
        }
        let tables = |(hop, neighbour): (&Hop, &Neighbour)| {
            Some((*hop, neighbour.table.filter(|table| table.at <= now)?))
        };
        for (hop, table) in self.hops.iter().filter_map(tables).collect::<Vec<_>>() {
            self.send_portion(now, hop, table, out);
        }
        self.rest(now, out);
    }

    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        self.wake
    }

    pub(crate) fn next_hop(&self, to: To, by: &Constraint) -> Option<Hop> {
        let To::Node(target) = to else { return None };
        self.choose(target, by).ok()
    }

    pub(crate) fn routes(&self, limit: usize) -> Vec<Route> {
        let route = |to: Addr, plane: Plane, way: &Way| {
            let copy = way.current()?;
            Some(Route { to, plane, next: copy.hop, hops: Some(copy.advert.hops + 1), cost: copy.total })
        };
        let routes = self.nodes.iter().flat_map(|(addr, node)| {
            Plane::ALL
                .into_iter()
                .zip(&node.ways)
                .filter_map(|(plane, way)| route(*addr, plane, way.as_ref()?))
        });
        routes.take(limit).collect()
    }

    /// The neighbours with their links, and then the nodes further away: who is linked with whom there, no beacon tells.
    pub(crate) fn map(&self, limit: usize) -> Map {
        let own = self.own.addr();
        let peers: BTreeSet<Addr> = self.hops.keys().map(|hop| hop.peer).collect();
        let beyond = self.nodes.keys().filter(|addr| !peers.contains(*addr)).copied();
        let link = |(hop, neighbour): (&Hop, &Neighbour)| KnownLink {
            a: own,
            b: hop.peer,
            class: neighbour.class,
            cost: neighbour.link,
            in_tree: false,
        };
        Map {
            trees: Vec::new(),
            nodes: std::iter::once(own).chain(peers.iter().copied()).chain(beyond).take(limit).collect(),
            links: self.hops.iter().map(link).take(limit).collect(),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn picture(&self) -> Arc<Ways> {
        let draw = || {
            let next = self.nodes.iter().flat_map(|(addr, node)| {
                let ways = Plane::ALL.into_iter().zip(&node.ways);
                ways.filter_map(|(plane, way)| Some(((plane, *addr), way.as_ref()?.via()?)))
            });
            Arc::new(Ways {
                own: self.own.addr(),
                hops: self.hops.keys().copied().collect(),
                next: next.collect(),
            })
        };
        self.picture.get_or_init(draw).clone()
    }

    /// See [`byway_network::Network::header`]. A hop that is chosen for the constraint's sake alone may change unnoticed.
    pub(crate) fn header(&self, to: To, by: &Constraint) -> Option<(Hop, Bytes)> {
        let To::Node(target) = to else { return None };
        let hop = self.choose(target, by).ok()?;
        let via = self.way_of(by.plane, target).and_then(Way::via);
        (target != self.own.addr() && via == Some(hop)).then(|| (hop, frame::data(by.plane, target, &[])))
    }

    // --- keeping ---------------------------------------------------------------------------------------------

    /// What ends every call that may have changed something.
    fn rest(&mut self, now: Instant, out: &mut Outbox) {
        if self.speak_at <= now {
            self.speak(now, out);
        }
        self.plan();
    }

    fn plan(&mut self) {
        let ways = self.nodes.values_mut().flat_map(|node| node.ways.iter_mut().flatten());
        if ways.fold(std::mem::take(&mut self.moved), |moved, way| moved | way.take_moved()) {
            self.generation += 1;
            self.picture.take();
        }
        let ways = self.nodes.values().flat_map(|node| node.ways.iter().flatten());
        let of_ways = ways.flat_map(|way| [Some(way.expires()), way.due(), way.retry.map(|(at, _)| at)]);
        let of_hops = self.hops.values().flat_map(|neighbour| {
            [neighbour.greeting.map(|greeting| greeting.at()), neighbour.table.map(|table| table.at)]
        });
        let own = [Some(self.speak_at), self.asks.due()];
        self.wake = of_ways.chain(of_hops).chain(own).flatten().min();
    }

    fn expire(&mut self, now: Instant) {
        let moved = &mut self.moved;
        self.nodes.retain(|_, node| {
            for way in &mut node.ways {
                if let Some(gone) = way.take_if(|way| way.expires() <= now) {
                    *moved |= gone.via().is_some();
                }
            }
            node.ways.iter().any(Option::is_some)
        });
    }

    // --- looking up ------------------------------------------------------------------------------------------

    fn way(&mut self, plane: Plane, addr: Addr) -> Option<&mut Way> {
        self.nodes.get_mut(&addr)?.ways[usize::from(plane.byte())].as_mut()
    }

    fn way_of(&self, plane: Plane, addr: Addr) -> Option<&Way> {
        self.nodes.get(&addr)?.ways[usize::from(plane.byte())].as_ref()
    }

    fn all_ways(&self, wanted: impl Fn(Addr, &Way) -> bool) -> Vec<(Plane, Addr)> {
        let all = self.nodes.iter().flat_map(|(addr, node)| {
            Plane::ALL
                .into_iter()
                .zip(&node.ways)
                .filter_map(|(plane, way)| Some((plane, *addr, way.as_ref()?)))
        });
        all.filter(|(_, addr, way)| wanted(*addr, way)).map(|(plane, addr, _)| (plane, addr)).collect()
    }

    fn full_hops(&self, plane: Plane) -> impl Iterator<Item = Hop> {
        let full = move |(hop, neighbour): (&Hop, &Neighbour)| {
            (neighbour.role == Role::Full && plane.has(hop.family)).then_some(*hop)
        };
        self.hops.iter().filter_map(full)
    }

    /// Claims of the nodes that begin with `prefix` and can be reached in `plane`.
    fn matching(&self, prefix: Prefix, plane: Plane) -> impl Iterator<Item = &Arc<Claim>> {
        let from = Addr::from_bytes(*prefix.as_bytes());
        let beginning = self.nodes.range(from..).take_while(move |(addr, _)| prefix.matches(addr));
        beginning.filter_map(move |(_, node)| {
            let way = node.ways[usize::from(plane.byte())].as_ref()?;
            way.via().map(|_| way.claim())
        })
    }

    /// The hop for a payload to `target`: the one in use, or the cheapest other one that satisfies `by`.
    fn choose(&self, target: Addr, by: &Constraint) -> Result<Hop, Unroutable> {
        if refused_anyway(by) {
            return Err(Unroutable::Constraint);
        }
        let node = self.nodes.get(&target).ok_or(Unroutable::Unknown)?;
        let Some(way) = node.ways[usize::from(by.plane.byte())].as_ref().filter(|way| way.via().is_some())
        else {
            let elsewhere = node.ways.iter().flatten().any(|way| way.via().is_some());
            return Err(if elsewhere { Unroutable::Constraint } else { Unroutable::Unknown });
        };
        if let Some(via) = way.via().filter(|via| permits(by, *via, target)) {
            return Ok(via);
        }
        let permitted = way.usable().filter(|copy| permits(by, copy.hop, target));
        permitted.min_by_key(|copy| copy.total).map(|copy| copy.hop).ok_or(Unroutable::Constraint)
    }
}

fn found(asked: Prefix, claim: &Claim) -> Action {
    Action::Found(Found { asked, key: claim.key, digest: claim.digest })
}
