//! What a run over a mesh saw.

use byway_netns::Graph;
use serde::{Deserialize, Serialize};

use super::{REPAIR, START};
use crate::side::record::Machine;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The command that measures the same again.
    pub command: String,
    /// Of the graph, and of who died.
    pub seed: u64,
    /// Hosts.
    pub nodes: usize,
    /// Links, each with its ends and its delay one way in milliseconds.
    pub links: Vec<(usize, usize, f64)>,
    /// The longest of all shortest ways, one way, in milliseconds.
    pub widest_ms: f64,
    /// One for each program.
    pub rows: Vec<Row>,
}

/// One program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How long it took to start all processes, in seconds.
    pub launched_s: f64,
    /// Answers after the start, from that of the first process on.
    pub start: Answers,
    /// Ways right after that.
    pub early: Lengths,
    /// Ways after a while of pings.
    pub late: Lengths,
    /// Bytes that a host sent a second while nobody pinged, IP headers and all included.
    pub quiet_bytes: f64,
    /// The same in packets.
    pub quiet_packets: f64,
    /// Cores that a daemon used meanwhile.
    pub quiet_cpu: f64,
    /// Resident memory of a daemon, on average, in MiB.
    pub memory_mib: f64,
    /// How much later than they should the links delivered, on average, in microseconds.
    pub late_us: f64,
    /// Who was killed.
    pub dead: Vec<usize>,
    /// Answers after that, of pairs that still have a way.
    pub repair: Answers,
    /// Ways after that.
    pub after: Lengths,
    /// Why it ended early, if it did.
    pub failed: Option<String>,
}

/// When pairs answered at first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Pairs that have a way.
    pub pairs: usize,
    /// Those that answered at all.
    pub answered: usize,
    /// Those that answered in the time that is asked for.
    pub in_time: usize,
    /// When half of them had, in seconds.
    pub median_s: Option<f64>,
    /// When the last had.
    pub last_s: Option<f64>,
}

/// How long ways are, over how long they must be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// Pairs that have a way.
    pub pairs: usize,
    /// Those that answered.
    pub answered_pairs: usize,
    /// Pings of all of them.
    pub pings: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Mean of all pairs.
    pub mean: Option<f64>,
    /// Half are below.
    pub median: Option<f64>,
    /// All but one in a hundred are below.
    pub p99: Option<f64>,
    /// The longest.
    pub worst: Option<f64>,
}

impl Report {
    /// Without rows yet.
    pub fn new(machine: Machine, graph: &Graph, seed: u64, command: &str) -> Self {
        Self {
            machine,
            seconds: 0.0,
            command: command.to_owned(),
            seed,
            nodes: graph.nodes,
            links: graph.links.iter().map(|((a, b), delay)| (*a, *b, *delay)).collect(),
            widest_ms: graph.joined(|_| true).into_values().fold(0.0, f64::max),
            rows: Vec::new(),
        }
    }
}

impl Row {
    /// What of it is not as it must be for our own daemon.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.failed.clone().into_iter().collect();
        for (what, seen, limit) in [("start", &self.start, START), ("deaths", &self.repair, REPAIR)] {
            if self.failed.is_none() && (seen.pairs == 0 || seen.in_time < seen.pairs) {
                faults.push(format!(
                    "{} of {} pairs answered within {limit} s of the {what}, {} at all",
                    seen.in_time, seen.pairs, seen.answered
                ));
            }
        }
        faults
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_pair_that_answers_late_or_never_is_a_fault_and_so_is_a_run_that_failed() {
        let all = Answers { pairs: 9, answered: 9, in_time: 9, median_s: Some(1.0), last_s: Some(2.0) };
        let good = Row { start: all.clone(), repair: all.clone(), ..Row::default() };
        assert_eq!(good.faults(), Vec::<String>::new());
        let late = Row { repair: Answers { in_time: 8, ..all.clone() }, ..good.clone() };
        assert_eq!(late.faults(), ["8 of 9 pairs answered within 5 s of the deaths, 9 at all"]);
        assert_eq!(Row { start: Answers::default(), ..good.clone() }.faults().len(), 1);
        assert_eq!(Row { failed: Some("gone".into()), start: Answers::default(), ..good }.faults(), ["gone"]);
    }
}
