//! The frames of INET256's local API (v0.0.8), so that programs written for it run unchanged.
//!
//! After `CONNECT /nodes/{id}` both sides send frames on the bare socket. The form is given; where its reference leaves
//! faults open (a frame too long, a type that nobody knows), ours is an error. JSON bodies are read by those who answer
//! them; their types stand here.
//!
//! ```text
//! ┌─────────────────────────┬──────────────┬────────────────────────────────┐
//! │ length (u32 BE, ≤65571) │ type, 4 ASCII│ body                           │
//! └─────────────────────────┴──────────────┴────────────────────────────────┘
//!   DATA  address, payload     KEEP  nothing     FIND, PUBK  request id (16), JSON
//! ```

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use byway_identity::Addr;
use byway_wire::{Malformed, Reader};
use serde::{Deserialize, Serialize};

use crate::MESSAGE_MAX;
use crate::exchange::{KeyText, Payload};

/// Most bytes that a frame's length may announce: type, address and the longest message.
pub const FRAME_MAX: usize = 4 + 32 + MESSAGE_MAX;

/// Tells an answer's question.
pub type RequestId = [u8; 16];

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message: to the daemon with the receiver, to the client with the sender.
    Data {
        /// Receiver or sender.
        addr: Addr,
        /// The content.
        payload: Bytes,
    },
    /// A sign of life.
    Keep,
    /// A question for an address by its prefix, or the answer.
    Find {
        /// Ties the two together.
        id: RequestId,
        /// JSON.
        body: Bytes,
    },
    /// A question for a public key, or the answer.
    PublicKey {
        /// Ties the two together.
        id: RequestId,
        /// JSON.
        body: Bytes,
    },
}

/// Why a stream cannot be read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The announced length is above [`FRAME_MAX`].
    #[error("a frame has at most {FRAME_MAX} bytes, not {0}")]
    TooLong(u32),
    /// The frame is too short or too long for its type.
    #[error("a frame does not have the layout of its type: {0}")]
    Malformed(#[from] Malformed),
    /// The type is none of `DATA KEEP FIND PUBK`.
    #[error("there is no frame type {0:02x?}")]
    Type([u8; 4]),
}

const DATA: &[u8; 4] = b"DATA";
const KEEP: &[u8; 4] = b"KEEP";
const FIND: &[u8; 4] = b"FIND";
const PUBLIC_KEY: &[u8; 4] = b"PUBK";

impl Frame {
    /// Appends the frame to what is to be written.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut put = |kind: &[u8; 4], head: &[u8], body: &[u8]| {
            let length = 4 + head.len() + body.len();
            out.reserve(4 + length);
            out.put_u32(u32::try_from(length).expect("bodies are far below 4 GiB"));
            out.put_slice(kind);
            out.put_slice(head);
            out.put_slice(body);
        };
        match self {
            Self::Data { addr, payload } => put(DATA, addr.as_bytes(), payload),
            Self::Keep => put(KEEP, &[], &[]),
            Self::Find { id, body } => put(FIND, id, body),
            Self::PublicKey { id, body } => put(PUBLIC_KEY, id, body),
        }
    }

    fn parse(frame: &Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader::new(frame);
        let kind: [u8; 4] = reader.array()?;
        match &kind {
            DATA => {
                let addr = Addr::from_bytes(reader.array()?);
                Ok(Self::Data { addr, payload: frame.slice(36..) })
            }
            KEEP => {
                reader.finish()?;
                Ok(Self::Keep)
            }
            FIND => Ok(Self::Find { id: reader.array()?, body: frame.slice(20..) }),
            PUBLIC_KEY => Ok(Self::PublicKey { id: reader.array()?, body: frame.slice(20..) }),
            _ => Err(FrameError::Type(kind)),
        }
    }
}

/// Cuts frames off the front of what was read so far; `None` until one is whole.
///
/// After an error the stream has no meaning any more. The buffer needs at most 4 + [`FRAME_MAX`] bytes to make progress.
pub fn decode(read: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(head) = read.first_chunk::<4>() else {
        return Ok(None);
    };
    let announced = u32::from_be_bytes(*head);
    let length = announced as usize;
    if length > FRAME_MAX {
        return Err(FrameError::TooLong(announced));
    }
    if length < 4 {
        return Err(Malformed::Truncated.into());
    }
    // A type that nobody knows is told at once, not only when its frame is whole.
    if let Some(kind) = read.get(4..8)
        && ![DATA, KEEP, FIND, PUBLIC_KEY].iter().any(|known| known.as_slice() == kind)
    {
        return Err(FrameError::Type([kind[0], kind[1], kind[2], kind[3]]));
    }
    if read.len() < 4 + length {
        return Ok(None);
    }
    read.advance(4);
    Frame::parse(&read.split_to(length).freeze()).map(Some)
}

/// The question in `FIND`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindQuestion {
    /// The leading bytes of the address.
    pub prefix: Payload,
    /// How many bits of them count.
    pub nbits: u32,
}

/// The answer in `FIND`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindReply {
    /// The address; all dashes beside an error.
    pub ok: Found,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'static, str>>,
}

/// An address that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The address.
    pub addr: Addr,
}

/// The question in `PUBK`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyQuestion {
    /// The address.
    pub target: Addr,
}

/// The answer in `PUBK`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReply {
    /// The key; empty beside an error.
    pub ok: Key,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'static, str>>,
}

/// A key that was looked up.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Key {
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<KeyText>,
}

/// The body of `CONNECT /nodes/{id}` and `DELETE /nodes/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenBody {
    /// The private key in the form of v0.0.8, in base64.
    pub private_key: crate::exchange::Secret,
}

#[cfg(test)]
mod tests;
