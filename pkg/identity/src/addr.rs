//! The 256-bit address and its 43-character text.

use std::fmt;
use std::str::FromStr;

/// The address of a node: the SHAKE256 hash of its serialised public key.
///
/// Text and bytes sort alike. Two values are reserved: [`Addr::NOBODY`] and [`Addr::EVERYBODY`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr([u8; 32]);

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddrError {
    /// The text has another length than 43 characters.
    #[error("an address has 43 characters, not {0}")]
    Length(usize),
    /// A character is outside the alphabet `-0-9A-Z_a-z`.
    #[error("an address has only the characters - 0-9 A-Z _ a-z, and {0:?} is none")]
    Character(char),
    /// The two spare bits of the last character are not zero, so this is a second spelling of another text.
    #[error("the last character of the address does not fit; was it copied whole?")]
    Padding,
}

/// Characters in the order of their values, which is also the order of their bytes.
const ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

impl Addr {
    /// All zeros: no one.
    pub const NOBODY: Self = Self([0; 32]);
    /// All ones: everyone.
    pub const EVERYBODY: Self = Self([0xff; 32]);
    /// Characters of the text form.
    pub const TEXT_LENGTH: usize = 43;

    /// An address from its bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Zero bits before the first one: 0 … 256.
    pub fn leading_zeros(&self) -> u32 {
        let whole = self.0.iter().take_while(|byte| **byte == 0).count();
        whole as u32 * 8 + self.0.get(whole).map_or(0, |byte| byte.leading_zeros())
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; Self::TEXT_LENGTH];
        for (index, character) in text.iter_mut().enumerate() {
            let bit = index * 6;
            let high = u16::from(self.0[bit / 8]) << 8;
            let low = self.0.get(bit / 8 + 1).copied().map_or(0, u16::from);
            let value = ((high | low) >> (10 - bit % 8)) & 0x3f;
            *character = ALPHABET[usize::from(value)];
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

/// The first 8 characters: enough to tell nodes apart in a log.
impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.8}…", self.to_string())
    }
}

impl FromStr for Addr {
    type Err = AddrError;

    /// Strict: exactly one text for each address.
    fn from_str(text: &str) -> Result<Self, AddrError> {
        let count = text.chars().count();
        if count != Self::TEXT_LENGTH {
            return Err(AddrError::Length(count));
        }
        let mut bytes = [0; 32];
        let (mut pending, mut bits, mut at) = (0u16, 0, 0);
        for character in text.chars() {
            let value = ALPHABET
                .iter()
                .position(|known| char::from(*known) == character)
                .ok_or(AddrError::Character(character))?;
            pending = pending << 6 | value as u16;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                bytes[at] = (pending >> bits) as u8;
                at += 1;
                pending &= (1 << bits) - 1;
            }
        }
        if pending != 0 {
            return Err(AddrError::Padding);
        }
        Ok(Self(bytes))
    }
}

impl serde::Serialize for Addr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Addr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_leads_back_to_the_address_and_sorts_like_it(a: [u8; 32], b: [u8; 32]) {
            let (a, b) = (Addr::from_bytes(a), Addr::from_bytes(b));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn every_truncation_and_every_extension_of_a_text_is_refused(bytes: [u8; 32], more in any::<char>()) {
            let text = Addr::from_bytes(bytes).to_string();
            for length in 0..text.len() {
                prop_assert_eq!(text[..length].parse::<Addr>(), Err(AddrError::Length(length)));
            }
            prop_assert_eq!(format!("{text}{more}").parse::<Addr>(), Err(AddrError::Length(44)));
            prop_assert_eq!(format!("{more}{text}").parse::<Addr>(), Err(AddrError::Length(44)));
        }

        #[test]
        fn whatever_parses_is_printed_the_same(text in "[-0-9A-Z_a-z]{43}") {
            if let Ok(addr) = text.parse::<Addr>() {
                prop_assert_eq!(addr.to_string(), text);
            }
        }

        #[test]
        fn no_text_at_all_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Addr>();
        }
    }

    #[test]
    fn a_foreign_character_is_named_and_wrong_spare_bits_are_refused() {
        let text = Addr::EVERYBODY.to_string();
        assert_eq!(text.replacen('z', "é", 1).parse::<Addr>(), Err(AddrError::Character('é')));
        assert_eq!(text.replace('w', "z").parse::<Addr>(), Err(AddrError::Padding));
        assert_eq!(format!("{}\n", &text[..42]).parse::<Addr>(), Err(AddrError::Character('\n')));
    }

    #[test]
    fn leading_zeros_are_counted_over_all_bytes() {
        assert_eq!(Addr::NOBODY.leading_zeros(), 256);
        assert_eq!(Addr::EVERYBODY.leading_zeros(), 0);
        let mut bytes = [0; 32];
        bytes[31] = 1;
        assert_eq!(Addr::from_bytes(bytes).leading_zeros(), 255);
    }

    #[test]
    fn json_holds_the_text_and_refuses_another_spelling() {
        let json = serde_json::to_string(&Addr::EVERYBODY).expect("a string");
        assert_eq!(json, format!("\"{}\"", Addr::EVERYBODY));
        assert_eq!(serde_json::from_str::<Addr>(&json).expect("its inverse"), Addr::EVERYBODY);
        assert!(serde_json::from_str::<Addr>(&json.replace('w', "z")).is_err());
    }

    #[test]
    fn a_log_shows_only_the_start_of_an_address() {
        assert_eq!(format!("{:?}", Addr::EVERYBODY), "zzzzzzzz…");
    }
}
