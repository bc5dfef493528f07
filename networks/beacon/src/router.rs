//! A full node: knows a way to every node, and passes on what it hears.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Addr, Entropy, Prefix};
use byway_network::{
    Action, Constraint, Cost, Family, Found, FrameError, HOP_LIMIT, Hop, Outbox, Plane, Route, Setup, To,
    Unroutable,
};

use crate::asks::{Ask, Asks};
use crate::claim::{Claim, Own, PERIOD_MAX, Seq};
use crate::frame::{self, Advert, BEACON_SIZE, DATA_OVERHEAD, Frame, Lost};
use crate::limit::Allowance;
use crate::neighbour::{Neighbour, Role, Table};
use crate::way::{Change, Copy, Way, round_up};
use crate::{PAYLOAD_MAX, PERIOD_MIN, anyone, permits, refused_anyway};

mod repair;
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
        }
    }

    pub(crate) fn peer_up(&mut self, now: Instant, hop: Hop, cost: Cost, out: &mut Outbox) {
        if hop.peer == self.own.addr() {
            return;
        }
        // Up again without down: the neighbour may have started anew and have forgotten every way.
        self.part(now, hop, out);
        if self.hops.len() < HOPS_MAX {
            self.hops.insert(hop, Neighbour::new(now, cost));
            self.greet(hop, true, out);
        }
        self.rest(now, out);
    }

    pub(crate) fn peer_cost(&mut self, now: Instant, hop: Hop, cost: Cost, out: &mut Outbox) {
        let Some(neighbour) = self.hops.get_mut(&hop) else { return };
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

    // --- hearing ---------------------------------------------------------------------------------------------

    #[expect(clippy::too_many_arguments, reason = "the fields of one frame")]
    fn carry(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        ttl: u8,
        target: Addr,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if target == self.own.addr() {
            out.push(Action::Deliver { plane, payload: bytes.slice(DATA_OVERHEAD..), back: None });
            return Ok(());
        }
        if ttl == 1 {
            return Err(FrameError::HopLimit);
        }
        let next = self.way_of(plane, target).and_then(Way::via).filter(|next| next.peer != hop.peer);
        let Some(next) = next else {
            self.complain_to(now, hop, plane, target, out);
            return Err(FrameError::NoWay);
        };
        out.send(next, frame::with_ttl(bytes, ttl - 1));
        Ok(())
    }

    fn hear_beacon(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        advert: Advert,
        claim: Claim,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if let Some(neighbour) = self.hops.get_mut(&hop)
            && neighbour.role == Role::Unknown
        {
            neighbour.role = Role::Full;
        }
        if advert.hops >= HOP_LIMIT {
            return Err(FrameError::HopLimit);
        }
        if claim.addr == self.own.addr() {
            return self.hear_echo(now, hop, &claim);
        }
        if self.is_stale(plane, &claim) || advert.left.is_zero() {
            return Ok(());
        }
        let claim = self.believe(now, hop, claim, advert.hops == 0)?;
        if let Some(claim) = claim {
            self.offer(now, hop, plane, advert, &claim, out);
        }
        Ok(())
    }

    fn hear_hello(
        &mut self,
        now: Instant,
        hop: Hop,
        leaf: bool,
        answer: bool,
        claim: Claim,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if claim.addr != hop.peer {
            return Err(FrameError::Forged);
        }
        // What an old claim says is no news, but the greeting itself came just now, over an authenticated link.
        let claim = self.believe(now, hop, claim, true)?;
        let Some(neighbour) = self.hops.get_mut(&hop) else { return Err(FrameError::NotUp) };
        let first = neighbour.greeting.take().is_some();
        neighbour.role = if leaf { Role::Leaf } else { Role::Full };
        if answer && !leaf {
            neighbour.wants_table(now);
        }
        if answer {
            self.greet(hop, false, out);
        }
        if let Some(claim) = claim {
            let advert = Advert { hops: 0, cost: Cost::ZERO, left: claim.life() };
            for plane in Plane::ALL.into_iter().filter(|plane| plane.has(hop.family)) {
                self.offer(now, hop, plane, advert, &claim, out);
            }
        }
        if first && !leaf {
            self.hurry(now);
        }
        Ok(())
    }

    /// Our own claim came back. One that we did not just make shows that this start's number is too low.
    fn hear_echo(&mut self, now: Instant, hop: Hop, claim: &Claim) -> Result<(), FrameError> {
        if claim.seq < self.own.claim().seq || claim.bytes == self.own.claim().bytes {
            return Ok(());
        }
        self.check(now, hop, claim)?;
        if self.own.outbid(claim, self.period) {
            self.hurry(now);
        }
        Ok(())
    }

    fn hear_ask(&mut self, now: Instant, hop: Hop, plane: Plane, prefix: Prefix, out: &mut Outbox) {
        let own = || prefix.matches(&self.own.addr()).then(|| self.own.claim());
        let others = || self.matching(prefix, plane).find(|claim| claim.addr != hop.peer);
        match others().or_else(own) {
            Some(claim) => out.send(hop, Frame::Tell { plane, claim: (**claim).clone() }.emit()),
            None => self.asks.add(now, Ask { hop: Some(hop), plane, prefix }),
        }
    }

    // --- believing -------------------------------------------------------------------------------------------

    /// Checks a claim unless just that one has been checked before, and makes room for the node. `None`: there is no room.
    fn believe(
        &mut self,
        now: Instant,
        hop: Hop,
        claim: Claim,
        neighbour: bool,
    ) -> Result<Option<Arc<Claim>>, FrameError> {
        if let Some(node) = self.nodes.get(&claim.addr) {
            let known = node.ways.iter().flatten().map(Way::claim).chain([&node.newest]);
            if let Some(same) = known.into_iter().find(|known| known.bytes == claim.bytes) {
                return Ok(Some(same.clone()));
            }
            self.check(now, hop, &claim)?;
            let claim = Arc::new(claim);
            let Some(node) = self.nodes.get_mut(&claim.addr) else { return Ok(None) };
            if node.newest.seq < claim.seq {
                // Not the neighbour's fault: it, too, believed that node.
                if !node.news.take(now, NEWS_PAUSE) {
                    return Ok(None);
                }
                node.newest = claim.clone();
            }
            return Ok(Some(claim));
        }
        let introduced = self.nodes.values().filter(|node| node.introduced_by == hop).count();
        let may = |neighbour: &mut Neighbour| neighbour.may_introduce(now);
        if introduced >= NODES_PER_HOP || !self.hops.get_mut(&hop).is_some_and(may) {
            return Err(FrameError::Excess);
        }
        self.check(now, hop, &claim)?;
        if self.nodes.len() >= NODES_MAX && !self.make_room(neighbour) {
            return Ok(None);
        }
        let newest = Arc::new(claim);
        let node = Node {
            newest: newest.clone(),
            introduced_by: hop,
            news: Allowance::new(now, NEWS),
            ways: [const { None }; 4],
        };
        self.nodes.insert(newest.addr, node);
        if self.hops.get(&hop).is_some_and(|neighbour| neighbour.role == Role::Full) {
            self.speak_at = self.speak_at.min(now.max(self.spoke + self.period / 4));
        }
        Ok(Some(newest))
    }

    /// Whether a newer claim is known than this one, be it from another plane; only more copies of the claim in use still help.
    fn is_stale(&self, plane: Plane, claim: &Claim) -> bool {
        let in_use = |way: &Way| way.claim().seq == claim.seq;
        self.nodes.get(&claim.addr).is_some_and(|node| node.newest.seq > claim.seq)
            && !self.way_of(plane, claim.addr).is_some_and(in_use)
    }

    fn check(&mut self, now: Instant, hop: Hop, claim: &Claim) -> Result<(), FrameError> {
        if !self.hops.get_mut(&hop).is_some_and(|neighbour| neighbour.may_be_checked(now)) {
            return Err(FrameError::Excess);
        }
        if claim.is_genuine(self.own.network()) { Ok(()) } else { Err(FrameError::Forged) }
    }

    /// Forgets a node that has no way; for a neighbour, at need one of those that came from the hop which brought most.
    fn make_room(&mut self, for_neighbour: bool) -> bool {
        let is_lost = |node: &Node| node.ways.iter().flatten().all(|way| way.via().is_none());
        let mut victim = self.nodes.iter().find(|(_, node)| is_lost(node)).map(|(addr, _)| *addr);
        if victim.is_none() && for_neighbour {
            let mut brought = BTreeMap::<Hop, (usize, Addr)>::new();
            for (addr, node) in &self.nodes {
                if node.introduced_by.peer != *addr {
                    brought.entry(node.introduced_by).or_insert((0, *addr)).0 += 1;
                }
            }
            victim = brought.values().max().map(|(_, addr)| *addr);
        }
        victim.is_some_and(|addr| self.nodes.remove(&addr).is_some())
    }

    fn offer(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        advert: Advert,
        claim: &Arc<Claim>,
        out: &mut Outbox,
    ) {
        let Some(link) = self.hops.get(&hop).map(|neighbour| neighbour.link) else { return };
        let copy = Copy { hop, advert, total: advert.cost.plus(link) };
        if round_up(copy.total) < copy.total {
            return; // More than the wire form can tell others: as good as no way.
        }
        if self.is_stale(plane, claim) {
            return;
        }
        let Some(node) = self.nodes.get_mut(&claim.addr) else { return };
        let change = match &mut node.ways[usize::from(plane.byte())] {
            Some(way) => way.offer(now, claim, copy),
            way => {
                *way = Some(Way::new(now, claim.clone(), copy));
                Change::Gained
            }
        };
        self.act(now, plane, claim.addr, change, out);
    }

    // --- telling ---------------------------------------------------------------------------------------------

    /// Tells others what changed on the way to `addr`.
    fn act(&mut self, now: Instant, plane: Plane, addr: Addr, change: Change, out: &mut Outbox) {
        match change {
            Change::None => {}
            Change::Lost => self.complain(now, &[(plane, addr)], None, out),
            Change::Gained => {
                let Some(way) = self.way(plane, addr) else { return };
                let (Some(via), Some(advert)) = (way.via(), way.announce(now)) else { return };
                let claim = way.claim().clone();
                let beacon = Frame::Beacon { plane, advert, claim: (*claim).clone() }.emit();
                if advert.hops < HOP_LIMIT && !advert.left.is_zero() {
                    for hop in self.full_hops(plane).filter(|hop| hop.peer != via.peer && hop.peer != addr) {
                        out.send(hop, beacon.clone());
                    }
                }
                for Ask { hop, prefix, .. } in self.asks.take(now, plane, addr) {
                    match hop {
                        Some(hop) => out.send(hop, Frame::Tell { plane, claim: (*claim).clone() }.emit()),
                        None => out.push(found(prefix, &claim)),
                    }
                }
            }
        }
    }

    fn greet(&self, hop: Hop, answer: bool, out: &mut Outbox) {
        let claim = (**self.own.claim()).clone();
        out.send(hop, Frame::Hello { leaf: false, answer, claim }.emit());
    }

    /// Makes an own beacon due soon, out of turn.
    fn hurry(&mut self, now: Instant) {
        let at = self.hurried.ready(now, self.hurried_pause()).max(self.spoke + BREATH);
        self.speak_at = self.speak_at.min(at);
    }

    fn hurried_pause(&self) -> Duration {
        (self.period / 4).min(HURRIED_PAUSE_MAX)
    }

    /// Sends a new own beacon to everyone.
    fn speak(&mut self, now: Instant, out: &mut Outbox) {
        if now < self.spoke + self.period / 2 {
            self.hurried.take(now, self.hurried_pause());
        }
        self.period = self.period_now();
        self.own.renew(self.period);
        self.spoke = now;
        // Up to a tenth early, so that nodes that started together do not speak together for ever.
        let early = self.entropy.below(self.period.as_millis() as u64 / 10 + 1);
        self.speak_at = now + self.period - Duration::from_millis(early);
        for (hop, neighbour) in &self.hops {
            match neighbour.role {
                Role::Full => {
                    for plane in Plane::ALL.into_iter().filter(|plane| plane.has(hop.family)) {
                        out.send(*hop, self.own_beacon(plane));
                    }
                }
                Role::Leaf => self.greet(*hop, false, out),
                Role::Unknown => {}
            }
        }
    }

    fn own_beacon(&self, plane: Plane) -> Bytes {
        let claim = (**self.own.claim()).clone();
        let advert = Advert { hops: 0, cost: Cost::ZERO, left: claim.life() };
        Frame::Beacon { plane, advert, claim }.emit()
    }

    /// The time between two own beacons that keeps all that this node sends and passes on within the budget.
    fn period_now(&self) -> Duration {
        let full = || self.hops.iter().filter(|(_, neighbour)| neighbour.role == Role::Full);
        let peers = full().count().max(1) as u64;
        let outside =
            |plane: &Plane| full().any(|(hop, _)| hop.family != Family::Loopback && plane.has(hop.family));
        let planes = Plane::ALL.iter().filter(|plane| outside(plane)).count().max(1) as u64;
        let bytes = (self.nodes.len() as u64 + 1) * peers * planes * BEACON_SIZE;
        Duration::from_millis(bytes * 1_000 / self.budget).clamp(PERIOD_MIN, PERIOD_MAX)
    }

    fn send_portion(&mut self, now: Instant, hop: Hop, table: Table, out: &mut Outbox) {
        let after = table.after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let portion = self.nodes.range_mut((after, std::ops::Bound::Unbounded)).take(PORTION);
        let mut last = None;
        let mut count = 0;
        for (addr, node) in portion {
            last = Some(*addr);
            count += 1;
            for plane in Plane::ALL.into_iter().filter(|plane| plane.has(hop.family)) {
                if let Some(way) = &mut node.ways[usize::from(plane.byte())]
                    && *addr != hop.peer
                    && way.via().is_some_and(|via| via.peer != hop.peer)
                    && let Some(advert) = way.announce(now)
                    && advert.hops < HOP_LIMIT
                {
                    out.send(hop, Frame::Beacon { plane, advert, claim: (**way.claim()).clone() }.emit());
                }
            }
        }
        if let Some(neighbour) = self.hops.get_mut(&hop) {
            let more = count == PORTION;
            neighbour.table = more.then_some(Table { at: now + PORTION_PAUSE, after: last });
        }
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
        let ways = self.nodes.values().flat_map(|node| node.ways.iter().flatten());
        let of_ways = ways.flat_map(|way| [Some(way.expires()), way.due(), way.retry.map(|(at, _)| at)]);
        let of_hops = self.hops.values().flat_map(|neighbour| {
            [neighbour.greeting.map(|greeting| greeting.at()), neighbour.table.map(|table| table.at)]
        });
        let own = [Some(self.speak_at), self.asks.due()];
        self.wake = of_ways.chain(of_hops).chain(own).flatten().min();
    }

    fn expire(&mut self, now: Instant) {
        self.nodes.retain(|_, node| {
            for way in &mut node.ways {
                if way.as_ref().is_some_and(|way| way.expires() <= now) {
                    *way = None;
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
