//! The fast path's threads of a daemon, without threads: their engines take packets and datagrams before the core does.
//!
//! They work by snapshots that are some milliseconds old, as threads do, and the core looks at what they did each 200 ms.

use std::io::IoSlice;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_api::Kind;
use byway_fastpath::{
    Ecn, Gate, HandUp, Handover, Inward, Offloads, Outward, Planes, Sink, Snapshot, Train, vnet,
};
use byway_identity::{Addr, SeededEntropy};
use byway_link::{Event, Place, Remote, TransportId};
use byway_network::Plane;
use byway_node::{Core, Levels, SendRequest};

use crate::daemons::{Daemons, PATIENCE, Received};

/// Engines of one daemon, and what they obey.
pub(crate) struct Threads {
    outward: Outward,
    inward: Inward,
    tables: Arc<Snapshot>,
    generation: Option<u64>,
    /// No newer snapshot before this.
    publish_at: Instant,
    /// When the core looks at them next.
    look_at: Instant,
    busy: bool,
    active: bool,
    counters: ThreadCounters,
}

/// What engines did and left to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadCounters {
    /// Packets of this host that were sealed.
    pub sent: u64,
    /// Frames that were forwarded, or sent for packets.
    pub frames: u64,
    /// Packets that were injected.
    pub injected: u64,
    /// Packets of this host that went to the slow path.
    pub to_portal: u64,
    /// Datagrams that went to the core unopened.
    pub datagrams: u64,
    /// Frames that were opened and went to the core.
    pub unsealed: u64,
}

/// Age that a snapshot may reach after a change.
const PUBLISH: Duration = Duration::from_millis(5);
/// Between two looks at what threads did.
const LOOK: Duration = Duration::from_millis(200);

/// Everything passes; nodes have the addresses of [`overlay`].
struct OpenGate {
    own: Addr,
    all: Vec<Addr>,
}

/// What the engines want done.
#[derive(Default)]
struct Wishes {
    trains: Vec<(SocketAddr, Bytes)>,
    injected: Vec<Vec<u8>>,
    portal: Vec<Vec<u8>>,
    events: Vec<Event>,
}

/// The IPv6 address of a node in these worlds.
pub fn overlay(addr: &Addr) -> Ipv6Addr {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&addr.as_bytes()[..16]);
    bytes[0] = 2;
    bytes.into()
}

/// A UDP packet between two nodes, whole, with its checksum.
pub fn packet(from: &Addr, to: &Addr, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([17, 64]);
    packet.extend(overlay(from).octets());
    packet.extend(overlay(to).octets());
    packet.extend([0x13, 0x88, 0x13, 0x89]);
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    let sum = checksum(&packet);
    packet[46..48].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The checksum of a UDP packet, the plain way; 0 for one that has the right one in it.
pub fn checksum(packet: &[u8]) -> u16 {
    let pseudo = [&packet[8..40], &packet[4..6], &[0, 17]].concat();
    let all = [&pseudo[..], &packet[40..]].concat();
    let words = all.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl Gate for OpenGate {
    fn outgoing(&self, _: Instant, packet: &[u8], planes: &Planes) -> Option<(Addr, Plane)> {
        let destination = packet.get(24..40)?;
        let to = self.all.iter().find(|addr| overlay(addr).octets() == destination)?;
        Some((*to, planes.of(None)?))
    }

    fn incoming(&self, _: Instant, _: &Addr, _: &[u8]) -> bool {
        true
    }

    fn addresses(&self, from: &Addr) -> Option<(Ipv6Addr, Ipv6Addr)> {
        Some((overlay(from), overlay(&self.own)))
    }
}

impl Sink for Wishes {
    fn transmit(&mut self, train: Train<'_>) {
        for frame in train.bytes.chunks(train.segment) {
            self.trains.push((train.to, Bytes::copy_from_slice(frame)));
        }
    }

    fn inject(&mut self, header: &[u8; vnet::LENGTH], parts: &[IoSlice<'_>]) {
        let header = vnet::Header::parse(header);
        assert!(
            header.is_some_and(|header| header.gso.is_none()),
            "datagrams that come alone are not merged"
        );
        self.injected.push(parts.iter().flat_map(|part| part.iter().copied()).collect());
    }

    fn to_portal(&mut self, packet: &[u8]) {
        self.portal.push(packet.to_vec());
    }

    fn to_core(&mut self, handover: Handover<'_>) {
        let (port, what) = HandUp::new(handover);
        let place =
            |from| Place { transport: TransportId(port), remote: Remote::Ip(from), mtu: crate::daemons::MTU };
        self.events.push(match what {
            HandUp::Datagram { from, bytes } => Event::Frame { place: place(from), frame: bytes },
            HandUp::Unsealed { from, index, kind, flags, payload } => {
                Event::Unsealed { place: place(from), index, kind, flags, payload }
            }
        });
    }
}

impl Threads {
    fn new(now: Instant, main: Addr) -> Self {
        Self {
            outward: Outward::new(&mut SeededEntropy::new(1)),
            inward: Inward::new(Offloads::default()),
            tables: Arc::new(Snapshot::new(main)),
            generation: None,
            publish_at: now,
            look_at: now,
            busy: false,
            active: false,
            counters: ThreadCounters::default(),
        }
    }

    /// Whether the core has something to look at, and when it does.
    pub(crate) fn due(&self) -> Option<Instant> {
        (self.busy || self.active).then_some(self.look_at)
    }

    fn publish(&mut self, now: Instant, core: &Core) {
        if self.generation != Some(core.generation()) {
            self.generation = Some(core.generation());
            self.tables = Arc::new(core.snapshot());
            self.publish_at = now + PUBLISH;
        }
    }

    /// The snapshot that a thread finds, which wakes the core.
    fn load(&mut self, now: Instant, core: &Core) -> Arc<Snapshot> {
        if self.publish_at <= now {
            self.publish(now, core);
        }
        self.look_at = self.look_at.max(now);
        self.busy = true;
        self.tables.clone()
    }
}

impl Daemons {
    /// From now on engines of the fast path work for `daemon`.
    pub fn start_threads(&mut self, daemon: usize) {
        let (now, main) = (self.now(), self.main(daemon));
        *self.threads_mut(daemon) = Some(Box::new(Threads::new(now, main)));
    }

    /// Ends them.
    pub fn stop_threads(&mut self, daemon: usize) {
        *self.threads_mut(daemon) = None;
    }

    /// What they did.
    ///
    /// # Panics
    ///
    /// When there are none.
    pub fn thread_counters(&mut self, daemon: usize) -> ThreadCounters {
        self.threads_mut(daemon).as_ref().expect("the caller has started them").counters
    }

    /// The snapshot that threads of the daemon would find now.
    pub fn snapshot(&self, daemon: usize) -> Snapshot {
        self.core(daemon).snapshot()
    }

    /// Other levels from now on; threads know of them at once.
    pub fn set_levels(&mut self, daemon: usize, levels: Levels) {
        let now = self.now();
        self.act(daemon, |core, out| core.set_levels(now, levels, out));
        self.with_threads(daemon, |threads, core| threads.publish(now, core));
    }

    /// A program of `from` sends a UDP packet to the own node of `to`.
    pub fn send_packet(&mut self, from: usize, to: usize, payload: &[u8]) {
        let packet = packet(&self.main(from), &self.main(to), payload);
        self.send_whole_packet(from, [0; vnet::LENGTH], &packet);
    }

    /// A program of `from` sends `packet`, which has `header` in front of it.
    pub fn send_whole_packet(&mut self, from: usize, header: [u8; vnet::LENGTH], packet: &[u8]) {
        let now = self.now();
        let gate = self.gate(from);
        let read = self.with_threads(from, |threads, core| {
            let (tables, mut wishes) = (threads.load(now, core), Wishes::default());
            let mut bytes = [&header[..], packet].concat();
            threads.outward.read(now, &mut bytes, &tables, &gate, &mut wishes);
            threads.outward.flush(now, &mut wishes);
            threads.counters.sent += u64::from(wishes.portal.is_empty());
            wishes
        });
        match read {
            Some(wishes) => self.grant(from, wishes),
            None => self.send_slowly(from, packet),
        }
    }

    /// A datagram came: what engines have an entry for is theirs. False: there are none.
    pub(crate) fn came(&mut self, daemon: usize, from: SocketAddr, datagram: &[u8]) -> bool {
        let (now, gate) = (self.now(), self.gate(daemon));
        let wishes = self.with_threads(daemon, |threads, core| {
            let (tables, mut wishes) = (threads.load(now, core), Wishes::default());
            let (mut bytes, length) = (datagram.to_vec(), datagram.len());
            let gate: Option<&dyn Gate> = Some(&gate);
            threads.inward.train(
                now,
                0,
                from,
                Ecn::default(),
                &mut bytes,
                length,
                &tables,
                gate,
                &mut wishes,
            );
            wishes
        });
        let any = wishes.is_some();
        if let Some(wishes) = wishes {
            self.grant(daemon, wishes);
        }
        any
    }

    /// The core looks at what threads did, if it is time to.
    pub(crate) fn look(&mut self, daemon: usize) {
        let now = self.now();
        if self.threads(daemon).and_then(Threads::due).is_none_or(|due| due > now) {
            return;
        }
        let any = self.act(daemon, |core, out| core.sync(now, out)).unwrap_or(false);
        if let Some(threads) = self.threads_mut(daemon) {
            (threads.busy, threads.active, threads.look_at) = (false, any, now + LOOK);
        }
    }

    fn grant(&mut self, daemon: usize, wishes: Wishes) {
        let Wishes { trains, injected, portal, events } = wishes;
        if let Some(threads) = self.threads_mut(daemon) {
            let counters = &mut threads.counters;
            counters.frames += trains.len() as u64;
            counters.injected += injected.len() as u64;
            counters.to_portal += portal.len() as u64;
            for event in &events {
                match event {
                    Event::Unsealed { .. } => counters.unsealed += 1,
                    _ => counters.datagrams += 1,
                }
            }
        }
        for (to, frame) in trains {
            let place = Place { transport: TransportId(0), remote: Remote::Ip(to), mtu: crate::daemons::MTU };
            self.transmit(daemon, place, &frame);
        }
        let main = self.main(daemon);
        for packet in injected {
            let from = self.mains().into_iter().find(|addr| overlay(addr).octets() == packet[8..24]);
            let from = from.expect("the source has been checked");
            self.take(main, Received { from, kind: Kind::Packet, plane: Plane::Any, payload: packet.into() });
        }
        for packet in portal {
            self.send_slowly(daemon, &packet);
        }
        let now = self.now();
        for event in events {
            self.act(daemon, |core, out| core.handle(now, event, out));
        }
    }

    /// What the portal does with a packet that threads do not take.
    fn send_slowly(&mut self, daemon: usize, packet: &[u8]) {
        let (from, levels) = (self.main(daemon), self.core(daemon).levels());
        let to = self.mains().into_iter().find(|addr| overlay(addr).octets() == packet[24..40]);
        let level = levels.effective(None);
        let (Some(to), Ok(plane)) = (to, levels.plane(level)) else { return };
        let payload = Bytes::copy_from_slice(packet);
        let until = self.now() + PATIENCE;
        // What is refused is a packet that is lost, of which its sender takes care.
        let _refused =
            self.send_request(from, SendRequest { to, kind: Kind::Packet, payload, level, plane, until });
    }

    fn gate(&self, daemon: usize) -> OpenGate {
        OpenGate { own: self.main(daemon), all: self.mains() }
    }

    fn with_threads<T>(&mut self, daemon: usize, act: impl FnOnce(&mut Threads, &Core) -> T) -> Option<T> {
        let mut threads = self.threads_mut(daemon).take()?;
        let result = self.living(daemon).map(|core| act(&mut threads, core));
        *self.threads_mut(daemon) = Some(threads);
        result
    }
}

/// A datagram with memory of its own.
pub(crate) fn owned(datagram: &[u8]) -> BytesMut {
    BytesMut::from(datagram)
}
