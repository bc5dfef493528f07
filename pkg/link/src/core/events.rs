//! What the session endpoints tell: sessions that come and go, and what comes through them.

use std::time::Instant;

use bytes::Bytes;
use byway_identity::Addr;
use byway_network::{Class, Hop};
use byway_session::{CloseReason, Event as Told, FrameKind, SessionId};

use super::{Accept, Action, Core, LINKS_PLANE, PEERS_MAX, Peer, REFUSED, Slot};
use crate::Place;
use crate::control::{self, Control, Greeting, Probe};
use crate::link::{GREETING_PAUSE, Link, agree, class_here};

impl Core {
    /// Works through what the endpoints told until they have nothing more to tell.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Vec<Action>) {
        let mut lane = 0;
        while lane < self.lanes.len() {
            if self.lanes[lane].told.is_empty() {
                lane += 1;
                continue;
            }
            let spare = std::mem::take(&mut self.spare);
            let mut told = std::mem::replace(&mut self.lanes[lane].told, spare);
            for event in told.drain(..) {
                self.take(now, lane, event, out);
            }
            self.spare = told;
            lane = 0;
        }
    }

    fn take(&mut self, now: Instant, lane: usize, event: Told<Place>, out: &mut Vec<Action>) {
        match event {
            Told::Transmit { place, bytes } => out.push(Action::Transmit { place, frame: bytes }),
            Told::Received { session, remote, kind, payload, .. } => {
                self.received(now, lane, session, &remote, kind, payload, out);
            }
            Told::Up { session, remote, place, .. } => self.session_up(now, lane, session, &remote, place),
            Told::Moved { session, .. } => {
                if let Some(owner) = self.lanes[lane].owners.get(&session).copied() {
                    let place = self.lanes[lane].endpoint.place(session).copied();
                    if place.is_some_and(|place| !self.allows(&owner, &place)) {
                        self.dropped.forbidden += 1;
                        self.close_silently(now, lane, &owner, out);
                        return;
                    }
                    self.sync_place(now, lane, &owner);
                    self.class_may_differ(now, lane, &owner, out);
                    self.arm(&owner);
                }
            }
            Told::Down { remote, why, .. } => self.session_gone(now, lane, &remote, &why.to_string(), out),
            Told::Failed { remote, why, .. } => {
                if let Some(peer) = self.peers.get_mut(&remote)
                    && why != CloseReason::Local
                {
                    // Another group key is another pre-shared key, which looks like no key of the peer's at all.
                    let hint = match (why, &self.group_key) {
                        (CloseReason::Timeout | CloseReason::Identity, Some(_)) => {
                            "; it may not have this group's key"
                        }
                        (CloseReason::Identity, None) => "; it may be of a closed group",
                        _ => "",
                    };
                    peer.trouble = Some(format!("{why}{hint}"));
                }
            }
            // Links carry nothing before their session is up.
            Told::Early { .. } => self.dropped.malformed += 1,
        }
    }

    fn session_up(&mut self, now: Instant, lane: usize, session: SessionId, remote: &Addr, place: Place) {
        if !self.admit(now, remote) {
            let is_refused = self.peers.contains_key(remote);
            let greeting = self.greeting(self.lanes[lane].class);
            let lane = &mut self.lanes[lane];
            if is_refused {
                // It may not know yet why; a session whose keys are used up tells nobody.
                let _ =
                    lane.endpoint.send(now, session, FrameKind::Control, &greeting.emit(), &mut lane.told);
            }
            lane.endpoint.close(now, session, &mut lane.told);
            return;
        }
        if !self.allows(remote, &place) {
            // Not a byte more leaves this way: who dials has had its handshake answered before it said who it is.
            self.dropped.forbidden += 1;
            self.end_silently(now, lane, session);
            if let Some(peer) = self.peers.get_mut(remote)
                && !peer.links().any(|(_, link)| link.is_up())
            {
                peer.trouble = Some("it dials by what its `transports` do not allow".to_owned());
            }
            return;
        }
        let Some(known) = self.transports.get(&place.transport) else { return };
        let Some(peer) = self.peers.get_mut(remote) else { return };
        let slot = peer.slots.entry(lane).or_insert_with(|| Slot::new(now));
        // The round has as good as succeeded; the greeting gets its time.
        slot.dialler.hold(now + std::time::Duration::from_secs(5));
        let link = slot.link.get_or_insert_with(|| Link::new(now, place, &known.profile));
        link.place.mtu = link.place.mtu.max(slot.dialler.mtu_of(place).unwrap_or(0));
        if link.liveness.is_silent() {
            // The other end may not be the one that fell silent: what was agreed with that one is void.
            link.class = None;
            link.liveness.renewed(now);
        }
        link.greetings.again(now);
        let known = &mut self.lanes[lane];
        let endpoint = &known.endpoint;
        known.owners.retain(|id, owner| owner != remote || endpoint.place(*id).is_some());
        known.owners.insert(session, *remote);
        self.sync_place(now, lane, remote);
        self.greet(now, lane, remote);
        self.arm(remote);
    }

    /// Whether a session with `remote` may be kept; makes room for a stranger where strangers are welcome.
    fn admit(&mut self, now: Instant, remote: &Addr) -> bool {
        match self.peers.get(remote) {
            Some(peer) if peer.refused_until.is_some_and(|until| now < until) => {
                self.dropped.other_network += 1;
                return false;
            }
            Some(_) => return true,
            None => {}
        }
        if *remote == self.me || self.accept == Accept::Peers || self.peers.len() >= PEERS_MAX {
            self.dropped.unlisted += 1;
            return false;
        }
        self.peers.insert(*remote, Peer::stranger());
        true
    }

    /// Sends our greeting.
    pub(super) fn greet(&mut self, now: Instant, lane: usize, remote: &Addr) {
        let greeting = self.greeting(self.class_here(lane, remote));
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        let greetings = &mut link.greetings;
        let greeting = Greeting { seen: greetings.theirs.is_some(), answer_me: !greetings.ours, ..greeting };
        if greetings.tries == 0 {
            greetings.first_sent = now;
        }
        greetings.tries += 1;
        greetings.next = now + GREETING_PAUSE;
        self.say(now, lane, remote, &greeting.emit());
    }

    fn greeting(&self, class: Class) -> Greeting {
        Greeting {
            version: control::VERSION,
            seen: false,
            answer_me: false,
            class: class.byte(),
            boot: self.boot,
            network: *self.network.as_bytes(),
            protocol: self.protocol,
        }
    }

    /// Sends a frame of the link itself.
    pub(super) fn say(&mut self, now: Instant, lane: usize, remote: &Addr, frame: &[u8]) {
        let lane = &mut self.lanes[lane];
        if let Some(session) = lane.endpoint.session(remote, LINKS_PLANE) {
            // A session whose keys are used up is told of in its turn.
            let _ = lane.endpoint.send(now, session, FrameKind::Control, frame, &mut lane.told);
        }
    }

    /// What this end takes the link to `remote` for.
    fn class_here(&self, lane: usize, remote: &Addr) -> Class {
        let class = self.lanes[lane].class;
        let link = self.peers.get(remote).and_then(|peer| peer.slots.get(&lane)?.link.as_ref());
        link.map_or(class, |link| class_here(class, link.place.remote))
    }

    /// Learns where the session to send in leads, and how long its frames may be.
    pub(super) fn sync_place(&mut self, now: Instant, lane: usize, remote: &Addr) {
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        let lane = &mut self.lanes[lane];
        let Some(session) = lane.endpoint.session(remote, LINKS_PLANE) else { return };
        let Some(place) = lane.endpoint.place(session).copied() else { return };
        let Some(known) = self.transports.get(&place.transport) else { return };
        let key = (place.transport, place.remote);
        if (link.place.transport, link.place.remote) != key || !lane.spots.contains_key(&key) {
            lane.spots.remove(&(link.place.transport, link.place.remote));
            // A place of a dial may name less than the transport carries; so may one that was known already.
            let mtu = place.mtu.max(if link.place.remote == place.remote { link.place.mtu } else { 0 });
            link.place = Place { mtu, ..place };
            link.path = crate::path::PathLength::new(now, mtu, known.profile.lossy);
        }
        let length = link.path.length();
        let spot = super::Spot { length, owner: *remote };
        if lane.spots.insert(key, spot) != Some(spot) {
            self.generation += 1;
        }
        if place.mtu != length {
            lane.endpoint.set_place(session, Place { mtu: length, ..place });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one event")]
    fn received(
        &mut self,
        now: Instant,
        lane: usize,
        session: SessionId,
        remote: &Addr,
        kind: FrameKind,
        payload: Bytes,
        out: &mut Vec<Action>,
    ) {
        let Some(Peer { slots, up, .. }) = self.peers.get_mut(remote) else { return };
        let Some(link) = slots.get_mut(&lane).and_then(|slot| slot.link.as_mut()) else { return };
        link.liveness.heard(now);
        match kind {
            FrameKind::Message => {
                link.received.0 += 1;
                link.received.1 += payload.len() as u64;
                match link.class {
                    Some(class) => {
                        let hop = Hop { peer: *remote, family: class.family() };
                        // What comes over a link that is held for dead is not for the network, which thinks it down.
                        if up.contains_key(&hop.family) {
                            out.push(Action::Received { hop, frame: payload });
                        } else {
                            link.dropped.early += 1;
                            self.dropped.early += 1;
                        }
                    }
                    None if link.keeps_early(payload.len()) => link.early.push_back(payload),
                    None => {
                        link.dropped.early += 1;
                        self.dropped.early += 1;
                    }
                }
            }
            FrameKind::Control => match control::parse(&payload) {
                Ok(Control::Greeting(greeting)) => self.greeted(now, lane, session, remote, &greeting, out),
                Ok(Control::Probe(probe)) => self.probed(now, lane, remote, probe),
                Ok(Control::Answer { number, cost }) => {
                    link.meter.told(cost);
                    self.answered(now, lane, remote, number, out);
                }
                Ok(Control::Unknown) => {}
                Err(_) => {
                    link.dropped.malformed += 1;
                    self.dropped.malformed += 1;
                }
            },
            _ => {
                link.dropped.malformed += 1;
                self.dropped.malformed += 1;
            }
        }
    }

    fn greeted(
        &mut self,
        now: Instant,
        lane: usize,
        session: SessionId,
        remote: &Addr,
        greeting: &Greeting,
        out: &mut Vec<Action>,
    ) {
        if !greeting.is_of(&self.network) {
            self.dropped.other_network += 1;
            self.refuse(now, lane, remote, "it is of another network", out);
            return;
        }
        if greeting.protocol != self.protocol {
            self.dropped.other_protocol += 1;
            let (theirs, ours) = (greeting.protocol, self.protocol);
            let why = format!(
                "it speaks another routing protocol in this network: {} there, {} here (network.protocol)",
                theirs.as_str(),
                ours.as_str()
            );
            self.refuse(now, lane, remote, &why, out);
            return;
        }
        let theirs = greeting.class();
        let here = self.class_here(lane, remote);
        let agreed = theirs.and_then(|theirs| agree(here, theirs));
        let Some(agreed) = agreed.filter(|_| greeting.version == control::VERSION) else {
            self.dropped.disagreed += 1;
            let why = if greeting.version == control::VERSION {
                "it takes the link for one of another family"
            } else {
                "it speaks another version of the link protocol"
            };
            self.refuse(now, lane, remote, why, out);
            return;
        };
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        let is_newest = link.greetings.theirs.is_none_or(|last| last <= session);
        if is_newest && link.boot.is_some_and(|boot| boot != greeting.boot) {
            // The other end has started anew and knows nothing of what was said before: the network must see that.
            link.class = None;
            self.announce(now, remote, out);
        }
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        let was_up = link.is_up();
        link.their_class = theirs;
        link.class = Some(agreed);
        if is_newest {
            link.boot = Some(greeting.boot);
            link.greetings.theirs = Some(session);
        }
        if greeting.seen && !link.greetings.ours {
            link.greetings.ours = true;
            if link.greetings.tries == 1 {
                let round_trip = now.saturating_duration_since(link.greetings.first_sent);
                link.meter.round_trip_was(now, round_trip);
            }
        }
        if !was_up && link.is_up() {
            link.since = now;
            self.linked(now, lane, remote);
        }
        if greeting.answer_me {
            self.greet(now, lane, remote);
        }
        self.sync_place(now, lane, remote);
        self.announce(now, remote, out);
        self.deliver_early(lane, remote, out);
        self.arm(remote);
    }

    /// A link has come up, or has answered again: dialling ends.
    fn linked(&mut self, now: Instant, lane: usize, remote: &Addr) {
        if let Some(slot) = self.peers.get_mut(remote).and_then(|peer| peer.slots.get_mut(&lane)) {
            slot.steadiness.rose(now);
        }
        self.judge(now, remote, lane);
        let Some(peer) = self.peers.get_mut(remote) else { return };
        peer.trouble = None;
        peer.refused_until = None;
        let Some(slot) = peer.slots.get_mut(&lane) else { return };
        let Some(link) = &slot.link else { return };
        if slot.dialler.is_dialling() {
            self.rounds -= 1;
            self.lanes[lane].endpoint.cancel(remote);
        }
        let token = peer.endpoints.iter().find(|endpoint| {
            matches!(link.place.remote, crate::Remote::Ip(address) if endpoint.socket_addr() == Some(address))
        });
        slot.dialler.succeeded(link.place, token.and_then(crate::Endpoint::token));
        tracing::info!(peer = ?remote, after = ?now.saturating_duration_since(link.since), "linked");
    }

    fn deliver_early(&mut self, lane: usize, remote: &Addr, out: &mut Vec<Action>) {
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        let Some(class) = link.class else { return };
        let hop = Hop { peer: *remote, family: class.family() };
        out.extend(link.early.drain(..).map(|frame| Action::Received { hop, frame }));
    }

    fn probed(&mut self, now: Instant, lane: usize, remote: &Addr, probe: Probe) {
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        link.meter.told(probe.cost);
        if probe.deaf && link.is_greeted() {
            link.liveness.other_end_is_deaf(now);
        }
        let answer = control::emit_answer(probe.number, link.meter.to_tell());
        self.say(now, lane, remote, &answer);
        if probe.deaf {
            self.arm(remote);
        }
    }

    fn answered(&mut self, now: Instant, lane: usize, remote: &Addr, number: u32, out: &mut Vec<Action>) {
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        if link.path.answered(now, number) {
            self.sync_place(now, lane, remote);
        }
        self.arm(remote);
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        if !link.meter.answered(now, number) {
            return;
        }
        let is_back = link.liveness.answered(now) && link.is_greeted();
        if is_back {
            link.since = now;
            link.path.resumed(now);
            self.linked(now, lane, remote);
        }
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        if link.meter.update(now) || is_back {
            self.announce(now, remote, out);
        }
        self.arm(remote);
    }

    /// After roaming a link may be near or far.
    fn class_may_differ(&mut self, now: Instant, lane: usize, remote: &Addr, out: &mut Vec<Action>) {
        let here = self.class_here(lane, remote);
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        let Some(agreed) = link.their_class.and_then(|theirs| agree(here, theirs)) else { return };
        if link.class.is_some_and(|class| class != agreed) {
            link.class = Some(agreed);
        }
        // The other end is told in any case: it may see the change only through us.
        if link.is_greeted() {
            self.greet(now, lane, remote);
        }
        self.announce(now, remote, out);
    }

    /// The last session with a peer is gone.
    pub(super) fn session_gone(
        &mut self,
        now: Instant,
        lane: usize,
        remote: &Addr,
        why: &str,
        out: &mut Vec<Action>,
    ) {
        let known = &mut self.lanes[lane];
        if known.endpoint.session(remote, LINKS_PLANE).is_some() {
            return;
        }
        known.owners.retain(|_, owner| owner != remote);
        let Some(peer) = self.peers.get_mut(remote) else { return };
        if peer.link_mut(lane).is_some() {
            peer.trouble = Some(why.to_owned());
            self.drop_link(now, lane, remote, out);
        }
    }

    /// Ends a link with a peer that must not be linked, and leaves it alone for a while.
    fn refuse(&mut self, now: Instant, lane: usize, remote: &Addr, why: &str, out: &mut Vec<Action>) {
        tracing::info!(peer = ?remote, why, "not linked");
        if let Some(peer) = self.peers.get_mut(remote) {
            peer.trouble = Some(why.to_owned());
            peer.refused_until = Some(now + REFUSED);
        }
        self.close_link(now, lane, remote, out);
    }
}
