//! PKCS#8 as PEM text, plain or encrypted.

use pkcs8::der::pem::LineEnding;
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::pkcs5::{self, EncryptionScheme};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};
use zeroize::Zeroizing;

use super::KeyFileError;
use crate::key::from_pkcs8_der;
use crate::{KeyError, SigningKey};

const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// What stands before the seed in version 1 of PKCS#8 (RFC 8410, section 7).
const HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Most memory that scrypt may ask for, in bytes; OpenSSL's own limit is a quarter of it.
const MAX_SCRYPT_MEMORY: u64 = 128 << 20;
/// Most rounds of PBKDF2; common files have 2,048 to 600,000.
const MAX_ITERATIONS: u32 = 5_000_000;

/// `key` as PEM text; with a passphrase, encrypted by scrypt (N = 2¹⁴, r = 8, p = 1) and AES-256-CBC as OpenSSL does.
pub fn encode_pem(key: &SigningKey, passphrase: Option<&str>) -> Result<Zeroizing<String>, KeyFileError> {
    let mut der = Zeroizing::new([0; 48]);
    der[..16].copy_from_slice(&HEAD);
    der[16..].copy_from_slice(&*key.seed());
    let (document, label) = match passphrase {
        None => (SecretDocument::try_from(&der[..]).expect("the head counts the 48 bytes"), PLAIN),
        Some("") => return Err(KeyFileError::EmptyPassphrase),
        Some(passphrase) => {
            let info = PrivateKeyInfoRef::try_from(&der[..]).expect("the head is that of RFC 8410");
            (
                info.encrypt(passphrase).expect("the system's generator works once the machine has booted"),
                ENCRYPTED,
            )
        }
    };
    Ok(document.to_pem(label, LineEnding::LF).expect("the label is fit for PEM"))
}

/// The text of `bytes` without white space around it, if it is PEM.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?.trim_ascii();
    text.starts_with("-----BEGIN ").then_some(text)
}

/// The key in just one PEM block.
pub(super) fn decode(text: &str, passphrase: Option<&str>) -> Result<SigningKey, KeyFileError> {
    match label(text) {
        Some(PLAIN | ENCRYPTED) => {}
        Some(label) => return Err(KeyFileError::Label { label: label.to_owned() }),
        None => return Err(KeyFileError::NotAKey),
    }
    let (label, document) = SecretDocument::from_pem(text).map_err(|_| KeyFileError::NotAKey)?;
    if label == PLAIN {
        return from_pkcs8_der(document.as_bytes()).map_err(plain_error);
    }
    let encrypted =
        EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| KeyFileError::NotAKey)?;
    refuse_costly(&encrypted.encryption_algorithm)?;
    let passphrase = passphrase.ok_or(KeyFileError::Encrypted)?;
    let plain = encrypted.decrypt(passphrase).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::DecryptFailed) | pkcs8::Error::Asn1(_) => {
            KeyFileError::Passphrase
        }
        _ => KeyFileError::Cipher,
    })?;
    // One wrong passphrase in 256 passes the padding check, and then the bytes are no PKCS#8.
    from_pkcs8_der(plain.as_bytes()).map_err(|error| match error {
        KeyError::Malformed(_) => KeyFileError::Passphrase,
        other => plain_error(other),
    })
}

fn plain_error(error: KeyError) -> KeyFileError {
    match error {
        KeyError::Algorithm => KeyFileError::Algorithm,
        other => KeyFileError::Damaged(other),
    }
}

/// What the first line says that follows: a short word of printable ASCII.
fn label(text: &str) -> Option<&str> {
    let label = text.strip_prefix("-----BEGIN ")?.lines().next()?.trim_ascii_end().strip_suffix("-----")?;
    (label.len() <= 64 && label.bytes().all(|byte| (b' '..=b'~').contains(&byte))).then_some(label)
}

/// The file says how much work the passphrase takes, so a hostile one could ask for all memory or for days.
fn refuse_costly(scheme: &EncryptionScheme) -> Result<(), KeyFileError> {
    let parameters = scheme.pbes2().ok_or(KeyFileError::Cipher)?;
    let bearable = match &parameters.kdf {
        Kdf::Scrypt(scrypt) => {
            let block = 128 * u64::from(scrypt.block_size) * u64::from(scrypt.parallelization);
            scrypt.cost_parameter.checked_mul(block).is_some_and(|memory| memory <= MAX_SCRYPT_MEMORY)
        }
        Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= MAX_ITERATIONS,
        _ => return Err(KeyFileError::Cipher),
    };
    if bearable { Ok(()) } else { Err(KeyFileError::Costly) }
}
