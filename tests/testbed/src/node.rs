//! A `byway up` on a host that others share.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use byway_netns::{Host, Process, get, program, wait_for};
use nix::sys::signal::Signal;

use crate::PATIENCE;

/// A daemon without clear links and without a portal; killed when it is dropped.
pub struct Node {
    /// Its address, as text.
    pub addr: String,
    folder: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// A daemon that does not run yet, with a new key; `links` is the `[links]` of its configuration.
    pub fn new(host: &Host, name: &str, links: &str) -> Result<Self> {
        let folder = host.path(name);
        std::fs::create_dir(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        let mut node = Self { addr: String::new(), folder, process: None };
        let key = node.folder.join("identity.pem");
        let key = key.to_str().context("a path that is no text")?;
        node.byway(&["keygen", "--out", key])?;
        node.addr = node.byway(&["addr", key])?.trim().to_owned();
        node.configure(links)?;
        Ok(node)
    }

    /// Gives it another `[links]`, for the next start.
    pub fn configure(&self, links: &str) -> Result<()> {
        self.configure_all(&format!("[portal]\nenabled = false\n[links]\n{links}"))
    }

    /// Gives it another configuration, but for its log and its API.
    pub fn configure_all(&self, sections: &str) -> Result<()> {
        let api = serde_json::to_string(&format!("unix:{}", self.api().display()))?;
        let text = format!("[log]\nlevel = \"debug\"\n[api]\nlisten = [{api}]\n{sections}");
        Ok(std::fs::write(self.folder.join("byway.toml"), text)?)
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("it does not run")?.pid())
    }

    /// A file in its state directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts it, and waits until it answers.
    pub fn start(&mut self, host: &Host) -> Result<()> {
        let mut command = host.command(program("byway")?, ["up", "--config"]);
        command.arg(self.path("byway.toml")).arg("--state").arg(&self.folder);
        let mut process = host.spawn(command)?;
        let mut has_ended = false;
        let api = self.api();
        wait_for(PATIENCE, "the daemon's API", || {
            has_ended = !process.is_running();
            has_ended || get(&api, "/healthz").is_ok()
        })?;
        ensure!(!has_ended, "the daemon ended:\n{}", process.output());
        self.process = Some(process);
        Ok(())
    }

    /// Asks it to stop (`SIGTERM`), or ends it as a crash would (`SIGKILL`), and waits for its end.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        let mut process = self.process.take().context("it does not run")?;
        process.signal(signal)?;
        process.wait(Duration::from_secs(20)).map(drop)
    }

    /// Everything that it has logged since its last start.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    /// The answer to `GET path` as JSON.
    pub fn json(&self, path: &str) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&get(&self.api(), path)?)?)
    }

    /// What a command printed; an error with all that it printed if it failed.
    pub fn byway(&self, words: &[&str]) -> Result<String> {
        let (is_ok, data, notes) = self.ran(words)?;
        ensure!(is_ok, "byway {words:?}:\n{data}{notes}");
        Ok(data)
    }

    /// Whether a command succeeded, its data, and its notes.
    pub fn ran(&self, words: &[&str]) -> Result<(bool, String, String)> {
        let mut command = Command::new(program("byway")?);
        command.args(words).env("BYWAY_API", format!("unix:{}", self.api().display())).stdin(Stdio::null());
        let output = command.output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.success(), text(output.stdout), text(output.stderr)))
    }

    /// What `byway links`, or another listing, shows.
    pub fn list(&self, what: &str) -> Result<serde_json::Value> {
        let mut value: serde_json::Value = serde_json::from_str(&self.byway(&[what, "--json"])?)?;
        Ok(value[what].take())
    }

    /// The transport of this kind, as `GET /v1/status` shows it.
    pub fn transport(&self, kind: &str) -> Result<serde_json::Value> {
        let mut status = self.json("/v1/status")?;
        let transports = status["transports"].as_array_mut().context("no transports")?;
        let at = transports.iter().position(|transport| transport["kind"] == kind);
        Ok(transports.swap_remove(at.with_context(|| format!("{kind} is not on"))?))
    }

    /// Waits until the transport of this kind is in this state; what it then says.
    pub fn becomes(&self, kind: &str, state: &str) -> Result<serde_json::Value> {
        let mut last = serde_json::Value::Null;
        let waited = wait_for(PATIENCE, state, || {
            last = self.transport(kind).unwrap_or_default();
            last["state"] == state
        });
        waited.with_context(|| format!("{kind}: {last}\n{}", self.log()))?;
        Ok(last)
    }

    /// The endpoint at which the transport of this kind listens.
    pub fn endpoint(&self, kind: &str) -> Result<String> {
        let transport = self.transport(kind)?;
        Ok(transport["endpoints"][0].as_str().context("it listens nowhere")?.to_owned())
    }

    /// Waits until `other` answers a ping at the level `high`, which uses no clear link; how long that took.
    pub fn reaches(&self, other: &Self) -> Result<Duration> {
        let begun = std::time::Instant::now();
        let mut last = String::new();
        let waited = wait_for(PATIENCE, "an answer to a ping", || {
            match self.ran(&["ping", "-c", "1", "--mancon", "high", &other.addr]) {
                Ok((true, ..)) => true,
                Ok((false, data, notes)) => {
                    last = data + &notes;
                    false
                }
                Err(error) => {
                    last = error.to_string();
                    false
                }
            }
        });
        if waited.is_err() {
            let peers = self.byway(&["peers"]).unwrap_or_default();
            bail!("{last}\n{peers}\n{}\nthe other end:\n{}", self.log(), other.log());
        }
        Ok(begun.elapsed())
    }

    fn api(&self) -> PathBuf {
        self.folder.join("api.sock")
    }
}
