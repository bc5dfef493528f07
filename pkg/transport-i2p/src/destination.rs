//! Destinations, and their names: base32 of a hash.
//!
//! ```text
//! destination  encryption key 256 · signing key 128 · certificate: kind u8 · length u16 · bytes       (391 bytes as a rule)
//! name         base32( SHA-256( destination ) ) · ".b32.i2p"
//! private      destination · private keys                                 what SAM calls PRIV, and SESSION STATUS tells
//! ```

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::alphabet::Alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The name of a destination.
///
/// `Display` gives the name; `Debug` gives nothing away.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct I2pName([u8; 32]);

/// Why a text names no destination, in words for the person who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum I2pError {
    /// Not a `.b32.i2p` name: others need an address book that both ends trust.
    #[error("an endpoint over I2P is i2p://NAME.b32.i2p, without a port")]
    Form,
    /// Too short, too long, or with characters that base32 does not have.
    #[error("an I2P name has 52 of the characters a-z 2-7 before .b32.i2p; was it copied whole?")]
    Length,
}

/// The public part of what a router calls a destination: no private key can hide in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Destination(Vec<u8>);

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters of a name: 256 bits, five in each.
const LENGTH: usize = 52;
/// Bytes of the keys, and with the head of the certificate.
const KEYS: usize = 384;
const HEAD: usize = KEYS + 3;
/// Longest certificate: key types of the future may need some bytes.
const CERTIFICATE_MAX: usize = 4_096;

impl FromStr for I2pName {
    type Err = I2pError;

    fn from_str(text: &str) -> Result<Self, I2pError> {
        let text = text.to_ascii_lowercase();
        let name = text.strip_suffix(".b32.i2p").ok_or(I2pError::Form)?;
        if name.len() != LENGTH {
            return Err(I2pError::Length);
        }
        let mut hash = [0u8; 32];
        for (at, character) in name.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|known| *known == character).ok_or(I2pError::Length)?;
            for bit in 0..5 {
                let place = at * 5 + bit;
                let is_set = digit >> (4 - bit) & 1 == 1;
                match hash.get_mut(place / 8) {
                    Some(byte) => *byte |= u8::from(is_set) << (7 - place % 8),
                    // The last character has four bits that stand for nothing: one text for each name.
                    None if is_set => return Err(I2pError::Length),
                    None => {}
                }
            }
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for I2pName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in 0..LENGTH {
            let bit =
                |place: usize| self.0.get(place / 8).is_some_and(|byte| byte >> (7 - place % 8) & 1 == 1);
            let digit = (0..5).fold(0, |digit, more| digit << 1 | usize::from(bit(at * 5 + more)));
            write!(f, "{}", char::from(ALPHABET[digit]))?;
        }
        f.write_str(".b32.i2p")
    }
}

/// Never shows where somebody is.
impl fmt::Debug for I2pName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("I2pName([redacted])")
    }
}

impl Destination {
    /// Reads a destination in I2P's base64. What follows the public part, be it a private key, is cut off unread.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if text.len() > 2 * (HEAD + CERTIFICATE_MAX) {
            return None;
        }
        let mut bytes = zeroize::Zeroizing::new(base64().decode(text).ok()?);
        let head = bytes.get(KEYS + 1..HEAD)?;
        let whole = HEAD + usize::from(u16::from_be_bytes([head[0], head[1]]));
        let public = bytes.get_mut(..whole)?;
        Some(Self(public.to_vec()))
    }

    /// The name that others dial.
    pub(crate) fn name(&self) -> I2pName {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        I2pName(hash)
    }

    /// In I2P's base64.
    pub(crate) fn text(&self) -> String {
        base64().encode(&self.0)
    }
}

/// I2P's base64 has `-` and `~` at its end.
fn base64() -> GeneralPurpose {
    let alphabet = Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-~");
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet.expect("64 different characters"), config)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A destination with an Ed25519 certificate, and the same with private keys behind it.
    pub(crate) fn pair(seed: u8) -> (String, String) {
        let mut bytes = vec![seed; KEYS];
        bytes.extend([5, 0, 4, 0, 7, 0, 4]);
        let public = base64().encode(&bytes);
        bytes.extend([seed ^ 0xff; 256 + 32]);
        (public, base64().encode(&bytes))
    }

    #[test]
    fn the_private_part_is_cut_off_and_the_name_is_the_same() {
        let (public, private) = pair(7);
        let (from_public, from_private) = (Destination::read(&public), Destination::read(&private));
        assert!(from_public.is_some() && from_public == from_private);
        let destination = from_private.expect("it is there");
        assert_eq!((destination.text(), destination.0.len()), (public, HEAD + 4));
        assert!(destination.name().to_string().ends_with(".b32.i2p"));
        assert!(!format!("{:?}", destination.name()).contains("b32"));
    }

    #[test]
    fn what_is_no_destination_is_none() {
        let (public, _) = pair(7);
        for odd in ["", "AAAA", &public[..500], &public.replace('B', "!"), &"A".repeat(20_000)] {
            assert!(Destination::read(odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn what_is_almost_a_name_is_refused_with_the_reason() {
        let name = I2pName([0x5a; 32]).to_string();
        assert_eq!(name.to_uppercase().parse(), Ok(I2pName([0x5a; 32])));
        let odd_end = format!("{}.b32.i2p", "b".repeat(LENGTH));
        for (text, why) in [
            ("", I2pError::Form),
            ("example.i2p", I2pError::Form),
            (&format!("{name}:1"), I2pError::Form),
            ("abc.b32.i2p", I2pError::Length),
            (&name.replacen(name.get(..1).expect("ASCII"), "1", 1), I2pError::Length),
            (&odd_end, I2pError::Length),
        ] {
            assert_eq!(text.parse::<I2pName>(), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_hash_survives_its_name(hash: [u8; 32]) {
            prop_assert_eq!(I2pName(hash).to_string().parse(), Ok(I2pName(hash)));
        }

        #[test]
        fn no_text_panics_and_one_text_stands_for_each_name(text in "\\PC{0,60}|[a-z2-7]{52}\\.b32\\.i2p") {
            let _ = Destination::read(&text);
            if let Ok(name) = text.parse::<I2pName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
