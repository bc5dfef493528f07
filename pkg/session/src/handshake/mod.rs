//! The two handshakes as values: each step takes a message, and gives the next one or the keys.
//!
//! ```text
//! head    pattern u8 · suite u8 · plane u8 · low byte of the record's version u8 · initiator's index u32
//! m1      type u32 · head · body        m2      type u32 · initiator's index u32 · body
//!                                       m3      type u32 · responder's index u32 · body
//! ```
//!
//! The prologue binds the head and the responder's address. The bodies are drawn in [`link`] and [`end_to_end`].

pub(crate) mod end_to_end;
pub(crate) mod link;

use byway_identity::Addr;
use byway_wire::{Malformed, Reader, Writer};

use crate::cipher::{Chain, Cipher};
use crate::noise::{NoiseError, Pattern, Split};
use crate::record::{HYBRID, RecordError};

/// The first fields of m1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) pattern: Pattern,
    pub(crate) plane: u8,
    pub(crate) version: u8,
    pub(crate) index: u32,
}

/// The keys of a session, seen from one side.
pub(crate) struct Keys {
    pub(crate) cipher: Cipher,
    pub(crate) send: Chain,
    pub(crate) receive: Chain,
}

/// Why a handshake message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    #[error("does not open")]
    Noise,
    #[error("the record in it is refused: {0}")]
    Record(#[from] RecordError),
    #[error("the record is not of the key that the handshake proved")]
    Identity,
    #[error("a key in it fails its check")]
    Key,
}

impl From<NoiseError> for HandshakeError {
    fn from(_: NoiseError) -> Self {
        Self::Noise
    }
}

impl Head {
    pub(crate) const LENGTH: usize = 8;

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let pattern = match reader.u8()? {
            1 => Pattern::Link,
            2 => Pattern::EndToEnd,
            _ => return Err(Malformed::Invalid("pattern")),
        };
        if reader.u8()? != HYBRID {
            return Err(Malformed::Invalid("suite"));
        }
        Ok(Self { pattern, plane: reader.u8()?, version: reader.u8()?, index: reader.u32_le()? })
    }

    pub(crate) fn emit(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [self.pattern as u8, HYBRID, self.plane, self.version, 0, 0, 0, 0];
        bytes[4..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    pub(crate) fn prologue(&self, responder: &Addr) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.bytes(b"inet256/session/1").bytes(&self.emit()).bytes(responder.as_bytes());
        writer.finish().to_vec()
    }
}

impl Keys {
    pub(crate) fn new(cipher: Cipher, split: &Split, initiator: bool) -> Self {
        let from_initiator = Chain::new(cipher, &split.hash, &split.from_initiator);
        let from_responder = Chain::new(cipher, &split.hash, &split.from_responder);
        let (send, receive) =
            if initiator { (from_initiator, from_responder) } else { (from_responder, from_initiator) };
        Self { cipher, send, receive }
    }
}
