//! `soak`: traffic while everything around it changes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use byway_bench::side::peer::Programs;
use byway_bench::soak::Plan;

#[derive(clap::Args)]
pub(crate) struct Soak {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The fast path: TCP with four streams while peers come and go, keys rotate every 2 s, and the configuration is reloaded.
    Fast(Fast),
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
pub(crate) fn run(Soak { what: What::Fast(arguments) }: &Soak) -> Result<bool> {
    let plan = Plan {
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        seed: arguments.seed,
        streams: 4,
        programs: Programs { folders: Vec::new(), byway: arguments.byway.clone() },
        settings: arguments.set.clone(),
    };
    let outcome = plan.run(|line| eprintln!("{line}"))?;
    print!("{}", outcome.words());
    let faults = outcome.faults();
    for fault in &faults {
        println!("FAULT: {fault} (seed {})", arguments.seed);
    }
    Ok(faults.is_empty())
}
