//! What a campaign measured: every sample, with what one needs to measure it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::side::aead::Speed;

/// One run of the benchmark over its peers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Campaign {
    /// What kind of run.
    pub kind: Kind,
    /// When it began, UTC.
    pub began: String,
    /// What it took, in seconds.
    pub seconds: f64,
    /// Whether it was ended before it was done.
    #[serde(default)]
    pub interrupted: bool,
    /// The command line that measures this again.
    pub command: String,
    /// Seed of the wires' dice.
    pub seed: u64,
    /// Turns of every peer.
    pub repetitions: u32,
    /// Seconds of each TCP measurement that count.
    pub tcp_seconds: u32,
    /// Where.
    pub machine: Machine,
    /// How TCP's senders adapt in the namespaces.
    pub congestion: String,
    /// Bits a second of the wires, if there were wires.
    pub wire_rate: Option<u64>,
    /// What encryption alone costs on one core.
    pub aead: Vec<Speed>,
    /// Every sample.
    pub rows: Vec<Row>,
}

/// Kinds of campaigns; each has its own section and its own file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Two hosts, joined by a veth pair with all of its offloads.
    Direct,
    /// The same, with the offloads off.
    NoOffload,
    /// Two hosts, joined by a wire with faults.
    Wire,
    /// Three hosts in a line, besides two.
    Relay,
}

impl Kind {
    /// All, in the order of the page.
    pub const ALL: [Self; 4] = [Self::Direct, Self::NoOffload, Self::Wire, Self::Relay];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::NoOffload => "no-offload",
            Self::Wire => "wire",
            Self::Relay => "relay",
        }
    }
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of its processors.
    pub processor: String,
    /// Processors that may be used.
    pub cores: usize,
    /// Release of its kernel.
    pub kernel: String,
    /// Memory, in MiB.
    pub memory: u64,
    /// The programs that measure, with their versions.
    pub tools: BTreeMap<String, String>,
}

/// One turn of one peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// Which peer.
    pub peer: String,
    /// Its version.
    pub version: String,
    /// What it says of the ciphers of its sessions, if it does.
    #[serde(default)]
    pub in_use: Option<String>,
    /// MTU of its device.
    pub mtu: Option<u32>,
    /// Which turn, from 0.
    pub repetition: u32,
    /// Hosts in the line.
    pub hosts: usize,
    /// What the wire did; empty where there was none.
    pub profile: String,
    /// Cores that others used just before.
    pub others_before: f64,
    /// Name of the measure (see [`crate::side::measure`]) to its value.
    pub samples: BTreeMap<String, f64>,
    /// Measures that failed, and why.
    pub failed: BTreeMap<String, String>,
}

impl Machine {
    /// This one, with the versions of these programs.
    pub fn this(tools: BTreeMap<String, String>) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, start: &str| {
            let line = text.lines().find(|line| line.starts_with(start))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = line(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kilobytes = memory.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        Self {
            processor: line(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory: kilobytes.unwrap_or(0) / 1024,
            tools,
        }
    }
}

impl Campaign {
    /// The median of a measure of a peer, over its turns.
    pub fn median(&self, peer: &str, hosts: usize, profile: &str, measure: &str) -> Option<f64> {
        median(self.samples(peer, hosts, profile, measure))
    }

    /// A measure of a peer in every turn that has it.
    pub fn samples(&self, peer: &str, hosts: usize, profile: &str, measure: &str) -> Vec<f64> {
        let rows =
            self.rows.iter().filter(|row| row.peer == peer && row.hosts == hosts && row.profile == profile);
        rows.filter_map(|row| row.samples.get(measure).copied()).collect()
    }

    /// Its peers, in the order of their first turn.
    pub fn peers(&self) -> Vec<&str> {
        let mut peers = Vec::new();
        for row in &self.rows {
            if !peers.contains(&row.peer.as_str()) {
                peers.push(&row.peer);
            }
        }
        peers
    }

    /// What the cost of a cipher is, if it was measured.
    pub fn cipher(&self, name: &str) -> Option<f64> {
        self.aead.iter().find(|speed| speed.cipher == name).map(Speed::both)
    }
}

impl Row {
    /// Notes that a measure failed, and why, without the paths of this one machine.
    pub fn fail(&mut self, what: &str, error: &anyhow::Error) {
        self.failed.insert(what.to_owned(), without_paths(&format!("{error:#}")));
    }
}

/// The text with the last part of each path only.
fn without_paths(text: &str) -> String {
    let shorten = |word: &str| match word.rfind('/') {
        Some(last) if word.find('/') == Some(0) && last > 0 => word[last + 1..].to_owned(),
        _ => word.to_owned(),
    };
    let is_end = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '=' | ':' | ',' | '`');
    text.split_inclusive(is_end)
        .map(|word| {
            let bare = word.trim_end_matches(is_end);
            shorten(bare) + &word[bare.len()..]
        })
        .collect()
}

/// The middle of some values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_there() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn reasons_of_failures_keep_no_paths() {
        let error = anyhow::anyhow!("\"/tmp/x-1/b/byway.toml\": unix:/a/b.sock, 1/2 of /s\nend");
        let mut row = Row::default();
        row.fail("start", &error);
        assert_eq!(row.failed["start"], "\"byway.toml\": unix:b.sock, 1/2 of /s\nend");
    }

    #[test]
    fn this_machine_has_cores_memory_and_a_kernel() {
        let machine = Machine::this(BTreeMap::new());
        assert!(machine.cores > 0 && machine.memory > 0 && !machine.kernel.is_empty(), "{machine:?}");
    }
}
