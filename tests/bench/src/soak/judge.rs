//! What a soak saw, and what of it is a fault.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How long the traffic should run, in seconds.
    pub asked: f64,
    /// The traffic.
    pub stalls: Stalls,
    /// Memory of the daemons at both ends.
    pub growth: Vec<Growth>,
    /// First line of each panic in any log.
    pub panics: Vec<String>,
    /// Configurations that a daemon did not take.
    pub refused: usize,
    /// How often each thing was done to them.
    pub done: BTreeMap<&'static str, u64>,
}

/// What the receiver saw of the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stalls {
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// Mbit/s on average.
    pub mbits: f64,
    /// Longest time without a byte of any connection, in seconds.
    pub longest: f64,
    /// Longest time without a byte of one of them, in seconds.
    pub longest_of_one: f64,
}

/// Memory of a daemon over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// The host.
    pub host: String,
    /// Resident at the end, in MiB.
    pub last: f64,
    /// How fast it grew once warm, in MiB a minute.
    pub slope: f64,
    /// Over how many seconds that was seen.
    pub seconds: f64,
}

/// Longest that nothing may arrive, in seconds.
const STALL: f64 = 1.0;
/// Memory that grows faster is a leak, in MiB a minute; a run must be long enough to tell.
const LEAK: f64 = 0.5;
const TELLING: f64 = 120.0;
/// No daemon of two peers needs more, in MiB, however short the run.
const MEMORY: f64 = 256.0;

impl Outcome {
    /// What is wrong; nothing if all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.stalls.longest > STALL {
            faults.push(format!("nothing arrived for {:.1} s", self.stalls.longest));
        }
        if self.stalls.seconds < 0.9 * self.asked {
            faults.push(format!("the traffic ended after {:.1} s", self.stalls.seconds));
        }
        for growth in &self.growth {
            if growth.seconds >= TELLING && growth.slope > LEAK {
                faults.push(format!("memory on {} grows by {:.2} MiB a minute", growth.host, growth.slope));
            }
            if growth.last > MEMORY {
                faults.push(format!("the daemon on {} has {:.0} MiB", growth.host, growth.last));
            }
        }
        if self.refused > 0 {
            faults.push(format!("{} configurations were refused", self.refused));
        }
        faults.extend(self.panics.iter().map(|panic| format!("a panic: {panic}")));
        faults
    }

    /// For people.
    pub fn words(&self) -> String {
        let Stalls { seconds, mbits, longest, longest_of_one } = self.stalls;
        let mut text = format!(
            "{seconds:.0} s of TCP, {mbits:.0} Mbit/s; longest stall {longest:.1} s, of one connection {longest_of_one:.1} s\n"
        );
        for Growth { host, last, slope, seconds } in &self.growth {
            text += &format!(
                "memory on {host}: {last:.1} MiB at the end, {slope:+.3} MiB a minute over the last {seconds:.0} s\n"
            );
        }
        let done: Vec<_> = self.done.iter().map(|(what, count)| format!("{what} {count} times")).collect();
        text + &format!("meanwhile: {}\npanics: {}\n", done.join(", "), self.panics.len())
    }
}

impl Stalls {
    /// Reads the report of iperf3's server.
    pub fn read(text: &str) -> Result<Self> {
        let report: Report = serde_json::from_str(text).context("iperf3's report is not understood")?;
        if let Some(error) = report.error {
            anyhow::bail!("iperf3: {error}");
        }
        ensure!(!report.intervals.is_empty(), "iperf3 measured nothing");
        let sums = report.intervals.iter().map(|interval| &interval.sum);
        let (bytes, seconds) =
            sums.clone().fold((0, 0.0), |(bytes, seconds), sum| (bytes + sum.bytes, seconds + sum.seconds));
        let streams = report.intervals.iter().map(|interval| interval.streams.len()).max().unwrap_or(0);
        let of = |index: usize| {
            let samples = report.intervals.iter().filter_map(move |interval| interval.streams.get(index));
            longest_silence(samples)
        };
        Ok(Self {
            seconds,
            mbits: bytes as f64 * 8.0 / 1e6 / seconds.max(1e-3),
            longest: longest_silence(sums),
            longest_of_one: (0..streams).map(of).fold(0.0, f64::max),
        })
    }
}

/// The longest run of samples without a byte, in seconds.
fn longest_silence<'a>(samples: impl Iterator<Item = &'a Sample>) -> f64 {
    let (mut longest, mut now) = (0.0_f64, 0.0);
    for sample in samples {
        now = if sample.bytes == 0 { now + sample.seconds } else { 0.0 };
        longest = longest.max(now);
    }
    longest
}

impl Growth {
    /// From samples of seconds and bytes; the first third, in which buffers fill, is left out.
    pub fn of(host: &str, samples: &[(f64, u64)]) -> Self {
        let warm: Vec<(f64, f64)> = samples[samples.len() / 3..]
            .iter()
            .map(|(at, bytes)| (*at, *bytes as f64 / f64::from(1 << 20)))
            .collect();
        let seconds = warm.last().zip(warm.first()).map_or(0.0, |(last, first)| last.0 - first.0);
        let last = warm.last().map_or(0.0, |last| last.1);
        Self { host: host.to_owned(), last, slope: slope(&warm) * 60.0, seconds }
    }
}

/// Of the line that lies nearest to all points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let common: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    if spread > 0.0 { common / spread } else { 0.0 }
}

/// The first line of a panic in a log.
pub(crate) fn panic_in(log: &str) -> Option<String> {
    log.lines().find(|line| line.contains("panicked at")).map(str::to_owned)
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    intervals: Vec<Interval>,
}

#[derive(Deserialize)]
struct Interval {
    #[serde(default)]
    streams: Vec<Sample>,
    sum: Sample,
}

#[derive(Deserialize)]
struct Sample {
    seconds: f64,
    bytes: u64,
}

#[cfg(test)]
mod unit {
    use super::*;

    fn report(streams: &[&[u64]]) -> String {
        let intervals = (0..streams[0].len()).map(|at| {
            let each: Vec<_> =
                streams.iter().map(|stream| format!(r#"{{"seconds":0.1,"bytes":{}}}"#, stream[at])).collect();
            let sum: u64 = streams.iter().map(|stream| stream[at]).sum();
            format!(r#"{{"streams":[{}],"sum":{{"seconds":0.1,"bytes":{sum}}}}}"#, each.join(","))
        });
        format!(r#"{{"intervals":[{}]}}"#, intervals.collect::<Vec<_>>().join(","))
    }

    fn outcome() -> Outcome {
        Outcome {
            asked: 600.0,
            stalls: Stalls { seconds: 600.0, mbits: 100.0, longest: 0.2, longest_of_one: 0.4 },
            growth: vec![Growth { host: "a".into(), last: 30.0, slope: 0.01, seconds: 400.0 }],
            panics: Vec::new(),
            refused: 0,
            done: BTreeMap::from([("peer killed", 7)]),
        }
    }

    #[test]
    fn stalls_are_runs_of_intervals_without_a_byte_of_all_and_of_one() {
        let seen = Stalls::read(&report(&[&[5, 0, 0, 0, 5, 0], &[5, 5, 0, 0, 0, 0]])).unwrap();
        assert!((seen.longest - 0.2).abs() < 1e-9 && (seen.longest_of_one - 0.4).abs() < 1e-9, "{seen:?}");
        assert!((seen.seconds - 0.6).abs() < 1e-9);
        assert!(Stalls::read(r#"{"error":"gone"}"#).is_err() && Stalls::read("{}").is_err());
    }

    #[test]
    fn memory_that_grows_has_a_slope_and_what_filled_at_first_has_none() {
        let leak: Vec<_> = (0..600_u64).map(|at| (at as f64, (10 << 20) + at * (1 << 20) / 60)).collect();
        let growth = Growth::of("a", &leak);
        assert!((growth.slope - 1.0).abs() < 0.01 && growth.seconds > 390.0, "{growth:?}");
        let fills: Vec<_> = (0..600_u64).map(|at| (at as f64, at.min(150) << 20)).collect();
        assert!(Growth::of("a", &fills).slope.abs() < 1e-9);
        assert!(Growth::of("a", &[]).slope.abs() < 1e-9);
    }

    #[test]
    fn each_fault_is_told() {
        assert_eq!(outcome().faults(), Vec::<String>::new());
        let mut bad = outcome();
        bad.stalls.longest = 1.3;
        bad.stalls.seconds = 100.0;
        bad.refused = 1;
        bad.growth[0].slope = 0.6;
        bad.panics.extend(panic_in("x\nthread 'main' panicked at src/main.rs\ny"));
        assert_eq!(bad.faults().len(), 5, "{:?}", bad.faults());
        // Too short to call it a leak, and too much all the same.
        bad.growth[0].seconds = 10.0;
        bad.growth[0].last = 300.0;
        assert!(bad.faults().iter().any(|fault| fault.contains("300 MiB")));
        assert!(bad.words().contains("peer killed 7 times"));
    }
}
