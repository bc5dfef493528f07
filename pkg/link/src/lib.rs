//! One hop: what a transport is, and the core that keeps links to peers.
//!
//! A [`Transport`] is a thin driver that carries whole frames to and from [`Place`]s. The [`Core`] decides whom to
//! dial, whom to accept, which of several open links to a peer to use, when a link is dead and what it costs; it is a
//! value without IO.

mod core;
mod endpoint;
mod place;
mod transport;

pub use crate::core::{
    Accept, Action, Config, Core, Counters, Dropped, LinkStatus, PeerConfig, PeerState, PeerStatus,
};
pub use endpoint::{Endpoint, EndpointError, Scheme};
pub use place::{DialId, Place, Remote, TransportId};
pub use transport::{DialError, Event, Profile, Transport};
