//! The layout of frames, for all that build or read them.
//!
//! ```text
//! FRAME  receiver index u32 · counter u64 · AEAD(kind u8 · flags u8 · length u16 · payload · padding) · tag 16
//! ```
//!
//! Little-endian; the first 12 bytes are the associated data, the nonce is zeros and the counter.

use std::ops::Range;

use crate::cipher;

/// Bytes of the associated data: receiver index and counter.
pub const HEAD: usize = 12;
/// Bytes of kind, flags and length.
pub const INNER: usize = 4;
/// Bytes of the tag.
pub const TAG: usize = cipher::TAG;
/// Bytes that a frame adds to its payload, padding apart.
pub const OVERHEAD: usize = HEAD + INNER + TAG;
/// Where in a frame its payload begins.
pub const PAYLOAD: usize = HEAD + INNER;

/// Kind: an IPv6 packet; the flags are [`NEEDS_CSUM`] and [`CONT`].
pub const PACKET: u8 = 0;
/// Kind: a message; on links a network's frame.
pub const MESSAGE: u8 = 1;
/// Kind: for the layer above.
pub const CONTROL: u8 = 2;
/// Kind: a piece of another payload, whose kind is in the flags.
pub const FRAGMENT: u8 = 3;
/// Kind: eight bytes that come back; roaming.
pub const CHALLENGE: u8 = 5;
/// Kind: a handshake message, to renew the session.
pub const HANDSHAKE: u8 = 6;
/// Kind: the session has ended.
pub const CLOSE: u8 = 8;
/// Kind: shows that the session works, and nothing else.
pub const CONFIRM: u8 = 9;

/// Flag of a [`PACKET`]: its TCP or UDP checksum field holds the sum over the pseudo-header only.
pub const NEEDS_CSUM: u8 = 1;
/// Flag of a [`PACKET`]: it continues the super-packet of the counter before.
pub const CONT: u8 = 2;

/// Frames are padded to multiples of this many bytes, where they fit.
pub const PADDING: usize = 64;

/// Length of the frame that has `bare` bytes without padding, on a path of `mtu` bytes; never less than `bare`.
pub fn padded(bare: usize, mtu: usize) -> usize {
    bare.next_multiple_of(PADDING).min(mtu).max(bare)
}

/// Receiver index of a frame; below 256 it is a handshake message.
pub fn index(frame: &[u8]) -> Option<u32> {
    frame.first_chunk().copied().map(u32::from_le_bytes)
}

/// What a frame held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its number in the session.
    pub counter: u64,
    /// What the payload is; any value that the remote chose.
    pub kind: u8,
    /// What the kind makes of it.
    pub flags: u8,
    /// Where in the frame's bytes the payload is.
    pub payload: Range<usize>,
}

/// Why a frame did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Shorter than any frame, or nonsense inside.
    #[error("malformed")]
    Malformed,
    /// Seen before, or too old.
    #[error("seen before, or too old")]
    Replayed,
    /// Not of this session.
    #[error("does not open")]
    Forged,
    /// The session is over.
    #[error("the session has ended")]
    Ended,
}
