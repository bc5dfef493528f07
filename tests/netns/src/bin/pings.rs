//! Pings from many network namespaces at once.

use std::path::PathBuf;

use byway_netns::run_pings;
use clap::Parser;

/// Pings over IPv6 from many network namespaces, by raw sockets of one process.
///
/// Needs the right to enter them. Takes orders on a Unix socket, one JSON value a line; see the crate's `pings` module.
#[derive(Parser)]
struct Arguments {
    /// A process in the network namespace of each host
    #[arg(required = true)]
    hosts: Vec<u32>,
    /// Where to take orders
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let Arguments { hosts, control } = Arguments::parse();
    run_pings(&hosts, &control)
}
