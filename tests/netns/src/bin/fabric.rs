//! Joins many network namespaces with links that can delay, lose, reorder and be cut.

use std::path::PathBuf;

use byway_netns::run_fabric;
use clap::Parser;

/// Many links between many network namespaces in one process: one TUN device in each namespace.
///
/// Needs the right to enter them. Takes orders on a Unix socket, one JSON value a line: "count", or {"set": {"link": [0, 1],
/// "faults": {"delay_ms": 30, "loss": 0.01}}}; answers each with what passed so far.
#[derive(Parser)]
struct Arguments {
    /// What to join, as JSON: {"hosts": [PID, …], "links": [[0, 1, {"delay_ms": 5}], …], "seed": 1}
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// Where to take orders
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let Arguments { plan, control } = Arguments::parse();
    run_fabric(&plan, &control)
}
