//! Targets for keys and key files.

use byway_identity::legacy::{LegacyPublicKey, signing_key_from_pkcs8_der};
use byway_identity::{PublicKey, SigningKey, keyfile};

/// The passphrase of the encrypted seeds.
pub const PASSPHRASE: &str = "byway";

/// Public keys in both forms: each key has one encoding.
pub fn public_key(data: &[u8]) {
    if let Ok(key) = PublicKey::from_bytes(data) {
        assert_eq!(key.to_bytes(), data);
    }
    if let Ok(key) = LegacyPublicKey::from_spki_der(data) {
        assert_eq!(key.to_spki_der(), data);
    }
}

/// Private keys: what is read is written the same.
pub fn private_key(data: &[u8]) {
    if let Ok(key) = SigningKey::from_inet256_bytes(data) {
        assert_eq!(*key.to_inet256_bytes(), data);
    }
    let _ = signing_key_from_pkcs8_der(data);
}

/// Key files in every form. A last byte of `!` offers the passphrase, which takes time to be tried.
pub fn key_file(data: &[u8]) {
    let (data, passphrase) = match data.split_last() {
        Some((b'!', data)) => (data, Some(PASSPHRASE)),
        _ => (data, None),
    };
    if let Ok(key) = keyfile::decode(data, passphrase) {
        let written = keyfile::encode_pem(&key, None).expect("needs nothing");
        assert!(keyfile::decode(written.as_bytes(), None).is_ok_and(|read| read.seed() == key.seed()));
    }
}
