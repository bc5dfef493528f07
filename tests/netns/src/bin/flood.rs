//! Sends handshakes that look right and are worthless, as fast as told: what a stranger who knows an address can do.
//!
//! Written from `spec/20-session.md` alone, without the code it is to try. Each first message has the right mask, form and key
//! generation, so that it is refused as late as possible; its ephemeral key and the rest are random.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use byway_identity::{Addr, labelled_hash};
use byway_netns::Random;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use clap::Parser;

/// Floods the link port of a node with first handshake messages; prints how many were sent, and what came back.
#[derive(Parser)]
struct Arguments {
    /// Address of the node
    #[arg(long)]
    addr: Addr,
    /// Where it listens
    #[arg(long)]
    to: SocketAddr,
    /// First of the IPv4 addresses to send from
    #[arg(long)]
    from: Ipv4Addr,
    /// How many addresses to send from
    #[arg(long, default_value_t = 1)]
    sources: u32,
    /// Messages a second
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// For so many seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let sockets = (0..arguments.sources).map(|number| {
        let source = Ipv4Addr::from_bits(arguments.from.to_bits() + number);
        UdpSocket::bind((IpAddr::from(source), 0)).with_context(|| format!("cannot send from {source}"))
    });
    let sockets = sockets.collect::<Result<Vec<_>>>()?;
    let mut flood = Flood { secret: *arguments.addr.as_bytes(), random: Random::new(1) };
    let generation = flood.ask(sockets.first().context("no source")?, arguments.to)?;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }

    let begin = Instant::now();
    let (mut sent, mut sent_bytes, mut answers, mut answer_bytes) = (0u64, 0u64, 0u64, 0u64);
    let mut failed = 0u64;
    let total = u64::from(arguments.rate) * u64::from(arguments.seconds);
    let mut buffer = [0; 2048];
    while sent < total && begin.elapsed() < Duration::from_secs(arguments.seconds.into()) {
        let due = (begin.elapsed().as_secs_f64() * f64::from(arguments.rate)) as u64;
        while sent < due.min(total) {
            let socket = &sockets[(sent % sockets.len() as u64) as usize];
            let message = flood.first_message(generation);
            let taken = socket.send_to(&message, arguments.to).is_ok();
            if taken {
                sent += 1;
                sent_bytes += message.len() as u64;
            } else {
                failed += 1;
            }
            while let Ok(length) = socket.recv(&mut buffer) {
                answers += 1;
                answer_bytes += length as u64;
            }
            if !taken {
                // The own queue is full: what is missing now is sent in another turn, or not at all.
                break;
            }
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    println!(
        "{}",
        serde_json::json!({ "sent": sent, "sent_bytes": sent_bytes, "failed": failed, "answers": answers, "answer_bytes": answer_bytes })
    );
    Ok(())
}

struct Flood {
    /// The address of the node; its link token, which strangers do not have, would follow it: zeros.
    secret: [u8; 32],
    random: Random,
}

impl Flood {
    /// Type numbers of section 2.
    const KEY_ASK: u32 = 1;
    const KEY_TELL: u32 = 2;
    const M1: u32 = 3;
    /// Ephemeral key, ML-KEM key, ciphers, tag of the encryption.
    const BODY: usize = 32 + 1_184 + 1 + 16;

    /// Asks for the key record: the low byte of its version, which first messages must name.
    fn ask(&mut self, socket: &UdpSocket, to: SocketAddr) -> Result<u8> {
        let nonce = self.random.bits().to_le_bytes();
        let mut question = Self::KEY_ASK.to_le_bytes().to_vec();
        question.extend(nonce);
        question.resize(352, 0);
        let question = self.mask(&question);
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mut buffer = [0; 2048];
        for _ in 0..20 {
            socket.send_to(&question, to)?;
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            let Some(answer) = self.unmask(&buffer[..length]) else { continue };
            if answer.get(..4) != Some(&Self::KEY_TELL.to_le_bytes()) || answer.get(4..12) != Some(&nonce) {
                continue;
            }
            // RECORD: form u8, length u16, key, version u64.
            let key = answer.get(13..15).context("a short record")?;
            let version = 15 + usize::from(u16::from_le_bytes([key[0], key[1]]));
            return answer.get(version).copied().context("a short record");
        }
        anyhow::bail!("the node does not tell its key record")
    }

    fn first_message(&mut self, generation: u8) -> Vec<u8> {
        let mut message = Self::M1.to_le_bytes().to_vec();
        // Pattern 1 for links, suite 1, plane 0, then the index that the sender would have.
        message.extend([1, 1, 0, generation]);
        message.extend((self.random.bits() as u32 | 0x100).to_le_bytes());
        let end = message.len() + Self::BODY;
        while message.len() < end {
            message.extend(self.random.bits().to_le_bytes());
        }
        message.truncate(end);
        self.mask(&message)
    }

    fn mask(&self, message: &[u8]) -> Vec<u8> {
        let tag = self.tag(message);
        let mut bytes = [&tag[..], message].concat();
        self.cipher(&tag).apply_keystream(&mut bytes[16..]);
        bytes
    }

    fn unmask(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (tag, masked) = bytes.split_first_chunk::<16>()?;
        let mut message = masked.to_vec();
        self.cipher(tag).apply_keystream(&mut message);
        (self.tag(&message) == *tag).then_some(message)
    }

    fn tag(&self, message: &[u8]) -> [u8; 16] {
        let hash = labelled_hash("session/tag", &[&self.secret, &[0; 32], message]);
        let mut tag = [0; 16];
        tag.copy_from_slice(&hash[..16]);
        tag
    }

    fn cipher(&self, tag: &[u8; 16]) -> ChaCha20 {
        let key = labelled_hash("session/mask", &[&self.secret, &[0; 32], tag]);
        ChaCha20::new(&key.into(), &[0; 12].into())
    }
}
