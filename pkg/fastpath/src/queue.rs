//! A short queue that is fair between peers and flows: deficit round robin with new flows first, and CoDel in each flow
//! (RFC 8289, RFC 8290).
//!
//! ```text
//!  push ─► flow ┐
//!          flow ┼─► peer ┐
//!          flow ┘        ├─► pop: the peer's and the flow's turn, told to slow down if it has waited for long
//!          flow ──► peer ┘
//! ```
//!
//! Who sends little is never behind those who send much: a flow or peer that was empty goes first, until it has had its
//! share once. What waits for longer than [`TARGET`] for a while is signalled, by a mark where the transport understands
//! that, else by a loss. All of it together is bounded; what is too much comes from the longest flow.
//!
//! It knows neither packets nor clocks.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

/// Waiting for so long is fine.
pub const TARGET: Duration = Duration::from_millis(1);
/// Waiting for longer than that is fine for so long.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// Bytes of one turn of a flow or peer.
const QUANTUM: i64 = 16 * 1024;
/// Most packets that one overflow takes out of the longest flow.
const BATCH: usize = 64;

/// What waits in a [`FairQueue`]. Peers and flows are told apart by hashes, which strangers must not be able to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Equal for all packets to one peer.
    pub peer: u64,
    /// Equal for all packets of one flow.
    pub flow: u64,
    /// What it takes of everybody's time, in bytes.
    pub bytes: u32,
    /// What it takes of memory, in bytes.
    pub memory: u32,
}

/// What a packet is to be told about the queue that it stood in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// All is well.
    None,
    /// It waited too long: mark it, or lose a part of it, or all.
    SlowDown,
}

/// Bounds of a [`FairQueue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of memory.
    pub memory: usize,
    /// Most packets.
    pub packets: usize,
}

/// Packets that wait, by peer and flow.
pub struct FairQueue<T> {
    limits: Limits,
    memory: usize,
    packets: usize,
    flows: HashMap<(u64, u64), Flow<T>, BuildHasherDefault<Mixed>>,
    peers: HashMap<u64, Peer, BuildHasherDefault<Mixed>>,
    turns: Turns<u64>,
    /// Packets that did not fit.
    overflowed: u64,
}

/// Whose turn it is.
struct Turns<K> {
    new: VecDeque<K>,
    old: VecDeque<K>,
}

struct Peer {
    turns: Turns<u64>,
    credit: i64,
}

struct Flow<T> {
    packets: VecDeque<Waiting<T>>,
    memory: usize,
    credit: i64,
    codel: CoDel,
}

struct Waiting<T> {
    what: T,
    since: Instant,
    bytes: u32,
    memory: u32,
}

/// For keys that are hashes already, made under a secret.
#[derive(Default)]
struct Mixed(u64);

/// The state of RFC 8289 for one flow.
#[derive(Default)]
struct CoDel {
    /// When it will have been above the target for an interval.
    above: Option<Instant>,
    /// When the next signal is due; or, when none are being sent, when it would have been.
    next: Option<Instant>,
    is_signalling: bool,
    /// Signals since they began, and how many they were when they last ended.
    count: u32,
    last_count: u32,
}

impl<T> FairQueue<T> {
    /// Empty.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            memory: 0,
            packets: 0,
            flows: HashMap::default(),
            peers: HashMap::default(),
            turns: Turns::new(),
            overflowed: 0,
        }
    }

    /// How many packets wait.
    pub fn len(&self) -> usize {
        self.packets
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// What waits takes so many bytes of memory.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// How many packets did not fit.
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Takes `what`. Packets that have to make room for it go to `dropped`; it may be one of them.
    pub fn push(&mut self, now: Instant, ticket: Ticket, what: T, mut dropped: impl FnMut(T)) {
        let Ticket { peer, flow, bytes, memory } = ticket;
        // Flows that have become empty stay until their turn, so they are bounded too.
        if self.flows.len() >= 2 * self.limits.packets && !self.flows.contains_key(&(peer, flow)) {
            self.overflowed += 1;
            return dropped(what);
        }
        let flows = self.flows.entry((peer, flow)).or_insert_with(|| {
            let peers = self.peers.entry(peer).or_insert_with(|| {
                self.turns.new.push_back(peer);
                Peer { turns: Turns::new(), credit: QUANTUM }
            });
            peers.turns.new.push_back(flow);
            Flow { packets: VecDeque::new(), memory: 0, credit: QUANTUM, codel: CoDel::default() }
        });
        flows.packets.push_back(Waiting { what, since: now, bytes, memory });
        flows.memory += memory as usize;
        self.memory += memory as usize;
        self.packets += 1;
        while self.memory > self.limits.memory || self.packets > self.limits.packets {
            self.shorten(&mut dropped);
        }
    }

    /// The packet whose turn it is.
    pub fn pop(&mut self, now: Instant) -> Option<(T, Signal)> {
        loop {
            let (peer_key, is_new_peer) = self.turns.first()?;
            let Some(peer) = self.peers.get_mut(&peer_key) else {
                self.turns.remove(is_new_peer);
                continue;
            };
            let Some((flow_key, is_new)) = peer.turns.first() else {
                // It has had its share: once more among the old ones, so that nobody gains by coming and going.
                self.turns.remove(is_new_peer);
                if is_new_peer && !self.turns.old.is_empty() {
                    self.turns.old.push_back(peer_key);
                } else {
                    self.peers.remove(&peer_key);
                }
                continue;
            };
            if peer.credit <= 0 {
                peer.credit += QUANTUM;
                self.turns.remove(is_new_peer);
                self.turns.old.push_back(peer_key);
                continue;
            }
            let Some(flow) = self.flows.get_mut(&(peer_key, flow_key)) else {
                peer.turns.remove(is_new);
                continue;
            };
            if flow.credit <= 0 {
                flow.credit += QUANTUM;
                peer.turns.remove(is_new);
                peer.turns.old.push_back(flow_key);
                continue;
            }
            let Some(waiting) = flow.packets.pop_front() else {
                flow.codel.calm_down();
                peer.turns.remove(is_new);
                if is_new && !peer.turns.old.is_empty() {
                    peer.turns.old.push_back(flow_key);
                } else {
                    self.flows.remove(&(peer_key, flow_key));
                }
                continue;
            };
            let sojourn = now.saturating_duration_since(waiting.since);
            let signal = flow.codel.judge(now, sojourn, flow.packets.is_empty());
            flow.credit -= i64::from(waiting.bytes);
            peer.credit -= i64::from(waiting.bytes);
            flow.memory -= waiting.memory as usize;
            self.memory -= waiting.memory as usize;
            self.packets -= 1;
            return Some((waiting.what, signal));
        }
    }

    /// Takes the oldest packets out of the flow that takes most memory: up to half of it.
    fn shorten(&mut self, dropped: &mut impl FnMut(T)) {
        let longest = self.flows.values_mut().max_by_key(|flow| (flow.memory, flow.packets.len()));
        let Some(flow) = longest else { return };
        let count = flow.packets.len().div_ceil(2).min(BATCH);
        for waiting in flow.packets.drain(..count) {
            flow.memory -= waiting.memory as usize;
            self.memory -= waiting.memory as usize;
            self.packets -= 1;
            self.overflowed += 1;
            dropped(waiting.what);
        }
    }
}

impl<K: Copy> Turns<K> {
    fn new() -> Self {
        Self { new: VecDeque::new(), old: VecDeque::new() }
    }

    /// Who is first, and whether it is new.
    fn first(&self) -> Option<(K, bool)> {
        let new = self.new.front().map(|key| (*key, true));
        new.or_else(|| self.old.front().map(|key| (*key, false)))
    }

    fn remove(&mut self, is_new: bool) {
        if is_new {
            self.new.pop_front()
        } else {
            self.old.pop_front()
        };
    }
}

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(32) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl CoDel {
    /// Whether a packet that waited for `sojourn` is to be told to slow down.
    fn judge(&mut self, now: Instant, sojourn: Duration, is_last: bool) -> Signal {
        // The last one is no queue, however long it waited: others were before it.
        if sojourn < TARGET || is_last {
            self.calm_down();
            return Signal::None;
        }
        let above = *self.above.get_or_insert(now + INTERVAL);
        match self.next {
            Some(next) if self.is_signalling => {
                if now < next {
                    return Signal::None;
                }
                self.count = self.count.saturating_add(1);
                self.next = Some(next + self.pause());
            }
            _ if now < above => return Signal::None,
            next => {
                // If it was over a moment ago, go on at the rate that was right then.
                let recently = self.count.saturating_sub(self.last_count);
                let is_recent = next.is_some_and(|next| now < next + 16 * INTERVAL);
                self.count = if recently > 1 && is_recent { recently } else { 1 };
                self.last_count = self.count;
                self.is_signalling = true;
                self.next = Some(now + self.pause());
            }
        }
        Signal::SlowDown
    }

    fn calm_down(&mut self) {
        self.above = None;
        self.is_signalling = false;
    }

    /// Signals come faster as the square root of their number, for so does a transport's answer to them.
    fn pause(&self) -> Duration {
        INTERVAL.div_f64(f64::from(self.count).sqrt())
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
