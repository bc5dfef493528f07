//! From overlay IPv6 addresses to whole addresses.
//!
//! An IPv6 address holds the first bits of an [`Addr`]; the network finds the rest. Until it answers, packets
//! wait: so many for each destination, so many in all, and not for long. Nothing here blocks: a destination that
//! nobody knows costs the others nothing.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::Code;
use byway_identity::Addr;

use crate::lru::Lru;

/// What is known, and what waits to be.
#[derive(Debug)]
pub struct Resolver {
    answers: Lru<Ipv6Addr, Answer>,
    pending: HashMap<Ipv6Addr, Pending>,
    held_bytes: usize,
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
    /// Too many destinations are being asked for.
    Full,
}

#[derive(Debug)]
enum Answer {
    Known { addr: Addr, until: Instant },
    Failed { code: Code, until: Instant },
}

#[derive(Debug)]
struct Pending {
    packets: Vec<Bytes>,
    until: Instant,
}

impl Resolver {
    /// How long an answer is kept after its last use. It cannot become wrong, just useless.
    pub const KEEP: Duration = Duration::from_secs(600);
    /// How long a failure is believed: not for long, since a node that has just started is wanted at once.
    pub const KEEP_FAILURE: Duration = Duration::from_secs(1);
    /// How long a packet waits.
    pub const HOLD: Duration = Duration::from_secs(3);
    /// Most packets that wait for one destination.
    pub const HELD_EACH: usize = 16;
    /// Most bytes that wait in all.
    pub const HELD_BYTES: usize = 2 << 20;
    /// Most destinations that are asked for at a time.
    pub const PENDING: usize = 256;
    /// Most answers that are kept.
    pub const ANSWERS: usize = 4096;

    /// One that knows nothing yet.
    pub fn new() -> Self {
        Self { answers: Lru::new(Self::ANSWERS), pending: HashMap::new(), held_bytes: 0 }
    }

    /// What to do with `packet` to `destination`.
    pub fn resolve(&mut self, now: Instant, destination: Ipv6Addr, packet: &Bytes) -> Resolution {
        match self.answers.touch(&destination) {
            Some(Answer::Known { addr, until }) if now < *until => {
                *until = now + Self::KEEP;
                return Resolution::Known(*addr);
            }
            Some(Answer::Failed { code, until }) if now < *until => return Resolution::Failed(*code),
            Some(_) => {
                self.answers.remove(&destination);
            }
            None => {}
        }
        let fits = self.held_bytes + packet.len() <= Self::HELD_BYTES;
        let keep = |packets: &mut Vec<Bytes>, held: &mut usize| {
            let kept = fits && packets.len() < Self::HELD_EACH;
            if kept {
                // A copy: the packet may be a small part of a large buffer.
                packets.push(Bytes::copy_from_slice(packet));
                *held += packet.len();
            }
            kept
        };
        if let Some(pending) = self.pending.get_mut(&destination) {
            return Resolution::Waits { kept: keep(&mut pending.packets, &mut self.held_bytes) };
        }
        if self.pending.len() >= Self::PENDING || !fits {
            return Resolution::Full;
        }
        let mut pending = Pending { packets: Vec::new(), until: now + Self::HOLD };
        keep(&mut pending.packets, &mut self.held_bytes);
        self.pending.insert(destination, pending);
        Resolution::Ask
    }

    /// The node that is known to have the address `destination`.
    pub fn known(&mut self, now: Instant, destination: Ipv6Addr) -> Option<Addr> {
        match self.answers.touch(&destination) {
            Some(Answer::Known { addr, until }) if now < *until => {
                *until = now + Self::KEEP;
                Some(*addr)
            }
            _ => None,
        }
    }

    /// As [`learn`](Self::learn), unless packets wait for the answer, which are none of the caller's business.
    pub fn note(&mut self, now: Instant, destination: Ipv6Addr, addr: Addr) {
        if self.known(now, destination).is_none() && !self.pending.contains_key(&destination) {
            self.answers.insert(destination, Answer::Known { addr, until: now + Self::KEEP });
        }
    }

    /// `addr` is known to have the IPv6 address `destination`: gives back the packets that waited for it.
    pub fn learn(&mut self, now: Instant, destination: Ipv6Addr, addr: Addr) -> Vec<Bytes> {
        self.answers.insert(destination, Answer::Known { addr, until: now + Self::KEEP });
        self.release(destination)
    }

    /// Nobody answers for `destination`: gives back the packets that waited for it.
    pub fn fail(&mut self, now: Instant, destination: Ipv6Addr, code: Code) -> Vec<Bytes> {
        // A packet that came in meanwhile may have brought the answer.
        if !matches!(self.answers.touch(&destination), Some(Answer::Known { until, .. }) if now < *until) {
            self.answers.insert(destination, Answer::Failed { code, until: now + Self::KEEP_FAILURE });
        }
        self.release(destination)
    }

    /// Ends what has waited too long: destinations, with their packets.
    pub fn expire(&mut self, now: Instant) -> Vec<(Ipv6Addr, Vec<Bytes>)> {
        let late: Vec<Ipv6Addr> =
            self.pending.iter().filter(|(_, pending)| pending.until <= now).map(|(ip, _)| *ip).collect();
        late.into_iter().map(|ip| (ip, self.fail(now, ip, Code::NoWay))).collect()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.until).min()
    }

    /// Forgets answers that nobody used for long.
    pub fn sweep(&mut self, now: Instant) {
        self.answers.retain(|_, answer| match answer {
            Answer::Known { until, .. } | Answer::Failed { until, .. } => now < *until,
        });
    }

    /// How many answers are kept.
    pub fn answers(&self) -> usize {
        self.answers.len()
    }

    /// How many bytes wait.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn release(&mut self, destination: Ipv6Addr) -> Vec<Bytes> {
        let packets = self.pending.remove(&destination).map_or_else(Vec::new, |pending| pending.packets);
        self.held_bytes -= packets.iter().map(Bytes::len).sum::<usize>();
        packets
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x200, 0, 0, 0, 0, 0, 0, last)
    }

    fn packet(length: usize) -> Bytes {
        vec![0; length].into()
    }

    #[test]
    fn packets_wait_for_the_answer_and_leave_in_order() {
        let (mut resolver, now) = (Resolver::new(), Instant::now());
        let addr = Addr::from_bytes([2; 32]);
        assert_eq!(resolver.resolve(now, ip(1), &packet(1)), Resolution::Ask);
        assert_eq!(resolver.resolve(now, ip(1), &packet(2)), Resolution::Waits { kept: true });
        assert_eq!(resolver.learn(now, ip(1), addr), [packet(1), packet(2)]);
        assert_eq!(resolver.resolve(now, ip(1), &packet(3)), Resolution::Known(addr));
        assert_eq!(resolver.held_bytes(), 0);
    }

    #[test]
    fn sixteen_packets_wait_for_one_destination() {
        let (mut resolver, now) = (Resolver::new(), Instant::now());
        for _ in 0..Resolver::HELD_EACH {
            assert!(!matches!(resolver.resolve(now, ip(1), &packet(9)), Resolution::Waits { kept: false }));
        }
        assert_eq!(resolver.resolve(now, ip(1), &packet(9)), Resolution::Waits { kept: false });
        assert_eq!(resolver.fail(now, ip(1), Code::Unknown).len(), Resolver::HELD_EACH);
    }

    #[test]
    fn what_waits_is_bounded_in_all() {
        let (mut resolver, now) = (Resolver::new(), Instant::now());
        for destination in 0..2000 {
            for _ in 0..Resolver::HELD_EACH + 4 {
                resolver.resolve(now, ip(destination), &packet(1420));
            }
        }
        assert!(resolver.held_bytes() <= Resolver::HELD_BYTES, "{} bytes wait", resolver.held_bytes());
        assert!(resolver.pending.len() <= Resolver::PENDING);
        for (_, packets) in resolver.expire(now + Resolver::HOLD) {
            assert!(!packets.is_empty());
        }
        assert_eq!(resolver.held_bytes(), 0);
    }

    #[test]
    fn answers_are_bounded_and_forgotten() {
        let (mut resolver, now) = (Resolver::new(), Instant::now());
        for destination in 0..=u16::MAX {
            resolver.learn(now, ip(destination), Addr::from_bytes([1; 32]));
        }
        assert_eq!(resolver.answers(), Resolver::ANSWERS);
        resolver.sweep(now + Resolver::KEEP);
        assert_eq!(resolver.answers(), 0);
    }

    #[test]
    fn an_answer_that_is_used_is_kept() {
        let (mut resolver, mut now) = (Resolver::new(), Instant::now());
        let addr = Addr::from_bytes([2; 32]);
        resolver.learn(now, ip(1), addr);
        for _ in 0..5 {
            now += Resolver::KEEP / 2;
            assert_eq!(resolver.resolve(now, ip(1), &packet(1)), Resolution::Known(addr));
        }
        now += Resolver::KEEP;
        assert_eq!(resolver.resolve(now, ip(1), &packet(1)), Resolution::Ask);
    }

    #[test]
    fn a_failure_is_believed_for_seconds() {
        let (mut resolver, now) = (Resolver::new(), Instant::now());
        resolver.resolve(now, ip(1), &packet(1));
        assert_eq!(resolver.next_expiry(), Some(now + Resolver::HOLD));
        let late = now + Resolver::HOLD;
        assert_eq!(resolver.expire(late), [(ip(1), vec![packet(1)])]);
        assert_eq!(resolver.resolve(late, ip(1), &packet(1)), Resolution::Failed(Code::NoWay));
        assert_eq!(resolver.resolve(late + Resolver::KEEP_FAILURE, ip(1), &packet(1)), Resolution::Ask);
    }

    #[test]
    fn a_late_failure_does_not_undo_what_came_in_meanwhile() {
        let (mut resolver, now) = (Resolver::new(), Instant::now());
        let addr = Addr::from_bytes([2; 32]);
        resolver.resolve(now, ip(1), &packet(1));
        resolver.learn(now, ip(1), addr);
        resolver.fail(now, ip(1), Code::NoWay);
        assert_eq!(resolver.resolve(now, ip(1), &packet(1)), Resolution::Known(addr));
    }
}
