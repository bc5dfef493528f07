//! Many hosts joined as a [`Graph`] says, and one daemon on each.
//!
//! What the daemons are is told from outside ([`Member`]), so that ours and other people's are started, killed and measured alike.

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::daemon::{DaemonConfig, Identity, Peer};
use crate::fabric::Fabric;
use crate::graph::Graph;
use crate::host::{Host, World};
use crate::pings::{Heard, Pinger, Sweep};
use crate::process::Process;
use crate::wire::Faults;

/// Hosts and the links between them; gone with all processes when dropped.
#[derive(Debug)]
pub struct Mesh {
    /// The daemon of each host, while it runs.
    daemons: Vec<Option<Process>>,
    members: Vec<Member>,
    /// Pings from every host.
    pub pinger: Pinger,
    /// What joins the hosts.
    pub fabric: Fabric,
    /// The hosts, by the numbers of the graph.
    pub hosts: Vec<Host>,
    /// Who is joined to whom.
    pub graph: Graph,
    /// What holds all of it.
    pub world: World,
}

/// What runs on one host of a mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Where other members reach it.
    pub address: Ipv6Addr,
    /// Its program and arguments.
    pub command: Vec<OsString>,
}

/// An ordered pair of hosts.
pub type Pair = (usize, usize);

impl Mesh {
    /// Hosts and links, with no daemon yet.
    pub fn new(world: World, graph: Graph, seed: u64) -> Result<Self> {
        let hosts =
            (0..graph.nodes).map(|index| world.host(&format!("h{index}"))).collect::<Result<Vec<_>>>()?;
        let links = graph.links.iter().map(|((a, b), delay)| (*a, *b, Faults::lossy(*delay, 0.0)));
        let fabric = Fabric::join(&world, &hosts, links, seed)?;
        let pinger = Pinger::start(&world, &hosts)?;
        let daemons = hosts.iter().map(|_| None).collect();
        Ok(Self { daemons, members: Vec::new(), pinger, fabric, hosts, graph, world })
    }

    /// Says what shall run on each host.
    pub fn set_members(&mut self, members: Vec<Member>) -> Result<()> {
        ensure!(
            members.len() == self.hosts.len(),
            "{} members for {} hosts",
            members.len(),
            self.hosts.len()
        );
        self.members = members;
        Ok(())
    }

    /// Our own daemon for each host, with its neighbours as peers that both sides dial; `change` has the last word on its configuration.
    pub fn byway(&self, program: &Path, change: impl Fn(String) -> Result<String>) -> Result<Vec<Member>> {
        let who = self.hosts.iter().map(|host| Identity::with(program, host));
        let who = who.collect::<Result<Vec<_>>>()?;
        let member = |(index, host): (usize, &Host)| {
            let peer = |neighbour: usize| {
                let endpoint = format!("udp://{}:2561", Fabric::address(neighbour));
                Peer::new(&who[neighbour], &[&endpoint])
            };
            let config =
                DaemonConfig::open(&who[index]).peers(self.graph.neighbours(index).into_iter().map(peer));
            let (file, state) = (host.path("byway.toml"), host.path("state"));
            std::fs::write(&file, change(config.toml(host)?)?)?;
            std::fs::create_dir_all(&state)?;
            std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700))?;
            let words: [&std::ffi::OsStr; 6] = [
                program.as_os_str(),
                "up".as_ref(),
                "--config".as_ref(),
                file.as_os_str(),
                "--state".as_ref(),
                state.as_os_str(),
            ];
            let address = who[index].ipv6.parse().context("no IPv6 address")?;
            Ok(Member { address, command: words.map(OsString::from).to_vec() })
        };
        self.hosts.iter().enumerate().map(member).collect()
    }

    /// Starts the daemon of a host, whose last one has ended.
    pub fn launch(&mut self, index: usize) -> Result<()> {
        let member = self.members.get(index).context("no member is known")?;
        let (program, arguments) = member.command.split_first().context("a member without a program")?;
        let command = self.hosts[index].command(program, arguments);
        self.daemons[index] = Some(self.hosts[index].spawn(command)?);
        Ok(())
    }

    /// Ends the daemon of a host with this signal; what it had printed.
    pub fn end(&mut self, index: usize, signal: Signal) -> Result<String> {
        let Some(mut daemon) = self.daemons[index].take() else { return Ok(String::new()) };
        if daemon.is_running() {
            daemon.signal(signal)?;
            daemon.wait(Duration::from_secs(10))?;
        }
        Ok(daemon.output())
    }

    /// Whether the daemon of a host was started and not ended.
    pub fn is_up(&self, index: usize) -> bool {
        self.daemons[index].is_some()
    }

    /// The daemons that were started and not ended, with the numbers of their hosts.
    pub fn running(&mut self) -> impl Iterator<Item = (usize, &mut Process)> {
        self.daemons.iter_mut().enumerate().filter_map(|(index, daemon)| Some((index, daemon.as_mut()?)))
    }

    /// An error with what a daemon printed, if one has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        for (index, daemon) in self.running() {
            ensure!(daemon.is_running(), "the daemon of host {index} has ended:\n{}", daemon.output());
        }
        Ok(())
    }

    /// The pairs of running members that the links between running members join, with the true delay one way, in milliseconds.
    pub fn pairs(&self) -> Vec<(Pair, f64)> {
        self.graph.joined(|node| self.daemons[node].is_some()).into_iter().collect()
    }

    /// A sweep over these pairs.
    pub fn sweep(&self, pairs: impl IntoIterator<Item = Pair>, spread: Duration, every: Duration) -> Sweep {
        let pairs = pairs.into_iter().map(|(from, to)| (from, self.members[to].address)).collect();
        let milliseconds = |time: Duration| time.as_millis() as u64;
        Sweep {
            pairs,
            spread_ms: milliseconds(spread),
            every_ms: milliseconds(every),
            answers: 1,
            limit_ms: milliseconds(every) * 10,
        }
    }

    /// Pings every pair that has a way until each has an answer, or `limit` is over: when each was first answered, in seconds after `begun`.
    pub fn reach_all(&mut self, begun: Instant, limit: Duration) -> Result<Vec<(Pair, Option<f64>)>> {
        let pairs: Vec<Pair> = self.pairs().into_iter().map(|(pair, _)| pair).collect();
        let sweep = self.sweep(pairs.iter().copied(), SPREAD, AGAIN);
        let before = begun.elapsed();
        let sweep = Sweep { limit_ms: limit.saturating_sub(before).as_millis() as u64, ..sweep };
        let heard = self.pinger.sweep(&sweep)?;
        let first = |heard: &Heard| Some(before.as_secs_f64() + (heard.begun_ms + heard.first_ms?) / 1000.0);
        Ok(pairs.into_iter().zip(heard.iter().map(first)).collect())
    }

    /// Round trips of every pair that has a way over twice its true delay, the fastest of `count` pings each, spread over `time`.
    pub fn stretch(&self, count: u32, time: Duration) -> Result<Stretch> {
        let pairs = self.pairs();
        let sweep = self.sweep(pairs.iter().map(|(pair, _)| *pair), time / count, time / count);
        let heard = self.pinger.sweep(&Sweep {
            answers: count,
            limit_ms: time.as_millis() as u64 + 2000,
            ..sweep
        })?;
        let mut stretch = Stretch { pairs: pairs.len(), ..Stretch::default() };
        for ((_, delay), heard) in pairs.iter().zip(heard) {
            stretch.pings += u64::from(heard.sent);
            stretch.answered += u64::from(heard.answered);
            stretch.values.extend(heard.rtt_ms.map(|rtt| rtt / (2.0 * delay)));
        }
        stretch.values.sort_by(f64::total_cmp);
        Ok(stretch)
    }

    /// The end of what each running daemon has printed.
    pub fn logs(&mut self) -> String {
        let tail = |(index, daemon): (usize, &mut Process)| {
            let text = daemon.output();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- host {index}\n{}\n", lines[lines.len().saturating_sub(5)..].join("\n"))
        };
        self.running().map(tail).collect()
    }
}

/// How much longer ways are than they had to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stretch {
    /// Pairs that were pinged.
    pub pairs: usize,
    /// Pings that were sent.
    pub pings: u64,
    /// Pings that were answered.
    pub answered: u64,
    /// Round trip over twice the shortest delay of each pair that answered, sorted.
    pub values: Vec<f64>,
}

impl Stretch {
    /// The mean; nothing if no pair answered.
    pub fn mean(&self) -> Option<f64> {
        (!self.values.is_empty()).then(|| self.values.iter().sum::<f64>() / self.values.len() as f64)
    }

    /// The value that this share of the pairs does not exceed.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.values.len().checked_sub(1)?;
        self.values.get((last as f64 * share).ceil() as usize).copied()
    }
}

/// Over how long the first pings of all pairs are spread, and how often a pair without an answer pings.
const SPREAD: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn stretch_has_a_mean_and_quantiles() {
        let stretch = Stretch { values: (1..=100).map(f64::from).collect(), ..Stretch::default() };
        assert_eq!(stretch.mean(), Some(50.5));
        assert_eq!((stretch.quantile(0.0), stretch.quantile(1.0)), (Some(1.0), Some(100.0)));
        assert_eq!(stretch.quantile(0.99), Some(100.0));
        assert_eq!((Stretch::default().mean(), Stretch::default().quantile(0.5)), (None, None));
    }
}
