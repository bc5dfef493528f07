//! One spanning tree, greedy routing along it, and Bloom filters to find names: what Yggdrasil 0.5 is described to do.
//!
//! All nodes agree on one root, the lowest address. Each takes the parent that is cheapest by *hops to the root times latency*,
//! and its place is the path of ports down from the root. A frame goes to a neighbour that is nearer to the target in the tree,
//! the one with the least *latency times hops left*. Who is below or above a link of the tree is told by a Bloom filter over that
//! link; a lookup follows all links whose filter matches, and the target answers with its place. Trees are mended once a second.
//!
//! Taken from what the project published about its version 0.5 and from reading its routing library, with its timers; written anew.
//! Left out: signatures (frames have their length), several links to one neighbour, keep-alives, and planes other than `any`.
//!
//! ```text
//! places ──► parent ──► own place ──► told to neighbours, with all places above
//!              └──► links of the tree ──► filters ──► lookups ──► paths to other nodes
//! ```

mod bloom;
mod find;
mod frame;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Addr, Entropy, Prefix};
use byway_network::{
    Class, Constraint, Cost, FrameError, Hop, Network, Outbox, Plane, Route, Setup, To, Unroutable,
};

use bloom::Bloom;
use frame::{Frame, Place, Ports};

/// How often the tree is looked after.
const MAINTENANCE: Duration = Duration::from_secs(1);
/// A node says anew where it is.
const REFRESH: Duration = Duration::from_secs(240);
/// What a node said of its place is forgotten.
const PLACE_LIFE: Duration = Duration::from_secs(300);
/// A path that nothing comes back from is forgotten.
const PATH_LIFE: Duration = Duration::from_secs(60);
/// Between two lookups for one node.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

/// A node of the model; see the module.
pub struct SingleTree {
    own: Addr,
    entropy: Box<dyn Entropy>,
    peers: BTreeMap<Addr, Peer>,
    places: BTreeMap<Addr, (Place, Instant)>,
    remotes: BTreeMap<Addr, Remote>,
    /// The own place has to be said again, or another one taken.
    refresh: bool,
    /// How many rounds there has been no parent: after the second this node is a root.
    lost: u8,
    /// Places have changed since the peers' paths were worked out.
    stale: bool,
    maintain_at: Instant,
    said: u64,
}

struct Peer {
    hop: Hop,
    /// What this node calls the link.
    port: u64,
    lag: Option<Duration>,
    asked: Asked,
    granted: Option<u64>,
    /// Whose places it has been told.
    told: BTreeSet<Addr>,
    filter_in: Bloom,
    filter_out: Bloom,
    in_tree: bool,
    /// The filter that it has been told has ones too many.
    dirty: bool,
    path: Ports,
}

#[derive(Clone, Copy)]
struct Asked {
    seq: u64,
    nonce: u64,
    at: Instant,
    answered: bool,
}

/// Another node that this one sends to.
struct Remote {
    path: Option<Ports>,
    seq: u64,
    asked: Option<Instant>,
    broken: bool,
    /// The last payload, for the path that is being looked for.
    waiting: Option<Bytes>,
    forget_at: Instant,
}

impl SingleTree {
    /// A node without neighbours.
    pub fn new(now: Instant, setup: Setup) -> Self {
        let mut entropy = setup.entropy;
        let phase = Duration::from_micros(entropy.below(MAINTENANCE.as_micros() as u64));
        let mut node = Self {
            own: setup.key.public().addr(),
            entropy,
            peers: BTreeMap::new(),
            places: BTreeMap::new(),
            remotes: BTreeMap::new(),
            refresh: false,
            lost: 0,
            stale: true,
            maintain_at: now + phase,
            said: 0,
        };
        node.become_root(now);
        node
    }

    // --- the tree ----------------------------------------------------------------------------------------------

    /// This node and all that are above it, as far as they are known; a circle is followed once.
    fn chain(&self, from: Addr) -> Vec<Addr> {
        let mut chain = Vec::new();
        let mut next = from;
        while let Some((place, _)) = self.places.get(&next) {
            if chain.contains(&next) {
                break;
            }
            chain.push(next);
            next = place.parent;
        }
        chain
    }

    /// The path down to a node; none at the end of a broken chain.
    fn path(&self, node: Addr) -> Ports {
        let chain = self.chain(node);
        let place = |addr: &Addr| self.places.get(addr).map(|(place, _)| *place);
        if chain.last().is_none_or(|root| place(root).is_none_or(|place| place.parent != *root)) {
            return Ports::new();
        }
        chain.iter().rev().skip(1).filter_map(place).map(|place| place.port).collect()
    }

    /// Learns a place, unless what is known is newer.
    fn learn(&mut self, now: Instant, node: Addr, place: Place) -> bool {
        let is_newer = |old: &Place| {
            let order = place.seq.cmp(&old.seq);
            order.then(old.parent.cmp(&place.parent)).then(old.nonce.cmp(&place.nonce)).is_gt()
        };
        if self.places.get(&node).is_some_and(|(old, _)| !is_newer(old)) {
            return false;
        }
        for peer in self.peers.values_mut() {
            peer.told.remove(&node);
        }
        self.stale = true;
        let life = if node == self.own { REFRESH } else { PLACE_LIFE };
        self.places.insert(node, (place, now + life));
        true
    }

    fn own_seq(&self) -> u64 {
        self.places.get(&self.own).map_or(0, |(place, _)| place.seq)
    }

    fn become_root(&mut self, now: Instant) {
        let place =
            Place { parent: self.own, seq: self.own_seq() + 1, nonce: self.entropy.next_u64(), port: 0 };
        self.learn(now, self.own, place);
    }

    /// Asks every peer to be the parent.
    fn ask_all(&mut self, now: Instant, out: &mut Outbox) {
        let seq = self.own_seq() + 1;
        for peer in self.peers.values_mut() {
            peer.granted = None;
            peer.asked = Asked { seq, nonce: self.entropy.next_u64(), at: now, answered: false };
            out.send(peer.hop, Frame::Ask { seq, nonce: peer.asked.nonce }.emit());
        }
    }

    /// What the way to the root through a peer of so many hops to it counts.
    fn worth(peer: &Peer, hops: usize) -> u64 {
        peer.lag_millis().saturating_mul(hops as u64)
    }

    /// Takes the best parent, if it is time for another one.
    fn choose(&mut self, now: Instant, out: &mut Outbox) {
        let parent = self.places.get(&self.own).map_or(self.own, |(place, _)| place.parent);
        let mut best = (self.own, self.own, u64::MAX);
        if let Some(peer) = self.peers.get(&parent) {
            let chain = self.chain(self.own);
            if let Some(root) = chain.last().filter(|root| **root < self.own) {
                best = (*root, parent, Self::worth(peer, chain.len() - 1));
            }
        }
        for (addr, peer) in &self.peers {
            let chain = self.chain(*addr);
            let (Some(_), Some(root)) = (peer.granted, chain.last()) else { continue };
            if chain.contains(&self.own) {
                continue;
            }
            let worth = Self::worth(peer, chain.len() - 1);
            let better = *root < best.0
                || *root == best.0
                    && (self.refresh && worth.saturating_mul(2) < best.2
                        || best.1 != parent && worth < best.2);
            if better {
                best = (*root, *addr, worth);
            }
        }
        let (root, chosen, _) = best;
        if !self.refresh && self.lost == 0 && chosen == parent {
            return;
        }
        let grant = self.peers.get(&chosen).and_then(|peer| Some((peer.granted?, peer.asked)));
        match grant {
            Some((port, asked)) if root != self.own => {
                let place = Place { parent: chosen, seq: asked.seq, nonce: asked.nonce, port };
                self.learn(now, self.own, place);
            }
            _ if self.lost >= 2 => self.become_root(now),
            // Perhaps a parent comes up until the next round.
            _ => {
                self.lost = 1;
                return;
            }
        }
        (self.refresh, self.lost) = (false, 0);
        self.ask_all(now, out);
    }

    /// Tells each peer the places above this node and above the peer, as far as it has not heard them.
    fn tell_places(&mut self, out: &mut Outbox) {
        let own = self.chain(self.own);
        let addrs: Vec<Addr> = self.peers.keys().copied().collect();
        for addr in addrs {
            let theirs = self.chain(addr);
            let Some(peer) = self.peers.get_mut(&addr) else { continue };
            for node in own.iter().rev().chain(theirs.iter().rev()) {
                if peer.told.insert(*node)
                    && let Some((place, _)) = self.places.get(node)
                {
                    out.send(peer.hop, Frame::Place { node: *node, place: *place }.emit());
                }
            }
        }
    }

    /// Notices which links are in the tree, and tells over these what is behind this node.
    fn tell_filters(&mut self, out: &mut Outbox) {
        let parent_of = |addr: &Addr| self.places.get(addr).map(|(place, _)| place.parent);
        let parent = parent_of(&self.own);
        for (addr, peer) in &mut self.peers {
            let was = peer.in_tree;
            peer.in_tree = parent == Some(*addr) || parent_of(addr) == Some(self.own);
            if was && !peer.in_tree {
                peer.filter_out = Bloom::empty();
                out.send(peer.hop, Frame::Bloom(Bloom::empty()).emit());
            }
        }
        let addrs: Vec<Addr> =
            self.peers.iter().filter(|(_, peer)| peer.in_tree).map(|(addr, _)| *addr).collect();
        for addr in addrs {
            let mut exact = Bloom::empty();
            exact.insert(&bloom::positions(&self.own));
            for (_, peer) in self.peers.iter().filter(|(other, peer)| **other != addr && peer.in_tree) {
                exact.add(&peer.filter_in);
            }
            let Some(peer) = self.peers.get_mut(&addr) else { continue };
            let mut filter = exact.clone();
            // Ones travel at once, zeros a round later, lest a moving node vanish in between.
            if !peer.dirty {
                filter.add(&peer.filter_out);
            }
            peer.dirty = filter != exact;
            if filter != peer.filter_out {
                out.send(peer.hop, Frame::Bloom(filter.clone()).emit());
                peer.filter_out = filter;
            }
        }
    }

    fn maintain(&mut self, now: Instant, out: &mut Outbox) {
        if self.lost == 1 {
            self.lost = 2;
        }
        if self.places.get(&self.own).is_some_and(|(_, until)| *until <= now) {
            self.refresh = true;
        }
        let own = self.own;
        let before = self.places.len();
        self.places.retain(|node, (_, until)| *node == own || *until > now);
        if self.places.len() != before {
            self.stale = true;
            let places = &self.places;
            self.peers.values_mut().for_each(|peer| peer.told.retain(|node| places.contains_key(node)));
        }
        self.remotes.retain(|_, remote| remote.forget_at > now);
        self.choose(now, out);
        self.tell_places(out);
        self.tell_filters(out);
    }

    fn hear_grant(&mut self, now: Instant, from: Addr, seq: u64, nonce: u64, port: u64) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if (peer.asked.seq, peer.asked.nonce) != (seq, nonce) || peer.asked.answered {
            return;
        }
        peer.asked.answered = true;
        peer.granted = Some(port);
        let rtt = now.saturating_duration_since(peer.asked.at);
        // A new link counts double, for it may not last.
        let lag = peer.lag.map_or(rtt * 2, |lag| lag * 7 / 8 + rtt.min(lag * 2) / 8);
        peer.lag = Some(lag);
    }

    fn hear_place(&mut self, now: Instant, from: Addr, node: Addr, place: Place, out: &mut Outbox) {
        if self.learn(now, node, place) {
            // Somebody remembers this node from before it started: what it says now must beat that.
            self.refresh |= node == self.own;
        } else if let Some((known, _)) = self.places.get(&node).filter(|(known, _)| *known != place)
            && let Some(peer) = self.peers.get(&from)
        {
            out.send(peer.hop, Frame::Place { node, place: *known }.emit());
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.told.insert(node);
        }
    }

    // --- steering ----------------------------------------------------------------------------------------------

    /// The peer that a frame for `path` goes to: nearer in the tree than this node, and then the quickest.
    fn nearer(&mut self, path: &[u64], watermark: &mut u64) -> Option<Hop> {
        if self.stale {
            self.stale = false;
            let addrs: Vec<Addr> = self.peers.keys().copied().collect();
            for addr in addrs {
                let path = self.path(addr);
                if let Some(peer) = self.peers.get_mut(&addr) {
                    peer.path = path;
                }
            }
        }
        let own = distance(path, &self.path(self.own));
        if own >= *watermark {
            return None;
        }
        *watermark = own;
        let near = self.peers.values().map(|peer| (distance(path, &peer.path), peer));
        let worth = |distance: u64, peer: &Peer| {
            let lag = peer.lag_millis();
            (lag.saturating_mul(distance), distance, lag, peer.port)
        };
        let near = near.filter(|(distance, _)| *distance < own);
        near.min_by_key(|(distance, peer)| worth(*distance, peer)).map(|(_, peer)| peer.hop)
    }
}

impl Peer {
    fn lag_millis(&self) -> u64 {
        self.lag.map_or(u64::from(u32::MAX), |lag| (lag.as_millis() as u64).max(1))
    }
}

/// How many links of the tree lie between two places.
fn distance(a: &[u64], b: &[u64]) -> u64 {
    let shared = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    (a.len() + b.len() - 2 * shared) as u64
}

impl Network for SingleTree {
    fn peer_up(&mut self, now: Instant, hop: Hop, _class: Class, _cost: Cost, out: &mut Outbox) {
        if hop.peer == self.own || self.peers.get(&hop.peer).is_some_and(|peer| peer.hop != hop) {
            return;
        }
        let ports: BTreeSet<u64> = self.peers.values().map(|peer| peer.port).collect();
        let port = (1..).find(|port| !ports.contains(port)).unwrap_or(u64::MAX);
        let asked =
            Asked { seq: self.own_seq() + 1, nonce: self.entropy.next_u64(), at: now, answered: false };
        out.send(hop, Frame::Ask { seq: asked.seq, nonce: asked.nonce }.emit());
        let peer = Peer {
            hop,
            port,
            lag: None,
            asked,
            granted: None,
            told: BTreeSet::new(),
            filter_in: Bloom::empty(),
            filter_out: Bloom::empty(),
            in_tree: false,
            dirty: false,
            path: Ports::new(),
        };
        self.peers.insert(hop.peer, peer);
        self.stale = true;
    }

    fn peer_cost(&mut self, _now: Instant, _hop: Hop, _class: Class, _cost: Cost, _out: &mut Outbox) {}

    fn peer_down(&mut self, _now: Instant, hop: Hop, _out: &mut Outbox) {
        if self.peers.get(&hop.peer).is_some_and(|peer| peer.hop == hop) {
            self.peers.remove(&hop.peer);
        }
    }

    fn handle_above(
        &mut self,
        now: Instant,
        to: To,
        payload: Bytes,
        by: &Constraint,
        out: &mut Outbox,
    ) -> Result<(), Unroutable> {
        if *by != Constraint::in_plane(Plane::Any) {
            return Err(Unroutable::Constraint);
        }
        let To::Node(target) = to else { return Err(Unroutable::Unknown) };
        self.send(now, target, payload, out);
        Ok(())
    }

    fn handle_below(
        &mut self,
        now: Instant,
        hop: Hop,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let Some(peer) = self.peers.get_mut(&hop.peer).filter(|peer| peer.hop == hop) else {
            return Err(FrameError::NotUp);
        };
        match Frame::parse(&bytes)? {
            Frame::Ask { seq, nonce } => {
                out.send(hop, Frame::Grant { seq, nonce, port: peer.port }.emit());
            }
            Frame::Grant { seq, nonce, port } => self.hear_grant(now, hop.peer, seq, nonce, port),
            Frame::Place { node, place } => self.hear_place(now, hop.peer, node, place, out),
            Frame::Bloom(bloom) => peer.filter_in = bloom,
            Frame::Lookup { ttl, source, target, from } => {
                if peer.in_tree {
                    let ttl = ttl.checked_sub(1).ok_or(FrameError::HopLimit)?;
                    self.spread(now, Some(hop.peer), &Frame::Lookup { ttl, source, target, from }, out);
                }
            }
            Frame::Notify { head, seq, from } => self.pass_notify(now, head, seq, from, out),
            Frame::Broken(head) => self.pass_broken(now, head, out),
            Frame::Traffic { head, from, payload } => self.pass_traffic(now, head, from, payload, out),
        }
        Ok(())
    }

    // The model looks for a node only in order to send to it.
    fn find(&mut self, _now: Instant, _prefix: Prefix, _by: &Constraint, _out: &mut Outbox) {}

    fn sample(&mut self, _now: Instant, _by: &Constraint, _out: &mut Outbox) {}

    fn set_digest(&mut self, _now: Instant, _digest: [u8; 32], _out: &mut Outbox) {}

    fn heartbeat(&mut self, now: Instant, out: &mut Outbox) {
        if self.maintain_at <= now {
            self.maintain(now, out);
            self.maintain_at = now + MAINTENANCE;
        }
    }

    fn next_heartbeat(&self) -> Option<Instant> {
        Some(self.maintain_at)
    }

    fn overhead(&self) -> usize {
        // Two paths of places that are at most 64 deep, with ports of two bytes, two addresses and a distance.
        2 * (2 + 64 * 2) + 64 + 9
    }

    fn next_hop(&self, to: To, _by: &Constraint) -> Option<Hop> {
        let To::Node(addr) = to else { return None };
        self.peers.get(&addr).map(|peer| peer.hop)
    }

    fn routes(&self, limit: usize) -> Vec<Route> {
        let route = |peer: &Peer| Route {
            to: peer.hop.peer,
            plane: Plane::Any,
            next: peer.hop,
            hops: Some(1),
            cost: Cost::from_units(u32::try_from(peer.lag_millis() * 5).unwrap_or(u32::MAX)),
        };
        self.peers.values().map(route).take(limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dice, Topology, Wire, World};

    fn single_tree(now: Instant, setup: Setup) -> Box<dyn Network> {
        Box::new(SingleTree::new(now, setup))
    }

    fn settled(seed: u64, topology: &Topology) -> World {
        let mut world = World::of(seed, single_tree, topology, Wire::clean(Class::UDP));
        world.run_for(Duration::from_secs(60));
        world
    }

    fn arrived(world: &mut World, pairs: &[(usize, usize)]) -> usize {
        let sent: Vec<_> =
            pairs.iter().filter_map(|(from, to)| world.send(*from, *to, Plane::Any).ok()).collect();
        world.run_for(Duration::from_secs(3));
        sent.iter().filter(|number| world.flight(**number).arrived()).count()
    }

    #[test]
    fn everyone_reaches_everyone_and_again_after_nodes_have_died() {
        for seed in 0..4 {
            let topology = Topology::random(40, 40, &mut Dice::new(seed));
            let mut world = settled(seed, &topology);
            let pairs: Vec<_> = (0..40).flat_map(|a| (0..40).map(move |b| (a, b))).collect();
            assert_eq!(arrived(&mut world, &pairs), pairs.len(), "seed {seed}");
            let dead: Vec<usize> = (0..4).map(|_| world.dice().below(40)).collect();
            dead.iter().for_each(|node| world.kill(*node));
            world.run_for(Duration::from_secs(60));
            let links: Vec<_> = world.open_links().map(|(a, b, _)| (a, b)).collect();
            let part = crate::parts(40, links.into_iter());
            let alive = |node: &usize| !dead.contains(node);
            let linked: Vec<_> =
                pairs.into_iter().filter(|(a, b)| alive(a) && alive(b) && part[*a] == part[*b]).collect();
            assert!(!linked.is_empty());
            // The first payload may find a path that died; it makes the source look again.
            arrived(&mut world, &linked);
            assert_eq!(arrived(&mut world, &linked), linked.len(), "seed {seed}");
        }
    }

    #[test]
    fn payloads_go_along_the_tree_and_take_shortcuts_to_neighbours() {
        let mut world = settled(9, &Topology::ring(10));
        let opposite: Vec<u64> =
            (0..10).map(|at| world.send(at, (at + 1) % 10, Plane::Any).expect("it is taken")).collect();
        world.run_for(Duration::from_secs(3));
        assert!(opposite.iter().all(|number| world.flight(*number).hops() == 1));
        let across: Vec<u64> =
            (0..10).map(|at| world.send(at, (at + 5) % 10, Plane::Any).expect("it is taken")).collect();
        world.run_for(Duration::from_secs(3));
        let hops: Vec<u32> = across.iter().map(|number| world.flight(*number).hops()).collect();
        assert!(hops.iter().all(|hops| (5..10).contains(hops)), "{hops:?}");
    }
}
