//! Processes of a world, seen from the test.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A program in a host; it is killed, by its process id, when this is dropped.
#[derive(Debug)]
pub struct Process {
    /// The `nsenter` that waits for it.
    outer: Child,
    /// The program itself, as this process sees it.
    pid: Pid,
    output: PathBuf,
}

impl Process {
    /// Starts `command`, an `nsenter` that forks, with its output in the file `output`.
    pub(crate) fn start(mut command: Command, output: PathBuf) -> Result<Self> {
        let file = File::options().create(true).append(true).open(&output)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut outer = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut found = None;
        let waited = wait_for(Duration::from_secs(20), "the program to start", || {
            found = only_child(outer.id());
            found.is_some() || !matches!(outer.try_wait(), Ok(None))
        });
        match (waited, found) {
            (Ok(()), Some(pid)) => Ok(Self { outer, pid, output }),
            (_, None) => {
                drop(outer.kill());
                drop(outer.wait());
                bail!("{command:?} ended at once:\n{}", read_tail(&output))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The process id of the program, outside the world.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.outer.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("cannot send {signal} to {}", self.pid))
    }

    /// Waits until it has ended, at most so long.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait_for(limit, "the program to end", || {
            status = self.outer.try_wait().ok().flatten();
            status.is_some()
        })?;
        status.context("the program has not ended")
    }

    /// Everything it has printed, errors included, or the end of that.
    pub fn output(&self) -> String {
        read_tail(&self.output)
    }

    /// Memory in use (resident), in bytes.
    pub fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
        Ok(kilobytes.parse::<u64>()? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill(self.pid, Signal::SIGKILL);
            if wait_for(Duration::from_secs(5), "the end", || !self.is_running()).is_err() {
                drop(self.outer.kill());
            }
        }
        drop(self.outer.wait());
    }
}

/// Before a command that measures or delays: it runs as soon as it wants to, where this user may say so, however busy others are.
pub(crate) const FIRST: [&str; 3] = ["nice", "-n", "-10"];

/// Looks for `condition` every few milliseconds, at most so long; the error names `what` was waited for.
pub fn wait_for(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= end {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    Ok(())
}

/// The one child of a process.
fn only_child(parent: u32) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
}

/// The last megabyte of a file.
pub(crate) fn read_tail(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        drop(file.read_to_end(&mut bytes));
    }
    let from = bytes.len().saturating_sub(1 << 20);
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}
