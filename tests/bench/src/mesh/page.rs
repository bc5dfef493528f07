//! A section of `docs/routing.md`, and the file beside it.

use std::fmt::Write as _;

use anyhow::Result;

use crate::section;

use super::{Answers, Lengths, REPAIR, Report, Row, START};

/// Where the page is, from the root of the workspace.
const PAGE: &str = "docs/routing.md";
/// Where its data is.
const FOLDER: &str = "docs/routing";
const TITLE: &str = "Real daemons";

/// Keeps the report, and writes its section.
pub fn write(report: &Report) -> Result<()> {
    put(TITLE, &section(report))?;
    keep("mesh.json", &serde_json::to_string_pretty(report)?)
}

/// Keeps a file beside the page.
pub(crate) fn keep(name: &str, text: &str) -> Result<()> {
    section::keep(FOLDER, name, text)
}

/// Replaces a section of the page, or adds it at its end; the others are not ours.
pub(crate) fn put(title: &str, body: &str) -> Result<()> {
    section::put(PAGE, "# Routing\n", title, body)
}

/// The section, for people.
pub fn section(report: &Report) -> String {
    let machine = &report.machine;
    let links = report.links.len();
    let mut text = format!(
        "{} hosts in network namespaces, a random geometric graph (seed {}) with {links} links, {:.1} for each on average, and delays of \
         {:.1} to {:.1} ms one way; the longest shortest way takes {:.0} ms. A daemon on each starts, then {} are killed with `kill -9`. \
         Every ordered pair pings, through the TUN devices. *Stretch* is the round trip, the fastest of six, over twice the delay of the \
         shortest way.\n\n{}, {} cores, {} MiB, Linux {}; {:.0} min in all.\n\n```sh\n{}\n```\n\n",
        report.nodes,
        report.seed,
        links as f64 * 2.0 / report.nodes as f64,
        report.links.iter().map(|link| link.2).fold(f64::INFINITY, f64::min),
        report.links.iter().map(|link| link.2).fold(0.0, f64::max),
        report.widest_ms,
        report.rows.iter().map(|row| row.dead.len()).max().unwrap_or(0),
        machine.processor,
        machine.cores,
        machine.memory,
        machine.kernel,
        report.seconds / 60.0,
        report.command,
    );
    let _ = writeln!(
        text,
        "| program | pairs answered within {START} s of the start | median, last s | within {REPAIR} s of the deaths | median, last s |\n\
         |---|---:|---:|---:|---:|"
    );
    for row in &report.rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            name(row),
            in_time(&row.start),
            times(&row.start),
            in_time(&row.repair),
            times(&row.repair)
        );
    }
    text += "\n| program | stretch at once: mean, 99 %, worst | after a minute of pings | after the deaths | pings answered |\n\
             |---|---:|---:|---:|---:|\n";
    for row in &report.rows {
        let all = [&row.early, &row.late, &row.after];
        let (pings, answered) =
            all.iter().fold((0, 0), |(pings, answered), each| (pings + each.pings, answered + each.answered));
        let share = answered as f64 * 100.0 / (pings.max(1)) as f64;
        let [early, late, after] = all.map(lengths);
        let _ = writeln!(text, "| {} | {early} | {late} | {after} | {share:.2} % |", name(row));
    }
    text += "\n| program | sent by a host while nobody pings, B/s | packets/s | cores of a daemon | memory of a daemon, MiB |\n\
             |---|---:|---:|---:|---:|\n";
    for row in &report.rows {
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.1} | {:.4} | {:.1} |",
            name(row),
            row.quiet_bytes,
            row.quiet_packets,
            row.quiet_cpu,
            row.memory_mib
        );
    }
    let late = report.rows.iter().map(|row| row.late_us).fold(0.0, f64::max);
    let _ = writeln!(
        text,
        "\nBytes are those of whole IP packets: with the headers of IP, UDP or TCP, the links' own encryption, keep-alives and handshakes. \
         All daemons share the cores; the links themselves deliver up to {late:.0} µs late on average, which is part of the stretch."
    );
    for row in report.rows.iter().filter(|row| row.failed.is_some()) {
        let why = row.failed.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        let _ = writeln!(text, "\n{} ended early: {why}", row.name);
    }
    text
}

fn name(row: &Row) -> String {
    format!("{} {}", row.name, row.version)
}

fn in_time(answers: &Answers) -> String {
    format!("{} of {}", answers.in_time, answers.pairs)
}

fn times(answers: &Answers) -> String {
    let all = if answers.answered < answers.pairs {
        format!(", {} never", answers.pairs - answers.answered)
    } else {
        String::new()
    };
    format!("{}, {}{all}", figure(answers.median_s), figure(answers.last_s))
}

fn lengths(lengths: &Lengths) -> String {
    let all = if lengths.answered_pairs < lengths.pairs {
        format!(" ({} of {})", lengths.answered_pairs, lengths.pairs)
    } else {
        String::new()
    };
    format!("{}, {}, {}{all}", figure(lengths.mean), figure(lengths.p99), figure(lengths.worst))
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::side::record::Machine;
    use byway_netns::Graph;

    #[test]
    fn the_section_has_a_line_for_each_program_in_each_table_and_tells_who_failed() {
        let mut report =
            Report::new(Machine::default(), &Graph::geometric(10, 4.0, 1), 1, "cargo xtask bench mesh");
        let start = Answers { pairs: 90, answered: 89, in_time: 80, median_s: Some(1.0), last_s: Some(11.0) };
        report.rows.push(Row { name: "byway".into(), version: "1".into(), start, ..Row::default() });
        report.rows.push(Row { name: "other".into(), failed: Some("gone\nx".into()), ..Row::default() });
        let text = section(&report);
        assert_eq!(text.matches("| byway 1 |").count(), 3, "{text}");
        assert!(text.contains("| 80 of 90 | 1.00, 11.00, 1 never |"), "{text}");
        assert!(text.contains("other ended early: gone\n"), "{text}");
        let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(again.rows, report.rows);
    }
}
