//! `messages`: messages and byte streams, over two hops and between two nodes of one daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use byway_bench::fleet::{Fleet, START, built_byway, in_path};
use byway_bench::messages::{End, Load, measure};
use byway_bench::report::{Machine, Report, Row, StreamRow, Subject, Way};
use byway_bench::side::page::Page;
use byway_bench::{open, open_node, streams};

#[derive(clap::Args)]
pub(crate) struct Messages {
    /// Bytes of each message.
    #[arg(long, default_value_t = 1280, value_parser = clap::value_parser!(u16).range(8..))]
    size: u16,
    /// How long each measurement sends, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Bytes of each stream, in millions.
    #[arg(long, default_value_t = 200)]
    stream_megabytes: u64,
    /// The daemon; without it the one that was built with this program.
    #[arg(long, value_name = "PROGRAM")]
    byway: Option<PathBuf>,
    /// INET256's reference; without it `inet256` if it is in the path.
    #[arg(long, value_name = "PROGRAM")]
    inet256: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Writes its sections of docs/benchmarks.md.
    #[arg(long)]
    write: bool,
    /// Fails unless two hops are so many times as fast as the reference.
    #[arg(long, value_name = "TIMES")]
    require: Option<f64>,
}

/// Measures; whether what was required was reached.
pub(crate) fn run(arguments: &Messages) -> Result<bool> {
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(measure_all(arguments))
}

/// Ways, and the place in the line of the daemon at their end; all begin at the first.
const WAYS: [(Way, usize); 2] = [(Way::TwoHops, 2), (Way::SameDaemon, 0)];

async fn measure_all(arguments: &Messages) -> Result<bool> {
    let byway = arguments.byway.clone().map_or_else(built_byway, Ok)?;
    let load =
        Load { size: arguments.size.into(), time: Duration::from_secs(arguments.seconds), count: u64::MAX };
    let mut rows = Vec::new();
    let fleet = Fleet::byway(&byway).await?;
    for subject in [Subject::Byway, Subject::BywayInet256Api] {
        rows.extend(both_ways(&fleet, subject, load).await.with_context(|| fleet.logs())?);
    }
    let mut carried = Vec::new();
    for (way, target) in WAYS {
        let (from, to) = (open_node(fleet.api(0)).await?, open_node(fleet.api(target)).await?);
        let measured = streams::measure(from, to, arguments.stream_megabytes * 1_000_000).await;
        carried.push(StreamRow { way, carried: measured.with_context(|| fleet.logs())? });
    }
    fleet.stop().await?;
    if let Some(inet256) = arguments.inet256.clone().or_else(|| in_path("inet256")) {
        let fleet = Fleet::inet256(&inet256).await?;
        rows.extend(both_ways(&fleet, Subject::Inet256, load).await.with_context(|| fleet.logs())?);
        fleet.stop().await?;
    }

    let report = Report::new(Machine::this(version(&byway)?), rows, carried);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.markdown());
    }
    if arguments.write {
        let mut page = Page::read()?;
        for (title, body) in report.sections() {
            page.put(title, &body);
        }
        page.write()?;
    }
    let enough = arguments.require.is_none_or(|least| report.ratio.is_some_and(|ratio| ratio >= least));
    if !enough {
        eprintln!("two hops are slower than required");
    }
    Ok(enough)
}

async fn both_ways(fleet: &Fleet, subject: Subject, load: Load) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (way, target) in WAYS {
        let raw = subject != Subject::Byway;
        let (from, to): (End, End) = (open(fleet.api(0), raw).await?, open(fleet.api(target), raw).await?);
        from.reaches(&to, START).await?;
        let before = fleet.cpu();
        let seen = measure(&from, &to, load).await?;
        rows.push(Row { way, subject, seen, cpu_seconds: (fleet.cpu() - before).as_secs_f64() });
    }
    Ok(rows)
}

fn version(byway: &Path) -> Result<String> {
    let output = std::process::Command::new(byway).arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
