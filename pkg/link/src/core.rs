//! SKELETON: the one-hop core; `node` is written against these signatures.

use std::time::Instant;

use byway_identity::{Addr, Entropy, SigningKey};
use byway_network::{Class, Cost, Hop, NetworkId};
use bytes::Bytes;

use crate::{DialId, Endpoint, Event, Place, Profile, TransportId};

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
    pub ratchet: std::time::Duration,
    /// Whether this machine has AES in hardware.
    pub prefer_aes: bool,
}

/// A peer to keep a link to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its address.
    pub addr: Addr,
    /// Where to dial it; empty: it may only dial in.
    pub endpoints: Vec<Endpoint>,
}

/// What the core wants done, or tells.
#[derive(Debug)]
pub enum Action {
    /// Give `frame` to the transport of `place`.
    Transmit { place: Place, frame: Bytes },
    /// Dial; the answer comes back through [`Core::handle`] as [`Event::Dialled`].
    Dial { id: DialId, transport: TransportId, endpoint: Endpoint },
    /// End a connection.
    HangUp { place: Place },
    /// A hop is up: its best link has this class and cost.
    Up { hop: Hop, class: Class, cost: Cost },
    /// The best link of a hop has another class or cost.
    Cost { hop: Hop, class: Class, cost: Cost },
    /// A hop is down.
    Down { hop: Hop },
    /// A network frame came from a hop.
    Received { hop: Hop, frame: Bytes },
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

/// A link, to be shown to people and counted.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// The peer.
    pub peer: Addr,
    /// Where it is.
    pub place: Place,
    /// Family and kind.
    pub class: Class,
    /// Smoothed round-trip time.
    pub rtt: Option<std::time::Duration>,
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
}

/// Why frames were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// A frame for a hop that is not up.
    pub not_up: u64,
    /// A peer of another network.
    pub other_network: u64,
    /// A peer that is not on the list.
    pub unlisted: u64,
}

/// What the core counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions and handshakes.
    pub session: byway_session::Counters,
    /// Drops by reason.
    pub dropped: Dropped,
}

/// All links of one daemon.
pub struct Core {}

impl Core {
    /// A core without transports and peers.
    pub fn new(_now: Instant, _config: Config, _entropy: Box<dyn Entropy>) -> Self {
        todo!()
    }

    /// A transport is there from now on.
    pub fn add_transport(&mut self, _now: Instant, _id: TransportId, _profile: Profile, _schemes: &[crate::Scheme]) {
        todo!()
    }

    /// Adds a peer, or replaces its endpoints; open links stay.
    pub fn add_peer(&mut self, _now: Instant, _peer: PeerConfig, _out: &mut Vec<Action>) {
        todo!()
    }

    /// Removes a peer and ends its links; false if there was none.
    pub fn remove_peer(&mut self, _now: Instant, _peer: &Addr, _out: &mut Vec<Action>) -> bool {
        todo!()
    }

    /// The wall clock is told again.
    pub fn set_clock(&mut self, _now: Instant, _unix: u64) {
        todo!()
    }

    /// Takes what a transport tells; frames may be hostile.
    pub fn handle(&mut self, _now: Instant, _event: Event, _out: &mut Vec<Action>) {
        todo!()
    }

    /// Sends a network frame to `hop` over its best link of that family; counted and dropped if it is not up.
    pub fn send(&mut self, _now: Instant, _hop: Hop, _frame: &[u8], _out: &mut Vec<Action>) {
        todo!()
    }

    /// Largest network frame that goes to `hop` in one datagram.
    pub fn frame_mtu(&self, _hop: Hop) -> Option<usize> {
        todo!()
    }

    /// Ends all links, telling the peers.
    pub fn shutdown(&mut self, _now: Instant, _out: &mut Vec<Action>) {
        todo!()
    }

    /// Does what is due at `now`.
    pub fn heartbeat(&mut self, _now: Instant, _out: &mut Vec<Action>) {
        todo!()
    }

    /// When [`Core::heartbeat`] should be called next, if ever.
    pub fn next_heartbeat(&self) -> Option<Instant> {
        todo!()
    }

    /// Peers, for people to look at.
    pub fn peers(&self) -> Vec<PeerStatus> {
        todo!()
    }

    /// Links, for people to look at.
    pub fn links(&self) -> Vec<LinkStatus> {
        todo!()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        todo!()
    }
}
