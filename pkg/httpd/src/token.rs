//! Tokens: 256 random bits that show that someone may do something.

use byway_identity::{Addr, Entropy as _, OsEntropy};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A bearer token: text that clients show, compared in constant time, never printed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A new token: 43 characters.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        OsEntropy.fill(&mut *bytes);
        Self(Zeroizing::new(Addr::from_bytes(*bytes).to_string()))
    }

    /// The token in `text`, as a file has it; `None` when it is shorter than 32 characters, which could be guessed, or has
    /// characters that a header cannot carry. Space around it is no part of it.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The text, for a file that only its owner may read.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `shown` is this token; takes the same time wherever a difference is.
    pub(crate) fn matches(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_match_themselves() {
        let (one, other) = (Token::generate(), Token::generate());
        assert!(one.matches(one.reveal()) && !one.matches(other.reveal()) && !one.matches(""));
        let read = Token::from_text(&format!(" {}\n", one.reveal())).expect("it is long enough");
        assert!(read.matches(one.reveal()));
        assert!(Token::from_text("short").is_none() && Token::from_text(&"a b".repeat(20)).is_none());
    }
}
