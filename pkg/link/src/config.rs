//! What the core is made from, and what it shows.

use std::time::{Duration, Instant};

use byway_identity::{Addr, SigningKey};
use byway_network::{Class, Cost, NetworkId};

use crate::health::State;
use crate::{Allowed, Endpoint, Place};

/// Who may link to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Only configured peers.
    Peers,
    /// Anyone of the same network.
    Network,
}

/// What the core is made from.
pub struct Config {
    /// The daemon's identity.
    pub key: SigningKey,
    /// Name of the routing protocol ([`byway_network::Protocol`]); told in the first link frame, and another one ends the link.
    pub protocol: &'static str,
    /// The network; told in the first link frame, and another one ends the link.
    pub network: NetworkId,
    /// Group key of a closed network.
    pub group_key: Option<[u8; 32]>,
    /// Who may link to us.
    pub accept: Accept,
    /// Grows at each start (Unix milliseconds).
    pub boot: u64,
    /// Wall clock at the start, Unix seconds.
    pub unix: u64,
    /// Time between key ratchets.
    pub ratchet: Duration,
    /// Which ciphers this machine is good at, and which extra is wanted.
    pub ciphers: byway_session::Ciphers,
}

/// A peer to keep a link to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its address.
    pub addr: Addr,
    /// Where to dial it; empty: it may only dial in. The first eight count.
    pub endpoints: Vec<Endpoint>,
    /// By what links to it may go, whoever dials.
    pub allowed: Allowed,
}

impl PeerConfig {
    /// A peer to which links of all kinds may go.
    pub fn new(addr: Addr, endpoints: Vec<Endpoint>) -> Self {
        Self { addr, endpoints, allowed: Allowed::ALL }
    }
}

/// Whether a peer is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// At least one link is up.
    Up,
    /// Dialling, or a handshake is under way.
    Connecting,
    /// Neither.
    Down,
}

/// A peer, to be shown to people.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its address.
    pub addr: Addr,
    /// Configured endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Whether it is linked.
    pub state: PeerState,
    /// Open links.
    pub links: usize,
    /// What went wrong last, in words.
    pub trouble: Option<String>,
}

/// What a link does for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Frames that may go any way go over it: of those in use it costs least.
    Active,
    /// It carries what must go by its family, if it is the one of that family in use; else nothing, until it is needed.
    Standby,
}

/// A way to a peer that is to be a link, and is none: to be shown to people.
#[derive(Clone, Debug)]
pub struct WayStatus {
    /// The peer.
    pub peer: Addr,
    /// The first of its endpoints that is dialled this way.
    pub endpoint: Endpoint,
    /// Family and kind.
    pub class: Class,
    /// How it is doing.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// What failed last, in words.
    pub why: Option<String>,
    /// What a link would cost as far as one can tell.
    pub cost: Cost,
}

/// A link, to be shown to people and counted.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// The peer.
    pub peer: Addr,
    /// Where it is, with the length of frames in use.
    pub place: Place,
    /// Family and kind.
    pub class: Class,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Share of probes lost.
    pub loss: f64,
    /// Cost, with hysteresis.
    pub cost: Cost,
    /// Frames and bytes sent.
    pub sent: (u64, u64),
    /// Frames and bytes received.
    pub received: (u64, u64),
    /// When it came up.
    pub since: Instant,
    /// Whether traffic goes over it.
    pub role: Role,
    /// How it is doing, and since when.
    pub state: (State, Instant),
    /// Which of the daemon's classes of transports it goes through, numbered as they were added. A peer has at most one
    /// link through each, so peer and lane name a link.
    pub lane: usize,
    /// Handshakes that became sessions of it.
    pub handshakes: u64,
    /// Of these, those that renewed the keys of a session in use.
    pub rekeys: u64,
    /// What was dropped, by reason.
    pub dropped: LinkDropped,
}

/// Why one link dropped what came, or was to go, over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkDropped {
    /// A datagram that names the link's session, but does not open.
    pub forged: u64,
    /// A datagram that came before, or too late.
    pub replayed: u64,
    /// A datagram, or a frame of the link itself, that makes no sense.
    pub malformed: u64,
    /// A frame before the greeting, or over a link that is held for dead.
    pub early: u64,
    /// A frame longer than a session carries.
    pub too_long: u64,
}

/// Why frames were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// A frame for a hop that is not up.
    pub not_up: u64,
    /// A peer that dials by what it is not allowed.
    pub forbidden: u64,
    /// A peer of another network.
    pub other_network: u64,
    /// A peer of the same network with another routing protocol.
    pub other_protocol: u64,
    /// A peer that is not on the list, or has no room on it.
    pub unlisted: u64,
    /// A peer that speaks another version, or takes the link for one of another family.
    pub disagreed: u64,
    /// A frame longer than a session carries.
    pub too_long: u64,
    /// A frame of a peer whose greeting has not come yet, or over a link that is held for dead.
    pub early: u64,
    /// A frame of the link itself that makes no sense.
    pub malformed: u64,
}

/// What the core counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions and handshakes.
    pub session: byway_session::Counters,
    /// Drops by reason.
    pub dropped: Dropped,
}
