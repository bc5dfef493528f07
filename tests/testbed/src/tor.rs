//! A private Tor network: authorities, relays, clients.
//!
//! The one delicate thing is the first vote. A consensus that is made before every relay has told every authority of itself
//! lacks some of them until the next one, five minutes later. So the vote is set far into the future at first, and called for as
//! soon as all authorities know all relays, however long that took on this machine.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use byway_netns::{Host, Process, wait_for};
use nix::sys::signal::Signal;

use crate::{PATIENCE, installed};

/// A network that is ready for clients.
pub struct TorNetwork {
    common: String,
    /// They end with this.
    routers: Vec<Router>,
}

/// A tor as a user has it.
pub struct TorClient {
    /// Its SOCKS port on loopback.
    pub socks: u16,
    /// Its control port on loopback.
    pub port: u16,
    auth: Auth,
    folder: PathBuf,
    process: Option<Process>,
}

/// What a client's control port asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// The cookie.
    Cookie,
    /// This password.
    Password(&'static str),
}

struct Router {
    name: String,
    folder: PathBuf,
    /// Of authorities.
    identity: Option<String>,
    fingerprint: String,
    or_port: u16,
    dir_port: u16,
    process: Option<Process>,
}

/// Onion service paths need a guard, three more hops, and others to choose from.
const AUTHORITIES: u16 = 3;
const RELAYS: u16 = 5;
const GUARDS: usize = 3;
/// Seconds between consensuses.
const INTERVAL: u64 = 300;
/// How far away the first vote is, until it is called for.
const FAR: u64 = 280;

impl TorNetwork {
    /// Starts one on `host`, and waits until clients can use it.
    pub fn start(host: &Host) -> Result<Self> {
        let mut routers = make_keys(host)?;
        let common = common(&routers);
        let bandwidths = host.path("bandwidths");
        std::fs::write(&bandwidths, bandwidths_of(&routers))?;
        let offset = (now() + FAR) % INTERVAL;
        let guards: Vec<_> = relays(&routers).take(GUARDS).map(|relay| relay.fingerprint.clone()).collect();
        for router in &mut routers {
            let mut text = format!("{common}{}", router.torrc());
            if router.identity.is_some() {
                text += &authority(router, &guards, &bandwidths, offset);
            }
            router.process = Some(launch(host, &router.folder, &text)?);
        }
        let mut network = Self { common, routers };
        network.vote()?;
        network.spread()?;
        Ok(network)
    }

    /// A client on the same host; `number` tells clients apart. It is ready when this returns.
    pub fn client(&self, host: &Host, number: u16, auth: Auth) -> Result<TorClient> {
        let folder = host.path(format!("client{number}"));
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let (socks, port) = (9_050 + 2 * number, 9_051 + 2 * number);
        let mut text = format!(
            "{}DataDirectory {}\nClientOnly 1\nSocksPort 127.0.0.1:{socks}\nControlPort 127.0.0.1:{port}\nLog [*,~control]notice stdout\n\
             ControlSocket {}\nEnforceDistinctSubnets 0\nShutdownWaitLength 0\n",
            self.common,
            folder.display(),
            folder.join("control").display()
        );
        match auth {
            Auth::Cookie => text += "CookieAuthentication 1\n",
            Auth::Password(password) => {
                let tor = installed("tor", "tor")?;
                let output =
                    host.command(tor, ["--hash-password", password]).stdin(Stdio::null()).output()?;
                let printed = String::from_utf8_lossy(&output.stdout);
                let hash = printed.lines().rev().find(|line| line.starts_with("16:")).context("no hash")?;
                writeln!(text, "HashedControlPassword {hash}")?;
            }
        }
        std::fs::write(folder.join("torrc"), text)?;
        let mut client = TorClient { socks, port, auth, folder, process: None };
        client.start(host)?;
        Ok(client)
    }

    /// Has the authorities vote as soon as they know everybody.
    fn vote(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let all: Vec<_> = self.routers.iter().map(|router| router.fingerprint.clone()).collect();
        let authorities = || self.routers.iter().filter(|router| router.identity.is_some());
        for authority in authorities() {
            wait_for(PATIENCE, "every relay's description at every authority", || {
                all.iter().all(|id| authority.asks(&format!("GETINFO desc/id/{id}")).is_ok())
            })
            .with_context(|| authority.log())?;
        }
        let mut delay = 2;
        while Instant::now() < end {
            let first = now() + 2 * delay + 2;
            for authority in authorities() {
                authority.asks(&format!(
                    "SETCONF TestingV3AuthInitialVoteDelay={delay} TestingV3AuthInitialDistDelay={delay} \
                     TestingV3AuthVotingStartOffset={}",
                    first % INTERVAL
                ))?;
            }
            let patience = Duration::from_secs(first.saturating_sub(now()) + delay + 3);
            let has_one = |router: &Router| router.asks("GETINFO consensus/valid-after").is_ok();
            if wait_for(patience, "the first consensus", || authorities().all(has_one)).is_ok() {
                return Ok(());
            }
            // A busy machine: again, with more time for each step.
            delay = (2 * delay).min(16);
        }
        let logs: Vec<_> = authorities().map(Router::log).collect();
        bail!("the authorities came to no consensus:\n{}", logs.join("\n"))
    }

    /// Waits until every relay knows every other.
    fn spread(&self) -> Result<()> {
        let all: Vec<_> = self.routers.iter().map(|router| &router.fingerprint).collect();
        for router in relays(&self.routers) {
            let mut asked = Instant::now();
            wait_for(PATIENCE, "the consensus at every relay", || {
                let knows = |question: &str| router.asks(question).is_ok();
                if knows("GETINFO consensus/valid-after")
                    && all.iter().all(|id| knows(&format!("GETINFO md/id/{id}")))
                {
                    return true;
                }
                // It forgets its pauses, and downloads again at once.
                if asked.elapsed() > Duration::from_secs(1) {
                    asked = Instant::now();
                    let _ = router.asks("SIGNAL RELOAD");
                }
                false
            })
            .with_context(|| router.log())?;
        }
        Ok(())
    }
}

impl TorClient {
    /// Starts it, and waits until it has a way into the network.
    pub fn start(&mut self, host: &Host) -> Result<()> {
        let process = spawn(host, &self.folder)?;
        let mut asked = Instant::now();
        let waited = wait_for(PATIENCE, "a client's way into the network", || {
            let info =
                self.asks("GETINFO status/bootstrap-phase status/circuit-established").unwrap_or_default();
            if info.contains("PROGRESS=100") && info.contains("circuit-established=1") {
                return true;
            }
            if asked.elapsed() > Duration::from_secs(3) {
                asked = Instant::now();
                let _ = self.asks("SIGNAL RELOAD");
            }
            false
        });
        waited.with_context(|| process.output())?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it.
    pub fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it does not run")?;
        process.signal(Signal::SIGTERM)?;
        process.wait(Duration::from_secs(20)).map(drop)
    }

    /// The answer of its control socket.
    pub fn asks(&self, line: &str) -> Result<String> {
        let secret = match self.auth {
            Auth::Cookie => std::fs::read(self.folder.join("control_auth_cookie"))?,
            Auth::Password(password) => password.into(),
        };
        let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        ask(&self.folder.join("control"), &[&format!("AUTHENTICATE {digits}"), line])
    }
}

impl Router {
    fn torrc(&self) -> String {
        let Self { name, folder, or_port, .. } = self;
        let folder = folder.display();
        format!(
            "DataDirectory {folder}\nNickname {name}\nAddress 127.0.0.1\nORPort 127.0.0.1:{or_port} IPv4Only\nSocksPort 0\n\
             ControlSocket {folder}/control\nLog [*,~control]notice stdout\nExitRelay 0\nExitPolicy reject *:*\nAssumeReachable 1\n\
             ContactInfo none@example.org\nShutdownWaitLength 0\nNumCPUs 1\nServerDNSDetectHijacking 0\n\
             DoSCircuitCreationEnabled 0\nDoSConnectionEnabled 0\n"
        )
    }

    fn asks(&self, line: &str) -> Result<String> {
        ask(&self.folder.join("control"), &["AUTHENTICATE", line])
    }

    fn log(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }
}

fn relays(routers: &[Router]) -> impl Iterator<Item = &Router> {
    routers.iter().filter(|router| router.identity.is_none())
}

/// Lines that every tor of the network has.
fn common(routers: &[Router]) -> String {
    let mut text = "TestingTorNetwork 1\n".to_owned();
    for Router { name, identity, fingerprint, or_port, dir_port, .. } in routers {
        if let Some(identity) = identity {
            text += &format!(
                "DirAuthority {name} orport={or_port} v3ident={identity} 127.0.0.1:{dir_port} {fingerprint}\n"
            );
        }
    }
    text
}

/// Lines of an authority. Guards are some and not all, and bandwidths are given, else no relay is fit for the middle.
fn authority(router: &Router, guards: &[String], bandwidths: &Path, offset: u64) -> String {
    format!(
        "AuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\nDirPort 127.0.0.1:{} IPv4Only\nAuthDirPinKeys 0\n\
         AuthDirMaxServersPerAddr 0\nV3AuthVotingInterval {INTERVAL} seconds\nV3AuthVoteDelay 20 seconds\n\
         V3AuthDistDelay 20 seconds\nTestingV3AuthInitialVotingInterval {INTERVAL} seconds\n\
         TestingV3AuthInitialVoteDelay 2 seconds\nTestingV3AuthInitialDistDelay 2 seconds\n\
         TestingV3AuthVotingStartOffset {offset}\nTestingAuthDirTimeToLearnReachability 0\n\
         TestingDirAuthVoteGuard {}\nTestingDirAuthVoteGuardIsStrict 1\nTestingDirAuthVoteHSDir *\n\
         AuthDirVoteStableGuaranteeMinUptime 0\nAuthDirVoteStableGuaranteeMTBF 0\nTestingMinFastFlagThreshold 0\n\
         MinUptimeHidServDirectoryV2 0\nV3BandwidthsFile {}\n",
        router.dir_port,
        guards.join(","),
        bandwidths.display()
    )
}

fn bandwidths_of(routers: &[Router]) -> String {
    let lines = routers
        .iter()
        .map(|router| format!("node_id=${} bw=1000 nick={}\n", router.fingerprint, router.name));
    format!("{}\n{}", now(), lines.collect::<String>())
}

/// Makes the keys of all routers, side by side: most of the work is in primes.
fn make_keys(host: &Host) -> Result<Vec<Router>> {
    let (tor, gencert) = (installed("tor", "tor")?, installed("tor-gencert", "tor")?);
    let mut routers = Vec::new();
    let mut under_way = Vec::new();
    let names =
        (0..AUTHORITIES).map(|number| ("auth", number)).chain((0..RELAYS).map(|number| ("relay", number)));
    for (kind, number) in names {
        let is_authority = kind == "auth";
        let name = format!("{kind}{number}");
        let or_port = if is_authority { 5_000 } else { 5_100 } + number;
        let (folder, dir_port) = (host.path(&name), 7_000 + number);
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder.join("keys"))?;
        if is_authority {
            let mut command =
                host.command(&gencert, ["--create-identity-key", "--passphrase-fd", "0", "-m", "12", "-a"]);
            command.arg(format!("127.0.0.1:{dir_port}"));
            for (option, file) in [("-i", "identity_key"), ("-s", "signing_key"), ("-c", "certificate")] {
                command.arg(option).arg(folder.join(format!("keys/authority_{file}")));
            }
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            child.stdin.take().context("it is piped")?.write_all(b"no secret\n")?;
            under_way.push(child);
        }
        let (identity, fingerprint) = (None, String::new());
        routers.push(Router { name, folder, identity, fingerprint, or_port, dir_port, process: None });
    }
    for router in &mut routers {
        let mut command = host.command(
            &tor,
            [
                "--list-fingerprint",
                "-f",
                "/dev/null",
                "--ignore-missing-torrc",
                "--defaults-torrc",
                "/dev/null",
            ],
        );
        command.arg("--DataDirectory").arg(&router.folder).args([
            "--Nickname",
            &router.name,
            "--SocksPort",
            "0",
        ]);
        command.args(["--ORPort", &format!("127.0.0.1:{}", router.or_port), "--Address", "127.0.0.1"]);
        // Nothing is sent; but without an authority a testing network is refused.
        let stand_in = format!("x orport=1 v3ident={} 127.0.0.1:1 {}", "A".repeat(40), "B".repeat(40));
        command.args(["--DirAuthority", &stand_in, "--TestingTorNetwork", "1", "--ExitRelay", "0"]);
        let output = command.stdin(Stdio::null()).output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let line = printed.lines().rev().find_map(|line| line.strip_prefix(&format!("{} ", router.name)));
        router.fingerprint = line.map(|line| line.replace(' ', "")).unwrap_or_default();
        ensure!(router.fingerprint.len() == 40, "no fingerprint:\n{printed}");
    }
    let finished: Result<Vec<_>> = under_way.into_iter().map(finish).collect();
    finished?;
    for router in routers.iter_mut().filter(|router| router.name.starts_with("auth")) {
        let certificate = std::fs::read_to_string(router.folder.join("keys/authority_certificate"))?;
        let line = certificate.lines().find_map(|line| line.strip_prefix("fingerprint "));
        router.identity = Some(line.context("a certificate without a fingerprint")?.to_owned());
    }
    Ok(routers)
}

fn finish(child: Child) -> Result<()> {
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "tor-gencert: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn launch(host: &Host, folder: &Path, torrc: &str) -> Result<Process> {
    std::fs::write(folder.join("torrc"), torrc)?;
    spawn(host, folder)
}

fn spawn(host: &Host, folder: &Path) -> Result<Process> {
    let mut command = host.command(installed("tor", "tor")?, ["--defaults-torrc", "/dev/null", "-f"]);
    command.arg(folder.join("torrc"));
    host.spawn(command)
}

/// Says lines to a control socket; the last answer, if all were done.
fn ask(socket: &Path, lines: &[&str]) -> Result<String> {
    // Whoever asks again and again should not keep tor from its work.
    std::thread::park_timeout(Duration::from_millis(20));
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut answer = String::new();
    for line in lines {
        write!(stream, "{line}\r\n")?;
        answer.clear();
        let mut is_data = false;
        loop {
            let start = answer.len();
            ensure!(reader.read_line(&mut answer)? > 0, "tor ended the conversation");
            let said = &answer[start..];
            if is_data {
                is_data = said.trim_end() != ".";
            } else if said.as_bytes().get(3) == Some(&b'+') {
                is_data = true;
            } else if said.as_bytes().get(3) == Some(&b' ') {
                ensure!(said.starts_with("250"), "{line}: {}", said.trim_end());
                break;
            }
        }
    }
    Ok(answer)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
