//! Links over Tor, through a tor that runs on this machine.
//!
//! [`Tor`] dials `tor://….onion:port` through tor's SOCKS port, and has tor publish an onion service of this daemon's by its
//! control port, under a key that stays in the daemon's state. What goes over the connections are frames
//! ([`byway_link::Streams`]); who is at the other end is not believed because of an onion name, but shown by the link's
//! own handshake.
//!
//! ```text
//!                  dials   ┌──────┐ SOCKS5, a user name and password for each context
//!   byway_link ◄──────────►│ Tor  │──────────────────────────────────────────────────► tor ──► …
//!                          └──┬───┘◄─────────── 127.0.0.1, streams of the onion service ── tor ◄── …
//!                             │ told how it goes
//!                          keeper ── control port: who are you, bootstrap, ADD_ONION ──── tor
//! ```
//!
//! It is not for choosing when to use Tor, nor for starting a tor: that one belongs to the system.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use byway_link::{Transport, TransportId};
//! use byway_transport_tor::{Config, Control, Tor};
//!
//! let control = Control { place: "unix:/run/tor/control".parse()?, password_file: None };
//! let socks = ([127, 0, 0, 1], 9_050).into();
//! let service = Some((control, "/var/lib/byway/tor".into()));
//! let tor = Tor::open(TransportId(1), Config { socks, service, port: 2_561 })?;
//! println!("{:?}", tor.condition());
//! # Ok(())
//! # }
//! ```

mod control;
mod keeper;
mod key;
mod onion;
mod outlet;
mod reply;
mod tor;

pub use keeper::{Control, ControlPlace, ControlPlaceError};
pub use key::OnionKey;
pub use onion::{OnionAddress, OnionError};
pub use outlet::Outlet;
pub use tor::{Config, OpenError, Tor};
