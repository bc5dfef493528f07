//! From overlay IPv6 addresses to whole addresses.
//!
//! An IPv6 address holds the first bits of an [`Addr`]; the network finds the rest. Until it answers, packets
//! wait: so many for each destination, so many in all, and not for long. Nothing here blocks: a destination that
//! nobody knows costs the others nothing.
//!
//! A search that nobody answers is what costs the network most, and our neighbours take only so many questions from us. So
//! such searches have an allowance, which a program that tries thousands of addresses uses up; part of it is for
//! destinations that are asked for a second time, as a program does that means just these. Searches with an answer
//! give back what they took, and what is known has a place of its own, that no failure can push it out of.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::Code;
use byway_identity::Addr;

use crate::icmp::Limiter;
use crate::lru::Lru;

/// What is known, and what waits to be.
#[derive(Debug)]
pub struct Resolver {
    known: Lru<Ipv6Addr, Known>,
    failed: Lru<Ipv6Addr, Failed>,
    pending: HashMap<Ipv6Addr, Pending>,
    held_bytes: usize,
    /// Searches that nobody answers: for any destination, and for those that were turned away before.
    any: Limiter,
    again: Limiter,
    turned_away: Lru<Ipv6Addr, Instant>,
}

/// What to do with a packet to some destination.
#[derive(Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Send it to this node.
    Known(Addr),
    /// It is kept; the network is to be asked.
    Ask,
    /// It is kept, or dropped when too many wait already; the network has been asked.
    Waits {
        /// Whether it is kept.
        kept: bool,
    },
    /// The network was asked a moment ago, and this was its answer.
    Failed(Code),
    /// Too many destinations are being asked for, or were of late in vain.
    Full,
}

#[derive(Debug)]
struct Known {
    addr: Addr,
    until: Instant,
}

#[derive(Debug)]
struct Failed {
    code: Code,
    until: Instant,
    kept: Duration,
}

#[derive(Debug)]
struct Pending {
    packets: Vec<Bytes>,
    until: Instant,
    allowance: Allowance,
}

/// Where the right to search came from.
#[derive(Clone, Copy, Debug)]
enum Allowance {
    Any,
    Again,
}

impl Resolver {
    /// How long an answer is kept after its last use. It cannot become wrong, just useless.
    pub const KEEP: Duration = Duration::from_secs(600);
    /// How long a failure is believed the first time: not for long, since a node that has just started is wanted at once.
    /// Each time in a row it is believed for twice as long.
    pub const KEEP_FAILURE: Duration = Duration::from_secs(1);
    /// How long a failure is believed at most.
    pub const KEEP_FAILURE_MAX: Duration = Duration::from_secs(8);
    /// How long a packet waits, and a search takes. What comes later is remembered by the network, and is there for the
    /// next search.
    pub const HOLD: Duration = Duration::from_secs(3);
    /// Most packets that wait for one destination.
    pub const HELD_EACH: usize = 16;
    /// Most bytes that wait in all.
    pub const HELD_BYTES: usize = 2 << 20;
    /// Most destinations that are asked for at a time.
    pub const PENDING: usize = 64;
    /// How many of these are for destinations that were turned away before.
    pub const RESERVED: usize = 16;
    /// Most answers that are kept.
    pub const ANSWERS: usize = 4096;
    /// Most failures that are kept.
    pub const FAILURES: usize = 1024;
    /// Searches without an answer: so many at once, and so many a second.
    pub const VAIN: (u32, u32) = (128, 4);
    /// The same for destinations that were turned away before.
    pub const VAIN_AGAIN: (u32, u32) = (32, 2);
    /// Who asks again within this time may have made the same packet twice; who does later wants just that destination.
    pub const PATIENCE: Duration = Duration::from_millis(500);

    /// One that knows nothing yet.
    pub fn new() -> Self {
        Self {
            known: Lru::new(Self::ANSWERS),
            failed: Lru::new(Self::FAILURES),
            pending: HashMap::new(),
            held_bytes: 0,
            any: Limiter::new(Self::VAIN.0, Self::VAIN.1),
            again: Limiter::new(Self::VAIN_AGAIN.0, Self::VAIN_AGAIN.1),
            turned_away: Lru::new(Self::FAILURES),
        }
    }

    /// What to do with `packet` to `destination`.
    pub fn resolve(&mut self, now: Instant, destination: Ipv6Addr, packet: &Bytes) -> Resolution {
        if let Some(addr) = self.known(now, destination) {
            return Resolution::Known(addr);
        }
        if let Some(failed) = self.failed.touch(&destination).filter(|failed| now < failed.until) {
            return Resolution::Failed(failed.code);
        }
        let fits = self.held_bytes + packet.len() <= Self::HELD_BYTES;
        if let Some(pending) = self.pending.get_mut(&destination) {
            let kept = fits && pending.packets.len() < Self::HELD_EACH;
            if kept {
                pending.hold(packet, &mut self.held_bytes);
            }
            return Resolution::Waits { kept };
        }
        let Some(allowance) = self.admit(now, destination).filter(|_| fits) else {
            return Resolution::Full;
        };
        let mut pending = Pending { packets: Vec::new(), until: now + Self::HOLD, allowance };
        pending.hold(packet, &mut self.held_bytes);
        self.pending.insert(destination, pending);
        Resolution::Ask
    }

    /// The node that is known to have the address `destination`.
    pub fn known(&mut self, now: Instant, destination: Ipv6Addr) -> Option<Addr> {
        let known = self.known.touch(&destination).filter(|known| now < known.until)?;
        known.until = now + Self::KEEP;
        Some(known.addr)
    }

    /// As [`learn`](Self::learn), unless packets wait for the answer, which are none of the caller's business.
    pub fn note(&mut self, now: Instant, destination: Ipv6Addr, addr: Addr) {
        if self.known(now, destination).is_none() && !self.pending.contains_key(&destination) {
            self.failed.remove(&destination);
            self.known.insert(destination, Known { addr, until: now + Self::KEEP });
        }
    }

    /// `addr` is known to have the IPv6 address `destination`: gives back the packets that waited for it.
    pub fn learn(&mut self, now: Instant, destination: Ipv6Addr, addr: Addr) -> Vec<Bytes> {
        self.failed.remove(&destination);
        self.turned_away.remove(&destination);
        self.known.insert(destination, Known { addr, until: now + Self::KEEP });
        self.release(destination, true)
    }

    /// Nobody answers for `destination`: gives back the packets that waited for it.
    pub fn fail(&mut self, now: Instant, destination: Ipv6Addr, code: Code) -> Vec<Bytes> {
        // A packet that came in meanwhile may have brought the answer.
        if self.known(now, destination).is_none() {
            let before = self.failed.remove(&destination).filter(|failed| now < failed.until + Self::FORGIVE);
            let kept = before.map_or(Self::KEEP_FAILURE, |failed| {
                // Told twice, by the network and by the clock, it is one failure still.
                if now < failed.until { failed.kept } else { (failed.kept * 2).min(Self::KEEP_FAILURE_MAX) }
            });
            self.failed.insert(destination, Failed { code, until: now + kept, kept });
        }
        // What was refused without a search has cost nothing.
        let in_vain = matches!(code, Code::Unknown | Code::NoWay);
        self.release(destination, !in_vain)
    }

    /// Ends what has waited too long: destinations, with their packets.
    pub fn expire(&mut self, now: Instant) -> Vec<(Ipv6Addr, Vec<Bytes>)> {
        let late: Vec<Ipv6Addr> =
            self.pending.iter().filter(|(_, pending)| pending.until <= now).map(|(ip, _)| *ip).collect();
        late.into_iter().map(|ip| (ip, self.fail(now, ip, Self::IN_VAIN))).collect()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.until).min()
    }

    /// Forgets answers that nobody used for long.
    pub fn sweep(&mut self, now: Instant) {
        self.known.retain(|_, known| now < known.until);
        self.failed.retain(|_, failed| now < failed.until + Self::FORGIVE);
        self.turned_away.retain(|_, at| now < *at + Self::FORGIVE);
    }

    /// How many answers are kept, failures among them.
    pub fn answers(&self) -> usize {
        self.known.len() + self.failed.len()
    }

    /// How many bytes wait.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// What a search that nobody answered ended with.
    pub const IN_VAIN: Code = Code::Unknown;
    /// A failure so long ago says nothing about the next one.
    const FORGIVE: Duration = Duration::from_secs(60);

    /// Whether a search for `destination` may begin.
    fn admit(&mut self, now: Instant, destination: Ipv6Addr) -> Option<Allowance> {
        if self.pending.len() < Self::PENDING - Self::RESERVED && self.any.take(now) {
            return Some(Allowance::Any);
        }
        let before = self.turned_away.touch(&destination).map(|at| *at);
        let is_again = before.is_some_and(|at| now >= at + Self::PATIENCE);
        if is_again && self.pending.len() < Self::PENDING && self.again.take(now) {
            self.turned_away.remove(&destination);
            return Some(Allowance::Again);
        }
        if before.is_none() {
            self.turned_away.insert(destination, now);
        }
        None
    }

    fn release(&mut self, destination: Ipv6Addr, give_back: bool) -> Vec<Bytes> {
        let Some(pending) = self.pending.remove(&destination) else { return Vec::new() };
        if give_back {
            match pending.allowance {
                Allowance::Any => self.any.give_back(),
                Allowance::Again => self.again.give_back(),
            }
        }
        self.held_bytes -= pending.packets.iter().map(Bytes::len).sum::<usize>();
        pending.packets
    }
}

impl Pending {
    fn hold(&mut self, packet: &Bytes, held_bytes: &mut usize) {
        // A copy: the packet may be a small part of a large buffer.
        self.packets.push(Bytes::copy_from_slice(packet));
        *held_bytes += packet.len();
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
