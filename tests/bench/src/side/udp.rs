//! Datagrams: the highest rate at which nearly none is lost, and what arrives when the sender knows no limit.
//!
//! A source on one host and a sink on the other, both this program under another name, take orders by their standard input. Each
//! trial has a number that its datagrams carry, so stragglers of one are never counted in the next.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::Host;
use serde::{Deserialize, Serialize};

use crate::side::datagrams::{NUMBER, Order, Sent};

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Datagrams a second that were asked for; 0: as fast as it goes.
    pub wanted: f64,
    /// Datagrams a second that were sent.
    pub sent: f64,
    /// Datagrams a second that arrived.
    pub arrived: f64,
    /// Share of the sent ones that did not arrive, 0 to 1.
    pub lost: f64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Datagrams a second, with no more lost than was allowed.
    pub best: f64,
    /// Whether the sender could not send more.
    pub sender_limited: bool,
    /// Every trial, in order.
    pub trials: Vec<Trial>,
}

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Largest share that may be lost, 0 to 1.
    pub loss: f64,
    /// Where to begin, in datagrams a second.
    pub begin: f64,
    /// How long a trial takes on the way, in seconds.
    pub step: f64,
    /// How long the last one takes, which decides.
    pub confirm: f64,
}

impl Search {
    /// Looks for the highest rate that `trial` (datagrams a second, seconds) carries.
    ///
    /// Upward by steps, then halving the gap. One hiccup of the machine is no limit, so a failed trial is repeated once; short
    /// trials flatter whoever has long queues, so a longer one confirms the result, or lowers it.
    pub fn run(&self, mut trial: impl FnMut(f64, f64) -> Result<Trial>) -> Result<Found> {
        let mut found = Found::default();
        let mut holds = |rate: f64, seconds: f64, found: &mut Found| -> Result<Option<Trial>> {
            for _ in 0..2 {
                let seen = trial(rate, seconds)?;
                found.trials.push(seen);
                if seen.lost <= self.loss {
                    return Ok(Some(seen));
                }
            }
            Ok(None)
        };
        let (mut low, mut high): (Option<Trial>, Option<f64>) = (None, None);
        let mut rate = self.begin;
        let mut most_sent = 0.0_f64;
        while found.trials.len() < Self::TRIALS {
            match holds(rate, self.step, &mut found)? {
                Some(seen) => {
                    low = Some(seen);
                    // It sends less than it is asked to, and asking for more did not help.
                    if seen.sent < 0.9 * rate && seen.sent < 1.1 * most_sent {
                        found.sender_limited = true;
                        break;
                    }
                    most_sent = most_sent.max(seen.sent);
                    rate = high.map_or(rate * 1.6, |high| (rate + high) / 2.0);
                }
                None => {
                    high = Some(rate);
                    rate = low.map_or(rate / 2.0, |low| f64::midpoint(low.wanted, rate));
                }
            }
            let near = |(low, high): (Trial, f64)| high / low.wanted < Self::NEAR;
            if low.zip(high).is_some_and(near) || rate < 100.0 {
                break;
            }
        }
        let mut rate = low.map_or(0.0, |low| low.wanted);
        for _ in 0..8 {
            if rate < 100.0 {
                break;
            }
            if let Some(seen) = holds(rate, self.confirm, &mut found)? {
                found.best = seen.arrived;
                break;
            }
            found.sender_limited = false;
            rate *= 0.85;
        }
        Ok(found)
    }

    const TRIALS: usize = 24;
    /// Bounds so near to each other are not told apart.
    const NEAR: f64 = 1.08;
}

/// A source and a sink, joined by whatever lies between their hosts.
pub struct Pair {
    source: Helper,
    sink: Helper,
    number: u32,
    size: usize,
}

impl Pair {
    /// Starts both; datagrams have `size` bytes.
    pub fn start(from: &Host, to: &Host, address: &str, size: usize) -> Result<Self> {
        ensure!(size >= NUMBER, "a datagram holds its number");
        let program = helper_program()?;
        let at = SocketAddr::new(address.parse()?, PORT).to_string();
        let sink = Helper::start(to.command(&program, ["udp-sink", &at]))?;
        let source = Helper::start(from.command(&program, ["udp-source", &at]))?;
        Ok(Self { source, sink, number: 0, size })
    }

    /// Sends at `rate` datagrams a second (0: as fast as it goes), and waits for the last to arrive.
    pub fn trial(&mut self, rate: f64, seconds: f64) -> Result<Trial> {
        self.number += 1;
        let order = Order { number: self.number, size: self.size, rate, seconds };
        let sent: Sent = serde_json::from_str(&self.source.ask(&serde_json::to_string(&order)?)?)?;
        let mut arrived = self.arrived()?;
        for _ in 0..30 {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.arrived()?;
            if now == arrived {
                break;
            }
            arrived = now;
        }
        let count = sent.count.max(1) as f64;
        Ok(Trial {
            wanted: rate,
            sent: sent.count as f64 / sent.seconds.max(1e-3),
            arrived: arrived as f64 / sent.seconds.max(1e-3),
            lost: (1.0 - arrived as f64 / count).max(0.0),
        })
    }

    fn arrived(&mut self) -> Result<u64> {
        Ok(self.sink.ask(&self.number.to_string())?.trim().parse()?)
    }
}

const PORT: u16 = 5300;

/// The benchmark's own program, also when a test asks.
pub(crate) fn helper_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("byway-bench"));
    beside.into_iter().find(|file| file.is_file()).context("byway-bench is not built")
}

/// A helper's process; it ends when its input does.
struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Helper {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("a helper without output")?);
        let mut helper = Self { child, input, output };
        let ready = helper.line()?;
        ensure!(ready.trim() == "ready", "a helper said {ready:?}");
        Ok(helper)
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.input.as_mut().context("a helper without input")?, "{line}")?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "a helper has ended");
        Ok(line)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    /// A way that carries `capacity`, behind a sender that can send `most`.
    fn way(capacity: f64, most: f64) -> impl FnMut(f64, f64) -> Result<Trial> {
        move |wanted, _| {
            let sent = wanted.min(most);
            let arrived = sent.min(capacity);
            Ok(Trial { wanted, sent, arrived, lost: 1.0 - arrived / sent })
        }
    }

    const SEARCH: Search = Search { loss: 0.001, begin: 10_000.0, step: 0.1, confirm: 0.2 };

    #[test]
    fn the_search_finds_the_limit_of_the_way_from_below_and_from_above() {
        for capacity in [3_000.0, 9_000.0, 85_000.0, 640_000.0] {
            let found = SEARCH.run(way(capacity, 1e9)).unwrap();
            assert!(found.best <= capacity * 1.002 && found.best > capacity / 1.09, "{capacity}: {found:?}");
            assert!(!found.sender_limited);
        }
    }

    #[test]
    fn a_sender_that_is_the_limit_is_told() {
        let found = SEARCH.run(way(1e9, 120_000.0)).unwrap();
        assert!(found.sender_limited && (found.best - 120_000.0).abs() < 1.0, "{found:?}");
    }

    #[test]
    fn one_hiccup_does_not_end_the_search_and_a_dead_way_does() {
        let mut inner = way(80_000.0, 1e9);
        let mut turn = 0;
        let found = SEARCH
            .run(|rate, seconds| {
                turn += 1;
                let seen = inner(rate, seconds)?;
                Ok(if turn == 2 { Trial { lost: 0.5, ..seen } } else { seen })
            })
            .unwrap();
        assert!(found.best > 70_000.0, "{found:?}");
        let dead = SEARCH.run(way(0.0, 1e9)).unwrap();
        assert!(dead.best == 0.0 && dead.trials.len() <= Search::TRIALS + 2, "{dead:?}");
    }

    #[test]
    fn what_long_queues_hide_from_short_trials_the_long_one_sees() {
        // 5,000 datagrams wait in a queue: a trial of 0.1 s flatters.
        let found = SEARCH
            .run(|wanted, seconds| {
                let carried = (50_000.0 * seconds + 5_000.0).min(wanted * seconds);
                let lost = 1.0 - carried / (wanted * seconds);
                Ok(Trial { wanted, sent: wanted, arrived: carried / seconds, lost })
            })
            .unwrap();
        assert!(found.best <= 76_000.0, "{found:?}");
    }
}
