//! The programs that are measured side by side: how each gets its keys, starts, and is known to run.
//!
//! A peer says what is to be run as data ([`Node`]), and one place runs it ([`Running`]), so that all are started, timed and ended
//! alike. One that is not installed is left out.

pub(crate) mod byway;
mod fips;
mod inet256;
mod mycelium;
mod nebula;
mod wireguard;
mod yggdrasil;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use byway_netns::{Host, Process, wait_for};
use nix::sys::signal::Signal;

use crate::side::bed::{Bed, address6};

pub use byway::Byway;
pub use wireguard::Implementation;

/// A program that joins hosts.
pub trait Peer {
    /// Its name in tables.
    fn name(&self) -> &str;

    /// The programs that it needs.
    fn programs(&self) -> &'static [&'static str];

    /// Its version, as the program tells it.
    fn version(&self, programs: &Programs) -> Result<String>;

    /// MTU of its device, where it is the same everywhere.
    fn mtu(&self) -> Option<u32>;

    /// Whether it carries what passes through a node between two others.
    fn relays(&self) -> bool {
        false
    }

    /// What it says of the ciphers in use on this host.
    fn in_use(&self, _host: &Host, _programs: &Programs) -> Option<String> {
        None
    }

    /// Makes keys and configurations for every host of `bed`; what to run on each.
    fn prepare(&self, bed: &Bed, programs: &Programs) -> Result<Vec<Node>>;
}

/// What runs on one host.
#[derive(Debug, Default)]
pub struct Node {
    /// The address that others reach it at.
    pub address: String,
    /// Steps to start it, in this order.
    pub start: Vec<Step>,
    /// Steps once all nodes run.
    pub settle: Vec<Step>,
}

/// One step of a start.
#[derive(Debug)]
pub enum Step {
    /// A daemon, which runs until the measurement ends.
    Daemon {
        /// The program.
        program: OsString,
        /// Its arguments.
        arguments: Vec<OsString>,
        /// What its environment has besides.
        environment: Vec<(&'static str, OsString)>,
    },
    /// A command line that must succeed.
    Run(String),
    /// A command line that succeeds once what was started before is ready.
    Until(String),
    /// A text that the output of a command line contains then.
    Shows(String, &'static str),
}

impl Step {
    /// A daemon with these arguments.
    pub fn daemon<A: Into<OsString>>(
        program: impl Into<OsString>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self::Daemon { program: program.into(), arguments, environment: Vec::new() }
    }

    /// The same with another variable in its environment.
    pub fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        if let Self::Daemon { environment, .. } = &mut self {
            environment.push((name, value.into()));
        }
        self
    }
}

/// Where programs are looked for.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// Folders before those of the path.
    pub folders: Vec<PathBuf>,
    /// Our own daemon, if another than the one that was built with this program.
    pub byway: Option<PathBuf>,
}

impl Programs {
    /// The file of a program, from the root, since hosts have no current folder; also where only root looks.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        std::path::absolute(self.search(name)?).ok()
    }

    fn search(&self, name: &str) -> Option<PathBuf> {
        if name == "byway" {
            return self.byway.clone().or_else(|| crate::fleet::built_byway().ok());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        let mut folders = self.folders.iter().cloned().chain(std::env::split_paths(&path)).chain(system);
        folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
    }

    /// The same; an error if it is not there.
    pub fn need(&self, name: &str) -> Result<PathBuf> {
        self.find(name).with_context(|| format!("missing program: {name}"))
    }

    /// What a program prints.
    pub fn output(&self, name: &str, arguments: &[&str]) -> Result<String> {
        self.fed(name, arguments, "")
    }

    /// What a program prints when it reads `input`.
    pub fn fed(&self, name: &str, arguments: &[&str], input: &str) -> Result<String> {
        use std::io::Write as _;
        use std::process::Stdio;

        let mut command = Command::new(self.need(name)?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A program that reads nothing may have closed it already.
            let _ = pipe.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(text)
    }

    /// The first word of what `name arguments` prints on any line that contains `mark`, counted from the end or the front.
    pub fn word(&self, name: &str, arguments: &[&str], mark: &str, place: Place) -> Result<String> {
        let text = self.output(name, arguments)?;
        let line = text.lines().find(|line| line.contains(mark)).unwrap_or_default();
        let mut words = line.split_whitespace();
        let word = match place {
            Place::Second => words.nth(1),
            Place::Last => words.next_back(),
        };
        Ok(word.unwrap_or("unknown").to_owned())
    }
}

/// Which word of a line.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// The one after the first.
    Second,
    /// The last.
    Last,
}

/// The kernel alone: what a peer could reach at most.
pub struct Raw;

impl Peer for Raw {
    fn name(&self) -> &str {
        RAW
    }

    fn programs(&self) -> &'static [&'static str] {
        &[]
    }

    fn version(&self, _programs: &Programs) -> Result<String> {
        Ok("kernel".into())
    }

    fn mtu(&self) -> Option<u32> {
        Some(1500)
    }

    fn prepare(&self, bed: &Bed, _programs: &Programs) -> Result<Vec<Node>> {
        ensure!(bed.hosts.len() == 2, "the kernel alone relays nothing here");
        Ok([1, 2].map(|side| Node { address: address6(0, side), ..Node::default() }).into())
    }
}

/// Name of [`Raw`].
pub const RAW: &str = "veth-raw";

/// Every peer that there is, our own first.
pub fn all() -> Vec<Box<dyn Peer>> {
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(Raw)];
    peers.extend(Byway::variants().into_iter().map(|peer| Box::new(peer) as Box<dyn Peer>));
    peers.extend(
        [Implementation::WireguardGo, Implementation::Gotatun, Implementation::Boringtun]
            .map(|peer| Box::new(peer) as Box<dyn Peer>),
    );
    peers.push(Box::new(nebula::Nebula));
    peers.push(Box::new(yggdrasil::Yggdrasil));
    peers.push(Box::new(mycelium::Mycelium));
    peers.push(Box::new(fips::Fips));
    peers.push(Box::new(inet256::Inet256));
    peers
}

/// A peer on the hosts of a bed; its daemons are ended, by their ids, when it is dropped.
pub struct Running {
    /// The daemons of each host.
    daemons: Vec<Vec<Process>>,
    /// The address of each host.
    pub addresses: Vec<String>,
    /// From the start of the first host's daemon, the last to start, to its first answer from the other end, in seconds.
    pub first_ping: f64,
}

impl Running {
    /// Starts a peer, and waits until the ends reach each other.
    pub fn start(peer: &dyn Peer, bed: &Bed, programs: &Programs, limit: Duration) -> Result<Self> {
        let nodes = peer.prepare(bed, programs)?;
        ensure!(nodes.len() == bed.hosts.len(), "{} is not prepared for every host", peer.name());
        let addresses: Vec<_> = nodes.iter().map(|node| node.address.clone()).collect();
        let mut running =
            Self { daemons: bed.hosts.iter().map(|_| Vec::new()).collect(), addresses, first_ping: 0.0 };
        let mut begun = Instant::now();
        for index in (0..nodes.len()).rev() {
            if index == 0 {
                // The others have had the time to get ready.
                std::thread::sleep(HEAD_START);
                begun = Instant::now();
            }
            for step in &nodes[index].start {
                running.step(&bed.hosts[index], index, step, limit)?;
            }
        }
        for (index, node) in nodes.iter().enumerate() {
            for step in &node.settle {
                running.step(&bed.hosts[index], index, step, limit)?;
            }
        }
        running.reach(bed, limit).with_context(|| running.logs())?;
        running.first_ping = begun.elapsed().as_secs_f64();
        Ok(running)
    }

    fn step(&mut self, host: &Host, index: usize, step: &Step, limit: Duration) -> Result<()> {
        match step {
            Step::Daemon { program, arguments, environment } => {
                let mut command = host.command(program, arguments);
                command.envs(environment.iter().map(|(name, value)| (name, value)));
                self.daemons[index].push(host.spawn(command)?);
            }
            Step::Run(line) => drop(host.run(line)?),
            Step::Until(line) => {
                wait_for(limit, line, || host.output(line).is_ok_and(|output| output.status.success()))
                    .with_context(|| self.logs())?;
            }
            Step::Shows(line, text) => {
                wait_for(limit, line, || host.run(line).is_ok_and(|output| output.contains(text)))
                    .with_context(|| self.logs())?;
            }
        }
        Ok(())
    }

    /// Waits for a ping from end to end.
    fn reach(&mut self, bed: &Bed, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        let line = format!("ping -n -c 1 -W 0.2 {}", self.target());
        while !bed.first().output(&line)?.status.success() {
            ensure!(begun.elapsed() < limit, "no answer to a ping within {limit:?}");
            self.check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The address of the last host.
    pub fn target(&self) -> &str {
        self.addresses.last().map_or("", String::as_str)
    }

    /// An error if a daemon has ended.
    pub fn check(&mut self) -> Result<()> {
        for (index, daemon) in self.daemons.iter_mut().flatten().enumerate() {
            if !daemon.is_running() {
                bail!("daemon {} has ended:\n{}", index + 1, daemon.output());
            }
        }
        Ok(())
    }

    /// Process ids of all daemons.
    pub fn pids(&self) -> Vec<u32> {
        self.daemons.iter().flatten().map(Process::pid).collect()
    }

    /// Process ids of the daemons of one host.
    pub fn pids_of(&self, index: usize) -> Vec<u32> {
        self.daemons[index].iter().map(Process::pid).collect()
    }

    /// The end of what the daemons have printed.
    pub fn logs(&self) -> String {
        let tail = |process: &Process| {
            let text = process.output();
            let from = text.len().saturating_sub(2000);
            let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text[from..].to_owned()
        };
        self.daemons.iter().flatten().map(tail).collect::<Vec<_>>().join("\n")
    }

    /// Asks the daemons to end, and waits for it a moment; what is left is killed.
    pub fn stop(mut self) {
        for daemon in self.daemons.iter().flatten() {
            let _ = daemon.signal(Signal::SIGTERM);
        }
        for daemon in self.daemons.iter_mut().flatten() {
            let _ = daemon.wait(Duration::from_secs(3));
        }
    }
}

/// How long the other hosts' daemons run before the first host's starts.
const HEAD_START: Duration = Duration::from_millis(1000);

/// A path as an argument of a command line; paths of a bed have no blanks.
fn text(path: &Path) -> String {
    path.display().to_string()
}
