//! `byway-sim`: what `cargo xtask sim` runs.

use std::process::ExitCode;

use byway_simlab::memory::Counting;
use byway_simlab::{compare, goals, replay};
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Routing protocols in worlds of thousands of nodes.
#[derive(Parser)]
#[command(bin_name = "cargo xtask sim")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Holds grove against its goals; exits with 1 when a bound is missed.
    Goals(goals::Arguments),
    /// Holds protocols against each other on the same world.
    Compare(compare::Arguments),
    /// Follows one message hop by hop.
    Replay(replay::Arguments),
}

fn main() -> ExitCode {
    let outcome = match &Arguments::parse().task {
        Task::Goals(arguments) => goals::run(arguments),
        Task::Compare(arguments) => compare::run(arguments),
        Task::Replay(arguments) => replay::run(arguments),
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
