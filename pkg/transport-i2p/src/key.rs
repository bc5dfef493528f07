//! The private key of the daemon's destination: made by the router once, and kept where only the daemon reads it.

use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use byway_identity::keyfile::{self, Existing};
use zeroize::Zeroizing;

/// A private key in I2P's base64, as SAM takes it.
pub(crate) type PrivateKey = Zeroizing<String>;

/// Name of the file in the transport's folder.
const FILE: &str = "destination.key";
/// Longest key that is read.
const LENGTH_MAX: u64 = 8_192;

/// The key in `folder`, if there is one; what is wrong with it, in words.
pub(crate) fn load(folder: &Path) -> Result<Option<PrivateKey>, String> {
    let path = folder.join(FILE);
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(&error)),
    };
    let mode = file.metadata().map_err(|error| told(&error))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("others can read it (mode {mode:03o}): run `chmod 600 {}`", path.display()));
    }
    // Of its full length from the start: growing would leave copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(LENGTH_MAX as usize + 1));
    file.take(LENGTH_MAX + 1).read_to_string(&mut text).map_err(|error| told(&error))?;
    let end = text.trim_end().len();
    text.truncate(end);
    if !is_key(&text) {
        return Err(format!(
            "{} holds no key of a destination; move it away, and a new one is made",
            path.display()
        ));
    }
    Ok(Some(text))
}

/// Keeps a new key in `folder`, for its owner alone.
pub(crate) fn keep(folder: &Path, key: &str) -> Result<(), String> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| format!("{}: {error}", folder.display()))?;
    keyfile::save(&folder.join(FILE), key.as_bytes(), Existing::Keep).map_err(|error| error.to_string())
}

/// Whether `text` may stand in a SAM command as a key, and holds more than a public destination.
pub(crate) fn is_key(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-~=".contains(&byte);
    let public = crate::destination::Destination::read(text).map(|public| public.text().len());
    text.len() as u64 <= LENGTH_MAX
        && text.bytes().all(fits)
        && public.is_some_and(|length| length + 32 < text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::tests::pair;

    #[test]
    fn a_key_is_kept_for_its_owner_alone_and_never_written_over() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("i2p");
        assert_eq!(load(&folder), Ok(None));
        let (public, private) = pair(1);
        keep(&folder, &private).expect("written");
        assert_eq!(load(&folder).expect("read").as_deref(), Some(&private));
        let file = folder.join(FILE);
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert!(keep(&folder, &pair(2).1).is_err_and(|told| told.contains("exists already")));
        std::fs::write(&file, &public).expect("ours");
        assert!(load(&folder).is_err_and(|told| told.contains("no key")), "a public destination is no key");
        std::fs::write(&file, format!("{private}\nSESSION CREATE")).expect("ours");
        assert!(load(&folder).is_err(), "nothing but a key gets into a command");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(load(&folder).is_err_and(|told| told.contains("chmod 600")));
    }
}
