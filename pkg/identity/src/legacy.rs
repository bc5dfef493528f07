//! Keys as INET256 v0.0.7 had them: to read, never to make new ones.
//!
//! That version serialised keys as DER (SubjectPublicKeyInfo and PKCS#8), so the same Ed25519 key has *another*
//! address there than in the present form. The types are apart from the present ones for that reason: nothing
//! here becomes a [`crate::PublicKey`] by accident, and no node answers to a legacy address.

use std::fmt;

use byway_wire::Malformed;
use pkcs8::spki::SubjectPublicKeyInfoRef;

use crate::key::from_pkcs8_der;
use crate::{Addr, KeyError, Signature, SigningKey, cshake256, shake256};

/// An Ed25519 public key in the form of v0.0.7.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LegacyPublicKey(crate::PublicKey);

/// What stands before the 32 raw bytes in the DER form (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl LegacyPublicKey {
    /// The legacy form of `key`, to compare it with what a v0.0.7 program says.
    pub fn of(key: &SigningKey) -> Self {
        Self(key.public())
    }

    /// DER SubjectPublicKeyInfo, of which there is one encoding; nothing may follow.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let malformed = KeyError::Malformed(Malformed::Invalid("SubjectPublicKeyInfo"));
        let Some((head, raw)) = der.split_first_chunk() else { return Err(malformed) };
        if *head == SPKI_HEAD {
            let raw = raw.try_into().map_err(|_| malformed)?;
            return crate::PublicKey::from_raw(raw).map(Self);
        }
        match SubjectPublicKeyInfoRef::try_from(der) {
            Ok(info) if info.algorithm.oid != ed25519_dalek::pkcs8::ALGORITHM_OID => Err(KeyError::Algorithm),
            _ => Err(malformed),
        }
    }

    /// The inverse of [`LegacyPublicKey::from_spki_der`], 44 bytes.
    pub fn to_spki_der(&self) -> [u8; 44] {
        let mut der = [0; 44];
        der[..12].copy_from_slice(&SPKI_HEAD);
        der[12..].copy_from_slice(self.0.as_raw());
        der
    }

    /// The address that v0.0.7 gave the key: SHAKE256 of its DER form.
    pub fn addr(&self) -> Addr {
        Addr::from_bytes(shake256(&[&self.to_spki_der()]))
    }

    /// Whether `signature` was made by a v0.0.7 program with this key for `purpose` and `content`.
    pub fn verify(&self, purpose: &str, content: &[u8], signature: &Signature) -> bool {
        let input: [u8; 64] = cshake256(purpose.as_bytes(), content);
        self.0.verify_input(&input, signature)
    }
}

/// The private key in a DER PKCS#8 document, which was the API's form in v0.0.7 (its key *files* are PEM and read by
/// [`crate::keyfile`]). The key signs and is addressed in the present form.
pub fn signing_key_from_pkcs8_der(der: &[u8]) -> Result<SigningKey, KeyError> {
    from_pkcs8_der(der)
}

impl fmt::Debug for LegacyPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LegacyPublicKey({:?})", self.addr())
    }
}
