//! Checks and chores of the workspace: `cargo xtask help` lists them.
//!
//! Each check is a *step* with a name. `cargo xtask test` runs all of them and goes on after a failure, so that one run tells
//! everything that is wrong; its last line counts what passed and what failed.

mod bench;
mod command;
mod dependencies;
mod fuzz;
mod hygiene;
mod layers;
mod sim;
mod steps;
mod suite;
mod tests;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks and chores of the Byway workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Runs the whole suite: what continuous integration runs.
    Test(Selection),
    /// Runs the quick checks: no test is built.
    Check(Selection),
    /// Checks that the crates depend on each other as the layers allow.
    Layers,
    /// Runs fuzz targets.
    Fuzz(fuzz::Arguments),
    /// Measures.
    #[command(subcommand)]
    Bench(bench::Chore),
    /// Runs for a long time.
    #[command(subcommand)]
    Soak(bench::Soak),
    /// Routing protocols in worlds of thousands of nodes: `goals`, `compare`, `replay`. `--help` tells more.
    #[command(disable_help_flag = true)]
    Sim(sim::Words),
}

#[derive(clap::Args)]
struct Selection {
    /// Only this step; may be given several times.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Lists the steps, and runs none.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Test(selection) => suite::run(suite::ALL, &selection.only, selection.list),
        Chore::Check(selection) => suite::run(suite::QUICK, &selection.only, selection.list),
        Chore::Layers => suite::run(&["layers"], &[], false),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
        Chore::Bench(chore) => bench::run(&chore),
        Chore::Soak(soak) => bench::soak(&soak),
        Chore::Sim(words) => sim::run(&words),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}
