//! Questions and answers: who is where.

use byway_identity::{Prefix, PublicKey};
use byway_network::{Action, Found, Unroutable};

use super::*;
use crate::filter::{PREFIX_BITS, positions};
use crate::frame::{Lookup, Manner, WAY_MAX};
use crate::seek::{Question, Waiter};

/// Hops of a question; of one with a short prefix, nodes that it visits.
const TTL: u8 = 255;
const VISITS: u8 = 128;
/// A node that was sent something so lately is in use.
const IN_USE: Duration = Duration::from_secs(10);
/// Most questions at once for nodes to which a way has ended.
const UNSURE_MAX: usize = 16;

impl Router {
    pub(crate) fn find(&mut self, now: Instant, prefix: Prefix, by: &Constraint, out: &mut Outbox) {
        if prefix.bits() >= PREFIX_BITS && prefix.matches(&self.own.addr) {
            let found = Found { asked: prefix, key: self.own.key.public(), digest: self.own.digest };
            out.push(Action::Found(found));
        } else if by.relays == 0 {
            self.ask(now, Question::new(by.plane, prefix), prefix, Some(Waiter::Above), out);
        }
        self.rest(now, out);
    }

    pub(crate) fn sample(&mut self, now: Instant, by: &Constraint, out: &mut Outbox) {
        if let Some(anyone) = Prefix::new(&[0], 0).filter(|_| by.relays == 0) {
            self.ask(now, Question::sample(by.plane), anyone, Some(Waiter::Above), out);
        }
        self.rest(now, out);
    }

    /// Asks, or joins a question that is open. False if there is no room.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        question: Question,
        prefix: Prefix,
        waiter: Option<Waiter>,
        out: &mut Outbox,
    ) -> bool {
        let nonce = self.entropy.next_u64();
        let asked = self.seeks.ask(now, question, prefix, waiter, nonce);
        if asked == Some(true) {
            self.attempt(now, question, out);
        }
        asked.is_some()
    }

    /// Asks anew for nodes to which a way has ended, if they are in use: payloads go by their places now.
    pub(super) fn ask_unsure(&mut self, now: Instant, out: &mut Outbox) {
        let unsure = std::mem::take(&mut self.unsure);
        let used = |(addr, plane): &(Addr, Plane)| {
            let remote = self.remotes.get(addr, *plane);
            remote.is_some_and(|remote| remote.used + IN_USE > now && remote.learned < now)
        };
        let used: Vec<(Addr, Plane)> = unsure.into_iter().filter(used).take(UNSURE_MAX).collect();
        for (addr, plane) in used {
            let prefix = Prefix::whole(addr);
            self.ask(now, Question::new(plane, prefix), prefix, None, out);
        }
    }

    /// Tries every open question again: somebody who may know has just come.
    pub(super) fn ask_all(&mut self, now: Instant, out: &mut Outbox) {
        for question in self.seeks.questions() {
            self.attempt(now, question, out);
        }
    }

    /// Questions that are due are asked again; those that were open for too long have no answer.
    pub(super) fn seek_again(&mut self, now: Instant, out: &mut Outbox) {
        for question in self.seeks.due(now) {
            self.attempt(now, question, out);
        }
        for seek in self.seeks.over(now) {
            let mut told = BTreeSet::new();
            for waiter in seek.waiters {
                if let Waiter::Payload { to, .. } = waiter
                    && told.insert(to)
                {
                    out.push(Action::Unroutable { to: To::Node(to), why: Unroutable::Unknown });
                }
            }
        }
    }

    fn attempt(&mut self, now: Instant, question: Question, out: &mut Outbox) {
        let plane = question.plane;
        let Some(seek) = self.seeks.get(&question) else { return };
        let (prefix, nonce, attempt, fresh) = (seek.prefix, seek.nonce, seek.attempt, seek.fresh);
        let tree = self.tree_to_ask(plane, attempt);
        let round = self.round(tree);
        let Some(seek) = self.seeks.get_mut(&question) else { return };
        seek.attempted(now, round);
        let manner = Manner { sample: question.sample, wide: attempt > 0, down: false, fresh };
        let lookup = Lookup { tree, manner, prefix, nonce, ttl: TTL, way: Vec::new() };
        if self.own.leaf {
            let hubs = self.peers.iter().filter(|(hop, peer)| plane.has(hop.family) && peer.carries());
            let hubs: Vec<Hop> = hubs.map(|(hop, _)| *hop).collect();
            hubs.into_iter().for_each(|hub| send(hub, lookup.clone(), out));
            return;
        }
        if !question.sample && prefix.bits() < PREFIX_BITS {
            self.attempt_short(now, lookup, plane, out);
        } else {
            // What is neither a peer's nor in this node's reach is tried again later.
            let _ = self.forward_lookup(now, None, lookup, out);
        }
    }

    /// In which tree to ask next: first in that whose root is nearest, for a question climbs towards it; then in the one that
    /// joins whatever can be joined; then in the others in turn, the nearest first.
    fn tree_to_ask(&self, plane: Plane, attempt: u32) -> TreeId {
        let trees = (0..self.config.trees(plane)).map(|index| TreeId::new(plane, index));
        let depth = |id: &TreeId| self.coords.place(*id).map_or(u32::MAX, crate::coords::Place::depth);
        let mut order: Vec<TreeId> = trees.collect();
        order.sort_by_key(|id| (depth(id), id.index()));
        let joining = TreeId::new(plane, 0);
        let nearest = order.first().copied().unwrap_or(joining);
        match attempt {
            0 => nearest,
            1 if nearest != joining => joining,
            _ => order.get(attempt as usize % order.len().max(1)).copied().unwrap_or(joining),
        }
    }

    /// What an answer may take that comes from as far below the root as this node is below the farthest of its roots.
    fn round(&self, tree: TreeId) -> Duration {
        let depth = self.coords.place(tree).map_or(0, crate::coords::Place::depth).min(50_000);
        let depths = self.coords.in_plane(tree.plane());
        let deepest = depths.iter().map(crate::coords::Place::depth).max().unwrap_or(0).min(50_000);
        Duration::from_millis(50) + Duration::from_micros(200) * (depth + deepest + deepest / 4)
    }

    /// A prefix that no summary knows: somebody who is known, or else a walk with a bound.
    fn attempt_short(&mut self, now: Instant, lookup: Lookup, plane: Plane, out: &mut Outbox) {
        let own = self.own.addr;
        let remotes = self.remotes.iter().filter(|(_, other, _)| *other == plane).map(|(addr, ..)| *addr);
        let known: BTreeSet<Addr> = remotes
            .chain(self.store.certs(lookup.tree).map(|cert| cert.child()))
            .filter(|addr| *addr != own && lookup.prefix.matches(addr))
            .take(2)
            .collect();
        for addr in &known {
            let _ = self.forward_lookup(
                now,
                None,
                Lookup { prefix: Prefix::whole(*addr), ..lookup.clone() },
                out,
            );
        }
        if known.is_empty() || lookup.manner.wide {
            let _ = self.forward_lookup(now, None, Lookup { ttl: VISITS, ..lookup }, out);
        }
    }

    pub(super) fn hear_lookup(
        &mut self,
        now: Instant,
        hop: Hop,
        mut lookup: Lookup,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let Some(peer) = self.peers.get_mut(&hop) else { return Err(FrameError::NotUp) };
        // By the last three links, so that somebody who floods uses up his own share and not that of all who ask by the same
        // neighbour. Of these links a neighbour may make up two, so each neighbour has a bound as well.
        let before = lookup.way.iter().rev().take(2);
        let asker = before.fold(u64::from(peer.label), |key, label| key << 16 | u64::from(*label));
        if !self.askers.take(now, asker) || !peer.lookups.take(now) {
            return Err(FrameError::Excess);
        }
        if lookup.ttl == 0 || lookup.way.len() >= WAY_MAX {
            return Err(FrameError::HopLimit);
        }
        let (role, label) = (peer.role, peer.label);
        lookup.way.push(label);
        if self.own.leaf {
            // A hub asks its leaf for the leaf alone.
            if !lookup.manner.sample && lookup.prefix.matches(&self.own.addr) {
                self.answer(lookup, out);
            }
            return Ok(());
        }
        if role == Role::Leaf {
            return self.ask_for_leaf(now, hop, &lookup, out);
        }
        // Questions go along the tree, and only their last link need not be one of it: whoever floods has few links to do it over.
        let for_this = lookup.prefix.bits() > 0 && lookup.prefix.matches(&self.own.addr);
        let parent = self.trees.get(&lookup.tree).and_then(|tree| tree.parent);
        if !for_this && parent != Some(hop) && !self.children(lookup.tree).contains(&hop) {
            return Err(FrameError::NoWay);
        }
        self.forward_lookup(now, Some(hop), lookup, out)
    }

    /// A leaf asks: its hub does the asking, once for all of its leaves.
    fn ask_for_leaf(
        &mut self,
        now: Instant,
        hop: Hop,
        lookup: &Lookup,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let plane = lookup.tree.plane();
        let anyone = lookup.manner.sample;
        if !anyone && lookup.prefix.bits() > 0 && lookup.prefix.matches(&self.own.addr) {
            self.answer(lookup.clone(), out);
            return Ok(());
        }
        let question = if anyone { Question::sample(plane) } else { Question::new(plane, lookup.prefix) };
        let waiter = Waiter::Leaf { hop, nonce: lookup.nonce, fresh: lookup.manner.fresh };
        if self.ask(now, question, lookup.prefix, Some(waiter), out) {
            Ok(())
        } else {
            Err(FrameError::Excess)
        }
    }

    /// Passes a question on, or answers it. `from` is absent for the node's own questions.
    fn forward_lookup(
        &mut self,
        now: Instant,
        from: Option<Hop>,
        mut lookup: Lookup,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let (id, plane) = (lookup.tree, lookup.tree.plane());
        lookup.ttl = lookup.ttl.saturating_sub(1);
        if lookup.manner.sample {
            return self.walk(from, lookup, out);
        }
        if from.is_some() && lookup.prefix.bits() > 0 && lookup.prefix.matches(&self.own.addr) {
            self.answer(lookup, out);
            return Ok(());
        }
        if from.is_some() && !lookup.manner.fresh && self.recall(now, &lookup, out) {
            return Ok(());
        }
        let mut peers = self.matching(&lookup.prefix, plane);
        peers.retain(|hop| from.is_none_or(|from| from.peer != hop.peer));
        if !peers.is_empty() {
            // One link to it is enough.
            peers.dedup_by_key(|hop| hop.peer);
            lookup.manner.down = true;
            peers.into_iter().take(4).for_each(|hop| send(hop, lookup.clone(), out));
            return Ok(());
        }
        let Some(tree) = self.trees.get(&id) else { return Err(FrameError::NoWay) };
        let parent = tree.parent.filter(|parent| !lookup.manner.down && from != Some(*parent));
        let children: Vec<Hop> = self.children(id).into_iter().filter(|child| from != Some(*child)).collect();
        if lookup.prefix.bits() < PREFIX_BITS {
            let targets: Vec<Hop> = children.into_iter().chain(parent).collect();
            return self.spread(&targets, &lookup, out);
        }
        if lookup.ttl == 0 {
            return Err(FrameError::HopLimit);
        }
        let wanted = positions(id, lookup.prefix.as_bytes());
        let matches = |hop: &Hop| {
            let below = self.peers.get(hop).and_then(|peer| peer.below.get(id));
            below.is_some_and(|below| below.bits.matches(&wanted))
        };
        let down: Vec<Hop> = children.into_iter().filter(matches).collect();
        if let Some(parent) = parent.filter(|_| down.is_empty() || lookup.manner.wide) {
            send(parent, lookup.clone(), out);
        }
        lookup.manner.down = true;
        down.into_iter().for_each(|child| send(child, lookup.clone(), out));
        Ok(())
    }

    /// Shares the visits that are left among `targets`.
    fn spread(&mut self, targets: &[Hop], lookup: &Lookup, out: &mut Outbox) -> Result<(), FrameError> {
        let (mut left, mut others) = (usize::from(lookup.ttl), targets.len());
        for target in targets {
            let share = left / others.max(1);
            let share = if share == 0 { left.min(1) } else { share };
            (left, others) = (left - share, others - 1);
            if share > 0 {
                // A child asks its own children alone, a parent everyone else.
                let down = self.trees.get(&lookup.tree).and_then(|tree| tree.parent) != Some(*target);
                let manner = Manner { down, ..lookup.manner };
                send(*target, Lookup { ttl: share as u8, manner, ..lookup.clone() }, out);
            }
        }
        Ok(())
    }

    /// A walk to anyone: up to the root, then down, to each child with the share of the nodes below it.
    fn walk(&mut self, from: Option<Hop>, mut lookup: Lookup, out: &mut Outbox) -> Result<(), FrameError> {
        let id = lookup.tree;
        if lookup.ttl == 0 {
            return Err(FrameError::HopLimit);
        }
        let parent = self.trees.get(&id).ok_or(FrameError::NoWay)?.parent;
        if let Some(parent) = parent.filter(|_| !lookup.manner.down) {
            send(parent, lookup, out);
            return Ok(());
        }
        lookup.manner.down = true;
        let count = |hop: &Hop| {
            let below = self.peers.get(hop).and_then(|peer| peer.below.get(id));
            below.map_or(1, |below| below.count.clamp(1, 1 << 32))
        };
        let children: Vec<(Hop, u64)> = self.children(id).into_iter().map(|hop| (hop, count(&hop))).collect();
        let all: u64 = children.iter().map(|(_, count)| count).sum();
        let mut at = self.entropy.below(all + 1);
        for (child, count) in children {
            if at < count {
                send(child, lookup, out);
                return Ok(());
            }
            at -= count;
        }
        if from.is_some() {
            self.answer(lookup, out);
        }
        Ok(())
    }

    /// Answers a question for a whole address with what its node said not long ago.
    fn recall(&mut self, now: Instant, lookup: &Lookup, out: &mut Outbox) -> bool {
        let Some(addr) = lookup.prefix.addr() else { return false };
        let plane = lookup.tree.plane();
        let Some(location) = self.memory.get(now, &addr, plane).cloned() else { return false };
        let mut way = lookup.way.clone();
        let Some(hop) = way.pop().and_then(|label| self.labels.get(&label)).copied() else { return false };
        let location = Box::new(location);
        out.send(hop, Frame::Found { plane, nonce: lookup.nonce, way, location }.emit());
        true
    }

    /// Keeps an answer that passes by, if it is genuine.
    fn remember(&mut self, now: Instant, from: Hop, location: &Location) {
        if location.addr == self.own.addr || self.memory.knows(now, location) {
            return;
        }
        let checked = self.peers.get_mut(&from).is_some_and(|peer| peer.checks.take(now));
        if checked && location.is_genuine(&self.own.network) {
            self.memory.learn(now, location.clone());
        }
    }

    /// Says where this node is.
    fn answer(&mut self, lookup: Lookup, out: &mut Outbox) {
        let plane = lookup.tree.plane();
        let mut way = lookup.way;
        let Some(hop) = way.pop().and_then(|label| self.labels.get(&label)).copied() else { return };
        let location = Box::new(self.location(plane));
        out.send(hop, Frame::Found { plane, nonce: lookup.nonce, way, location }.emit());
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one frame, and where it came from")]
    pub(super) fn hear_found(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        nonce: u64,
        mut way: Vec<u16>,
        location: Location,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if let Some(label) = way.pop() {
            let next = self.labels.get(&label).copied().filter(|next| plane.has(next.family));
            let next = next.ok_or(FrameError::NoWay)?;
            self.remember(now, hop, &location);
            out.send(next, Frame::Found { plane, nonce, way, location: Box::new(location) }.emit());
            return Ok(());
        }
        let known = self.remotes.get(&location.addr, plane).map(|remote| remote.seq);
        if nonce == super::moved::UNASKED && known.is_some_and(|known| known < location.seq) {
            // A node to which something went along a way is elsewhere now.
            return self.hear_moved(now, hop, 1, &location, out);
        }
        let Some((question, seek)) = self.seeks.asked(nonce) else { return Ok(()) };
        let fits = question.plane == plane && (question.sample || seek.prefix.matches(&location.addr));
        if !fits || location.addr == self.own.addr {
            return Ok(());
        }
        let peer = self.peers.get_mut(&hop).ok_or(FrameError::NotUp)?;
        if !peer.checks.take(now) {
            return Err(FrameError::Excess);
        }
        if !location.is_genuine(&self.own.network) {
            return Err(FrameError::Forged);
        }
        // What has passed by may be newer than what somebody else remembers.
        let newer = self.memory.get(now, &location.addr, plane).filter(|known| known.seq > location.seq);
        let location = newer.cloned().unwrap_or(location);
        let Ok(key) = PublicKey::from_raw(&location.key) else { return Err(FrameError::Forged) };
        if !self.remotes.learn(now, location.clone()) {
            // Somebody remembers what is known here to be old: now the node itself is asked.
            if let Some(seek) = self.seeks.get_mut(&question) {
                seek.fresh = true;
            }
            return Ok(());
        }
        self.serve(now, question, key, &location, out);
        Ok(())
    }

    /// Ends a question, now that its answer is known.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        question: Question,
        key: PublicKey,
        location: &Location,
        out: &mut Outbox,
    ) {
        let Some(seek) = self.seeks.take(&question) else { return };
        for waiter in seek.waiters {
            match waiter {
                Waiter::Above => {
                    let found = Found { asked: seek.prefix, key, digest: location.digest };
                    out.push(Action::Found(found));
                }
                Waiter::Payload { to, payload, by } => {
                    if let Err(why) = self.carry(now, to, &payload, &by, false, out) {
                        out.push(Action::Unroutable { to: To::Node(to), why });
                    }
                }
                Waiter::Leaf { hop, nonce, .. } if self.peers.contains_key(&hop) => {
                    let location = Box::new(location.clone());
                    out.send(
                        hop,
                        Frame::Found { plane: location.plane, nonce, way: Vec::new(), location }.emit(),
                    );
                }
                Waiter::Leaf { .. } => {}
            }
        }
    }
}

fn send(hop: Hop, lookup: Lookup, out: &mut Outbox) {
    out.send(hop, Frame::Lookup(lookup).emit());
}
