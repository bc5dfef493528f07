//! `transports`: each transport between two daemons.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use byway_bench::fleet::built_byway;
use byway_bench::transports::Plan;
use byway_testbed::Kind;

#[derive(clap::Args)]
pub(crate) struct Transports {
    /// Only transports whose names begin so; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// What one transfer fetches, in megabytes; over Tor and I2P 10 at most.
    #[arg(long, default_value_t = 200)]
    megabytes: usize,
    /// Transfers over each, of which the median counts.
    #[arg(long, default_value_t = 3)]
    transfers: usize,
    /// Pings, likewise.
    #[arg(long, default_value_t = 50)]
    pings: usize,
    /// Seconds that daemons are left alone.
    #[arg(long, default_value_t = 10)]
    idle: u64,
    /// Writes what was seen to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes its section of docs/transports.md, with what was seen beside it.
    #[arg(long)]
    write: bool,
}

/// Measures; a transport that does not carry what it must is an error.
pub(crate) fn run(arguments: &Transports) -> Result<bool> {
    let wanted = |kind: &Kind| {
        arguments.only.is_empty() || arguments.only.iter().any(|only| kind.name().starts_with(only.as_str()))
    };
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(wanted).collect();
    if kinds.is_empty() {
        bail!("there are {}", Kind::ALL.map(Kind::name).join("; "));
    }
    let version = std::process::Command::new(built_byway()?).arg("--version").output()?;
    let plan = Plan {
        kinds,
        bytes: arguments.megabytes * 1_000_000,
        transfers: arguments.transfers,
        pings: arguments.pings,
        idle: Duration::from_secs(arguments.idle),
        command: "cargo xtask bench transports --write".to_owned(),
    };
    let report = plan.run(String::from_utf8(version.stdout)?.trim().to_owned(), |row| {
        eprintln!("{}: {:.0} Mbit/s, {:.2} ms", row.name, row.mbits, row.rtt_ms);
    })?;
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)
            .with_context(|| file.display().to_string())?;
    }
    println!("## Measured\n\n{}", report.section());
    if arguments.write {
        report.write()?;
    }
    Ok(true)
}
