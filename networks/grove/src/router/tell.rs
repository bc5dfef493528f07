//! What goes to peers: offers, certificates, pulses, summaries, views, homes.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::*;
use crate::cert::{OfferClaim, Pulse};
use crate::filter::{Bits, NODES_MAX, positions};
use crate::frame::{ITEMS_MAX, Item, MORE_MAX, Sight, Summary, Told, VIEW_MAX};
use crate::peer::{Again, Shown, Sums};
use crate::sketch::Sketch;
use crate::tree::{PULSE_PERIOD, SLOW, SLOW_PERIOD};

/// Zeros of a summary are told at most so often.
const ZEROS_PERIOD: Duration = Duration::from_secs(15);

impl Router {
    /// What is held of a peer, as it will compare.
    pub(super) fn have(&mut self, hop: Hop) -> Sums {
        let Some(peer) = self.peers.get(&hop) else { return Sums::default() };
        if self.own.leaf {
            return Sums { view: peer.view_version, ..Sums::default() };
        }
        let offer = peer.offer_in.as_ref().map_or(0, |offer| offer.id());
        let filters =
            peer.below.iter().fold(0, |sum: u32, (id, below)| sum.wrapping_add(mix(id, below.version)));
        let view = peer.view_version;
        let certs = self.chain_sum(hop.family, &hop.peer).wrapping_add(offer);
        Sums { certs, filters, view }
    }

    /// The sum over the chains of `from` that a link of `family` has to do with.
    fn chain_sum(&mut self, family: Family, from: &Addr) -> u64 {
        let Self { store, trees, .. } = self;
        let sums = trees.keys().filter(|id| id.has(family)).filter_map(|id| store.reach(*id, from));
        sums.fold(0, |sum, reach| sum.wrapping_add(reach.sum))
    }

    /// Tells everyone what is new.
    pub(super) fn flush(&mut self, now: Instant, out: &mut Outbox) {
        self.look_round();
        let hops: Vec<Hop> = self.peers.keys().copied().collect();
        for hop in hops {
            self.tell(now, hop, false, out);
        }
    }

    /// Notes which peers look otherwise than before, for the views.
    fn look_round(&mut self) {
        for peer in self.peers.values_mut() {
            let of = (peer.placed_at, self.placed_at);
            let (class, cost, carries) = (Some(peer.class), peer.cost(), peer.carries());
            let old = &mut peer.look;
            let mut other = (old.class, old.cost, old.carries) != (class, cost, carries);
            (old.class, old.cost, old.carries) = (class, cost, carries);
            if old.of != of {
                let sketch = Sketch::new(&peer.coords, &self.coords);
                other |= old.sketch != sketch;
                (old.of, old.sketch) = (of, sketch);
            }
            if other {
                self.looks += 1;
                peer.look_at = self.looks;
            }
        }
    }

    /// Tells a peer what is new, or, `again`, all that it does not seem to have.
    pub(super) fn tell(&mut self, now: Instant, hop: Hop, again: bool, out: &mut Outbox) {
        let Some(peer) = self.peers.get(&hop) else { return };
        let before = peer.told;
        match peer.role {
            Role::Unknown => return,
            Role::Leaf if !self.own.leaf => self.tell_home(hop, again, out),
            Role::Full if !self.own.leaf => {
                self.tell_certs(now, hop, again, out);
                self.tell_summaries(now, hop, again, out);
                self.tell_view(now, hop, again, out);
            }
            _ => {}
        }
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        if peer.has == peer.told {
            peer.retry = None;
        } else if peer.retry.is_none() || before != peer.told {
            peer.retry = Some(Again::after(now, peer.patience()));
        }
    }

    /// Makes the offer for a peer anew if it will soon be past its time.
    pub(super) fn renew_offer(&mut self, now: Instant, hop: Hop) {
        let minutes = self.minutes(now);
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        if peer.offer_out.as_ref().is_some_and(|offer| offer.not_after < minutes + OFFER_LIFE / 2) {
            peer.offer_out = None;
            self.flush_due = true;
        }
    }

    fn offer(&mut self, now: Instant, hop: Hop) -> Option<OfferClaim> {
        let minutes = self.minutes(now);
        let peer = self.peers.get_mut(&hop)?;
        let key = peer.key?;
        let step = Step { label: peer.label, cost: peer.cost() };
        match &peer.offer_out {
            Some(offer) if offer.step() == step && offer.class == peer.class => {
                Some(offer.between(key, self.own.raw))
            }
            _ => {
                let (own, until) = (&self.own, minutes + OFFER_LIFE);
                let offer = Offer::make(&own.key, &own.network, key, step, peer.class, until);
                peer.offer_out = Some(Box::new(offer.terms()));
                Some(offer.claim().clone())
            }
        }
    }

    fn tell_certs(&mut self, now: Instant, hop: Hop, again: bool, out: &mut Outbox) {
        let offer = self.offer(now, hop);
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        if again && peer.has.certs != peer.told.certs {
            peer.knows.clear();
            peer.told_at = None;
        }
        let offer_id = offer.as_ref().map_or(0, |offer| offer.terms().id());
        let at = (self.chains_at, offer_id);
        if peer.told_at == Some(at) {
            return;
        }
        peer.told_at = Some(at);
        let mut ids = Vec::new();
        let mut items = Vec::new();
        if let Some(offer) = offer {
            ids.push(offer_id);
            if peer.learns(offer_id) {
                items.push(Item::Offer(offer));
            }
        }
        for id in self.trees.keys().filter(|id| id.has(hop.family)) {
            for cert in self.store.chain(*id, &self.own.addr) {
                ids.push(cert.id);
                if peer.learns(cert.id) {
                    items.push(Item::Cert(cert.claim()));
                }
            }
        }
        // What is on no chain any more the peer forgets too.
        ids.sort_unstable();
        peer.knows.retain(|id| ids.binary_search(id).is_ok());
        peer.knows.shrink_to_fit();
        let sum = self.chain_sum(hop.family, &self.own.addr.clone());
        if let Some(peer) = self.peers.get_mut(&hop) {
            peer.told.certs = sum.wrapping_add(offer_id);
        }
        for chunk in items.chunks(ITEMS_MAX) {
            out.send(hop, Frame::Certs(chunk.to_vec()).emit());
        }
    }

    // --- pulses ------------------------------------------------------------------------------------------------

    /// As a root: says that it lives, when it is time.
    pub(super) fn emit_pulses(&mut self, now: Instant, out: &mut Outbox) {
        let due: Vec<TreeId> = self
            .trees
            .values()
            .filter(|tree| tree.parent.is_none() && tree.pulse_at + PULSE_PERIOD <= now)
            .map(|tree| tree.id)
            .collect();
        for id in due {
            let has_children = !self.children(id).is_empty();
            let Some(tree) = self.trees.get_mut(&id) else { continue };
            tree.pulse_at = now;
            if !has_children {
                continue;
            }
            let minutes = now.saturating_duration_since(self.started).as_secs();
            let seq = Seq { boot: self.own.boot.min(byway_wire::VARINT_MAX - 1), counter: minutes };
            let pulse = Pulse::make(&self.own.key, &self.own.network, id, seq);
            tree.pulse = Some(pulse.clone());
            self.pass_pulse_on(now, &pulse, out);
        }
    }

    /// Passes a pulse on to the children; over slow links only now and then.
    pub(super) fn pass_pulse_on(&mut self, now: Instant, pulse: &Pulse, out: &mut Outbox) {
        for child in self.children(pulse.tree) {
            let Some(peer) = self.peers.get_mut(&child) else { continue };
            let early = peer.pulsed.get(pulse.tree).is_some_and(|at| *at + SLOW_PERIOD > now);
            if peer.units() < SLOW || !early {
                give_pulse(now, child, peer, pulse, out);
            }
        }
    }

    /// When a tree has something to do by itself.
    pub(super) fn tree_wake(&self, tree: &Tree) -> Option<Instant> {
        let pulse = match tree.parent {
            None => tree.pulse_at + PULSE_PERIOD,
            Some(_) => tree.pulse_at + tree.pulse_life(),
        };
        let zeros = (tree.parent.is_some() && tree.summary_due).then(|| tree.whole_at + ZEROS_PERIOD);
        Some(zeros.map_or(pulse, |zeros| pulse.min(zeros)))
    }

    // --- summaries ---------------------------------------------------------------------------------------------

    /// What is below this node in a tree, itself included.
    fn summary(&self, id: TreeId) -> (Bits, u64) {
        let mut bits: Bits = positions(id, self.own.addr.as_bytes()).into_iter().collect();
        let mut count = 1u64;
        for (hop, peer) in self.peers.iter().filter(|(hop, _)| id.has(hop.family)) {
            if peer.role == Role::Leaf && !peer.silent {
                positions(id, hop.peer.as_bytes()).into_iter().for_each(|position| bits.insert(position));
                count += 1;
            } else if let Some(below) = peer.below.get(id).filter(|_| !peer.silent) {
                bits.add(&below.bits);
                count = count.saturating_add(below.count);
            }
        }
        if count > NODES_MAX { (Bits::Full, count) } else { (bits, count) }
    }

    fn tell_summaries(&mut self, now: Instant, hop: Hop, again: bool, out: &mut Outbox) {
        let mine: Vec<TreeId> =
            self.trees.values().filter(|tree| tree.parent == Some(hop)).map(|tree| tree.id).collect();
        let Some(peer) = self.peers.get(&hop) else { return };
        let missing = again && peer.has.filters != peer.told.filters;
        let mut sum = 0u32;
        for id in mine {
            let due = self.trees.get(&id).is_some_and(|tree| tree.summary_due || tree.told_to != Some(hop));
            let news = if due || missing { Some(self.summary(id)) } else { None };
            let Some(tree) = self.trees.get_mut(&id) else { continue };
            if let Some((bits, count)) = news
                && let Some(summary) = summarise(now, tree, hop, bits, count, missing)
            {
                tree.told_version = tree.told_version.wrapping_add(1);
                let (version, count) = (tree.told_version, tree.told_count);
                out.send(hop, Frame::Filter { tree: id, version, count, summary }.emit());
            }
            sum = sum.wrapping_add(mix(id, tree.told_version));
        }
        if let Some(peer) = self.peers.get_mut(&hop) {
            peer.told.filters = sum;
        }
    }

    // --- views and homes -----------------------------------------------------------------------------------------

    fn tell_view(&mut self, now: Instant, hop: Hop, again: bool, out: &mut Outbox) {
        let Some(peer) = self.peers.get(&hop).filter(|peer| peer.units() < SLOW) else { return };
        let missing = again && peer.has.view != peer.told.view;
        if peer.shown_at == self.looks && !missing {
            return;
        }
        let (id, old) = (peer.id, Arc::clone(&peer.shown));
        let list = self.cheapest();
        let (had, want) = (view_for(id, &old), view_for(id, &list));
        if had == want && !missing {
            let looks = self.looks;
            if let Some(peer) = self.peers.get_mut(&hop) {
                (peer.show_at, peer.shown_at, peer.shown) = (None, looks, list);
            }
            return;
        }
        let whole = missing || had.is_empty();
        let see = |shown: &Shown| {
            let peer = self.peers.get(self.labels.get(&shown.label)?)?;
            let sketch = peer.look.sketch.over(hop.family);
            Some(Sight::There(Told { id: peer.id, class: peer.class, cost: peer.cost(), sketch }))
        };
        let mut sights: Vec<Sight> = Vec::new();
        if !whole {
            let stays = |old: &&Shown| want.iter().any(|new| (new.id, new.family) == (old.id, old.family));
            sights.extend(had.iter().filter(|old| !stays(old)).map(|old| Sight::Gone(old.id, old.family)));
        }
        sights.extend(want.iter().filter(|new| whole || !had.contains(new)).filter_map(see));
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        if !peer.shows.take(now) {
            peer.show_at = Some(peer.shows.ready(now));
            return;
        }
        (peer.show_at, peer.shown_at) = (None, self.looks);
        peer.shown = list;
        peer.told.view = peer.told.view.wrapping_add(1);
        out.send(hop, Frame::View { version: peer.told.view, whole, sights }.emit());
    }

    /// The cheapest peers that carry for others, as they look now: what all views are made of.
    fn cheapest(&mut self) -> Arc<[Shown]> {
        if self.shown.0 != self.looks {
            let carries = self.peers.iter().filter(|(_, peer)| peer.look.carries);
            let mut best: Vec<(u32, &Hop, &Peer)> =
                carries.map(|(hop, peer)| (peer.units(), hop, &**peer)).collect();
            best.sort_unstable_by_key(|(units, hop, _)| (*units, **hop));
            // A peer may be there once for each family, and is not shown to itself.
            best.truncate(VIEW_MAX + Family::ALL.len());
            let shown = |(_, hop, peer): &(u32, &Hop, &Peer)| Shown {
                id: peer.id,
                family: hop.family,
                label: peer.label,
                look_at: peer.look_at,
            };
            self.shown = (self.looks, best.iter().map(shown).collect());
        }
        Arc::clone(&self.shown.1)
    }

    fn tell_home(&mut self, hop: Hop, again: bool, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        let step = Step { label: peer.label, cost: peer.cost() };
        let coords = self.coords.over(hop.family);
        let version = hash_of(&(step, &coords)) as u32 | 1;
        let missing = again && peer.has.view != peer.told.view;
        if peer.told.view != version || missing {
            peer.told.view = version;
            out.send(hop, Frame::Home { version, step, coords }.emit());
        }
    }
}

/// What the peer `id` is shown of a list, in order of ids.
fn view_for(id: ShortId, list: &[Shown]) -> Vec<Shown> {
    let mut view: Vec<Shown> = list.iter().filter(|shown| shown.id != id).take(VIEW_MAX).copied().collect();
    view.sort_unstable();
    view
}

/// Gives a pulse to one child.
pub(super) fn give_pulse(now: Instant, child: Hop, peer: &mut Peer, pulse: &Pulse, out: &mut Outbox) {
    if peer.units() >= SLOW {
        peer.pulsed.insert(pulse.tree, now);
    }
    out.send(child, Frame::Certs(vec![Item::Pulse(pulse.clone())]).emit());
}

/// What to tell the parent `hop` of what is below, if anything. Ones are told at once, zeros and a smaller count
/// with the next whole summary.
fn summarise(
    now: Instant,
    tree: &mut Tree,
    hop: Hop,
    bits: Bits,
    count: u64,
    missing: bool,
) -> Option<Summary> {
    let new_parent = tree.told_to != Some(hop);
    let more = bits.beyond(&tree.told);
    let fewer = count < tree.told_count || bits.len() < tree.told.len();
    let zeros = fewer && tree.whole_at + ZEROS_PERIOD <= now;
    tree.summary_due = false;
    if new_parent
        || missing
        || zeros
        || more.len() > MORE_MAX
        || bits == Bits::Full && tree.told != Bits::Full
    {
        tree.told_to = Some(hop);
        tree.whole_at = now;
        tree.told_count = count;
        tree.told = bits.clone();
        return Some(Summary::Whole(bits));
    }
    // What became less stays due until it may be told.
    tree.summary_due = fewer;
    if more.is_empty() && count <= tree.told_count {
        return None;
    }
    tree.told.add(&bits);
    tree.told_count = tree.told_count.max(count);
    Some(Summary::More(more))
}

fn mix(id: TreeId, version: u32) -> u32 {
    (version ^ u32::from(id.byte()) << 24).wrapping_add(1).wrapping_mul(0x9e37_79b1)
}

fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
