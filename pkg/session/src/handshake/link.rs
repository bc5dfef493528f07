//! One hop: `Noise_XKpsk2`. The initiator shows who it is only to the responder, and only in m3.
//!
//! ```text
//! m1   head · Noise { ephemeral ML-KEM key 1184, ciphers u8 }
//! m2   ML-KEM ciphertext 1088 · Noise { responder's index u32, cipher u8 }      psk2 from the ciphertext
//! m3   Noise { initiator's short record }
//! ```

use byway_identity::{Addr, Entropy};
use byway_wire::Reader;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::{HandshakeError, Head, Keys};
use crate::Ciphers;
use crate::cipher::Cipher;
use crate::kem;
use crate::noise::{self, Noise};
use crate::record::Record;

/// The side that dials.
pub(crate) struct Initiator {
    noise: Noise,
    kem: kem::Secret,
    kem_hash: [u8; 32],
    /// What was offered.
    ciphers: u8,
}

/// The side that is dialled.
pub(crate) struct Responder {
    noise: Noise,
    cipher: Cipher,
    again: Again,
}

/// All that made a [`Responder`], to make it again.
struct Again {
    head: Head,
    addr: Addr,
    local: StaticSecret,
    ephemeral: Zeroizing<[u8; 32]>,
    noise_m1: Box<[u8]>,
    psk: Zeroizing<[u8; 32]>,
    payload: [u8; 5],
}

impl Initiator {
    /// Starts a handshake with the owner of `x25519`; gives the body of m1.
    pub(crate) fn start(
        head: &Head,
        responder: &Addr,
        x25519: &[u8; 32],
        local: &StaticSecret,
        ciphers: u8,
        entropy: &mut dyn Entropy,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let kem = kem::Secret::generate(entropy);
        let public = kem.public();
        let prologue = head.prologue(responder);
        let mut noise = Noise::initiator(head.pattern, &prologue, local, x25519, noise::draw(entropy))?;
        let mut payload = public.to_vec();
        payload.push(ciphers);
        let mut body = Vec::with_capacity(1280);
        noise.write(&payload, &mut body)?;
        Ok((Self { noise, kem, kem_hash: kem::public_hash(&public), ciphers }, body))
    }

    /// Takes the body of m2; gives the responder's index, the body of m3, which carries `record`, and the keys. After an
    /// error another m2 can still be the right one.
    pub(crate) fn finish(
        &mut self,
        body: &[u8],
        record: &[u8],
        group_key: Option<&[u8; 32]>,
    ) -> Result<(u32, Cipher, Vec<u8>), HandshakeError> {
        let mut reader = Reader::new(body);
        let ciphertext = reader.array()?;
        let secret = self.kem.decapsulate(&ciphertext);
        self.noise.set_psk(2, &kem::psk(&secret, &ciphertext, &self.kem_hash, group_key))?;
        let payload = self.noise.read(reader.rest())?;
        let mut reader = Reader::new(&payload);
        let index = reader.u32_le()?;
        let cipher = Cipher::chosen(reader.u8()?, self.ciphers).ok_or(HandshakeError::Key)?;
        reader.finish()?;
        let mut out = Vec::with_capacity(512);
        self.noise.write(record, &mut out)?;
        Ok((index, cipher, out))
    }

    /// The keys, once [`Initiator::finish`] went well.
    pub(crate) fn keys(self, cipher: Cipher) -> Result<Keys, HandshakeError> {
        Ok(Keys::new(cipher, &self.noise.split()?, true))
    }
}

impl Responder {
    /// Takes the body of m1 and gives that of m2.
    #[expect(clippy::too_many_arguments, reason = "a step of the protocol with all its inputs")]
    pub(crate) fn start(
        head: &Head,
        addr: &Addr,
        body: &[u8],
        local: &StaticSecret,
        index: u32,
        ciphers: Ciphers,
        group_key: Option<&[u8; 32]>,
        entropy: &mut dyn Entropy,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let ephemeral = noise::draw(entropy);
        let prologue = head.prologue(addr);
        let mut noise = Noise::responder(head.pattern, &prologue, local, ephemeral.clone())?;
        let payload = noise.read(body)?;
        let mut reader = Reader::new(&payload);
        let public: [u8; kem::PUBLIC] = reader.array()?;
        let cipher = Cipher::choose(reader.u8()?, ciphers).ok_or(HandshakeError::Key)?;
        reader.finish()?;
        let sealed = kem::encapsulate(&public, entropy).ok_or(HandshakeError::Key)?;
        let psk = kem::psk(&sealed.secret, &sealed.ciphertext, &kem::public_hash(&public), group_key);
        noise.set_psk(2, &psk)?;
        let mut payload = [0; 5];
        payload[..4].copy_from_slice(&index.to_le_bytes());
        payload[4] = cipher as u8;
        let mut out = Vec::with_capacity(1280);
        out.extend_from_slice(&*sealed.ciphertext);
        noise.write(&payload, &mut out)?;
        let again = Again {
            head: *head,
            addr: *addr,
            local: local.clone(),
            ephemeral,
            noise_m1: body.into(),
            psk,
            payload,
        };
        Ok((Self { noise, cipher, again }, out))
    }

    /// Takes the body of m3; gives the initiator's record, whose X25519 key is the one that was proved.
    ///
    /// An error leaves the state as it was: snow restores its hashes after a message that does not open, but not the
    /// cipher's key, so one flipped bit in m3 would make the genuine one, sent again, fail too.
    pub(crate) fn finish(&mut self, body: &[u8]) -> Result<Record, HandshakeError> {
        let record = self.read(body);
        if record.is_err() {
            self.noise = self.again.make()?;
        }
        record
    }

    fn read(&mut self, body: &[u8]) -> Result<Record, HandshakeError> {
        let payload = self.noise.read(body)?;
        let record = Record::open(&payload)?;
        if self.noise.remote_static() != Some(record.content.x25519) {
            return Err(HandshakeError::Identity);
        }
        Ok(record)
    }

    /// The keys, once [`Responder::finish`] went well.
    pub(crate) fn keys(self) -> Result<Keys, HandshakeError> {
        Ok(Keys::new(self.cipher, &self.noise.split()?, false))
    }
}

impl Again {
    fn make(&self) -> Result<Noise, HandshakeError> {
        let prologue = self.head.prologue(&self.addr);
        let mut noise = Noise::responder(self.head.pattern, &prologue, &self.local, self.ephemeral.clone())?;
        noise.read(&self.noise_m1)?;
        noise.set_psk(2, &self.psk)?;
        noise.write(&self.payload, &mut Vec::new())?;
        Ok(noise)
    }
}
