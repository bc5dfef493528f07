//! The AEAD of frames: aws-lc's, and AEGIS of libaegis.

use aegis::aegis128l::Aegis128L;
use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use byway_identity::labelled_hash;
use zeroize::Zeroizing;

use crate::Ciphers;

/// Bytes that an AEAD adds.
pub(crate) const TAG: usize = 16;

/// A negotiated cipher; the number is bound into the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cipher {
    ChaCha20Poly1305 = 1,
    Aes256Gcm = 2,
    Aegis128L = 3,
}

impl Cipher {
    /// Bit of an offer: this side has AES in hardware.
    pub(crate) const PREFERS_AES: u8 = 1;

    /// What a side with `own` offers: a set of ciphers, as bits `1 << number`, and [`Cipher::PREFERS_AES`]. ChaCha20 and
    /// AES-GCM are always among them; AEGIS is not even run where it was not asked for, since it takes AES in hardware.
    pub(crate) fn offer(own: Ciphers) -> u8 {
        let mut offer = Self::ChaCha20Poly1305.bit() | Self::Aes256Gcm.bit();
        if own.aes {
            offer |= Self::PREFERS_AES;
        }
        if own.aegis {
            offer |= Self::Aegis128L.bit();
        }
        offer
    }

    /// What the responder, with `own`, makes of an offer: AEGIS where both want it, else AES where both have it in
    /// hardware; in software it is slow, and not safe from timing everywhere.
    pub(crate) fn choose(offer: u8, own: Ciphers) -> Option<Self> {
        let has = |cipher: Self| offer & cipher.bit() != 0;
        if own.aegis && has(Self::Aegis128L) {
            Some(Self::Aegis128L)
        } else if own.aes && offer & Self::PREFERS_AES != 0 && has(Self::Aes256Gcm) {
            Some(Self::Aes256Gcm)
        } else {
            has(Self::ChaCha20Poly1305).then_some(Self::ChaCha20Poly1305)
        }
    }

    /// The cipher `number` that a responder chose, if it is one of those that were offered.
    pub(crate) fn chosen(number: u8, offer: u8) -> Option<Self> {
        [Self::ChaCha20Poly1305, Self::Aes256Gcm, Self::Aegis128L]
            .into_iter()
            .find(|cipher| *cipher as u8 == number && offer & cipher.bit() != 0)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::Aegis128L => "AEGIS-128L",
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
            Cipher::Aegis128L => {
                let mut key = Zeroizing::new([0; 16]);
                key.copy_from_slice(&self.key[..16]);
                return Key::Aegis(key);
            }
        };
        let key = UnboundKey::new(algorithm, &*self.key).expect("both ciphers take 32 bytes");
        Key::AwsLc(LessSafeKey::new(key))
    }

    #[cfg(test)]
    pub(crate) fn reveal(&self) -> [u8; 32] {
        *self.key
    }
}

/// The key of one direction and epoch, expanded.
pub(crate) enum Key {
    AwsLc(LessSafeKey),
    Aegis(Zeroizing<[u8; 16]>),
}

impl Key {
    /// Seals `body` in place and gives the tag; `None` only for bodies that no frame can have.
    pub(crate) fn seal(&self, counter: u64, head: &[u8], body: &mut [u8]) -> Option<[u8; TAG]> {
        match self {
            Self::AwsLc(key) => {
                let tag = key.seal_in_place_separate_tag(nonce(counter), Aad::from(head), body).ok()?;
                tag.as_ref().try_into().ok()
            }
            Self::Aegis(key) => Some(aegis(key, counter).encrypt_in_place(body, head)),
        }
    }

    /// Opens `sealed` (body, then tag) in place and gives the length of the body.
    pub(crate) fn open(&self, counter: u64, head: &[u8], sealed: &mut [u8]) -> Option<usize> {
        match self {
            Self::AwsLc(key) => {
                key.open_in_place(nonce(counter), Aad::from(head), sealed).ok().map(|body| body.len())
            }
            Self::Aegis(key) => {
                let (body, tag) = sealed.split_last_chunk_mut::<TAG>()?;
                aegis(key, counter).decrypt_in_place(body, tag, head).ok()?;
                Some(body.len())
            }
        }
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// AEGIS' nonce: 8 zeros and the counter.
fn aegis(key: &[u8; 16], counter: u64) -> Aegis128L<TAG> {
    let mut nonce = [0; 16];
    nonce[8..].copy_from_slice(&counter.to_le_bytes());
    Aegis128L::new(key, &nonce)
}
