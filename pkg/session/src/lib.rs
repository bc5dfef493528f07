//! Sans-IO authenticated encryption between two keys.
//!
//! An [`Endpoint`] is the table of all sessions and handshakes of one local identity: bytes, places and time go in,
//! [`Event`]s come out. The same machine serves links (one hop, `Noise_XKpsk2`) and end-to-end sessions
//! (`Noise_IKpsk0+psk2`); ML-KEM-768 enters both through Noise's psk slots. It neither opens sockets nor reads the
//! clock, and does not know what a place is.
//!
//! ```text
//!  connect ─► KEY_ASK ─► KEY_TELL ─► M1 ─► M2 (─► M3) ─► Up      first RETRY where the responder is under load
//!                                                        │
//!                  send ─► FRAME … FRAME ─► Received     │       every 2 minutes other keys, every 10 a new handshake
//!                                                        ▼
//!                                              close, idle: Down
//! ```
//!
//! What a session has once, its counter, keys and windows, stands in an [`Outbound`] and an [`Inbound`] that threads may
//! share ([`Endpoint::halves`]): they seal and open trains of frames without the endpoint, and hand it what they do not
//! handle themselves ([`Endpoint::handle_opened`]). The layout of frames is in [`frame`].
//!
//! Two endpoints that hand each other what they want transmitted:
//!
//! ```
//! use std::collections::VecDeque;
//! use std::time::{Duration, Instant};
//!
//! use byway_identity::{OsEntropy, SigningKey};
//! use byway_session::{Ciphers, Config, Connect, Endpoint, Event, FrameKind, Place, Use};
//!
//! /// There is one way only, so places tell nothing.
//! #[derive(Clone, Debug, PartialEq, Eq, Hash)]
//! struct Wire;
//!
//! impl Place for Wire {
//!     fn rate_key(&self) -> Option<u64> { Some(0) }
//!     fn mtu(&self) -> usize { 1400 }
//!     fn plane(&self) -> u8 { 0 }
//!     fn masked(&self) -> bool { true }
//! }
//!
//! let now = Instant::now();
//! let mut ends = [(), ()].map(|()| {
//!     let config = Config {
//!         usage: Use::Link,
//!         key: SigningKey::generate(&mut OsEntropy),
//!         group_key: None,
//!         boot: 1,
//!         unix: 1_800_000_000,
//!         ratchet: Duration::from_secs(120),
//!         ciphers: Ciphers::default(),
//!     };
//!     Endpoint::new(now, config, Box::new(OsEntropy))
//! });
//!
//! let mut events = Vec::new();
//! let connect = Connect { remote: ends[1].addr(), place: Wire, token: None, digest: None };
//! ends[0].connect(now, connect, &mut events);
//! let (mut at, mut mail) = (0, VecDeque::new());
//! let heard = 'heard: loop {
//!     for event in std::mem::take(&mut events) {
//!         match event {
//!             Event::Transmit { bytes, .. } => mail.push_back((1 - at, bytes)),
//!             Event::Up { session, .. } => {
//!                 ends[at].send(now, session, FrameKind::Message, b"hello", &mut events)?;
//!             }
//!             Event::Received { payload, .. } => break 'heard payload,
//!             _ => {}
//!         }
//!     }
//!     if events.is_empty() {
//!         let (to, bytes) = mail.pop_front().expect("nothing is lost here");
//!         ends[to].handle(now, Wire, bytes.as_ref().into(), &mut events);
//!         at = to;
//!     }
//! };
//! assert_eq!(heard, "hello");
//! # Ok::<(), byway_session::SendError>(())
//! ```

mod cipher;
mod endpoint;
mod flow;
mod fragment;
pub mod frame;
mod guard;
mod handshake;
mod inbound;
mod indices;
mod kem;
mod keys;
mod mask;
mod message;
mod noise;
mod outbound;
mod record;
mod replay;
mod timers;
mod types;
mod window;

#[cfg(test)]
mod tests;

pub use endpoint::{Endpoint, Halves};
pub use flow::Flow;
pub use frame::{OpenError, Opened};
pub use inbound::{Inbound, Opening};
pub use indices::Indices;
pub use outbound::{Outbound, Sealer};
pub use types::{
    Ciphers, CloseReason, Config, Connect, Counters, Event, FrameKind, Place, SendError, SessionId,
    SessionStatus, Tally, Use,
};
