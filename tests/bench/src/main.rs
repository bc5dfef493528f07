//! Runs the benchmarks; `cargo xtask bench` and `cargo xtask soak` build it and the daemon before.

mod commands;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::Result;
use byway_bench::install::Install;
use byway_bench::side::campaign::STOP;
use byway_bench::side::datagrams;
use clap::{Parser, Subcommand};

use crate::commands::mesh::Mesh;
use crate::commands::messages::Messages;
use crate::commands::peers::Peers;
use crate::commands::soak::Soak;
use crate::commands::transports::Transports;

/// Benchmarks of Byway.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Messages and byte streams, over two hops and between two nodes of one daemon.
    Messages(Messages),
    /// Byway beside other programs that join hosts, in network namespaces.
    Peers(Box<Peers>),
    /// Thirty daemons on a random graph, of which some are killed; beside Yggdrasil.
    Mesh(Mesh),
    /// Each transport between two daemons: set-up, round trip, throughput, memory.
    Transports(Transports),
    /// Installs those programs from package registries.
    Install(Install),
    /// Traffic while everything around it changes: the longest stall, memory, panics.
    Soak(Soak),
    /// Sends datagrams as it is told; part of `peers`.
    #[command(hide = true)]
    UdpSource { to: SocketAddr },
    /// Counts datagrams; part of `peers`.
    #[command(hide = true)]
    UdpSink { at: SocketAddr },
    /// Asks the resolver on this host for a name; part of `peers`.
    #[command(hide = true)]
    AskName {
        name: String,
        #[arg(long)]
        port: u16,
    },
}

fn main() -> ExitCode {
    let outcome = match &Arguments::parse().benchmark {
        Benchmark::Messages(arguments) => commands::messages::run(arguments),
        Benchmark::Peers(arguments) => interruptible().and_then(|()| commands::peers::run(arguments)),
        Benchmark::Mesh(arguments) => interruptible().and_then(|()| commands::mesh::run(arguments)),
        Benchmark::Transports(arguments) => commands::transports::run(arguments),
        Benchmark::Install(arguments) => arguments.run(),
        Benchmark::Soak(arguments) => interruptible().and_then(|()| commands::soak::run(arguments)),
        Benchmark::UdpSource { to } => datagrams::source(*to).map(|()| true),
        Benchmark::UdpSink { at } => datagrams::sink(*at).map(|()| true),
        Benchmark::AskName { name, port } => byway_bench::side::name::ask(name, *port).map(|()| true),
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

/// From now on an interrupt ends the run in order, with all that it made; a second one ends it at once, and the namespaces go with
/// the process all the same.
fn interruptible() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if STOP.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
                eprintln!("ending after this measurement; once more to end at once");
            }
        });
    });
    Ok(())
}
