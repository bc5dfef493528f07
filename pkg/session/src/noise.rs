//! The two Noise patterns, by `snow`.
//!
//! Its generator yields the one ephemeral key that each side of these patterns needs and nothing more, so that all
//! randomness comes from [`Entropy`]. X25519 is `x25519-dalek`: it wipes keys, and refuses points of low order.

use byway_identity::Entropy;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Bytes that Noise adds to an encrypted payload or key.
pub(crate) const TAG: usize = 16;

/// Which pattern; the number stands in the head of m1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Pattern {
    /// `XKpsk2`
    Link = 1,
    /// `IKpsk0+psk2`
    EndToEnd = 2,
}

/// A Noise message did not open, or a step came out of turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoiseError;

/// One side of a handshake.
pub(crate) struct Noise(Box<snow::HandshakeState>);

/// What a finished handshake leaves.
pub(crate) struct Split {
    pub(crate) hash: [u8; 32],
    pub(crate) from_initiator: Zeroizing<[u8; 32]>,
    pub(crate) from_responder: Zeroizing<[u8; 32]>,
}

impl Pattern {
    fn params(self) -> NoiseParams {
        match self {
            Self::Link => "Noise_XKpsk2_25519_ChaChaPoly_BLAKE2s",
            Self::EndToEnd => "Noise_IKpsk0+psk2_25519_ChaChaPoly_BLAKE2s",
        }
        .parse()
        .expect("both names are well formed")
    }
}

impl Noise {
    pub(crate) fn initiator(
        pattern: Pattern,
        prologue: &[u8],
        local: &StaticSecret,
        remote: &[u8; 32],
        ephemeral: Zeroizing<[u8; 32]>,
    ) -> Result<Self, NoiseError> {
        let local = Zeroizing::new(local.to_bytes());
        Self::builder(pattern, ephemeral)
            .prologue(prologue)?
            .local_private_key(&*local)?
            .remote_public_key(remote)?
            .build_initiator()
            .map(|state| Self(Box::new(state)))
            .map_err(NoiseError::from)
    }

    pub(crate) fn responder(
        pattern: Pattern,
        prologue: &[u8],
        local: &StaticSecret,
        ephemeral: Zeroizing<[u8; 32]>,
    ) -> Result<Self, NoiseError> {
        let local = Zeroizing::new(local.to_bytes());
        Self::builder(pattern, ephemeral)
            .prologue(prologue)?
            .local_private_key(&*local)?
            .build_responder()
            .map(|state| Self(Box::new(state)))
            .map_err(NoiseError::from)
    }

    fn builder<'builder>(pattern: Pattern, ephemeral: Zeroizing<[u8; 32]>) -> snow::Builder<'builder> {
        snow::Builder::with_resolver(pattern.params(), Box::new(Resolver { ephemeral }))
    }

    /// Sets the psk of `slot`; due before the message in which the pattern mixes it.
    pub(crate) fn set_psk(&mut self, slot: u8, psk: &[u8; 32]) -> Result<(), NoiseError> {
        Ok(self.0.set_psk(slot.into(), psk)?)
    }

    /// Appends the next message to `out`.
    pub(crate) fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        // Two keys and two tags are the most that any of our messages adds.
        let start = out.len();
        out.resize(start + payload.len() + 2 * (32 + TAG), 0);
        let length = self.0.write_message(payload, &mut out[start..])?;
        out.truncate(start + length);
        Ok(())
    }

    /// Reads the next message; after an error the same step can be tried with another message, but see
    /// [`crate::handshake::link::Responder::finish`].
    pub(crate) fn read(&mut self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, NoiseError> {
        let mut payload = Zeroizing::new(vec![0; message.len()]);
        let length = self.0.read_message(message, &mut payload)?;
        payload.truncate(length);
        Ok(payload)
    }

    /// The static key that the other side has proved, once it has.
    pub(crate) fn remote_static(&self) -> Option<[u8; 32]> {
        self.0.get_remote_static()?.try_into().ok()
    }

    /// Ends the handshake.
    pub(crate) fn split(mut self) -> Result<Split, NoiseError> {
        // Before its end, snow hands out keys all the same.
        if !self.0.is_handshake_finished() {
            return Err(NoiseError);
        }
        let hash = self.0.get_handshake_hash().try_into().map_err(|_| NoiseError)?;
        let (initiator, responder) = self.0.dangerously_get_raw_split();
        Ok(Split {
            hash,
            from_initiator: Zeroizing::new(initiator),
            from_responder: Zeroizing::new(responder),
        })
    }
}

impl From<snow::Error> for NoiseError {
    fn from(_: snow::Error) -> Self {
        Self
    }
}

/// Bytes for one ephemeral key.
pub(crate) fn draw(entropy: &mut dyn Entropy) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(&mut *bytes);
    bytes
}

struct Resolver {
    ephemeral: Zeroizing<[u8; 32]>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.ephemeral.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(X25519::unset()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Gives its bytes once, and fails ever after rather than repeat an ephemeral key.
struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let bytes = self.0.take().ok_or(snow::Error::Rng)?;
        if dest.len() != bytes.len() {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(&*bytes);
        Ok(())
    }
}

struct X25519 {
    secret: StaticSecret,
    bytes: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl X25519 {
    fn unset() -> Self {
        Self { secret: StaticSecret::from([0; 32]), bytes: Zeroizing::new([0; 32]), public: [0; 32] }
    }

    fn new(bytes: [u8; 32]) -> Self {
        let secret = StaticSecret::from(bytes);
        let public = PublicKey::from(&secret).to_bytes();
        Self { secret, bytes: Zeroizing::new(bytes), public }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(privkey);
        *self = Self::new(bytes);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(&mut *bytes)?;
        *self = Self::new(*bytes);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.bytes
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public: [u8; 32] = pubkey.get(..32).and_then(|key| key.try_into().ok()).ok_or(snow::Error::Dh)?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(public));
        if !shared.was_contributory() {
            return Err(snow::Error::Dh);
        }
        out.get_mut(..32).ok_or(snow::Error::Dh)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}
