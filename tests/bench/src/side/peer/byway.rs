//! Our own daemon: clear UDP links only, its portal open to the other nodes. Variants differ in keys of the configuration.

use anyhow::{Context, Result, ensure};
use byway_netns::{DaemonConfig, Host, Identity};
use toml_edit::{DocumentMut, Item, Table, Value};

use super::{Node, Peer, Place, Programs, Step, text};
use crate::side::bed::Bed;

/// See the module.
#[derive(Clone, Debug)]
pub struct Byway {
    name: String,
    /// Keys of the configuration, such as `portal.threads`, with their values as TOML.
    settings: Vec<(String, String)>,
}

impl Byway {
    /// As it comes, and with other ciphers and threads.
    pub fn variants() -> Vec<Self> {
        VARIANTS
            .iter()
            .map(|(name, settings)| {
                let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
                Self { name: (*name).to_owned(), settings: settings.collect() }
            })
            .collect()
    }

    /// As it comes, but for these settings, each `key=value` in TOML.
    pub fn with(name: &str, settings: &[String]) -> Result<Self> {
        Ok(Self { name: name.to_owned(), settings: self::settings(settings)? })
    }
}

impl Byway {
    /// With one cipher and no other.
    pub fn with_cipher(cipher: &str) -> Result<Self> {
        Self::with(&Self::cipher_name(cipher), &[format!("{CIPHERS}=[\"{cipher}\"]")])
    }

    /// The name of that peer.
    pub fn cipher_name(cipher: &str) -> String {
        let known = [("chacha20-poly1305", "chacha"), ("aegis-128l", "aegis")];
        let short = known.iter().find(|(name, _)| *name == cipher).map_or(cipher, |(_, short)| short);
        format!("byway-{short}")
    }
}

/// The key with the ciphers that are offered, best first.
const CIPHERS: &str = "session.ciphers";

impl Peer for Byway {
    fn name(&self) -> &str {
        &self.name
    }

    fn programs(&self) -> &'static [&'static str] {
        &["byway"]
    }

    fn version(&self, programs: &Programs) -> Result<String> {
        programs.word("byway", &["--version"], "byway", Place::Last)
    }

    fn mtu(&self) -> Option<u32> {
        None
    }

    fn relays(&self) -> bool {
        true
    }

    fn in_use(&self, host: &Host, programs: &Programs) -> Option<String> {
        let api = format!("unix:{}", text(&host.path("api.sock")));
        let told = programs.output("byway", &["sessions", "--json", "--api", &api]).ok()?;
        let sessions: serde_json::Value = serde_json::from_str(told.lines().next()?).ok()?;
        let first = sessions.get("sessions").unwrap_or(&sessions);
        let first = first.get(0).unwrap_or(first);
        Some(first.get("cipher")?.as_str()?.to_owned())
    }

    fn prepare(&self, bed: &Bed, programs: &Programs) -> Result<Vec<Node>> {
        let who = bed
            .hosts
            .iter()
            .map(|host| identity(programs, host.path("identity.pem")))
            .collect::<Result<Vec<_>>>()?;
        let program = programs.need("byway")?;
        let mut nodes = Vec::new();
        for (index, host) in bed.hosts.iter().enumerate() {
            let peers = bed.neighbours(index).into_iter().map(|neighbour| {
                let endpoint = format!("udp://{}:2561", neighbour.theirs);
                let endpoints: &[&str] = if neighbour.dial { &[&endpoint] } else { &[] };
                byway_netns::Peer::new(&who[neighbour.index], endpoints)
            });
            let config = DaemonConfig::open(&who[index]).peers(peers);
            let config = changed(&config.toml(host)?, &self.settings)?;
            let (file, state) = (host.path("byway.toml"), host.path("state"));
            std::fs::write(&file, config)?;
            private_folder(&state)?;
            let arguments = ["up", "--config", &text(&file), "--state", &text(&state)];
            let start = vec![Step::daemon(&program, arguments)];
            nodes.push(Node { address: who[index].ipv6.clone(), start, settle: Vec::new() });
        }
        Ok(nodes)
    }
}

/// Variants, each with what it changes. The first takes AES-256-GCM where there are instructions for it.
const VARIANTS: &[(&str, &[(&str, &str)])] = &[
    ("byway", &[]),
    ("byway-chacha", &[(CIPHERS, "[\"chacha20-poly1305\"]")]),
    ("byway-aegis", &[(CIPHERS, "[\"aegis-128l\"]")]),
    ("byway-threads1", &[("portal.threads", "1")]),
];

/// A new key, with what the program says of it.
pub(crate) fn identity(programs: &Programs, key: std::path::PathBuf) -> Result<Identity> {
    let file = text(&key);
    programs.output("byway", &["keygen", "--out", &file])?;
    let ask = |what: &str| anyhow::Ok(programs.output("byway", &[what, &file])?.trim().to_owned());
    Ok(Identity { addr: ask("addr")?, ipv6: ask("ip6")?, key })
}

/// A folder that only its owner may enter.
pub(crate) fn private_folder(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(path)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?)
}

/// Keys and values of settings, each `key=value` in TOML.
pub(crate) fn settings(settings: &[String]) -> Result<Vec<(String, String)>> {
    let split = settings.iter().map(|setting| {
        let (key, value) = setting.split_once('=').with_context(|| format!("{setting}: not key=value"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    });
    split.collect()
}

/// A configuration with some keys set otherwise.
pub(crate) fn changed(config: &str, settings: &[(String, String)]) -> Result<String> {
    let mut document: DocumentMut = config.parse()?;
    for (key, value) in settings {
        let value: Value = value.parse().with_context(|| format!("{key} = {value}"))?;
        let mut path: Vec<_> = key.split('.').collect();
        let last = path.pop().unwrap_or_default();
        ensure!(!last.is_empty(), "a setting has no key");
        let mut table = document.as_table_mut();
        for part in path {
            let item = table.entry(part).or_insert_with(|| Item::Table(Table::new()));
            table = item.as_table_mut().with_context(|| format!("{key}: {part} is no table"))?;
        }
        table.insert(last, Item::Value(value));
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn settings_change_keys_that_are_there_and_add_those_that_are_not() {
        let settings =
            [("portal.threads", "1"), ("portal.mancon", "\"high\""), ("session.ciphers", "[\"x\"]")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let text = changed("[portal]\nenabled = true\nmancon = \"low\"\n", &settings).unwrap();
        let read: DocumentMut = text.parse().unwrap();
        assert_eq!(read["portal"]["threads"].as_integer(), Some(1));
        assert_eq!(read["portal"]["mancon"].as_str(), Some("high"));
        assert_eq!(read["portal"]["enabled"].as_bool(), Some(true));
        assert_eq!(read["session"]["ciphers"][0].as_str(), Some("x"));
        assert!(changed("x = 1\n", &[("x.y".to_owned(), "1".to_owned())]).is_err());
    }

    #[test]
    fn a_setting_without_a_value_is_refused() {
        assert!(Byway::with("byway", &["portal.threads".to_owned()]).is_err());
        assert_eq!(Byway::with("byway", &["a.b = 1".to_owned()]).unwrap().settings[0].1, "1");
    }
}
