//! `mesh`: many daemons on a random graph, beside Yggdrasil.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_bench::mesh::{Plan, Row, Subject, section, write};
use byway_bench::side::peer::Programs;

#[derive(clap::Args)]
pub(crate) struct Mesh {
    /// Hosts.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(2..=250))]
    nodes: u16,
    /// Links of a host, on average.
    #[arg(long, default_value_t = 5.0)]
    degree: f64,
    /// Seed of the graph, and of who dies.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Percent of the daemons that are killed.
    #[arg(long, default_value_t = 20)]
    kill: u8,
    /// Seconds of pings before ways are measured again.
    #[arg(long, default_value_t = 60)]
    settle: u64,
    /// Routing protocols of Byway to measure besides the default.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    protocol: Vec<String>,
    /// A key of Byway's configuration with its value as TOML; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Byway alone.
    #[arg(long)]
    alone: bool,
    /// Folder with other people's programs, before those of the path; may be given several times.
    #[arg(long, value_name = "FOLDER", default_value = "target/peers/bin")]
    bin: Vec<PathBuf>,
    /// The daemon; without it the one that was built with this program.
    #[arg(long, value_name = "PROGRAM")]
    byway: Option<PathBuf>,
    /// Writes what was seen to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes its section of docs/routing.md, with what was seen beside it.
    #[arg(long)]
    write: bool,
}

/// Measures; whether our own daemon did what it must.
pub(crate) fn run(arguments: &Mesh) -> Result<bool> {
    ensure!(arguments.degree >= 1.0, "hosts need links");
    let programs = Programs { folders: arguments.bin.clone(), byway: arguments.byway.clone() };
    let mut subjects = vec![Subject::byway("byway", &arguments.set)?];
    for name in &arguments.protocol {
        let mut settings = arguments.set.clone();
        settings.push(format!("network.protocol=\"{name}\""));
        subjects.push(Subject::byway(&format!("byway-{name}"), &settings)?);
    }
    if !arguments.alone {
        if programs.find("yggdrasil").is_some() {
            subjects.push(Subject::Yggdrasil);
        } else {
            eprintln!("yggdrasil is left out: it is not there; `cargo xtask bench install` brings it");
        }
    }
    let plan = Plan {
        nodes: arguments.nodes.into(),
        degree: arguments.degree,
        seed: arguments.seed,
        killed: f64::from(arguments.kill) / 100.0,
        settle: Duration::from_secs(arguments.settle),
        subjects,
        programs,
        command: arguments.command(),
    };
    let report = plan.run(|row| eprintln!("{}", line(row)))?;
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)
            .with_context(|| file.display().to_string())?;
    }
    println!("## Real daemons\n\n{}", section(&report));
    if arguments.write {
        write(&report)?;
    }
    let ours = plan.subjects.iter().zip(&report.rows).filter(|(subject, _)| subject.is_ours());
    let faults: Vec<_> =
        ours.flat_map(|(_, row)| row.faults().into_iter().map(|fault| (&row.name, fault))).collect();
    for (name, fault) in &faults {
        println!("FAULT: {name}: {fault} (seed {})", arguments.seed);
    }
    Ok(faults.is_empty())
}

impl Mesh {
    /// The command line that measures the same again, without what is only true on this machine.
    fn command(&self) -> String {
        let mut words = format!("cargo xtask bench mesh --nodes {} --seed {}", self.nodes, self.seed);
        for (name, set) in [
            ("degree", (self.degree != 5.0).then(|| self.degree.to_string())),
            ("kill", (self.kill != 20).then(|| self.kill.to_string())),
            ("settle", (self.settle != 60).then(|| self.settle.to_string())),
            ("protocol", (!self.protocol.is_empty()).then(|| self.protocol.join(","))),
        ] {
            words += &set.map_or_else(String::new, |value| format!(" --{name} {value}"));
        }
        for set in &self.set {
            words += &format!(" --set '{set}'");
        }
        words + " --write"
    }
}

/// One row, on one line.
fn line(row: &Row) -> String {
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    format!(
        "{} {}: {} of {} pairs in time, last {} s; after deaths {} of {}, last {} s; stretch {} {} {}; {:.0} B/s{}",
        row.name,
        row.version,
        row.start.in_time,
        row.start.pairs,
        figure(row.start.last_s),
        row.repair.in_time,
        row.repair.pairs,
        figure(row.repair.last_s),
        figure(row.early.mean),
        figure(row.late.mean),
        figure(row.after.mean),
        row.quiet_bytes,
        row.failed.as_ref().map_or_else(String::new, |why| format!("; FAILED: {why}")),
    )
}
