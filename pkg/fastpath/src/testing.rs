//! What tests, benches and fuzz targets share: real sessions, packets to carry, a sink that remembers.

use std::io::IoSlice;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use byway_identity::{Addr, Ipv6Range, SeededEntropy, SigningKey};
use byway_network::{Family, Hop, Plane};
use byway_session::{
    Ciphers, Config, Connect, Endpoint, Event, FrameKind, Inbound, Indices, Outbound, SessionId, Use,
};

use crate::vnet::{Gso, GsoKind, Header};
use crate::{Gate, Handover, Link, Owner, Planes, Session, Sink, Snapshot, Train, Way, checksum, vnet};

/// A socket's transport number.
pub const PORT: u16 = 7;
/// What a link carries over IPv6.
pub const FRAME_MAX: u16 = 1452;

/// One end of a session.
#[derive(Clone)]
pub struct Half {
    /// Receiver index of what comes.
    pub index: u32,
    /// For sealing.
    pub outbound: Arc<Outbound>,
    /// For opening.
    pub inbound: Arc<Inbound>,
}

/// Nodes with sessions between them, made by real handshakes.
pub struct World {
    /// When everything began.
    pub now: Instant,
    /// Addresses of the nodes.
    pub nodes: Vec<Addr>,
    keys: Vec<SigningKey>,
    indices: Vec<Indices>,
    /// Sessions last as long as these.
    ends: Vec<[Endpoint<There>; 2]>,
    seed: u64,
    ciphers: Ciphers,
}

/// There is one place only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct There;

impl byway_session::Place for There {
    fn rate_key(&self) -> Option<u64> {
        Some(0)
    }

    fn mtu(&self) -> usize {
        1400
    }

    fn plane(&self) -> u8 {
        0
    }

    fn masked(&self) -> bool {
        false
    }
}

impl World {
    /// So many nodes that do not know each other yet.
    pub fn new(nodes: u8, ciphers: Ciphers) -> Self {
        let keys: Vec<_> = (1..=nodes).map(|seed| SigningKey::from_seed(&[seed; 32])).collect();
        Self {
            now: Instant::now(),
            nodes: keys.iter().map(|key| key.public().addr()).collect(),
            indices: keys.iter().map(|_| Indices::default()).collect(),
            keys,
            ends: Vec::new(),
            seed: 1,
            ciphers,
        }
    }

    /// A new session between two nodes: of a link, or end to end.
    pub fn session(&mut self, one: usize, other: usize, usage: Use) -> [Half; 2] {
        let (now, ciphers) = (self.now, self.ciphers);
        let mut ends = [one, other].map(|node| {
            self.seed += 1;
            let config = Config {
                usage,
                key: self.keys[node].clone(),
                group_key: None,
                boot: 1,
                unix: 1_800_000_000,
                ratchet: Duration::from_secs(120),
                ciphers,
            };
            let mut end = Endpoint::new(now, config, Box::new(SeededEntropy::new(self.seed)));
            end.share_indices(self.indices[node].clone(), self.seed as u32);
            end
        });
        let mut events = [Vec::new(), Vec::new()];
        let connect = Connect { remote: self.nodes[other], place: There, token: None, digest: None };
        ends[0].connect(now, connect, &mut events[0]);
        let mut session: Option<SessionId> = None;
        for _ in 0..100 {
            for at in [0, 1] {
                for event in std::mem::take(&mut events[at]) {
                    match event {
                        Event::Transmit { bytes, .. } => {
                            ends[1 - at].handle(now, There, bytes.as_ref().into(), &mut events[1 - at]);
                        }
                        Event::Up { session: id, .. } => {
                            session = session.or((at == 0).then_some(id));
                            let sent = ends[at].send(now, id, FrameKind::Control, b"hello", &mut events[at]);
                            assert!(sent.is_ok(), "the session is up");
                        }
                        _ => {}
                    }
                }
            }
        }
        let halves = [0, 1].map(|at| {
            let end: &Endpoint<There> = &ends[at];
            let half = end.halves().next().map(|half| Half {
                index: half.index,
                outbound: half.outbound.clone(),
                inbound: half.inbound.clone(),
            });
            half.expect("both sides heard of each other")
        });
        self.ends.push(ends);
        halves
    }

    /// A link between two nodes, as each of them has it.
    pub fn link(&mut self, one: usize, other: usize) -> [(Half, Arc<Link>); 2] {
        let halves = self.session(one, other, Use::Link);
        let to = [other, one];
        let mut at = 0;
        halves.map(|half| {
            let link = Link {
                hop: Hop { peer: self.nodes[to[at]], family: Family::Ip },
                port: PORT,
                to: place(to[at]),
                frame_max: FRAME_MAX,
                outbound: half.outbound.clone(),
                inbound: half.inbound.clone(),
            };
            at += 1;
            (half, Arc::new(link))
        })
    }

    /// The tables of two neighbours that are each other's destination.
    pub fn neighbours(ciphers: Ciphers) -> (Self, [Snapshot; 2]) {
        let mut world = Self::new(2, ciphers);
        let links = world.link(0, 1);
        let ends = world.session(0, 1, Use::EndToEnd);
        let mut tables = [0, 1].map(|node| world.snapshot(node));
        for (node, ((half, link), end)) in links.into_iter().zip(ends).enumerate() {
            world.know_link(&mut tables[node], &half, &link);
            world.know_way(&mut tables[node], node, 1 - node, &end, &link, None);
        }
        (world, tables)
    }

    /// Empty tables of `node`.
    pub fn snapshot(&self, node: usize) -> Snapshot {
        let mut snapshot = Snapshot::new(self.nodes[node]);
        snapshot.planes.default = Some(Plane::Any);
        snapshot
    }

    /// `tables` get a link.
    pub fn know_link(&self, tables: &mut Snapshot, half: &Half, link: &Arc<Link>) {
        let owner = Owner::Link(link.clone());
        tables.sessions.insert(half.index, Session { inbound: half.inbound.clone(), owner });
        tables.add_link(link.clone());
    }

    /// `tables` of `node` get an end-to-end session with `remote`, and the way to it.
    pub fn know_way(
        &self,
        tables: &mut Snapshot,
        node: usize,
        remote: usize,
        half: &Half,
        link: &Arc<Link>,
        header: Option<bytes::Bytes>,
    ) {
        let (local, remote) = (self.nodes[node], self.nodes[remote]);
        let owner = Owner::Node { local, remote, plane: Plane::Any };
        tables.sessions.insert(half.index, Session { inbound: half.inbound.clone(), owner });
        let room = match &header {
            None => FRAME_MAX - 32,
            Some(header) => FRAME_MAX - 64 - header.len() as u16,
        };
        let way = Way { outbound: half.outbound.clone(), link: link.clone(), header, room };
        tables.ways.insert((remote, Plane::Any), way);
    }
}

/// Where a node is.
pub fn place(node: usize) -> SocketAddr {
    ([192, 0, 2, node as u8], 2561).into()
}

/// The IPv6 address of a node.
pub fn ipv6(addr: &Addr) -> Ipv6Addr {
    Ipv6Range::default().ipv6(addr).expect("the seeds were chosen to have one")
}

/// Lets everything pass that is for or from a node it knows, and counts how often it was asked.
pub struct OpenGate {
    own: Addr,
    known: Vec<Addr>,
    /// What is asked for and let in.
    pub asked_out: AtomicU64,
    /// The same inwards.
    pub asked_in: AtomicU64,
    /// Packets that left.
    pub sent: AtomicU64,
    /// Packets that came.
    pub received: AtomicU64,
    /// Packets that were refused.
    pub refused: AtomicU64,
    /// A destination port that is closed.
    pub closed: u16,
}

impl OpenGate {
    /// The gate of `own`, which knows all of `known`.
    pub fn new(own: Addr, known: &[Addr]) -> Self {
        Self {
            own,
            known: known.to_vec(),
            asked_out: AtomicU64::new(0),
            asked_in: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closed: 0,
        }
    }
}

impl Gate for OpenGate {
    fn outgoing(&self, _: Instant, packet: &[u8], planes: &Planes) -> Option<(Addr, Plane)> {
        self.asked_out.fetch_add(1, Ordering::Relaxed);
        let destination: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
        let to = self.known.iter().find(|addr| ipv6(addr).octets() == destination)?;
        Some((*to, planes.of(None)?))
    }

    fn incoming(&self, _: Instant, _: &Addr, packet: &[u8]) -> bool {
        self.asked_in.fetch_add(1, Ordering::Relaxed);
        self.closed == 0 || packet.get(42..44) != Some(&self.closed.to_be_bytes())
    }

    fn addresses(&self, from: &Addr) -> Option<(Ipv6Addr, Ipv6Addr)> {
        Some((ipv6(from), ipv6(&self.own)))
    }

    fn note_sent(&self, packets: u64, _: u64) {
        self.sent.fetch_add(packets, Ordering::Relaxed);
    }

    fn note_received(&self, packets: u64, _: u64) {
        self.received.fetch_add(packets, Ordering::Relaxed);
    }

    fn note_refused(&self, packets: u64) {
        self.refused.fetch_add(packets, Ordering::Relaxed);
    }
}

/// Remembers all that engines want done.
#[derive(Default)]
pub struct Memory {
    /// Trains: where to, ECN, bytes, stride.
    pub trains: Vec<(SocketAddr, crate::Ecn, Vec<u8>, usize)>,
    /// What was injected: header and packet.
    pub injected: Vec<(Header, Vec<u8>)>,
    /// What the portal's slow path got.
    pub portal: Vec<Vec<u8>>,
    /// Datagrams that the core got.
    pub datagrams: Vec<Vec<u8>>,
    /// What was opened for the core: index, kind, flags, payload.
    pub unsealed: Vec<(u32, u8, u8, Vec<u8>)>,
}

impl Sink for Memory {
    fn transmit(&mut self, train: Train<'_>) {
        assert!(!train.bytes.is_empty() && train.bytes.len() <= 65_507, "no length of a train");
        assert!(train.bytes.len().div_ceil(train.segment) <= 64, "too many frames in a train");
        self.trains.push((train.to, train.ecn, train.bytes.to_vec(), train.segment));
    }

    fn inject(&mut self, header: &[u8; vnet::LENGTH], parts: &[IoSlice<'_>]) {
        let header = Header::parse(header).expect("an own header");
        let packet = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.injected.push((header, packet));
    }

    fn to_portal(&mut self, packet: &[u8]) {
        self.portal.push(packet.to_vec());
    }

    fn to_core(&mut self, handover: Handover<'_>) {
        match handover {
            Handover::Datagram { datagram, .. } => self.datagrams.push(datagram.to_vec()),
            Handover::Unsealed { index, kind, flags, payload, .. } => {
                self.unsealed.push((index, kind, flags, payload.to_vec()));
            }
        }
    }
}

/// What a super-packet of a test is.
#[derive(Clone, Copy, Debug)]
pub struct Super {
    /// TCP, or UDP.
    pub is_tcp: bool,
    /// Payload of a segment.
    pub size: u16,
    /// Payload of all.
    pub payload: usize,
    /// Bytes of TCP options, a multiple of four.
    pub options: usize,
    /// TCP flags.
    pub flags: u8,
    /// Traffic class.
    pub class: u8,
    /// Source port.
    pub port: u16,
    /// TCP sequence number.
    pub sequence: u32,
}

impl Default for Super {
    fn default() -> Self {
        let (class, port, sequence) = (0, 40_000, 0xffff_f000);
        Self { is_tcp: true, size: 1348, payload: 60_000, options: 12, flags: 0x18, class, port, sequence }
    }
}

impl Super {
    /// The read that it is: vnet header, and a packet from one node to another as the kernel makes it.
    pub fn read(&self, from: &Addr, to: &Addr) -> Vec<u8> {
        let payload: Vec<u8> = (0..self.payload).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut upper = self.port.to_be_bytes().to_vec();
        upper.extend_from_slice(&5201u16.to_be_bytes());
        let headers = if self.is_tcp { 20 + self.options } else { 8 };
        if self.is_tcp {
            upper.extend_from_slice(&self.sequence.to_be_bytes());
            upper.extend_from_slice(&[9, 8, 7, 6, (headers * 4) as u8, self.flags, 1, 0, 0, 0, 0, 0]);
            upper.extend((0..self.options).map(|at| at as u8));
        } else {
            upper.extend_from_slice(&((headers + self.payload) as u16).to_be_bytes());
            upper.extend_from_slice(&[0, 0]);
        }
        upper.extend_from_slice(&payload);
        let next = if self.is_tcp { 6 } else { 17 };
        let mut packet = vec![0x60 | self.class >> 4, self.class << 4, 0, 0, 0, 0, next, 64];
        packet[4..6].copy_from_slice(&(upper.len() as u16).to_be_bytes());
        packet.extend_from_slice(&ipv6(from).octets());
        packet.extend_from_slice(&ipv6(to).octets());
        packet.extend_from_slice(&upper);
        let offset = if self.is_tcp { 16 } else { 6 };
        let protocol = crate::packet::Upper::of(&packet).expect("it was just made");
        checksum::begin(&mut packet, protocol);
        let kind = if self.is_tcp { GsoKind::Tcp } else { GsoKind::Udp };
        let gso = (self.payload > usize::from(self.size)).then_some(Gso {
            kind,
            size: self.size,
            cwr: self.is_tcp && self.flags & 0x80 != 0,
        });
        let header = Header { checksum: Some((40, offset)), gso, header: (40 + headers) as u16 };
        [&header.emit()[..], &packet].concat()
    }
}
