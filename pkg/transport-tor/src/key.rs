//! The key of the daemon's onion service: made once, and kept where only the daemon reads it.
//!
//! It is no other key of the daemon's: who learns the onion name must not learn the address, and the other way round.

use std::path::Path;

use aws_lc_rs::digest::{SHA512, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use byway_identity::keyfile::{self, KeyFileError};
use byway_identity::{Entropy, SigningKey};
use zeroize::{Zeroize, Zeroizing};

use crate::OnionAddress;

/// The key of an onion service.
pub struct OnionKey(SigningKey);

/// Name of the file in the transport's folder.
const FILE: &str = "onion.pem";

impl OnionKey {
    /// The key in `folder`; made there, for its owner alone, if there is none.
    ///
    /// # Errors
    ///
    /// When the folder or the file cannot be read or made, or others can read the key.
    pub fn load_or_create(folder: &Path, entropy: &mut dyn Entropy) -> Result<Self, KeyFileError> {
        use std::os::unix::fs::DirBuilderExt;

        let path = folder.join(FILE);
        match keyfile::load(&path, None) {
            Ok(key) => return Ok(Self(key)),
            Err(KeyFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| KeyFileError::Io { path: folder.to_owned(), source })?;
        let key = SigningKey::generate(entropy);
        keyfile::create(&path, &key, None)?;
        Ok(Self(key))
    }

    /// The name that others dial.
    pub fn address(&self) -> OnionAddress {
        OnionAddress::new(*self.0.public().as_raw())
    }

    /// The key as `ADD_ONION` takes it: the expanded secret key of 64 bytes in base64 (control-spec, section 3.27).
    pub(crate) fn blob(&self) -> Zeroizing<String> {
        let mut expanded = Zeroizing::new([0; 64]);
        let seed = self.0.seed();
        expanded.copy_from_slice(digest(&SHA512, &*seed).as_ref());
        // As RFC 8032 has it; tor does not do it itself.
        expanded[0] &= 0b1111_1000;
        expanded[31] &= 0b0111_1111;
        expanded[31] |= 0b0100_0000;
        // Of its full length from the start: growing would leave copies of the key behind.
        let mut text = Zeroizing::new([0; 88]);
        let length = STANDARD.encode_slice(*expanded, &mut *text).expect("64 bytes take 88 characters");
        let blob = Zeroizing::new(String::from_utf8_lossy(&text[..length]).into_owned());
        text.zeroize();
        blob
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use byway_identity::SeededEntropy;

    use super::*;

    #[test]
    fn the_key_is_made_once_for_its_owner_alone_and_kept() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("tor");
        let first = OnionKey::load_or_create(&folder, &mut SeededEntropy::new(1)).expect("made");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
        let again = OnionKey::load_or_create(&folder, &mut SeededEntropy::new(2)).expect("read");
        assert_eq!(first.address(), again.address());
        std::fs::set_permissions(folder.join(FILE), std::fs::Permissions::from_mode(0o644)).expect("ours");
        let told = OnionKey::load_or_create(&folder, &mut SeededEntropy::new(3)).err().expect("readable");
        assert!(told.to_string().contains("chmod 600"), "{told}");
    }

    #[test]
    fn a_damaged_key_is_told_and_not_replaced() {
        let place = tempfile::tempdir().expect("a folder");
        keyfile::save(&place.path().join(FILE), b"nonsense", keyfile::Existing::Keep).expect("written");
        assert!(OnionKey::load_or_create(place.path(), &mut SeededEntropy::new(1)).is_err());
        assert_eq!(std::fs::read(place.path().join(FILE)).expect("there"), b"nonsense");
    }

    #[test]
    fn the_blob_is_the_expanded_key_of_rfc_8032() {
        let key = OnionKey(SigningKey::from_seed(&[0; 32]));
        let bytes = STANDARD.decode(&*key.blob()).expect("base64");
        let hash = digest(&SHA512, &[0; 32]);
        assert_eq!(bytes.len(), 64);
        assert_eq!((bytes[0] & 7, bytes[31] & 0xc0), (0, 0x40), "it is clamped");
        assert_eq!((&bytes[1..31], &bytes[32..]), (&hash.as_ref()[1..31], &hash.as_ref()[32..]));
    }
}
