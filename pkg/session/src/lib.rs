//! Sans-IO authenticated encryption between two keys.
//!
//! An [`Endpoint`] is the table of all sessions and handshakes of one local identity: bytes, places and time go in,
//! [`Event`]s come out. The same machine serves links (one hop, `Noise_XKpsk2`) and end-to-end sessions
//! (`Noise_IKpsk0+psk2`); ML-KEM-768 enters both through Noise's psk slots. It neither opens sockets nor reads the
//! clock, and does not know what a place is.

mod cipher;
mod endpoint;
mod fragment;
mod guard;
mod handshake;
mod kem;
mod keys;
mod mask;
mod message;
mod noise;
mod record;
mod replay;
mod timers;
mod transport;
mod types;
mod window;

#[cfg(test)]
mod tests;

pub use endpoint::Endpoint;
pub use types::{
    CloseReason, Config, Connect, Counters, Event, FrameKind, Place, SendError, SessionId, SessionStatus, Use,
};
