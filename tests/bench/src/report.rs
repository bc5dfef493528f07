//! What was measured, for programs (JSON) and for people (Markdown).

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::messages::Seen;
use crate::streams::Carried;

/// What INET256's reference v0.0.8 delivered over two hops with messages of 1,280 bytes, in Mbit/s: 8 to 10 in our
/// measurements on two cores, in namespaces; the better figure counts.
pub const REFERENCE_MBITS: f64 = 10.0;

/// What it did with messages of this size, on a machine of this kind: Mbit/s, share that was delivered, share out of order.
/// The better figure of several runs counts.
const REFERENCE_SIZE: usize = 1_280;
const REFERENCE: [(Way, f64, &str, &str); 2] =
    [(Way::TwoHops, REFERENCE_MBITS, "9–11 %", "24–33 %"), (Way::SameDaemon, 62.0, "43 %", "3–12 %")];

/// One run of the benchmark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// What.
    pub rows: Vec<Row>,
    /// Byte streams.
    pub streams: Vec<StreamRow>,
    /// Two hops through our API, over the reference: what it measured here if it was at hand, else [`REFERENCE_MBITS`].
    pub ratio: Option<f64>,
    /// Whether the reference was measured in this run.
    pub reference_measured: bool,
}

/// The machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that may be used.
    pub cores: usize,
    /// Architecture.
    pub arch: String,
    /// Release of the kernel.
    pub kernel: String,
    /// The build: `release` or `dev`.
    pub build: String,
    /// `byway --version`.
    pub version: String,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Which way.
    pub way: Way,
    /// Which program and which of its interfaces.
    pub subject: Subject,
    /// What was seen.
    pub seen: Seen,
    /// Processor time of the daemons, in seconds.
    pub cpu_seconds: f64,
}

/// One measurement of a byte stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamRow {
    /// Which way.
    pub way: Way,
    /// What was seen.
    pub carried: Carried,
}

/// Between which nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From a node of daemon A over B to a node of daemon C.
    TwoHops,
    /// Between two nodes of one daemon.
    SameDaemon,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Byway through its own API: the WebSocket, by `client/rust`.
    Byway,
    /// Byway through the API of INET256.
    BywayInet256Api,
    /// INET256's reference.
    Inet256,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::TwoHops => "two hops",
            Self::SameDaemon => "same daemon",
        }
    }
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Byway => "Byway, own API",
            Self::BywayInet256Api => "Byway, INET256's API",
            Self::Inet256 => "INET256's reference",
        }
    }
}

impl Machine {
    /// This one.
    pub fn this(version: String) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            arch: std::env::consts::ARCH.to_owned(),
            kernel: read("/proc/sys/kernel/osrelease"),
            build: if cfg!(debug_assertions) { "dev" } else { "release" }.to_owned(),
            version,
        }
    }
}

impl Report {
    /// Sums up `rows`.
    pub fn new(machine: Machine, rows: Vec<Row>, streams: Vec<StreamRow>) -> Self {
        let two_hops = |subject| {
            rows.iter()
                .find(|row| row.way == Way::TwoHops && row.subject == subject)
                .map(|row| row.seen.mbits())
        };
        let reference = two_hops(Subject::Inet256);
        let ratio = two_hops(Subject::Byway)
            .map(|ours| ours / reference.unwrap_or(REFERENCE_MBITS).max(f64::MIN_POSITIVE));
        Self { machine, ratio, reference_measured: reference.is_some(), rows, streams }
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let sections = self.sections().into_iter();
        sections.map(|(title, body)| format!("## {title}\n\n{body}")).collect::<Vec<_>>().join("\n")
    }

    /// Sections of the page, each with its title.
    pub fn sections(&self) -> Vec<(&'static str, String)> {
        let mut sections = vec![("Messages", self.messages())];
        if !self.streams.is_empty() {
            sections.push(("Byte streams", self.byte_streams()));
        }
        sections
    }

    fn messages(&self) -> String {
        let Machine { cores, arch, kernel, build, version } = &self.machine;
        let mut text = format!(
            "`cargo xtask bench messages --write` measures and writes this section and the next.\n\n\
             {version}, {build} build, {cores} cores ({arch}), Linux {kernel}. Three daemons A–B–C on this one machine, linked by UDP \
             over loopback, encrypted on each hop and from end to end; sender, receiver and daemons share the cores. The sender offers as fast as it \
             is taken.\n\n\
             | way | what | bytes | Mbit/s | messages/s | delivered | out of order | CPU s per 10⁹ bytes |\n\
             |---|---|---:|---:|---:|---:|---:|---:|\n"
        );
        for row in &self.rows {
            let seen = &row.seen;
            let gigabytes = seen.delivered as f64 * seen.size as f64 / 1e9;
            let cpu = if gigabytes > 0.0 {
                format!("{:.1}", row.cpu_seconds / gigabytes)
            } else {
                "–".to_owned()
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.1} | {:.0} | {:.2} % | {:.2} % | {cpu} |",
                row.way.name(),
                row.subject.name(),
                seen.size,
                seen.mbits(),
                seen.rate(),
                seen.share() * 100.0,
                seen.disorder() * 100.0,
            );
        }
        if !self.reference_measured && self.rows.iter().any(|row| row.seen.size == REFERENCE_SIZE) {
            for (way, mbits, share, disorder) in REFERENCE {
                let rate = mbits * 1e6 / 8.0 / REFERENCE_SIZE as f64;
                let _ = writeln!(
                    text,
                    "| {} | INET256's reference, earlier | {REFERENCE_SIZE} | {mbits:.1} | {rate:.0} | {share} | {disorder} | – |",
                    way.name(),
                );
            }
        }
        if let Some(ratio) = self.ratio {
            let basis = if self.reference_measured {
                "what INET256's reference delivered in the same run".to_owned()
            } else {
                format!(
                    "the {REFERENCE_MBITS:.0} Mbit/s that INET256's reference v0.0.8 delivered over two hops on a machine of this kind \
                     (it was not at hand in this run; with a program `inet256` in the path it is measured side by side)"
                )
            };
            let _ = write!(text, "\nTwo hops through our own API: **{ratio:.0} times** {basis}.\n");
        }
        text
    }

    fn byte_streams(&self) -> String {
        let mut text = "One stream, as `byway dial` and `byway listen` use it, between the same nodes.\n\n\
                        | way | MB | Mbit/s |\n|---|---:|---:|\n"
            .to_owned();
        for row in &self.streams {
            let megabytes = row.carried.bytes as f64 / 1e6;
            let _ = writeln!(text, "| {} | {megabytes:.0} | {:.1} |", row.way.name(), row.carried.mbits());
        }
        text
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn row(way: Way, subject: Subject, mbits: f64) -> Row {
        let seen =
            Seen { size: 1250, sent: 100, delivered: 100, reordered: 0, repeated: 0, seconds: 1.0 / mbits };
        Row { way, subject, seen, cpu_seconds: 0.5 }
    }

    fn machine() -> Machine {
        Machine {
            cores: 2,
            arch: "x".into(),
            kernel: "6".into(),
            build: "dev".into(),
            version: "byway 0".into(),
        }
    }

    #[test]
    fn the_ratio_is_to_the_reference_if_it_ran_and_else_to_its_known_figure() {
        let ours = row(Way::TwoHops, Subject::Byway, 300.0);
        let alone = Report::new(
            machine(),
            vec![row(Way::SameDaemon, Subject::Byway, 900.0), ours.clone()],
            Vec::new(),
        );
        assert!((alone.ratio.unwrap() - 30.0).abs() < 1e-6 && !alone.reference_measured);
        let both = Report::new(machine(), vec![ours, row(Way::TwoHops, Subject::Inet256, 15.0)], Vec::new());
        assert!((both.ratio.unwrap() - 20.0).abs() < 1e-6 && both.reference_measured);
        assert_eq!(Report::new(machine(), Vec::new(), Vec::new()).ratio, None);
    }

    #[test]
    fn the_reference_stands_beside_messages_of_its_size_unless_it_was_measured() {
        let sized = |subject| {
            let mut row = row(Way::TwoHops, subject, 300.0);
            row.seen.size = REFERENCE_SIZE;
            row
        };
        let earlier =
            |rows| Report::new(machine(), rows, Vec::new()).markdown().matches("reference, earlier").count();
        assert_eq!(earlier(vec![sized(Subject::Byway)]), 2);
        assert_eq!(earlier(vec![sized(Subject::Byway), sized(Subject::Inet256)]), 0);
        assert_eq!(earlier(vec![row(Way::TwoHops, Subject::Byway, 300.0)]), 0);
    }

    #[test]
    fn the_page_has_a_line_for_each_measurement_and_json_leads_back() {
        let report = Report::new(machine(), vec![row(Way::TwoHops, Subject::Byway, 300.0)], Vec::new());
        assert!(
            report.markdown().contains("| two hops | Byway, own API | 1250 | 300.0 |"),
            "{}",
            report.markdown()
        );
        let json = serde_json::to_string(&report).unwrap();
        let back: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(back.rows[0].seen, report.rows[0].seen);
    }
}
