//! Ed25519 keys, their INET256 form, and signatures bound to purpose and content.

use std::fmt;

use byway_wire::{Malformed, Reader, Writer};
use ed25519_dalek::Signer;
use ed25519_dalek::pkcs8::{ALGORITHM_OID, KeypairBytes};
use pkcs8::PrivateKeyInfoRef;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{Addr, Entropy, cshake256, shake256};

/// Why bytes are not a key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes do not have the layout of a key.
    #[error("not a serialised key: {0}")]
    Malformed(#[from] Malformed),
    /// The tag names an algorithm that Byway does not speak.
    #[error("the key is of an algorithm other than ed25519")]
    Algorithm,
    /// The 32 bytes are no point of the curve, or a weak one.
    #[error("the key is not a valid Ed25519 point")]
    Point,
    /// Public and private half do not belong together.
    #[error("the public half does not belong to the private half")]
    Mismatch,
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// An Ed25519 key that signs; zeroed when dropped, and never printed.
///
/// ```compile_fail
/// # use byway_identity::SigningKey;
/// println!("{:?}", SigningKey::from_seed(&[7; 32])); // has no `Debug`
/// ```
#[derive(Clone, zeroize::ZeroizeOnDrop)]
pub struct SigningKey(ed25519_dalek::SigningKey);

/// An application asked for a signature whose purpose belongs to the network itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("purposes that start with inet256/ are reserved to the network; choose another purpose")]
pub struct ReservedPurpose;

const TAG: &[u8] = b"ed25519";
const PRIVATE_TAG: &[u8] = b"ed25519.private";
const RESERVED: &str = "inet256/";

impl PublicKey {
    /// A key from its 32 raw bytes.
    pub fn from_raw(raw: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(raw).map_err(|_| KeyError::Point)?;
        if key.is_weak() { Err(KeyError::Point) } else { Ok(Self(key)) }
    }

    /// The 32 raw bytes.
    pub fn as_raw(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// INET256 v0.0.8: tag length (u16, little-endian) · `ed25519` · 32 raw bytes; nothing may follow.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let mut reader = Reader::new(bytes);
        let length = reader.u16_le()?;
        if reader.bytes(length.into())? != TAG {
            return Err(KeyError::Algorithm);
        }
        let raw = reader.array()?;
        reader.finish()?;
        Self::from_raw(&raw)
    }

    /// The inverse of [`PublicKey::from_bytes`], 41 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u16_le(TAG.len() as u16).bytes(TAG).bytes(self.as_raw());
        writer.finish().to_vec()
    }

    /// The address: SHAKE256 of [`PublicKey::to_bytes`].
    pub fn addr(&self) -> Addr {
        Addr::from_bytes(shake256(&[&self.to_bytes()]))
    }

    /// Whether `signature` was made by this key for just this `purpose` and `content`.
    pub fn verify(&self, purpose: &str, content: &[u8], signature: &Signature) -> bool {
        self.verify_input(&signing_input(purpose, content), signature)
    }

    /// Whether `signature` is over just `input`, by the strict rules: no weak key, one encoding.
    pub(crate) fn verify_input(&self, input: &[u8; 64], signature: &Signature) -> bool {
        self.0.verify_strict(input, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
    }
}

impl SigningKey {
    /// A new key.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed);
        Self::from_seed(&seed)
    }

    /// The key that `seed` determines.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The secret seed, for key files only.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// INET256 v0.0.8, 81 bytes: tag length (u16, little-endian) · `ed25519.private` · seed · public key.
    pub fn to_inet256_bytes(&self) -> Zeroizing<Vec<u8>> {
        // The room is set aside at once, because growing would leave a copy of the seed behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 + PRIVATE_TAG.len() + 64));
        bytes.extend_from_slice(&(PRIVATE_TAG.len() as u16).to_le_bytes());
        bytes.extend_from_slice(PRIVATE_TAG);
        bytes.extend_from_slice(self.0.as_bytes());
        bytes.extend_from_slice(self.public().as_raw());
        bytes
    }

    /// The inverse of [`SigningKey::to_inet256_bytes`]: nothing may follow, and the public half must belong to the seed.
    pub fn from_inet256_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let mut reader = Reader::new(bytes);
        let length = reader.u16_le()?;
        if reader.bytes(length.into())? != PRIVATE_TAG {
            return Err(KeyError::Algorithm);
        }
        let seed = Zeroizing::new(reader.array()?);
        let public = reader.array()?;
        reader.finish()?;
        Self::from_halves(&seed, Some(&public))
    }

    /// The key of `seed`, if `public` is absent or its public half.
    fn from_halves(seed: &[u8; 32], public: Option<&[u8; 32]>) -> Result<Self, KeyError> {
        let key = Self::from_seed(seed);
        match public {
            Some(public) if !bool::from(key.public().as_raw().ct_eq(public)) => Err(KeyError::Mismatch),
            _ => Ok(key),
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `content` for a `purpose` of an application, which may not start with `inet256/`: else it could have the
    /// node sign what only the network's protocols may say.
    pub fn sign_for_application(&self, purpose: &str, content: &[u8]) -> Result<Signature, ReservedPurpose> {
        if purpose.starts_with(RESERVED) { Err(ReservedPurpose) } else { Ok(self.sign(purpose, content)) }
    }

    /// Signs `content` for `purpose`, reserved ones too; for the network's own protocols. What an application asks
    /// for goes through [`SigningKey::sign_for_application`].
    pub fn sign(&self, purpose: &str, content: &[u8]) -> Signature {
        Signature(self.0.sign(&signing_input(purpose, content)).to_bytes())
    }
}

impl Signature {
    /// A signature from its bytes; only [`PublicKey::verify`] tells whether it is one.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

/// The key in a PKCS#8 document: version 1, or version 2 with a public key that belongs to it.
pub(crate) fn from_pkcs8_der(der: &[u8]) -> Result<SigningKey, KeyError> {
    let malformed = KeyError::Malformed(Malformed::Invalid("PKCS#8"));
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_| malformed)?;
    if info.algorithm.oid != ALGORITHM_OID {
        return Err(KeyError::Algorithm);
    }
    let halves = KeypairBytes::try_from(info).map_err(|_| malformed)?;
    SigningKey::from_halves(&halves.secret_key, halves.public_key.as_ref().map(|public| &public.0))
}

/// cSHAKE256(S = cSHAKE256(S = purpose, nothing), content): what Ed25519 signs. Without the content in it, one
/// signature would be good for every message of the purpose.
fn signing_input(purpose: &str, content: &[u8]) -> [u8; 64] {
    let context: [u8; 32] = cshake256(purpose.as_bytes(), &[]);
    cshake256(&context, content)
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?})", self.addr())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature")
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
