//! End to end: `Noise_IKpsk0+psk2`. One round trip, and m1 can carry an `early` payload.
//!
//! ```text
//! m1   head · ML-KEM ciphertext 1088 · Noise { ephemeral ML-KEM key 1184, ciphers u8,
//!                                              length u16, short record, length u16, early }
//!      psk0 from the ciphertext, to the responder's static ML-KEM key
//! m2   ML-KEM ciphertext 1088 · Noise { responder's index u32, cipher u8, flags u8 }
//!      psk2 from the ciphertext, to the ephemeral ML-KEM key; flags: 1 = `early` was dropped
//! ```

use bytes::Bytes;
use byway_identity::{Addr, Entropy};
use byway_wire::{Malformed, Reader, Writer};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::{HandshakeError, Head, Keys};
use crate::Ciphers;
use crate::cipher::Cipher;
use crate::kem;
use crate::keys::StaticKeys;
use crate::noise::{self, Noise};
use crate::record::Record;

/// Most bytes of an `early` payload.
pub(crate) const EARLY: usize = 4096;

/// m2's flag: `early` was dropped, and comes again in a frame.
const EARLY_DROPPED: u8 = 1;

/// The side that calls.
pub(crate) struct Initiator {
    noise: Noise,
    kem: kem::Secret,
    kem_hash: [u8; 32],
    /// What was offered.
    ciphers: u8,
}

/// What m2 says.
pub(crate) struct Answer {
    pub(crate) index: u32,
    pub(crate) cipher: Cipher,
    pub(crate) early_dropped: bool,
}

/// The side that is called, after m1 opened.
pub(crate) struct Responder {
    noise: Noise,
    cipher: Cipher,
    ephemeral: [u8; kem::PUBLIC],
    pub(crate) record: Record,
    pub(crate) early: Bytes,
}

/// What an initiator brings.
pub(crate) struct Own<'a> {
    pub(crate) local: &'a StaticSecret,
    pub(crate) record: &'a [u8],
    pub(crate) ciphers: u8,
    pub(crate) early: &'a [u8],
}

impl Initiator {
    /// Starts a handshake with the owner of the whole record `remote`; gives the body of m1.
    pub(crate) fn start(
        head: &Head,
        remote: &Record,
        own: &Own<'_>,
        group_key: Option<&[u8; 32]>,
        entropy: &mut dyn Entropy,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let static_kem = remote.content.kem.whole.as_ref().ok_or(HandshakeError::Key)?;
        let sealed = kem::encapsulate(static_kem, entropy).ok_or(HandshakeError::Key)?;
        let kem = kem::Secret::generate(entropy);
        let public = kem.public();
        let prologue = head.prologue(&remote.addr);
        let mut noise = Noise::initiator(
            head.pattern,
            &prologue,
            own.local,
            &remote.content.x25519,
            noise::draw(entropy),
        )?;
        let psk = kem::psk(&sealed.secret, &sealed.ciphertext, &remote.content.kem.hash, group_key);
        noise.set_psk(0, &psk)?;
        let mut payload = Writer::with_capacity(2048);
        payload.bytes(&*public).u8(own.ciphers);
        payload.u16_le(own.record.len() as u16).bytes(own.record);
        payload.u16_le(own.early.len() as u16).bytes(own.early);
        let mut body = Vec::with_capacity(3072);
        body.extend_from_slice(&*sealed.ciphertext);
        noise.write(payload.as_slice(), &mut body)?;
        Ok((Self { noise, kem, kem_hash: kem::public_hash(&public), ciphers: own.ciphers }, body))
    }

    /// Takes the body of m2. After an error another m2 can still be the right one.
    pub(crate) fn finish(
        &mut self,
        body: &[u8],
        group_key: Option<&[u8; 32]>,
    ) -> Result<Answer, HandshakeError> {
        let mut reader = Reader::new(body);
        let ciphertext = reader.array()?;
        let secret = self.kem.decapsulate(&ciphertext);
        self.noise.set_psk(2, &kem::psk(&secret, &ciphertext, &self.kem_hash, group_key))?;
        let payload = self.noise.read(reader.rest())?;
        let mut reader = Reader::new(&payload);
        let index = reader.u32_le()?;
        let cipher = Cipher::chosen(reader.u8()?, self.ciphers).ok_or(HandshakeError::Key)?;
        let flags = reader.u8()?;
        reader.finish()?;
        Ok(Answer { index, cipher, early_dropped: flags & EARLY_DROPPED != 0 })
    }

    /// The keys, once [`Initiator::finish`] went well.
    pub(crate) fn keys(self, cipher: Cipher) -> Result<Keys, HandshakeError> {
        Ok(Keys::new(cipher, &self.noise.split()?, true))
    }
}

impl Responder {
    /// Takes the body of m1.
    pub(crate) fn open(
        head: &Head,
        addr: &Addr,
        body: &[u8],
        local: &StaticKeys,
        ciphers: Ciphers,
        group_key: Option<&[u8; 32]>,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, HandshakeError> {
        let mut reader = Reader::new(body);
        let ciphertext = reader.array()?;
        let secret = local.kem.decapsulate(&ciphertext);
        let prologue = head.prologue(addr);
        let mut noise = Noise::responder(head.pattern, &prologue, &local.x25519, noise::draw(entropy))?;
        noise.set_psk(0, &kem::psk(&secret, &ciphertext, &local.kem_hash, group_key))?;
        let payload = noise.read(reader.rest())?;
        let mut reader = Reader::new(&payload);
        let ephemeral = reader.array()?;
        let cipher = Cipher::choose(reader.u8()?, ciphers).ok_or(HandshakeError::Key)?;
        let length = reader.u16_le()?;
        let record = Record::open(reader.bytes(length.into())?)?;
        let length = usize::from(reader.u16_le()?);
        if length > EARLY {
            return Err(Malformed::Invalid("early").into());
        }
        let early = Bytes::copy_from_slice(reader.bytes(length)?);
        reader.finish()?;
        if noise.remote_static() != Some(record.content.x25519) {
            return Err(HandshakeError::Identity);
        }
        Ok(Self { noise, cipher, ephemeral, record, early })
    }

    /// Gives the body of m2, and the keys.
    pub(crate) fn answer(
        mut self,
        index: u32,
        early_dropped: bool,
        group_key: Option<&[u8; 32]>,
        entropy: &mut dyn Entropy,
    ) -> Result<(Vec<u8>, Keys), HandshakeError> {
        let sealed = kem::encapsulate(&self.ephemeral, entropy).ok_or(HandshakeError::Key)?;
        let psk: Zeroizing<[u8; 32]> =
            kem::psk(&sealed.secret, &sealed.ciphertext, &kem::public_hash(&self.ephemeral), group_key);
        self.noise.set_psk(2, &psk)?;
        let mut payload = Writer::new();
        payload.u32_le(index).u8(self.cipher as u8).u8(if early_dropped { EARLY_DROPPED } else { 0 });
        let mut body = Vec::with_capacity(1280);
        body.extend_from_slice(&*sealed.ciphertext);
        self.noise.write(payload.as_slice(), &mut body)?;
        Ok((body, Keys::new(self.cipher, &self.noise.split()?, false)))
    }
}
