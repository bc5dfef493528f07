//! Programs that join the hosts of a mesh.

use std::ffi::OsString;

use anyhow::{Context, Result};
use byway_netns::{Fabric, Member, Mesh};
use serde_json::json;

use crate::side::peer::byway::{changed, settings};
use crate::side::peer::{Place, Programs};

/// One of them.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Our own daemon.
    Byway {
        /// Its name in tables.
        name: String,
        /// Keys of its configuration with their values as TOML.
        settings: Vec<(String, String)>,
    },
    /// Yggdrasil, over TCP links.
    Yggdrasil,
}

impl Subject {
    /// Our own daemon with these settings, each `key=value` in TOML.
    pub fn byway(name: &str, pairs: &[String]) -> Result<Self> {
        Ok(Self::Byway { name: name.to_owned(), settings: settings(pairs)? })
    }

    /// Its name in tables.
    pub fn name(&self) -> &str {
        match self {
            Self::Byway { name, .. } => name,
            Self::Yggdrasil => "yggdrasil",
        }
    }

    /// Whether what must be holds for it.
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Byway { .. })
    }

    /// Its version, as the program tells it.
    pub fn version(&self, programs: &Programs) -> Result<String> {
        match self {
            Self::Byway { .. } => programs.word("byway", &["--version"], "byway", Place::Last),
            Self::Yggdrasil => programs.word("yggdrasil", &["-version"], "version", Place::Last),
        }
    }

    /// What runs on each host.
    pub fn members(&self, mesh: &Mesh, programs: &Programs) -> Result<Vec<Member>> {
        match self {
            Self::Byway { settings, .. } => {
                mesh.byway(&programs.need("byway")?, |config| changed(&config, settings))
            }
            Self::Yggdrasil => (0..mesh.hosts.len()).map(|index| yggdrasil(mesh, programs, index)).collect(),
        }
    }
}

/// Each link is dialled by the host that starts later, so that no dial finds nobody and is put off.
fn yggdrasil(mesh: &Mesh, programs: &Programs, index: usize) -> Result<Member> {
    let made: serde_json::Value =
        serde_json::from_str(&programs.output("yggdrasil", &["-genconf", "-json"])?)?;
    let key = made["PrivateKey"].as_str().context("yggdrasil made no key")?;
    let at = |index: usize| format!("tcp://{}:9001", Fabric::address(index));
    let neighbours = mesh.graph.neighbours(index).into_iter();
    let peers: Vec<_> = neighbours.filter(|neighbour| *neighbour < index).map(at).collect();
    let config = json!({
        "PrivateKey": key, "AdminListen": "none", "Listen": [at(index)], "Peers": peers, "MulticastInterfaces": [],
        "IfName": "ygg0", "NodeInfoPrivacy": true,
    });
    let file = mesh.hosts[index].path("yggdrasil.conf");
    std::fs::write(&file, config.to_string())?;
    let name = file.to_str().context("a path that is no text")?;
    let address = programs.output("yggdrasil", &["-useconffile", name, "-address"])?;
    let words = ["-useconffile", name, "-loglevel", "warn"].map(OsString::from);
    let command = std::iter::once(programs.need("yggdrasil")?.into_os_string()).chain(words).collect();
    Ok(Member { address: address.trim().parse().context("yggdrasil has no address")?, command })
}
