//! Measures, with the programs of `tests/bench`.

use std::ffi::OsString;

use anyhow::Result;

use crate::command;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Chore {
    /// Messages over two hops through the API. What follows goes to the benchmark; `--help` tells more.
    Messages {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Builds the release binaries and runs the benchmark.
pub(crate) fn run(chore: &Chore) -> Result<bool> {
    let Chore::Messages { arguments } = chore;
    command::run(&mut command::cargo([
        "build",
        "--release",
        "--package",
        "byway",
        "--package",
        "byway-bench",
        "--bins",
    ]))?;
    let folder = command::target().join("release");
    let mut bench = command::program(folder.join("byway-bench"));
    bench.arg("messages").arg("--byway").arg(folder.join("byway")).args(arguments);
    command::run(&mut bench)?;
    Ok(true)
}
