//! Packets beside each other, where their frames will be: sealed in place, and sent as one train.
//!
//! ```text
//!  bare:     [head 12][inner 4][packet][padding][tag 16]  [head][inner][packet] …                equal strides,
//!  relayed:  [12][4][network header][12][4][packet][padding][16][padding][16]  [12] …            the last may be shorter
//!                                    └──── end to end, sealed first ────────┘
//!             └──── link ───────────────────────────────────────────────────┘
//! ```

use std::sync::Arc;
use std::time::Instant;

use byway_session::frame::{self, OVERHEAD, PAYLOAD, padded};

use crate::checksum;
use crate::merge::Growing;
use crate::packet::Upper;
use crate::{Ecn, Sink, Train, Way};

/// Most frames of one train: what older kernels send at most.
const FRAMES: usize = 64;
/// Most bytes of one train: what a UDP datagram over IPv4 holds.
const LONGEST: usize = 65_507;

/// Frames that are being laid out, all of one way.
pub(crate) struct Slots {
    bytes: Box<[u8]>,
    used: usize,
    frames: Vec<Slot>,
    way: Option<Way>,
    ecn: Ecn,
    /// Length of each frame.
    stride: usize,
    /// The super-packet that the receiver can make of the last ones, and in which slot it began.
    growing: Option<(Growing, usize)>,
    /// Where packets go that could not be sealed.
    scratch: Vec<u8>,
}

/// One packet in its place.
#[derive(Clone, Copy)]
struct Slot {
    /// Where the frame on the wire begins and ends.
    start: usize,
    end: usize,
    /// Where the end-to-end frame begins, and how long it is.
    inner: usize,
    inner_length: usize,
    /// Length of the packet.
    length: usize,
    flags: u8,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; LONGEST].into(),
            used: 0,
            frames: Vec::with_capacity(FRAMES),
            way: None,
            ecn: Ecn::NotEct,
            stride: 0,
            growing: None,
            scratch: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Makes room for a packet of `length` bytes that goes `way`, sending what does not fit together with it first.
    ///
    /// `length` is at most the room of the way. Then [`Slots::commit`].
    pub(crate) fn place<S: Sink + ?Sized>(
        &mut self,
        now: Instant,
        way: &Way,
        ecn: Ecn,
        length: usize,
        sink: &mut S,
    ) -> Option<&mut [u8]> {
        let layout = Layout::new(way, length)?;
        let is_closed = self.frames.last().is_some_and(|last| last.end - last.start < self.stride);
        let fits = self.way.as_ref().is_some_and(|mine| is_same(mine, way))
            && self.ecn == ecn
            && !is_closed
            && layout.length <= self.stride
            && self.frames.len() < FRAMES
            && self.used + layout.length <= LONGEST;
        if !fits {
            self.flush(now, sink);
            self.way = Some(way.clone());
            self.ecn = ecn;
            self.stride = layout.length;
        }
        let start = self.used;
        let end = start + layout.length;
        let inner = start + layout.inner;
        self.used = end;
        let slot = Slot { start, end, inner, inner_length: layout.inner_length, length, flags: 0 };
        self.frames.push(slot);
        let packet = inner + PAYLOAD;
        Some(&mut self.bytes[packet..packet + length])
    }

    /// The packet in the last place is written; whether its checksum is unfinished.
    pub(crate) fn commit(&mut self, is_partial: bool) {
        let Some(at) = self.frames.len().checked_sub(1) else { return };
        if !is_partial {
            self.growing = None;
            return;
        }
        let mut flags = frame::NEEDS_CSUM;
        let next = &self.bytes[self.frames[at].packet()];
        let growing = self.growing.take();
        self.growing = Upper::of(next).map(|upper| {
            if let Some((mut growing, first)) = growing
                && growing.take(&self.bytes[self.frames[first].packet()], next, upper)
            {
                flags |= frame::CONT;
                return (growing, first);
            }
            (Growing::begin(next, upper), at)
        });
        self.frames[at].flags = flags;
    }

    /// Seals and transmits what is there.
    pub(crate) fn flush<S: Sink + ?Sized>(&mut self, now: Instant, sink: &mut S) {
        self.growing = None;
        if self.frames.is_empty() {
            return;
        }
        let Some(way) = self.way.take() else { return };
        if self.seal(now, &way).is_some() {
            let count = self.frames.len() as u64;
            let payload: usize = self.frames.iter().map(|slot| slot.length).sum();
            way.outbound.note_sent(now, count, payload as u64);
            way.link.outbound.note_sent(now, count, self.used as u64);
            sink.transmit(Train {
                port: way.link.port,
                to: way.link.to,
                ecn: self.ecn,
                bytes: &self.bytes[..self.used],
                segment: self.stride,
            });
        } else {
            self.give_back(sink);
        }
        self.frames.clear();
        self.used = 0;
    }

    /// `None`: a session has no counters any more; no packet has been touched.
    fn seal(&mut self, now: Instant, way: &Way) -> Option<()> {
        let count = self.frames.len() as u32;
        let mut sealer = way.outbound.take(now, count)?;
        let mut link = match &way.header {
            Some(header) => Some((way.link.outbound.take(now, count)?, header)),
            None => None,
        };
        for slot in &self.frames {
            let inner = &mut self.bytes[slot.inner..slot.inner + slot.inner_length];
            // Neither can fail: there is a counter for each, and the layout has room for what they add.
            sealer.seal(frame::PACKET, slot.flags, slot.length, inner)?;
            if let Some((link, header)) = &mut link {
                let payload = header.len() + slot.inner_length;
                let outer = &mut self.bytes[slot.start..slot.end];
                outer[PAYLOAD..PAYLOAD + header.len()].copy_from_slice(header);
                link.seal(frame::MESSAGE, 0, payload, outer)?;
            }
        }
        Some(())
    }

    /// The slow path knows how to go on without a session.
    fn give_back<S: Sink + ?Sized>(&mut self, sink: &mut S) {
        for slot in &self.frames {
            self.scratch.clear();
            self.scratch.extend_from_slice(&self.bytes[slot.packet()]);
            if slot.flags & frame::NEEDS_CSUM == 0 || checksum::finish(&mut self.scratch) {
                sink.to_portal(&self.scratch);
            }
        }
    }
}

impl Slot {
    fn packet(&self) -> std::ops::Range<usize> {
        let start = self.inner + PAYLOAD;
        start..start + self.length
    }
}

/// Lengths of one frame.
struct Layout {
    /// Of the frame on the wire.
    length: usize,
    /// Where in it the end-to-end frame begins.
    inner: usize,
    inner_length: usize,
}

impl Layout {
    /// `None`: the packet is too long for the way, or the way for a train.
    fn new(way: &Way, length: usize) -> Option<Self> {
        let room = usize::from(way.room);
        if length > room {
            return None;
        }
        let inner_length = padded(length + OVERHEAD, room + OVERHEAD);
        let most = usize::from(way.link.frame_max);
        let (inner, whole) = match &way.header {
            None => (0, inner_length),
            Some(header) => {
                let bare = OVERHEAD + header.len() + inner_length;
                (PAYLOAD + header.len(), padded(bare, most))
            }
        };
        (whole <= most.min(LONGEST)).then_some(Self { length: whole, inner, inner_length })
    }
}

/// Whether frames of both may stand in one train.
fn is_same(one: &Way, other: &Way) -> bool {
    Arc::ptr_eq(&one.outbound, &other.outbound)
        && Arc::ptr_eq(&one.link, &other.link)
        && one.header == other.header
        && one.room == other.room
}
