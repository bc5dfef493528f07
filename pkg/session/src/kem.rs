//! ML-KEM-768 (FIPS 203), and how its secrets enter Noise.
//!
//! Keys and encapsulations are drawn from [`Entropy`], so that a seed replays every handshake.

use byway_identity::{Entropy, labelled_hash, shake256};
use ml_kem::kem::{Decapsulate, KeyExport, TryKeyInit};
use ml_kem::ml_kem_768::{DecapsulationKey, EncapsulationKey};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a public key.
pub(crate) const PUBLIC: usize = 1184;
/// Bytes of a ciphertext.
pub(crate) const CIPHERTEXT: usize = 1088;

/// A secret key; the library zeroes it when dropped.
pub(crate) struct Secret(Box<DecapsulationKey>);

/// What an encapsulation gives.
pub(crate) struct Encapsulated {
    pub(crate) ciphertext: Box<[u8; CIPHERTEXT]>,
    pub(crate) secret: Zeroizing<[u8; 32]>,
}

impl Secret {
    pub(crate) fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut seed = ml_kem::Seed::default();
        entropy.fill(&mut seed);
        let key = DecapsulationKey::from_seed(seed);
        seed.zeroize();
        Self(Box::new(key))
    }

    pub(crate) fn public(&self) -> Box<[u8; PUBLIC]> {
        let mut public = Box::new([0; PUBLIC]);
        public.copy_from_slice(&self.0.encapsulation_key().to_bytes());
        public
    }

    /// Never fails: a wrong ciphertext gives a secret that nobody knows.
    pub(crate) fn decapsulate(&self, ciphertext: &[u8; CIPHERTEXT]) -> Zeroizing<[u8; 32]> {
        let mut shared = self.0.decapsulate(&(*ciphertext).into());
        let secret = Zeroizing::new(shared.into());
        shared.zeroize();
        secret
    }
}

/// Encapsulates to `public`; `None` if that fails the key check of FIPS 203, section 7.2.
pub(crate) fn encapsulate(public: &[u8; PUBLIC], entropy: &mut dyn Entropy) -> Option<Encapsulated> {
    let key = EncapsulationKey::new(&(*public).into()).ok()?;
    let mut message = ml_kem::B32::default();
    entropy.fill(&mut message);
    let (sealed, mut shared) = key.encapsulate_deterministic(&message);
    message.zeroize();
    let mut ciphertext = Box::new([0; CIPHERTEXT]);
    ciphertext.copy_from_slice(&sealed);
    let secret = Zeroizing::new(shared.into());
    shared.zeroize();
    Some(Encapsulated { ciphertext, secret })
}

/// Whether `public` passes the key check of FIPS 203, section 7.2: every coefficient is reduced.
pub(crate) fn is_valid(public: &[u8; PUBLIC]) -> bool {
    <EncapsulationKey as TryKeyInit>::new(&(*public).into()).is_ok()
}

/// The hash that stands for a public key in a record and in [`psk`].
pub(crate) fn public_hash(public: &[u8; PUBLIC]) -> [u8; 32] {
    shake256(&[public])
}

/// `H(session/psk, secret, ciphertext, SHAKE256(public key), group key or zeros)`.
pub(crate) fn psk(
    secret: &[u8; 32],
    ciphertext: &[u8; CIPHERTEXT],
    public_hash: &[u8; 32],
    group_key: Option<&[u8; 32]>,
) -> Zeroizing<[u8; 32]> {
    let group_key = group_key.unwrap_or(&[0; 32]);
    Zeroizing::new(labelled_hash("session/psk", &[secret, ciphertext, public_hash, group_key]))
}
