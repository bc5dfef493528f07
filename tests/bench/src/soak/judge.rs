//! What a soak saw, and what of it is a fault.

use std::collections::BTreeMap;

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How long the traffic should run, in seconds.
    pub asked: f64,
    /// The traffic.
    pub stalls: Stalls,
    /// What the program said that made the traffic, if it failed.
    pub broke: Option<String>,
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
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
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
        faults.extend(self.broke.as_ref().map(|words| format!("iperf3 failed: {words}")));
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
    /// From samples of seconds and bytes that had arrived by then, up to the end of what was asked for, and from what iperf3's server
    /// printed on the way, line by line, about each connection.
    pub fn of(samples: &[(f64, u64)], lines: &str) -> Self {
        // Before the first byte nothing stalls.
        let first = samples.windows(2).position(|pair| pair[1].1 > pair[0].1).unwrap_or(samples.len());
        let samples = &samples[first..];
        let gained = |pair: &[(f64, u64)]| (pair[1].0 - pair[0].0, pair[1].1 > pair[0].1);
        let end = samples.windows(2).rposition(|pair| gained(pair).1).map_or(0, |at| at + 1);
        let (Some((begin, before)), Some((until, after))) = (samples.first(), samples.get(end)) else {
            return Self::default();
        };
        let each = connections(lines);
        Self {
            seconds: until - begin,
            mbits: (after - before) as f64 * 8.0 / 1e6 / (until - begin).max(1e-3),
            longest: longest_silence(samples.windows(2).map(gained)),
            longest_of_one: each
                .into_values()
                .map(|lines| longest_silence(lines.into_iter()))
                .fold(0.0, f64::max),
        }
    }
}

/// The intervals of each connection, by its number: how long each was, and whether anything arrived.
fn connections(lines: &str) -> BTreeMap<u32, Vec<(f64, bool)>> {
    let mut each: BTreeMap<u32, Vec<(f64, bool)>> = BTreeMap::new();
    for line in lines.lines() {
        // [  5]   0.10-0.20   sec  19.1 MBytes  1.60 Gbits/sec
        let Some((number, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) else {
            continue;
        };
        let words: Vec<_> = rest.split_whitespace().collect();
        let ([span, "sec", amount, ..], Ok(number)) = (&words[..], number.trim().parse()) else { continue };
        let Some((begin, end)) = span.split_once('-') else { continue };
        if let (Ok(begin), Ok(end), Ok(amount)) =
            (begin.parse::<f64>(), end.parse::<f64>(), amount.parse::<f64>())
        {
            // The last line of each sums up.
            let known = each.entry(number).or_default();
            if begin > 0.0 || known.is_empty() {
                known.push((end - begin, amount > 0.0));
            }
        }
    }
    each
}

/// The longest run of intervals in which nothing came, in seconds; each has its length, and whether anything did.
fn longest_silence(intervals: impl Iterator<Item = (f64, bool)>) -> f64 {
    let (mut longest, mut now) = (0.0_f64, 0.0);
    for (seconds, came) in intervals {
        now = if came { 0.0 } else { now + seconds };
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

#[cfg(test)]
mod unit {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            asked: 600.0,
            stalls: Stalls { seconds: 600.0, mbits: 100.0, longest: 0.2, longest_of_one: 0.4 },
            growth: vec![Growth { host: "a".into(), last: 30.0, slope: 0.01, seconds: 400.0 }],
            broke: None,
            panics: Vec::new(),
            refused: 0,
            done: BTreeMap::from([("peer killed", 7)]),
        }
    }

    #[test]
    fn a_stall_is_a_time_in_which_the_counter_stands_once_it_has_moved() {
        let at = |bytes: &[u64]| {
            let samples: Vec<_> =
                bytes.iter().enumerate().map(|(at, bytes)| (at as f64 / 10.0, *bytes)).collect();
            Stalls::of(&samples, "")
        };
        let seen = at(&[0, 0, 0, 0, 0, 1_000_000, 2_000_000, 2_000_000, 2_000_000, 3_000_000, 3_000_000]);
        assert!((seen.longest - 0.2).abs() < 1e-9 && (seen.seconds - 0.5).abs() < 1e-9, "{seen:?}");
        assert!((seen.mbits - 48.0).abs() < 1e-6, "{seen:?}");
        // An end that comes too early is a stall as well.
        assert!((at(&[0, 1, 1, 1, 1]).longest - 0.3).abs() < 1e-9);
        assert_eq!((at(&[]), at(&[5, 5, 5])), (Stalls::default(), Stalls::default()));
    }

    #[test]
    fn one_connection_may_stall_while_others_go_on() {
        let text = "[ ID] Interval           Transfer     Bitrate\n\
            [  5]   0.00-0.10   sec  19.1 MBytes  1.60 Gbits/sec\n[  8]   0.00-0.10   sec  1 MBytes  1 Gbits/sec\n\
            [SUM]   0.00-0.10   sec  20.1 MBytes  1.60 Gbits/sec\n- - - -\n\
            [  5]   0.10-0.20   sec  0.00 Bytes  0.00 bits/sec\n[  8]   0.10-0.20   sec  1 MBytes  1 Gbits/sec\n\
            [  5]   0.20-0.30   sec  0.00 Bytes  0.00 bits/sec\n[  8]   0.20-0.30   sec  1 MBytes  1 Gbits/sec\n\
            [  5]   0.00-0.30   sec  0.00 Bytes  0.00 bits/sec                  receiver\n";
        let samples = [(0.0, 0), (0.1, 5)];
        let seen = Stalls::of(&samples, text);
        assert!((seen.longest_of_one - 0.2).abs() < 1e-9, "{seen:?}");
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
        bad.broke = Some("control socket has closed unexpectedly".into());
        bad.growth[0].slope = 0.6;
        bad.panics.extend(panic_in("x\nthread 'main' panicked at src/main.rs\ny"));
        assert_eq!(bad.faults().len(), 6, "{:?}", bad.faults());
        // Too short to call it a leak, and too much all the same.
        bad.growth[0].seconds = 10.0;
        bad.growth[0].last = 300.0;
        assert!(bad.faults().iter().any(|fault| fault.contains("300 MiB")));
        assert!(bad.words().contains("peer killed 7 times"));
    }
}
