//! What goes into a [`Core`](crate::Core) and what comes out of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{ApiError, Kind, ManCon};
use byway_identity::{Addr, Prefix, PublicKey, SigningKey};
use byway_link::{Accept, DialId, PeerConfig, Place, TransportId};
use byway_network::{Plane, Protocol};

use crate::{Levels, NodeCounters};

/// What a core is made from.
#[derive(Clone)]
pub struct Config {
    /// The daemon's identity.
    pub key: SigningKey,
    /// The routing protocol, of this node and of all that it hosts.
    pub protocol: Protocol,
    /// The network's name.
    pub network: String,
    /// Group key of a closed network.
    pub group_key: Option<[u8; 32]>,
    /// Who may link to us.
    pub accept: Accept,
    /// Levels of requests.
    pub levels: Levels,
    /// Peers to keep links to, with their petnames.
    pub peers: Vec<(PeerConfig, Option<String>)>,
    /// Grows at each start: Unix milliseconds.
    pub boot: u64,
    /// Wall clock at the start, Unix seconds.
    pub unix: u64,
    /// Time between key ratchets: 120 s but in tests.
    pub ratchet: Duration,
    /// Which ciphers this machine is good at, and which extra is wanted.
    pub ciphers: byway_session::Ciphers,
}

/// A payload to send from a hosted node.
#[derive(Clone, Debug)]
pub struct SendRequest {
    /// The receiver.
    pub to: Addr,
    /// Message or packet.
    pub kind: Kind,
    /// The content, at most [`byway_api::MESSAGE_MAX`] bytes.
    pub payload: Bytes,
    /// The effective level.
    pub level: ManCon,
    /// The plane that the level allows; see [`Levels::plane`].
    pub plane: Plane,
    /// When to give up holding it.
    pub until: Instant,
}

/// What became of a payload that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It left.
    Sent,
    /// It waits; an [`Output::Released`] follows when a message leaves or expires.
    Held,
}

/// A question to the network or to a node in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which node's address begins with `prefix`?
    Find {
        /// The prefix.
        prefix: Prefix,
        /// The plane to look in.
        plane: Plane,
    },
    /// Is `to` there?
    Ping {
        /// The node.
        to: Addr,
        /// The plane to go through.
        plane: Plane,
    },
}

/// An answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The key of the node that was found.
    Found(PublicKey),
    /// The round-trip time.
    Pong(Duration),
}

/// What the core wants done.
#[derive(Debug)]
pub enum Output {
    /// Give `frame` to the transport of `place`.
    Transmit {
        /// Where.
        place: Place,
        /// What.
        frame: Bytes,
    },
    /// Dial `endpoint`.
    Dial {
        /// Comes back in [`byway_link::Event::Dialled`].
        id: DialId,
        /// By which transport.
        transport: TransportId,
        /// Who is expected there.
        peer: Addr,
        /// Where.
        endpoint: byway_link::Endpoint,
    },
    /// End a connection.
    HangUp {
        /// Which.
        place: Place,
    },
    /// A payload came for the hosted node `local`.
    Deliver {
        /// The receiver.
        local: Addr,
        /// The authenticated sender.
        from: Addr,
        /// The plane that it came by.
        plane: Plane,
        /// Message or packet.
        kind: Kind,
        /// The content.
        payload: Bytes,
    },
    /// A held message left, or expired.
    Released {
        /// The sender.
        local: Addr,
        /// The receiver.
        remote: Addr,
        /// The plane.
        plane: Plane,
        /// What it counted.
        cost: u64,
    },
    /// Whether there is a session to `remote`, and what fits one frame of it.
    Ready {
        /// The hosted node.
        local: Addr,
        /// The remote node.
        remote: Addr,
        /// The plane.
        plane: Plane,
        /// Whether a session is up.
        ready: bool,
        /// Largest payload of one frame, in bytes.
        mtu: usize,
    },
    /// Nothing is kept of `remote` any more.
    Forgotten {
        /// The hosted node.
        local: Addr,
        /// The remote node.
        remote: Addr,
        /// The plane.
        plane: Plane,
    },
    /// An answer to a question, or why there is none.
    Answer {
        /// The question.
        id: u64,
        /// The answer.
        answer: Result<Answer, ApiError>,
    },
}

/// A hosted node, to be shown to people and counted.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its address.
    pub addr: Addr,
    /// Payloads that wait for a way.
    pub held: usize,
    /// What it counted.
    pub counters: NodeCounters,
    /// What its sessions counted.
    pub sessions: byway_session::Counters,
}
