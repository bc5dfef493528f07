//! The demo's network namespaces: helpers are this program again, started before it has threads.
//!
//! The *stage* makes a user namespace, in which it is root, and a network namespace for the relay. Each *cell*, its child,
//! makes one more network namespace. All three take commands as lines and answer each with a line, `ok …` or `no …`;
//! at the end of their input they end what they started, so nothing stays behind even if the demo is killed.
//!
//! ```text
//!  demo ──lines──► stage (relay) ──lines──► cell (ann)
//!                    │  ├ r-ann ═══ cable ═══ eth0
//!                    │  └ r-bob ═══ cable ═══ eth0
//!                    └────lines──► cell (bob)
//! ```

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use byway_identity::Addr;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

use super::scene::{Directory, config};
use super::web;
use crate::failure::Failure;

const STAGE: &str = "__demo-stage";
const CELL: &str = "__demo-cell";
const WEB_PORT: u16 = 8080;
const LINK_PORT: u16 = 2561;
/// Length of the networks that the cables are.
const CABLE_BITS: u8 = 30;

/// The stage, as the demo sees it.
pub(crate) struct Stage(Helper);

/// A helper process and the lines to and from it.
struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// The relay's end and the other end of a cable.
fn cable(name: &str) -> [Ipv4Addr; 2] {
    let network = if name == "ann" { 61 } else { 62 };
    [1, 2].map(|host| Ipv4Addr::new(10, 25, network, host))
}

/// What the daemons are configured with, in the order of the names.
pub(crate) fn configs(directory: &Directory, addrs: &[Addr]) -> [String; 3] {
    let [ann, relay, bob] = [0, 1, 2].map(|index| &addrs[index]);
    let listen = format!("0.0.0.0:{LINK_PORT}");
    let to_relay = |name: &str| [("relay", relay, Some(format!("udp://{}:{LINK_PORT}", cable(name)[0])))];
    let page = format!("[[portal.allow]]\npeer = \"{ann}\"\nports = [\"tcp/{WEB_PORT}\", \"icmp\"]");
    [
        config(&directory.socket("ann"), &listen, "", &to_relay("ann")),
        config(&directory.socket("relay"), &listen, "", &[("ann", ann, None), ("bob", bob, None)]),
        config(&directory.socket("bob"), &listen, &page, &to_relay("bob")),
    ]
}

impl Stage {
    /// Makes the namespaces and the cables, or tells why that is not possible here.
    pub(crate) fn open() -> Result<Self, String> {
        let mut stage = Self(Helper::start(STAGE).map_err(|error| error.to_string())?);
        stage.0.answer().map_err(|error| error.to_string())?;
        Ok(stage)
    }

    /// Starts the daemon `name`.
    pub(crate) fn up(&mut self, name: &str, directory: &Directory) -> Result<(), Failure> {
        let [config, state, log] = [directory.config(name), directory.state(name), directory.log(name)]
            .map(|path| path.display().to_string());
        self.ask(&format!("{name} up {config} {state} {log}")).map(drop)
    }

    /// ann fetches bob's page, at his overlay address.
    pub(crate) fn fetch(&mut self, bob: &str) -> Result<web::Page, Failure> {
        self.ask(&format!("bob serve {bob}"))?;
        let page = self.ask(&format!("ann fetch {bob}"))?;
        serde_json::from_str(&page).map_err(|error| Failure::could_not(error.to_string()))
    }

    fn ask(&mut self, line: &str) -> Result<String, Failure> {
        self.0.ask(line).map_err(|error| Failure::no(error.to_string()))
    }

    /// Ends everything.
    pub(crate) fn end(mut self) {
        self.0.end();
    }
}

impl Helper {
    fn start(role: &str) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            // Ctrl-C is for the demo, which ends its helpers in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| io::Error::other("a helper has no output"))?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn ask(&mut self, line: &str) -> io::Result<String> {
        let input = self.input.as_mut().ok_or_else(|| io::Error::other("the helper has ended"))?;
        writeln!(input, "{line}")?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match line.trim_end().split_once(' ') {
            Some(("ok", rest)) => Ok(rest.to_owned()),
            Some(("no", reason)) => Err(io::Error::other(reason.to_owned())),
            _ => Err(io::Error::other("a helper has ended early")),
        }
    }

    fn end(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs this process as a helper, if it was started as one.
pub(crate) fn helper() -> Option<ExitCode> {
    let role = std::env::args_os().nth(1)?;
    let result = match role.to_str()? {
        STAGE => stage(),
        CELL => cell(),
        _ => return None,
    };
    Some(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What one helper runs, and its cells.
#[derive(Default)]
struct Players {
    daemons: Vec<Child>,
    cells: Vec<(&'static str, Helper)>,
}

fn stage() -> io::Result<()> {
    let mut players = Players::default();
    match set_up(&mut players) {
        Ok(()) => say("ok ready")?,
        Err(error) => return say(&format!("no {error}")),
    }
    players.obey()
}

fn set_up(players: &mut Players) -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    tun.map_err(|error| io::Error::new(error.kind(), format!("/dev/net/tun: {error}")))?;
    for name in ["ann", "bob"] {
        let mut cell = Helper::start(CELL)?;
        cell.answer()?;
        players.cells.push((name, cell));
    }
    with_netlink(async |netlink| {
        up(netlink, "lo").await?;
        for (name, cell) in &players.cells {
            let ours = format!("r-{name}");
            netlink.link().add(LinkVeth::new(&ours, "eth0").build()).execute().await?;
            let theirs = LinkUnspec::new_with_name("eth0").setns_by_pid(cell.child.id()).build();
            netlink.link().set(theirs).execute().await?;
            address(netlink, &ours, cable(name)[0]).await?;
            up(netlink, &ours).await?;
        }
        Ok(())
    })?;
    for (name, cell) in &mut players.cells {
        cell.ask(&format!("net {}", cable(name)[1]))?;
    }
    Ok(())
}

fn cell() -> io::Result<()> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => say("ok ready")?,
        Err(error) => return say(&format!("no {error}")),
    }
    Players::default().obey()
}

impl Players {
    /// Does what the lines of the input say, and ends everything at their end.
    fn obey(mut self) -> io::Result<()> {
        for line in io::stdin().lines() {
            match self.act(&line?) {
                Ok(answer) => say(&format!("ok {answer}"))?,
                Err(error) => say(&format!("no {}", error.to_string().replace('\n', " ")))?,
            }
        }
        self.cells.clear();
        for daemon in &mut self.daemons {
            if matches!(daemon.try_wait(), Ok(None)) {
                let pid = i32::try_from(daemon.id()).map_err(io::Error::other)?;
                // It may end by itself in this moment.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            daemon.wait()?;
        }
        Ok(())
    }

    fn act(&mut self, line: &str) -> io::Result<String> {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some((_, cell)) = self.cells.iter_mut().find(|(name, _)| *name == first) {
            return cell.ask(rest);
        }
        let line = if first == "relay" { rest } else { line };
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["net", ip] => {
                let ip = ip.parse().map_err(io::Error::other)?;
                with_netlink(async |netlink| {
                    up(netlink, "lo").await?;
                    address(netlink, "eth0", ip).await?;
                    up(netlink, "eth0").await
                })?;
            }
            ["up", config, state, log] => self.daemons.push(daemon(config, state, log)?),
            ["serve", ip] => {
                let listener = TcpListener::bind(web_address(ip)?)?;
                std::thread::spawn(move || web::serve(&listener));
            }
            ["fetch", ip] => return Ok(serde_json::to_string(&web::fetch(web_address(ip)?)?)?),
            _ => return Err(io::Error::other("a helper was told something that it does not know")),
        }
        Ok("done".into())
    }
}

fn web_address(ip: &str) -> io::Result<SocketAddr> {
    let ip: Ipv6Addr = ip.parse().map_err(io::Error::other)?;
    Ok((ip, WEB_PORT).into())
}

fn daemon(config: &str, state: &str, log: &str) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["up", "--config", config, "--state", state])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(Path::new(log))?)
        .spawn()
}

fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

fn with_netlink(work: impl AsyncFnOnce(&Handle) -> Result<(), rtnetlink::Error>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let result = work(&handle).await.map_err(|error| io::Error::other(error.to_string()));
        connection.abort();
        result
    })
}

async fn up(netlink: &Handle, device: &str) -> Result<(), rtnetlink::Error> {
    netlink.link().set(LinkUnspec::new_with_name(device).up().build()).execute().await
}

async fn address(netlink: &Handle, device: &str, ip: Ipv4Addr) -> Result<(), rtnetlink::Error> {
    let index = nix::net::if_::if_nametoindex(device).map_err(|_| rtnetlink::Error::RequestFailed)?;
    netlink.address().add(index, IpAddr::V4(ip), CABLE_BITS).execute().await
}
