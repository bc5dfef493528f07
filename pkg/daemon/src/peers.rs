//! Peers that were added and removed at run time: kept in the state directory, apart from the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use byway_api::body::PeerSpec;
use byway_api::{ApiError, Code};
use byway_identity::Addr;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

use crate::config::{self, Faults, Peer};
use crate::state::write_atomically;

/// What differs from the configured peers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RuntimePeers {
    added: BTreeMap<Addr, Peer>,
    removed: BTreeSet<Addr>,
}

/// Why the list could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeersError {
    /// The file is damaged.
    #[error("{0}\nthis file is written by the daemon; mend it, or remove it to forget the peers in it")]
    Faults(#[from] Faults),
    /// The system refuses.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Most peers that a daemon keeps.
pub(crate) const PEERS_MAX: usize = 1_024;

impl RuntimePeers {
    /// What the file at `path` says; nothing if there is none.
    pub(crate) fn load(path: &Path) -> Result<Self, PeersError> {
        let text = match config::read(path) {
            Ok(text) => text,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(PeersError::Io { path: error.path, source: error.source }),
        };
        let (peers, removed) = config::known_peers(&text, &path.display().to_string())?;
        let added = peers.into_iter().map(|peer| (peer.addr, peer)).collect();
        Ok(Self { added, removed: removed.into_iter().collect() })
    }

    /// Writes the file at `path`, whole or not at all.
    pub(crate) fn store(&self, path: &Path) -> Result<(), PeersError> {
        let mut document = DocumentMut::new();
        document
            .decor_mut()
            .set_prefix("# Peers that were added and removed at run time; the daemon writes this file.\n");
        if !self.removed.is_empty() {
            let removed: Array = self.removed.iter().map(ToString::to_string).collect();
            document["removed"] = value(removed);
        }
        let mut tables = ArrayOfTables::new();
        for peer in self.added.values() {
            let mut table = Table::new();
            fill(&mut table, peer);
            tables.push(table);
        }
        document["peers"] = Item::ArrayOfTables(tables);
        let io_error = |source| PeersError::Io { path: path.to_owned(), source };
        write_atomically(path, document.to_string().as_bytes(), 0o600).map_err(io_error)
    }

    /// The configured peers with these changes.
    pub(crate) fn over(&self, configured: &[Peer]) -> BTreeMap<Addr, Peer> {
        let mut peers: BTreeMap<_, _> = configured
            .iter()
            .filter(|peer| !self.removed.contains(&peer.addr))
            .map(|peer| (peer.addr, peer.clone()))
            .collect();
        peers.extend(self.added.iter().map(|(addr, peer)| (*addr, peer.clone())));
        peers
    }

    /// Adds or replaces a peer.
    pub(crate) fn add(&mut self, peer: Peer) {
        self.removed.remove(&peer.addr);
        self.added.insert(peer.addr, peer);
    }

    /// Removes a peer; one of the configuration is remembered as removed.
    pub(crate) fn remove(&mut self, addr: Addr, configured: &[Peer]) {
        self.added.remove(&addr);
        if configured.iter().any(|peer| peer.addr == addr) {
            self.removed.insert(addr);
        }
    }

    /// How many configured peers are not used because they were removed at run time.
    pub(crate) fn hidden(&self, configured: &[Peer]) -> usize {
        configured.iter().filter(|peer| self.removed.contains(&peer.addr)).count()
    }
}

/// The peer that a request describes.
pub(crate) fn peer(spec: &PeerSpec) -> Result<Peer, ApiError> {
    let bad = |text: String| ApiError::new(Code::BadRequest, text);
    if let Some(name) = &spec.name {
        config::petname(name).map_err(bad)?;
    }
    let endpoint = |text: &String| config::endpoint(text).map_err(|error| bad(format!("{text:?}: {error}")));
    let endpoints = spec.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?;
    let transports = spec.transports.iter().map(|text| config::transport(text).map_err(bad));
    let transports = transports.collect::<Result<_, _>>()?;
    Ok(Peer { addr: spec.addr, name: spec.name.clone(), endpoints, transports })
}

/// The request that describes a peer.
pub(crate) fn spec(peer: &Peer) -> PeerSpec {
    let endpoints = peer.endpoints.iter().map(ToString::to_string).collect();
    let transports = peer.transports.iter().map(ToString::to_string).collect();
    PeerSpec { addr: peer.addr, name: peer.name.clone(), endpoints, transports, save: false }
}

/// Writes `peer` into the configuration file at `path`, leaving everything else as it is.
pub(crate) fn save(path: &Path, peer: &Peer) -> Result<(), ApiError> {
    let failed = |what: &dyn std::fmt::Display| {
        let text =
            format!("nothing was changed, since the peer cannot be written to {}: {what}", path.display());
        ApiError::new(Code::Internal, text)
    };
    let text = match config::read(path) {
        Ok(text) => text,
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(&error)),
    };
    let mut document: DocumentMut =
        text.parse().map_err(|_| failed(&"it is not TOML (byway config check)"))?;
    // What stands at the end of the file stays where it is, before what is added.
    let end = document.trailing().as_str().unwrap_or_default().to_owned();
    let tables = document.entry("peers").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let Some(tables) = tables.as_array_of_tables_mut() else {
        return Err(failed(&"its peers are not headed by [[peers]]"));
    };
    let addr = peer.addr.to_string();
    let known = |table: &&mut Table| table.get("addr").and_then(Item::as_str) == Some(addr.as_str());
    if let Some(table) = tables.iter_mut().find(known) {
        fill(table, peer);
    } else {
        let mut table = Table::new();
        fill(&mut table, peer);
        table.decor_mut().set_prefix(format!("{end}\n"));
        tables.push(table);
        document.set_trailing("");
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failed(&error))?;
    }
    write_atomically(path, document.to_string().as_bytes(), 0o600).map_err(|error| failed(&error))
}

fn fill(table: &mut Table, peer: &Peer) {
    set(table, "addr", peer.addr.to_string().into());
    match &peer.name {
        Some(name) => set(table, "name", name.into()),
        None => drop(table.remove("name")),
    }
    let endpoints: Array = peer.endpoints.iter().map(ToString::to_string).collect();
    set(table, "endpoints", endpoints.into());
    if peer.transports.is_empty() {
        table.remove("transports");
    } else {
        let transports: Array = peer.transports.iter().map(ToString::to_string).collect();
        set(table, "transports", transports.into());
    }
}

/// Sets a value, and leaves the comment beside it.
fn set(table: &mut Table, key: &str, new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(key, value(new))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(byte: u8, name: &str) -> Peer {
        let endpoints = vec!["udp://192.0.2.1:2561".to_owned()];
        // One with, one without.
        let transports = if byte == 1 { vec!["tls".into(), "tor".into()] } else { Vec::new() };
        let name = Some(name.into());
        let spec = PeerSpec { addr: Addr::from_bytes([byte; 32]), name, endpoints, transports, save: false };
        peer(&spec).expect("a good peer")
    }

    #[test]
    fn what_was_added_and_removed_is_read_back() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("peers.toml");
        assert_eq!(RuntimePeers::load(&path).expect("none yet"), RuntimePeers::default());
        let configured = [some(1, "ann"), some(2, "bob")];
        let mut peers = RuntimePeers::default();
        peers.add(some(3, "cho"));
        peers.remove(configured[0].addr, &configured);
        peers.store(&path).expect("written");
        let back = RuntimePeers::load(&path).expect("whole");
        assert_eq!(back, peers);
        let names: Vec<_> = back.over(&configured).into_values().filter_map(|peer| peer.name).collect();
        assert_eq!((names, back.hidden(&configured)), (vec!["bob".to_owned(), "cho".to_owned()], 1));

        let mut back = back;
        back.add(some(1, "ann again"[..3].trim()));
        assert_eq!(back.hidden(&configured), 0);
    }

    #[test]
    fn a_damaged_file_is_told_and_not_overwritten() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("peers.toml");
        std::fs::write(&path, "[[peers]]\naddr = \"short\"\n").expect("written");
        let told = RuntimePeers::load(&path).expect_err("damaged").to_string();
        assert!(told.contains("peers.toml:2:") && told.contains("remove it"), "{told}");
    }

    #[test]
    fn saving_leaves_the_rest_of_the_configuration_as_it_is() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("byway.toml");
        let ann = some(1, "ann");
        let text = format!(
            "# mine\n[mancon]\nfloor = \"high\" # careful\n\n[[peers]]\naddr = \"{}\" # ann\nendpoints = []\n# the end\n",
            ann.addr
        );
        std::fs::write(&path, &text).expect("written");
        save(&path, &ann).expect("saved");
        save(&path, &some(2, "bob")).expect("saved");
        let text = std::fs::read_to_string(&path).expect("there");
        assert!(text.starts_with("# mine\n[mancon]\nfloor = \"high\" # careful\n"), "{text}");
        assert!(text.contains("# ann\n") && text.contains("# the end\n\n[[peers]]"), "{text}");
        let config = config::Config::parse(&text, "byway.toml").expect("in order");
        assert_eq!(config.peers, [ann, some(2, "bob")]);
    }

    #[test]
    fn saving_makes_a_configuration_where_there_was_none() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("etc/byway.toml");
        save(&path, &some(1, "ann")).expect("saved");
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(config::Config::parse(&text, "x").expect("in order").peers, [some(1, "ann")]);
    }

    #[test]
    fn requests_with_odd_petnames_or_endpoints_are_refused() {
        let addr = Addr::from_bytes([1; 32]);
        let odd = [
            (Some("a b"), "udp://h:1", "udp"),
            (None, "lan://h", "udp"),
            (None, "nonsense", "udp"),
            (None, "udp://h:1", "ip"),
        ];
        for (name, endpoint, transport) in odd {
            let spec = PeerSpec {
                addr,
                name: name.map(Into::into),
                endpoints: vec![endpoint.into()],
                transports: vec![transport.into()],
                save: false,
            };
            assert_eq!(peer(&spec).expect_err("odd").code, Code::BadRequest, "{endpoint}");
        }
    }
}
