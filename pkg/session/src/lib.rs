//! Sans-IO authenticated encryption between two keys.
//!
//! An [`Endpoint`] is the table of all sessions and handshakes of one local identity: bytes, places and time go in,
//! [`Event`]s come out. The same machine serves links (one hop, `Noise_XKpsk2`) and end-to-end sessions
//! (`Noise_IKpsk0+psk2`); ML-KEM-768 enters both through Noise's psk slots. It neither opens sockets nor reads the
//! clock, and does not know what a place is.

mod endpoint;

pub use endpoint::{
    CloseReason, Config, Connect, Counters, Endpoint, Event, FrameKind, Place, SendError, SessionId,
    SessionStatus, Use,
};
