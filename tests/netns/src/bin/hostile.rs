//! Sends a node what a stranger on the way may: noise, and copies of what he has seen, whole, cut, changed and turned around.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use byway_netns::{Random, datagrams};
use clap::Parser;

/// Sends junk to the link port of a node; prints how much of each kind.
#[derive(Parser)]
struct Arguments {
    /// Where the node listens
    #[arg(long)]
    to: SocketAddr,
    /// The node's address on the wire that the capture is of
    #[arg(long)]
    victim: IpAddr,
    /// Where to send from; several: in turn
    #[arg(long, required = true)]
    from: Vec<SocketAddr>,
    /// Capture file of that wire, which may grow meanwhile
    #[arg(long, value_name = "FILE")]
    pcap: PathBuf,
    /// Seed of the dice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Datagrams a second
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// For so many seconds
    #[arg(long, default_value_t = 5)]
    seconds: u32,
}

/// How much was made of each kind, the longest that was sent, and how many could not be.
#[derive(Default, serde::Serialize)]
struct Sent {
    noise: u64,
    whole: u64,
    cut: u64,
    flipped: u64,
    reflected: u64,
    empty: u64,
    longest: usize,
    failed: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let sockets = arguments
        .from
        .iter()
        .map(|from| UdpSocket::bind(from).with_context(|| format!("cannot send from {from}")))
        .collect::<Result<Vec<_>>>()?;
    let (mut random, mut sent) = (Random::new(arguments.seed), Sent::default());
    let mut seen = Vec::new();
    let (begin, mut turn, mut read) = (Instant::now(), 0u64, None::<Instant>);
    while begin.elapsed() < Duration::from_secs(arguments.seconds.into()) {
        if read.is_none_or(|read| read.elapsed() > Duration::from_millis(500)) {
            seen = datagrams(&std::fs::read(&arguments.pcap)?);
            read = Some(Instant::now());
        }
        let due = (begin.elapsed().as_secs_f64() * f64::from(arguments.rate)) as u64;
        while turn < due {
            let bytes = junk(turn, &arguments, &seen, &mut random, &mut sent);
            let socket = &sockets[random.bits() as usize % sockets.len()];
            match socket.send_to(&bytes, arguments.to) {
                Ok(_) => sent.longest = sent.longest.max(bytes.len()),
                Err(_) => sent.failed += 1,
            }
            turn += 1;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    println!("{}", serde_json::to_string(&sent)?);
    Ok(())
}

/// The next datagram.
fn junk(
    turn: u64,
    arguments: &Arguments,
    seen: &[(IpAddr, Vec<u8>)],
    random: &mut Random,
    sent: &mut Sent,
) -> Vec<u8> {
    // Few are long: the node's socket has to have room for honest ones.
    if turn.is_multiple_of(100) {
        sent.noise += 1;
        return noise(65_000, random);
    }
    if turn % 100 == 1 {
        sent.empty += 1;
        return Vec::new();
    }
    let copy =
        (!seen.is_empty() && !turn.is_multiple_of(4)).then(|| &seen[random.bits() as usize % seen.len()]);
    let Some((source, bytes)) = copy else {
        sent.noise += 1;
        return noise(random.bits() as usize % 1_500, random);
    };
    let mut bytes = bytes.clone();
    if *source == arguments.victim {
        sent.reflected += 1;
    }
    match turn % 4 {
        1 => sent.whole += 1,
        2 => {
            bytes.truncate(random.bits() as usize % bytes.len().max(1));
            sent.cut += 1;
        }
        _ => {
            let bit = random.bits() as usize % (bytes.len() * 8).max(1);
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            sent.flipped += 1;
        }
    }
    bytes
}

fn noise(length: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(random.bits().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
