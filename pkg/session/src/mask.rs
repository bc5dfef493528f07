//! Handshakes on bare udp look like random bytes to whoever does not know the responder's address, and get no answer
//! without it; those longer than a datagram travel in parts.
//!
//! ```text
//! masked  tag 16 · ChaCha20(message)        tag = first 16 of H(session/tag, S, message)
//!                                           key = H(session/mask, S, tag), nonce 0, S = responder address · token
//! PART    type u32 · set u32 · index u8 · count u8 · bytes                          count 2 … 4
//! ```
//!
//! The tag is both nonce and checksum, as in SIV modes: equal messages look equal, and nothing else is told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_identity::{Addr, labelled_hash};
use byway_wire::Reader;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::message;

/// Bytes that masking adds.
pub(crate) const OVERHEAD: usize = 16;
/// Bytes in front of each part.
pub(crate) const PART_HEAD: usize = 10;
/// Most parts of a message.
pub(crate) const PARTS: usize = 4;

/// Longest piece: no message has more than two of them.
const LONGEST_PART: usize = 4096;
const SETS: usize = 64;
const LIFE: Duration = Duration::from_secs(2);

/// What both sides of a masked handshake know: the responder's address, and a token that may have come with its endpoint.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret([u8; 64]);

impl Secret {
    pub(crate) fn new(responder: &Addr, token: Option<&[u8; 32]>) -> Self {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(responder.as_bytes());
        bytes[32..].copy_from_slice(token.unwrap_or(&[0; 32]));
        Self(bytes)
    }

    fn tag(&self, message: &[u8]) -> [u8; OVERHEAD] {
        let hash = labelled_hash("session/tag", &[&self.0, message]);
        let mut tag = [0; OVERHEAD];
        tag.copy_from_slice(&hash[..OVERHEAD]);
        tag
    }

    fn apply(&self, tag: &[u8; OVERHEAD], bytes: &mut [u8]) {
        let key = Zeroizing::new(labelled_hash("session/mask", &[&self.0, tag]));
        ChaCha20::new((&*key).into(), &[0; 12].into()).apply_keystream(bytes);
    }

    /// Hides `message`.
    pub(crate) fn mask(&self, message: &[u8]) -> Bytes {
        let tag = self.tag(message);
        let mut bytes = BytesMut::with_capacity(OVERHEAD + message.len());
        bytes.extend_from_slice(&tag);
        bytes.extend_from_slice(message);
        self.apply(&tag, &mut bytes[OVERHEAD..]);
        bytes.freeze()
    }

    /// Shows what is behind the mask; false, with `bytes` as they were, if another secret made it.
    pub(crate) fn unmask(&self, bytes: &mut BytesMut) -> bool {
        let Some((tag, message)) = bytes.split_first_chunk_mut::<OVERHEAD>() else { return false };
        self.apply(tag, message);
        if bool::from(self.tag(message).ct_eq(tag)) {
            let _ = bytes.split_to(OVERHEAD);
            return true;
        }
        self.apply(tag, message);
        false
    }
}

/// Cuts `message` so that each datagram, with `overhead` bytes more, fits `mtu`; `None` if that takes too many parts.
pub(crate) fn cut(message: &[u8], overhead: usize, mtu: usize, set: u32) -> Option<Vec<BytesMut>> {
    if message.len() + overhead <= mtu {
        return Some(vec![BytesMut::from(message)]);
    }
    let room = mtu.checked_sub(overhead + PART_HEAD).filter(|room| *room > 0)?;
    let count = message.len().div_ceil(room);
    if count > PARTS {
        return None;
    }
    let length = message.len().div_ceil(count);
    let parts = message.chunks(length).enumerate().map(|(index, bytes)| {
        let mut part = BytesMut::with_capacity(PART_HEAD + bytes.len());
        part.extend_from_slice(&message::PART.to_le_bytes());
        part.extend_from_slice(&set.to_le_bytes());
        part.extend_from_slice(&[index as u8, count as u8]);
        part.extend_from_slice(bytes);
        part
    });
    Some(parts.collect())
}

/// Puts parts together again: at most 64 sets, each for 2 seconds; the oldest gives way.
pub(crate) struct Sets<P> {
    sets: VecDeque<Set<P>>,
}

struct Set<P> {
    from: P,
    number: u32,
    until: Instant,
    parts: [Option<Bytes>; PARTS],
    count: usize,
}

impl<P: PartialEq> Sets<P> {
    pub(crate) fn new() -> Self {
        Self { sets: VecDeque::new() }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    /// Takes a part, from behind its type; gives the whole message once it is there.
    pub(crate) fn add(&mut self, now: Instant, from: P, part: &[u8]) -> Option<BytesMut> {
        self.expire(now);
        let mut reader = Reader::new(part);
        let number = reader.u32_le().ok()?;
        let (index, count) = (usize::from(reader.u8().ok()?), usize::from(reader.u8().ok()?));
        let bytes = reader.rest();
        if !(2..=PARTS).contains(&count) || index >= count || !(1..=LONGEST_PART).contains(&bytes.len()) {
            return None;
        }
        let known = self.sets.iter().position(|set| set.number == number && set.from == from);
        let at = known.unwrap_or_else(|| {
            if self.sets.len() == SETS {
                self.sets.pop_front();
            }
            self.sets.push_back(Set { from, number, until: now + LIFE, parts: Default::default(), count });
            self.sets.len() - 1
        });
        let set = &mut self.sets[at];
        if set.count != count {
            return None;
        }
        set.parts[index].get_or_insert_with(|| Bytes::copy_from_slice(bytes));
        if set.parts[..count].iter().any(Option::is_none) {
            return None;
        }
        let set = self.sets.remove(at)?;
        let mut message = BytesMut::new();
        for part in set.parts.iter().flatten() {
            message.extend_from_slice(part);
        }
        Some(message)
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while self.sets.front().is_some_and(|set| set.until <= now) {
            self.sets.pop_front();
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.sets.front().map(|set| set.until)
    }
}
