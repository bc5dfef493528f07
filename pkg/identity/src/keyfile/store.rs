//! Key files on disk: refused when others can read them, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{KeyFileError, decode, encode_pem, read_capped};
use crate::{Entropy, OsEntropy, SigningKey};

/// What [`save`] does with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leaves it, and fails.
    Keep,
    /// Replaces it in one step.
    Replace,
}

/// Permission bits that let the group or everyone do anything.
const OTHERS: u32 = 0o077;

/// The key in the file at `path`, which only its owner may have access to.
pub fn load(path: &Path, passphrase: Option<&str>) -> Result<SigningKey, KeyFileError> {
    // Opening a pipe would wait for a writer, so the kind is asked first, and again of what was opened.
    refuse_odd(path, &fs::metadata(path).map_err(|source| io_error(path, source))?)?;
    let file = File::open(path).map_err(|source| io_error(path, source))?;
    refuse_odd(path, &file.metadata().map_err(|source| io_error(path, source))?)?;
    let bytes = read_capped(file).map_err(|source| io_error(path, source))?;
    decode(&bytes, passphrase)
}

/// Writes `key` as PEM to a new file with mode 0600; never over a file that is there.
pub fn create(path: &Path, key: &SigningKey, passphrase: Option<&str>) -> Result<(), KeyFileError> {
    save(path, encode_pem(key, passphrase)?.as_bytes(), Existing::Keep)
}

/// Writes `contents` to `path` with mode 0600, whole or not at all, and safe from a power cut once it returns.
pub fn save(path: &Path, contents: &[u8], existing: Existing) -> Result<(), KeyFileError> {
    let temporary = Temporary::write(path, contents)?;
    let put = match existing {
        Existing::Replace => fs::rename(&temporary.path, path),
        // A link never replaces a file, not even one that was made a moment ago.
        Existing::Keep => fs::hard_link(&temporary.path, path).or_else(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            // Some file systems (FAT, many network shares) have no links.
            match path.symlink_metadata() {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => fs::rename(&temporary.path, path),
            }
        }),
    };
    put.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
        _ => io_error(path, source),
    })?;
    drop(temporary);
    File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(|source| io_error(path, source))
}

fn refuse_odd(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyFileError> {
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::Readable { path: path.to_owned(), mode });
    }
    Ok(())
}

fn io_error(path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io { path: path.to_owned(), source }
}

/// The folder that holds `path`.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file beside the wanted one, gone when dropped.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn write(beside: &Path, contents: &[u8]) -> Result<Self, KeyFileError> {
        let path = folder(beside).join(format!(".byway-key-{:016x}", OsEntropy.next_u64()));
        // `create_new` with the mode given: at no moment can others open it, and no link is followed.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| io_error(beside, source))?;
        let temporary = Self { path };
        file.write_all(contents).and_then(|()| file.sync_all()).map_err(|source| io_error(beside, source))?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename it is gone already, and a leftover does no harm beyond its room.
        let _ = fs::remove_file(&self.path);
    }
}
