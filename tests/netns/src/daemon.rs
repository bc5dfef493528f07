//! A `byway up` on a host.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::host::Host;
use crate::process::{Process, wait_for};

/// Who a daemon is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// File of the private key.
    pub key: PathBuf,
    /// The address, as text.
    pub addr: String,
    /// Its IPv6 address in the default range.
    pub ipv6: String,
}

/// A peer in a daemon's configuration.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address, as text.
    pub addr: String,
    /// Where it may be reached.
    pub endpoints: Vec<String>,
    /// By what links to it may go; none named: by all.
    pub transports: Vec<String>,
}

/// What a test says about a daemon; the rest is the same for all: UDP links, level `low`, nothing else.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// Who it is.
    pub identity: Identity,
    /// Its peers.
    pub peers: Vec<Peer>,
    /// Who may come in: a peer, or `*`, and ports.
    pub allow: Vec<(String, Vec<String>)>,
    /// Where it listens for links.
    pub listen: Vec<String>,
    /// More transports, as TOML: tables below `links`.
    pub links: String,
    /// Range of IPv6 addresses, if not the default.
    pub prefix: Option<String>,
    /// Its routing protocol, if not the default.
    pub protocol: Option<String>,
    /// Name of its network, if not the default.
    pub network: Option<String>,
    /// Whether it has a TUN device.
    pub portal: bool,
    /// Threads that move packets, if not the default.
    pub threads: Option<u16>,
    /// Whether the kernel may join packets for it.
    pub offload: bool,
    /// Whether it logs everything.
    pub debug: bool,
}

/// A running daemon; killed when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    api: PathBuf,
    config: PathBuf,
}

impl Identity {
    /// A new key on `host`.
    pub fn new(host: &Host) -> Result<Self> {
        Self::with(&program("byway")?, host)
    }

    /// The same, made by this `byway`.
    pub fn with(program: &Path, host: &Host) -> Result<Self> {
        let key = host.path("identity.pem");
        let byway = |words: &[&str]| -> Result<String> {
            let output = Command::new(program).args(words).arg(&key).output()?;
            ensure!(output.status.success(), "byway {words:?}: {}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        };
        byway(&["keygen", "--out"])?;
        Ok(Self { addr: byway(&["addr"])?, ipv6: byway(&["ip6"])?, key })
    }
}

impl Peer {
    /// A peer that is dialled at these places; none: it dials us.
    pub fn new(identity: &Identity, endpoints: &[&str]) -> Self {
        Self {
            addr: identity.addr.clone(),
            endpoints: endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect(),
            transports: Vec::new(),
        }
    }
}

impl DaemonConfig {
    /// A daemon with a portal that lets everyone in, and without peers.
    pub fn open(identity: &Identity) -> Self {
        let ports = ["tcp/1-65535", "udp/1-65535", "icmp"].map(str::to_owned).to_vec();
        Self { allow: vec![("*".into(), ports)], ..Self::closed(identity) }
    }

    /// A daemon with a portal that lets nobody in, and without peers.
    pub fn closed(identity: &Identity) -> Self {
        Self {
            identity: identity.clone(),
            peers: Vec::new(),
            allow: Vec::new(),
            listen: vec!["0.0.0.0:2561".into()],
            links: String::new(),
            prefix: None,
            protocol: None,
            network: None,
            portal: true,
            threads: None,
            offload: true,
            debug: false,
        }
    }

    /// With these peers.
    pub fn peers(mut self, peers: impl IntoIterator<Item = Peer>) -> Self {
        self.peers.extend(peers);
        self
    }

    /// The file that says this on `host`.
    pub fn toml(&self, host: &Host) -> Result<String> {
        let api = host.path("api.sock");
        let key = self.identity.key.to_str().context("a path that is no text")?;
        let mut toml = String::new();
        writeln!(toml, "[node]\nkey = {}", serde_json::to_string(key)?)?;
        writeln!(toml, "[api]\nlisten = [{}]", serde_json::to_string(&format!("unix:{}", api.display()))?)?;
        writeln!(toml, "[network]")?;
        if let Some(protocol) = &self.protocol {
            writeln!(toml, "protocol = {}", serde_json::to_string(protocol)?)?;
        }
        if let Some(network) = &self.network {
            writeln!(toml, "name = {}", serde_json::to_string(network)?)?;
        }
        writeln!(toml, "[mancon]\ndefault = \"low\"\ndirect = true")?;
        writeln!(toml, "[portal]\nenabled = {}\nmancon = \"low\"\noffload = {}", self.portal, self.offload)?;
        if let Some(threads) = self.threads {
            writeln!(toml, "threads = {threads}")?;
        }
        if let Some(prefix) = &self.prefix {
            writeln!(toml, "prefix = {}", serde_json::to_string(prefix)?)?;
        }
        if self.debug {
            writeln!(toml, "[log]\nlevel = \"debug\"")?;
        }
        for (peer, ports) in &self.allow {
            let (peer, ports) = (serde_json::to_string(peer)?, serde_json::to_string(ports)?);
            writeln!(toml, "[[portal.allow]]\npeer = {peer}\nports = {ports}")?;
        }
        writeln!(toml, "[links.udp]\nlisten = {}", serde_json::to_string(&self.listen)?)?;
        writeln!(
            toml,
            "[links.tor]\nmode = \"off\"\n[links.i2p]\nmode = \"off\"\n[links.lan]\ninterfaces = []"
        )?;
        toml.push_str(&self.links);
        for Peer { addr, endpoints, transports } in &self.peers {
            let (addr, endpoints) = (serde_json::to_string(addr)?, serde_json::to_string(endpoints)?);
            let transports = serde_json::to_string(transports)?;
            writeln!(toml, "[[peers]]\naddr = {addr}\nendpoints = {endpoints}\ntransports = {transports}")?;
        }
        Ok(toml)
    }
}

impl Daemon {
    /// Starts a daemon and waits until it answers.
    pub fn start(host: &Host, config: &DaemonConfig) -> Result<Self> {
        let mut daemon = Self::launch(host, config)?;
        daemon.ready()?;
        Ok(daemon)
    }

    /// Starts a daemon.
    pub fn launch(host: &Host, config: &DaemonConfig) -> Result<Self> {
        let (state, file, api) = (host.path("state"), host.path("byway.toml"), host.path("api.sock"));
        std::fs::create_dir_all(&state)?;
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700))?;
        std::fs::write(&file, config.toml(host)?)?;
        let mut command = host.command(program("byway")?, ["up", "--config"]);
        command.arg(&file).arg("--state").arg(&state);
        Ok(Self { process: host.spawn(command)?, api, config: file })
    }

    /// Waits until its API answers.
    pub fn ready(&mut self) -> Result<()> {
        let mut ended = false;
        let waited = wait_for(Duration::from_secs(20), "the daemon's API", || {
            ended = !self.process.is_running();
            ended || self.get("/healthz").is_ok()
        });
        if ended {
            bail!("the daemon ended:\n{}", self.process.output());
        }
        waited.with_context(|| self.process.output())
    }

    /// The body of the answer to `GET path`.
    pub fn get(&self, path: &str) -> Result<String> {
        get(&self.api, path)
    }

    /// The same as JSON.
    pub fn json(&self, path: &str) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.get(path)?)?)
    }

    /// The sum of the samples in `/metrics` that are called `name` and have all of `labels`, such as `reason="forged"`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<u64> {
        let text = self.get("/metrics")?;
        let samples: Vec<u64> = text
            .lines()
            .filter(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        ensure!(!samples.is_empty(), "no metric {name} with {labels:?}:\n{text}");
        Ok(samples.iter().sum())
    }

    /// The socket of its API.
    pub fn api(&self) -> &Path {
        &self.api
    }

    /// Gives it another configuration, and tells it so; it says in its log when that holds.
    pub fn reload(&self, file: &str) -> Result<()> {
        std::fs::write(&self.config, file)?;
        self.process.signal(Signal::SIGHUP)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it as a crash would.
    pub fn crash(mut self) -> Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait(Duration::from_secs(10)).map(drop)
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(Duration::from_secs(10))?;
        ensure!(status.success(), "{status}\n{}", self.process.output());
        Ok(())
    }
}

/// The body of the answer to `GET path` of the API at this socket.
pub fn get(api: &Path, path: &str) -> Result<String> {
    let mut stream = UnixStream::connect(api)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{head}\n{body}");
    Ok(body.to_owned())
}

/// The program `name` of this workspace, beside the one that runs now.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Tests run in `deps`, programs are one folder up.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    let package = if name == "byway" { "byway" } else { "byway-netns" };
    found.with_context(|| format!("{name} is not built: run `cargo build -p {package}`"))
}
