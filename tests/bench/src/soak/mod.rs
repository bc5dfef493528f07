//! Traffic through the TUN devices of two daemons while all around it changes: `cargo xtask soak fast`.
//!
//! `iperf3` runs with four connections. Meanwhile other peers come, go and are killed, the keys of sessions rotate every two seconds,
//! and both daemons get another configuration now and then. What is judged: the longest time without a byte, by the counter of the
//! receiving device; memory that grows; and panics.

pub mod churn;
mod judge;
mod neighbours;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use byway_netns::{DaemonConfig, Host, Identity, Peer, Process, Random, World, listens, reaches, wait_for};
use nix::sys::signal::Signal;

pub use judge::{Growth, Outcome, Stalls};

use crate::side::bed::AllowCubic;
use crate::side::campaign::go_on;
use crate::side::load::resident;
use crate::side::peer::Programs;
use crate::side::peer::byway::{changed, identity, private_folder, settings};
use crate::soak::neighbours::Neighbours;
use crate::soak::watch::Watch;

/// What to do.
pub struct Plan {
    /// How long the traffic runs.
    pub time: Duration,
    /// Seed of everything that happens meanwhile.
    pub seed: u64,
    /// Connections side by side.
    pub streams: u32,
    /// Where programs are.
    pub programs: Programs,
    /// Keys of the configuration with their values, each `key=value` in TOML, besides those of this test.
    pub settings: Vec<String>,
}

/// What this test sets in every daemon: keys that live for two seconds.
pub const ROTATION: &str = "session.ratchet_seconds=2";

/// What a daemon says of a configuration that it does not take.
const NOT_RELOADED: &str = "nothing was reloaded";

/// Where what the traffic brings arrives.
const DEVICE: &str = "byway0";

/// The two hosts with the traffic; others are linked to them.
const ENDS: [&str; 2] = ["a", "b"];

impl Plan {
    /// Runs all of it.
    pub fn run(&self, mut tell: impl FnMut(&str)) -> Result<Outcome> {
        let _cubic = AllowCubic::new();
        let world = World::new()?;
        let mut settings = settings(&[ROTATION.to_owned()])?;
        settings.extend(self::settings(&self.settings)?);
        let mut ends = Vec::new();
        for name in ENDS {
            let host = world.host(name)?;
            let who = identity(&self.programs, host.path("identity.pem"))?;
            ends.push(End { host, who, process: None });
        }
        world.cable((&ends[0].host, "eth0", "10.78.0.1/24"), (&ends[1].host, "eth0", "10.78.0.2/24"))?;
        let mut neighbours = Neighbours::new(&world, &ends, &self.programs, &settings)?;
        let mut churn = Churn { random: Random::new(self.seed), done: BTreeMap::new() };
        for index in [1, 0] {
            let file = config(&ends, index, &neighbours, &settings, 0)?;
            ends[index].launch(&self.programs, &file)?;
        }
        let target = ends[1].who.ipv6.clone();
        reaches(&ends[0].host, &target, Duration::from_secs(20)).with_context(|| logs(&ends))?;

        // In lines that are written as things go, so that a program that dies leaves what it saw until then.
        let lines = ends[1].host.path("iperf3.log");
        let seconds = self.time.as_secs().max(1);
        let mut server = ends[1].host.start(&format!(
            "iperf3 --server --one-off --forceflush --interval 0.1 --bind {target} --logfile {}",
            lines.display()
        ))?;
        listens(&ends[1].host, 5201)?;
        let arrives = Watch::start(ends[1].host.pid(), DEVICE)?;
        let mut client = ends[0].host.start(&format!(
            "iperf3 --client {target} --time {seconds} --interval 10 --parallel {}",
            self.streams
        ))?;

        let begun = Instant::now();
        let mut memory: Vec<Vec<(f64, u64)>> = vec![Vec::new(); ends.len()];
        let mut due = begun;
        let mut told = 0;
        while client.is_running() {
            go_on()?;
            let elapsed = begun.elapsed();
            ensure!(elapsed < self.time + Duration::from_secs(60), "iperf3 does not end\n{}", logs(&ends));
            if Instant::now() >= due && elapsed + Duration::from_secs(1) < self.time {
                let pause = churn.act(&mut ends, &mut neighbours, &settings)?;
                due = Instant::now() + pause;
            }
            if memory[0].last().is_none_or(|(at, _)| elapsed.as_secs_f64() >= at + 0.5) {
                for (end, samples) in ends.iter_mut().zip(&mut memory) {
                    let (host, process) = end.running()?;
                    ensure!(process.is_running(), "the daemon on {host} has ended:\n{}", process.output());
                    samples.extend(resident(process.pid()).map(|bytes| (elapsed.as_secs_f64(), bytes)));
                }
            }
            if elapsed.as_secs() / 60 > told {
                told = elapsed.as_secs() / 60;
                tell(&format!("{told} min, so far {:?}", churn.done));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let served = server.wait(Duration::from_secs(5));
        let samples = arrives.end(self.time)?;
        let stalls = Stalls::of(&samples, &std::fs::read_to_string(&lines).unwrap_or_default());
        let fared = [("client", client.wait(Duration::ZERO)), ("server", served)];
        let failed = fared
            .into_iter()
            .filter(|(_, status)| !status.as_ref().is_ok_and(std::process::ExitStatus::success));
        let failed: Vec<_> = failed.map(|(who, status)| format!("{who}: {status:?}")).collect();
        let said =
            || format!("{}; {} {}", failed.join(", "), end_of(&client.output()), end_of(&server.output()));
        let broke = (!failed.is_empty()).then(said);
        if broke.is_some() {
            tell(&logs(&ends));
        }
        let mut panics = neighbours.panics();
        panics.extend(ends.iter().filter_map(|end| judge::panic_in(&end.process.as_ref()?.output())));
        let growth =
            ends.iter().zip(memory).map(|(end, samples)| Growth::of(end.host.name(), &samples)).collect();
        let refused = ends.iter().filter_map(|end| Some(end.process.as_ref()?.output()));
        let refused = refused.map(|log| log.matches(NOT_RELOADED).count()).sum();
        let asked = self.time.as_secs_f64();
        Ok(Outcome { asked, stalls, broke, growth, panics, refused, done: churn.done })
    }
}

/// A host at one end of the traffic.
pub(crate) struct End {
    pub(crate) host: Host,
    pub(crate) who: Identity,
    process: Option<Process>,
}

impl End {
    fn launch(&mut self, programs: &Programs, config: &str) -> Result<()> {
        self.process = Some(launch(programs, &self.host, config)?);
        Ok(())
    }

    fn running(&mut self) -> Result<(&str, &mut Process)> {
        Ok((self.host.name(), self.process.as_mut().context("no daemon")?))
    }

    /// Gives the daemon another configuration.
    fn reload(&mut self, config: &str) -> Result<()> {
        std::fs::write(self.host.path("byway.toml"), config)?;
        self.running()?.1.signal(Signal::SIGHUP)
    }
}

/// Starts a daemon with this configuration.
pub(crate) fn launch(programs: &Programs, host: &Host, config: &str) -> Result<Process> {
    let (file, state): (PathBuf, PathBuf) = (host.path("byway.toml"), host.path("state"));
    std::fs::write(&file, config)?;
    private_folder(&state)?;
    let mut command = host.command(programs.need("byway")?, ["up", "--config"]);
    command.arg(&file).arg("--state").arg(&state);
    host.spawn(command)
}

/// The configuration of an end; `turn` makes it another one each time.
fn config(
    ends: &[End],
    index: usize,
    neighbours: &Neighbours,
    settings: &[(String, String)],
    turn: u64,
) -> Result<String> {
    let other = Peer::new(&ends[1 - index].who, if index == 0 { &["udp://10.78.0.2:2561"] } else { &[] });
    let mut config = DaemonConfig::open(&ends[index].who).peers([other]).peers(neighbours.peers_of(index));
    // Neighbours that are listed, or not, and a rule that is there, or not: what a user changes.
    if turn % 2 == 1 {
        config.peers.truncate(2);
        config.allow.push(("*".into(), vec![format!("tcp/{}", 1000 + turn % 1000)]));
    }
    changed(&config.toml(&ends[index].host)?, settings)
}

/// What happens while the traffic runs.
struct Churn {
    random: Random,
    /// How often each thing was done.
    done: BTreeMap<&'static str, u64>,
}

impl Churn {
    /// Does one thing, and tells how long to wait for the next.
    fn act(
        &mut self,
        ends: &mut [End],
        neighbours: &mut Neighbours,
        settings: &[(String, String)],
    ) -> Result<Duration> {
        let what = if self.random.chance(0.25) {
            let index = usize::from(self.random.chance(0.5));
            let turn = self.random.bits();
            let text = config(ends, index, neighbours, settings, turn)?;
            ends[index].reload(&text)?;
            "configuration reloaded"
        } else {
            neighbours.change(&mut self.random)?
        };
        *self.done.entry(what).or_default() += 1;
        Ok(Duration::from_secs_f64(0.3 + 1.5 * self.random.unit()))
    }
}

fn logs(ends: &[End]) -> String {
    let logs = ends
        .iter()
        .filter_map(|end| Some(format!("--- {}\n{}\n", end.host.name(), end.process.as_ref()?.output())));
    logs.collect()
}

/// The last lines of an output, as one.
fn end_of(output: &str) -> String {
    let lines: Vec<_> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" · ")
}

/// Waits until a process has ended; whether it did.
pub(crate) fn ended(process: &mut Process, limit: Duration) -> bool {
    wait_for(limit, "the end", || !process.is_running()).is_ok()
}
