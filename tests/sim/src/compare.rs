//! Holds protocols against each other on the same world.

use anyhow::{Result, bail};

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 1_000)]
    pub nodes: usize,
    /// The seed of all chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Does it; whether all went well.
pub fn run(_arguments: &Arguments) -> Result<bool> {
    bail!("this cannot be done yet")
}
