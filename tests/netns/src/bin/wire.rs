//! Joins two network namespaces with a cable that can delay, lose, reorder, throttle and be cut.

use std::path::PathBuf;

use byway_netns::{Faults, WireOptions, parse_end, run_wire};
use clap::Parser;

/// A cable with faults between two network namespaces: one TAP device in each.
///
/// Needs the right to enter both. Takes orders on a Unix socket, one JSON object a line: {"set": {"side": "both",
/// "faults": {"delay_ms": 30, "loss": 0.01}}}, {"cut": {"side": "both"}}, {"restore": {"side": "both"}} or "count";
/// answers each with the counters.
#[derive(Parser)]
struct Arguments {
    /// Process in the left namespace, and the name of its interface
    #[arg(long, value_name = "PID:INTERFACE", value_parser = parse_end)]
    left: (u32, String),
    /// Process in the right namespace, and the name of its interface
    #[arg(long, value_name = "PID:INTERFACE", value_parser = parse_end)]
    right: (u32, String),
    /// Seed of the dice: the same seed and frames have the same faults
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Faults both ways at first, as JSON
    #[arg(long, default_value = "{}", value_parser = |text: &str| serde_json::from_str::<Faults>(text))]
    faults: Faults,
    /// Where to take orders
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// Write every frame that enters to this file
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let Arguments { left, right, seed, faults, control, pcap } = Arguments::parse();
    run_wire(&WireOptions { left, right, seed, faults, control, pcap })
}
