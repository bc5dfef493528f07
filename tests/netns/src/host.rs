//! Namespaces as hosts.

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{Process, wait_for};

/// Hosts that see each other and nothing else; gone with all their processes when it is dropped.
///
/// One world exists on a machine at a time, since tests of timing would disturb each other; but see [`World::aside`].
#[derive(Debug)]
pub struct World {
    ground: Rc<Ground>,
}

/// One machine of a [`World`]: its own interfaces, routes and ports; files are shared.
#[derive(Debug)]
pub struct Host {
    name: String,
    ground: Rc<Ground>,
    holder: Holder,
    files: Cell<u32>,
}

/// What all hosts of a world live in: a user, mount and process namespace.
#[derive(Debug)]
struct Ground {
    // In order of dropping: the namespaces end before their files go.
    init: Holder,
    dir: tempfile::TempDir,
    /// Whether it has its own user namespace, for lack of root.
    own_users: bool,
    _only: Option<File>,
}

/// A process that does nothing but keep its namespaces; it ends when its input does.
#[derive(Debug)]
struct Holder {
    child: Child,
    input: Option<ChildStdin>,
    /// The process in the namespaces.
    pid: u32,
}

impl World {
    /// An empty world, in a user namespace of its own where this process is not root, or `BYWAY_NETNS_USERS` is set.
    pub fn new() -> Result<Self> {
        Self::start(own_users(), true)
    }

    /// The same, without taking turns: for what runs so long that others cannot wait, and bears that they disturb it.
    pub fn aside() -> Result<Self> {
        Self::start(own_users(), false)
    }

    /// An empty world as a user without root gets it, whoever runs the test.
    pub fn unprivileged() -> Result<Self> {
        Self::start(true, true)
    }

    fn start(own_users: bool, alone: bool) -> Result<Self> {
        let lock = std::env::temp_dir().join(format!("byway-netns-{}.lock", nix::unistd::geteuid()));
        let only = alone.then(|| File::options().create(true).append(true).open(&lock)).transpose()?;
        only.as_ref().map_or(Ok(()), File::lock).context("cannot take turns with other tests")?;

        let mut command = Command::new("unshare");
        if own_users {
            command.arg("--map-root-user");
        }
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "cat"]);
        let init = Holder::start(command).context(REMEDY)?;
        let dir = tempfile::Builder::new().prefix("byway-netns-").tempdir()?;
        Ok(Self { ground: Rc::new(Ground { init, dir, own_users, _only: only }) })
    }

    /// A new host, with loopback up.
    pub fn host(&self, name: &str) -> Result<Host> {
        let mut command = self.ground.enter(self.ground.init.pid, true);
        command.args(["unshare", "--net", "--", "cat"]);
        let holder = Holder::start(command).with_context(|| format!("cannot make the host {name}"))?;
        std::fs::create_dir(self.path(name))?;
        let host = Host { name: name.into(), ground: Rc::clone(&self.ground), holder, files: Cell::new(0) };
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// Lets programs of this world, and nobody else, find these names: a name and an address each.
    pub fn names(&self, names: &[(&str, &str)]) -> Result<()> {
        let file = self.path("hosts");
        let lines: String = names.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
        std::fs::write(&file, lines)?;
        // The mount namespace is the world's own, so the file under it stays as it is for all others.
        let mut command = self.ground.enter(self.ground.init.pid, false);
        command.args(["mount", "--bind"]).arg(&file).arg("/etc/hosts");
        text(&command.output()?).context("cannot mount a file over /etc/hosts").map(drop)
    }

    /// A file or folder of this world; it goes with it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.ground.dir.path().join(name)
    }

    /// Joins two hosts with a perfect cable: the interface and its address with length, such as `10.0.1.1/24`, on each.
    pub fn cable(&self, left: (&Host, &str, &str), right: (&Host, &str, &str)) -> Result<()> {
        left.0.ip(&format!("link add {} type veth peer name {} netns {}", left.1, right.1, right.0.pid()))?;
        for (host, interface, address) in [left, right] {
            host.address(interface, address)?;
        }
        Ok(())
    }
}

impl Host {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process whose namespaces are this host's.
    pub fn pid(&self) -> u32 {
        self.holder.pid
    }

    /// Whether programs on it have all rights of root, rather than those of one user who looks like root.
    pub fn is_root(&self) -> bool {
        !self.ground.own_users
    }

    /// A file of this host.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.ground.dir.path().join(&self.name).join(name)
    }

    /// Runs `ip` with these words.
    pub fn ip(&self, words: &str) -> Result<String> {
        // Outside the world's process namespace, so that other hosts can be named by their process.
        let mut command = self.ground.enter(self.pid(), false);
        command.arg("ip").args(words.split_whitespace());
        text(&command.output()?).with_context(|| format!("ip {words} on {}", self.name))
    }

    /// Gives `interface` an address, such as `10.0.1.1/24` or `fd01::1/64`, and sets it up.
    pub fn address(&self, interface: &str, address: &str) -> Result<()> {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {interface}{nodad}"))?;
        self.ip(&format!("link set {interface} up")).map(drop)
    }

    /// A command that will run on this host, with this program and these arguments.
    pub fn command<I, S>(&self, program: impl AsRef<std::ffi::OsStr>, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let mut command = self.ground.enter(self.pid(), true);
        command.arg(program).args(arguments);
        command
    }

    /// Runs a command line, split at blanks, to its end: what it printed, or an error with all it printed.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.output(line)?;
        text(&output).with_context(|| format!("{line} on {}", self.name))
    }

    /// Runs a command line, split at blanks, to its end, whatever that is.
    pub fn output(&self, line: &str) -> Result<Output> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command")?;
        let mut command = self.command(program, words);
        command.stdin(Stdio::null()).output().with_context(|| format!("{line} on {}", self.name))
    }

    /// Starts a command line, split at blanks.
    pub fn start(&self, line: &str) -> Result<Process> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command")?;
        self.spawn(self.command(program, words))
    }

    /// Starts what [`Host::command`] made.
    pub fn spawn(&self, command: Command) -> Result<Process> {
        let number = self.files.replace(self.files.get() + 1);
        Process::start(command, self.path(format!("output-{number}")))
    }
}

impl Ground {
    /// Enters the namespaces of a holder; `inside` also the process namespace, so that nothing outlives the world.
    fn enter(&self, pid: u32, inside: bool) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={pid}")).args(["--net", "--mount"]);
        if self.own_users {
            command.args(["--user", "--preserve-credentials"]);
        }
        if inside {
            command.arg("--pid");
        }
        command.arg("--");
        command
    }

    /// Becomes a part of the world that may enter every host, and still names them by the ids that the test sees.
    fn outside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init.pid)).arg("--pid");
        if self.own_users {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--");
        command
    }
}

impl Host {
    /// A command of the test bed itself, which may enter every host of the world.
    pub(crate) fn outside(&self) -> Command {
        self.ground.outside()
    }
}

impl Holder {
    /// Starts a command that ends in `cat`, and waits until `cat` runs.
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let input = child.stdin.take();
        let mut pid = None;
        let waited = wait_for(Duration::from_secs(20), "a namespace", || {
            pid = runs(child.id(), "cat");
            pid.is_some() || !matches!(child.try_wait(), Ok(None))
        });
        if let (Ok(()), Some(pid)) = (waited, pid) {
            return Ok(Self { child, input, pid });
        }
        drop(child.kill());
        let output = child.wait_with_output()?;
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

/// Whether a world needs users of its own: who is not root may make no other namespaces without.
fn own_users() -> bool {
    !nix::unistd::geteuid().is_root() || std::env::var_os("BYWAY_NETNS_USERS").is_some()
}

/// The descendant of `pid`, or that itself, that runs `program`.
fn runs(pid: u32, program: &str) -> Option<u32> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if name.trim() == program {
        return Some(pid);
    }
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().filter_map(|child| child.parse().ok()).find_map(|child| runs(child, program))
}

/// What a command printed, if it succeeded.
fn text(output: &Output) -> Result<String> {
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{printed}{errors}", output.status);
    Ok(printed.into_owned())
}

/// What to do where namespaces are forbidden.
const REMEDY: &str = "this kernel gives no namespaces to this user: \
    run `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or the tests as root";
