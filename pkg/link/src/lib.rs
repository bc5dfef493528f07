//! One hop: what a transport is, and the core that keeps links to peers.
//!
//! A [`Transport`] is a thin driver that carries whole frames to and from [`Place`]s. The [`Core`] decides whom to
//! dial, whom to accept, which of several open links to a peer to use, when a link is dead and what it costs; it is a
//! value without IO: events and time go in, [`Action`]s come out.
//!
//! ```text
//!   peers, frames ──►┌──────┐──► Up, Cost, Down, Received        to node and network
//!                    │ Core │
//!   Event ──────────►└──────┘──► Transmit, Dial, HangUp          to the transports
//!     ▲    one byway_session::Endpoint per class of transport
//!     └── Transport: udp, unix, tor, i2p, memory
//! ```
//!
//! It is not for routing: a frame goes to a neighbour or nowhere. The wire format is in `spec/30-link.md`.
//!
//! Two nodes in one thread:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use byway_identity::{SeededEntropy, SigningKey};
//! use byway_link::{Accept, Action, Config, Core, Event, PeerConfig, Place, Profile, Remote, Scheme, TransportId};
//! use byway_network::{Class, NetworkId};
//!
//! let start = Instant::now();
//! let keys = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]));
//! let mut cores: Vec<Core> = keys.iter().zip(1..).map(|(key, seed)| {
//!     let config = Config {
//!         key: key.clone(),
//!         protocol: "grove",
//!         network: NetworkId::new("example", None),
//!         group_key: None,
//!         accept: Accept::Network,
//!         boot: 1,
//!         unix: 1_700_000_000,
//!         ratchet: Duration::from_secs(120),
//!         ciphers: byway_link::Ciphers::AES,
//!     };
//!     let mut core = Core::new(start, config, Box::new(SeededEntropy::new(seed)));
//!     let profile = Profile { class: Class::UDP, typical_rtt: Duration::from_millis(30), rate: None, lossy: true };
//!     core.add_transport(start, TransportId(0), profile, &[Scheme::Udp]);
//!     core
//! }).collect();
//!
//! let mut actions = [Vec::new(), Vec::new()];
//! let endpoint = "udp://192.0.2.1:2561".parse()?;
//! let peer = PeerConfig::new(keys[1].public().addr(), vec![endpoint]);
//! cores[0].add_peer(start, peer, &mut actions[0]);
//!
//! let place = |node: usize| Place { transport: TransportId(0), remote: Remote::Ip(([192, 0, 2, node as u8], 2_561).into()), mtu: 1_472 };
//! let mut up = [false; 2];
//! for tick in 0..1_000 {
//!     let now = start + Duration::from_millis(tick);
//!     for node in [0, 1] {
//!         cores[node].heartbeat(now, &mut actions[node]);
//!         for action in std::mem::take(&mut actions[node]) {
//!             match action {
//!                 Action::Transmit { frame, .. } => {
//!                     let event = Event::Frame { place: place(node), frame: frame.as_ref().into() };
//!                     cores[1 - node].handle(now, event, &mut actions[1 - node]);
//!                 }
//!                 Action::Dial { id, .. } => {
//!                     let event = Event::Dialled { id, result: Ok(vec![place(1)]) };
//!                     cores[node].handle(now, event, &mut actions[node]);
//!                 }
//!                 Action::Up { .. } => up[node] = true,
//!                 _ => {}
//!             }
//!         }
//!     }
//! }
//! assert_eq!(up, [true, true]);
//! # Ok::<(), byway_link::EndpointError>(())
//! ```

mod allowed;
mod backoff;
mod config;
mod control;
mod core;
mod dialler;
mod dials;
mod endpoint;
mod health;
mod link;
mod liveness;
mod lookups;
mod memory;
mod meter;
mod path;
mod place;
mod serialise;
mod steadiness;
mod streams;
mod transport;

pub use crate::core::{Action, Carried, Core, FastLink, LINK_TAG, Watch};
pub use allowed::Allowed;
pub use backoff::Backoff;
pub use byway_session::Ciphers;
pub use config::{
    Accept, Config, Counters, Dropped, LinkDropped, LinkStatus, PeerConfig, PeerState, PeerStatus, Role,
    WayStatus,
};
pub use dials::{DialOutcome, Dials};
pub use endpoint::{Endpoint, EndpointError, IpEndpoint, Scheme};
pub use health::State;
pub use lookups::Lookups;
pub use memory::{Memory, MemoryHub};
pub use place::{DialId, Place, Remote, TransportId};
pub use streams::{StreamCounters, Streams};
pub use transport::{Condition, DialError, Event, Profile, Transport};
