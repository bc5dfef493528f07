//! What the local node wants carried.

use byway_identity::Prefix;
use byway_network::{Action, ClassSet, Unroutable};

use super::*;
use crate::packet::OVERHEAD;
use crate::paths::Path;
use crate::seek::{Question, Waiter};
use crate::steer::Goal;

/// Longest payload: what is left of the largest frame that a link carries.
const PAYLOAD_MAX: usize = 65_535 - OVERHEAD;
/// A location that is in use is asked for anew after this time.
const REFRESH: Duration = Duration::from_secs(60);

/// What to do with a payload for a node.
enum Way {
    Direct(Hop),
    Path(Vec<u16>),
    Place(Coords),
    Ask,
}

impl Router {
    pub(crate) fn handle_above(
        &mut self,
        now: Instant,
        to: To,
        payload: &Bytes,
        by: &Constraint,
        out: &mut Outbox,
    ) -> Result<(), Unroutable> {
        if payload.len() > PAYLOAD_MAX {
            return Err(Unroutable::TooLong);
        }
        let result = match to {
            To::Node(addr) if addr == self.own.addr => {
                out.push(Action::Deliver { plane: by.plane, payload: payload.clone(), back: None });
                return Ok(());
            }
            To::Node(addr) => self.carry(now, addr, payload, by, true, out),
            To::Back(path) => self.carry_back(path, payload, by, out),
        };
        self.rest(now, out);
        result
    }

    fn carry_back(
        &mut self,
        path: PathId,
        payload: &Bytes,
        by: &Constraint,
        out: &mut Outbox,
    ) -> Result<(), Unroutable> {
        let (plane, way) = self.backs.get(path).ok_or(Unroutable::Unknown)?;
        let plain = by.at_least.is_empty() && by.avoid.is_empty() && by.disjoint_from.is_empty();
        if plane != by.plane || !plain || by.relays > 0 {
            return Err(Unroutable::Constraint);
        }
        let Some((hop, frame)) = self.start_routed(plane, way, [0; 4], payload) else {
            self.backs.forget(path);
            return Err(Unroutable::Unknown);
        };
        if !self.first_hops(by).has(hop.family) {
            return Err(Unroutable::Constraint);
        }
        out.send(hop, frame);
        Ok(())
    }

    /// Sends a payload to a node, or asks where it is; `may_wait` says whether the payload may wait for the answer.
    pub(super) fn carry(
        &mut self,
        now: Instant,
        addr: Addr,
        payload: &Bytes,
        by: &Constraint,
        may_wait: bool,
        out: &mut Outbox,
    ) -> Result<(), Unroutable> {
        let way = self.way(&addr, by);
        if let Some(remote) = self.remotes.get_mut(&addr, by.plane) {
            remote.used = now;
            remote.sent = remote.sent.saturating_add(1);
        }
        self.mind_remote(now, addr, by.plane, out);
        match way? {
            Way::Direct(hop) => {
                out.send(hop, self.start_direct(by.plane, short_id(&addr), payload));
                return Ok(());
            }
            Way::Path(labels) => {
                let to = short_id(&addr).front();
                if let Some((hop, frame)) = self.start_routed(by.plane, &labels, to, payload) {
                    out.send(hop, frame);
                    return Ok(());
                }
            }
            Way::Place(coords) => {
                if let Some((hop, frame)) = self.start_data(by, short_id(&addr), &coords, payload) {
                    out.send(hop, frame);
                    return Ok(());
                }
                // It was said under other roots: where is it now?
                self.remotes.doubt(&addr, by.plane);
                self.memory.forget(&addr, by.plane);
            }
            Way::Ask => {}
        }
        if !may_wait {
            return Err(Unroutable::Unknown);
        }
        let prefix = Prefix::whole(addr);
        let waiter = Waiter::Payload { to: addr, payload: payload.clone(), by: by.clone() };
        let question = Question::new(by.plane, prefix);
        if self.remotes.get(&addr, by.plane).is_some_and(|remote| remote.stale) {
            // What others remember may be what has just turned out wrong.
            self.ask(now, question, prefix, None, out);
        }
        if self.ask(now, question, prefix, Some(waiter), out) { Ok(()) } else { Err(Unroutable::Unknown) }
    }

    fn way(&self, addr: &Addr, by: &Constraint) -> Result<Way, Unroutable> {
        if by.relays > 0 {
            return Err(Unroutable::Constraint);
        }
        let inside = || self.peers.keys().filter(|hop| by.plane.has(hop.family));
        let first_hops = self.first_hops(by);
        let direct = self.direct(addr, by);
        let demanding = !by.at_least.is_empty() || !by.avoid.is_empty() || !by.disjoint_from.is_empty();
        if demanding {
            let alone = |hop: &Hop| {
                let count = |family: Family| u8::from(family == hop.family);
                let known = by.disjoint_from.iter().all(|id| self.remotes.path(*id).is_some());
                known && by.at_least.iter().all(|(family, least)| *least <= count(*family))
            };
            if let Some(hop) = direct.filter(alone) {
                return Ok(Way::Direct(hop));
            }
            let path = self.shown(addr, by).ok_or(Unroutable::Constraint)?;
            return Ok(Way::Path(path.labels));
        }
        // A neighbour may be nearer by another way, but it is there at once.
        if let Some(hop) = direct {
            return Ok(Way::Direct(hop));
        }
        if !inside().any(|hop| first_hops.has(hop.family)) {
            let none = if self.peers.is_empty() { Unroutable::Unknown } else { Unroutable::Constraint };
            return Err(none);
        }
        if let Some(path) = self.shown(addr, by) {
            return Ok(Way::Path(path.labels));
        }
        // Leaves carry for no one.
        if !self.own.leaf
            && inside().all(|hop| self.peers.get(hop).is_some_and(|peer| peer.role == Role::Leaf))
        {
            return Err(Unroutable::Unknown);
        }
        match self.remotes.get(addr, by.plane) {
            Some(remote) if !remote.stale => Ok(Way::Place(remote.coords.clone())),
            _ => Ok(Way::Ask),
        }
    }

    /// The best way that probes have shown, if one satisfies `by`.
    fn shown(&self, addr: &Addr, by: &Constraint) -> Option<Path> {
        let others: Option<Vec<Path>> = by.disjoint_from.iter().map(|id| self.remotes.path(*id)).collect();
        let paths = self.remotes.get(addr, by.plane)?.paths.as_ref()?;
        let path = paths.best(by, &others?)?;
        let hop = self.labels.get(path.labels.first()?)?;
        self.peers.get(hop).filter(|peer| peer.is_usable()).map(|_| path.clone())
    }

    /// The families that the first link may be of. Behind a loopback link any family of the plane may be the first that a
    /// watcher sees, so such a link is fine only if each of them would be.
    pub(super) fn first_hops(&self, by: &Constraint) -> ClassSet {
        let outside = |family: &Family| *family != Family::Loopback && by.plane.has(*family);
        let whichever = Family::ALL.into_iter().filter(outside).all(|family| by.first_hop.has(family));
        let fits = |family: &Family| match family {
            Family::Loopback => whichever,
            family => by.first_hop.has(*family),
        };
        ClassSet::of(&Family::ALL.into_iter().filter(fits).collect::<Vec<_>>())
    }

    /// Of a leaf: the hub to use.
    pub(super) fn hub(&self, by: &Constraint) -> Option<Hop> {
        let allowed = self.first_hops(by);
        let hubs = self
            .peers
            .iter()
            .filter(|(hop, peer)| by.plane.has(hop.family) && allowed.has(hop.family) && peer.carries());
        hubs.min_by_key(|(hop, peer)| (peer.units(), **hop)).map(|(hop, _)| *hop)
    }

    /// Asks anew where a node is that is in use, and begins to probe the ways to it.
    fn mind_remote(&mut self, now: Instant, addr: Addr, plane: Plane, out: &mut Outbox) {
        let Some(remote) = self.remotes.get_mut(&addr, plane) else { return };
        if remote.probe_at.is_none() && remote.sent >= super::probe::PROBED_AFTER {
            remote.probe_at = Some(now);
        }
        if remote.learned + REFRESH <= now {
            let prefix = Prefix::whole(addr);
            self.ask(now, Question::new(plane, prefix), prefix, None, out);
        }
        if remote_due(self.remotes.get(&addr, plane), now) {
            self.probe_again(now, out);
        }
    }

    pub(crate) fn next_hop(&self, to: To, by: &Constraint) -> Option<Hop> {
        match to {
            To::Back(path) => {
                let (plane, way) = self.backs.get(path).filter(|(plane, _)| *plane == by.plane)?;
                let hop = *self.labels.get(way.first()?)?;
                (plane.has(hop.family) && self.peers.get(&hop)?.is_usable()).then_some(hop)
            }
            To::Node(addr) => match self.way(&addr, by).ok()? {
                Way::Direct(hop) => Some(hop),
                Way::Path(labels) => self.labels.get(labels.first()?).copied(),
                Way::Place(coords) if self.own.leaf => {
                    self.hub(by).filter(|_| !coords.is_empty() || self.own.leaf)
                }
                Way::Place(coords) => {
                    let goal = Goal { to: short_id(&addr), coords: &coords, plane: by.plane };
                    let best = self.best(&goal, coords.mask(by.plane), self.first_hops(by))?;
                    Some(best.hop)
                }
                Way::Ask => None,
            },
        }
    }
}

/// What stands in front of payloads; see [`byway_network::Network::header`].
impl Router {
    pub(crate) fn header(&self, to: To, by: &Constraint) -> Option<(Hop, Bytes)> {
        let To::Node(addr) = to else { return None };
        if addr == self.own.addr {
            return None;
        }
        let id = short_id(&addr);
        match self.way(&addr, by).ok()? {
            Way::Direct(hop) => Some((hop, self.start_direct(by.plane, id, &[]))),
            Way::Path(labels) => self.start_routed(by.plane, &labels, id.front(), &[]),
            Way::Place(coords) => self.start_data(by, id, &coords, &[]),
            Way::Ask => None,
        }
    }
}

fn remote_due(remote: Option<&crate::remote::Remote>, now: Instant) -> bool {
    remote.is_some_and(|remote| remote.probe_at.is_some_and(|at| at <= now))
}
