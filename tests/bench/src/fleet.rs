//! Three daemons in a line, A–B–C, on the loopback of this machine: A and C know B and not each other.
//!
//! Loopback rather than namespaces, so that the benchmark needs no rights; the kernel's part of the way is about as short as
//! over a veth pair. Every daemon is a process of its own, and ends with the fleet.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use byway_identity::{Addr, Entropy, OsEntropy, SigningKey};
use tokio::process::{Child, Command};

/// How long daemons may take to start and find each other.
pub const START: Duration = Duration::from_secs(30);

/// Daemons of one kind, in a line.
pub struct Fleet {
    /// Their sockets, in the order of the line.
    apis: Vec<PathBuf>,
    /// Logs, for the case that something goes wrong.
    logs: Vec<PathBuf>,
    processes: Vec<Child>,
    _folder: tempfile::TempDir,
}

/// A daemon before it runs.
struct Plan {
    folder: PathBuf,
    addr: Addr,
    port: u16,
}

impl Fleet {
    /// Three of our daemons, with the program `byway`.
    pub async fn byway(byway: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let plans = plan(folder.path(), |folder| {
            let key = SigningKey::generate(&mut OsEntropy as &mut dyn Entropy);
            byway_identity::keyfile::create(&folder.join("identity.pem"), &key, None)?;
            Ok(key.public().addr())
        })?;
        for (index, plan) in plans.iter().enumerate() {
            let mut config = format!(
                "[node]\nkey = \"{0}/identity.pem\"\n[api]\nlisten = [\"unix:{0}/api.sock\"]\n[mancon]\ndefault = \"low\"\ndirect = true\n\
                 [portal]\nenabled = false\n[links]\nudp.listen = [\"127.0.0.1:{1}\"]\n",
                plan.folder.display(),
                plan.port,
            );
            for (neighbour, peer) in neighbours(index, &plans) {
                // One end of each link dials.
                let endpoints = if neighbour < index {
                    format!("\"udp://127.0.0.1:{}\"", peer.port)
                } else {
                    String::new()
                };
                config += &format!("[[peers]]\naddr = \"{}\"\nendpoints = [{endpoints}]\n", peer.addr);
            }
            std::fs::write(plan.folder.join("byway.toml"), config)?;
        }
        Self::start(folder, &plans, |plan| {
            let mut command = Command::new(byway);
            command
                .arg("up")
                .arg("--config")
                .arg(plan.folder.join("byway.toml"))
                .arg("--state")
                .arg(&plan.folder);
            command
        })
        .await
    }

    /// Three daemons of INET256's reference, with the program `inet256`.
    pub async fn inet256(inet256: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let plans = plan(folder.path(), |folder| {
            let run = |arguments: &[&str]| -> Result<Vec<u8>> {
                let output =
                    std::process::Command::new(inet256).args(arguments).current_dir(folder).output()?;
                ensure!(
                    output.status.success(),
                    "inet256 {arguments:?}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
                Ok(output.stdout)
            };
            std::fs::write(folder.join("key"), run(&["keygen"])?)?;
            let addr = String::from_utf8(run(&["addr", "--private-key", "key"])?)?;
            Ok(addr.trim().parse()?)
        })?;
        for (index, plan) in plans.iter().enumerate() {
            let mut config = format!(
                "private_key_path: ./key\napi_endpoint: unix://{}/api.sock\nnetwork:\n    beaconnet: {{}}\ntransports:\n    - udp: 127.0.0.1:{}\npeers:\n",
                plan.folder.display(),
                plan.port,
            );
            for (_, peer) in neighbours(index, &plans) {
                config += &format!(
                    "- id: {0}\n  addrs: [\"quic+udp://{0}@127.0.0.1:{1}\"]\n",
                    peer.addr, peer.port
                );
            }
            config += "discovery: []\n";
            std::fs::write(plan.folder.join("config.yml"), config)?;
        }
        Self::start(folder, &plans, |plan| {
            let mut command = Command::new(inet256);
            command.arg("daemon").arg("--config").arg(plan.folder.join("config.yml"));
            command
        })
        .await
    }

    async fn start(
        folder: tempfile::TempDir,
        plans: &[Plan],
        command: impl Fn(&Plan) -> Command,
    ) -> Result<Self> {
        let mut fleet = Self { apis: Vec::new(), logs: Vec::new(), processes: Vec::new(), _folder: folder };
        for plan in plans {
            let log = plan.folder.join("log");
            let file = std::fs::File::create(&log)?;
            let mut command = command(plan);
            command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
            fleet.processes.push(command.spawn().with_context(|| format!("{command:?}"))?);
            fleet.apis.push(plan.folder.join("api.sock"));
            fleet.logs.push(log);
        }
        let begin = Instant::now();
        for api in &fleet.apis {
            while tokio::net::UnixStream::connect(api).await.is_err() {
                ensure!(begin.elapsed() < START, "a daemon does not start; its log:\n{}", fleet.logs());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(fleet)
    }

    /// The socket of the daemon with this place in the line.
    pub fn api(&self, index: usize) -> &Path {
        &self.apis[index]
    }

    /// User and system time of all daemons so far.
    pub fn cpu(&self) -> Duration {
        let ticks: u64 = self.processes.iter().filter_map(|process| cpu_ticks(process.id()?)).sum();
        // The unit of /proc on every Linux that Rust runs on.
        Duration::from_millis(ticks * 10)
    }

    /// What the daemons printed.
    pub fn logs(&self) -> String {
        let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        self.logs.iter().map(read).collect::<Vec<_>>().join("\n")
    }

    /// Ends the daemons, and waits until they have ended.
    pub async fn stop(mut self) -> Result<()> {
        for process in &mut self.processes {
            process.kill().await?;
        }
        Ok(())
    }
}

/// Folders, keys and ports for three daemons.
fn plan(folder: &Path, mut key: impl FnMut(&Path) -> Result<Addr>) -> Result<Vec<Plan>> {
    // Held until all are chosen, so that no two are the same.
    let sockets: Vec<_> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut plans = Vec::new();
    for (index, socket) in sockets.iter().enumerate() {
        let folder = folder.join(["a", "b", "c"][index]);
        std::fs::create_dir(&folder)?;
        restrict(&folder)?;
        plans.push(Plan { addr: key(&folder)?, port: socket.local_addr()?.port(), folder });
    }
    Ok(plans)
}

fn restrict(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?)
}

fn neighbours(index: usize, plans: &[Plan]) -> impl Iterator<Item = (usize, &Plan)> {
    plans.iter().enumerate().filter(move |(other, _)| other.abs_diff(index) == 1)
}

/// utime + stime of a process, in hundredths of a second.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets, which may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// The program `name` in PATH, if it is there.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The program `byway` that was built next to this one.
pub fn built_byway() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Tests run in `deps`, programs are one folder up.
    match own.ancestors().skip(1).take(2).map(|folder| folder.join("byway")).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("byway is not built; run: cargo build -p byway"),
    }
}
