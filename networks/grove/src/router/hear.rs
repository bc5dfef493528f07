//! What peers tell about themselves and their chains.

use super::*;
use crate::cert::{CertClaim, OfferClaim, Pulse, Terms};
use crate::frame::{Item, Sight, Summary, Told, VIEW_MAX};
use crate::names::addr_of;
use crate::peer::{Below, Sums};

impl Router {
    pub(super) fn hear(
        &mut self,
        now: Instant,
        hop: Hop,
        frame: Frame,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        match frame {
            Frame::Hello(hello) => {
                if hello.key.is_some_and(|key| addr_of(&key) != hop.peer) {
                    return Err(FrameError::Forged);
                }
                self.hear_hello(now, hop, hello, out);
                Ok(())
            }
            Frame::Lookup(lookup) => self.hear_lookup(now, hop, lookup, out),
            Frame::Found { plane, nonce, way, location } => {
                self.hear_found(now, hop, plane, nonce, way, *location, out)
            }
            Frame::Moved { ttl, location } => self.hear_moved(now, hop, ttl, &location, out),
            Frame::Home { version, step, coords } if self.own.leaf => {
                self.hear_home(now, hop, version, step, coords);
                Ok(())
            }
            // What only full nodes tell each other.
            Frame::Home { .. } => Ok(()),
            _ if self.own.leaf => Ok(()),
            Frame::Certs(items) => self.hear_certs(now, hop, items, out),
            Frame::Filter { tree, version, count, summary } => {
                self.hear_filter(now, hop, tree, version, count, summary)
            }
            Frame::View { version, whole, sights } => {
                self.hear_view(now, hop, version, whole, sights);
                Ok(())
            }
        }
    }

    fn hear_hello(&mut self, now: Instant, hop: Hop, hello: Hello, out: &mut Outbox) {
        let role = if hello.leaf { Role::Leaf } else { Role::Full };
        let Some(peer) = self.peers.get(&hop) else { return };
        let new = peer.boot.is_some_and(|boot| boot != hello.boot)
            || (peer.role != Role::Unknown && peer.role != role);
        if new {
            // It has started anew without anybody noticing, and has forgotten everything.
            let (class, measured) = (peer.class, Cost::decode(peer.measured));
            self.peer_up(now, hop, class, measured, out);
        }
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        peer.key = peer.key.or(hello.key);
        peer.key_due |= hello.answer;
        if peer.key.is_none() {
            return; // The greeting goes on until it is known.
        }
        let first = peer.role == Role::Unknown;
        let dearer = peer.theirs != hello.cost;
        peer.role = role;
        peer.boot = Some(hello.boot);
        peer.theirs = hello.cost;
        peer.has = Sums { certs: hello.certs, filters: hello.filters, view: hello.view };
        peer.greeting = None;
        if peer.has == peer.told {
            peer.retry = None;
        }
        if first && role == Role::Leaf {
            self.trees.values_mut().for_each(|tree| tree.summary_due = true);
        }
        if first || dearer {
            self.news.all();
            self.moved = true;
        }
        if hello.answer {
            self.greet(now, hop, false, out);
        }
        if first && self.own.leaf {
            self.ask_all(now, out);
        } else if first {
            self.seeks.hurry(now);
        }
    }

    fn hear_home(&mut self, now: Instant, hop: Hop, version: u32, step: Step, coords: Coords) {
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        peer.view_version = version;
        peer.coords = coords;
        peer.step = Some(step);
        peer.acknowledge_soon(now);
        self.news.all();
    }

    fn hear_certs(
        &mut self,
        now: Instant,
        hop: Hop,
        items: Vec<Item>,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        // Everything is looked at before anything is believed.
        let mut offer_in = None;
        let mut certs = Vec::new();
        let mut pulses = Vec::new();
        let mut ask = false;
        for item in items {
            match item {
                Item::Offer(offer) => {
                    ask = true;
                    offer_in = Some(self.checked_offer(now, hop, &offer)?);
                }
                Item::Cert(cert) => {
                    ask = true;
                    if let Some(cert) = self.checked_cert(now, hop, cert)? {
                        certs.push(cert);
                    }
                }
                Item::Pulse(pulse) => {
                    if self.is_awaited(hop, &pulse) {
                        self.may_check(now, hop)?;
                        if !self.registry.pulse(&pulse, &self.own.network) {
                            return Err(FrameError::Forged);
                        }
                        pulses.push(pulse);
                    }
                }
            }
        }
        let Some(peer) = self.peers.get_mut(&hop) else { return Err(FrameError::NotUp) };
        if ask {
            peer.acknowledge_soon(now);
        }
        if let Some(offer) = offer_in
            && peer.offer_in.as_ref() != Some(&offer)
        {
            peer.offer_in = Some(offer);
            self.news.all();
        }
        for cert in certs {
            self.take_cert(now, hop, cert, out);
        }
        for pulse in pulses {
            self.take_pulse(now, &pulse, out);
        }
        Ok(())
    }

    fn may_check(&mut self, now: Instant, hop: Hop) -> Result<(), FrameError> {
        let peer = self.peers.get_mut(&hop).ok_or(FrameError::NotUp)?;
        if peer.checks.take(now) { Ok(()) } else { Err(FrameError::Excess) }
    }

    /// The offer, if it is genuine, and for this node by that peer.
    fn checked_offer(
        &mut self,
        now: Instant,
        hop: Hop,
        offer: &OfferClaim,
    ) -> Result<Box<Terms>, FrameError> {
        let peer = self.peers.get(&hop).ok_or(FrameError::NotUp)?;
        let terms = offer.terms();
        let by_peer =
            |key: &[u8; 32]| peer.key.map_or_else(|| addr_of(key) == hop.peer, |known| known == *key);
        let (child_key, parent_key) = offer.keys();
        if *child_key != self.own.raw || !by_peer(parent_key) || offer.class.family() != hop.family {
            return Err(FrameError::Forged);
        }
        if peer.offer_in.as_deref() != Some(&terms) {
            self.may_check(now, hop)?;
            if !self.registry.is_genuine_offer(offer, &self.own.network) {
                return Err(FrameError::Forged);
            }
        }
        Ok(Box::new(terms))
    }

    /// The certificate, if it is news and genuine.
    fn checked_cert(
        &mut self,
        now: Instant,
        hop: Hop,
        claim: CertClaim,
    ) -> Result<Option<Arc<Cert>>, FrameError> {
        if !self.trees.contains_key(&claim.tree) || !claim.tree.has(hop.family) {
            return Ok(None);
        }
        let known = self.registry.known(&claim, &self.own.network);
        let child = known.as_ref().map_or_else(|| claim.child(), |known| known.child());
        let held = self.store.get(claim.tree, &child);
        if let Some(held) = held.filter(|held| held.seq >= claim.seq) {
            // What the peer has shown it need not be told.
            if held.says(&claim) {
                let id = held.id;
                self.peers.get_mut(&hop).into_iter().for_each(|peer| _ = peer.learns(id));
            }
            return Ok(None);
        }
        if known.is_some() {
            return Ok(known);
        }
        let newcomer = held.is_none();
        let peer = self.peers.get_mut(&hop).ok_or(FrameError::NotUp)?;
        if newcomer && !peer.newcomers.take(now) {
            return Err(FrameError::Excess);
        }
        self.may_check(now, hop)?;
        self.registry.cert(claim, &self.own.network).map(Some).ok_or(FrameError::Forged)
    }

    fn take_cert(&mut self, now: Instant, hop: Hop, cert: Arc<Cert>, out: &mut Outbox) {
        if cert.child() == self.own.addr {
            // Said in this node's name in an earlier start, which a clock that went back makes look newer.
            if let Some(tree) = self.trees.get_mut(&cert.tree)
                && cert.seq > tree.seq
            {
                tree.seq = tree.seq.beyond(cert.seq);
                let held = self.store.get(cert.tree, &self.own.addr);
                let offer = held.map(|held| Arc::clone(&held.offer));
                self.certify(now, cert.tree, offer);
                self.news.tree(cert.tree);
            }
            return;
        }
        let (id, child, parent, label) = (cert.tree, cert.child(), cert.parent(), cert.offer.label);
        if let Some(peer) = self.peers.get_mut(&hop) {
            peer.learns(cert.id);
        }
        if !self.store.insert(cert) {
            return;
        }
        self.news.tree(id);
        let by_this_link = self.peers.get(&hop).is_some_and(|peer| peer.label == label);
        if child == hop.peer && parent == self.own.addr && by_this_link {
            // A new child has not heard the root yet.
            let pulse = self.trees.get(&id).and_then(|tree| tree.pulse.as_ref());
            if let (Some(pulse), Some(peer)) = (pulse, self.peers.get_mut(&hop)) {
                super::tell::give_pulse(now, hop, peer, pulse, out);
            }
        }
    }

    fn is_awaited(&self, hop: Hop, pulse: &Pulse) -> bool {
        self.trees.get(&pulse.tree).is_some_and(|tree| {
            tree.parent == Some(hop)
                && tree.root == pulse.root
                && tree.pulse.as_ref().is_none_or(|known| known.seq < pulse.seq)
        })
    }

    fn take_pulse(&mut self, now: Instant, pulse: &Pulse, out: &mut Outbox) {
        if let Some(tree) = self.trees.get_mut(&pulse.tree) {
            tree.pulse = Some(pulse.clone());
            tree.pulse_at = now;
            self.pass_pulse_on(now, pulse, out);
        }
    }

    fn hear_filter(
        &mut self,
        now: Instant,
        hop: Hop,
        id: TreeId,
        version: u32,
        count: u64,
        summary: Summary,
    ) -> Result<(), FrameError> {
        if !self.children(id).contains(&hop) {
            return Ok(()); // Early or late; what counts is repeated.
        }
        let Some(peer) = self.peers.get_mut(&hop) else { return Err(FrameError::NotUp) };
        if !peer.summaries.take(now) {
            return Err(FrameError::Excess);
        }
        peer.acknowledge_soon(now);
        let mut bits = match (summary, peer.below.get(id)) {
            (Summary::Whole(bits), _) => bits,
            (Summary::More(more), Some(below)) if below.version.wrapping_add(1) == version => {
                let mut bits = below.bits.clone();
                more.into_iter().for_each(|position| bits.insert(position));
                bits
            }
            (Summary::More(_), _) => return Ok(()), // Something is missing in between.
        };
        if !bits.is_explained_by(count) {
            return Err(FrameError::Excess);
        }
        bits.shrink();
        peer.below.insert(id, Below { version, count, bits });
        if let Some(tree) = self.trees.get_mut(&id) {
            tree.summary_due = true;
            self.flush_due = true;
        }
        Ok(())
    }

    fn hear_view(&mut self, now: Instant, hop: Hop, version: u32, whole: bool, news: Vec<Sight>) {
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        peer.acknowledge_soon(now);
        if whole {
            peer.sights.clear();
        } else if version != peer.view_version.wrapping_add(1) {
            return;
        }
        peer.view_version = version;
        let sights = &mut peer.sights;
        let key = |told: &Told| (told.id, told.class.family());
        for sight in news {
            match sight {
                Sight::Gone(id, family) => sights.retain(|told| key(told) != (id, family)),
                Sight::There(told) => {
                    sights.retain(|other| key(other) != key(&told));
                    if sights.len() < VIEW_MAX {
                        sights.push(told);
                    }
                }
            }
        }
        sights.shrink_to_fit();
        peer.look_again();
        self.moved = true;
    }
}
