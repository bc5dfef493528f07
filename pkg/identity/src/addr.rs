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
