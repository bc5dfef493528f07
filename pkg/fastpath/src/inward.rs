//! From the links to the device, and to other links.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use byway_identity::Addr;
use byway_network::{FRONT_MAX, Family, Hop, Plane, Step};
use byway_session::Inbound;
use byway_session::frame::{self, OpenError, Opened};

use crate::forward::Forwarding;
use crate::inject::{Injector, Portal};
use crate::{Ecn, Gate, Handover, Link, Owner, Sink, Snapshot};

/// Below it the first four bytes of a datagram name a handshake message.
const INDICES: u32 = 256;

/// What the device takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Packets with unfinished checksums.
    pub checksum: bool,
    /// TCP super-packets.
    pub tso: bool,
    /// Super-packets of UDP datagrams.
    pub uso: bool,
}

/// Takes trains of frames, and injects, forwards or hands over what they hold.
///
/// ```text
///  train ─► by index ─┬─► link: open ─► picture ─┬─► forward: seal for the next link, transmit
///                     │                          └─► deliver ┐
///                     └─► end to end, bare ──────────────────┴─► open ─► checks, gate ─► merge ─► inject
///   whatever else ─► core
/// ```
pub struct Inward {
    opened: Vec<Unsealed>,
    inner: Vec<Range<usize>>,
    inner_opened: Vec<Unsealed>,
    forwarding: Forwarding,
    injector: Injector,
    counters: InwardCounters,
}

/// What was dropped on the way in, by reason, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InwardCounters {
    /// Named a session, but did not open.
    pub forged: u64,
    /// Seen before, or too old.
    pub replayed: u64,
    /// Too short, or nonsense inside.
    pub malformed: u64,
    /// Of a session that has ended.
    pub ended: u64,
    /// Came outside its plane, or for a node that gets nothing this way.
    pub plane: u64,
    /// Held packets that are none, or not from and to the addresses that they must be.
    pub refused: u64,
    /// Met congestion, of which their transport does not want to know.
    pub congested: u64,
}

/// A frame that opened.
pub(crate) struct Unsealed {
    /// Where the frame is.
    pub(crate) frame: Range<usize>,
    /// Where its payload is.
    pub(crate) payload: Range<usize>,
    pub(crate) counter: u64,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
}

/// What is known of a train, and who deals with it.
pub(crate) struct Train<'a, S: ?Sized> {
    pub(crate) now: Instant,
    pub(crate) port: u16,
    pub(crate) from: SocketAddr,
    pub(crate) ecn: Ecn,
    pub(crate) tables: &'a Snapshot,
    pub(crate) gate: Option<&'a dyn Gate>,
    pub(crate) sink: &'a mut S,
}

/// An end-to-end session, as far as its frames matter here.
struct Ends<'a> {
    index: u32,
    plane: Plane,
    inbound: &'a Inbound,
    remote: &'a Addr,
}

impl Inward {
    /// For a device that takes what `offloads` says.
    pub fn new(offloads: Offloads) -> Self {
        Self {
            opened: Vec::new(),
            inner: Vec::new(),
            inner_opened: Vec::new(),
            forwarding: Forwarding::default(),
            injector: Injector::new(offloads),
            counters: InwardCounters::default(),
        }
    }

    /// What was dropped.
    pub fn counters(&self) -> InwardCounters {
        self.counters
    }

    /// Takes datagrams of `stride` bytes side by side, the last one maybe shorter, which came together from one place.
    /// Without a `gate` there is no portal: packets go to the core.
    #[expect(clippy::too_many_arguments, reason = "what is known of a train, and who deals with it")]
    pub fn train<S: Sink + ?Sized>(
        &mut self,
        now: Instant,
        port: u16,
        from: SocketAddr,
        ecn: Ecn,
        bytes: &mut [u8],
        stride: usize,
        tables: &Snapshot,
        gate: Option<&dyn Gate>,
        sink: &mut S,
    ) {
        let mut train = Train { now, port, from, ecn, tables, gate, sink };
        let here = tables.places.get(&(port, from));
        let family = here.map_or(Family::Ip, |link| link.hop.family);
        let stride = stride.max(1);
        let mut frames = std::mem::take(&mut self.inner);
        let mut at = 0;
        while at < bytes.len() {
            let index = frame::index(&bytes[at..]).filter(|index| *index >= INDICES);
            frames.clear();
            // Frames of one session side by side: one look-up, one lock.
            while at < bytes.len() && (frames.is_empty() || frame::index(&bytes[at..]) == index) {
                let end = bytes.len().min(at + stride);
                frames.push(at..end);
                at = end;
            }
            let session = index.and_then(|index| tables.sessions.get(&index).map(|session| (index, session)));
            match session.map(|(index, session)| (index, &session.inbound, &session.owner)) {
                Some((index, inbound, Owner::Link(link))) if link.port == port && link.to == from => {
                    self.link(&mut train, index, link, inbound, &frames, bytes);
                }
                Some((index, inbound, Owner::Node { local, remote, plane })) => {
                    if *local != tables.main || !plane.has(family) {
                        self.counters.plane += frames.len() as u64;
                        continue;
                    }
                    let ends = Ends { index, plane: *plane, inbound, remote };
                    let (count, length) = self.node(&mut train, &ends, &frames, bytes);
                    if let Some(link) = here.filter(|link| count > 0 && link.hop.peer == *remote) {
                        link.inbound.note_received(now, count, length);
                    }
                }
                _ => {
                    for frame in &frames {
                        let datagram = &bytes[frame.clone()];
                        train.sink.to_core(Handover::Datagram { port, from, datagram });
                    }
                }
            }
        }
        self.inner = frames;
        self.injector.finish(&mut train, bytes);
    }

    /// Frames of a link, which came from its place.
    fn link<S: Sink + ?Sized>(
        &mut self,
        train: &mut Train<'_, S>,
        index: u32,
        link: &Link,
        inbound: &Inbound,
        frames: &[Range<usize>],
        bytes: &mut [u8],
    ) {
        let mut opened = std::mem::take(&mut self.opened);
        self.open(train.now, inbound, frames, bytes, &mut opened);
        if !opened.is_empty() {
            let length: usize = opened.iter().map(|unsealed| unsealed.frame.len()).sum();
            inbound.note_received(train.now, opened.len() as u64, length as u64);
        }
        let mut inner = Vec::new();
        let mut ends: Option<Ends<'_>> = None;
        let mut judge = Judge::new(train.tables, link.hop);
        for unsealed in &opened {
            let Unsealed { payload, kind, .. } = unsealed;
            let before = Front::of(&bytes[payload.clone()]);
            let verdict = match *kind {
                frame::MESSAGE => judge.carry(&before, &mut bytes[payload.clone()]),
                _ => Verdict::CORE,
            };
            match verdict.step {
                Step::Forward { .. } => {
                    let next = verdict.next;
                    match next.filter(|next| unsealed.frame.len() <= usize::from(next.frame_max)) {
                        Some(next) => self.forwarding.add(train, index, next, unsealed, before, bytes),
                        None => {
                            before.restore(&mut bytes[payload.clone()]);
                            train.hand_over(index, unsealed, bytes);
                        }
                    }
                }
                Step::Deliver { plane, at } => {
                    let start = payload.start.saturating_add(at).min(payload.end);
                    let frame = &bytes[start..payload.end];
                    if ends.as_ref().is_none_or(|ends| Some((ends.index, ends.plane)) != named(frame, plane))
                    {
                        let Some(next) = train.ends(frame, plane) else {
                            train.hand_over(index, unsealed, bytes);
                            continue;
                        };
                        if let Some(ends) = ends.replace(next) {
                            self.node(train, &ends, &inner, bytes);
                            inner.clear();
                        }
                    }
                    inner.push(start..payload.end);
                }
                Step::Core => train.hand_over(index, unsealed, bytes),
            }
        }
        if let Some(ends) = ends {
            self.node(train, &ends, &inner, bytes);
        }
        self.forwarding.flush(train, bytes);
        self.opened = opened;
    }

    /// Frames end to end, for the daemon's own node, in their plane. How many opened, and how long these were in all.
    fn node<S: Sink + ?Sized>(
        &mut self,
        train: &mut Train<'_, S>,
        ends: &Ends<'_>,
        frames: &[Range<usize>],
        bytes: &mut [u8],
    ) -> (u64, u64) {
        let mut opened = std::mem::take(&mut self.inner_opened);
        self.open(train.now, ends.inbound, frames, bytes, &mut opened);
        if !opened.is_empty() {
            let payload: usize = opened.iter().map(|unsealed| unsealed.payload.len()).sum();
            ends.inbound.note_received(train.now, opened.len() as u64, payload as u64);
        }
        let expected = train.gate.map(|gate| gate.addresses(ends.remote));
        for unsealed in &opened {
            match (train.gate, expected) {
                (Some(gate), Some(expected)) if unsealed.kind == frame::PACKET => {
                    let portal = Portal { gate, index: ends.index, remote: ends.remote, expected };
                    self.injector.take(train, &portal, unsealed, bytes, &mut self.counters);
                }
                _ => train.hand_over(ends.index, unsealed, bytes),
            }
        }
        let length: usize = opened.iter().map(|unsealed| unsealed.frame.len()).sum();
        let noted = (opened.len() as u64, length as u64);
        self.inner_opened = opened;
        noted
    }

    /// Opens `frames`, all of one session, under one lock.
    fn open(
        &mut self,
        now: Instant,
        inbound: &Inbound,
        frames: &[Range<usize>],
        bytes: &mut [u8],
        opened: &mut Vec<Unsealed>,
    ) {
        opened.clear();
        let mut opening = inbound.lock();
        for frame in frames {
            match opening.open(now, &mut bytes[frame.clone()]) {
                Ok(Opened { counter, kind, flags, payload }) => {
                    let payload = frame.start + payload.start..frame.start + payload.end;
                    opened.push(Unsealed { frame: frame.clone(), payload, counter, kind, flags });
                }
                Err(OpenError::Replayed) => self.counters.replayed += 1,
                Err(OpenError::Malformed) => self.counters.malformed += 1,
                Err(OpenError::Ended) => self.counters.ended += 1,
                Err(_) => self.counters.forged += 1,
            }
        }
    }
}

impl<'a, S: Sink + ?Sized> Train<'a, S> {
    /// Hands what a frame held to the core.
    pub(crate) fn hand_over(&mut self, index: u32, unsealed: &Unsealed, bytes: &[u8]) {
        self.sink.to_core(Handover::Unsealed {
            port: self.port,
            from: self.from,
            index,
            kind: unsealed.kind,
            flags: unsealed.flags,
            payload: &bytes[unsealed.payload.clone()],
        });
    }

    /// The session of an end-to-end frame that a relay delivered to the daemon's own node in `plane`, if it is one of it
    /// and of that plane.
    fn ends(&self, frame: &[u8], plane: Plane) -> Option<Ends<'a>> {
        let index = frame::index(frame).filter(|index| *index >= INDICES)?;
        let session = self.tables.sessions.get(&index)?;
        match &session.owner {
            Owner::Node { local, remote, plane: mine } if *local == self.tables.main && *mine == plane => {
                Some(Ends { index, plane, inbound: &session.inbound, remote })
            }
            _ => None,
        }
    }
}

/// The session that an end-to-end frame names, and the plane that it must be of.
fn named(frame: &[u8], plane: Plane) -> Option<(u32, Plane)> {
    Some((frame::index(frame)?, plane))
}

/// What is done with frames of one link: frames that begin alike, as those of one stream do, are decided on once.
struct Judge<'a> {
    tables: &'a Snapshot,
    from: Hop,
    last: Option<Judged<'a>>,
}

/// A decision, and what a frame must begin with for it to be the same.
struct Judged<'a> {
    head: usize,
    before: Front,
    after: Front,
    verdict: Verdict<'a>,
}

#[derive(Clone, Copy)]
struct Verdict<'a> {
    step: Step,
    /// The link to the neighbour that the frame goes on to, if it can be sent by threads.
    next: Option<&'a Arc<Link>>,
}

impl Verdict<'_> {
    const CORE: Self = Self { step: Step::Core, next: None };
}

impl<'a> Judge<'a> {
    fn new(tables: &'a Snapshot, from: Hop) -> Self {
        Self { tables, from, last: None }
    }

    /// As [`Picture::carry`](byway_network::Picture::carry); `before` is the front of `payload`.
    fn carry(&mut self, before: &Front, payload: &mut [u8]) -> Verdict<'a> {
        if let Some(last) = &self.last
            && payload.len() >= last.head
            && before.bytes[..last.head] == last.before.bytes[..last.head]
        {
            payload[..last.head].copy_from_slice(&last.after.bytes[..last.head]);
            return last.verdict;
        }
        let Some(picture) = &self.tables.picture else { return Verdict::CORE };
        let step = picture.carry(self.from, payload);
        let (head, next) = match step {
            Step::Forward { hop, head } => (head, self.tables.links.get(&hop)),
            Step::Deliver { at, .. } => (at, None),
            Step::Core => return Verdict::CORE,
        };
        let verdict = Verdict { step, next };
        let is_known = head <= Front::LENGTH;
        self.last = is_known.then(|| Judged { head, before: *before, after: Front::of(payload), verdict });
        verdict
    }
}

/// The front of a network's frame, as it was before a router changed it.
#[derive(Clone, Copy)]
pub(crate) struct Front {
    bytes: [u8; Self::LENGTH],
}

impl Front {
    /// Routers change nothing behind it.
    const LENGTH: usize = FRONT_MAX;

    fn of(payload: &[u8]) -> Self {
        let mut bytes = [0; Self::LENGTH];
        let length = payload.len().min(Self::LENGTH);
        bytes[..length].copy_from_slice(&payload[..length]);
        Self { bytes }
    }

    pub(crate) fn restore(&self, payload: &mut [u8]) {
        let length = payload.len().min(Self::LENGTH);
        payload[..length].copy_from_slice(&self.bytes[..length]);
    }
}
