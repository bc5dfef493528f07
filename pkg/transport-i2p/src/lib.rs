//! Links over I2P, through a router that runs on this machine (i2pd, or Java I2P) and its SAM bridge, version 3.1 and later.
//!
//! [`I2p`] keeps one session under a destination that lasts: its key stays in the daemon's state. It dials
//! `i2p://….b32.i2p` and takes streams that others open. What goes over them are frames ([`byway_link::Streams`]); who is at
//! the other end is shown by the link's own handshake.
//!
//! ```text
//!                  dials   ┌──────┐ STREAM CONNECT, a connection each
//!   byway_link ◄──────────►│ I2p  │───────────────────────────────────────► router ──► …
//!                          └──┬───┘◄─── STREAM ACCEPT, two that wait ─────── router ◄── …
//!                             │ told how it goes
//!                          keeper ── SESSION CREATE, for as long as this connection lasts
//! ```
//!
//! **Keys.** SAM has the client hand its private key to the router, and the router says it back; so the bridge must be on this
//! machine, and nothing that the router says about a session is believed to be public. The name is made from what the
//! router answers to `NAMING LOOKUP NAME=ME`, cut to the public part by its own length.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use byway_link::{Transport, TransportId};
//! use byway_transport_i2p::{Config, I2p, Tunnels};
//!
//! let sam = ([127, 0, 0, 1], 7_656).into();
//! let i2p = I2p::open(TransportId(2), Config { sam, folder: "/var/lib/byway/i2p".into(), tunnels: Tunnels::default() });
//! println!("{:?}", i2p.condition());
//! # Ok(())
//! # }
//! ```

mod destination;
mod i2p;
mod keeper;
mod key;
mod lines;
mod sam;

pub use destination::{I2pError, I2pName};
pub use i2p::{Config, I2p};
pub use sam::Tunnels;
