//! `soak`: what fails once in a while, looked for while everything changes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use byway_bench::side::peer::Programs;
use byway_bench::soak::{Plan, churn};

#[derive(clap::Args)]
pub(crate) struct Soak {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The fast path: TCP with four streams while peers come and go, keys rotate every 2 s, and the configuration is reloaded.
    Fast(Fast),
    /// Thirty daemons of which one comes or goes every few seconds: answers, control traffic, leaks.
    Churn(Churn),
}

#[derive(clap::Args)]
struct Churn {
    /// How long, in minutes.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Seed of the graph, and of what happens.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hosts.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(2..=250))]
    nodes: u16,
    /// Links of a host, on average.
    #[arg(long, default_value_t = 5.0)]
    degree: f64,
    /// Seconds from one change to the next.
    #[arg(long, default_value_t = 5.0)]
    every: f64,
    /// A key of the daemons' configuration with its value as TOML; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
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

#[derive(clap::Args)]
struct Fast {
    /// How long, in minutes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seed of what happens meanwhile.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A key of the daemons' configuration with its value as TOML; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The daemon; without it the one that was built with this program.
    #[arg(long, value_name = "PROGRAM")]
    byway: Option<PathBuf>,
}

/// Runs it; whether nothing is wrong.
pub(crate) fn run(soak: &Soak) -> Result<bool> {
    match &soak.what {
        What::Fast(arguments) => fast(arguments),
        What::Churn(arguments) => come_and_go(arguments),
    }
}

fn come_and_go(arguments: &Churn) -> Result<bool> {
    let plan = churn::Plan {
        time: Duration::try_from_secs_f64(arguments.minutes * 60.0)?,
        seed: arguments.seed,
        nodes: arguments.nodes.into(),
        degree: arguments.degree,
        every: Duration::try_from_secs_f64(arguments.every)?,
        settings: arguments.set.clone(),
        programs: Programs { folders: Vec::new(), byway: arguments.byway.clone() },
    };
    let outcome = plan.run(|line| eprintln!("{line}"))?;
    println!("{}", churn::words(&outcome));
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&outcome)?)?;
    }
    if arguments.write {
        let set: String = arguments.set.iter().map(|set| format!(" --set '{set}'")).collect();
        let command = format!(
            "cargo xtask soak churn --minutes {} --seed {}{set} --write",
            arguments.minutes, arguments.seed
        );
        churn::write(&outcome, &command)?;
    }
    verdict(&outcome.faults(), arguments.seed)
}

fn verdict(faults: &[String], seed: u64) -> Result<bool> {
    for fault in faults {
        println!("FAULT: {fault} (seed {seed})");
    }
    Ok(faults.is_empty())
}

fn fast(arguments: &Fast) -> Result<bool> {
    let plan = Plan {
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        seed: arguments.seed,
        streams: 4,
        programs: Programs { folders: Vec::new(), byway: arguments.byway.clone() },
        settings: arguments.set.clone(),
    };
    let outcome = plan.run(|line| eprintln!("{line}"))?;
    print!("{}", outcome.words());
    verdict(&outcome.faults(), arguments.seed)
}
