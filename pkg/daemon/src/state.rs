//! The state directory: for its owner alone, and for one daemon at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A state directory that this process holds.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// The lock goes with the open file, so not even `kill -9` leaves one behind.
    _lock: File,
}

/// Why a state directory cannot be used; each text says what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another daemon holds it.
    #[error("another daemon{pid} uses the state directory {path}: stop it (byway down), or give this one another (--state DIR)", path = .path.display())]
    Held {
        /// The directory.
        path: PathBuf,
        /// Its process, as " (process 1)", if it is known.
        pid: String,
    },
    /// Others can put files into it.
    #[error("others can write to the state directory {path} (mode {mode:03o}): run `chmod 700 {path}`", path = .path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system refuses.
    #[error("the state directory: {}: {source}", .path.display())]
    Io {
        /// What was used.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl StateDir {
    /// Opens the directory at `path`, making it if there is none, and holds it until dropped.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { path, source }
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io_error(parent))?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(path)(error)),
            _ => {}
        }
        // What others do relative to the working directory must not matter.
        let path = path.canonicalize().map_err(io_error(path))?;
        let metadata = path.metadata().map_err(io_error(&path))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(StateError::Writable { path, mode });
        }
        if mode & 0o077 != 0 {
            tracing::warn!(
                mode = format!("{mode:03o}"),
                "others can look into the state directory; chmod 700 it"
            );
        }
        let lock = path.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock)
            .map_err(io_error(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let read = file.take(20).read_to_string(&mut pid);
                let pid = read.ok().and_then(|_| pid.trim().parse::<u32>().ok());
                let pid = pid.map_or(String::new(), |pid| format!(" (process {pid})"));
                return Err(StateError::Held { path, pid });
            }
            Err(TryLockError::Error(error)) => return Err(io_error(&lock)(error)),
        }
        let note = file.set_len(0).and_then(|()| file.rewind());
        note.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io_error(&lock))?;
        Ok(Self { path, _lock: file })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `path` itself, or below this directory if it is relative.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.path.join(path)
    }
}

/// Writes `contents` to `path` whole or not at all, with `mode` or the mode of the file that is there; safe from
/// `kill -9` and a power cut once it returns.
pub(crate) fn write_atomically(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = parent.join(name);
    let old = path.metadata().ok();
    let mode = old.as_ref().map_or(mode, |old| old.mode() & 0o777);
    // One left behind by a daemon that was killed in the middle of this.
    let _ = fs::remove_file(&temporary);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).and_then(|mut file| {
            file.write_all(contents)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_for_its_owner_alone_and_held_by_one_daemon_at_a_time() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("deep/state");
        let held = StateDir::open(&path).expect("a new directory");
        assert_eq!(path.metadata().expect("made").permissions().mode() & 0o777, 0o700);
        let refused = StateDir::open(&path).expect_err("it is held").to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(held);
        StateDir::open(&path).expect("it is free again");
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_with_the_remedy() {
        let place = tempfile::tempdir().expect("a directory");
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o770)).expect("ours");
        let refused = StateDir::open(place.path()).expect_err("others can write").to_string();
        assert!(refused.contains("chmod 700"), "{refused}");
    }

    #[test]
    fn files_are_replaced_whole_and_keep_their_mode() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("file");
        write_atomically(&path, b"one", 0o600).expect("written");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        write_atomically(&path, b"two", 0o600).expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"two");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(place.path()).expect("there").count(), 1, "nothing is left over");
    }
}
