//! What time brings: greetings again, probes, dead links, rounds of dialling; and the end of links and peers.

use std::time::Instant;

use byway_identity::Addr;
use byway_network::Hop;
use byway_session::{Event as Told, SessionId};

use super::{Accept, Action, Core, LINKS_PLANE, Lane, Peer, SILENT_MAX, STRANGER_SILENT_MAX};
use crate::Place;
use crate::control::Probe;
use crate::health::Evidence;
use crate::link::GREETINGS_MAX;
use crate::liveness::{Liveness, Verdict};

impl Core {
    /// Does what is due for one peer.
    pub(super) fn upkeep(&mut self, now: Instant, addr: &Addr, out: &mut Vec<Action>) {
        let Some(peer) = self.peers.get(addr) else { return };
        let lanes: Vec<usize> = peer.slots.keys().copied().collect();
        for lane in lanes {
            self.greet_again(now, lane, addr, out);
            self.watch(now, lane, addr, out);
            self.probe_path(now, lane, addr);
            self.probe_rate(now, lane, addr);
            self.dial(now, addr, lane, out);
        }
        let waited = |peer: &mut Peer| {
            // Each of them, not just the first.
            peer.slots.values_mut().filter_map(|slot| slot.steadiness.poll(now).then_some(())).count() > 0
        };
        if self.peers.get_mut(addr).is_some_and(waited) {
            self.announce(now, addr, out);
        }
        self.arm(addr);
    }

    fn greet_again(&mut self, now: Instant, lane: usize, addr: &Addr, out: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(addr) else { return };
        let Some(link) = peer.link_mut(lane) else { return };
        if link.greetings.ours || now < link.greetings.next {
            return;
        }
        if link.greetings.tries < GREETINGS_MAX {
            self.greet(now, lane, addr);
        } else {
            peer.trouble = Some("the other side did not greet".to_owned());
            self.close_link(now, lane, addr, out);
        }
    }

    fn watch(&mut self, now: Instant, lane: usize, addr: &Addr, out: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(addr) else { return };
        let most = if peer.listed { SILENT_MAX } else { STRANGER_SILENT_MAX };
        let Some(link) = peer.link_mut(lane) else { return };
        if !link.is_greeted() {
            return;
        }
        if link.liveness.silent_for(now).is_some_and(|silent| silent >= most) {
            self.close_link(now, lane, addr, out);
            return;
        }
        link.meter.expire(now);
        let costs_differ = link.meter.update(now);
        let round_trip = link.round_trip();
        match link.liveness.poll(now, round_trip) {
            None => {}
            Some(Verdict::Probe) => {
                if link.liveness.is_suspect() {
                    link.path.doubt(now);
                }
                self.probe(now, lane, addr, None);
            }
            Some(Verdict::Dead) => {
                link.meter.forget_under_way();
                let why = "no answer any more";
                let is_elsewhere = peer.links().any(|(_, link)| link.is_up());
                if let Some(slot) = peer.slots.get_mut(&lane) {
                    slot.steadiness.fell(now);
                    slot.health.failed(now, Some(Evidence::Timeout), is_elsewhere, why);
                }
                if !is_elsewhere {
                    peer.trouble = Some(why.to_owned());
                }
                tracing::info!(peer = ?addr, "a link is silent");
                self.judge(now, addr, lane);
                self.announce(now, addr, out);
                self.dial_soon(now, lane, addr);
                return;
            }
        }
        if costs_differ {
            self.announce(now, addr, out);
        }
    }

    fn probe_path(&mut self, now: Instant, lane: usize, addr: &Addr) {
        let Some(link) = self.peers.get_mut(addr).and_then(|peer| peer.link_mut(lane)) else { return };
        if !link.is_up() {
            return;
        }
        match link.path.poll(now) {
            Some(length) => self.probe(now, lane, addr, Some(length)),
            // A length that was in use may have been ruled out.
            None => self.sync_place(now, lane, addr),
        }
    }

    /// Sends a long probe that shows how long frames take on the wire, if it is time for one.
    fn probe_rate(&mut self, now: Instant, lane: usize, addr: &Addr) {
        let Some(link) = self.peers.get_mut(addr).and_then(|peer| peer.link_mut(lane)) else { return };
        let carried = link.sent.1 + link.received.1;
        let is_up = link.is_up();
        let Some(serialise) = link.meter.serialise.as_mut().filter(|_| is_up) else { return };
        if serialise.poll(now, carried) {
            let length = link.path.length();
            self.probe_with(now, lane, addr, length);
        }
    }

    /// Sends a probe; `length`: as a frame of just this length, to find out whether such pass.
    fn probe(&mut self, now: Instant, lane: usize, addr: &Addr, length: Option<u16>) {
        self.sync_place(now, lane, addr);
        let Some(link) = self.peers.get_mut(addr).and_then(|peer| peer.link_mut(lane)) else { return };
        let deaf = link.liveness.is_silent();
        let number = link.meter.number(now, !deaf && length.is_none(), length);
        let probe = Probe { deaf, number, cost: link.meter.to_tell() };
        let Some(length) = length else {
            self.say(now, lane, addr, &probe.emit(0));
            return;
        };
        let patience = Liveness::patience(link.meter.round_trip());
        link.path.probed(now, number, patience);
        self.say_long(now, lane, addr, probe, length);
    }

    /// Sends a probe as a frame of a length that is known to pass.
    fn probe_with(&mut self, now: Instant, lane: usize, addr: &Addr, length: u16) {
        self.sync_place(now, lane, addr);
        let Some(link) = self.peers.get_mut(addr).and_then(|peer| peer.link_mut(lane)) else { return };
        let number = link.meter.number(now, true, Some(length));
        let probe = Probe { deaf: false, number, cost: link.meter.to_tell() };
        self.say_long(now, lane, addr, probe, length);
    }

    fn say_long(&mut self, now: Instant, lane: usize, addr: &Addr, probe: Probe, length: u16) {
        let Some(link) = self.peers.get_mut(addr).and_then(|peer| peer.link_mut(lane)) else { return };
        let Some(session) = self.lanes[lane].endpoint.session(addr, LINKS_PLANE) else { return };
        let known = Place { mtu: link.path.length(), ..link.place };
        let endpoint = &mut self.lanes[lane].endpoint;
        endpoint.set_place(session, Place { mtu: length, ..known });
        let payload = endpoint.payload_mtu(session).unwrap_or(0);
        self.say(now, lane, addr, &probe.emit(payload));
        self.lanes[lane].endpoint.set_place(session, known);
    }

    /// Tells the node what has changed about the hops of a peer.
    pub(super) fn announce(&mut self, now: Instant, addr: &Addr, out: &mut Vec<Action>) {
        // Another link may have become the best of a hop, whatever is told.
        self.generation += 1;
        let Some(peer) = self.peers.get_mut(addr) else { return };
        peer.choose(now);
        let up = peer.told(now);
        let hop = |family| Hop { peer: *addr, family };
        for family in peer.up.keys().filter(|family| !up.contains_key(family)) {
            out.push(Action::Down { hop: hop(*family) });
        }
        for (family, (class, cost)) in &up {
            match peer.up.get(family) {
                None => out.push(Action::Up { hop: hop(*family), class: *class, cost: *cost }),
                Some(old) if *old != (*class, *cost) => {
                    out.push(Action::Cost { hop: hop(*family), class: *class, cost: *cost });
                }
                Some(_) => {}
            }
        }
        if up.is_empty() && !peer.up.is_empty() {
            // What stood by or was dialled now and then is needed.
            for slot in peer.slots.values_mut() {
                slot.dialler.hurry(now, &mut self.entropy);
            }
        }
        peer.up = up;
    }

    /// Brings the health of one way up to date, and tells of what has changed.
    pub(super) fn judge(&mut self, now: Instant, addr: &Addr, lane: usize) {
        let Some(slot) = self.peers.get_mut(addr).and_then(|peer| peer.slots.get_mut(&lane)) else { return };
        if slot.judge(now) {
            let class = self.lanes[lane].class;
            tracing::info!(peer = ?addr, %class, state = slot.health.show().0.name(), "a way has changed");
        }
    }

    /// Ends links by what a peer is not allowed any more.
    pub(super) fn end_forbidden(&mut self, now: Instant, addr: &Addr, out: &mut Vec<Action>) {
        let Some(peer) = self.peers.get(addr) else { return };
        let forbidden: Vec<usize> =
            peer.links().filter(|(_, link)| !self.allows(addr, &link.place)).map(|(lane, _)| lane).collect();
        for lane in forbidden {
            self.close_silently(now, lane, addr, out);
        }
        let Some(peer) = self.peers.get(addr) else { return };
        let unused: Vec<usize> = peer
            .slots
            .iter()
            .filter(|(lane, slot)| slot.link.is_none() && self.targets(peer, **lane).next().is_none())
            .map(|(lane, _)| *lane)
            .collect();
        if let Some(peer) = self.peers.get_mut(addr) {
            peer.slots.retain(|lane, _| !unused.contains(lane));
        }
    }

    /// Ends a link without a word to the other end.
    pub(super) fn close_silently(&mut self, now: Instant, lane: usize, addr: &Addr, out: &mut Vec<Action>) {
        let known = &mut self.lanes[lane];
        known.owners.retain(|_, owner| owner != addr);
        if let Some(session) = known.endpoint.session(addr, LINKS_PLANE) {
            self.end_silently(now, lane, session);
        }
        self.drop_link(now, lane, addr, out);
    }

    /// Ends a session without a word to the other end.
    pub(super) fn end_silently(&mut self, now: Instant, lane: usize, session: SessionId) {
        let Lane { endpoint, told, .. } = &mut self.lanes[lane];
        let before = told.len();
        endpoint.close(now, session, told);
        let mut at = 0;
        told.retain(|event| {
            at += 1;
            at <= before || !matches!(event, Told::Transmit { .. })
        });
    }

    /// Ends a link, telling the other end.
    pub(super) fn close_link(&mut self, now: Instant, lane: usize, addr: &Addr, out: &mut Vec<Action>) {
        let known = &mut self.lanes[lane];
        known.owners.retain(|_, owner| owner != addr);
        if let Some(session) = known.endpoint.session(addr, LINKS_PLANE) {
            known.endpoint.close(now, session, &mut known.told);
        }
        self.drop_link(now, lane, addr, out);
    }

    /// Forgets a link whose sessions are gone.
    pub(super) fn drop_link(&mut self, now: Instant, lane: usize, addr: &Addr, out: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(addr) else { return };
        let Some(link) = peer.slots.get_mut(&lane).and_then(|slot| slot.link.take()) else { return };
        self.lanes[lane].spots.remove(&(link.place.transport, link.place.remote));
        if link.is_up()
            && let Some(slot) = peer.slots.get_mut(&lane)
        {
            slot.steadiness.fell(now);
        }
        self.judge(now, addr, lane);
        self.announce(now, addr, out);
        self.dial_soon(now, lane, addr);
        self.forget_stranger(addr);
        self.arm(addr);
    }

    fn dial_soon(&mut self, now: Instant, lane: usize, addr: &Addr) {
        let Some(peer) = self.peers.get(addr) else { return };
        let can_dial = self.targets(peer, lane).next().is_some();
        let Some(peer) = self.peers.get_mut(addr) else { return };
        if can_dial && let Some(slot) = peer.slots.get_mut(&lane) {
            slot.dialler.soon(now, &mut self.entropy);
        }
    }

    /// A peer that is not on the list is known as long as it is linked.
    fn forget_stranger(&mut self, addr: &Addr) {
        let Some(peer) = self.peers.get(addr) else { return };
        if !peer.listed && peer.slots.values().all(|slot| slot.link.is_none()) {
            if let Some(armed) = peer.armed {
                self.timers.remove(&(armed, *addr));
            }
            self.peers.remove(addr);
        }
    }

    /// Ends all links of a peer and forgets it.
    pub(super) fn end_peer(&mut self, now: Instant, addr: &Addr, out: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(addr) else { return };
        peer.listed = false;
        peer.endpoints.clear();
        let lanes: Vec<usize> = peer.slots.keys().copied().collect();
        self.forget_rounds(addr);
        for lane in lanes {
            self.close_link(now, lane, addr, out);
        }
        self.forget_stranger(addr);
    }

    /// Makes room for a peer that is listed; false if all are.
    pub(super) fn evict_a_stranger(&mut self, now: Instant, out: &mut Vec<Action>) -> bool {
        if self.accept == Accept::Peers {
            return false;
        }
        let Some(addr) = self.peers.iter().find(|(_, peer)| !peer.listed).map(|(addr, _)| *addr) else {
            return false;
        };
        self.end_peer(now, &addr, out);
        true
    }
}
