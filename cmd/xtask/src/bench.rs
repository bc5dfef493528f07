//! Measures, with the programs of `tests/bench`.

use std::ffi::OsString;

use anyhow::Result;

use crate::command;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Chore {
    /// Messages over two hops through the API. What follows goes to the benchmark; `--help` tells more.
    #[command(disable_help_flag = true)]
    Messages(Words),
    /// Byway beside other programs that join hosts. What follows goes to the benchmark; `--help` tells more.
    #[command(disable_help_flag = true)]
    Peers(Words),
    /// Thirty daemons on a random graph, of which some are killed; beside Yggdrasil. `--help` tells more.
    #[command(disable_help_flag = true)]
    Mesh(Words),
    /// Each transport between two daemons: set-up, round trip, throughput, memory. `--help` tells more.
    #[command(disable_help_flag = true)]
    Transports(Words),
    /// Installs those programs from package registries.
    #[command(disable_help_flag = true)]
    Install(Words),
}

/// What runs for a long time, looking for what fails once in a while.
#[derive(clap::Subcommand)]
pub(crate) enum Soak {
    /// The fast path under load, while peers, keys and configuration change. `--help` tells more.
    #[command(disable_help_flag = true)]
    Fast(Words),
    /// Thirty daemons of which one comes or goes every few seconds. `--help` tells more.
    #[command(disable_help_flag = true)]
    Churn(Words),
}

/// Words that another program reads.
#[derive(clap::Args)]
pub(crate) struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Builds the release binaries and runs the benchmark.
pub(crate) fn run(chore: &Chore) -> Result<bool> {
    match chore {
        Chore::Messages(words) => start(&["messages"], words, true),
        Chore::Peers(words) => start(&["peers"], words, true),
        Chore::Mesh(words) => start(&["mesh"], words, true),
        Chore::Transports(words) => start(&["transports"], words, true),
        Chore::Install(words) => start(&["install"], words, false),
    }
}

/// Builds the release binaries and runs the soak.
pub(crate) fn soak(soak: &Soak) -> Result<bool> {
    match soak {
        Soak::Fast(words) => start(&["soak", "fast"], words, true),
        Soak::Churn(words) => start(&["soak", "churn"], words, true),
    }
}

fn start(what: &[&str], Words { words }: &Words, daemon: bool) -> Result<bool> {
    let mut build = command::cargo(["build", "--release", "--bins", "--package", "byway-bench"]);
    if daemon {
        // The daemon, and the wires between hosts.
        build.args(["--package", "byway", "--package", "byway-netns"]);
    }
    command::run(&mut build)?;
    let folder = command::target().join("release");
    let mut bench = command::program(folder.join("byway-bench"));
    bench.args(what).args(words);
    command::run(&mut bench)?;
    Ok(true)
}
