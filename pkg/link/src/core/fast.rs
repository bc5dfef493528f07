//! What the threads of the fast path need of links, and what they did on them; and frames that go without a link frame.
//!
//! A *bare* frame is one of an end-to-end session whose next hop is its destination: it goes onto a link's place as it is, since it
//! looks like a link frame and another encryption would hide nothing more. Only clear links over datagrams carry such.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use byway_identity::Addr;
use byway_network::{Family, Hop};
use byway_session::{Flow, Inbound, Indices, Outbound, frame};

use super::{Action, Core, Lane};
use crate::link::Link;
use crate::{Place, Remote, TransportId};

/// An open link over datagrams, for threads that seal and open on it.
pub struct FastLink {
    /// Who is at the other end, and by which family.
    pub hop: Hop,
    /// The transport that it goes by.
    pub transport: TransportId,
    /// Where its frames go and come from.
    pub to: SocketAddr,
    /// Longest frame that it carries, in bytes.
    pub frame_max: u16,
    /// Whether it is the one in use to its hop; frames come over the others too.
    pub is_best: bool,
    /// Seals its frames.
    pub outbound: Arc<Outbound>,
    /// Opens frames of the session in use.
    pub inbound: Arc<Inbound>,
    /// Receiver indices of all its sessions, and what opens their frames.
    pub sessions: Vec<(u32, Arc<Inbound>)>,
}

/// What others did in a session, as far as it has been looked at.
pub struct Watch {
    outbound: Arc<Outbound>,
    inbound: Arc<Inbound>,
    seen: [Flow; 2],
}

/// What others did since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Frames and bytes sent.
    pub sent: (u64, u64),
    /// Frames and bytes received.
    pub received: (u64, u64),
    /// When something was sent last, if ever.
    pub sent_at: Option<Instant>,
    /// When something was received last, if ever.
    pub received_at: Option<Instant>,
}

/// Whose a receiver index is, in a table that a whole daemon shares: with this bit set, a link's.
pub const LINK_TAG: u32 = 1 << 31;

impl Watch {
    /// Everything that others have done so far is still to be told.
    pub fn new(outbound: &Arc<Outbound>, inbound: &Arc<Inbound>) -> Self {
        Self { outbound: outbound.clone(), inbound: inbound.clone(), seen: [Flow::default(); 2] }
    }

    /// What others did since this was called last.
    pub fn look(&mut self) -> Carried {
        let now = [self.outbound.sent(), self.inbound.received()];
        let before = std::mem::replace(&mut self.seen, now);
        let more = |at: usize| (now[at].frames - before[at].frames, now[at].bytes - before[at].bytes);
        Carried { sent: more(0), received: more(1), sent_at: now[0].last, received_at: now[1].last }
    }
}

impl Carried {
    /// Whether there was anything.
    pub fn is_any(&self) -> bool {
        self.sent.0 + self.received.0 > 0
    }

    /// What was received, less what has been handed over and is counted elsewhere; `handed` keeps what was not in it yet.
    pub fn received_less(&self, handed: &mut (u64, u64)) -> (u64, u64) {
        let less = (handed.0.min(self.received.0), handed.1.min(self.received.1));
        *handed = (handed.0 - less.0, handed.1 - less.1);
        (self.received.0 - less.0, self.received.1 - less.1)
    }
}

impl Core {
    /// From now on the sessions of links have receiver indices that nobody else has in `indices`; each stands there under a
    /// tag with [`LINK_TAG`] in it. To be called before there are transports.
    pub fn share_indices(&mut self, indices: Indices) {
        for (number, lane) in (0..).zip(&mut self.lanes) {
            lane.endpoint.share_indices(indices.clone(), LINK_TAG | number);
        }
        self.indices = Some(indices);
    }

    /// Grows whenever [`Core::fast_links`] would give something else than before.
    pub fn generation(&self) -> u64 {
        self.lanes.iter().fold(self.generation, |sum, lane| sum.wrapping_add(lane.endpoint.generation()))
    }

    /// The open links that threads may use: clear ones over datagrams.
    pub fn fast_links(&self) -> Vec<FastLink> {
        let mut links: Vec<FastLink> = Vec::new();
        for (number, lane) in self.lanes.iter().enumerate() {
            let mut halves: Vec<_> = lane.endpoint.halves().collect();
            halves.sort_unstable_by_key(|half| (half.remote, !half.in_use, half.session));
            for of_one in halves.chunk_by(|one, other| one.remote == other.remote) {
                let [in_use, ..] = of_one else { continue };
                let Some(peer) = self.peers.get(&in_use.remote) else { continue };
                let Some(link) = peer.slots.get(&number).and_then(|slot| slot.link.as_ref()) else {
                    continue;
                };
                let Some((family, to)) = bare_target(link) else { continue };
                if !in_use.in_use || !peer.up.contains_key(&family) {
                    continue;
                }
                links.push(FastLink {
                    hop: Hop { peer: in_use.remote, family },
                    transport: link.place.transport,
                    to,
                    frame_max: link.path.length(),
                    is_best: peer.active(family).is_some_and(|(best, _)| best == number),
                    outbound: in_use.outbound.clone(),
                    inbound: in_use.inbound.clone(),
                    sessions: of_one.iter().map(|half| (half.index, half.inbound.clone())).collect(),
                });
            }
        }
        links
    }

    /// Takes over what threads did since the last call: signs of life, and what is counted. Whether there was anything.
    pub fn sync(&mut self, now: Instant) -> bool {
        let since = self.synced.replace(now).unwrap_or(now);
        let mut any = false;
        for number in 0..self.lanes.len() {
            for (remote, carried) in self.lanes[number].carried() {
                any |= carried.is_any();
                let link = self.peers.get_mut(&remote).and_then(|peer| peer.link_mut(number));
                if let Some(link) = link.filter(|_| carried.is_any()) {
                    link.carried(since, &carried);
                    self.arm(&remote);
                }
            }
        }
        any
    }

    /// The family of the links of a transport, as it says itself.
    pub fn family(&self, transport: TransportId) -> Option<Family> {
        self.transports.get(&transport).map(|known| known.profile.class.family())
    }

    /// A thread handed over what a frame of a link held, and has counted it.
    pub(super) fn handed(&mut self, place: Place, payload: usize) {
        let Some(known) = self.transports.get(&place.transport) else { return };
        let key = (place.transport, place.remote);
        let Some(owner) = self.lanes[known.lane].spots.get(&key).map(|spot| spot.owner) else { return };
        if let Some(link) = self.peers.get_mut(&owner).and_then(|peer| peer.link_mut(known.lane)) {
            link.handed.0 += 1;
            link.handed.1 += (payload + frame::OVERHEAD) as u64;
        }
    }

    /// Longest bare frame that goes to `hop`; `None`: none does.
    pub fn bare_mtu(&self, hop: Hop) -> Option<u16> {
        let (_, link) = self.peers.get(&hop.peer)?.active(hop.family)?;
        bare_target(link).map(|_| link.path.length())
    }

    /// Sends `frame`, of an end-to-end session with `hop.peer` itself, over the link in use without a link frame. False, and
    /// nothing was done: such links carry no bare frames, or none so long.
    pub fn send_bare(&mut self, now: Instant, hop: Hop, frame: &Bytes, out: &mut Vec<Action>) -> bool {
        let Some(peer) = self.peers.get_mut(&hop.peer) else { return false };
        let Some((_, link)) = peer.active_mut(hop.family) else { return false };
        if bare_target(link).is_none() || frame.len() > usize::from(link.path.length()) {
            return false;
        }
        out.push(Action::Transmit { place: link.place, frame: frame.clone() });
        link.was_sent(now, frame.len());
        let due = link.due();
        if peer.armed.is_none_or(|armed| due.is_some_and(|due| due < armed)) {
            self.arm(&hop.peer);
        }
        true
    }

    /// A bare frame of `bytes` bytes came from `place`, in a session with `remote`: if a link to that one leads there, it lives.
    pub fn bare_heard(&mut self, now: Instant, place: Place, remote: &Addr, bytes: usize) {
        let Some(lane) = self.transports.get(&place.transport).map(|known| known.lane) else { return };
        let Some(link) = self.peers.get_mut(remote).and_then(|peer| peer.link_mut(lane)) else { return };
        if link.place.remote == place.remote && link.place.transport == place.transport {
            link.liveness.heard(now);
            link.received.0 += 1;
            link.received.1 += bytes as u64;
        }
    }
}

impl Lane {
    /// What threads did since the last call, by peer. A session that has ended is looked at for the last time.
    fn carried(&mut self) -> Vec<(Addr, Carried)> {
        let live: Vec<_> = self.endpoint.halves().map(|half| half.session).collect();
        for half in self.endpoint.halves() {
            self.watched
                .entry(half.session)
                .or_insert_with(|| (half.remote, Watch::new(half.outbound, half.inbound)));
        }
        let carried = self.watched.values_mut().map(|(remote, watch)| (*remote, watch.look())).collect();
        self.watched.retain(|session, _| live.contains(session));
        carried
    }
}

impl Link {
    /// A frame of `length` bytes was sent that should bring something back.
    pub(crate) fn was_sent(&mut self, now: Instant, length: usize) {
        self.liveness.sent(now);
        self.path.used(length);
        self.sent.0 += 1;
        self.sent.1 += length as u64;
    }

    /// Threads did this after `since`.
    fn carried(&mut self, since: Instant, carried: &Carried) {
        self.liveness.carried(since, carried.sent_at, carried.received_at);
        if carried.sent.0 > 0 {
            // How long the longest was is not known; they use what there is.
            self.path.used(self.path.length().into());
        }
        let received = carried.received_less(&mut self.handed);
        self.sent = (self.sent.0 + carried.sent.0, self.sent.1 + carried.sent.1);
        self.received = (self.received.0 + received.0, self.received.1 + received.1);
    }
}

/// Where bare frames over `link` go, and by which family; `None`: it carries none.
fn bare_target(link: &Link) -> Option<(Family, SocketAddr)> {
    let family = link.class.filter(|_| link.is_up())?.family();
    match link.place.remote {
        Remote::Ip(address) if matches!(family, Family::Ip | Family::Ethernet) => Some((family, address)),
        Remote::Ip(_) | Remote::Connection(_) => None,
    }
}
