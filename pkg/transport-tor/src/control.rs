//! A conversation with tor's control port, without IO: who it is, how far it is, and an onion service (control-spec).
//!
//! ```text
//! PROTOCOLINFO ─► AUTHCHALLENGE ─► AUTHENTICATE ─► SETEVENTS ─► GETINFO ─► ADD_ONION ─► events …
//!                 (cookie only)
//! ```
//!
//! The service has no `Detach` flag: it goes when the connection does, so that a daemon that was killed leaves nothing behind
//! in tor. The cookie itself is never sent: by SAFECOOKIE both sides show that they know it, and a program that merely
//! listens where tor should cannot have any file of 32 bytes sent to it.

use std::fmt::Write;
use std::path::PathBuf;

use aws_lc_rs::hmac;
use byway_identity::Entropy;
use zeroize::Zeroizing;

use crate::OnionAddress;
use crate::reply::{Malformed, Reader, Reply, value};

/// One conversation.
pub(crate) struct Conversation {
    reader: Reader,
    step: Step,
    wanted: Wanted,
    cookie: Option<Zeroizing<Vec<u8>>>,
    nonce: [u8; 32],
    progress: Progress,
}

/// What is wanted of tor.
pub(crate) struct Wanted {
    /// The password of the control port; none: the cookie, or nothing where tor asks for nothing.
    pub(crate) password: Option<Zeroizing<Vec<u8>>>,
    /// The service's name, which its key gives.
    pub(crate) address: OnionAddress,
    /// The key as `ADD_ONION` takes it.
    pub(crate) key: Zeroizing<String>,
    /// The service's port, and the local one that tor hands its connections to.
    pub(crate) ports: (u16, u16),
}

/// How far tor is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Percent of its start.
    pub(crate) percent: u8,
    /// What it does, in its words.
    pub(crate) doing: String,
    /// What it complains of, in its words.
    pub(crate) complaint: Option<String>,
    /// Whether it has lost its way to the network after the start.
    pub(crate) is_cut_off: bool,
    /// Seconds by which tor holds this machine's clock for wrong.
    pub(crate) skew: Option<i64>,
    /// Whether the service's description has reached its directories.
    pub(crate) is_published: bool,
}

/// What the conversation wants done, or tells.
pub(crate) enum Effect {
    /// Send these bytes.
    Write(Zeroizing<Vec<u8>>),
    /// Read this file, and hand it to [`Conversation::cookie`].
    ReadCookie(PathBuf),
    /// The service is there.
    Listening,
    /// Tor is as far as this.
    Progress(Progress),
}

/// Why the conversation cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Something else than a control port.
    NotTor,
    /// The password is wrong.
    Password,
    /// A password is set here, and tor takes none.
    PasswordUnknown,
    /// Tor takes only a password, and none is set here.
    PasswordMissing,
    /// The cookie is not what tor has.
    Cookie,
    /// Tor takes nothing that is known here.
    Methods,
    /// Tor refuses a command, in its words.
    Refused(String),
    /// The service is there, with another key: tor is not to be trusted with more.
    OtherName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hello,
    Cookie,
    Challenge,
    Authenticate { by_password: bool },
    Events,
    Info,
    Onion,
    Steady,
}

const COOKIE_LENGTH: usize = 32;
/// What the two sides prove their knowledge of the cookie with (control-spec, section 3.24).
const SERVER_KEY: &[u8] = b"Tor safe cookie authentication server-to-controller hash";
const CONTROLLER_KEY: &[u8] = b"Tor safe cookie authentication controller-to-server hash";
/// Longest text of tor's that is kept.
const WORDS_MAX: usize = 200;

impl Conversation {
    /// A conversation, and what it begins with.
    pub(crate) fn new(wanted: Wanted, entropy: &mut dyn Entropy) -> (Self, Effect) {
        let mut nonce = [0; 32];
        entropy.fill(&mut nonce);
        let (reader, progress) = (Reader::default(), Progress::default());
        let conversation = Self { reader, step: Step::Hello, wanted, cookie: None, nonce, progress };
        (conversation, write("PROTOCOLINFO 1"))
    }

    /// Tor said `bytes`.
    pub(crate) fn received(&mut self, bytes: &[u8], out: &mut Vec<Effect>) -> Result<(), Trouble> {
        self.reader.push(bytes);
        while let Some(reply) = self.reader.next().map_err(|Malformed| Trouble::NotTor)? {
            if reply.code == 650 {
                self.event(&reply, out);
            } else {
                self.replied(&reply, out)?;
            }
        }
        Ok(())
    }

    /// The cookie's file holds `bytes`.
    pub(crate) fn cookie(&mut self, bytes: Zeroizing<Vec<u8>>, out: &mut Vec<Effect>) -> Result<(), Trouble> {
        if self.step != Step::Cookie || bytes.len() != COOKIE_LENGTH {
            return Err(Trouble::Cookie);
        }
        self.cookie = Some(bytes);
        self.step = Step::Challenge;
        out.push(write(&format!("AUTHCHALLENGE SAFECOOKIE {}", hex::encode(self.nonce))));
        Ok(())
    }

    fn replied(&mut self, reply: &Reply, out: &mut Vec<Effect>) -> Result<(), Trouble> {
        match self.step {
            Step::Hello => self.greeted(reply, out)?,
            // Nothing was asked.
            Step::Cookie | Step::Steady => {}
            Step::Challenge => self.challenged(reply, out)?,
            Step::Authenticate { by_password } => {
                if !reply.is_ok() {
                    return Err(if by_password { Trouble::Password } else { Trouble::Cookie });
                }
                self.step = Step::Events;
                out.push(write("SETEVENTS STATUS_CLIENT STATUS_GENERAL HS_DESC"));
            }
            Step::Events => {
                demand(reply)?;
                self.step = Step::Info;
                out.push(write("GETINFO status/bootstrap-phase status/circuit-established"));
            }
            Step::Info => {
                demand(reply)?;
                if let Some(phase) = reply.after("status/bootstrap-phase=") {
                    self.bootstrap(phase);
                }
                let is_cut_off = reply.after("status/circuit-established=").is_some_and(|told| told == "0");
                self.progress.is_cut_off = is_cut_off && self.progress.percent == 100;
                out.push(Effect::Progress(self.progress.clone()));
                self.step = Step::Onion;
                out.push(self.onion());
            }
            Step::Onion => {
                demand(reply)?;
                let name = reply.after("ServiceID=").map(|id| format!("{id}.onion"));
                if name.and_then(|name| name.parse().ok()) != Some(self.wanted.address) {
                    return Err(Trouble::OtherName);
                }
                self.step = Step::Steady;
                out.push(Effect::Listening);
            }
        }
        Ok(())
    }

    fn greeted(&mut self, reply: &Reply, out: &mut Vec<Effect>) -> Result<(), Trouble> {
        let told = reply.after("AUTH ").filter(|_| reply.is_ok()).ok_or(Trouble::NotTor)?;
        let methods = value(told, "METHODS").ok_or(Trouble::NotTor)?;
        let takes = |name: &str| methods.split(',').any(|method| method == name);
        if let Some(password) = &self.wanted.password {
            if !takes("HASHEDPASSWORD") {
                return if takes("NULL") {
                    self.authenticate(None, out)
                } else {
                    Err(Trouble::PasswordUnknown)
                };
            }
            let password = Zeroizing::new(password.to_vec());
            return self.authenticate(Some((&password, true)), out);
        }
        match value(told, "COOKIEFILE").filter(|_| takes("SAFECOOKIE")) {
            _ if takes("NULL") => self.authenticate(None, out),
            Some(file) => {
                self.step = Step::Cookie;
                out.push(Effect::ReadCookie(file.into()));
                Ok(())
            }
            None if takes("HASHEDPASSWORD") => Err(Trouble::PasswordMissing),
            None => Err(Trouble::Methods),
        }
    }

    fn challenged(&mut self, reply: &Reply, out: &mut Vec<Effect>) -> Result<(), Trouble> {
        demand(reply)?;
        let told = reply.after("AUTHCHALLENGE ").ok_or(Trouble::NotTor)?;
        let bytes = |key| value(told, key).and_then(|text| hex::decode(text).ok());
        let (Some(hash), Some(theirs)) = (bytes("SERVERHASH"), bytes("SERVERNONCE")) else {
            return Err(Trouble::NotTor);
        };
        let cookie = self.cookie.take().ok_or(Trouble::Cookie)?;
        let content = Zeroizing::new([&cookie[..], &self.nonce, &theirs].concat());
        let key = |name| hmac::Key::new(hmac::HMAC_SHA256, name);
        hmac::verify(&key(SERVER_KEY), &content, &hash).map_err(|_| Trouble::Cookie)?;
        let proof = hmac::sign(&key(CONTROLLER_KEY), &content);
        self.authenticate(Some((proof.as_ref(), false)), out)
    }

    /// Shows `secret`, if tor wants one, and whether that is a password.
    fn authenticate(&mut self, secret: Option<(&[u8], bool)>, out: &mut Vec<Effect>) -> Result<(), Trouble> {
        let by_password = secret.is_some_and(|(_, by_password)| by_password);
        // A password in hexadecimal digits needs no quoting. Room for all at once: growing would leave copies behind.
        let length = secret.map_or(0, |(bytes, _)| 2 * bytes.len());
        let mut line = Zeroizing::new(String::with_capacity(32 + length));
        line.push_str("AUTHENTICATE");
        for (at, byte) in secret.into_iter().flat_map(|(bytes, _)| bytes).enumerate() {
            let _ = write!(line, "{}{byte:02x}", if at == 0 { " " } else { "" });
        }
        self.step = Step::Authenticate { by_password };
        out.push(write(&line));
        Ok(())
    }

    fn onion(&self) -> Effect {
        let Wanted { key, ports: (port, local), .. } = &self.wanted;
        let mut line = Zeroizing::new(String::with_capacity(256));
        let _ = write!(
            line,
            "ADD_ONION ED25519-V3:{} Flags=DiscardPK Port={port},127.0.0.1:{local}",
            key.as_str()
        );
        write(&line)
    }

    fn event(&mut self, event: &Reply, out: &mut Vec<Effect>) {
        let before = self.progress.clone();
        let text = event.lines.first().map(String::as_str).unwrap_or_default();
        let mut words = text.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next().unwrap_or_default()) {
            (Some("STATUS_CLIENT"), _, Some("BOOTSTRAP"), _) => self.bootstrap(text),
            (Some("STATUS_CLIENT"), _, Some("CIRCUIT_ESTABLISHED"), _) => self.progress.is_cut_off = false,
            (Some("STATUS_CLIENT"), _, Some("CIRCUIT_NOT_ESTABLISHED"), _) => self.progress.is_cut_off = true,
            (Some("STATUS_GENERAL"), _, Some("CLOCK_SKEW"), rest) => {
                self.progress.skew = value(rest, "SKEW").and_then(|skew| skew.parse().ok());
            }
            (Some("HS_DESC"), Some("UPLOADED"), ..) => self.progress.is_published = true,
            _ => {}
        }
        if self.progress != before {
            out.push(Effect::Progress(self.progress.clone()));
        }
    }

    fn bootstrap(&mut self, text: &str) {
        let percent = value(text, "PROGRESS").and_then(|percent| percent.parse::<u8>().ok());
        self.progress.percent = percent.unwrap_or(self.progress.percent).min(100);
        self.progress.doing = value(text, "SUMMARY").map(|words| short(&words)).unwrap_or_default();
        self.progress.complaint = value(text, "WARNING").map(|words| short(&words));
    }
}

fn demand(reply: &Reply) -> Result<(), Trouble> {
    if reply.is_ok() { Ok(()) } else { Err(Trouble::Refused(short(reply.words()))) }
}

fn write(line: &str) -> Effect {
    let mut bytes = Zeroizing::new(Vec::with_capacity(line.len() + 2));
    bytes.extend_from_slice(line.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    Effect::Write(bytes)
}

/// Words of another program, fit to be shown on a terminal.
fn short(words: &str) -> String {
    words.chars().filter(|character| !character.is_control()).take(WORDS_MAX).collect()
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
