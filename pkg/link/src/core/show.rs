//! What the core shows to people, and counts.

use byway_identity::Addr;
use byway_network::Cost;

use super::{Core, LINKS_PLANE, Link, Peer, Slot};
use crate::Place;
use crate::config::{Counters, LinkDropped, LinkStatus, PeerStatus, WayStatus};

impl Core {
    /// Peers, for people to look at.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let status = |(addr, peer): (&Addr, &Peer)| PeerStatus {
            addr: *addr,
            endpoints: peer.endpoints.clone(),
            state: peer.state(),
            links: peer.links().filter(|(_, link)| link.is_up()).count(),
            trouble: peer.trouble.clone(),
        };
        self.peers.iter().map(status).collect()
    }

    /// Open links, for people to look at.
    pub fn links(&self) -> Vec<LinkStatus> {
        let mut links = Vec::new();
        for (addr, peer) in &self.peers {
            for (lane, slot) in &peer.slots {
                let Some(link) = slot.link.as_ref().filter(|link| link.is_up()) else { continue };
                let Some(class) = link.class else { continue };
                let (lane, (state, state_since, _)) = (*lane, slot.health.show());
                let tally = self.lanes[lane].endpoint.tally(addr, LINKS_PLANE);
                links.push(LinkStatus {
                    peer: *addr,
                    place: Place { mtu: link.path.length(), ..link.place },
                    class,
                    rtt: link.meter.smoothed(),
                    loss: link.meter.loss(),
                    cost: link.meter.cost(),
                    sent: link.sent,
                    received: link.received,
                    since: link.since,
                    role: peer.role(lane),
                    state: (state, state_since),
                    lane,
                    handshakes: tally.established,
                    rekeys: tally.renewed,
                    dropped: LinkDropped {
                        forged: tally.forged,
                        replayed: tally.replayed,
                        malformed: tally.malformed + link.dropped.malformed,
                        ..link.dropped
                    },
                });
            }
        }
        links
    }

    /// Ways to listed peers that are dialled and on which no link is open, for people to look at.
    pub fn ways(&self) -> Vec<WayStatus> {
        let mut ways = Vec::new();
        for (addr, peer) in &self.peers {
            let closed = |slot: &Slot| !slot.link.as_ref().is_some_and(Link::is_up);
            for (lane, slot) in peer.slots.iter().filter(|(_, slot)| closed(slot)) {
                let Some((known, endpoint)) = self.targets(peer, *lane).next() else { continue };
                let (state, since, why) = slot.health.show();
                let profile = &self.transports[&known].profile;
                ways.push(WayStatus {
                    peer: *addr,
                    endpoint: endpoint.clone(),
                    class: profile.class,
                    state,
                    since,
                    why: why.map(str::to_owned),
                    cost: Cost::of_link(profile.typical_rtt, 0.0, profile.rate),
                });
            }
        }
        ways
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        let mut session = byway_session::Counters::default();
        for lane in &self.lanes {
            let more = lane.endpoint.counters();
            session.sealed += more.sealed;
            session.opened += more.opened;
            session.handshakes += more.handshakes;
            session.established += more.established;
            session.unknown += more.unknown;
            session.forged += more.forged;
            session.replayed += more.replayed;
            session.malformed += more.malformed;
            session.overload += more.overload;
        }
        Counters { session, dropped: self.dropped }
    }
}
