//! TCP throughput with `iperf3`, round trips with `ping`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use byway_netns::{Host, Process, listens};
use serde::Deserialize;

/// A TCP measurement.
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Connections side by side.
    pub streams: u32,
    /// From the server to the client.
    pub reverse: bool,
    /// Seconds that count.
    pub seconds: u32,
    /// Seconds before them, in which TCP finds its pace.
    pub warm_up: u32,
    /// Seconds between two lines of the report.
    pub interval: f64,
}

/// What a TCP measurement saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// Bytes that arrived, from the first to the last.
    pub bytes: u64,
    /// Mbit/s that arrived once warm.
    pub mbits: f64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Bytes that arrived in each interval, with its length in seconds.
    pub intervals: Vec<(f64, u64)>,
}

impl Tcp {
    /// As most measurements want it.
    pub const fn new(streams: u32, reverse: bool, seconds: u32) -> Self {
        Self { streams, reverse, seconds, warm_up: 1, interval: 0.5 }
    }

    /// Runs a server on one host and a client on the other.
    pub fn run(&self, client: &Host, server: &Host, address: &str) -> Result<Carried> {
        let mut serving = self.serve(server, address)?;
        let output = self.command(client, address).output()?;
        // A server whose client gave up would wait for another.
        drop(serving.wait(std::time::Duration::from_millis(300)));
        self.read(&String::from_utf8_lossy(&output.stdout))
    }

    /// Starts a server for one client.
    pub fn serve(&self, server: &Host, address: &str) -> Result<Process> {
        let interval = self.interval;
        let line =
            format!("iperf3 --server --one-off --json --interval {interval} --bind {address} --port {PORT}");
        let serving = server.start(&line)?;
        listens(server, PORT)?;
        Ok(serving)
    }

    /// The client's command, which ends by itself.
    pub fn command(&self, client: &Host, address: &str) -> Command {
        let seconds = self.seconds + self.warm_up;
        let line = format!(
            "--kill-after=1 {} iperf3 --client {address} --port {PORT} --time {seconds} --interval {} --parallel {} --json \
             --get-server-output{}",
            seconds + 15,
            self.interval,
            self.streams,
            if self.reverse { " --reverse" } else { "" },
        );
        client.command("timeout", line.split_whitespace())
    }

    /// Reads what the client printed.
    pub fn read(&self, text: &str) -> Result<Carried> {
        let report: Report = serde_json::from_str(text).with_context(|| {
            let end: String = text.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
            format!("iperf3 printed no report: {end}")
        })?;
        if let Some(error) = report.error {
            anyhow::bail!("iperf3: {error}");
        }
        // Who receives knows what arrived.
        let intervals = if self.reverse {
            report.intervals
        } else {
            report.server_output_json.context("iperf3's server told nothing")?.intervals
        };
        ensure!(!intervals.is_empty(), "iperf3 measured no interval");
        let intervals: Vec<Sum> = intervals.into_iter().map(|interval| interval.sum).collect();
        let warm = f64::from(self.warm_up) - self.interval / 2.0;
        let counted = intervals.iter().filter(|sum| sum.start >= warm);
        let (bytes, seconds) =
            counted.fold((0, 0.0), |(bytes, seconds), sum| (bytes + sum.bytes, seconds + sum.seconds));
        ensure!(seconds > 0.0, "iperf3 ended before it was warm");
        Ok(Carried {
            bytes: intervals.iter().map(|sum| sum.bytes).sum(),
            mbits: bytes as f64 * 8.0 / 1e6 / seconds,
            retransmits: report.end.sum_sent.and_then(|sum| sum.retransmits).unwrap_or(0),
            intervals: intervals.iter().map(|sum| (sum.seconds, sum.bytes)).collect(),
        })
    }
}

/// Round trips, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundTrips {
    /// Half of them were as short as this.
    pub median: f64,
    /// 99 of 100 were.
    pub p99: f64,
    /// Pings that were answered.
    pub answered: usize,
}

/// Sends `count` pings, ten milliseconds apart.
pub fn round_trips(host: &Host, address: &str, count: u32) -> Result<RoundTrips> {
    let limit = count / 100 + 3;
    let output = host.output(&format!("ping -n -i 0.01 -c {count} -W 1 -w {limit} {address}"))?;
    read_round_trips(&String::from_utf8_lossy(&output.stdout))
}

fn read_round_trips(text: &str) -> Result<RoundTrips> {
    let mut times: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split("time=").nth(1)?.split_whitespace().next()?.parse().ok())
        .map(|milliseconds: f64| milliseconds * 1000.0)
        .collect();
    ensure!(!times.is_empty(), "no ping was answered: {text}");
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];
    Ok(RoundTrips { median: at(0.5), p99: at(0.99), answered: times.len() })
}

/// Pings as fast as they are answered, for `seconds`: answers each second.
pub fn ping_flood(host: &Host, address: &str, seconds: u32) -> Result<f64> {
    let output = host.output(&format!("ping -n -f -q -w {seconds} {address}"))?;
    read_flood(&String::from_utf8_lossy(&output.stdout))
}

fn read_flood(text: &str) -> Result<f64> {
    let line = text.lines().find(|line| line.contains(" received")).context("ping printed no summary")?;
    let part = |end: &str| {
        let mut parts = line.split(", ");
        parts.find_map(|part| part.trim().strip_suffix(end)?.parse::<f64>().ok())
    };
    let answered = part(" received").context("ping counted nothing")?;
    let milliseconds = line
        .split("time ")
        .nth(1)
        .and_then(|rest| rest.strip_suffix("ms")?.parse::<f64>().ok())
        .context("ping told no time")?;
    Ok(answered * 1000.0 / milliseconds.max(1.0))
}

const PORT: u16 = 5201;

/// What iperf3 prints, as far as we read it.
#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    intervals: Vec<Interval>,
    #[serde(default)]
    end: End,
    server_output_json: Option<ServerReport>,
}

#[derive(Deserialize)]
struct ServerReport {
    #[serde(default)]
    intervals: Vec<Interval>,
}

#[derive(Deserialize)]
struct Interval {
    sum: Sum,
}

#[derive(Deserialize)]
struct Sum {
    start: f64,
    seconds: f64,
    bytes: u64,
}

#[derive(Default, Deserialize)]
struct End {
    sum_sent: Option<Sent>,
}

#[derive(Deserialize)]
struct Sent {
    retransmits: Option<u64>,
}

#[cfg(test)]
mod unit {
    use super::*;

    fn intervals(bytes: &[u64]) -> String {
        let each = bytes.iter().enumerate().map(|(index, bytes)| {
            format!(r#"{{"sum":{{"start":{},"seconds":0.5,"bytes":{bytes}}}}}"#, index as f64 * 0.5)
        });
        each.collect::<Vec<_>>().join(",")
    }

    #[test]
    fn what_arrived_once_warm_counts_for_the_speed_and_everything_for_the_bytes() {
        let text = format!(
            r#"{{"intervals":[{}],"end":{{"sum_sent":{{"retransmits":7}}}},"server_output_json":{{"intervals":[{}]}}}}"#,
            intervals(&[9, 9, 9, 9]),
            intervals(&[1, 1, 1_000_000, 1_500_000]),
        );
        let carried = Tcp::new(1, false, 1).read(&text).unwrap();
        assert_eq!((carried.bytes, carried.retransmits), (2_500_002, 7));
        assert!((carried.mbits - 20.0).abs() < 1e-9);
        let back = Tcp::new(1, true, 1).read(&text).unwrap();
        assert_eq!(back.bytes, 36);
    }

    #[test]
    fn a_failed_measurement_is_an_error_that_says_why() {
        let error = Tcp::new(1, false, 1).read(r#"{"error":"unable to connect"}"#).unwrap_err();
        assert!(error.to_string().contains("unable to connect"));
        assert!(Tcp::new(1, false, 1).read("").is_err());
        assert!(Tcp::new(1, true, 9).read(&format!(r#"{{"intervals":[{}]}}"#, intervals(&[1]))).is_err());
    }

    #[test]
    fn pings_are_read_and_sorted() {
        let text = "64 bytes from fd77::2: icmp_seq=1 ttl=64 time=0.300 ms\n64 bytes: time=0.100 ms\n64 bytes: time=0.200 ms\n";
        let trips = read_round_trips(text).unwrap();
        assert!((trips.median - 200.0).abs() < 1e-6 && (trips.p99 - 300.0).abs() < 1e-6);
        assert_eq!(trips.answered, 3);
        assert!(read_round_trips("nothing").is_err());
    }

    #[test]
    fn a_flood_of_pings_is_counted_by_its_summary() {
        let text = "--- ::1 ping statistics ---\n52112 packets transmitted, 52110 received, 0.00384% packet loss, time 999ms\nrtt";
        assert!((read_flood(text).unwrap() - 52162.162).abs() < 0.01);
        assert!(read_flood("").is_err());
    }
}
