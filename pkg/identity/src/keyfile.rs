//! Key files: read in every form that is about, written so that only their owner can read them.
//!
//! | form | written by | read |
//! |---|---|---|
//! | PKCS#8 PEM, `PRIVATE KEY` | Byway, OpenSSL, INET256 v0.0.7 | yes |
//! | PKCS#8 PEM, `ENCRYPTED PRIVATE KEY` (PBES2) | Byway, OpenSSL | yes |
//! | 81 raw bytes | INET256 v0.0.8, Byway when asked | yes |
//!
//! The form is told from the bytes. Byway writes version 1 of PKCS#8, 48 bytes for Ed25519, because OpenSSL 3.0
//! cannot read version 2. Whatever form a file has, its key gets the present address; see [`crate::legacy`] for
//! the one that v0.0.7 gave it.

mod pem;
mod store;

use std::path::PathBuf;

use zeroize::Zeroizing;

pub use pem::encode_pem;
pub use store::{Existing, create, load, save};

use crate::{KeyError, SigningKey};

/// Longest key file that is looked at, in bytes. The largest key of INET256's other algorithms has 3,904.
pub const MAX_LENGTH: usize = 16 * 1024;

/// Why there is no key; each text says what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file is encrypted and no passphrase was given.
    #[error("the key is encrypted: give its passphrase")]
    Encrypted,
    /// The passphrase does not open the file.
    #[error("the passphrase does not fit, or the file is damaged")]
    Passphrase,
    /// An empty passphrase protects nothing.
    #[error("an empty passphrase protects nothing: give one, or none at all")]
    EmptyPassphrase,
    /// The bytes are no key file in any form that is known.
    #[error(
        "not a key file: expected PKCS#8 PEM (`PRIVATE KEY`) or an INET256 key file; `byway keygen` makes one"
    )]
    NotAKey,
    /// A PEM file that holds something else.
    #[error(
        "the file holds a {label:?}, not a `PRIVATE KEY`; `openssl pkcs8 -topk8 -nocrypt` converts private keys"
    )]
    Label {
        /// What the file says it holds.
        label: String,
    },
    /// A key, but of another algorithm.
    #[error(
        "the key is of another algorithm than Ed25519, which is the only one spoken; `byway keygen` makes a new key"
    )]
    Algorithm,
    /// Encrypted in a way that is not read here.
    #[error(
        "the key is encrypted in a way that is not read here; convert it with `openssl pkcs8 -topk8 -scrypt`"
    )]
    Cipher,
    /// Checking the passphrase would take more memory or time than any honest file asks for.
    #[error(
        "opening the key would take too much memory or time; convert it with `openssl pkcs8 -topk8 -scrypt`"
    )]
    Costly,
    /// A key file whose key is damaged.
    #[error("the key file is damaged: {0}")]
    Damaged(#[source] KeyError),
    /// The file is longer than any key file.
    #[error("not a key file: longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// The path names a folder, a pipe or a device.
    #[error("{} is not a regular file", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Others on the machine may read the file.
    #[error("{path} can be read by others (mode {mode:03o}): run `chmod 600 {path}`, and make a new key if others had access", path = .path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is a file already, and replacing it was not asked for.
    #[error("{} exists already; a key that is overwritten is lost for ever, so move it away first", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The key in a key file, whatever its form. A passphrase that is not needed is not looked at.
pub fn decode(bytes: &[u8], passphrase: Option<&str>) -> Result<SigningKey, KeyFileError> {
    if bytes.len() > MAX_LENGTH {
        return Err(KeyFileError::TooLong);
    }
    if let Some(text) = pem::text(bytes) {
        return pem::decode(text, passphrase);
    }
    match SigningKey::from_inet256_bytes(bytes) {
        Err(KeyError::Algorithm) if is_tagged(bytes) => Err(KeyFileError::Algorithm),
        Err(KeyError::Mismatch) => Err(KeyFileError::Damaged(KeyError::Mismatch)),
        other => other.map_err(|_| KeyFileError::NotAKey),
    }
}

/// Whether `bytes` start like an INET256 private key of any algorithm.
fn is_tagged(bytes: &[u8]) -> bool {
    let mut reader = byway_wire::Reader::new(bytes);
    let tag = reader.u16_le().and_then(|length| reader.bytes(length.into()));
    tag.is_ok_and(|tag| tag.ends_with(b".private") || tag.starts_with(b"(product "))
}

/// Reads at most [`MAX_LENGTH`] and one byte more into memory that is zeroed when dropped.
fn read_capped(mut file: impl std::io::Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // One fixed buffer: growing would leave copies of the key behind.
    let mut bytes = Zeroizing::new(vec![0; MAX_LENGTH + 1]);
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
