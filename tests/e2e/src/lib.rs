//! Daemons and commands as processes on one machine, over loopback, without root.
//!
//! [`World`] is a directory with daemons in it; [`World::byway`] runs one command to its end. Nothing waits for a fixed time:
//! each wait is for a condition, and has an end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use byway_client::{Client, Daemon};
use byway_identity::{Addr, OsEntropy, SigningKey, keyfile};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with daemons in it; they end with it.
pub struct World {
    directory: tempfile::TempDir,
}

/// A daemon's files, and its process while it runs.
pub struct Process {
    /// Its name in this world.
    pub name: String,
    /// Its address.
    pub addr: Addr,
    directory: PathBuf,
    child: Option<Child>,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    /// Exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to stdout.
    pub data: String,
    /// What it wrote to stderr.
    pub notes: String,
}

/// The binary under test, which stands beside the folder of this test.
///
/// # Panics
///
/// When it is not there.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the system knows what runs");
    let path = test.parent().and_then(Path::parent).map(|profile| profile.join("byway"));
    let path = path.filter(|path| path.exists());
    path.expect("the binary is not there; build it first: cargo build -p byway")
}

/// Waits until `check` gives something.
///
/// # Panics
///
/// When it does not within [`PATIENCE`]; `what` says what was waited for.
pub async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

impl World {
    /// An empty one.
    ///
    /// # Panics
    ///
    /// Like all functions here, when the system does not play along.
    #[expect(clippy::new_without_default, reason = "it makes a directory, which no default should")]
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("room for files") }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A daemon that does not run yet, with a key and a configuration: [`Process::minimal`] and `extra`.
    pub fn daemon(&self, name: &str, extra: &str) -> Process {
        let directory = self.path(name);
        fs::create_dir(&directory).expect("a new name");
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("ours");
        let key = SigningKey::generate(&mut OsEntropy);
        keyfile::create(&directory.join("identity.pem"), &key, None).expect("a new file");
        let process = Process { name: name.into(), addr: key.public().addr(), directory, child: None };
        process.configure(extra);
        process
    }

    /// Two linked daemons that run.
    pub async fn pair(&self) -> (Process, Process) {
        let mut ann = self.daemon("ann", "");
        let mut bob = self.daemon("bob", &format!("[[peers]]\nname = \"ann\"\naddr = \"{}\"\n", ann.addr));
        let client = bob.start().await;
        let endpoint = client.status().await.expect("it runs").endpoints.remove(0);
        ann.configure(&peer("bob", &bob.addr, &endpoint));
        let client = ann.start().await;
        until("the link", async || (client.status().await.expect("it runs").peers_up == 1).then_some(()))
            .await;
        (ann, bob)
    }

    /// Runs a command to its end.
    pub async fn byway(&self, args: &[&str]) -> Ran {
        run(args, &[], b"").await
    }
}

/// The configuration of a peer.
pub fn peer(name: &str, addr: &Addr, endpoint: &str) -> String {
    format!("[[peers]]\nname = \"{name}\"\naddr = \"{addr}\"\nendpoints = [{endpoint:?}]\n")
}

/// Runs a command with `variables` set, gives it `input`, and waits for its end.
pub async fn run(args: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Ran {
    let mut child = Command::new(binary())
        .args(args)
        .env_remove("BYWAY_API")
        .env_remove("BYWAY_PASSPHRASE")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // A command may end before it has read everything.
    let writer = tokio::spawn(async move { drop(stdin.write_all(&input).await) });
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{args:?} does not end")).expect("it is waited for once");
    writer.await.expect("writing does not panic");
    Ran {
        status: output.status.code(),
        data: String::from_utf8_lossy(&output.stdout).into_owned(),
        notes: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Process {
    /// What every daemon here is configured with: it listens on loopback, at a port that the system chooses.
    pub fn minimal(&self) -> String {
        format!(
            "[api]\nlisten = [\"unix:{}\"]\n[mancon]\ndefault = \"low\"\ndirect = true\n[portal]\nenabled = false\n\
             [links]\nudp.listen = [\"127.0.0.1:0\"]\n",
            self.socket().display()
        )
    }

    /// Writes [`Process::minimal`] and `extra` as the configuration.
    pub fn configure(&self, extra: &str) {
        fs::write(self.config(), self.minimal() + extra).expect("ours");
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("byway.toml")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.clone()
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("api.sock")
    }

    /// The API, for `--api`.
    pub fn api(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Starts it, and waits until it serves.
    pub async fn start(&mut self) -> Daemon {
        self.start_with(&[], &[]).await
    }

    /// Starts it with more arguments and variables, and waits until it serves.
    pub async fn start_with(&mut self, args: &[&str], variables: &[(&str, &str)]) -> Daemon {
        let log = File::create(self.directory.join("log")).expect("ours");
        let child = Command::new(binary())
            .arg("up")
            .arg("--config")
            .arg(self.config())
            .arg("--state")
            .arg(self.state())
            .args(args)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("BYWAY_PASSPHRASE")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        self.child = Some(child);
        self.client().await
    }

    /// A client, as soon as the daemon answers.
    pub async fn client(&mut self) -> Daemon {
        let client = Client::new(&self.api()).expect("a good URL");
        let child = self.child.as_mut().expect("it was started");
        let daemon = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Ok(daemon) = client.connect().await {
                    return Some(daemon);
                }
                if child.try_wait().expect("it is our child").is_some() {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let Ok(Some(daemon)) = daemon.await else { panic!("{} does not serve:\n{}", self.name, self.log()) };
        daemon
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it runs");
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs");
        i32::try_from(id).expect("processes have small numbers")
    }

    /// Waits for its end: the exit status, none if a signal ended it.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("it was started");
        let status = tokio::time::timeout(PATIENCE, child.wait()).await;
        status.unwrap_or_else(|_| panic!("{} does not end", self.name)).expect("it is our child").code()
    }

    /// Ends it the hard way.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        assert_eq!(self.ended().await, None, "it had no chance to exit");
    }

    /// Runs a command against it.
    pub async fn byway(&self, args: &[&str]) -> Ran {
        self.byway_with(args, b"").await
    }

    /// Runs a command against it with `input`.
    pub async fn byway_with(&self, args: &[&str], input: &[u8]) -> Ran {
        run(args, &[("BYWAY_API", &self.api())], input).await
    }

    /// Starts a command against it that goes on by itself.
    pub fn background(&self, args: &[&str]) -> Background {
        let mut child = Command::new(binary())
            .args(args)
            .env("BYWAY_API", self.api())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let stdout = child.stdout.take().expect("it is piped");
        Background { child, lines: tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout)) }
    }
}

/// A command that goes on by itself.
pub struct Background {
    child: Child,
    lines: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
}

impl Background {
    /// The next line that it prints.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
        line.expect("it is readable").expect("it still prints")
    }

    /// Sends it Ctrl-C and waits for its end: the exit status.
    pub async fn interrupt(mut self) -> Option<i32> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        kill(Pid::from_raw(id), Signal::SIGINT).expect("it runs");
        self.ended().await
    }

    /// Waits for its end: the exit status.
    pub async fn ended(&mut self) -> Option<i32> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends");
        status.expect("it is our child").code()
    }
}

/// A running daemon with a client of it.
pub struct Kept {
    /// The process.
    pub process: Process,
    /// A client.
    pub client: Daemon,
    /// Where its API listens.
    pub url: String,
}

impl Process {
    /// Starts it, and keeps it with a client.
    pub async fn start_and_keep(mut self) -> Kept {
        let client = self.start().await;
        let url = self.api();
        Kept { process: self, client, url }
    }
}
