//! Many real daemons on a random graph: `cargo xtask bench mesh`.
//!
//! Hosts in network namespaces are joined as a random geometric graph says, each link with its own delay. A daemon starts on each;
//! then some are killed. What is seen: how soon every pair of hosts answers pings, how much longer the ways are than they had to be
//! (round trips over twice the shortest way of the graph), and what the daemons say to each other while nobody pings.

mod page;
mod record;
mod subject;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use byway_netns::{Graph, Mesh, Pair, Random, Stretch, World};
use nix::sys::signal::Signal;

pub(crate) use page::{keep, put};
pub use page::{section, write};
pub use record::{Answers, Lengths, Report, Row};
pub use subject::Subject;

use crate::side::campaign::go_on;
use crate::side::load::{cpu, resident, wait_idle};
use crate::side::peer::Programs;
use crate::side::record::Machine;

/// What to measure.
pub struct Plan {
    /// Hosts.
    pub nodes: usize,
    /// Links of a host, on average.
    pub degree: f64,
    /// Seed of the graph, and of who dies.
    pub seed: u64,
    /// Share of the daemons that are killed, 0 to 1.
    pub killed: f64,
    /// How long a pair pings now and then before its way is measured again: programs look for better ones meanwhile.
    pub settle: Duration,
    /// Who is measured.
    pub subjects: Vec<Subject>,
    /// Where programs are.
    pub programs: Programs,
    /// The command that measures the same again.
    pub command: String,
}

/// What must be: seconds from the start of the first daemon to an answer of every pair.
pub const START: f64 = 10.0;
/// Seconds from the death of some to an answer of every pair that still has a way.
pub const REPAIR: f64 = 5.0;
/// How long a program may take for either before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Over how long a pair's pings for one figure are spread, and how many there are.
const MEASURE: Duration = Duration::from_secs(6);
const PINGS: u32 = 6;
/// How long the daemons are listened to while nobody pings.
const LISTEN: Duration = Duration::from_secs(20);

impl Plan {
    /// Measures everyone, one after the other.
    pub fn run(&self, mut tell: impl FnMut(&Row)) -> Result<Report> {
        let begun = Instant::now();
        let graph = Graph::geometric(self.nodes, self.degree, self.seed);
        let mut report = Report::new(Machine::this(Default::default()), &graph, self.seed, &self.command);
        for subject in &self.subjects {
            go_on()?;
            let mut row = Row {
                name: subject.name().into(),
                version: subject.version(&self.programs)?,
                ..Row::default()
            };
            let measured = Mesh::new(World::new()?, graph.clone(), self.seed)
                .and_then(|mut mesh| self.measure(subject, &mut mesh, &mut row));
            row.failed = measured.err().map(|error| format!("{error:#}"));
            tell(&row);
            report.rows.push(row);
        }
        report.seconds = begun.elapsed().as_secs_f64();
        Ok(report)
    }

    fn measure(&self, subject: &Subject, mesh: &mut Mesh, row: &mut Row) -> Result<()> {
        mesh.set_members(subject.members(mesh, &self.programs)?)?;
        let begun = Instant::now();
        for index in 0..self.nodes {
            mesh.launch(index)?;
        }
        row.launched_s = begun.elapsed().as_secs_f64();
        row.start = answers(&mesh.reach_all(begun, PATIENCE)?, START);
        mesh.check()?;
        go_on()?;
        row.early = lengths(&mesh.stretch(PINGS, MEASURE)?);
        mesh.stretch(5, self.settle)?;
        go_on()?;
        row.late = lengths(&mesh.stretch(PINGS, MEASURE)?);

        let pids: Vec<u32> = mesh.running().map(|(_, daemon)| daemon.pid()).collect();
        wait_idle(&pids, Duration::from_secs(3));
        let (before, used, since) = (mesh.fabric.traffic()?, cpu(&pids), Instant::now());
        while since.elapsed() < LISTEN {
            go_on()?;
            std::thread::park_timeout(Duration::from_millis(100));
        }
        let seconds = since.elapsed().as_secs_f64() * self.nodes as f64;
        let after = mesh.fabric.traffic()?;
        let sum = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
        row.quiet_bytes = (sum(&after.bytes) - sum(&before.bytes)) / seconds;
        row.quiet_packets = (sum(&after.packets) - sum(&before.packets)) / seconds;
        row.quiet_cpu = (cpu(&pids) - used) / seconds;
        row.late_us = after.late_us;
        let memory: Vec<f64> = pids
            .iter()
            .filter_map(|pid| resident(*pid))
            .map(|bytes| bytes as f64 / f64::from(1 << 20))
            .collect();
        row.memory_mib = memory.iter().sum::<f64>() / memory.len().max(1) as f64;

        row.dead = self.victims();
        let begun = Instant::now();
        for index in &row.dead {
            mesh.end(*index, Signal::SIGKILL).with_context(|| format!("host {index}"))?;
        }
        row.repair = answers(&mesh.reach_all(begun, PATIENCE)?, REPAIR);
        mesh.check()?;
        row.after = lengths(&mesh.stretch(PINGS, MEASURE)?);
        Ok(())
    }

    /// Who is killed.
    fn victims(&self) -> Vec<usize> {
        let mut random = Random::new(!self.seed);
        let mut left: Vec<usize> = (0..self.nodes).collect();
        let count = (self.nodes as f64 * self.killed).round() as usize;
        let mut victims: Vec<usize> = (0..count.min(self.nodes))
            .map(|_| left.swap_remove((random.bits() % left.len() as u64) as usize))
            .collect();
        victims.sort_unstable();
        victims
    }
}

fn answers(reached: &[(Pair, Option<f64>)], limit: f64) -> Answers {
    let mut times: Vec<f64> = reached.iter().filter_map(|(_, at)| *at).collect();
    times.sort_by(f64::total_cmp);
    Answers {
        pairs: reached.len(),
        answered: times.len(),
        in_time: times.iter().filter(|at| **at <= limit).count(),
        median_s: times.get(times.len() / 2).copied(),
        last_s: times.last().copied(),
    }
}

fn lengths(stretch: &Stretch) -> Lengths {
    Lengths {
        pairs: stretch.pairs,
        answered_pairs: stretch.values.len(),
        pings: stretch.pings,
        answered: stretch.answered,
        mean: stretch.mean(),
        median: stretch.quantile(0.5),
        p99: stretch.quantile(0.99),
        worst: stretch.quantile(1.0),
    }
}
