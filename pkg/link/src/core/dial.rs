//! Dialling, and the connections that come of it.

use std::time::{Duration, Instant};

use byway_identity::Addr;
use byway_network::Class;
use byway_session::Connect;

use super::{Action, CONNECTION_UNUSED, CONNECTIONS_MAX, Core, Dial, ROUNDS_MAX, Slot};
use crate::dialler::{Dialler, State, Step};
use crate::health::Evidence;
use crate::path::BASE;
use crate::{DialError, DialId, Place, Remote};

impl Core {
    /// Makes a slot for each lane that an endpoint of the peer can be dialled on, and starts to dial where no link is.
    pub(super) fn make_slots(&mut self, now: Instant, addr: &Addr) {
        let Some(peer) = self.peers.get(addr) else { return };
        let mut lanes: Vec<(Duration, Class, usize)> = Vec::new();
        for (index, lane) in self.lanes.iter().enumerate() {
            let quickest = self.targets(peer, index).filter_map(|(id, _)| self.transports.get(&id));
            let quickest = quickest.map(|known| known.profile.typical_rtt).min();
            lanes.extend(quickest.map(|typical| (typical, lane.class, index)));
        }
        // What is quickest has a head start.
        lanes.sort_unstable();
        let Some(peer) = self.peers.get_mut(addr) else { return };
        for (turn, (_, _, lane)) in lanes.into_iter().enumerate() {
            let slot = peer.slots.entry(lane).or_insert_with(|| Slot::new(now));
            let is_up = slot.link.as_ref().is_some_and(super::Link::is_up);
            if !is_up && !slot.dialler.is_dialling() {
                slot.dialler.in_turn(now, turn);
            }
        }
        if !peer.endpoints.is_empty()
            && !peer.endpoints.iter().any(|endpoint| peer.allowed.has(endpoint.scheme()))
        {
            peer.trouble = Some("none of its endpoints is of a kind that its `transports` allow".to_owned());
            return;
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
        let Some(peer) = self.peers.get(addr) else { return };
        let Some(slot) = peer.slots.get(&lane) else { return };
        let begins = matches!(slot.dialler.state, State::Wait { until } if until <= now);
        let targets: Vec<_> = if begins {
            self.targets(peer, lane).map(|(id, endpoint)| (id, endpoint.clone())).collect()
        } else {
            Vec::new()
        };
        let is_elsewhere = peer.links().any(|(_, link)| link.is_up());
        let Some(peer) = self.peers.get_mut(addr) else { return };
        let Some(slot) = peer.slots.get_mut(&lane) else { return };
        if begins {
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
            slot.dialler.begin(now, targets.into_iter());
        }
        while let Some(step) = slot.dialler.step(now) {
            match step {
                Step::Dial { transport, endpoint } => {
                    if !peer.allowed.has(endpoint.scheme()) {
                        continue;
                    }
                    let id = DialId(self.next_dial);
                    self.next_dial += 1;
                    slot.dialler.looking_up.push(endpoint.clone());
                    self.dials.insert(id, Dial { peer: *addr, lane, endpoint: endpoint.clone() });
                    out.push(Action::Dial { id, transport, peer: *addr, endpoint });
                }
                Step::Connect { place, token } => {
                    let known = self.transports.get(&place.transport);
                    if known.is_none_or(|known| !peer.allowed.has_any(&known.schemes)) {
                        continue;
                    }
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
            let places = slot.dialler.end(now, is_elsewhere, &mut self.entropy);
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
                let why = format!("no answer from any endpoint{hint}");
                slot.health.failed(now, Some(Evidence::Timeout), is_elsewhere, &why);
                if !is_elsewhere {
                    peer.trouble.get_or_insert(why);
                }
            }
            self.judge(now, addr, lane);
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
        let is_elsewhere = peer.links().any(|(_, link)| link.is_up());
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
                let told = why.to_string();
                let evidence = match why {
                    DialError::Certificate(_) => Some(Evidence::Certificate),
                    DialError::Unsupported | DialError::Wrong(_) | DialError::Clock(_) => None,
                    _ => Some(Evidence::Cut),
                };
                slot.health.failed(now, evidence, is_elsewhere, &told);
                if !is_elsewhere {
                    peer.trouble = Some(told);
                }
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
        self.judge(now, &addr, lane);
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
            let why = "the connection ended";
            if let Some(peer) = self.peers.get_mut(&owner) {
                let is_elsewhere = peer.links().any(|(other, link)| other != lane_index && link.is_up());
                if let Some(slot) = peer.slots.get_mut(&lane_index) {
                    slot.health.failed(now, Some(Evidence::Cut), is_elsewhere, why);
                }
                if !is_elsewhere {
                    peer.trouble = Some(why.to_owned());
                }
            }
            // What the close wants to say has nowhere to go.
            self.close_silently(now, lane_index, &owner, out);
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
