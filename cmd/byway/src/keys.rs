//! Keys in files, as commands read and write them.

use std::io::{self, IsTerminal, Read};
use std::net::Ipv6Addr;
use std::path::Path;

use byway_identity::keyfile::{self, KeyFileError};
use byway_identity::{Ipv6Range, Prefix, SigningKey};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Where a passphrase is looked for before a terminal is asked.
pub(crate) const PASSPHRASE: &str = "BYWAY_PASSPHRASE";

/// The key in the file at `path`, `-` for stdin; asks for its passphrase if it has one.
pub(crate) fn read(path: &Path) -> Result<SigningKey, Failure> {
    let bytes = (path == Path::new("-")).then(read_stdin).transpose()?;
    let load = |passphrase: Option<&str>| match &bytes {
        Some(bytes) => keyfile::decode(bytes, passphrase),
        None => keyfile::load(path, passphrase),
    };
    let result = match load(None) {
        Err(KeyFileError::Encrypted) => load(Some(&passphrase("Passphrase of the key: ")?)),
        result => result,
    };
    result.map_err(|error| {
        let text = error.to_string();
        // Some errors name the file themselves.
        let file = path.display().to_string();
        Failure::could_not(if text.contains(&file) { text } else { format!("{file}: {text}") })
    })
}

/// The key in the file at `path`; without one that of the daemon that runs as this user.
pub(crate) fn read_or_own(path: Option<&Path>) -> Result<SigningKey, Failure> {
    match path {
        Some(path) => read(path),
        None => own(&byway_daemon::Paths::of_user().state.join("identity.pem")),
    }
}

fn own(path: &Path) -> Result<SigningKey, Failure> {
    if matches!(path.try_exists(), Ok(false)) {
        let path = path.display();
        return Err(Failure::could_not(format!("there is no {path} yet; the first `byway up` makes it")));
    }
    read(path)
}

/// A passphrase from the environment, or from the terminal with its echo off.
pub(crate) fn passphrase(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    if let Ok(passphrase) = std::env::var(PASSPHRASE) {
        return Ok(Zeroizing::new(passphrase));
    }
    ask(prompt).map(Zeroizing::new).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Failure::no(""),
        io::ErrorKind::UnexpectedEof => Failure::could_not("no passphrase was given"),
        _ => Failure::could_not(format!(
            "there is no terminal to ask for the passphrase ({error}); set {PASSPHRASE}"
        )),
    })
}

/// Ctrl-C while this asks ends the process only when the terminal has its echo back.
fn ask(prompt: &str) -> io::Result<String> {
    let interrupt = SigSet::from(Signal::SIGINT);
    let before = interrupt.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let answer = rpassword::prompt_password(prompt);
    before.thread_set_mask()?;
    answer
}

/// A new passphrase, asked for twice where a person types it.
pub(crate) fn new_passphrase() -> Result<Zeroizing<String>, Failure> {
    let first = passphrase("New passphrase: ")?;
    if std::env::var_os(PASSPHRASE).is_none() && *first != *passphrase("Again: ")? {
        return Err(Failure::could_not("the two passphrases differ"));
    }
    Ok(first)
}

/// The bits of an address that its overlay IPv6 address tells.
pub(crate) fn ip6_prefix(ip: Ipv6Addr) -> Result<Prefix, Failure> {
    let range = Ipv6Range::default();
    range
        .prefix(ip)
        .ok_or_else(|| Failure::could_not(format!("{ip} is not in {range}, where overlay addresses are")))
}

fn read_stdin() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::could_not("a key is not typed in; name its file"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(keyfile::MAX_LENGTH + 1));
    stdin.by_ref().take(keyfile::MAX_LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_never_ran_has_no_key_and_the_failure_says_what_makes_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let failure = own(&directory.path().join("identity.pem")).err().expect("there is no key");
        assert!(failure.status().1.is_some_and(|text| text.contains("`byway up` makes it")));
    }
}
