//! Each transport between two daemons that have no other: what it takes until they talk, and what it carries then.
//!
//! The daemons share one machine and its loopback, and the private Tor and I2P networks run there too, so the figures
//! compare transports with each other, and say nothing of the delays of real networks.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::World;
use byway_testbed::{Around, Kind, Lane};
use serde::Serialize;

use crate::report::Machine;
use crate::section;
use crate::side::load;

/// What to measure.
pub struct Plan {
    /// Over what.
    pub kinds: Vec<Kind>,
    /// What one transfer fetches, in bytes; slow transports fetch [`SLOW`] at most.
    pub bytes: usize,
    /// Transfers, of which the median counts.
    pub transfers: usize,
    /// Pings, likewise.
    pub pings: usize,
    /// How long daemons are left alone to see what they use then.
    pub idle: Duration,
    /// The command line that measures the same.
    pub command: String,
}

/// What a transfer over Tor or I2P fetches.
pub const SLOW: usize = 10_000_000;

/// One transport.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// From the start of both daemons until it could be used, in seconds.
    pub ready_s: f64,
    /// From dialling to the first answer between programs, in seconds.
    pub joined_s: f64,
    /// Round trip between programs, in ms.
    pub rtt_ms: f64,
    /// What a TCP stream between programs gets, in Mbit/s.
    pub mbits: f64,
    /// Memory of the daemon that has more, after the transfers, in MiB.
    pub rss_mib: f64,
    /// Processor time of the daemon that takes more while nothing is sent, in ms a second.
    pub idle_ms: f64,
    /// Until programs have an answer again after the dialling daemon, or the other, was killed and started, in seconds.
    pub back_s: [f64; 2],
}

/// Everything that was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How.
    pub command: String,
    /// What.
    pub rows: Vec<Row>,
}

impl Plan {
    /// Measures one after the other; `tell` hears of each.
    pub fn run(&self, version: String, mut tell: impl FnMut(&Row)) -> Result<Report> {
        ensure!(self.transfers > 0 && self.pings > 0, "nothing is measured without transfers and pings");
        let world = World::new()?;
        let between = world.host("between")?;
        let mut around = Around::default();
        let mut rows = Vec::new();
        for kind in &self.kinds {
            let lane = Lane::new(&world, &between, &mut around, *kind);
            let mut lane = lane.with_context(|| kind.name())?;
            let mut row = self.measure(&lane).with_context(|| kind.name())?;
            for (left, seconds) in [true, false].into_iter().zip(&mut row.back_s) {
                *seconds = lane.recovers(&between, left).with_context(|| kind.name())?.as_secs_f64();
            }
            tell(&row);
            rows.push(row);
        }
        Ok(Report { machine: Machine::this(version), command: self.command.clone(), rows })
    }

    fn measure(&self, lane: &Lane) -> Result<Row> {
        let rtt_ms = lane.round_trip(self.pings)?;
        let bytes = if lane.kind.is_slow() { self.bytes.min(SLOW) } else { self.bytes };
        let rates: Result<Vec<f64>> = (0..self.transfers).map(|_| Ok(lane.carries(bytes)?.rate)).collect();
        let mut rates = rates?;
        rates.sort_by(f64::total_cmp);
        let pids = lane.pids()?;
        let before = pids.map(|pid| load::cpu(&[pid]));
        std::thread::sleep(self.idle);
        let used = pids.iter().zip(before).map(|(pid, before)| load::cpu(&[*pid]) - before);
        let memory = pids.iter().filter_map(|pid| load::resident(*pid)).max().unwrap_or_default();
        Ok(Row {
            name: lane.kind.name(),
            ready_s: lane.ready().as_secs_f64(),
            joined_s: lane.joined().as_secs_f64(),
            rtt_ms,
            mbits: rates[rates.len() / 2] * 8e-6,
            rss_mib: memory as f64 / f64::from(1 << 20),
            idle_ms: used.fold(0.0, f64::max) * 1e3 / self.idle.as_secs_f64().max(1e-3),
            back_s: [0.0; 2],
        })
    }
}

impl Report {
    /// Writes its section of `docs/transports.md`, and the file beside it.
    pub fn write(&self) -> Result<()> {
        section::put("docs/transports.md", "# Transports\n", "Measured", &self.section())?;
        section::keep("docs/transports", "transports.json", &serde_json::to_string_pretty(self)?)
    }

    /// The section, for people.
    pub fn section(&self) -> String {
        let Machine { cores, arch, kernel, build, version } = &self.machine;
        let mut text = format!(
            "{version}, {build} build, {cores} cores ({arch}), Linux {kernel}. Two daemons that have this one transport, over loopback of one \
             machine, where the networks of Tor (8 relays) and I2P (8 routers, tunnels of one hop) run as well; programs reach each other \
             through the TUN devices. *Ready*: from the start until the transport can be used. *Joined*: from dialling to the first \
             answer. *Back*: from `kill -9` and a new start of who dials, or of the other, to the next answer. Memory is that of the larger \
             daemon after the transfers, and idle CPU what one takes while nothing is sent. Loopback is no real network: compare the \
             rows with each other.\n\n```sh\n{}\n```\n\n\
             | transport | ready, s | joined, s | RTT, ms | Mbit/s | back, s | RSS, MiB | idle CPU, ms/s |\n|---|---:|---:|---:|---:|---:|---:|---:|\n",
            self.command
        );
        for row in &self.rows {
            let Row { name, ready_s, joined_s, rtt_ms, mbits, rss_mib, idle_ms, back_s: [left, right] } = row;
            let _ = writeln!(
                text,
                "| {name} | {ready_s:.1} | {joined_s:.2} | {rtt_ms:.2} | {mbits:.0} | {left:.1}, {right:.1} | {rss_mib:.0} | {idle_ms:.1} |"
            );
        }
        text
    }
}
