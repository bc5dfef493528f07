//! Two daemons that talk over one transport and no other, and programs at each end of it.
//!
//! ```text
//!   left host        host in between, lo only          right host
//!   ping, curl        byway ═ transport ═ byway        http.server
//!      └───── TUN ──────┘                 └───── TUN ──────┘
//! ```
//!
//! A TUN device that is moved to another namespace stays its daemon's. So programs have nothing but the overlay, and the
//! daemons nothing but loopback.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use byway_netns::{Host, Process, World, wait_for};
use nix::sys::signal::Signal;

use crate::{Around, Kind, Node, PATIENCE};

/// Two daemons; the left one dials.
pub struct Lane {
    /// How they are joined.
    pub kind: Kind,
    ends: [End; 2],
    /// What the left one dials, and how long it took from then to the first answer.
    endpoint: String,
    joined: Duration,
    /// How long both took from their start until the transport could be used.
    ready: Duration,
}

struct End {
    node: Node,
    /// Where its TUN device is.
    host: Host,
    device: String,
    /// Its address in the overlay.
    ipv6: String,
}

/// What came through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carried {
    /// Bytes, each as it was sent.
    pub bytes: usize,
    /// Bytes in a second, from asking for the first to having the last.
    pub rate: f64,
}

/// The ends.
const LEFT: usize = 0;
const RIGHT: usize = 1;
/// Where the web server on the right listens.
const PORT: u16 = 8_080;

impl Lane {
    /// Starts both on `between`, and waits until they answer each other. `around` is what else they need on that host.
    pub fn new(world: &World, between: &Host, around: &mut Around, kind: Kind) -> Result<Self> {
        let tag: String = kind.name().chars().filter(char::is_ascii_alphanumeric).collect();
        let end = |number: usize| -> Result<End> {
            let name = format!("{tag}-{}", ["left", "right"][number]);
            let node = Node::new(between, &name, "")?;
            let host = world.host(&format!("{name}-programs"))?;
            let ipv6 = node.byway(&["ip6", &node.addr])?.trim().to_owned();
            Ok(End { node, host, device: format!("byway-{number}"), ipv6 })
        };
        let mut ends = [end(LEFT)?, end(RIGHT)?];
        let links = [around.links(between, kind, LEFT)?, around.links(between, kind, RIGHT)?];
        let begun = Instant::now();
        for number in [LEFT, RIGHT] {
            ends[number].configure(kind, &links[number])?;
            ends[number].start(between)?;
        }
        let (ready, joined) = (Duration::ZERO, Duration::ZERO);
        let mut lane = Self { kind, ends, endpoint: String::new(), joined, ready };
        let listens = lane.endpoint()?;
        lane.ready = begun.elapsed();
        lane.endpoint = around.front(between, kind, &listens)?;
        let [left, right] = &lane.ends;
        right.node.byway(&["peer", "add", &left.node.addr])?;
        let begun = Instant::now();
        left.node.byway(&["peer", "add", &right.node.addr, &lane.endpoint])?;
        lane.answers()?;
        lane.joined = begun.elapsed();
        lane.goes_over_nothing_else()?;
        Ok(lane)
    }

    /// From the start of both daemons until the transport could be used: Tor and I2P take a while to find their networks.
    pub fn ready(&self) -> Duration {
        self.ready
    }

    /// From dialling to the first answer between programs.
    pub fn joined(&self) -> Duration {
        self.joined
    }

    /// Waits until programs on the left have an answer from the right; how long that took.
    pub fn answers(&self) -> Result<Duration> {
        let begun = Instant::now();
        let ping = format!("ping -6 -n -c 1 -W 2 {}", self.ends[RIGHT].ipv6);
        let waited = wait_for(PATIENCE, "an answer", || {
            self.ends[LEFT].host.output(&ping).is_ok_and(|output| output.status.success())
        });
        waited.with_context(|| self.said())?;
        Ok(begun.elapsed())
    }

    /// The median of the round trips of `count` pings between programs, in ms.
    pub fn round_trip(&self, count: usize) -> Result<f64> {
        let ping = format!("ping -6 -n -c {count} -i 0.2 -W 10 {}", self.ends[RIGHT].ipv6);
        // Some may be lost, which ping answers with a failure only if all are.
        let text = self.ends[LEFT].host.run(&ping).with_context(|| self.said())?;
        let times =
            text.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse().ok());
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().context("no answer has a time")
    }

    /// Fetches `bytes` random bytes from the right through both TUN devices, with `curl`.
    pub fn carries(&self, bytes: usize) -> Result<Carried> {
        let [left, right] = &self.ends;
        let site = right.host.path("site");
        std::fs::create_dir_all(&site)?;
        let mut data = vec![0; bytes];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut data)?;
        std::fs::write(site.join("file"), &data)?;
        let _server = serve(&right.host, &site)?;
        let copy = left.host.path("copy");
        let limits = "--connect-timeout 30 --speed-limit 100 --speed-time 60 --max-time 900";
        let url = format!("http://[{}]:{PORT}/file", right.ipv6);
        let line =
            format!("curl -gsSf --noproxy * {limits} -w %{{speed_download}} -o {} {url}", copy.display());
        let rate = left.host.run(&line).with_context(|| self.said())?;
        ensure!(std::fs::read(&copy)? == data, "{}: what arrived is not what was sent", self.kind.name());
        Ok(Carried { bytes, rate: rate.trim().parse()? })
    }

    /// Kills the daemon on the left or on the right, starts it again, and waits for an answer; how long the last took.
    pub fn recovers(&mut self, between: &Host, left: bool) -> Result<Duration> {
        let end = &mut self.ends[if left { LEFT } else { RIGHT }];
        end.node.end(Signal::SIGKILL)?;
        end.start(between)?;
        self.answers()
    }

    /// The processes of both daemons.
    pub fn pids(&self) -> Result<[u32; 2]> {
        let [left, right] = &self.ends;
        Ok([left.node.pid()?, right.node.pid()?])
    }

    /// Where the one on the right listens, which after a start may take a while to be known.
    fn endpoint(&self) -> Result<String> {
        let node = &self.ends[RIGHT].node;
        if self.kind.is_slow() {
            for end in &self.ends {
                end.node.becomes(self.kind.scheme(), "ready")?;
            }
            return node.endpoint(self.kind.scheme());
        }
        let status = node.json("/v1/status")?;
        let endpoints = status["endpoints"].as_array().cloned().unwrap_or_default();
        let start = format!("{}://", self.kind.scheme());
        let mut texts = endpoints.iter().filter_map(|endpoint| endpoint.as_str());
        let found = texts.find(|text| text.starts_with(&start));
        Ok(found.with_context(|| format!("no {start} in {status}"))?.to_owned())
    }

    fn goes_over_nothing_else(&self) -> Result<()> {
        for end in &self.ends {
            let links = end.node.list("links")?;
            let links = links.as_array().cloned().unwrap_or_default();
            let open = links.iter().filter(|link| link["role"] != "none");
            let classes: HashSet<_> = open.filter_map(|link| link["class"].as_str()).collect();
            ensure!(classes == HashSet::from([self.kind.class()]), "{links:?}");
        }
        Ok(())
    }

    /// What both said, for a failure.
    fn said(&self) -> String {
        let peers = self.ends[LEFT].node.byway(&["peers"]).unwrap_or_default();
        let logs = self.ends.each_ref().map(|end| end.node.log());
        format!(
            "{} over {}:\n{peers}\n{}\nthe right end:\n{}",
            self.kind.name(),
            self.endpoint,
            logs[0],
            logs[1]
        )
    }
}

impl End {
    fn configure(&self, kind: Kind, links: &str) -> Result<()> {
        let level = kind.level();
        let direct = !kind.is_slow();
        self.node.configure_all(&format!(
            "[mancon]\ndefault = \"{level}\"\ndirect = {direct}\n[portal]\ndevice = \"{}\"\n\
             [[portal.allow]]\npeer = \"*\"\nports = [\"tcp/1-65535\", \"icmp\"]\n[links]\n{links}",
            self.device
        ))
    }

    /// Starts the daemon, and gives its device to the programs of this end.
    fn start(&mut self, between: &Host) -> Result<()> {
        self.node.start(between)?;
        let Self { host, device, ipv6, .. } = self;
        wait_for(PATIENCE, "the device", || between.ip(&format!("link show {device} up")).is_ok())?;
        between.ip(&format!("link set {device} netns {}", host.pid()))?;
        host.address(device, &format!("{ipv6}/7"))
    }
}

/// A web server that shows a folder, ready.
fn serve(host: &Host, folder: &Path) -> Result<Process> {
    let line = format!("python3 -m http.server {PORT} --bind :: --directory {}", folder.display());
    let server = host.start(&line)?;
    let listening = format!("ss -ltnH sport = :{PORT}");
    wait_for(PATIENCE, "a web server", || host.run(&listening).is_ok_and(|printed| !printed.is_empty()))?;
    Ok(server)
}
