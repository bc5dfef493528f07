//! Dialling, and the connections that come of it.

use std::time::{Duration, Instant};

use byway_identity::Addr;
use byway_session::Connect;

use super::{Action, CONNECTION_UNUSED, CONNECTIONS_MAX, Core, Dial, ROUNDS_MAX, Slot};
use crate::dialler::{Dialler, State, Step};
use crate::path::BASE;
use crate::{DialError, DialId, Place, Remote};

impl Core {
    /// Makes a slot for each lane that an endpoint of the peer can be dialled on, and starts to dial where no link is.
    pub(super) fn make_slots(&mut self, now: Instant, addr: &Addr) {
        let Some(peer) = self.peers.get_mut(addr) else { return };
        let mut lanes = Vec::new();
        for endpoint in &peer.endpoints {
            for known in self.transports.values().filter(|known| known.schemes.contains(&endpoint.scheme())) {
                lanes.push(known.lane);
            }
        }
        for lane in lanes {
            let slot = peer.slots.entry(lane).or_insert_with(Slot::default);
            let is_up = slot.link.as_ref().is_some_and(super::Link::is_up);
            if !is_up && !slot.dialler.is_dialling() {
                slot.dialler.now(now);
            }
        }
        let can_dial = peer.slots.values().any(|slot| slot.dialler.due().is_some() || slot.link.is_some());
        if !peer.endpoints.is_empty() && !can_dial {
            peer.trouble = Some(DialError::Unsupported.to_string());
        }
    }

    /// How long a handshake over the transports of a lane may take.
    fn patience(&self, lane: usize) -> Duration {
        let slow = self.transports.values().filter(|known| known.lane == lane);
        slow.map(|known| 10 * known.profile.typical_rtt).max().unwrap_or_default()
    }

    /// Ends what is being dialled, and forgets that it failed before: there are other endpoints now.
    pub(super) fn forget_rounds(&mut self, addr: &Addr) {
        let Some(peer) = self.peers.get_mut(addr) else { return };
        for (lane, slot) in &mut peer.slots {
            if slot.dialler.is_dialling() {
                self.rounds -= 1;
                self.lanes[*lane].endpoint.cancel(addr);
            }
            slot.dialler = Dialler::default();
        }
        self.dials.retain(|_, dial| dial.peer != *addr);
    }

    /// Begins, continues or ends the round of one slot.
    pub(super) fn dial(&mut self, now: Instant, addr: &Addr, lane: usize, out: &mut Vec<Action>) {
        let patience = self.patience(lane);
        let Some(peer) = self.peers.get_mut(addr) else { return };
        let Some(slot) = peer.slots.get_mut(&lane) else { return };
        if let State::Wait { until } = slot.dialler.state
            && until <= now
        {
            if let Some(until) = peer.refused_until.filter(|until| *until > now) {
                slot.dialler.not_before(until);
                return;
            }
            if self.rounds >= ROUNDS_MAX {
                slot.dialler.not_before(now + Duration::from_millis(250));
                return;
            }
            self.rounds += 1;
            slot.dialler.patience = patience;
            let transports = &self.transports;
            let targets = peer.endpoints.iter().flat_map(|endpoint| {
                let able = transports.iter().filter(move |(_, known)| {
                    known.lane == lane && known.schemes.contains(&endpoint.scheme())
                });
                able.map(|(id, _)| (*id, endpoint.clone()))
            });
            slot.dialler.begin(now, targets);
        }
        while let Some(step) = slot.dialler.step(now) {
            match step {
                Step::Dial { transport, endpoint } => {
                    let id = DialId(self.next_dial);
                    self.next_dial += 1;
                    slot.dialler.looking_up.push(endpoint.clone());
                    self.dials.insert(id, Dial { peer: *addr, lane, endpoint: endpoint.clone() });
                    out.push(Action::Dial { id, transport, peer: *addr, endpoint });
                }
                Step::Connect { place, token } => {
                    if let State::Round(round) = &mut slot.dialler.state {
                        round.places.push(place);
                    }
                    let connect = Connect { remote: *addr, place, token, digest: None };
                    let lane = &mut self.lanes[lane];
                    lane.endpoint.connect(now, connect, &mut lane.told);
                }
            }
        }
        if slot.dialler.is_over(now) {
            self.rounds -= 1;
            let places = slot.dialler.end(now, &mut self.entropy);
            if !places.is_empty() {
                let lane = &mut self.lanes[lane];
                lane.endpoint.cancel(addr);
                for place in places {
                    if let Remote::Connection(number) = place.remote
                        && !lane.spots.contains_key(&(place.transport, place.remote))
                        && self.connections.remove(&(place.transport, number)).is_some()
                    {
                        out.push(Action::HangUp { place });
                    }
                }
                let hint = if self.group_key.is_some() { "; it may not have this group's key" } else { "" };
                peer.trouble.get_or_insert_with(|| format!("no answer from any endpoint{hint}"));
            }
        }
    }

    /// A transport answers a dial.
    pub(super) fn dialled(
        &mut self,
        now: Instant,
        id: DialId,
        result: Result<Vec<Place>, DialError>,
        out: &mut Vec<Action>,
    ) {
        let places = result.as_ref().map(Vec::as_slice).unwrap_or_default();
        let connections = places.iter().filter(|place| matches!(place.remote, Remote::Connection(_)));
        let refused: Vec<Place> =
            connections.copied().filter(|place| !self.note_connection(now, *place)).collect();
        out.extend(refused.into_iter().map(|place| Action::HangUp { place }));
        let Some(Dial { peer: addr, lane, endpoint }) = self.dials.remove(&id) else { return };
        let patience = self.patience(lane);
        let Some(peer) = self.peers.get_mut(&addr) else { return };
        let Some(slot) = peer.slots.get_mut(&lane) else { return };
        if let Some(at) = slot.dialler.looking_up.iter().position(|other| *other == endpoint) {
            slot.dialler.looking_up.swap_remove(at);
        }
        match result {
            Ok(places) => {
                let was_dialling = slot.dialler.is_dialling();
                slot.dialler.patience = patience;
                let lossy = |place: &Place| {
                    self.transports.get(&place.transport).is_some_and(|known| known.profile.lossy)
                };
                let short = places.first().is_some_and(lossy).then_some(BASE);
                if slot.dialler.add_places(now, &places, endpoint.token(), short) && !was_dialling {
                    self.rounds += 1;
                }
            }
            Err(why) => {
                peer.trouble = Some(why.to_string());
                match why {
                    DialError::Name | DialError::Proxy | DialError::Site => {
                        slot.dialler.at_least(Duration::from_secs(2));
                    }
                    DialError::Unsupported
                    | DialError::Wrong(_)
                    | DialError::Certificate(_)
                    | DialError::Clock(_) => {
                        slot.dialler.at_least(Duration::from_secs(15));
                    }
                    DialError::Unreachable | DialError::Told(_) => {}
                }
            }
        }
        self.upkeep(now, &addr, out);
    }

    /// Remembers a connection until a link uses it; false if there are too many.
    pub(super) fn note_connection(&mut self, now: Instant, place: Place) -> bool {
        let Remote::Connection(number) = place.remote else { return true };
        let key = (place.transport, number);
        if self.connections.len() >= CONNECTIONS_MAX && !self.connections.contains_key(&key) {
            return false;
        }
        let lane = self.transports.get(&place.transport).map(|known| known.lane);
        let due = now + lane.map_or(CONNECTION_UNUSED, |lane| CONNECTION_UNUSED.max(2 * self.patience(lane)));
        self.connections.insert(key, (place, due));
        self.next_connections = Some(self.next_connections.map_or(due, |next| next.min(due)));
        true
    }

    /// A connection is gone, and with it what went over it.
    pub(super) fn connection_closed(&mut self, now: Instant, place: Place, out: &mut Vec<Action>) {
        if let Remote::Connection(number) = place.remote {
            self.connections.remove(&(place.transport, number));
        }
        let Some(known) = self.transports.get(&place.transport) else { return };
        let lane_index = known.lane;
        let lane = &mut self.lanes[lane_index];
        let is_here = |other: &Place| other.transport == place.transport && other.remote == place.remote;
        let owners = lane.owners.iter();
        let mut lost: Vec<Addr> = owners
            .filter(|(session, _)| lane.endpoint.place(**session).is_some_and(is_here))
            .map(|(_, owner)| *owner)
            .collect();
        lost.sort_unstable();
        lost.dedup();
        for owner in lost {
            if let Some(peer) = self.peers.get_mut(&owner) {
                peer.trouble = Some("the connection ended".to_owned());
            }
            self.close_link(now, lane_index, &owner, out);
            // What the close wants to say has nowhere to go.
            let told = &mut self.lanes[lane_index].told;
            told.retain(
                |event| !matches!(event, byway_session::Event::Transmit { place, .. } if is_here(place)),
            );
        }
    }

    /// Ends connections that no link came to use.
    pub(super) fn look_at_connections(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.next_connections.is_none_or(|due| now < due) {
            return;
        }
        let lanes = &self.lanes;
        let in_use = |place: &Place| {
            lanes.iter().any(|lane| lane.spots.contains_key(&(place.transport, place.remote)))
        };
        self.connections.retain(|_, (place, due)| {
            if *due > now {
                return true;
            }
            if in_use(place) {
                *due = now + CONNECTION_UNUSED;
                return true;
            }
            out.push(Action::HangUp { place: *place });
            false
        });
        self.next_connections = self.connections.values().map(|(_, due)| *due).min();
    }
}
