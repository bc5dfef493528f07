//! What the local node wants carried.

use byway_identity::Prefix;
use byway_network::{Action, ClassSet, Unroutable};

use super::show::direct_path;
use super::*;
use crate::packet::OVERHEAD;
use crate::seek::{Question, Waiter};
use crate::steer::Goal;

/// Longest payload: what is left of the largest frame that a link carries.
const PAYLOAD_MAX: usize = 65_535 - OVERHEAD;
/// A location that is in use is asked for anew after this time.
const REFRESH: Duration = Duration::from_secs(60);

/// What to do with a payload for a node.
#[derive(PartialEq, Eq)]
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
        // A neighbour's own link needs no probes, unless somebody wants another way.
        if !matches!(way, Ok(Way::Direct(_))) {
            if way == Err(Unroutable::Constraint) && by.relays == 0 {
                self.want_ways(now, addr, by.plane, out);
            }
            self.mind_remote(now, addr, by.plane, 1, out);
        }
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
                let own = self.peers.get(hop).map(|peer| direct_path(peer.label));
                let known = by.disjoint_from.iter().all(|id| Some(*id) != own && self.is_way(*id));
                known && by.at_least.iter().all(|(family, least)| *least <= count(*family))
            };
            if let Some(hop) = direct.filter(alone) {
                return Ok(Way::Direct(hop));
            }
            let path = self.shown(addr, by).ok_or(Unroutable::Constraint)?;
            return Ok(Way::Path(path.labels));
        }
        if let Some(hop) = direct {
            return Ok(self.nearer(addr, by, hop).unwrap_or(Way::Direct(hop)));
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
        if !by.disjoint_from.iter().all(|id| self.is_way(*id)) {
            return None;
        }
        // A single link has no node that another way could share, and is itself no way that probes choose.
        let others: Vec<Path> = by.disjoint_from.iter().filter_map(|id| self.remotes.path(*id)).collect();
        let link =
            |path: &Path| path.labels.len() == 1 && by.disjoint_from.contains(&direct_path(path.labels[0]));
        let paths = self.remotes.get(addr, by.plane)?.paths.as_ref()?;
        let path = paths.best(by, &others).filter(|path| !link(path))?;
        let hop = self.labels.get(path.labels.first()?)?;
        self.peers.get(hop).filter(|peer| peer.is_usable()).map(|_| path.clone())
    }

    /// Whether this is what some way is called.
    fn is_way(&self, id: PathId) -> bool {
        let mut labels = self.labels.keys();
        labels.any(|label| direct_path(*label) == id) || self.remotes.path(id).is_some()
    }

    /// A way to a neighbour that is cheaper than the link to it.
    fn nearer(&self, addr: &Addr, by: &Constraint, hop: Hop) -> Option<Way> {
        let peer = self.peers.get(&hop).filter(|peer| peer.role == Role::Full && !self.own.leaf)?;
        if let Some(path) = self.shown(addr, by).filter(|path| path.cost() < peer.units()) {
            return Some(Way::Path(path.labels));
        }
        let goal = Goal { to: peer.id, coords: &peer.coords, plane: by.plane };
        let best = self.best(&goal, peer.coords.mask(by.plane), self.first_hops(by))?;
        (best.hop.peer != hop.peer && best.value < peer.units()).then(|| Way::Place(peer.coords.clone()))
    }

    /// The way that payloads take, if this node knows the whole of it.
    pub(super) fn path_in_use(&self, addr: &Addr, by: &Constraint) -> Option<PathId> {
        match self.way(addr, by).ok()? {
            Way::Direct(hop) => self.peers.get(&hop).map(|peer| direct_path(peer.label)),
            Way::Path(labels) => {
                let chosen = &self.remotes.get(addr, by.plane)?.paths.as_ref()?.chosen;
                chosen.iter().find(|path| path.labels == labels).map(|path| path.id)
            }
            Way::Place(_) | Way::Ask => None,
        }
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

    /// See [`byway_network::Network::carried`].
    pub(crate) fn carried(
        &mut self,
        now: Instant,
        addr: Addr,
        plane: Plane,
        payloads: u64,
        out: &mut Outbox,
    ) {
        if !matches!(self.way(&addr, &Constraint::in_plane(plane)), Ok(Way::Direct(_))) {
            self.mind_remote(now, addr, plane, payloads.try_into().unwrap_or(u32::MAX), out);
        }
        self.rest(now, out);
    }

    /// Payloads have left for a node: asks anew where it is, begins to probe the ways to it, and minds the one in use.
    fn mind_remote(&mut self, now: Instant, addr: Addr, plane: Plane, payloads: u32, out: &mut Outbox) {
        let Some(remote) = self.remotes.get_mut(&addr, plane) else { return };
        remote.used = now;
        remote.sent = remote.sent.saturating_add(payloads);
        let lapsed = std::mem::take(&mut remote.lapsed);
        if lapsed || remote.probe_at.is_none() && remote.sent >= super::probe::PROBED_AFTER {
            remote.probe_at = Some(now);
        }
        if remote.learned + REFRESH <= now {
            let prefix = Prefix::whole(addr);
            self.ask(now, Question::new(plane, prefix), prefix, None, out);
        }
        self.mind_way(now, &addr, plane);
        if remote_due(self.remotes.get(&addr, plane), now) {
            self.probe_again(now, out);
        }
    }

    /// Somebody wants a way with properties that no known way is sure to have: probes may show one, for a later request.
    fn want_ways(&mut self, now: Instant, addr: Addr, plane: Plane, out: &mut Outbox) {
        match self.remotes.get_mut(&addr, plane) {
            Some(remote) => drop(remote.probe_at.get_or_insert(now)),
            None => {
                let prefix = Prefix::whole(addr);
                self.ask(now, Question::new(plane, prefix), prefix, None, out);
            }
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

impl Router {
    /// See [`byway_network::Network::header`].
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
