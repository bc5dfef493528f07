//! Worlds of thousands of nodes, with the program of `tests/sim`.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};

use crate::command;

/// Words that the program reads.
#[derive(clap::Args)]
pub(crate) struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Builds the release binary and runs it; false if it says no.
pub(crate) fn run(Words { words }: &Words) -> Result<bool> {
    command::run(&mut command::cargo(["build", "--release", "--bins", "--package", "byway-simlab"]))?;
    let mut sim = command::program(command::target().join("release").join("byway-sim"));
    let status = sim.args(words).status().context("byway-sim could not be started")?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("byway-sim failed: {status}"),
    }
}
