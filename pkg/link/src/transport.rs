//! What a transport is: a thin driver, and a profile that says what its links hide and cost.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_identity::Addr;
use byway_network::Class;

use crate::{DialId, Endpoint, Place, Scheme};

/// What is known of a transport's links before one is open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Class of its links. UDP to a neighbour on a LAN is told apart by the core: see [`Class::LAN`].
    pub class: Class,
    /// Typical round-trip time, until one is measured.
    pub typical_rtt: Duration,
    /// Bytes per second, where that is the bottleneck.
    pub rate: Option<u64>,
    /// Whether frames may be lost or reordered on the way (false: a stream).
    pub lossy: bool,
}

/// Why an endpoint could not be dialled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no address.
    #[error("the host name does not resolve")]
    Name,
    /// The other side did not take the connection.
    #[error("refused or unreachable")]
    Unreachable,
    /// The upstream proxy cannot be reached, or refuses.
    #[error("the proxy (links.proxy) cannot be reached, or refuses to connect")]
    Proxy,
    /// The server's certificate does not fit; the text says how, and what helps.
    #[error("the server's certificate {0}")]
    Certificate(&'static str),
    /// The server answers as it answers strangers.
    #[error(
        "the server answers as a web site: it is another one, its path (links.websocket.path) is another, or it has just started"
    )]
    Site,
    /// The server answers as it answers strangers, and its clock shows another time.
    #[error("the clocks differ: the server's is {0} s ahead of this machine's; set the wrong one")]
    Clock(i64),
    /// This transport does not dial such endpoints.
    #[error("no transport for this kind of endpoint is on")]
    Unsupported,
    /// The endpoint is wrong in itself, so that trying again cannot help; in words for the user.
    #[error("{0}")]
    Wrong(String),
    /// Something else, in words for the user, with what helps.
    #[error("{0}")]
    Told(String),
}

/// How a transport as a whole is doing, be there links over it or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It can be used.
    #[default]
    Ready,
    /// It will be ready by itself.
    Starting {
        /// How far it is, 0 to 100, where that is known.
        percent: Option<u8>,
        /// What it is doing, in words.
        doing: String,
    },
    /// It cannot be used, wholly or in part, and goes on trying.
    Failing {
        /// Why, in words for the user, with what helps. May name places: it is not for logs.
        why: String,
    },
}

/// What a transport tells.
#[derive(Debug)]
pub enum Event {
    /// A frame came.
    Frame {
        /// From where.
        place: Place,
        /// What.
        frame: BytesMut,
    },
    /// A thread of the fast path has opened a frame that is for the core: the session of its receiver index has accepted it.
    Unsealed {
        /// From where.
        place: Place,
        /// The receiver index that it came with: of a link's session, or of one end to end.
        index: u32,
        /// What the payload is ([`byway_session::frame`]).
        kind: u8,
        /// Flags of the frame.
        flags: u8,
        /// What was sealed.
        payload: Bytes,
    },
    /// A dial ended: the places that the endpoint stands for (a host name may have several), best first.
    Dialled {
        /// Which.
        id: DialId,
        /// The result.
        result: Result<Vec<Place>, DialError>,
    },
    /// A connection was accepted.
    Opened {
        /// Its place.
        place: Place,
    },
    /// A connection ended.
    Closed {
        /// Its place.
        place: Place,
    },
}

/// Carries whole frames to and from places; may lose or reorder them.
///
/// Unlike one object for each link, one transport serves all its peers, so that a socket shared by many peers is read
/// and written in one batch. None of the methods blocks.
pub trait Transport: Debug + Send {
    /// What its links are like.
    fn profile(&self) -> Profile;

    /// Schemes of the endpoints that it can dial.
    fn schemes(&self) -> &'static [Scheme];

    /// Whether it can dial `endpoint`.
    fn dials(&self, endpoint: &Endpoint) -> bool {
        self.schemes().contains(&endpoint.scheme())
    }

    /// Starts to dial; the answer comes as [`Event::Dialled`].
    fn dial(&mut self, id: DialId, endpoint: &Endpoint);

    /// The same, for transports whose first bytes depend on who is dialled: a server may hide from those who do not know
    /// its address.
    fn dial_peer(&mut self, id: DialId, peer: &Addr, endpoint: &Endpoint) {
        let _ = peer;
        self.dial(id, endpoint);
    }

    /// Ends a connection; nothing happens where there is none.
    fn hang_up(&mut self, place: Place);

    /// Where others can dial this transport, as far as it knows.
    fn listening(&self) -> Vec<Endpoint>;

    /// How it is doing; [`Condition::Ready`] unless it depends on something that takes time, or can fail.
    fn condition(&self) -> Condition {
        Condition::Ready
    }

    /// `place` as an endpoint that could be dialled, to be shown to the user.
    fn describe(&self, place: Place) -> String;

    /// Sends from the front of `batch`, removing each frame that it accepts or must drop.
    ///
    /// Ready means that at least one frame left, or that `batch` was empty. A frame to a dead place is removed too: it costs
    /// the others nothing.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<(Place, Bytes)>,
    ) -> Poll<io::Result<()>>;

    /// Appends events to `batch`: at least one when ready.
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) -> Poll<io::Result<()>>;
}
