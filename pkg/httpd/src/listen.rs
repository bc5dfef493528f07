//! The Unix socket: never open to others, not even for a moment; a stale one is replaced, a live one is not.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::net::UnixListener;

/// Listens at `path`, with mode 0600.
///
/// The socket is made in a private directory beside `path` and renamed into place when its mode is set. What is at `path`
/// already is replaced if it is a socket that nobody listens on.
///
/// # Errors
///
/// [`io::ErrorKind::AddrInUse`] when another daemon listens there, [`io::ErrorKind::AlreadyExists`] when something other than
/// a socket is there, else what the system says.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let said = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    refuse_living(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Directories of this kind are made with mode 0700. The name is short: a socket's path has at most 108 bytes.
    let private = tempfile::Builder::new().prefix(".b").rand_bytes(6).tempdir_in(folder).map_err(said)?;
    let made = private.path().join("s");
    let listener = UnixListener::bind(&made).map_err(said)?;
    fs::set_permissions(&made, Permissions::from_mode(0o600)).map_err(said)?;
    fs::rename(&made, path).map_err(said)?;
    Ok(listener)
}

fn refuse_living(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        let text = format!("{} is there and is no socket; move it away", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Ok(())
        }
        Ok(_) | Err(_) => {
            let text = format!(
                "another daemon listens at {}; stop it with `byway down`, or give this one another place (api.listen)",
                path.display()
            );
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_private_and_a_living_one_is_not_taken_over() {
        let folder = tempfile::tempdir().expect("the system has room");
        let path = folder.path().join("api.sock");
        let first = bind_unix(&path).expect("the place is free");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(bind_unix(&path).map_err(|error| error.kind()).err(), Some(io::ErrorKind::AddrInUse));
        drop(first);
        bind_unix(&path).expect("nobody listens any more");
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing else is left");
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("the system has room");
        let path = folder.path().join("api.sock");
        fs::write(&path, "precious").expect("the folder is ours");
        assert_eq!(bind_unix(&path).map_err(|error| error.kind()).err(), Some(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&path).expect("it is there"), b"precious");
        let nowhere = folder.path().join("no/such/api.sock");
        assert_eq!(bind_unix(&nowhere).map_err(|error| error.kind()).err(), Some(io::ErrorKind::NotFound));
    }
}
