//! What goes between two endpoints outside frames, by its first u32; numbers from 256 on are receiver indices.
//!
//! ```text
//! KEY_ASK     type · nonce u64 · form u8 · requester's address 32 (end to end, else zeros)
//!             index u32 · hash 16 (end to end, of an m1 that was not answered, else zeros) · zeros
//! KEY_TELL    type · nonce u64 · record
//! M1, M2, M3  see `handshake`
//! RETRY       type · initiator's index u32 · cookie 32 · d u8
//! M1_AGAIN    type · cookie 32 · d u8 · nonce u64 · the whole m1, from its type on
//! PART        see `mask`
//! ```

use byway_identity::Addr;
use byway_wire::{Malformed, Reader, Writer};

use crate::record::Form;
use crate::replay::M1Hash;

pub(crate) const KEY_ASK: u32 = 1;
pub(crate) const KEY_TELL: u32 = 2;
pub(crate) const M1: u32 = 3;
pub(crate) const M2: u32 = 4;
pub(crate) const M3: u32 = 5;
pub(crate) const RETRY: u32 = 6;
pub(crate) const M1_AGAIN: u32 = 7;
pub(crate) const PART: u32 = 8;

/// Smallest number that is a receiver index.
pub(crate) const FIRST_INDEX: u32 = 256;

/// Asks for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyAsk {
    pub(crate) nonce: u64,
    pub(crate) form: Form,
    pub(crate) requester: Addr,
    /// Index and hash of an m1 that got no answer: perhaps its RETRY had no way back.
    pub(crate) unanswered: Option<(u32, M1Hash)>,
}

impl KeyAsk {
    /// With zeros up to `length` bytes: whoever asks for much sends much.
    pub(crate) fn emit(&self, length: usize) -> Vec<u8> {
        let mut writer = Writer::with_capacity(length);
        let (index, hash) = self.unanswered.unwrap_or_default();
        writer.u32_le(KEY_ASK).u64_le(self.nonce).u8(self.form as u8).bytes(self.requester.as_bytes());
        writer.u32_le(index).bytes(&hash);
        let mut bytes = writer.finish().to_vec();
        bytes.resize(bytes.len().max(length), 0);
        bytes
    }

    /// Reads what follows the type.
    pub(crate) fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let nonce = reader.u64_le()?;
        let form = match reader.u8()? {
            0 => Form::Short,
            1 => Form::Whole,
            _ => return Err(Malformed::Invalid("form")),
        };
        let requester = Addr::from_bytes(reader.array()?);
        let (index, hash) = (reader.u32_le()?, reader.array()?);
        Ok(Self { nonce, form, requester, unanswered: (index >= FIRST_INDEX).then_some((index, hash)) })
    }
}

/// Answers a [`KeyAsk`].
pub(crate) fn key_tell(nonce: u64, record: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(12 + record.len());
    writer.u32_le(KEY_TELL).u64_le(nonce).bytes(record);
    writer.finish().to_vec()
}

/// m1, from its type on.
pub(crate) fn m1(head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(4 + head.len() + body.len());
    writer.u32_le(M1).bytes(head).bytes(body);
    writer.finish().to_vec()
}

/// m2 or m3.
pub(crate) fn answer(kind: u32, index: u32, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(8 + body.len());
    writer.u32_le(kind).u32_le(index).bytes(body);
    writer.finish().to_vec()
}

/// Asks for the same m1 with a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) index: u32,
    pub(crate) cookie: [u8; 32],
    pub(crate) bits: u8,
}

impl Retry {
    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(41);
        writer.u32_le(RETRY).u32_le(self.index).bytes(&self.cookie).u8(self.bits);
        writer.finish().to_vec()
    }

    pub(crate) fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let retry = Self { index: reader.u32_le()?, cookie: reader.array()?, bits: reader.u8()? };
        reader.finish()?;
        Ok(retry)
    }
}

/// A cookie that comes back, with the nonce that solves its puzzle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) cookie: [u8; 32],
    pub(crate) bits: u8,
    pub(crate) nonce: u64,
}

impl Proof {
    pub(crate) fn emit(&self, m1: &[u8]) -> Vec<u8> {
        let mut writer = Writer::with_capacity(45 + m1.len());
        writer.u32_le(M1_AGAIN).bytes(&self.cookie).u8(self.bits).u64_le(self.nonce).bytes(m1);
        writer.finish().to_vec()
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { cookie: reader.array()?, bits: reader.u8()?, nonce: reader.u64_le()? })
    }
}
