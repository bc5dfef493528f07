//! The AEAD of frames, by aws-lc.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use byway_identity::labelled_hash;
use zeroize::Zeroizing;

/// Bytes that an AEAD adds.
pub(crate) const TAG: usize = 16;

/// A negotiated cipher; the number is bound into the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cipher {
    ChaCha20Poly1305 = 1,
    Aes256Gcm = 2,
}

impl Cipher {
    /// Set of the ciphers that this side can use, as bits `1 << number`; ChaCha20 is always among them.
    pub(crate) const OFFER: u8 = 1 << Self::ChaCha20Poly1305 as u8 | 1 << Self::Aes256Gcm as u8;

    /// Bit of an offer: this side has AES in hardware.
    pub(crate) const PREFERS_AES: u8 = 1;

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// AES only where both have it in hardware: in software it is slow, and not safe from timing everywhere.
    pub(crate) fn choose(offer: u8, prefer_aes: bool) -> Option<Self> {
        let has = |cipher: Self| offer & 1 << cipher as u8 != 0;
        if prefer_aes && offer & Self::PREFERS_AES != 0 && has(Self::Aes256Gcm) {
            Some(Self::Aes256Gcm)
        } else {
            has(Self::ChaCha20Poly1305).then_some(Self::ChaCha20Poly1305)
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
            Self::Aes256Gcm => "AES-256-GCM",
        }
    }
}

/// The chain of keys of one direction: each epoch's key gives the next one's, never the last one's.
pub(crate) struct Chain {
    cipher: Cipher,
    key: Zeroizing<[u8; 32]>,
}

impl Chain {
    /// Epoch 0 = `H(session/key, cipher, handshake hash, raw split key)`.
    pub(crate) fn new(cipher: Cipher, handshake_hash: &[u8; 32], split: &[u8; 32]) -> Self {
        let key = labelled_hash("session/key", &[&[cipher as u8], handshake_hash, split]);
        Self { cipher, key: Zeroizing::new(key) }
    }

    /// Next epoch = `H(session/ratchet, key)`.
    pub(crate) fn next(&self) -> Self {
        Self { cipher: self.cipher, key: Zeroizing::new(labelled_hash("session/ratchet", &[&*self.key])) }
    }

    /// The same chain, for a look at one frame.
    pub(crate) fn again(&self) -> Self {
        Self { cipher: self.cipher, key: self.key.clone() }
    }

    pub(crate) fn key(&self) -> Key {
        let algorithm = match self.cipher {
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Cipher::Aes256Gcm => &AES_256_GCM,
        };
        Key(LessSafeKey::new(UnboundKey::new(algorithm, &*self.key).expect("both ciphers take 32 bytes")))
    }

    #[cfg(test)]
    pub(crate) fn reveal(&self) -> [u8; 32] {
        *self.key
    }
}

/// The key of one direction and epoch, expanded.
pub(crate) struct Key(LessSafeKey);

impl Key {
    /// Seals `body` in place and gives the tag; `None` only for bodies that no frame can have.
    pub(crate) fn seal(&self, counter: u64, head: &[u8], body: &mut [u8]) -> Option<[u8; TAG]> {
        let tag = self.0.seal_in_place_separate_tag(nonce(counter), Aad::from(head), body).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Opens `sealed` (body, then tag) in place and gives the length of the body.
    pub(crate) fn open(&self, counter: u64, head: &[u8], sealed: &mut [u8]) -> Option<usize> {
        self.0.open_in_place(nonce(counter), Aad::from(head), sealed).ok().map(|body| body.len())
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}
