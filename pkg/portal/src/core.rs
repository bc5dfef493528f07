//! The portal's decisions, without IO: what becomes of each packet from the device and from the node.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::Code;
use byway_identity::{Addr, Ipv6Range, Prefix};

use crate::counters::{Counters, Reason};
use crate::filter::{Allow, Denied, Filter};
use crate::icmp::{Limiter, MINIMUM_MTU, Notice};
use crate::packet::Packet;
use crate::resolve::{Resolution, Resolver};

/// What a [`Core`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send `packet` to the node `to`; tell [`Core::send_failed`] if that fails.
    Send {
        /// The node.
        to: Addr,
        /// A whole IPv6 packet.
        packet: Bytes,
    },
    /// Find the node whose address begins with `prefix`, and tell [`Core::found`].
    Find {
        /// What its IPv6 address is.
        destination: Ipv6Addr,
        /// The bits of its address that are known.
        prefix: Prefix,
    },
    /// Give a packet to the device, and so to the programs of this host.
    Inject(Bytes),
}

/// Rules, flows, answers and counters of one portal.
///
/// ```
/// # use std::time::Instant;
/// # use byway_identity::{OsEntropy, SigningKey};
/// # use byway_portal::{Core, Reason};
/// let addr = SigningKey::generate(&mut OsEntropy).public().addr();
/// let mut core = Core::new(addr, "0200::/7".parse()?, vec![]).expect("a fresh key has an IPv6 address");
/// let mut out = Vec::new();
/// core.from_device(Instant::now(), b"no packet"[..].into(), &|_| 0, &mut out);
/// assert!(out.is_empty());
/// assert_eq!(core.counters().dropped(Reason::Malformed), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Core {
    own: Ipv6Addr,
    range: Ipv6Range,
    filter: Filter,
    resolver: Resolver,
    too_big: Limiter,
    unreachable: Limiter,
    counters: Counters,
    swept: Option<Instant>,
}

/// Largest payload, in bytes, that reaches a node whole; 0 when that is not known.
pub type PathMtu<'a> = &'a dyn Fn(&Addr) -> usize;

impl Core {
    /// How often tables are rid of what has expired.
    const SWEEP: Duration = Duration::from_secs(60);

    /// A portal of the node `addr`, whose programs have addresses in `range`; `None` if `addr` has none there.
    pub fn new(addr: Addr, range: Ipv6Range, allow: Vec<Allow>) -> Option<Self> {
        Some(Self {
            own: range.ipv6(&addr).ok()?,
            range,
            filter: Filter::new(allow),
            resolver: Resolver::new(),
            too_big: Limiter::new(64, 256),
            unreachable: Limiter::new(32, 64),
            counters: Counters::default(),
            swept: None,
        })
    }

    /// This node's IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.own
    }

    /// What passed and what did not.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Other rules from now on.
    pub fn set_allow(&mut self, allow: Vec<Allow>) {
        self.filter.set_rules(allow);
    }

    /// A program of this host sends `packet`.
    pub fn from_device(&mut self, now: Instant, packet: Bytes, mtu: PathMtu<'_>, out: &mut Vec<Action>) {
        self.swept.get_or_insert(now);
        let Ok(read) = Packet::parse(&packet) else { return self.counters.drop(Reason::Malformed) };
        // First groups: hosts send neighbour discovery and the like on every device, from other addresses too.
        if read.destination.is_multicast() {
            return self.counters.drop(Reason::Group);
        }
        if read.source != self.own {
            return self.counters.drop(Reason::ForeignSource);
        }
        if !self.range.contains(read.destination) {
            self.counters.drop(Reason::OutsideRange);
            return self.notify(now, Notice::NoRoute, &packet, out);
        }
        let prefix = self.range.prefix(read.destination);
        let Some(prefix) = prefix.filter(|_| read.destination != self.own) else {
            self.counters.drop(Reason::OutsideRange);
            return self.notify(now, Notice::AddressUnreachable, &packet, out);
        };
        match self.resolver.resolve(now, read.destination, &packet) {
            Resolution::Known(to) => self.forward(now, to, packet, mtu, out),
            Resolution::Ask => {
                self.counters.finds += 1;
                out.push(Action::Find { destination: read.destination, prefix });
            }
            Resolution::Waits { kept: true } => {}
            Resolution::Waits { kept: false } | Resolution::Full => self.counters.drop(Reason::HoldFull),
            Resolution::Failed(code) => self.unresolved(now, code, &packet, out),
        }
    }

    /// The network answers an [`Action::Find`].
    pub fn found(
        &mut self,
        now: Instant,
        destination: Ipv6Addr,
        answer: Result<Addr, Code>,
        mtu: PathMtu<'_>,
        out: &mut Vec<Action>,
    ) {
        match answer {
            // Whoever answered may be wrong or lie; the address itself says whether it fits.
            Ok(addr) if self.range.ipv6(&addr) == Ok(destination) => {
                for packet in self.resolver.learn(now, destination, addr) {
                    self.forward(now, addr, packet, mtu, out);
                }
            }
            Ok(_) => self.fail(now, destination, Code::Unknown, out),
            Err(code) => self.fail(now, destination, code, out),
        }
    }

    /// The node did not take a `packet` of an [`Action::Send`].
    pub fn send_failed(&mut self, now: Instant, packet: &Bytes, code: Code, out: &mut Vec<Action>) {
        if code == Code::Busy {
            return self.counters.drop(Reason::Busy);
        }
        self.counters.drop(Reason::Refused);
        if let Some(notice) = Notice::for_code(code) {
            self.notify(now, notice, packet, out);
        }
    }

    /// The node `from` sends `packet`: it is injected if everything about it is as it must be.
    pub fn from_node(
        &mut self,
        now: Instant,
        from: &Addr,
        packet: Bytes,
        mtu: PathMtu<'_>,
        out: &mut Vec<Action>,
    ) {
        self.swept.get_or_insert(now);
        let Ok(read) = Packet::parse(&packet) else { return self.counters.drop(Reason::InwardMalformed) };
        if self.range.ipv6(from) != Ok(read.source) {
            return self.counters.drop(Reason::InwardForeignSource);
        }
        if read.destination != self.own {
            return self.counters.drop(Reason::InwardForeignDestination);
        }
        match self.filter.incoming(now, from, &read) {
            Ok(()) => {}
            Err(Denied::Closed) => return self.counters.drop(Reason::Denied),
            Err(Denied::Never) => return self.counters.drop(Reason::Never),
        }
        self.counters.packets_in += 1;
        self.counters.bytes_in += packet.len() as u64;
        out.push(Action::Inject(packet));
        // The sender is proven, so the reply need not ask who has its IPv6 address.
        for packet in self.resolver.learn(now, read.source, *from) {
            self.forward(now, *from, packet, mtu, out);
        }
    }

    /// A program of this host sends `packet`, which may be a super-packet: who gets it, if that is known.
    ///
    /// `None`: nothing has been noted, and [`from_device`](Self::from_device) says what becomes of it. Neither counts it nor
    /// looks at its length, which is for whoever sends it.
    pub fn fast_outgoing(&mut self, now: Instant, packet: &[u8]) -> Option<Addr> {
        let read = Packet::parse(packet).ok()?;
        if read.source != self.own || read.destination == self.own || !self.range.contains(read.destination) {
            return None;
        }
        let to = self.resolver.known(now, read.destination)?;
        self.swept.get_or_insert(now);
        self.filter.outgoing(now, &to, &read);
        Some(to)
    }

    /// Whether `packet`, which may be a super-packet, of the node `from` may be injected. A refusal has been counted.
    pub fn fast_incoming(&mut self, now: Instant, from: &Addr, packet: &[u8]) -> bool {
        self.swept.get_or_insert(now);
        let reason = match Packet::parse(packet) {
            Err(_) => Reason::InwardMalformed,
            Ok(read) if self.range.ipv6(from) != Ok(read.source) => Reason::InwardForeignSource,
            Ok(read) if read.destination != self.own => Reason::InwardForeignDestination,
            Ok(read) => match self.filter.incoming(now, from, &read) {
                Ok(()) => {
                    // The sender is proven, so the reply need not ask who has its IPv6 address.
                    self.resolver.note(now, read.source, *from);
                    return true;
                }
                Err(Denied::Closed) => Reason::Denied,
                Err(Denied::Never) => Reason::Never,
            },
        };
        self.counters.drop(reason);
        false
    }

    /// The device did not take a packet.
    pub fn inject_failed(&mut self) {
        self.counters.drop(Reason::Device);
    }

    /// A destination had too many sends under way.
    pub fn overrun(&mut self) {
        self.counters.drop(Reason::Busy);
    }

    /// Does what is due at `now`.
    pub fn heartbeat(&mut self, now: Instant, out: &mut Vec<Action>) {
        for (_, packets) in self.resolver.expire(now) {
            for packet in packets {
                self.unresolved(now, Resolver::IN_VAIN, &packet, out);
            }
        }
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) >= Self::SWEEP) {
            self.swept = Some(now);
            self.resolver.sweep(now);
            self.filter.sweep(now);
        }
    }

    /// When [`heartbeat`](Self::heartbeat) should be called next, if ever.
    pub fn next_heartbeat(&self) -> Option<Instant> {
        let tables = self.filter.flows() > 0 || self.resolver.answers() > 0;
        let sweep = self.swept.map(|swept| swept + Self::SWEEP).filter(|_| tables);
        [self.resolver.next_expiry(), sweep].into_iter().flatten().min()
    }

    fn forward(&mut self, now: Instant, to: Addr, packet: Bytes, mtu: PathMtu<'_>, out: &mut Vec<Action>) {
        let limit = match mtu(&to) {
            0 => usize::MAX,
            // Links fragment what is longer than they carry whole, so that IPv6's minimum always passes.
            mtu => mtu.max(MINIMUM_MTU),
        };
        if packet.len() > limit {
            self.counters.drop(Reason::TooBig);
            return self.notify(now, Notice::TooBig(limit), &packet, out);
        }
        if let Ok(read) = Packet::parse(&packet) {
            self.filter.outgoing(now, &to, &read);
        }
        self.counters.packets_out += 1;
        self.counters.bytes_out += packet.len() as u64;
        out.push(Action::Send { to, packet });
    }

    fn fail(&mut self, now: Instant, destination: Ipv6Addr, code: Code, out: &mut Vec<Action>) {
        for packet in self.resolver.fail(now, destination, code) {
            self.unresolved(now, code, &packet, out);
        }
    }

    fn unresolved(&mut self, now: Instant, code: Code, packet: &Bytes, out: &mut Vec<Action>) {
        self.counters.drop(Reason::Unresolved);
        if let Some(notice) = Notice::for_code(code) {
            self.notify(now, notice, packet, out);
        }
    }

    fn notify(&mut self, now: Instant, notice: Notice, about: &Bytes, out: &mut Vec<Action>) {
        let Some(packet) = notice.packet(about) else { return };
        let limiter = match notice {
            Notice::TooBig(_) => &mut self.too_big,
            _ => &mut self.unreachable,
        };
        if limiter.take(now) {
            self.counters.notices += 1;
            out.push(Action::Inject(packet));
        } else {
            self.counters.notices_suppressed += 1;
        }
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
