//! Who may reach this host: nobody, but for the rules and for replies to what the host began.
//!
//! The filter sees packets whose sender is proven and whose addresses have been checked. An inward packet passes
//! if a rule allows its sender its port, or if it belongs to a flow that was opened from inside. Flows live in a
//! table with a cap; only packets of the host itself, that no rule explains, make entries, so a stranger cannot
//! fill it.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use byway_identity::Addr;

use crate::lru::Lru;
use crate::packet::{ICMP, Packet, TCP, UDP, Upper};

/// A rule: this peer, or everyone, may open flows to these ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// Who may.
    pub peer: Who,
    /// What to.
    pub ports: Vec<Ports>,
}

/// Whom a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Every node; written `*`.
    Anyone,
    /// The node with this address.
    Node(Addr),
}

/// What a rule opens: `tcp/22`, `udp/6000-6010`, `tcp` for every port, or `icmp` for echo requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// TCP ports, both ends included.
    Tcp(u16, u16),
    /// UDP ports, both ends included.
    Udp(u16, u16),
    /// Echo requests.
    Icmp,
}

/// Why an inward packet does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No rule allows it, and no flow from inside explains it.
    Closed,
    /// Nobody may send this kind from afar: neighbour discovery, redirects, source routes.
    Never,
}

/// Rules and open flows.
#[derive(Debug)]
pub struct Filter {
    rules: Vec<Allow>,
    flows: Lru<Flow, State>,
    /// Packets whose first fragment passed, by sender and identification, and until when their rest may.
    fragments: Lru<(Ipv6Addr, u32), Instant>,
}

/// A flow as this host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    protocol: u8,
    remote: Ipv6Addr,
    /// Or the identifier of an echo request; 0 where a protocol has no ports.
    local_port: u16,
    remote_port: u16,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    used: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Opened from inside, nothing heard yet.
    Opening,
    /// Both sides were heard.
    Open,
    /// One side has ended it.
    Closing,
}

impl Filter {
    /// Most flows that are remembered.
    pub const FLOWS: usize = 32_768;
    /// Most fragmented inward packets that may be under way.
    pub const FRAGMENTS: usize = 256;
    /// How long after its first fragment a packet's other fragments may come (RFC 8200, section 4.5).
    const REASSEMBLY: Duration = Duration::from_secs(60);

    /// A filter with `rules` and no open flow.
    pub fn new(rules: Vec<Allow>) -> Self {
        Self::with_room(rules, Self::FLOWS)
    }

    pub(crate) fn with_room(rules: Vec<Allow>, flows: usize) -> Self {
        Self { rules, flows: Lru::new(flows), fragments: Lru::new(Self::FRAGMENTS) }
    }

    /// Other rules from now on; flows from inside go on.
    pub fn set_rules(&mut self, rules: Vec<Allow>) {
        self.rules = rules;
        self.fragments.retain(|_, _| false);
    }

    /// How many flows are remembered.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// This host sends `packet` to the node `to`: replies may come in.
    pub fn outgoing(&mut self, now: Instant, to: &Addr, packet: &Packet) {
        let opening = match packet.upper {
            Upper::Tcp { flags, .. } => flags & (SYN | ACK) == SYN,
            Upper::EchoReply(_) | Upper::Error(_) | Upper::Control(_) | Upper::Later => return,
            Upper::Udp { .. } | Upper::EchoRequest(_) | Upper::Other(_) => true,
        };
        let Some(flow) = Flow::outgoing(packet) else { return };
        if let Some(state) = self.flows.touch(&flow) {
            let fresh = opening && (state.phase == Phase::Closing || state.expired(&flow, now));
            state.phase = if fresh { Phase::Opening } else { state.phase.after(packet.upper) };
            state.used = now;
            return;
        }
        // A reply to what a rule let in makes no entry: the rule lets the next one in as well. A TCP flow may be
        // older than this table, but a reset or the answer to an opening is no flow of ours.
        let ours = match packet.upper {
            Upper::Tcp { flags, .. } => flags & RST == 0 && (opening || flags & SYN == 0),
            _ => true,
        };
        let explained = matches!(flow.protocol, TCP | UDP) && self.opens(to, flow.protocol, flow.local_port);
        if ours && !explained {
            let phase = if opening { Phase::Opening } else { Phase::Open };
            self.flows.insert(flow, State { phase, used: now });
        }
    }

    /// Whether `packet`, proven to come from the node `from`, may come in.
    pub fn incoming(&mut self, now: Instant, from: &Addr, packet: &Packet) -> Result<(), Denied> {
        let verdict = self.judge(now, from, packet);
        if let (Ok(()), Some(fragment), false) = (verdict, packet.fragment, packet.upper == Upper::Later) {
            self.fragments.insert((packet.source, fragment.identification), now + Self::REASSEMBLY);
        }
        verdict
    }

    fn judge(&mut self, now: Instant, from: &Addr, packet: &Packet) -> Result<(), Denied> {
        if packet.source_routed {
            return Err(Denied::Never);
        }
        let passes = match packet.upper {
            Upper::Tcp { destination, .. } => {
                self.opens(from, TCP, destination) || self.continues(now, packet)
            }
            Upper::Udp { destination, .. } => {
                self.opens(from, UDP, destination) || self.continues(now, packet)
            }
            Upper::EchoRequest(_) => self.opens(from, ICMP, 0),
            Upper::EchoReply(_) | Upper::Other(_) => self.continues(now, packet),
            Upper::Error(None) => false,
            Upper::Error(Some(about)) => {
                // The node it was sent to may say so, and nobody else; that it was sent shows in flow or rule.
                let flow = Flow {
                    protocol: about.protocol,
                    remote: about.destination,
                    local_port: about.source_port,
                    remote_port: about.destination_port,
                };
                about.destination == packet.source
                    && about.source == packet.destination
                    && (self.flows.touch(&flow).is_some_and(|state| !state.expired(&flow, now))
                        || self.opens(from, about.protocol, about.source_port))
            }
            Upper::Control(_) => return Err(Denied::Never),
            Upper::Later => packet.fragment.is_some_and(|fragment| {
                let key = (packet.source, fragment.identification);
                self.fragments.touch(&key).is_some_and(|until| now < *until)
            }),
        };
        if passes { Ok(()) } else { Err(Denied::Closed) }
    }

    /// Forgets what has expired.
    pub fn sweep(&mut self, now: Instant) {
        self.flows.retain(|flow, state| !state.expired(flow, now));
        self.fragments.retain(|_, until| now < *until);
    }

    /// Whether an inward packet belongs to a flow from inside, which it keeps alive.
    fn continues(&mut self, now: Instant, packet: &Packet) -> bool {
        let Some(flow) = Flow::incoming(packet) else { return false };
        let Some(state) = self.flows.touch(&flow) else { return false };
        if state.expired(&flow, now) {
            self.flows.remove(&flow);
            return false;
        }
        state.used = now;
        state.phase = match state.phase.after(packet.upper) {
            Phase::Opening => Phase::Open,
            phase => phase,
        };
        true
    }

    /// Whether a rule lets `peer` in to `port`.
    fn opens(&self, peer: &Addr, protocol: u8, port: u16) -> bool {
        self.rules
            .iter()
            .filter(|rule| match &rule.peer {
                Who::Anyone => true,
                Who::Node(addr) => addr == peer,
            })
            .flat_map(|rule| &rule.ports)
            .any(|ports| ports.contain(protocol, port))
    }
}

impl Flow {
    fn outgoing(packet: &Packet) -> Option<Self> {
        let (protocol, local_port, remote_port) = match packet.upper {
            Upper::Tcp { source, destination, .. } => (TCP, source, destination),
            Upper::Udp { source, destination } => (UDP, source, destination),
            Upper::EchoRequest(identifier) => (ICMP, identifier, 0),
            Upper::Other(protocol) => (protocol, 0, 0),
            _ => return None,
        };
        Some(Self { protocol, remote: packet.destination, local_port, remote_port })
    }

    fn incoming(packet: &Packet) -> Option<Self> {
        let (protocol, local_port, remote_port) = match packet.upper {
            Upper::Tcp { source, destination, .. } => (TCP, destination, source),
            Upper::Udp { source, destination } => (UDP, destination, source),
            Upper::EchoReply(identifier) => (ICMP, identifier, 0),
            Upper::Other(protocol) => (protocol, 0, 0),
            _ => return None,
        };
        Some(Self { protocol, remote: packet.source, local_port, remote_port })
    }
}

impl State {
    fn expired(&self, flow: &Flow, now: Instant) -> bool {
        // RFC 5382 and RFC 4787 name the least for TCP (2 h 4 min) and UDP (5 min).
        let life = match (flow.protocol, self.phase) {
            (TCP, Phase::Opening) => 120,
            (TCP, Phase::Open) => 7_440,
            (TCP, Phase::Closing) => 60,
            (UDP, _) => 300,
            _ => 60,
        };
        now.saturating_duration_since(self.used) >= Duration::from_secs(life)
    }
}

impl Phase {
    /// What a packet of the flow, either way, makes of it.
    fn after(self, upper: Upper) -> Self {
        match upper {
            Upper::Tcp { flags, .. } if flags & (FIN | RST) != 0 => Self::Closing,
            _ => self,
        }
    }
}

impl Ports {
    fn contain(self, protocol: u8, port: u16) -> bool {
        match self {
            Self::Tcp(first, last) => protocol == TCP && (first..=last).contains(&port),
            Self::Udp(first, last) => protocol == UDP && (first..=last).contains(&port),
            Self::Icmp => protocol == ICMP,
        }
    }
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// Not `*` and no address.
    #[error("a peer is * or an address: {0}")]
    Peer(#[from] byway_identity::AddrError),
    /// Not of the form `tcp/22`.
    #[error("{0:?} is not like tcp/22, udp/6000-6010, tcp, udp or icmp")]
    Ports(String),
}

impl FromStr for Who {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text == "*" { Ok(Self::Anyone) } else { Ok(Self::Node(text.parse()?)) }
    }
}

impl FromStr for Ports {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let wrong = || RuleError::Ports(text.chars().take(40).collect());
        let (protocol, range) = match text.split_once('/') {
            Some((protocol, range)) => (protocol, Some(range)),
            None => (text, None),
        };
        let number = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
        let (first, last) = match range {
            None => (0, u16::MAX),
            Some(range) => {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                number(first).zip(number(last)).filter(|(first, last)| first <= last).ok_or_else(wrong)?
            }
        };
        match protocol {
            "tcp" => Ok(Self::Tcp(first, last)),
            "udp" => Ok(Self::Udp(first, last)),
            "icmp" if range.is_none() => Ok(Self::Icmp),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, first, last) = match self {
            Self::Tcp(first, last) => ("tcp", first, last),
            Self::Udp(first, last) => ("udp", first, last),
            Self::Icmp => return f.write_str("icmp"),
        };
        if first == last { write!(f, "{protocol}/{first}") } else { write!(f, "{protocol}/{first}-{last}") }
    }
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
