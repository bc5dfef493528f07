//! The daemons of the demo with their files, whichever way they are run.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use byway_api::Service;
use byway_identity::{Addr, OsEntropy, SigningKey, keyfile};

use super::loopback::Loopback;
use super::stage::{self, Stage};
use super::{NAMES, web};
use crate::connect;
use crate::failure::Failure;
use crate::out::Out;

/// Three running daemons.
pub(crate) struct Scene {
    directory: Directory,
    services: Vec<Arc<dyn Service>>,
    run: Run,
}

enum Run {
    Namespaces(Stage),
    Loopback(Loopback),
}

/// A directory of this demo's own; gone with it.
pub(crate) struct Directory(PathBuf);

/// How often to look whether a daemon is up.
const LOOK: Duration = Duration::from_millis(5);

impl Scene {
    /// Starts the daemons.
    pub(crate) async fn open(no_tun: bool, out: &mut Out<'_>) -> Result<Self, Failure> {
        let directory = Directory::new()?;
        let mut addrs = Vec::new();
        for name in NAMES {
            let key = SigningKey::generate(&mut OsEntropy);
            DirBuilder::new().mode(0o700).create(directory.0.join(name))?;
            keyfile::create(&directory.0.join(name).join("identity.pem"), &key, None)
                .map_err(|error| Failure::could_not(error.to_string()))?;
            addrs.push(key.public().addr());
        }
        let stage = if no_tun { Err("not wanted".to_owned()) } else { Stage::open() };
        match stage {
            Ok(mut stage) => {
                for (name, text) in NAMES.into_iter().zip(stage::configs(&directory, &addrs)) {
                    directory.configure(name, &text)?;
                    stage.up(name, &directory)?;
                }
                let mut services = Vec::new();
                for name in NAMES {
                    services.push(directory.connect(name).await?);
                }
                Ok(Self { directory, services, run: Run::Namespaces(stage) })
            }
            Err(reason) => {
                out.note(format!(
                    "no network namespaces with TUN devices ({reason}), so it goes over loopback"
                ));
                let (loopback, services) = Loopback::open(&directory, &addrs).await?;
                Ok(Self { directory, services, run: Run::Loopback(loopback) })
            }
        }
    }

    /// The daemons, in the order of [`NAMES`].
    pub(crate) fn services(&self) -> [&dyn Service; 3] {
        [&*self.services[0], &*self.services[1], &*self.services[2]]
    }

    /// How they are run, in words.
    pub(crate) fn way(&self) -> &'static str {
        match self.run {
            Run::Namespaces(_) => "each in a network namespace of its own, with a TUN device",
            Run::Loopback(_) => "over UDP on loopback; the page goes through a stream",
        }
    }

    /// ann fetches bob's page.
    pub(crate) async fn fetch(&mut self) -> Result<web::Page, Failure> {
        match &mut self.run {
            Run::Namespaces(stage) => {
                let ip = self.services[2].status().await?.ipv6;
                let ip =
                    ip.ok_or_else(|| Failure::no("bob's address has no IPv6 form; run the demo again"))?;
                stage.fetch(&ip)
            }
            Run::Loopback(loopback) => loopback.fetch(&*self.services[0], &*self.services[2]).await,
        }
    }

    /// Where the API of `name` listens.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.directory.socket(name)
    }

    /// The end of the daemons' logs, for when something went wrong.
    pub(crate) fn last_words(&self) -> Option<String> {
        let words = NAMES.iter().filter_map(|name| {
            let log = fs::read_to_string(self.directory.log(name)).ok()?;
            let last: Vec<_> = log.lines().rev().take(5).collect();
            (!last.is_empty())
                .then(|| format!("{name}: {}", last.into_iter().rev().collect::<Vec<_>>().join("\n  ")))
        });
        let words: Vec<_> = words.collect();
        (!words.is_empty()).then(|| words.join("\n"))
    }

    /// Stops the daemons and removes their files.
    pub(crate) async fn end(self) {
        for service in &self.services {
            // One that does not hear this is ended below.
            let _ = service.shutdown().await;
        }
        drop(self.services);
        match self.run {
            Run::Namespaces(stage) => stage.end(),
            Run::Loopback(loopback) => loopback.end().await,
        }
    }
}

impl Directory {
    fn new() -> Result<Self, Failure> {
        let place = std::env::temp_dir();
        let mut suffix = [0; 4];
        byway_identity::Entropy::fill(&mut OsEntropy, &mut suffix);
        let path = place.join(format!("byway-demo-{:08x}", u32::from_ne_bytes(suffix)));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            Failure::could_not(format!("{}: {error}; set TMPDIR to another place", path.display()))
        })?;
        Ok(Self(path))
    }

    /// Writes the configuration of `name`.
    pub(crate) fn configure(&self, name: &str, text: &str) -> Result<(), Failure> {
        Ok(fs::write(self.config(name), text)?)
    }

    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.toml"))
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.log"))
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.sock"))
    }

    /// A client of the daemon `name`, as soon as it is up.
    pub(crate) async fn connect(&self, name: &str) -> Result<Arc<dyn Service>, Failure> {
        let url = format!("unix:{}", self.socket(name).display());
        loop {
            // A log that has an error in it tells why the daemon will never be up; the demo's patience covers the rest.
            if let Ok(daemon) = connect::connect(Some(&url)).await {
                return Ok(Arc::new(daemon));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is small, and in a place that the system clears.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A configuration of a daemon of the demo.
pub(crate) fn config(
    socket: &Path,
    listen: &str,
    portal: &str,
    peers: &[(&str, &Addr, Option<String>)],
) -> String {
    let socket = socket.display();
    let mut text = format!(
        "[api]\nlisten = [\"unix:{socket}\"]\n[mancon]\ndefault = \"low\"\ndirect = true\n\
         [links]\nudp.listen = [\"{listen}\"]\n[portal]\n{portal}\n"
    );
    for (name, addr, endpoint) in peers {
        let endpoints = endpoint.as_ref().map_or(String::new(), |endpoint| format!("{endpoint:?}"));
        text += &format!("[[peers]]\nname = \"{name}\"\naddr = \"{addr}\"\nendpoints = [{endpoints}]\n");
    }
    text
}
