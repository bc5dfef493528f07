//! A mesh of daemons of which one comes or goes every few seconds: `cargo xtask soak churn`.
//!
//! Some stay up from the beginning to the end, and show whether anything leaks. The others are started, stopped and killed. Sampled
//! pairs ping; between those times nobody does, and what the links carry then is what the daemons say to each other.

mod judge;
mod said;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use byway_netns::{Graph, Heard, Mesh, Pair, Random, Traffic, World};
use nix::sys::signal::Signal;

pub use judge::{Control, Holding, Outcome, Pings, Wires, words, write};

use crate::mesh::Subject;
use crate::side::campaign::STOP;
use crate::side::load::resident;
use crate::side::peer::Programs;
use crate::soak::churn::said::Said;
use crate::soak::judge::panic_in;

/// What to do.
pub struct Plan {
    /// How long daemons come and go.
    pub time: Duration,
    /// Seed of the graph, and of all that happens.
    pub seed: u64,
    /// Hosts.
    pub nodes: usize,
    /// Links of a host, on average.
    pub degree: f64,
    /// Time from one change to the next.
    pub every: Duration,
    /// Keys of the configuration with their values, each `key=value` in TOML.
    pub settings: Vec<String>,
    /// Where programs are.
    pub programs: Programs,
}

/// One host in so many has a daemon that stays.
const STAYING: usize = 5;
/// Share of the others that is down on average.
const DOWN: f64 = 0.25;
/// How long it may take at the start and at the end until all pairs answer.
const REACH: Duration = Duration::from_secs(10);
/// Pings come at the beginning of each turn of this length, silence at its end.
const TURN: Duration = Duration::from_secs(20);
/// Over how long the pings of a turn are spread, and how many pairs there are.
const SPREAD: Duration = Duration::from_secs(6);
const PAIRS: usize = 40;
/// How often a pair pings until it has an answer; ten times that is the limit.
const AGAIN: Duration = Duration::from_millis(500);
/// From here on to the end of a turn nobody pings, nor waits for an answer.
const SILENCE: Duration = Duration::from_secs(12);
/// A daemon that is up for so long has found its place, in seconds.
const SETTLED: f64 = 10.0;
/// How often memory and the like are looked at.
const LOOK: Duration = Duration::from_secs(5);

impl Plan {
    /// Runs all of it. An interrupt ends it early, with what was seen until then.
    pub fn run(&self, mut tell: impl FnMut(&str)) -> Result<Outcome> {
        ensure!(self.nodes >= 2 && !self.every.is_zero(), "nothing to do");
        let graph = Graph::geometric(self.nodes, self.degree, self.seed);
        // It may run for an hour; whoever else wants a world of namespaces shall have it.
        let mut mesh = Mesh::new(World::aside()?, graph, self.seed)?;
        let subject = Subject::byway("byway", &self.settings)?;
        mesh.set_members(subject.members(&mesh, &self.programs)?)?;
        let begun = Instant::now();
        let mut lives = Lives { of: vec![Vec::new(); self.nodes] };
        for index in 0..self.nodes {
            mesh.launch(index)?;
            lives.of[index].push((0.0, None));
        }
        let mut run = Run {
            mesh,
            begun,
            random: Random::new(self.seed),
            lives,
            outcome: Outcome {
                asked: self.time.as_secs_f64(),
                nodes: self.nodes,
                seed: self.seed,
                ..Outcome::default()
            },
            holdings: BTreeMap::new(),
            said: BTreeMap::new(),
        };
        run.outcome.version = subject.version(&self.programs)?;
        run.outcome.at_start = run.reach()?;
        run.forget_start();
        run.go_round(self, &mut tell)?;
        run.finish()
    }
}

/// A soak under way.
struct Run {
    mesh: Mesh,
    begun: Instant,
    random: Random,
    lives: Lives,
    outcome: Outcome,
    holdings: BTreeMap<usize, Vec<Holding>>,
    /// What each daemon had said when it was last asked, with its process id.
    said: BTreeMap<usize, (u32, Said)>,
}

/// What a turn is about to see.
#[derive(Default)]
struct Turn {
    pairs: Vec<Pair>,
    /// When its pings began.
    since: f64,
    /// When the silence began, with the counters of then.
    silence: Option<(f64, Traffic)>,
    heard: bool,
}

impl Run {
    fn go_round(&mut self, plan: &Plan, tell: &mut impl FnMut(&str)) -> Result<()> {
        let from = self.now();
        let end = from + plan.time.as_secs_f64();
        let (mut change, mut look, mut next) = (from, from, from);
        let mut turn = Turn { heard: true, ..Turn::default() };
        let mut told = 0;
        while self.now() < end && !STOP.load(Ordering::Relaxed) {
            let now = self.now();
            if now >= next {
                self.listened(&mut turn)?;
                turn = self.ping()?;
                next = now.max(next + TURN.as_secs_f64());
            }
            if !turn.heard {
                turn.heard = self.hear(&turn)?;
            } else if turn.silence.is_none() && now >= turn.since + SILENCE.as_secs_f64() {
                turn.silence = Some((now, self.mesh.fabric.traffic()?));
            }
            if now >= change {
                self.change()?;
                change = now.max(change + plan.every.as_secs_f64());
            }
            if now >= look {
                self.look(tell)?;
                look = now.max(look + LOOK.as_secs_f64());
            }
            let minutes = ((now - from) / 60.0) as u64;
            if minutes > told {
                told = minutes;
                tell(&format!("{minutes} min: {}", self.outcome.so_far()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.outcome.seconds = self.now() - from;
        Ok(())
    }

    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// When the last pair answered that has a way, in seconds from now; none: not all of them did.
    fn reach(&mut self) -> Result<Option<f64>> {
        let reached = self.mesh.reach_all(Instant::now(), REACH)?;
        Ok(reached.into_iter().try_fold(0.0, |last, (_, at)| Some(f64::max(last, at?))))
    }

    /// Begins the pings of a turn.
    fn ping(&mut self) -> Result<Turn> {
        let up: Vec<usize> = (0..self.mesh.hosts.len()).filter(|index| self.mesh.is_up(*index)).collect();
        let mut pairs = Vec::new();
        while pairs.len() < PAIRS && up.len() > 1 {
            let [from, to] = [0, 0].map(|_| up[(self.random.bits() % up.len() as u64) as usize]);
            if from != to {
                pairs.push((from, to));
            }
        }
        self.mesh.pinger.begin(&self.mesh.sweep(pairs.iter().copied(), SPREAD, AGAIN))?;
        Ok(Turn { pairs, since: self.now(), silence: None, heard: false })
    }

    /// Takes in what came of the pings of a turn; whether they are over.
    fn hear(&mut self, turn: &Turn) -> Result<bool> {
        let Some(heard) = self.mesh.pinger.look()? else { return Ok(false) };
        let limit = AGAIN.as_secs_f64() * 10.0;
        for (pair, heard) in turn.pairs.iter().zip(&heard) {
            let begun = turn.since + heard.begun_ms / 1000.0;
            let joined = self.lives.joined(&self.mesh.graph, *pair, begun - SETTLED, begun + limit);
            self.outcome.pings.take(joined, heard);
            if joined && heard.first_ms.is_none() {
                self.outcome.silent.push(silent(begun, *pair, heard));
            }
        }
        Ok(true)
    }

    /// Ends the silence of a turn, if it had one.
    fn listened(&mut self, turn: &mut Turn) -> Result<()> {
        let Some((since, before)) = turn.silence.take() else { return Ok(()) };
        let (now, after) = (self.now(), self.mesh.fabric.traffic()?);
        let node_seconds = self.lives.seconds(since, now);
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        self.outcome.wires.take(
            node_seconds,
            sum(&after.bytes) - sum(&before.bytes),
            sum(&after.packets) - sum(&before.packets),
        );
        Ok(())
    }

    /// Starts, stops or kills one of those that do not stay.
    fn change(&mut self) -> Result<()> {
        let movers = (0..self.mesh.hosts.len()).filter(|index| index % STAYING != 0);
        let (up, down): (Vec<_>, Vec<_>) = movers.partition(|index| self.mesh.is_up(*index));
        let all = (up.len() + down.len()) as f64;
        let start = self.random.chance(down.len() as f64 / (2.0 * DOWN * all).max(1.0));
        let kill = self.random.chance(0.5);
        let from = if start || up.is_empty() { &down } else { &up };
        let Some(index) = from.get((self.random.bits() % from.len().max(1) as u64) as usize).copied() else {
            return Ok(());
        };
        let now = self.now();
        let what = if self.mesh.is_up(index) {
            self.lives.ended(index, now);
            let log = self.mesh.end(index, if kill { Signal::SIGKILL } else { Signal::SIGTERM })?;
            self.outcome.panics.extend(panic_in(&log).map(|line| format!("host {index}: {line}")));
            if kill { "killed" } else { "stopped" }
        } else {
            self.mesh.launch(index)?;
            self.lives.of[index].push((now, None));
            "started"
        };
        *self.outcome.done.entry(what.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Looks at what daemons hold, and whether all run; one that has ended by itself is told, and started again.
    fn look(&mut self, tell: &mut impl FnMut(&str)) -> Result<()> {
        let now = self.now();
        let (mut running, mut ended) = (Vec::new(), Vec::new());
        for (index, daemon) in self.mesh.running() {
            if !daemon.is_running() {
                ended.push(index);
                continue;
            }
            let Some(holding) = Holding::of(now, daemon.pid()) else { continue };
            running.push((index, daemon.pid()));
            self.outcome.largest_mib =
                self.outcome.largest_mib.max(holding.memory as f64 / f64::from(1 << 20));
            if index % STAYING == 0 {
                self.holdings.entry(index).or_default().push(holding);
            }
        }
        for (index, pid) in running {
            let Some(said) = self.ask(index) else { continue };
            let before = self.said.get(&index).filter(|(earlier, _)| *earlier == pid);
            self.outcome.control.take(&said, before.map(|(_, said)| said));
            self.said.insert(index, (pid, said));
        }
        for index in ended {
            self.lives.ended(index, now);
            let log = self.mesh.end(index, Signal::SIGKILL)?;
            self.outcome.panics.extend(panic_in(&log).map(|line| format!("host {index}: {line}")));
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n");
            tell(&format!("the daemon of host {index} ended by itself after {now:.0} s:\n{last}"));
            self.outcome.ended.push(format!("host {index} after {now:.0} s"));
            self.mesh.launch(index)?;
            self.lives.of[index].push((now, None));
        }
        Ok(())
    }

    /// What a daemon has said so far; one that has just begun does not answer yet, and is asked the next time.
    fn ask(&self, index: usize) -> Option<Said> {
        Said::of(&self.mesh.hosts[index].path("api.sock"))
    }

    /// What was said until now is not part of what follows: never again do all nodes come at once, and look for all others.
    fn forget_start(&mut self) {
        let running: Vec<_> = self.mesh.running().map(|(index, daemon)| (index, daemon.pid())).collect();
        self.said =
            running.into_iter().filter_map(|(index, pid)| Some((index, (pid, self.ask(index)?)))).collect();
    }

    /// Everyone is up again: all pairs must answer. Then the logs are read, and all is judged.
    fn finish(mut self) -> Result<Outcome> {
        for index in 0..self.mesh.hosts.len() {
            if !self.mesh.is_up(index) {
                self.mesh.launch(index)?;
            }
        }
        self.outcome.at_end = self.reach()?;
        for index in 0..self.mesh.hosts.len() {
            let log = self
                .mesh
                .end(index, Signal::SIGTERM)
                .with_context(|| format!("host {index} does not stop"))?;
            self.outcome.panics.extend(panic_in(&log).map(|line| format!("host {index}: {line}")));
        }
        self.outcome.held(&self.holdings);
        Ok(self.outcome)
    }
}

fn silent(begun: f64, (from, to): Pair, heard: &Heard) -> String {
    format!("{from} to {to} after {begun:.1} s: none of {} pings answered", heard.sent)
}

impl Holding {
    fn of(at: f64, pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()?;
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(Self { at, memory: resident(pid)?, files, threads })
    }
}

/// From when to when the daemon of each host ran, in seconds; no end: it still does.
struct Lives {
    of: Vec<Vec<(f64, Option<f64>)>>,
}

impl Lives {
    fn ended(&mut self, index: usize, now: f64) {
        if let Some(life) = self.of[index].last_mut() {
            life.1.get_or_insert(now);
        }
    }

    /// Whether two hosts had a way the whole time over daemons that ran the whole time; what began with the soak counts as older.
    fn joined(&self, graph: &Graph, (from, to): Pair, since: f64, until: f64) -> bool {
        let ran = |node: usize| {
            self.of[node]
                .iter()
                .any(|(begin, end)| *begin <= since.max(0.0) && end.is_none_or(|end| end >= until))
        };
        ran(to) && graph.distances(from, ran)[to].is_some()
    }

    /// How long all daemons together ran between two times.
    fn seconds(&self, since: f64, until: f64) -> f64 {
        let lives = self.of.iter().flatten();
        lives.map(|(begin, end)| (end.unwrap_or(until).min(until) - begin.max(since)).max(0.0)).sum()
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_pair_has_a_way_only_over_daemons_that_ran_all_the_time() {
        let links = BTreeMap::from([((0, 1), 1.0), ((1, 2), 1.0)]);
        let graph = Graph { nodes: 3, links };
        let mut lives =
            Lives { of: vec![vec![(0.0, None)], vec![(0.0, Some(50.0)), (60.0, None)], vec![(0.0, None)]] };
        let joined = |lives: &Lives, since| lives.joined(&graph, (0, 2), since, since + 15.0);
        // What is older than the soak is as old as that.
        assert!(joined(&lives, -5.0) && joined(&lives, 30.0) && joined(&lives, 60.0));
        assert!(!joined(&lives, 40.0) && !joined(&lives, 55.0));
        lives.ended(2, 80.0);
        lives.ended(2, 90.0);
        assert!(joined(&lives, 65.0) && !joined(&lives, 66.0));
        assert!((lives.seconds(45.0, 65.0) - (20.0 + 10.0 + 20.0)).abs() < 1e-9);
    }

    #[test]
    fn what_a_process_holds_is_seen() {
        let own = Holding::of(1.0, std::process::id()).unwrap();
        assert!(own.memory > 100_000 && own.files >= 3 && own.threads >= 1, "{own:?}");
        assert_eq!(Holding::of(1.0, u32::MAX), None);
    }
}
