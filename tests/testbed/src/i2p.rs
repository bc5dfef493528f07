//! A private I2P network: i2pd routers that know each other from the start.
//!
//! Routers of the public network learn of others by a reseed server. Here each router runs for a moment to make its keys and its
//! description, is ended, and starts again with everybody's description in its database. They live on 198.18.0.x: i2pd before
//! 2.54 takes no peers on loopback or in private networks, whatever its configuration says.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use byway_netns::{Host, Process, wait_for};
use nix::sys::signal::Signal;

use crate::{PATIENCE, installed};

/// A network that runs.
pub struct I2pNetwork {
    routers: Vec<Router>,
}

struct Router {
    folder: PathBuf,
    process: Option<Process>,
}

/// i2pd wants at least five floodfills, and tunnels some routers to choose from.
const ROUTERS: usize = 8;
const FLOODFILLS: usize = 6;
/// The SAM bridge of router k is at this port and k.
const SAM: u16 = 7_656;
/// Not the public network's, which is 2.
const NETWORK: u8 = 77;

impl I2pNetwork {
    /// Starts one on `host`. Its routers build tunnels from then on; sessions wait for that.
    pub fn start(host: &Host) -> Result<Self> {
        let mut network = Self { routers: Vec::new() };
        for number in 0..ROUTERS {
            host.ip(&format!("addr add {}/32 dev lo", address(number)))?;
            network.routers.push(Router::new(host, number)?);
        }
        for router in &mut network.routers {
            router.start(host)?;
        }
        let mut descriptions = Vec::new();
        for router in &mut network.routers {
            descriptions.push(router.description()?);
            router.end(Signal::SIGKILL)?;
        }
        for (number, router) in network.routers.iter_mut().enumerate() {
            let others = descriptions.iter().enumerate().filter(|(other, _)| *other != number);
            router.know(others.map(|(_, description)| &description[..]))?;
            router.start(host)?;
        }
        Ok(network)
    }

    /// The SAM bridge of a router, on loopback.
    pub fn sam(&self, number: usize) -> u16 {
        sam(number)
    }

    /// What ended by itself, with its log: an i2pd of Debian 12 does so now and then.
    pub fn dead(&mut self) -> Vec<String> {
        let running = self.routers.iter_mut().filter_map(|router| router.process.as_mut());
        let dead = running.filter_map(|process| (!process.is_running()).then(|| process.output()));
        dead.collect()
    }
}

impl Router {
    fn new(host: &Host, number: usize) -> Result<Self> {
        let folder = host.path(format!("router{number}"));
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        fs::create_dir_all(folder.join("tunnels.d"))?;
        fs::write(folder.join("tunnels.conf"), "")?;
        // With the address book off, or without these files, i2pd 2.45 crashes.
        for name in ["hosts.txt", "subscriptions.txt"] {
            fs::write(folder.join(name), "# none\n")?;
        }
        fs::write(folder.join("i2pd.conf"), configuration(number))?;
        Ok(Self { folder, process: None })
    }

    fn start(&mut self, host: &Host) -> Result<()> {
        let mut command: Command = host.command(installed("i2pd", "i2pd")?, [] as [&str; 0]);
        for (option, name) in [
            ("datadir", ""),
            ("conf", "i2pd.conf"),
            ("tunconf", "tunnels.conf"),
            ("tunnelsdir", "tunnels.d"),
            ("certsdir", "certificates"),
            ("pidfile", "pid"),
        ] {
            command.arg(format!("--{option}={}", self.folder.join(name).display()));
        }
        self.process = Some(host.spawn(command)?);
        Ok(())
    }

    /// What it tells others of itself, once it has written it whole.
    fn description(&mut self) -> Result<Vec<u8>> {
        let file = self.folder.join("router.info");
        let mut last = (Vec::new(), Instant::now());
        let waited = wait_for(PATIENCE, "a router's description", || {
            let now = fs::read(&file).unwrap_or_default();
            if now != last.0 {
                last = (now, Instant::now());
            }
            last.0.len() > HEAD && last.1.elapsed() > Duration::from_millis(300)
        });
        waited.with_context(|| self.log())?;
        Ok(last.0)
    }

    /// Puts descriptions into its database.
    fn know<'a>(&self, descriptions: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        for description in descriptions {
            let name = hash(description, &self.folder)?;
            let folder = self.folder.join("netDb").join(format!("r{}", &name[..1]));
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(format!("routerInfo-{name}.dat")), description)?;
        }
        Ok(())
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let mut process = self.process.take().context("it does not run")?;
        process.signal(signal)?;
        process.wait(Duration::from_secs(20)).map(drop)
    }

    fn log(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }
}

/// Bytes of a router's identity before its certificate, and with the head of that.
const KEYS: usize = 384;
const HEAD: usize = KEYS + 3;

/// The name of a router's description in a database: a hash of its identity, in I2P's base64.
fn hash(description: &[u8], folder: &Path) -> Result<String> {
    ensure!(description.len() > HEAD, "a description that is too short");
    let length = usize::from(u16::from_be_bytes([description[KEYS + 1], description[KEYS + 2]]));
    let identity = description.get(..HEAD + length).context("a description that is cut off")?;
    let file = folder.join("identity");
    fs::write(&file, identity)?;
    let output = Command::new("openssl").args(["dgst", "-sha256", "-binary"]).arg(&file).output()?;
    ensure!(output.stdout.len() == 32, "openssl: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(&file, &output.stdout)?;
    let output = Command::new("openssl").args(["base64", "-A", "-in"]).arg(&file).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().replace('+', "-").replace('/', "~"))
}

fn address(number: usize) -> String {
    format!("198.18.0.{}", number + 1)
}

fn sam(number: usize) -> u16 {
    SAM + u16::try_from(2 * number).unwrap_or_default()
}

fn configuration(number: usize) -> String {
    let address = address(number);
    let port = 9_100 + number;
    let is_floodfill = number >= ROUTERS - FLOODFILLS;
    let off: String =
        ["http", "httpproxy", "socksproxy", "bob", "i2cp", "i2pcontrol", "upnp", "nettime", "ssu2"]
            .map(|name| format!("[{name}]\nenabled = false\n"))
            .concat();
    format!(
        "log = stdout\nloglevel = warn\ndaemon = false\nservice = false\nnetid = {NETWORK}\nreservedrange = false\nipv4 = true\n\
         ipv6 = false\nnat = false\nhost = {address}\naddress4 = {address}\nport = {port}\nfloodfill = {is_floodfill}\n\
         bandwidth = X\nshare = 100\n[ntcp2]\nenabled = true\npublished = true\nport = {port}\n[sam]\nenabled = true\n\
         address = 127.0.0.1\nport = {}\n[addressbook]\nenabled = true\n[reseed]\nthreshold = 0\nurls =\nyggurls =\n\
         [exploratory]\ninbound.length = 1\noutbound.length = 1\ninbound.quantity = 3\noutbound.quantity = 3\n\
         [limits]\ntransittunnels = 5000\n[persist]\nprofiles = false\naddressbook = false\n{off}",
        sam(number)
    )
}
