//! Names of onion services, version 3 (Tor's rend-spec-v3, section 6): the key itself, with a check that finds typing errors.
//!
//! ```text
//! base32( key 32 · SHA3-256(".onion checksum" · key · 3)[..2] · version 3 ) · ".onion"
//! ```

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA3_256};

/// An onion service: its ed25519 key.
///
/// `Display` gives the name; `Debug` gives nothing away.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OnionAddress([u8; 32]);

/// Why a text names no onion service, in words for the person who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnionError {
    /// It does not end in `.onion`, with a port where one is wanted.
    #[error("an endpoint over Tor is tor://NAME.onion:PORT")]
    Form,
    /// A name of 16 characters is of a kind that Tor gave up in 2021.
    #[error("this is an onion name of version 2, which Tor no longer knows; names have 56 characters now")]
    Old,
    /// Too short, too long, or with characters that base32 does not have.
    #[error("an onion name has 56 of the characters a-z 2-7 before .onion; was it copied whole?")]
    Length,
    /// The check says that a character is wrong.
    #[error("the onion name is mistyped: its last characters do not fit the others")]
    Checksum,
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const VERSION: u8 = 3;
/// Characters of a name, and of one of version 2.
const LENGTH: usize = 56;
const OLD_LENGTH: usize = 16;

impl OnionAddress {
    /// The service with this key.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Reads `NAME.onion:PORT`, with or without names of hosts below it.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse_with_port(text: &str) -> Result<(Self, u16), OnionError> {
        let (host, port) = text.rsplit_once(':').ok_or(OnionError::Form)?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
        let port = port.parse().ok().filter(|_| digits).ok_or(OnionError::Form)?;
        Ok((host.parse()?, port))
    }

    fn checksum(&self) -> [u8; 2] {
        let mut context = Context::new(&SHA3_256);
        for part in [&b".onion checksum"[..], &self.0, &[VERSION]] {
            context.update(part);
        }
        let digest = context.finish();
        let digest = digest.as_ref();
        [digest[0], digest[1]]
    }
}

impl FromStr for OnionAddress {
    type Err = OnionError;

    fn from_str(text: &str) -> Result<Self, OnionError> {
        let text = text.to_ascii_lowercase();
        let name = text.strip_suffix(".onion").ok_or(OnionError::Form)?;
        if name.len() == OLD_LENGTH {
            return Err(OnionError::Old);
        }
        if name.len() != LENGTH {
            return Err(OnionError::Length);
        }
        let mut bytes = [0u8; LENGTH * 5 / 8];
        for (at, character) in name.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|known| *known == character).ok_or(OnionError::Length)?;
            for bit in 0..5 {
                let place = at * 5 + bit;
                bytes[place / 8] |= ((digit >> (4 - bit) & 1) as u8) << (7 - place % 8);
            }
        }
        let mut key = [0; 32];
        key.copy_from_slice(&bytes[..32]);
        let address = Self(key);
        if bytes[32..34] == address.checksum() && bytes[34] == VERSION {
            Ok(address)
        } else {
            Err(OnionError::Checksum)
        }
    }
}

impl fmt::Display for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0u8; LENGTH * 5 / 8];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..34].copy_from_slice(&self.checksum());
        bytes[34] = VERSION;
        for five in bytes.chunks_exact(5) {
            let number = five.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
            for at in (0..8).rev() {
                write!(f, "{}", char::from(ALPHABET[(number >> (5 * at) & 31) as usize]))?;
            }
        }
        f.write_str(".onion")
    }
}

/// Never shows where somebody is.
impl fmt::Debug for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnionAddress([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The Tor Project's own, from the specification.
    const KNOWN: &str = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion";

    #[test]
    fn a_published_name_is_read_and_printed_and_upper_case_is_the_same() {
        let address: OnionAddress = KNOWN.parse().expect("an example of the specification");
        assert_eq!(address.to_string(), KNOWN);
        assert_eq!(KNOWN.to_uppercase().parse(), Ok(address));
        assert_eq!(OnionAddress::parse_with_port(&format!("{KNOWN}:2561")), Ok((address, 2_561)));
        assert!(!format!("{address:?}").contains("pg6"));
    }

    #[test]
    fn what_is_almost_a_name_is_refused_with_the_reason() {
        let mistyped = KNOWN.replacen("pg6", "pg7", 1);
        for (text, why) in [
            ("", OnionError::Form),
            ("example.org", OnionError::Form),
            ("expyuzz4wqqyqhjn.onion", OnionError::Old),
            ("abc.onion", OnionError::Length),
            (&KNOWN.replacen('p', "1", 1), OnionError::Length),
            (&KNOWN.replacen('p', "é", 1)[..], OnionError::Length),
            (&mistyped, OnionError::Checksum),
        ] {
            assert_eq!(text.parse::<OnionAddress>(), Err(why), "{text}");
        }
        for port in ["", ":", ":0", ":65536", ":+1", ":x", ":080"] {
            assert_eq!(
                OnionAddress::parse_with_port(&format!("{KNOWN}{port}")),
                Err(OnionError::Form),
                "{port}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_key_survives_its_name_and_every_single_error_is_found(key: [u8; 32], at in 0usize..56, other in 0usize..32) {
            let name = OnionAddress::new(key).to_string();
            prop_assert_eq!(name.parse::<OnionAddress>(), Ok(OnionAddress::new(key)));
            let mut odd = name.clone().into_bytes();
            odd[at] = ALPHABET[other];
            let odd = String::from_utf8(odd).expect("ASCII");
            prop_assert!(odd == name || odd.parse::<OnionAddress>() != Ok(OnionAddress::new(key)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = OnionAddress::parse_with_port(&text);
        }
    }
}
