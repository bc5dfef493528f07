//! A node: its peers, its trees, what it knows and what it is asked.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Addr, Entropy, SigningKey};
use byway_network::{
    Class, Constraint, Cost, Family, FrameError, Hop, NetworkId, Outbox, PathId, Plane, Route, Setup, To,
};

use crate::Config;
use crate::cert::{Cert, Offer, Seq};
use crate::coords::{Coords, LABEL_BOUND, Step};
use crate::frame::{self, Frame, Hello};
use crate::limit::{Allowance, Shares};
use crate::location::Location;
use crate::names::{ShortId, TreeId, rank, short_id};
use crate::packet;
use crate::paths::Path;
use crate::peer::{Peer, Role, Shown, announced, hello_period};
use crate::picture::Scene;
use crate::registry::Registry;
use crate::remote::{Backs, Memory, Remotes};
use crate::seek::Seeks;
use crate::steer::Goal;
use crate::store::Store;
use crate::trail::Trail;
use crate::tree::{Candidate, Choice, Tree};

mod above;
mod echo;
mod forward;
mod hear;
mod lookup;
#[cfg(test)]
mod loops;
mod map;
mod moved;
#[cfg(test)]
mod pictures;
mod places;
mod probe;
mod show;
mod stats;
mod tell;
#[cfg(test)]
mod tests;

/// Most hops over real links, and most over loopback, which are nearly all leaves.
pub(crate) const HOPS_MAX: usize = 256;
pub(crate) const LEAVES_MAX: usize = 1_024;
/// Most hops whose label is remembered after they have gone.
const PARTED_MAX: usize = 64;
/// How long an offer is good, in minutes; it is renewed at half of that.
const OFFER_LIFE: u32 = 24 * 60;
/// A change of cost is announced when it is at least a quarter and has lasted so long.
const DRIFT: Duration = Duration::from_secs(10);
/// Changes leave at once so often, and then with pauses of so many milliseconds in between.
const FLUSHES: u32 = 8;
const FLUSH_PAUSE: u64 = 40;
/// What nobody needs any more is forgotten after so long at the latest.
const TIDY: Duration = Duration::from_secs(10);
/// Those who send here are told where this node is now so often at once, and then with pauses of so many milliseconds.
const MOVES: u32 = 2;
const MOVES_PAUSE: u64 = 1_000;

/// Questions that come by the same three links: so many at once, and then with pauses of so many milliseconds in between.
const ASKS: u32 = 1_024;
const ASK_PAUSE: u64 = 50;

/// Who the local node is.
pub(crate) struct Own {
    pub(crate) key: SigningKey,
    pub(crate) raw: [u8; 32],
    pub(crate) addr: Addr,
    pub(crate) id: ShortId,
    pub(crate) network: NetworkId,
    pub(crate) digest: [u8; 32],
    pub(crate) boot: u64,
    pub(crate) leaf: bool,
}

/// A node.
pub(crate) struct Router {
    own: Own,
    config: Config,
    registry: Registry,
    started: Instant,
    entropy: Box<dyn Entropy>,
    peers: BTreeMap<Hop, Box<Peer>>,
    labels: BTreeMap<u16, Hop>,
    /// Hops that were up, and their labels, the last one at the end.
    parted: VecDeque<(Hop, u16)>,
    store: Store,
    /// Certificates beyond which those are forgotten that nobody needs, and whether there may be some.
    prune_at: usize,
    untidy: bool,
    trees: BTreeMap<TreeId, Box<Tree>>,
    root_offer: Option<Arc<Offer>>,
    coords: Coords,
    said: [Option<Location>; Plane::ALL.len()],
    said_seq: Seq,
    seeks: Seeks,
    remotes: Remotes,
    memory: Memory,
    backs: Backs,
    next_path: u64,
    trail: Arc<Trail>,
    /// How much those who ask may ask, by the last links of their way here.
    askers: Shares<ASKS, ASK_PAUSE>,
    /// What the trees may depend on has changed.
    news: News,
    /// When a certificate of an own chain last changed, by the store's count.
    chains_at: u64,
    /// Grows with each change that views may show.
    looks: u64,
    /// What all views are made of, as of some number of these changes.
    shown: (u64, Arc<[Shown]>),
    /// Grows with each change of the places of this node or a peer, and when those of this node changed.
    turn: u64,
    placed_at: u64,
    /// The own place is another one than those were told who have lately sent something.
    elsewhere: bool,
    moves: Allowance<MOVES, MOVES_PAUSE>,
    /// Nodes to which a way has ended that was in use: what was known of their places may be as old as that way.
    unsure: BTreeSet<(Addr, Plane)>,
    /// Something has to be told.
    flush_due: bool,
    flushes: Allowance<FLUSHES, FLUSH_PAUSE>,
    housekeeping: Instant,
    wake: Option<Instant>,
    /// The last heartbeat.
    beaten: Instant,
    /// Something that pictures and headers show is another since the last call.
    moved: bool,
    generation: u64,
    scene: OnceCell<Arc<Scene>>,
}

/// Of which trees there is news.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct News(u32);

impl News {
    /// Of all, or of who is there at all.
    fn all(&mut self) {
        self.0 = u32::MAX;
    }

    fn tree(&mut self, id: TreeId) {
        self.0 |= Self::bit(id);
    }

    fn bit(id: TreeId) -> u32 {
        1 << (id.plane().byte() * crate::names::TREES_MAX + id.index())
    }

    fn any(self) -> bool {
        self.0 != 0
    }

    fn is_all(self) -> bool {
        self.0 == u32::MAX
    }

    fn has(self, id: TreeId) -> bool {
        self.0 & Self::bit(id) != 0
    }
}

impl Router {
    pub(crate) fn new(now: Instant, setup: Setup, config: Config) -> Self {
        let raw = *setup.key.public().as_raw();
        let addr = setup.key.public().addr();
        let own = Own {
            key: setup.key,
            raw,
            addr,
            id: short_id(&addr),
            network: setup.network,
            digest: setup.digest,
            boot: setup.boot,
            leaf: setup.leaf,
        };
        Self {
            said_seq: Seq::new(own.boot),
            own,
            registry: config.registry.clone(),
            config,
            started: now,
            entropy: setup.entropy,
            peers: BTreeMap::new(),
            labels: BTreeMap::new(),
            parted: VecDeque::new(),
            store: Store::new(addr),
            prune_at: 0,
            untidy: false,
            trees: BTreeMap::new(),
            root_offer: None,
            coords: Coords::default(),
            said: [const { None }; Plane::ALL.len()],
            seeks: Seeks::default(),
            remotes: Remotes::default(),
            memory: Memory::default(),
            backs: Backs::default(),
            next_path: 0,
            trail: Arc::default(),
            askers: Shares::default(),
            news: News::default(),
            chains_at: 0,
            looks: 1,
            shown: Default::default(),
            turn: 1,
            placed_at: 1,
            elsewhere: false,
            moves: Allowance::new(now),
            unsure: BTreeSet::new(),
            flush_due: false,
            flushes: Allowance::new(now),
            housekeeping: now,
            wake: None,
            beaten: now,
            moved: false,
            generation: 0,
            scene: OnceCell::new(),
        }
    }

    /// Minutes since 1970, as far as the start of the node tells.
    fn minutes(&self, now: Instant) -> u32 {
        let millis =
            self.own.boot.saturating_add(now.saturating_duration_since(self.started).as_millis() as u64);
        (millis / 60_000).min(u64::from(u32::MAX - 2 * OFFER_LIFE)) as u32
    }

    // --- peers -------------------------------------------------------------------------------------------------

    pub(crate) fn peer_up(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        if hop.peer == self.own.addr {
            return;
        }
        // Up again without down: the neighbour may have started anew and have forgotten everything.
        self.part(hop);
        let is_inside = |family: Family| family == Family::Loopback;
        let alike =
            self.peers.keys().filter(|other| is_inside(other.family) == is_inside(hop.family)).count();
        let room = if is_inside(hop.family) { LEAVES_MAX } else { HOPS_MAX };
        if alike < room
            && let Some(label) = self.label_for(hop)
        {
            self.peers.insert(hop, Box::new(Peer::new(now, &hop.peer, class, cost, label)));
            self.labels.insert(label, hop);
            self.moved = true;
            self.greet(now, hop, true, out);
        }
        self.rest(now, out);
    }

    pub(crate) fn peer_cost(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        if peer.class != class {
            peer.class = class;
            peer.offer_out = None;
            self.flush_due = true;
        }
        let (old, new) = (u64::from(Cost::decode(peer.measured).units()), u64::from(cost.units()));
        if new * 4 > old * 5 || new * 5 < old * 4 {
            let since = peer.drift.map_or(now, |(_, since)| since);
            peer.drift = Some((announced(cost), since));
        } else {
            peer.drift = None;
        }
        self.rest(now, out);
    }

    pub(crate) fn peer_down(&mut self, now: Instant, hop: Hop, out: &mut Outbox) {
        self.part(hop);
        // What it was asked is lost.
        self.seeks.hurry(now);
        self.rest(now, out);
    }

    fn part(&mut self, hop: Hop) {
        let Some(peer) = self.peers.remove(&hop) else { return };
        self.labels.remove(&peer.label);
        self.parted.retain(|(other, _)| *other != hop);
        self.parted.push_back((hop, peer.label));
        if self.parted.len() > PARTED_MAX {
            self.parted.pop_front();
        }
        self.news.all();
        self.moved = true;
        self.looks += 1;
        for tree in self.trees.values_mut() {
            tree.summary_due = true;
        }
        if self.own.leaf {
            return;
        }
        // What was pinned over this link is over.
        for (addr, plane, remote) in self.remotes.iter_mut() {
            if remote.paths.as_mut().is_some_and(|paths| paths.broken(&[peer.label])) {
                self.unsure.insert((*addr, plane));
            }
        }
        self.remotes.moved();
        self.backs.broken(&[peer.label]);
    }

    /// The label that the link had when it was last up, so that places and ways that lead over it are good again; or else a new one.
    fn label_for(&mut self, hop: Hop) -> Option<u16> {
        let before = self.parted.iter().position(|(other, _)| *other == hop);
        let before = before.and_then(|at| self.parted.remove(at)).map(|(_, label)| label);
        before.filter(|label| !self.labels.contains_key(label)).or_else(|| self.fresh_label())
    }

    /// A label that no other link has: of one byte for the first few, for they stand in all coordinates below.
    fn fresh_label(&mut self) -> Option<u16> {
        let (from, bound) = if self.labels.len() < 40 { (1, 64) } else { (64, LABEL_BOUND) };
        for _ in 0..64 {
            let label = from + self.entropy.below(u64::from(bound - from)) as u16;
            if !self.labels.contains_key(&label) && self.parted.iter().all(|(_, other)| *other != label) {
                return Some(label);
            }
        }
        (1..LABEL_BOUND).find(|label| !self.labels.contains_key(label))
    }

    /// The peers whose address begins with `prefix`, over links of `plane`.
    fn matching(&self, prefix: &byway_identity::Prefix, plane: Plane) -> Vec<Hop> {
        let first = Hop { peer: Addr::from_bytes(*prefix.as_bytes()), family: Family::Loopback };
        self.peers
            .range(first..)
            .take_while(|(hop, _)| prefix.matches(&hop.peer))
            .filter(|(hop, peer)| plane.has(hop.family) && peer.is_usable())
            .map(|(hop, _)| *hop)
            .collect()
    }

    /// The best link to `addr` itself inside `by`, if it is a neighbour.
    fn direct(&self, addr: &Addr, by: &Constraint) -> Option<Hop> {
        let fits = |hop: &Hop| by.plane.has(hop.family) && by.first_hop.has(hop.family);
        let hops = Family::ALL.map(|family| Hop { peer: *addr, family });
        let usable = |hop: &Hop| self.peers.get(hop).filter(|peer| peer.is_usable() && fits(hop));
        hops.iter().filter_map(|hop| Some((usable(hop)?.units(), *hop))).min().map(|(_, hop)| hop)
    }

    // --- time --------------------------------------------------------------------------------------------------

    pub(crate) fn heartbeat(&mut self, now: Instant, out: &mut Outbox) {
        if self.wake.is_some_and(|wake| wake > now) {
            return;
        }
        self.beaten = now;
        self.mind_peers(now, out);
        for tree in self.trees.values() {
            if tree.due().is_some_and(|due| due <= now) || tree.is_silent(now) {
                self.news.tree(tree.id);
            }
        }
        self.emit_pulses(now, out);
        // The zeros of a summary have waited for their time.
        if self.trees.values().any(|tree| self.tree_wake(tree).is_some_and(|wake| wake <= now)) {
            self.flush_due = true;
        }
        self.seek_again(now, out);
        self.probe_again(now, out);
        self.echo_again(now, out);
        self.remotes.sweep(now);
        if self.housekeeping <= now {
            self.housekeeping = now + TIDY;
            if self.untidy {
                self.prune();
            }
            self.backs.sweep(now);
            self.memory.sweep(now);
            self.trail.sweep(now);
            self.askers.sweep(now);
        }
        self.rest(now, out);
    }

    /// Says hello where it is time, again where an answer is missing, and notices who is silent.
    fn mind_peers(&mut self, now: Instant, out: &mut Outbox) {
        let hops: Vec<Hop> = self.peers.keys().copied().collect();
        let mut healed = false;
        for hop in hops {
            let Some(peer) = self.peers.get_mut(&hop) else { continue };
            if !peer.silent && peer.role != Role::Unknown && peer.silent_at() <= now {
                peer.silent = true;
                self.news.all();
                self.moved = true;
            }
            if let Some((cost, since)) = peer.drift
                && since + DRIFT <= now
            {
                peer.measured = cost;
                peer.drift = None;
                self.moved = true;
                peer.hello_at = now; // A greeting tells the new cost.
                self.flush_due = true;
            }
            healed |= peer.blame.heal(now);
            let greets = peer.greeting.as_mut().is_some_and(|greeting| greeting.is_due(now));
            let retries = peer.retry.as_mut().is_some_and(|retry| retry.is_due(now));
            let says = peer.hello_at <= now;
            let acknowledges = peer.acknowledge_at.is_some_and(|at| at <= now);
            let shows = peer.show_at.is_some_and(|at| at <= now);
            if greets || says || acknowledges {
                self.greet(now, hop, greets, out);
            }
            if says {
                self.renew_offer(now, hop);
            }
            if retries || shows {
                self.tell(now, hop, retries, out);
            }
            self.correct_again(now, hop, out);
        }
        if healed {
            // Payloads may begin with another neighbour.
            self.remotes.moved();
        }
    }

    fn greet(&mut self, now: Instant, hop: Hop, answer: bool, out: &mut Outbox) {
        let sums = self.have(hop);
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        peer.hello_at = now + hello_period(hop.family);
        peer.acknowledge_at = None;
        let key = (answer || peer.key_due).then_some(self.own.raw);
        peer.key_due = false;
        let hello = Hello {
            leaf: self.own.leaf,
            answer,
            boot: self.own.boot.min(byway_wire::VARINT_MAX),
            cost: peer.measured,
            certs: sums.certs,
            filters: sums.filters,
            view: sums.view,
            key,
        };
        out.send(hop, Frame::Hello(hello).emit());
    }

    /// Does what a call has made necessary, and plans the next heartbeat.
    fn rest(&mut self, now: Instant, out: &mut Outbox) {
        let news = std::mem::take(&mut self.news);
        if news.any() {
            self.grow(now, news);
            self.flush_due = true;
        }
        if self.flush_due && self.flushes.take(now) {
            self.flush_due = false;
            self.flush(now, out);
        }
        self.tell_moved(now, out);
        self.ask_unsure(now, out);
        if std::mem::take(&mut self.moved) {
            self.generation += 1;
            self.scene.take();
        }
        self.plan(now);
    }

    /// See [`byway_network::Network::generation`].
    pub(crate) fn generation(&self) -> u64 {
        self.generation.wrapping_add(self.remotes.generation())
    }

    fn plan(&mut self, now: Instant) {
        let peers = self.peers.values().flat_map(|peer| {
            let silent = (!peer.silent && peer.role != Role::Unknown).then(|| peer.silent_at());
            let drift = peer.drift.map(|(_, since)| since + DRIFT);
            let greeting = peer.greeting.map(|greeting| greeting.at);
            let retry = peer.retry.map(|retry| retry.at);
            let heals = peer.blame.due();
            let corrects = (peer.misled != 0).then(|| peer.moves.ready(now));
            let soon = [
                Some(peer.hello_at),
                silent,
                drift,
                greeting,
                retry,
                peer.show_at,
                peer.acknowledge_at,
                heals,
                corrects,
            ];
            soon.into_iter().flatten()
        });
        let trees =
            self.trees.values().flat_map(|tree| [tree.due(), self.tree_wake(tree)].into_iter().flatten());
        let flush = self.flush_due.then(|| self.flushes.ready(now));
        let moves = self.elsewhere.then(|| self.moves.ready(now));
        let others = [flush, moves, self.seeks.wake(), self.remotes.due(), self.probe_wake()];
        let kept = self.untidy || self.backs.len() > 0 || !self.trail.is_empty() || !self.memory.is_empty();
        let housekeeping = kept.then_some(self.housekeeping);
        let next = peers.chain(trees).chain(others.into_iter().flatten()).chain(housekeeping).min();
        // Whatever is late is done by the next heartbeat, never by one at the same instant for ever. What else happens in between
        // puts it off no further.
        self.wake = next.map(|next| next.max(self.beaten + Duration::from_millis(1)));
    }

    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        self.wake
    }

    // --- trees -------------------------------------------------------------------------------------------------

    /// Looks anew at the trees that there is news of.
    fn grow(&mut self, now: Instant, mut news: News) {
        if self.own.leaf {
            self.refresh_home();
            return;
        }
        if news.is_all() && self.keep_planes(now) {
            // What neighbours compare is over other trees now.
            self.peers.values_mut().for_each(|peer| peer.acknowledge_soon(now));
        }
        let ids: Vec<TreeId> = self.trees.keys().copied().collect();
        for id in &ids {
            if news.has(*id) && self.grow_tree(now, *id) {
                news.tree(*id);
            }
        }
        self.refresh_coords(now, &news);
        if self.store.len() > self.prune_at {
            self.prune();
        } else if !self.untidy {
            self.untidy = true;
            self.tidy_later(now);
        }
    }

    /// There is something again that will have to be forgotten.
    fn tidy_later(&mut self, now: Instant) {
        if self.housekeeping <= now {
            self.housekeeping = now + TIDY;
        }
    }

    /// Forgets certificates that are on no chain of this node or a peer any more.
    fn prune(&mut self) {
        let ids: Vec<TreeId> = self.trees.keys().copied().collect();
        let carries = self.peers.iter().filter(|(_, peer)| peer.role == Role::Full);
        let from: BTreeSet<Addr> = carries.map(|(hop, _)| hop.peer).chain([self.own.addr]).collect();
        self.store.prune(&ids, &from);
        self.registry.forgotten(self.store.len());
        self.prune_at = (self.store.len() * 3 / 2 + 16).min(crate::store::CERTS_MAX - 1);
        self.untidy = false;
    }

    /// Takes part in the planes for which there are links.
    ///
    /// Says whether there are other trees now.
    fn keep_planes(&mut self, now: Instant) -> bool {
        let mut others = false;
        for plane in Plane::ALL {
            let wanted =
                self.peers.iter().any(|(hop, peer)| peer.role == Role::Full && plane.has(hop.family));
            let count = self.config.trees(plane);
            if wanted && self.trees.contains_key(&TreeId::new(plane, 0)) {
                continue;
            }
            for index in 0..count {
                let id = TreeId::new(plane, index);
                others |= wanted || self.trees.contains_key(&id);
                if wanted {
                    let rank = rank(&self.own.network, id, &self.own.addr);
                    let seq = Seq::new(self.own.boot);
                    let tree = Tree::new(now, id, self.own.addr, rank, seq);
                    self.trees.insert(id, Box::new(tree));
                    self.certify(now, id, None);
                } else if let Some(tree) = self.trees.remove(&id) {
                    // The numbers go on where they ended, so that the next certificate is not an old one.
                    self.said_seq = self.said_seq.beyond(tree.seq);
                }
            }
        }
        others
    }

    /// Decides where this node is in a tree. Says whether it is elsewhere now.
    fn grow_tree(&mut self, now: Instant, id: TreeId) -> bool {
        let minutes = self.minutes(now);
        let Self { trees, store, peers, own, .. } = self;
        let Some(tree) = trees.get_mut(&id) else { return false };
        let dead = tree.is_silent(now).then_some(tree.root);
        let mut candidates = Vec::new();
        let mut followed = false;
        for (hop, peer) in peers.iter() {
            if !peer.carries() || !id.has(hop.family) {
                continue;
            }
            let Some(reach) = store.reach(id, &hop.peer) else { continue };
            if reach.has_own {
                followed = true;
                continue;
            }
            let offer = peer.offer_in.as_ref().filter(|offer| offer.not_after >= minutes);
            let (Some(offer), Some(root)) = (offer, store.root(id, &reach, minutes)) else { continue };
            if reach.steps as usize >= crate::coords::DEPTH_MAX || dead == Some(root) {
                continue;
            }
            candidates.push(Candidate {
                hop: *hop,
                root,
                rank: tree.rank_of(&own.network, &root),
                there: reach.cost,
                total: reach.cost.saturating_add(Cost::decode(offer.cost).units()),
            });
        }
        let rank = tree.rank_of(&own.network, &own.addr);
        let jitter = self.entropy.next_u32() as u8;
        let choice = tree.decide(now, (own.addr, rank), &candidates, followed, jitter);
        let held = store.get(id, &own.addr);
        let offer = match choice {
            Choice::Parent(chosen) => Some(chosen.hop),
            Choice::Root => None,
            Choice::Keep => {
                let given = tree.parent.and_then(|hop| Some((hop, peers.get(&hop)?.offer_in.as_ref()?)));
                let renewed = match (given, held) {
                    (Some((hop, given)), Some(held)) => {
                        held.offer.parent != hop.peer || held.offer.terms() != **given
                    }
                    (None, Some(held)) => held.offer.not_after < minutes + OFFER_LIFE / 2,
                    _ => true,
                };
                if !renewed {
                    return false;
                }
                given.map(|(hop, _)| hop)
            }
        };
        let offer = offer.and_then(|hop| self.given(&hop));
        self.certify(now, id, offer);
        true
    }

    /// The offer that a peer has made.
    fn given(&self, hop: &Hop) -> Option<Arc<Offer>> {
        let peer = self.peers.get(hop)?;
        let claim = peer.offer_in.as_ref()?.between(self.own.raw, peer.key?);
        Some(self.registry.taken_offer(claim, &self.own.network))
    }

    /// Makes the own certificate for a tree: under the offer of a parent, or as a root.
    fn certify(&mut self, now: Instant, id: TreeId, offer: Option<Arc<Offer>>) {
        let offer = offer.unwrap_or_else(|| self.root_offer(now));
        let Some(tree) = self.trees.get_mut(&id) else { return };
        tree.seq = tree.seq.max(self.said_seq).next();
        tree.summary_due = true;
        let cert = Cert::make(&self.own.key, &self.own.network, offer, id, tree.seq);
        let cert = self.registry.own_cert(cert, &self.own.network);
        self.store.insert(cert);
    }

    fn root_offer(&mut self, now: Instant) -> Arc<Offer> {
        let minutes = self.minutes(now);
        if let Some(offer) =
            self.root_offer.as_ref().filter(|offer| offer.not_after >= minutes + OFFER_LIFE / 2)
        {
            return Arc::clone(offer);
        }
        let step = Step { label: 0, cost: 0 };
        let offer = Offer::make(
            &self.own.key,
            &self.own.network,
            self.own.raw,
            step,
            Class::LOOPBACK,
            minutes + OFFER_LIFE,
        );
        let offer = Arc::new(offer);
        self.root_offer = Some(Arc::clone(&offer));
        offer
    }

    /// A leaf is where its hub says.
    fn refresh_home(&mut self) {
        let hubs = self.peers.values().filter(|peer| peer.carries());
        let best = hubs
            .filter_map(|hub| Some((hub.units(), hub.coords.below(hub.step?))))
            .min_by_key(|(cost, _)| *cost);
        let coords = best.map(|(_, coords)| coords).unwrap_or_default();
        if coords != self.coords {
            self.coords = coords;
            (self.moved, self.elsewhere) = (true, true);
        }
    }

    /// Reads the places of this node and its peers from the certificates, where there is news.
    fn refresh_coords(&mut self, now: Instant, news: &News) {
        let minutes = self.minutes(now);
        let Self { trees, store, peers, own, .. } = self;
        let stamps = trees.keys().filter_map(|id| store.reach(*id, &own.addr)).map(|reach| reach.stamp);
        let chains_at = stamps.max().unwrap_or(0);
        if self.chains_at != chains_at || news.is_all() {
            self.chains_at = chains_at;
            let places = trees.keys().filter_map(|id| store.place(*id, &own.addr, minutes));
            let coords = Coords::new(places.collect());
            if !coords.has_roots_of(&self.coords) {
                self.seeks.hurry(now);
            }
            if coords != self.coords {
                self.coords = coords;
                (self.moved, self.elsewhere) = (true, true);
                self.turn += 1;
                self.placed_at = self.turn;
            }
        }
        let mut summaries = false;
        for (hop, peer) in peers {
            if peer.role != Role::Full {
                continue;
            }
            let inside = || trees.keys().filter(|id| id.has(hop.family));
            let reaches = inside().filter_map(|id| store.reach(*id, &hop.peer));
            let coords_at = reaches.map(|reach| reach.stamp).max().unwrap_or(0);
            if peer.coords_at != coords_at || news.is_all() {
                peer.coords_at = coords_at;
                let places = inside().filter_map(|id| store.place(*id, &hop.peer, minutes));
                let coords = Coords::new(places.collect());
                if coords != peer.coords {
                    peer.coords = coords;
                    self.turn += 1;
                    peer.placed_at = self.turn;
                    peer.look_again();
                    self.moved = true;
                }
            }
            let before = peer.below.len();
            peer.below.retain(|id| store.get(id, &hop.peer).is_some_and(|cert| cert.parent() == own.addr));
            if peer.below.len() != before {
                peer.acknowledge_soon(now);
                summaries = true;
            }
        }
        if summaries {
            trees.values_mut().for_each(|tree| tree.summary_due = true);
        }
    }

    /// The children in a tree: peers whose certificate names this node. Of two links to one peer, the one it took.
    fn children(&self, id: TreeId) -> Vec<Hop> {
        let is_child = |hop: &Hop, peer: &Peer| {
            let cert = self.store.get(id, &hop.peer);
            peer.carries()
                && id.has(hop.family)
                && cert.is_some_and(|cert| cert.parent() == self.own.addr && cert.offer.label == peer.label)
        };
        self.peers.iter().filter(|(hop, peer)| is_child(hop, peer)).map(|(hop, _)| *hop).collect()
    }

    // --- frames ------------------------------------------------------------------------------------------------

    pub(crate) fn handle_below(
        &mut self,
        now: Instant,
        hop: Hop,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let Some(peer) = self.peers.get_mut(&hop) else { return Err(FrameError::NotUp) };
        let kind = *bytes.first().ok_or(byway_wire::Malformed::Truncated)?;
        let label = peer.label;
        peer.heard = now;
        if peer.silent {
            peer.silent = false;
            self.news.all();
            self.moved = true;
        }
        let result = match kind {
            // What is only passed on changes nothing that would have to be told or planned.
            packet::DATA | packet::ROUTED if !self.news.any() => {
                return self.pass(now, hop, label, bytes, out);
            }
            packet::DATA | packet::ROUTED => self.pass(now, hop, label, bytes, out),
            packet::PROBE => self.hear_probe(now, hop, label, &bytes, out),
            packet::TRACE => self.hear_trace(now, hop, label, bytes, out),
            packet::BROKEN => self.hear_broken(now, hop, label, bytes, out),
            packet::ECHO => self.hear_echo(now, hop, label, bytes, out),
            _ => {
                let frame = frame::Frame::parse(&bytes, hop.family)?;
                self.hear(now, hop, frame, out)
            }
        };
        self.rest(now, out);
        result
    }

    pub(crate) fn set_digest(&mut self, digest: [u8; 32]) {
        self.own.digest = digest;
    }

    /// The own location in a plane, signed anew only if something in it is new.
    fn location(&mut self, plane: Plane) -> Location {
        let coords = self.places_told(plane);
        let slot = &mut self.said[usize::from(plane.byte())];
        match slot {
            Some(said) if said.coords == coords && said.digest == self.own.digest => said.clone(),
            _ => {
                self.said_seq = self.said_seq.next();
                let own = &self.own;
                let location =
                    Location::make(&own.key, &own.network, self.said_seq, plane, coords, own.digest);
                *slot = Some(location.clone());
                location
            }
        }
    }

    pub(crate) fn routes(&self, limit: usize) -> Vec<Route> {
        let peers = self.peers.iter().filter(|(_, peer)| peer.is_usable()).map(|(hop, peer)| Route {
            to: hop.peer,
            plane: Plane::ALL.into_iter().find(|plane| plane.has(hop.family)).unwrap_or(Plane::Any),
            next: *hop,
            hops: Some(1),
            cost: Cost::from_units(peer.units()),
        });
        let remotes = self.remotes.iter().filter_map(|(addr, plane, remote)| {
            let first = Hop { peer: *addr, family: Family::Loopback };
            let is_peer = self.peers.range(first..).next().is_some_and(|(hop, _)| hop.peer == *addr);
            // A leaf has one way to everyone, which is its hub.
            if is_peer || self.own.leaf {
                return None;
            }
            let by = Constraint::in_plane(plane);
            let path = remote.paths.as_ref().and_then(|paths| paths.best(&by, &[]));
            let next = self.next_hop(To::Node(*addr), &by)?;
            let goal = Goal { to: remote.id, coords: &remote.coords, plane };
            let best = self.best(&goal, remote.coords.mask(plane), by.first_hop);
            let cost = path.map(Path::cost).or(best.map(|best| best.value)).unwrap_or(u32::MAX);
            let hops = path.and_then(|path| u8::try_from(path.labels.len()).ok());
            Some(Route { to: *addr, plane, next, hops, cost: Cost::from_units(cost) })
        });
        peers.chain(remotes).take(limit).collect()
    }
}
