//! How many messages go from one node to another, and how many of those that were taken arrive.
//!
//! The sender offers as fast as it is taken: where there is back-pressure it waits. Each message begins with its number, so
//! that the receiver sees what is missing, twice or out of order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use byway_api::{Code, Kind, Node, Outgoing, Request};
use byway_identity::Addr;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::raw::RawNode;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes of each message, at least 8.
    pub size: usize,
    /// How long to send.
    pub time: Duration,
    /// Most messages to send.
    pub count: u64,
}

/// An end of the measurement.
#[derive(Clone)]
pub enum End {
    /// A node, through our API.
    Node(Arc<dyn Node>),
    /// A node, through the API of INET256.
    Raw(Arc<RawNode>),
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Bytes of each message.
    pub size: usize,
    /// Messages that were taken for sending.
    pub sent: u64,
    /// Messages that arrived, each counted once.
    pub delivered: u64,
    /// Messages that arrived after a later one.
    pub reordered: u64,
    /// Messages that arrived again.
    pub repeated: u64,
    /// From the first message sent to the last one received, in seconds.
    pub seconds: f64,
}

/// Nothing came for so long: nothing will.
const QUIET: Duration = Duration::from_millis(1500);

impl End {
    fn addr(&self) -> Addr {
        match self {
            Self::Node(node) => node.addr(),
            Self::Raw(node) => node.addr(),
        }
    }

    async fn send(&self, to: Addr, payload: Bytes) -> Result<()> {
        match self {
            Self::Node(node) => loop {
                let outgoing = Outgoing {
                    to,
                    kind: Kind::Message,
                    payload: payload.clone(),
                    request: Request::default(),
                };
                match node.send(outgoing).await {
                    Ok(_) => return Ok(()),
                    // It waited for its deadline in vain; the message is still ours to send.
                    Err(error) if error.code == Code::Busy => {}
                    Err(error) => return Err(error.into()),
                }
            },
            Self::Raw(node) => node.send(to, payload).await,
        }
    }

    async fn recv(&self) -> Result<(Addr, Bytes)> {
        match self {
            Self::Node(node) => {
                let incoming = node.recv(Kind::Message).await?;
                Ok((incoming.from, incoming.payload))
            }
            Self::Raw(node) => node.recv().await,
        }
    }

    /// Waits until a message from `self` comes out at `to`.
    pub async fn reaches(&self, to: &Self, limit: Duration) -> Result<()> {
        let target = to.addr();
        let sender = async {
            loop {
                // What is refused now may be taken in a moment.
                let _ = self.send(target, Bytes::from_static(b"hello?")).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let arrived = async {
            loop {
                let (from, _) = to.recv().await?;
                if from == self.addr() {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::select! {
            () = sender => bail!("the sender has ended"),
            arrived = tokio::time::timeout(limit, arrived) => arrived.context("the other end is not reached")??,
        }
        Ok(())
    }
}

/// Sends `load` from `from` to `to`, and counts.
pub async fn measure(from: &End, to: &End, load: Load) -> Result<Seen> {
    let target = to.addr();
    let begin = Instant::now();
    let (total, sent) = watch::channel(None);
    let sender = {
        let from = from.clone();
        tokio::spawn(async move {
            let mut number = 0;
            while number < load.count && begin.elapsed() < load.time {
                from.send(target, message(number, load.size)).await?;
                number += 1;
            }
            total.send_replace(Some(number));
            anyhow::Ok(number)
        })
    };
    let mut tally = Tally::default();
    let mut last = begin;
    loop {
        let known: Option<u64> = *sent.borrow();
        if known == Some(tally.delivered) {
            break;
        }
        match tokio::time::timeout(QUIET, to.recv()).await {
            Ok(received) => {
                let (_, payload) = received?;
                if payload.len() == load.size && tally.take(&payload) {
                    last = Instant::now();
                }
            }
            // Silence says something only once the sender is done.
            Err(_) if known.is_some() || sender.is_finished() => break,
            Err(_) => {}
        }
    }
    let sent = sender.await??;
    Ok(Seen {
        size: load.size,
        sent,
        delivered: tally.delivered,
        reordered: tally.reordered,
        repeated: tally.repeated,
        seconds: (last - begin).as_secs_f64(),
    })
}

impl Seen {
    /// Payload that arrived, in Mbit/s.
    pub fn mbits(&self) -> f64 {
        if self.seconds > 0.0 {
            self.delivered as f64 * self.size as f64 * 8.0 / 1e6 / self.seconds
        } else {
            0.0
        }
    }

    /// Messages that arrived, each second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.delivered as f64 / self.seconds } else { 0.0 }
    }

    /// Share of the sent messages that arrived, 0 to 1.
    pub fn share(&self) -> f64 {
        if self.sent > 0 { self.delivered as f64 / self.sent as f64 } else { 0.0 }
    }

    /// Share of the delivered messages that came after a later one, 0 to 1.
    pub fn disorder(&self) -> f64 {
        if self.delivered > 0 { self.reordered as f64 / self.delivered as f64 } else { 0.0 }
    }
}

/// The message with this number: the number, then what cannot be compressed away.
fn message(number: u64, size: usize) -> Bytes {
    let mut bytes = vec![0; size.max(8)];
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_be_bytes()[..chunk.len()]);
    }
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes.into()
}

/// Which numbers have come.
#[derive(Default)]
struct Tally {
    /// One bit for each number.
    seen: Vec<u64>,
    highest: Option<u64>,
    delivered: u64,
    reordered: u64,
    repeated: u64,
}

/// Numbers beyond this were never sent: 128 MiB of bits.
const NUMBERS: u64 = 1 << 30;

impl Tally {
    /// Counts a message; whether it came for the first time.
    fn take(&mut self, payload: &[u8]) -> bool {
        let Some(number) = payload.first_chunk().copied().map(u64::from_be_bytes) else { return false };
        if number >= NUMBERS {
            return false;
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.repeated += 1;
            return false;
        }
        self.seen[word] |= bit;
        self.delivered += 1;
        self.reordered += u64::from(self.highest.is_some_and(|highest| number < highest));
        self.highest = self.highest.max(Some(number));
        true
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn missing_repeated_and_late_messages_are_told_apart() {
        let mut tally = Tally::default();
        for number in [0, 1, 3, 2, 3, 200] {
            tally.take(&message(number, 64));
        }
        assert_eq!((tally.delivered, tally.reordered, tally.repeated), (5, 1, 1));
        assert!(!tally.take(b"short") && !tally.take(&u64::MAX.to_be_bytes()));
    }

    #[test]
    fn figures_follow_from_the_counts() {
        let seen = Seen { size: 1250, sent: 2000, delivered: 1000, reordered: 10, repeated: 0, seconds: 2.0 };
        assert!((seen.mbits() - 5.0).abs() < 1e-9);
        assert!((seen.rate() - 500.0).abs() < 1e-9);
        assert!((seen.share() - 0.5).abs() < 1e-9);
        assert!((seen.disorder() - 0.01).abs() < 1e-9);
    }

    #[test]
    fn messages_differ_and_have_their_size() {
        assert_eq!(message(7, 1280).len(), 1280);
        assert_ne!(message(7, 1280)[8..], message(8, 1280)[8..]);
    }
}
