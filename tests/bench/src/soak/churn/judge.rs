//! What a soak with churn saw, and what of it is a fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use anyhow::Result;
use byway_netns::Heard;
use serde::{Deserialize, Serialize};

use crate::mesh;
use crate::soak::churn::said::Said;
use crate::soak::judge::Growth;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The daemon's version.
    pub version: String,
    /// How long daemons should come and go, in seconds.
    pub asked: f64,
    /// How long they did.
    pub seconds: f64,
    /// Hosts.
    pub nodes: usize,
    /// Of everything that happened.
    pub seed: u64,
    /// How often each thing was done.
    pub done: BTreeMap<String, u64>,
    /// When the last pair answered after the start, in seconds; none: not all did.
    pub at_start: Option<f64>,
    /// The same in the end, when all were up again.
    pub at_end: Option<f64>,
    /// Pings of sampled pairs.
    pub pings: Pings,
    /// Pairs that had a way and got no answer.
    pub silent: Vec<String>,
    /// What routing said.
    pub control: Control,
    /// What the links carried while nobody pinged.
    pub wires: Wires,
    /// Daemons that stayed.
    pub stayed: Vec<Stayed>,
    /// The largest daemon at any time, in MiB.
    pub largest_mib: f64,
    /// Daemons that ended by themselves.
    pub ended: Vec<String>,
    /// First line of each panic in any log.
    pub panics: Vec<String>,
}

/// Sampled pairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pings {
    /// All that pinged.
    pub asked: u64,
    /// Those whose ends were joined all the time by daemons that ran all the time.
    pub joined: u64,
    /// Those of them that got an answer within the time that a repair may take.
    pub answered: u64,
    /// Those whose first ping was answered.
    pub at_once: u64,
    /// The longest that one waited for its first answer, in milliseconds.
    pub longest_ms: f64,
}

/// What the routing protocols of all daemons sent, by the kind of frame, as `grove` numbers them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Daemons times seconds.
    pub node_seconds: f64,
    /// Bytes of each kind of frame.
    pub bytes: BTreeMap<u8, u64>,
}

/// What the links carried while nobody pinged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wires {
    /// Daemons times seconds.
    pub node_seconds: f64,
    /// Bytes of whole IP packets.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// The most of any time without pings, in bytes a daemon and second.
    pub worst: f64,
}

/// What a process held at some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Holding {
    /// When, in seconds.
    pub at: f64,
    /// Resident memory, in bytes.
    pub memory: u64,
    /// Open files.
    pub files: u64,
    /// Threads.
    pub threads: u64,
}

/// A daemon that ran all the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stayed {
    /// Its memory.
    pub memory: Growth,
    /// Open files in the first third and in the last: medians.
    pub files: (u64, u64),
    /// Threads.
    pub threads: (u64, u64),
}

/// Bytes a second that a daemon may send to keep the network as it is: the goal for random geometric graphs of 1,000 nodes.
const CONTROL: f64 = 800.0;
/// Frames that keep trees, summaries and views as they are, whether anybody has something to say or not: HELLO, CERTS, HOME, FILTER, VIEW.
const KEEPING: RangeInclusive<u8> = 1..=5;
/// Frames that find nodes, LOOKUP and FOUND, and that look for better ways of sessions, PROBE to ECHO: as many as there is traffic.
const FINDING: RangeInclusive<u8> = 6..=7;
const PROBING: RangeInclusive<u8> = 10..=13;
/// Share of joined pairs that must be answered.
const ANSWERED: f64 = 0.99;
/// Memory that grows faster is a leak, in MiB a minute.
const LEAK: f64 = 0.1;
/// So many seconds tell whether it does, and what daemons say once their trees have found lasting roots.
const TELLING: f64 = 600.0;
/// No daemon of so small a network needs more, in MiB.
const MEMORY: f64 = 64.0;
/// Files and threads may be more by so many: one that is just dialled, one that just works.
const MORE: u64 = 8;

impl Pings {
    pub(super) fn take(&mut self, joined: bool, heard: &Heard) {
        self.asked += 1;
        if !joined {
            return;
        }
        self.joined += 1;
        self.answered += u64::from(heard.first_ms.is_some());
        self.at_once += u64::from(heard.first_ms.is_some() && heard.sent == 1);
        self.longest_ms = self.longest_ms.max(heard.first_ms.unwrap_or(0.0));
    }

    fn share(count: u64, of: u64) -> f64 {
        count as f64 / of.max(1) as f64
    }
}

impl Control {
    /// What a daemon said since it was asked before, or since it began to run.
    pub(super) fn take(&mut self, now: &Said, before: Option<&Said>) {
        self.node_seconds += now.seconds - before.map_or(0.0, |before| before.seconds);
        for (kind, bytes) in &now.bytes {
            let known = before.and_then(|before| before.bytes.get(kind)).copied().unwrap_or(0);
            *self.bytes.entry(*kind).or_default() += bytes.saturating_sub(known);
        }
    }

    /// Bytes a daemon and second of these kinds of frames.
    pub fn rate(&self, kinds: RangeInclusive<u8>) -> f64 {
        self.bytes.range(kinds).map(|(_, bytes)| *bytes).sum::<u64>() as f64 / self.node_seconds.max(1e-3)
    }
}

impl Wires {
    pub(super) fn take(&mut self, node_seconds: f64, bytes: u64, packets: u64) {
        self.node_seconds += node_seconds;
        self.bytes += bytes;
        self.packets += packets;
        self.worst = self.worst.max(bytes as f64 / node_seconds.max(1e-3));
    }

    /// Bytes a daemon and second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.node_seconds.max(1e-3)
    }
}

impl Outcome {
    /// Judges what the daemons that stayed held.
    pub(super) fn held(&mut self, holdings: &BTreeMap<usize, Vec<Holding>>) {
        self.stayed = holdings
            .iter()
            .map(|(index, held)| {
                let memory: Vec<_> = held.iter().map(|held| (held.at, held.memory)).collect();
                Stayed {
                    memory: Growth::of(&format!("h{index}"), &memory),
                    files: thirds(held, |held| held.files),
                    threads: thirds(held, |held| held.threads),
                }
            })
            .collect();
    }

    /// One line for who waits.
    pub(super) fn so_far(&self) -> String {
        format!(
            "{:?}; {} of {} joined pairs answered; {:.0} B/s; {} ended, {} panics",
            self.done,
            self.pings.answered,
            self.pings.joined,
            self.control.rate(KEEPING),
            self.ended.len(),
            self.panics.len()
        )
    }

    /// What is wrong; nothing if all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.seconds < 0.99 * self.asked {
            faults.push(format!("it ended after {:.0} of {:.0} s", self.seconds, self.asked));
        }
        for (when, last) in [("start", self.at_start), ("end", self.at_end)] {
            if last.is_none() {
                faults.push(format!("not all pairs answer at the {when}"));
            }
        }
        let Pings { joined, answered, .. } = self.pings;
        if joined == 0 || Pings::share(answered, joined) < ANSWERED {
            faults.push(format!(
                "{answered} of {joined} joined pairs were answered: {}",
                self.silent.join("; ")
            ));
        }
        let kept = self.control.rate(KEEPING);
        if self.control.node_seconds == 0.0 || self.seconds >= TELLING && kept > CONTROL {
            faults.push(format!("{kept:.0} B/s of control traffic"));
        }
        for Stayed { memory, files, threads } in &self.stayed {
            if memory.seconds >= TELLING && memory.slope > LEAK {
                faults.push(format!("memory on {} grows by {:.2} MiB a minute", memory.host, memory.slope));
            }
            for (what, (first, last)) in [("files", files), ("threads", threads)] {
                if *last > first + MORE {
                    faults.push(format!("{what} on {} grew from {first} to {last}", memory.host));
                }
            }
        }
        if self.stayed.is_empty() {
            faults.push("no daemon stayed".to_owned());
        }
        if self.largest_mib > MEMORY {
            faults.push(format!("a daemon had {:.0} MiB", self.largest_mib));
        }
        faults.extend(self.ended.iter().map(|who| format!("a daemon ended by itself: {who}")));
        faults.extend(self.panics.iter().map(|panic| format!("a panic: {panic}")));
        faults
    }
}

/// Medians of the first third and of the last.
fn thirds(held: &[Holding], what: impl Fn(&Holding) -> u64) -> (u64, u64) {
    let median = |part: &[Holding]| {
        let mut counts: Vec<u64> = part.iter().map(&what).collect();
        counts.sort_unstable();
        counts.get(counts.len() / 2).copied().unwrap_or(0)
    };
    let third = held.len().div_ceil(3);
    (median(&held[..third]), median(&held[held.len() - third..]))
}

/// For people.
pub fn words(outcome: &Outcome) -> String {
    let Outcome { pings, control, wires, .. } = outcome;
    let done: Vec<_> = outcome.done.iter().map(|(what, count)| format!("{count} {what}")).collect();
    let percent = |count| Pings::share(count, pings.joined) * 100.0;
    let seconds = |last: Option<f64>| last.map_or("not all".to_owned(), |last| format!("{last:.1} s"));
    let of_stayed =
        |pick: fn(&Stayed) -> f64| outcome.stayed.iter().map(pick).fold(f64::NEG_INFINITY, f64::max);
    let span = |pick: fn(&Stayed) -> (u64, u64)| {
        let most = |of: fn((u64, u64)) -> u64| {
            outcome.stayed.iter().map(|stayed| of(pick(stayed))).max().unwrap_or(0)
        };
        format!("{} and {}", most(|both| both.0), most(|both| both.1))
    };
    let mut text = format!(
        "byway {}, {} daemons on a random geometric graph (seed {}), {:.0} min: {}.\n\n",
        outcome.version,
        outcome.nodes,
        outcome.seed,
        outcome.seconds / 60.0,
        done.join(", ")
    );
    let _ = writeln!(text, "| what | seen | must |\n|---|---:|---:|");
    let mut row = |what: &str, seen: String, must: String| {
        let _ = writeln!(text, "| {what} | {seen} | {must} |");
    };
    row("all pairs answer after the start", seconds(outcome.at_start), "10 s".into());
    row("all pairs answer in the end, with everyone up again", seconds(outcome.at_end), "10 s".into());
    row(
        "sampled pairs with a way: answered within 5 s",
        format!("{:.2} % of {}", percent(pings.answered), pings.joined),
        format!("{:.0} %", ANSWERED * 100.0),
    );
    row("the same: the first ping answered", format!("{:.2} %", percent(pings.at_once)), String::new());
    row(
        "control frames that a daemon sends",
        format!("{:.0} B/s", control.rate(KEEPING)),
        format!("{CONTROL:.0} B/s"),
    );
    row(
        "frames for new pairs, and for better ways of sessions",
        format!("{:.0}; {:.0} B/s", control.rate(FINDING), control.rate(PROBING)),
        String::new(),
    );
    row(
        "all that a daemon sends while nobody pings; the most of any 8 s",
        format!("{:.0}; {:.0} B/s", wires.rate(), wires.worst),
        String::new(),
    );
    row(
        "memory of those that stayed: fastest growth, once warm",
        format!("{:+.3} MiB/min", of_stayed(|stayed| stayed.memory.slope)),
        format!("{LEAK} MiB/min"),
    );
    row(
        "memory: those that stayed, the largest of all",
        format!("{:.1}; {:.1} MiB", of_stayed(|stayed| stayed.memory.last), outcome.largest_mib),
        format!("{MEMORY:.0} MiB"),
    );
    row(
        "open files of those that stayed, at first and at last",
        span(|stayed| stayed.files),
        format!("+{MORE}"),
    );
    row("threads", span(|stayed| stayed.threads), format!("+{MORE}"));
    row("daemons that ended by themselves", outcome.ended.len().to_string(), "0".into());
    row("panics in any log", outcome.panics.len().to_string(), "0".into());
    let each: Vec<_> =
        control.bytes.keys().map(|kind| format!("{kind}: {:.0}", control.rate(*kind..=*kind))).collect();
    let _ = writeln!(
        text,
        "\nControl frames are those of kinds 1 to 5, as their senders count them from the time on when all pairs had answered, without what \
         links put around them; by kind, in B/s: {}. \
         All that a daemon sends is counted on the links as whole IP packets, and has the headers, keep-alives and handshakes of links \
         and sessions in it; daemons come and go all the same.",
        each.join(", ")
    );
    text
}

/// Keeps what was seen, and writes its section.
pub fn write(outcome: &Outcome, command: &str) -> Result<()> {
    let text = format!("```sh\n{command}\n```\n\n{}", words(outcome));
    mesh::put("Daemons that come and go", &text)?;
    mesh::keep("churn.json", &serde_json::to_string_pretty(outcome)?)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn good() -> Outcome {
        let mut outcome = Outcome {
            asked: 900.0,
            seconds: 900.0,
            nodes: 30,
            at_start: Some(1.0),
            at_end: Some(2.0),
            pings: Pings { asked: 220, joined: 200, answered: 199, at_once: 190, longest_ms: 900.0 },
            largest_mib: 20.0,
            ..Outcome::default()
        };
        outcome.control.take(&said(100.0, 50_000), None);
        outcome.held(&BTreeMap::from([(0, steady(1000))]));
        outcome
    }

    fn said(seconds: f64, bytes: u64) -> Said {
        Said { seconds, bytes: BTreeMap::from([(2, bytes), (8, 1_000_000_000), (10, 1_000_000)]) }
    }

    fn steady(seconds: u64) -> Vec<Holding> {
        let at = |at: u64| Holding { at: at as f64, memory: 20 << 20, files: 30, threads: 7 };
        (0..seconds).step_by(5).map(at).collect()
    }

    #[test]
    fn nothing_is_wrong_with_a_good_run_and_each_fault_is_told() {
        assert_eq!(good().faults(), Vec::<String>::new());
        type Break = fn(&mut Outcome);
        let bad: [(&str, Break); 9] = [
            ("ended after", |outcome| outcome.seconds = 700.0),
            ("at the start", |outcome| outcome.at_start = None),
            ("at the end", |outcome| outcome.at_end = None),
            ("197 of 200", |outcome| outcome.pings.answered = 197),
            ("0 of 0", |outcome| outcome.pings = Pings::default()),
            ("control traffic", |outcome| outcome.control.take(&said(1.0, 1_000_000), None)),
            ("90 MiB", |outcome| outcome.largest_mib = 90.0),
            ("by itself: host 3", |outcome| outcome.ended.push("host 3".into())),
            ("a panic: oh", |outcome| outcome.panics.push("oh".into())),
        ];
        for (fault, make) in bad {
            let mut outcome = good();
            make(&mut outcome);
            let faults = outcome.faults();
            assert!(faults.len() == 1 && faults[0].contains(fault), "{fault}: {faults:?}");
        }
        assert_eq!(Outcome::default().faults().len(), 5);
        // What the beginning costs is no measure of what follows.
        let short = Outcome { asked: 60.0, seconds: 60.0, ..good() };
        let mut loud = short.clone();
        loud.control.take(&said(1.0, 1_000_000), None);
        assert_eq!((short.faults(), loud.faults()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn memory_files_and_threads_that_grow_are_leaks() {
        let leak = |grow: fn(&mut Holding)| {
            let mut held = steady(1000);
            held.iter_mut().for_each(grow);
            let mut outcome = good();
            outcome.held(&BTreeMap::from([(0, steady(1000)), (5, held)]));
            outcome.faults()
        };
        assert!(leak(|held| held.memory += held.at as u64 * (1 << 20) / 300)[0].contains("memory on h5"));
        assert!(leak(|held| held.files += held.at as u64 / 50)[0].contains("files on h5 grew"));
        assert!(leak(|held| held.threads += held.at as u64 / 50)[0].contains("threads on h5 grew"));
        assert_eq!(leak(|held| held.files += held.at as u64 % 7), Vec::<String>::new());
    }

    #[test]
    fn what_a_daemon_said_counts_once_and_by_kind() {
        let mut control = Control::default();
        control.take(&said(10.0, 10_000), None);
        control.take(&said(15.0, 16_000), Some(&said(10.0, 10_000)));
        assert!((control.rate(KEEPING) - 16_000.0 / 15.0).abs() < 1e-9, "{control:?}");
        assert!((control.rate(PROBING) - 1_000_000.0 / 15.0).abs() < 1e-9, "{control:?}");
        let mut wires = Wires::default();
        wires.take(10.0, 10_000, 50);
        wires.take(10.0, 2_000, 10);
        assert!((wires.rate() - 600.0).abs() < 1e-9 && (wires.worst - 1000.0).abs() < 1e-9);
        assert!(words(&good()).contains("| 99.50 % of 200 | 99 % |"), "{}", words(&good()));
    }
}
