use proptest::prelude::*;

use super::*;
use crate::legacy::{LegacyPublicKey, signing_key_from_pkcs8_der};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// What `result` refused; keys cannot be printed, so `expect_err` is no help.
fn refusal(result: Result<SigningKey, KeyError>) -> KeyError {
    result.err().expect("should have been refused")
}

proptest! {
    #[test]
    fn a_signature_is_good_for_its_purpose_and_content_only(
        seed: [u8; 32], purpose in "[ -~]{1,40}", content in prop::collection::vec(any::<u8>(), 1..80),
        at: prop::sample::Index, bit in 0u8..8,
    ) {
        let key = SigningKey::from_seed(&seed);
        let public = key.public();
        let signature = key.sign(&purpose, &content);
        prop_assert!(public.verify(&purpose, &content, &signature));

        let mut other = content.clone();
        other[at.index(content.len())] ^= 1 << bit;
        prop_assert!(!public.verify(&purpose, &other, &signature));
        prop_assert!(!public.verify(&purpose, &content[..content.len() - 1], &signature));

        let mut other = purpose.clone().into_bytes();
        other[at.index(purpose.len())] ^= 1;
        let other = String::from_utf8(other).expect("ASCII with another lowest bit is ASCII");
        prop_assert!(!public.verify(&other, &content, &signature));
        prop_assert!(!public.verify(&purpose[..purpose.len() - 1], &content, &signature));

        let mut other = *signature.as_bytes();
        other[at.index(64)] ^= 1 << bit;
        prop_assert!(!public.verify(&purpose, &content, &Signature::from_bytes(other)));
        prop_assert!(!key_after(&seed).verify(&purpose, &content, &signature));
    }

    #[test]
    fn a_byte_moved_from_purpose_to_content_breaks_the_signature(purpose in "[a-z]{2,20}", content: Vec<u8>) {
        let key = key(1);
        let signature = key.sign(&purpose, &content);
        let (shorter, moved) = purpose.split_at(purpose.len() - 1);
        let longer = [moved.as_bytes(), &content].concat();
        prop_assert!(!key.public().verify(shorter, &longer, &signature));
    }

    #[test]
    fn public_keys_come_back_and_no_truncation_or_extension_is_taken(seed: [u8; 32], more: u8) {
        let public = SigningKey::from_seed(&seed).public();
        let bytes = public.to_bytes();
        prop_assert_eq!(PublicKey::from_bytes(&bytes), Ok(public));
        for length in 0..bytes.len() {
            prop_assert!(PublicKey::from_bytes(&bytes[..length]).is_err());
        }
        prop_assert_eq!(
            PublicKey::from_bytes(&[&bytes[..], &[more]].concat()),
            Err(KeyError::Malformed(Malformed::Trailing))
        );
    }

    #[test]
    fn private_keys_come_back_and_no_truncation_or_extension_is_taken(seed: [u8; 32], more: u8) {
        let key = SigningKey::from_seed(&seed);
        let bytes = key.to_inet256_bytes();
        prop_assert_eq!(bytes.len(), 81);
        prop_assert!(SigningKey::from_inet256_bytes(&bytes).is_ok_and(|read| read.seed() == key.seed()));
        for length in 0..bytes.len() {
            prop_assert!(SigningKey::from_inet256_bytes(&bytes[..length]).is_err());
        }
        prop_assert!(SigningKey::from_inet256_bytes(&[&bytes[..], &[more]].concat()).is_err());
    }

    #[test]
    fn no_bytes_make_a_key_parser_panic(bytes: Vec<u8>) {
        let _ = PublicKey::from_bytes(&bytes);
        let _ = SigningKey::from_inet256_bytes(&bytes);
        let _ = LegacyPublicKey::from_spki_der(&bytes);
        let _ = signing_key_from_pkcs8_der(&bytes);
    }
}

fn key_after(seed: &[u8; 32]) -> PublicKey {
    let mut other = *seed;
    other[0] ^= 1;
    SigningKey::from_seed(&other).public()
}

#[test]
fn applications_may_not_sign_for_the_network() {
    let key = key(7);
    for purpose in ["inet256/", "inet256/byway/beacon", "inet256/\0"] {
        assert_eq!(key.sign_for_application(purpose, b"x"), Err(ReservedPurpose), "{purpose}");
    }
    for purpose in ["", "inet256", "Inet256/", " inet256/", "example.org/vote"] {
        let signature = key.sign_for_application(purpose, b"x").expect(purpose);
        assert!(key.public().verify(purpose, b"x", &signature), "{purpose}");
    }
}

#[test]
fn a_public_half_of_another_key_is_refused() {
    let mut bytes = key(1).to_inet256_bytes();
    bytes[17 + 32..].copy_from_slice(key(2).public().as_raw());
    assert_eq!(refusal(SigningKey::from_inet256_bytes(&bytes)), KeyError::Mismatch);
}

#[test]
fn weak_points_and_other_tags_are_no_public_keys() {
    let mut weak = key(1).public().to_bytes();
    weak[9..].fill(0);
    assert_eq!(PublicKey::from_bytes(&weak), Err(KeyError::Point));
    weak[9] = 1;
    assert_eq!(PublicKey::from_bytes(&weak), Err(KeyError::Point));
    let mut other = key(1).public().to_bytes();
    other[2] = b'E';
    assert_eq!(PublicKey::from_bytes(&other), Err(KeyError::Algorithm));
}

#[test]
fn pkcs8_of_version_2_is_read_if_its_halves_belong_together() {
    let (ours, other) = (key(1), key(2));
    let version_2 = |public: &PublicKey| {
        let mut der = vec![
            0x30, 0x51, 0x02, 0x01, 0x01, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
        ];
        der.extend_from_slice(&*ours.seed());
        der.extend_from_slice(&[0x81, 0x21, 0x00]);
        der.extend_from_slice(public.as_raw());
        der
    };
    let read = signing_key_from_pkcs8_der(&version_2(&ours.public()));
    assert!(read.is_ok_and(|key| key.seed() == ours.seed()));
    assert_eq!(refusal(signing_key_from_pkcs8_der(&version_2(&other.public()))), KeyError::Mismatch);
}

#[test]
fn a_legacy_key_has_another_address_and_its_der_one_encoding() {
    let key = key(3);
    let legacy = LegacyPublicKey::of(&key);
    assert_ne!(legacy.addr(), key.public().addr());
    let der = legacy.to_spki_der();
    assert_eq!(LegacyPublicKey::from_spki_der(&der), Ok(legacy));
    for length in 0..der.len() {
        assert!(LegacyPublicKey::from_spki_der(&der[..length]).is_err());
    }
    assert!(LegacyPublicKey::from_spki_der(&[&der[..], &[0]].concat()).is_err());
    assert!(PublicKey::from_bytes(&der).is_err(), "the two forms never mix");
}

#[test]
fn a_present_signature_is_none_of_the_legacy_form() {
    let key = key(4);
    let signature = key.sign("purpose", b"content");
    assert!(!LegacyPublicKey::of(&key).verify("purpose", b"content", &signature));
}

#[test]
fn keys_that_sign_are_wiped_when_dropped() {
    fn wiped<T: zeroize::ZeroizeOnDrop>() {}
    wiped::<SigningKey>();
    wiped::<ed25519_dalek::SigningKey>();
}
