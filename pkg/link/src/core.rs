//! The core: peers, their links, and what is due when.
//!
//! Each class of transport has a *lane*: a session endpoint of its own, so that a peer has one link per lane, and a link
//! through one kind of transport shares no session with another. Everything that is due is found through one ordered set
//! of times; a frame touches only its own peer.

mod dial;
mod events;
mod fast;
mod peer;
mod shared;
mod show;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Addr, Entropy, SigningKey};
use byway_network::{Class, Cost, Hop, NetworkId};
use byway_session::{FrameKind, Indices, SendError, SessionId};
use zeroize::Zeroizing;

use crate::config::{Accept, Config, Dropped, PeerConfig};
use crate::control::Name;
use crate::link::Link;
use crate::{DialId, Endpoint, Event, Place, Profile, Remote, Scheme, TransportId};
pub use fast::{Carried, FastLink, LINK_TAG, Watch};
use peer::{Peer, Slot};
use shared::SharedEntropy;

/// What the core wants done, or tells.
#[derive(Debug)]
pub enum Action {
    /// Give `frame` to the transport of `place`.
    Transmit {
        /// Where to.
        place: Place,
        /// What.
        frame: Bytes,
    },
    /// Dial; the answer comes back through [`Core::handle`] as [`Event::Dialled`].
    Dial {
        /// To be named in the answer.
        id: DialId,
        /// Who shall dial.
        transport: TransportId,
        /// Who is expected there.
        peer: Addr,
        /// Where to.
        endpoint: Endpoint,
    },
    /// End a connection.
    HangUp {
        /// Which.
        place: Place,
    },
    /// A hop is up: its best link has this class and cost.
    Up {
        /// Which.
        hop: Hop,
        /// Of the best link.
        class: Class,
        /// Of the best link.
        cost: Cost,
    },
    /// The best link of a hop has another class or cost.
    Cost {
        /// Which.
        hop: Hop,
        /// Of the best link.
        class: Class,
        /// Of the best link.
        cost: Cost,
    },
    /// A hop is down.
    Down {
        /// Which.
        hop: Hop,
    },
    /// A network frame came from a hop.
    Received {
        /// From where.
        hop: Hop,
        /// What.
        frame: Bytes,
    },
}

/// All links of one daemon.
pub struct Core {
    me: Addr,
    key: SigningKey,
    network: NetworkId,
    protocol: Name,
    group_key: Option<Zeroizing<[u8; 32]>>,
    accept: Accept,
    boot: u64,
    clock: (Instant, u64),
    ratchet: Duration,
    ciphers: byway_session::Ciphers,
    entropy: SharedEntropy,
    transports: BTreeMap<TransportId, Known>,
    lanes: Vec<Lane>,
    peers: BTreeMap<Addr, Peer>,
    /// When something is due for a peer; each peer stands here at most once.
    timers: BTreeSet<(Instant, Addr)>,
    next_dial: u64,
    dials: BTreeMap<DialId, Dial>,
    rounds: usize,
    /// Room for events, kept from turn to turn.
    spare: Vec<byway_session::Event<Place>>,
    /// Open connections, and when to ask next whether a link uses them.
    connections: BTreeMap<(TransportId, u64), (Place, Instant)>,
    next_connections: Option<Instant>,
    dropped: Dropped,
    indices: Option<Indices>,
    /// Grows with whatever [`Core::fast_links`] shows, but sessions, which count for themselves.
    generation: u64,
    /// When [`Core::sync`] was called last.
    synced: Option<Instant>,
}

/// A transport that was added.
struct Known {
    profile: Profile,
    schemes: Vec<Scheme>,
    lane: usize,
}

/// One class of transports, and all sessions over it.
struct Lane {
    class: Class,
    endpoint: byway_session::Endpoint<Place>,
    /// What the endpoint told and nobody has looked at yet.
    told: Vec<byway_session::Event<Place>>,
    /// Whose sessions these are.
    owners: HashMap<SessionId, Addr>,
    /// Places where a link is.
    spots: HashMap<(TransportId, Remote), Spot>,
    /// What threads have done in its sessions, and with whom.
    watched: HashMap<SessionId, (Addr, Watch)>,
}

/// A place where a link is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Spot {
    /// Frame length; elsewhere the transport's counts.
    length: u16,
    owner: Addr,
}

/// A dial that is under way.
struct Dial {
    peer: Addr,
    lane: usize,
    endpoint: Endpoint,
}

/// The plane of all link sessions.
const LINKS_PLANE: u8 = 0;
/// Most peers, listed or not.
const PEERS_MAX: usize = 1_024;
/// Endpoints of one peer that are dialled.
const ENDPOINTS_MAX: usize = 8;
/// Peers that are dialled at the same time.
const ROUNDS_MAX: usize = 64;
/// Open connections that no link uses yet.
const CONNECTIONS_MAX: usize = 2_048;
/// How long a connection may be without a link.
const CONNECTION_UNUSED: Duration = Duration::from_secs(10);
/// How long a silent link keeps its session, so that it is found again at once.
const SILENT_MAX: Duration = Duration::from_secs(1_200);
/// The same for a peer that is not on the list.
const STRANGER_SILENT_MAX: Duration = Duration::from_secs(60);
/// How long a peer of another network is left alone.
const REFUSED: Duration = Duration::from_secs(60);

impl Lane {
    /// The place with the length that frames of a link there may have.
    fn sized(&self, place: Place) -> Place {
        let spot = self.spots.get(&(place.transport, place.remote));
        Place { mtu: spot.map_or(place.mtu, |spot| spot.length), ..place }
    }
}

impl Core {
    /// A core without transports and peers.
    ///
    /// # Panics
    ///
    /// When no protocol may be called as `config` says.
    pub fn new(now: Instant, config: Config, entropy: Box<dyn Entropy>) -> Self {
        Self {
            me: config.key.public().addr(),
            key: config.key,
            network: config.network,
            protocol: Name::new(config.protocol.as_bytes())
                .expect("whoever makes the config chose a proper name"),
            group_key: config.group_key.map(Zeroizing::new),
            accept: config.accept,
            boot: config.boot,
            clock: (now, config.unix),
            ratchet: config.ratchet,
            ciphers: config.ciphers,
            entropy: SharedEntropy::new(entropy),
            transports: BTreeMap::new(),
            lanes: Vec::new(),
            peers: BTreeMap::new(),
            timers: BTreeSet::new(),
            next_dial: 0,
            dials: BTreeMap::new(),
            rounds: 0,
            spare: Vec::new(),
            connections: BTreeMap::new(),
            next_connections: None,
            dropped: Dropped::default(),
            indices: None,
            generation: 0,
            synced: None,
        }
    }

    /// A transport is there from now on; peers that it can dial are dialled with the next [`Core::heartbeat`].
    pub fn add_transport(&mut self, now: Instant, id: TransportId, profile: Profile, schemes: &[Scheme]) {
        let lane = self.lane_of(now, profile.class);
        self.transports.insert(id, Known { profile, schemes: schemes.to_vec(), lane });
        let peers: Vec<Addr> = self.peers.keys().copied().collect();
        for peer in peers {
            self.make_slots(now, &peer);
            self.arm(&peer);
        }
    }

    /// Adds a peer, or replaces its endpoints and what is allowed; open links stay, but those that no longer are.
    pub fn add_peer(&mut self, now: Instant, peer: PeerConfig, out: &mut Vec<Action>) {
        let PeerConfig { addr, mut endpoints, allowed } = peer;
        if addr == self.me {
            tracing::warn!("a peer with this node's own address is left out");
            return;
        }
        if !self.peers.contains_key(&addr)
            && self.peers.len() >= PEERS_MAX
            && !self.evict_a_stranger(now, out)
        {
            tracing::warn!(most = PEERS_MAX, "there is no room for another peer");
            return;
        }
        endpoints.truncate(ENDPOINTS_MAX);
        let peer = self.peers.entry(addr).or_insert_with(Peer::stranger);
        peer.listed = true;
        peer.refused_until = None;
        if peer.endpoints != endpoints || peer.allowed != allowed {
            peer.endpoints = endpoints;
            peer.allowed = allowed;
            self.forget_rounds(&addr);
            self.end_forbidden(now, &addr, out);
        }
        self.make_slots(now, &addr);
        self.upkeep(now, &addr, out);
        self.settle(now, out);
    }

    /// Removes a peer and ends its links; false if there was none.
    pub fn remove_peer(&mut self, now: Instant, peer: &Addr, out: &mut Vec<Action>) -> bool {
        if !self.peers.contains_key(peer) {
            return false;
        }
        self.end_peer(now, peer, out);
        self.settle(now, out);
        true
    }

    /// The wall clock is told again.
    pub fn set_clock(&mut self, now: Instant, unix: u64) {
        self.clock = (now, unix);
        for lane in &mut self.lanes {
            lane.endpoint.set_clock(now, unix);
        }
    }

    /// Takes what a transport tells; frames may be hostile.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Frame { place, frame } => {
                let Some(known) = self.transports.get(&place.transport) else { return };
                let lane = &mut self.lanes[known.lane];
                lane.endpoint.handle(now, lane.sized(place), frame, &mut lane.told);
            }
            Event::Unsealed { place, index, kind, flags, payload } => {
                self.handed(place, payload.len());
                let Some(known) = self.transports.get(&place.transport) else { return };
                let lane = &mut self.lanes[known.lane];
                let place = lane.sized(place);
                lane.endpoint.handle_opened(now, index, place, kind, flags, payload, &mut lane.told);
            }
            Event::Dialled { id, result } => self.dialled(now, id, result, out),
            Event::Opened { place } => {
                if !self.note_connection(now, place) {
                    out.push(Action::HangUp { place });
                }
            }
            Event::Closed { place } => self.connection_closed(now, place, out),
        }
        self.settle(now, out);
    }

    /// Sends a network frame to `hop` over the link in use of that family; counted and dropped if it is not up.
    pub fn send(&mut self, now: Instant, hop: Hop, frame: &[u8], out: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(&hop.peer) else {
            self.dropped.not_up += 1;
            return;
        };
        let Some((lane, link)) = peer.active_mut(hop.family) else {
            self.dropped.not_up += 1;
            return;
        };
        let lane = &mut self.lanes[lane];
        let Some(session) = lane.endpoint.session(&hop.peer, LINKS_PLANE) else {
            self.dropped.not_up += 1;
            return;
        };
        match lane.endpoint.send(now, session, FrameKind::Message, frame, &mut lane.told) {
            Ok(()) => link.was_sent(now, frame.len()),
            Err(SendError::TooLong) => {
                link.dropped.too_long += 1;
                self.dropped.too_long += 1;
            }
            Err(_) => self.dropped.not_up += 1,
        }
        let due = link.due();
        if peer.armed.is_none_or(|armed| due.is_some_and(|due| due < armed)) {
            self.arm(&hop.peer);
        }
        self.settle(now, out);
    }

    /// Largest network frame that goes to `hop` in one datagram.
    pub fn frame_mtu(&self, hop: Hop) -> Option<usize> {
        let (lane, _) = self.peers.get(&hop.peer)?.active(hop.family)?;
        let endpoint = &self.lanes[lane].endpoint;
        endpoint.payload_mtu(endpoint.session(&hop.peer, LINKS_PLANE)?)
    }

    /// Ends all links, telling the peers.
    pub fn shutdown(&mut self, now: Instant, out: &mut Vec<Action>) {
        let peers: Vec<Addr> = self.peers.keys().copied().collect();
        for peer in peers {
            self.end_peer(now, &peer, out);
        }
        self.settle(now, out);
        out.extend(
            std::mem::take(&mut self.connections).into_values().map(|(place, _)| Action::HangUp { place }),
        );
        self.dials.clear();
    }

    /// Does what is due at `now`.
    pub fn heartbeat(&mut self, now: Instant, out: &mut Vec<Action>) {
        for lane in &mut self.lanes {
            if lane.endpoint.next_heartbeat().is_some_and(|due| due <= now) {
                lane.endpoint.heartbeat(now, &mut lane.told);
            }
        }
        self.settle(now, out);
        let due: VecDeque<Addr> =
            self.timers.iter().take_while(|(due, _)| *due <= now).map(|(_, peer)| *peer).collect();
        for peer in due {
            self.upkeep(now, &peer, out);
        }
        self.look_at_connections(now, out);
        self.settle(now, out);
    }

    /// When [`Core::heartbeat`] should be called next, if ever.
    pub fn next_heartbeat(&self) -> Option<Instant> {
        let lanes = self.lanes.iter().filter_map(|lane| lane.endpoint.next_heartbeat());
        let peers = self.timers.first().map(|(due, _)| *due);
        lanes.chain(peers).chain(self.next_connections).min()
    }

    /// Where a peer is dialled on one lane, and by which transport: what it is allowed, and nothing else.
    fn targets<'a>(
        &'a self,
        peer: &'a Peer,
        lane: usize,
    ) -> impl Iterator<Item = (TransportId, &'a Endpoint)> {
        let allowed = peer.endpoints.iter().filter(|endpoint| peer.allowed.has(endpoint.scheme()));
        allowed.flat_map(move |endpoint| {
            let able = self
                .transports
                .iter()
                .filter(move |(_, known)| known.lane == lane && known.schemes.contains(&endpoint.scheme()));
            able.map(move |(id, _)| (*id, endpoint))
        })
    }

    /// Whether a link to a peer may lead to `place`.
    fn allows(&self, peer: &Addr, place: &Place) -> bool {
        let Some(known) = self.transports.get(&place.transport) else { return false };
        self.peers.get(peer).is_some_and(|peer| peer.allowed.has_any(&known.schemes))
    }

    /// The lane of `class`, made if there is none.
    fn lane_of(&mut self, now: Instant, class: Class) -> usize {
        if let Some(lane) = self.lanes.iter().position(|lane| lane.class == class) {
            return lane;
        }
        let (told, unix) = self.clock;
        let config = byway_session::Config {
            usage: byway_session::Use::Link,
            key: self.key.clone(),
            group_key: self.group_key.as_deref().copied(),
            boot: self.boot,
            unix: unix + now.saturating_duration_since(told).as_secs(),
            ratchet: self.ratchet,
            ciphers: self.ciphers,
        };
        let mut endpoint = byway_session::Endpoint::new(now, config, Box::new(self.entropy.clone()));
        if let (Some(indices), Ok(number)) = (&self.indices, u32::try_from(self.lanes.len())) {
            endpoint.share_indices(indices.clone(), LINK_TAG | number);
        }
        self.lanes.push(Lane {
            class,
            endpoint,
            told: Vec::new(),
            owners: HashMap::new(),
            spots: HashMap::new(),
            watched: HashMap::new(),
        });
        self.lanes.len() - 1
    }

    /// Sets the timer of a peer to what is due next.
    fn arm(&mut self, addr: &Addr) {
        let Some(peer) = self.peers.get_mut(addr) else { return };
        let due = peer.due();
        if due != peer.armed {
            if let Some(armed) = peer.armed {
                self.timers.remove(&(armed, *addr));
            }
            if let Some(due) = due {
                self.timers.insert((due, *addr));
            }
            peer.armed = due;
        }
    }
}

#[cfg(test)]
mod tests;
