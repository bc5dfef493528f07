//! IPv6 packets of ordinary programs to and from the overlay.
//!
//! Each node has an IPv6 address, computed from its [`Addr`](byway_identity::Addr). A [`Portal`] gives it to a TUN
//! device, finds out which node a packet's destination is, and sends the packet there; what arrives is checked
//! against its proven sender and the [`filter`], which lets nobody in but by rule. The decisions are in [`Core`],
//! which has no device and no clock; the portal is its driver. Routing, encryption and fragments are the
//! business of the node below.
//!
//! ```text
//!  programs ── kernel ── Device ──► Core: source? range? ── resolve ── fits? ──► api::Node
//!                          ▲                                                       │
//!                          └─────── filter ◄── destination? source = sender? ◄─────┘
//! ```
//!
//! ```
//! use byway_portal::{Allow, Ports, Who};
//!
//! let ssh_for_all = Allow { peer: "*".parse()?, ports: vec!["tcp/22".parse()?, "icmp".parse()?] };
//! assert_eq!(ssh_for_all.peer, Who::Anyone);
//! assert_eq!(ssh_for_all.ports, [Ports::Tcp(22, 22), Ports::Icmp]);
//! # Ok::<(), byway_portal::RuleError>(())
//! ```

mod core;
mod counters;
mod device;
mod error;
pub mod fast;
pub mod filter;
mod gate;
pub mod icmp;
mod lru;
pub mod packet;
mod portal;
mod queue;
pub mod resolve;
#[cfg(test)]
mod testing;
mod tun;

pub use core::{Action, Core, PathMtu};
pub use counters::{Counters, Reason};
pub use device::{Device, MemoryDevice, Plug};
pub use error::{OpenError, RunError};
pub use filter::{Allow, Ports, RuleError, Who};
pub use portal::{Config, Portal};
pub use queue::Direct;
