//! What is said to a SAM bridge and what it answers, without IO (SAMv3, as of version 3.1).
//!
//! ```text
//! ► HELLO VERSION MIN=3.1 MAX=3.3          ◄ HELLO REPLY RESULT=OK VERSION=3.1
//! ► DEST GENERATE SIGNATURE_TYPE=7         ◄ DEST REPLY PUB=… PRIV=…
//! ► SESSION CREATE STYLE=STREAM ID=…       ◄ SESSION STATUS RESULT=OK DESTINATION=(the private key!)
//! ► NAMING LOOKUP NAME=ME                  ◄ NAMING REPLY RESULT=OK NAME=ME VALUE=…
//! ► STREAM CONNECT ID=… DESTINATION=…      ◄ STREAM STATUS RESULT=OK, then the stream
//! ► STREAM ACCEPT ID=…                     ◄ STREAM STATUS RESULT=OK, later a line with who came, then the stream
//! ```

use std::fmt::Write;

use zeroize::Zeroizing;

/// The tunnels of a session, in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnels {
    /// Routers that each leads through: 1 to 7. Fewer are faster, and hide less.
    pub length: u8,
    /// How many there are: 1 to 16. With one or two a session is out of reach whenever one breaks.
    pub count: u8,
}

/// Why the bridge did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// What answers is no SAM bridge.
    NotSam,
    /// It refuses, with this `RESULT`.
    Refused(String),
}

/// Ed25519, the one kind of signing key that new destinations should have.
const SIGNATURE_TYPE: u8 = 7;
/// Longest word of the bridge's that is kept.
const WORD_MAX: usize = 40;

impl Default for Tunnels {
    fn default() -> Self {
        Self { length: 3, count: 3 }
    }
}

impl Trouble {
    /// The result that the bridge named.
    pub(crate) fn result(&self) -> &str {
        match self {
            Self::NotSam => "",
            Self::Refused(result) => result,
        }
    }
}

pub(crate) fn hello() -> Zeroizing<String> {
    line("HELLO VERSION MIN=3.1 MAX=3.3")
}

pub(crate) fn generate() -> Zeroizing<String> {
    line(&format!("DEST GENERATE SIGNATURE_TYPE={SIGNATURE_TYPE}"))
}

/// A session under the private key `key`.
pub(crate) fn create(id: &str, key: &str, tunnels: Tunnels) -> Zeroizing<String> {
    let Tunnels { length, count } = tunnels;
    let options = format!(
        "inbound.length={length} outbound.length={length} inbound.quantity={count} outbound.quantity={count} \
         i2cp.leaseSetEncType=4"
    );
    // Room for all at once: growing would leave copies of the key behind.
    let mut line = Zeroizing::new(String::with_capacity(key.len() + options.len() + id.len() + 64));
    let _ = write!(line, "SESSION CREATE STYLE=STREAM ID={id} DESTINATION={key} {options}");
    line
}

/// What `name` stands for; `ME`: the destination of the session of this connection.
pub(crate) fn lookup(name: &str) -> Zeroizing<String> {
    line(&format!("NAMING LOOKUP NAME={name}"))
}

pub(crate) fn connect(id: &str, destination: &str) -> Zeroizing<String> {
    line(&format!("STREAM CONNECT ID={id} DESTINATION={destination} SILENT=false"))
}

pub(crate) fn accept(id: &str) -> Zeroizing<String> {
    line(&format!("STREAM ACCEPT ID={id} SILENT=false"))
}

/// What to say to a `PING`, which a bridge sends to see whether the client is there; none: this is no `PING`.
pub(crate) fn pong(heard: &str) -> Option<Zeroizing<String>> {
    let rest = heard.strip_prefix("PING").filter(|rest| rest.is_empty() || rest.starts_with(' '))?;
    Some(line(&format!("PONG{rest}")))
}

/// Whether `reply` begins with the words `verb`, and says that it was done.
pub(crate) fn check(reply: &str, verb: &str) -> Result<(), Trouble> {
    if !reply.strip_prefix(verb).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')) {
        return Err(Trouble::NotSam);
    }
    match value(reply, "RESULT") {
        Some("OK") => Ok(()),
        // A private key has no place in a word that is shown.
        Some(result) if result.len() <= WORD_MAX && result.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(Trouble::Refused(result.to_owned()))
        }
        _ => Err(Trouble::NotSam),
    }
}

/// The value of `key` among `KEY=value` words; a value may be quoted.
pub(crate) fn value<'a>(reply: &'a str, key: &str) -> Option<&'a str> {
    let mut rest = reply;
    loop {
        rest = rest.trim_start();
        let end = rest.find([' ', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if let Some(after) = rest.strip_prefix('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(' ').unwrap_or(after.len())),
            };
            if name == key {
                return Some(value);
            }
            rest = after;
        }
        if rest.is_empty() {
            return None;
        }
    }
}

fn line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let refused = |word: &str| Err(Trouble::Refused(word.to_owned()));
        for (reply, verb, told) in [
            ("HELLO REPLY RESULT=OK VERSION=3.1", "HELLO REPLY", Ok(())),
            ("HELLO REPLY RESULT=NOVERSION", "HELLO REPLY", refused("NOVERSION")),
            ("STREAM STATUS RESULT=I2P_ERROR MESSAGE=\"RESULT=OK\"", "STREAM STATUS", refused("I2P_ERROR")),
            ("STREAM STATUS MESSAGE=\"RESULT=OK x\" RESULT=TIMEOUT", "STREAM STATUS", refused("TIMEOUT")),
            ("HELLO REPLYING RESULT=OK", "HELLO REPLY", Err(Trouble::NotSam)),
            ("HTTP/1.1 400 Bad Request", "HELLO REPLY", Err(Trouble::NotSam)),
            ("HELLO REPLY", "HELLO REPLY", Err(Trouble::NotSam)),
        ] {
            assert_eq!(check(reply, verb), told, "{reply}");
        }
        let long = format!("SESSION STATUS RESULT={}", "A".repeat(900));
        assert_eq!(check(&long, "SESSION STATUS"), Err(Trouble::NotSam), "no key comes out as a word");
    }

    #[test]
    fn values_may_hold_equal_signs_and_be_quoted() {
        let reply = "DEST REPLY PUB=abc~-== PRIV=\"d e\" EMPTY= LAST=x";
        assert_eq!(value(reply, "PUB"), Some("abc~-=="));
        assert_eq!(value(reply, "PRIV"), Some("d e"));
        assert_eq!(value(reply, "EMPTY"), Some(""));
        assert_eq!(value(reply, "LAST"), Some("x"));
        assert_eq!(value(reply, "REPLY"), None);
        assert_eq!(value("A=\"open", "A"), None);
    }

    #[test]
    fn pings_are_answered_with_what_they_said() {
        assert_eq!(pong("PING 12 x").as_deref().map(String::as_str), Some("PONG 12 x"));
        assert_eq!(pong("PING").as_deref().map(String::as_str), Some("PONG"));
        assert!(pong("PINGPONG").is_none() && pong("SESSION STATUS").is_none());
    }

    #[test]
    fn a_session_is_asked_for_with_its_tunnels_and_without_growing() {
        let line = create("x", &"k".repeat(884), Tunnels { length: 2, count: 4 });
        assert!(line.contains("inbound.length=2 outbound.length=2 inbound.quantity=4 outbound.quantity=4"));
        assert!(line.contains(" i2cp.leaseSetEncType=4") && !line.contains('\n'));
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = check(&text, "HELLO REPLY");
            let _ = value(&text, "A");
            let _ = value(&format!("A=\"{text}"), "A");
            let _ = pong(&text);
        }
    }
}
