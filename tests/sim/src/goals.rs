//! Holds grove against its goals.

use anyhow::{Result, bail};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 1_000)]
    pub nodes: usize,
    /// overlay, ba, tree, rgg or grid; all of them, one after the other.
    #[arg(long, default_value = "all")]
    pub topology: String,
    /// The seed of all chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// One JSON object per goal and line, instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Measures; whether every bound was kept.
pub fn run(_arguments: &Arguments) -> Result<bool> {
    bail!("this cannot be done yet")
}
