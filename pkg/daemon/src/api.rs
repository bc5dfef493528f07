//! Where the API listens.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use byway_api::ManCon;
use byway_httpd::{Httpd, Options, Token, bind_unix};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::config::Listen;
use crate::run::StartError;
use crate::service::Daemon;
use crate::state::{StateDir, write_atomically};

/// Open places that nobody serves yet.
pub(crate) struct Listeners {
    unix: Vec<(PathBuf, UnixListener)>,
    tcp: Vec<(TcpListener, Token)>,
}

/// The served API.
pub(crate) struct Api {
    httpd: Httpd,
    /// With the inode, so that a later daemon's socket is left alone.
    sockets: Vec<(PathBuf, Option<u64>)>,
}

impl Listeners {
    /// Opens all of `places`; `socket` is the one where commands look.
    pub(crate) async fn open(places: &[Listen], state: &StateDir, socket: &Path) -> Result<Self, StartError> {
        let mut listeners = Self { unix: Vec::new(), tcp: Vec::new() };
        for place in places {
            match place {
                Listen::Default => listeners.unix(socket.to_owned())?,
                Listen::Unix(path) => listeners.unix(state.resolve(path))?,
                Listen::Tcp(address) => {
                    let error = |source: io::Error| StartError::Listen {
                        place: format!("tcp:{address}"),
                        help: match source.kind() {
                            io::ErrorKind::AddrInUse => {
                                "; another program has it: choose another port (api.listen)"
                            }
                            _ => crate::transports::help(&source),
                        },
                        source,
                    };
                    let listener = TcpListener::bind(address).await.map_err(error)?;
                    listeners.tcp.push((listener, token(&state.path().join("api.token")).map_err(error)?));
                }
            }
        }
        Ok(listeners)
    }

    fn unix(&mut self, path: PathBuf) -> Result<(), StartError> {
        let error =
            |source| StartError::Listen { place: format!("unix:{}", path.display()), source, help: "" };
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(error)?;
        }
        let listener = bind_unix(&path).map_err(error)?;
        self.unix.push((path, listener));
        Ok(())
    }

    /// Serves `daemon` at all of them, in `tasks`.
    pub(crate) fn serve(
        self,
        daemon: Daemon,
        inet256_mancon: Option<ManCon>,
        tasks: &mut JoinSet<()>,
    ) -> Api {
        let httpd = Httpd::new(Arc::new(daemon), Options { inet256_mancon, ..Options::default() });
        let mut sockets = Vec::new();
        for (path, listener) in self.unix {
            let httpd = httpd.clone();
            let inode = fs::symlink_metadata(&path).ok().map(|metadata| metadata.ino());
            sockets.push((path, inode));
            tasks.spawn(async move { ended(httpd.serve_unix(listener).await) });
        }
        for (listener, token) in self.tcp {
            let httpd = httpd.clone();
            tasks.spawn(async move { ended(httpd.serve_tcp(listener, token).await) });
        }
        Api { httpd, sockets }
    }
}

impl Api {
    /// Takes no more connections, and removes the sockets.
    pub(crate) fn stop(&self) {
        self.httpd.close();
        for (path, inode) in &self.sockets {
            let ours = fs::symlink_metadata(path).ok().map(|metadata| metadata.ino()) == *inode;
            if ours && let Err(error) = fs::remove_file(path) {
                tracing::debug!(%error, "a socket stays behind; the next daemon replaces it");
            }
        }
    }
}

fn ended(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "the API has ended at one of its places");
    }
}

/// The token in `file`; a new one where there is none.
fn token(file: &Path) -> io::Result<Token> {
    match file.metadata() {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            let mode = metadata.mode() & 0o777;
            let text = format!(
                "others can read {0} (mode {mode:03o}): run `chmod 600 {0}`, or remove it to get a new token",
                file.display()
            );
            return Err(io::Error::other(text));
        }
        // What is not there is made below.
        _ => {}
    }
    match fs::read_to_string(file) {
        Ok(text) => Token::from_text(&text)
            .ok_or_else(|| io::Error::other(format!("{} holds no token; remove it", file.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = Token::generate();
            write_atomically(file, format!("{}\n", token.reveal()).as_bytes(), 0o600)?;
            Ok(token)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_token_is_made_once_for_its_owner_alone() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("api.token");
        let made = token(&file).expect("made");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(token(&file).expect("kept").reveal(), made.reveal());
        for mode in [0o640, 0o604] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
            assert!(token(&file).is_err_and(|error| error.to_string().contains("chmod 600")), "{mode:o}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
        fs::write(&file, "short\n").expect("ours");
        assert!(token(&file).is_err_and(|error| error.to_string().contains("remove it")));
    }
}
