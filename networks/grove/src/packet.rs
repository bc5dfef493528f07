//! Frames that carry something through the network, with the plane in front and the payload at the end.
//!
//! ```text
//! DATA    0x08  plane u8 · ttl u8 · mask u8 · remaining u32 · to 8 · coordinates · payload
//! ROUTED  0x09  plane u8 · ttl u8 · at u8 · n u8 · label u16* · payload
//! PROBE   0x0A  plane u8 · ttl u8 · mask u8 · remaining u32 · to 8 · coordinates · salt u64 · n u8 · hop* · out u16
//! TRACE   0x0B  plane u8 · ttl u8 · at u8 · n u8 · label u16* · salt u64 · n u8 · hop*
//! BROKEN  0x0C  plane u8 · ttl u8 · at u8 · n u8 · label u16* · to 8 · broken at u16
//! ECHO    0x0D  plane u8 · ttl u8 · at u8 · n u8 · label u16* · to 4 · nonce u64
//! hop           out u16 · back u16 · class u8 · cost u16 · tag 6
//! ```
//!
//! DATA and PROBE are *steered*: each node looks for the next one. ROUTED, TRACE and BROKEN are *led* by labels. Each node on
//! a led way replaces its label, at `at`, by the label of the link that the frame came over; at the end the list, from the
//! back, is the way home. Labels have two bytes here whatever their value, so that this is done in place.

use bytes::{Bytes, BytesMut};
use byway_network::{Class, Family, FrameError, HOP_LIMIT, Plane};
use byway_wire::{Malformed, Reader, Writer};

use crate::coords::{COORDS_MAX, Coords, LABEL_BOUND};
use crate::frame::{self, WAY_MAX};
use crate::names::ShortId;

pub(crate) const DATA: u8 = 8;
pub(crate) const ROUTED: u8 = 9;
pub(crate) const PROBE: u8 = 10;
pub(crate) const TRACE: u8 = 11;
pub(crate) const BROKEN: u8 = 12;
pub(crate) const ECHO: u8 = 13;

/// Where coordinates begin in a steered frame.
const COORDS_AT: usize = 16;
/// Most bytes in front of a payload.
pub(crate) const OVERHEAD: usize = COORDS_AT + COORDS_MAX;
/// Where labels begin in a led frame.
const LABELS_AT: usize = 5;
/// Most hops that a probe notes.
pub(crate) const HOPS_MAX: usize = 64;

/// The head of DATA and PROBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Steered {
    pub(crate) plane: Plane,
    pub(crate) ttl: u8,
    /// The trees that still count.
    pub(crate) mask: u8,
    /// What the rest of the way may cost; falls at each hop.
    pub(crate) remaining: u32,
    pub(crate) to: ShortId,
    pub(crate) coords: Coords,
}

/// The head of ROUTED, TRACE and BROKEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Led {
    pub(crate) plane: Plane,
    pub(crate) ttl: u8,
    /// Which label is next.
    pub(crate) at: u8,
    pub(crate) labels: Vec<u16>,
}

/// What a node on a led way needs of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Skim {
    pub(crate) plane: Plane,
    pub(crate) ttl: u8,
    pub(crate) at: u8,
    /// The label of the next link; none at the end of the way.
    pub(crate) next: Option<u16>,
    /// Of the head.
    pub(crate) length: usize,
}

/// A link that a probe went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The link's label at its near end.
    pub(crate) out: u16,
    /// Its label at the far end.
    pub(crate) back: u16,
    pub(crate) class: Class,
    pub(crate) cost: u16,
    /// The node at the far end, under a name made for this probe; zeros if it would not say.
    pub(crate) tag: [u8; 6],
}

/// What follows the head of PROBE: the links so far, and the label of the one it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notes {
    pub(crate) salt: u64,
    pub(crate) hops: Vec<Noted>,
    /// Absent in TRACE.
    pub(crate) out: Option<u16>,
    /// Which of those that wander, and 0 for one that goes as payloads would. 0 in TRACE.
    pub(crate) wander: u8,
}

fn ttl(r: &mut Reader<'_>) -> Result<u8, Malformed> {
    match r.u8()? {
        ttl @ 1..=HOP_LIMIT => Ok(ttl),
        _ => Err(Malformed::Invalid("ttl")),
    }
}

impl Steered {
    /// Reads the head, and gives what follows it as well.
    pub(crate) fn parse(bytes: &[u8], family: Family) -> Result<(Self, usize), FrameError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        r.u8()?;
        let plane = frame::plane(r, family)?;
        let (ttl, mask, remaining, to) = (ttl(r)?, r.u8()?, r.u32_be()?, ShortId(r.array()?));
        let before = r.remaining();
        let coords = Coords::read(r)?;
        if before - r.remaining() > COORDS_MAX || coords.iter().any(|place| place.tree.plane() != plane) {
            return Err(Malformed::Invalid("coordinates").into());
        }
        let at = bytes.len() - r.remaining();
        Ok((Self { plane, ttl, mask, remaining, to, coords }, at))
    }

    /// The frame from its start.
    pub(crate) fn emit(&self, kind: u8, payload: &[u8]) -> Bytes {
        let mut writer = Writer::with_capacity(OVERHEAD / 2 + payload.len());
        writer.u8(kind).u8(self.plane.byte()).u8(self.ttl).u8(self.mask).u32_be(self.remaining);
        writer.bytes(&self.to.0);
        self.coords.write(&mut writer);
        writer.bytes(payload);
        writer.finish()
    }

    /// The frame one hop on, changed in place where nobody else holds the bytes.
    pub(crate) fn passed_on(frame: Bytes, ttl: u8, mask: u8, remaining: u32) -> Bytes {
        let mut frame = in_place(frame);
        Self::pass_on(&mut frame, ttl, mask, remaining);
        frame.freeze()
    }

    /// Changes a frame to what it is one hop on.
    pub(crate) fn pass_on(frame: &mut [u8], ttl: u8, mask: u8, remaining: u32) {
        if let Some(head) = frame.get_mut(2..8) {
            head[0] = ttl;
            head[1] = mask;
            head[2..].copy_from_slice(&remaining.to_be_bytes());
        }
    }

    /// How long the head is, if there is one: only as much is looked at as that takes.
    pub(crate) fn head_length(frame: &[u8]) -> Option<usize> {
        let mut at = COORDS_AT + 1;
        for _ in 0..*frame.get(COORDS_AT)? {
            let depth = *frame.get(at + 5)?;
            at += 6;
            for _ in 0..depth {
                at += (1 << (frame.get(at)? >> 6)) + 2;
            }
        }
        (at <= OVERHEAD).then_some(at)
    }

    /// The hop limit of a frame, if it is one that frames have.
    pub(crate) fn hop_limit(head: &[u8]) -> Option<u8> {
        head.get(2).copied().filter(|ttl| (1..=HOP_LIMIT).contains(ttl))
    }

    /// The target of a frame.
    pub(crate) fn target(head: &[u8]) -> Option<ShortId> {
        head.get(8..COORDS_AT)?.try_into().ok().map(ShortId)
    }
}

fn in_place(frame: Bytes) -> BytesMut {
    frame.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

impl Led {
    /// A frame of its own along `labels`, which has already gone over the first of them.
    pub(crate) fn start(plane: Plane, labels: Vec<u16>) -> Self {
        Self { plane, ttl: HOP_LIMIT, at: 1, labels }
    }

    pub(crate) fn parse(bytes: &[u8], family: Family) -> Result<(Self, usize), FrameError> {
        let Skim { plane, ttl, at, length, .. } = Self::skim(bytes, family)?;
        let (labels, _) = bytes[LABELS_AT..length].as_chunks();
        let labels = labels.iter().map(|label| u16::from_be_bytes(*label)).collect();
        Ok((Self { plane, ttl, at, labels }, length))
    }

    /// The same without a list of the labels, but having looked at each of them.
    pub(crate) fn skim(bytes: &[u8], family: Family) -> Result<Skim, FrameError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        r.u8()?;
        let plane = frame::plane(r, family)?;
        let (ttl, at, count) = (ttl(r)?, r.u8()?, r.u8()?);
        if usize::from(count) > WAY_MAX {
            return Err(Malformed::Invalid("length of the way").into());
        }
        let mut next = None;
        for place in 0..count {
            let label = r.u16_be()?;
            if label >= LABEL_BOUND {
                return Err(Malformed::Invalid("label").into());
            }
            if place == at {
                next = Some(label);
            }
        }
        if at > count {
            return Err(Malformed::Invalid("place on the way").into());
        }
        Ok(Skim { plane, ttl, at, next, length: bytes.len() - r.remaining() })
    }

    pub(crate) fn emit(&self, kind: u8, payload: &[u8]) -> Bytes {
        let mut writer = Writer::with_capacity(6 + 2 * self.labels.len() + payload.len());
        writer.u8(kind).u8(self.plane.byte()).u8(self.ttl).u8(self.at);
        frame::labels(&mut writer, &self.labels);
        writer.bytes(payload);
        writer.finish()
    }

    /// The label of the next link; none at the end of the way.
    pub(crate) fn next(&self) -> Option<u16> {
        self.labels.get(usize::from(self.at)).copied()
    }

    /// Notes that the frame came over the link `from`: what stood there has been used up.
    ///
    /// The first link's label is noted by the second node, and so on, so after the last hop every label has been replaced.
    pub(crate) fn note(&mut self, from: u16) {
        let used = usize::from(self.at).checked_sub(1).and_then(|at| self.labels.get_mut(at));
        if let Some(used) = used {
            *used = from;
        }
    }

    /// The way home from here: what has been noted so far, from the back.
    pub(crate) fn home(&self) -> Vec<u16> {
        self.labels.iter().take(self.at.into()).rev().copied().collect()
    }

    /// The frame one hop on: `from` noted, and the next label's turn.
    pub(crate) fn passed_on(frame: Bytes, ttl: u8, at: u8, from: u16) -> Bytes {
        let mut frame = in_place(frame);
        Self::pass_on(&mut frame, ttl, at, from);
        frame.freeze()
    }

    /// Changes a frame to what it is one hop on.
    pub(crate) fn pass_on(frame: &mut [u8], ttl: u8, at: u8, from: u16) {
        let end = Self::changes_to(at);
        if let Some(label) = frame.get_mut(end - 2..end) {
            label.copy_from_slice(&from.to_be_bytes());
        }
        if let Some(head) = frame.get_mut(2..4) {
            head.copy_from_slice(&[ttl, at.saturating_add(1)]);
        }
    }

    /// Nothing behind so many bytes is changed by the node that finds `at` in a frame.
    pub(crate) fn changes_to(at: u8) -> usize {
        LABELS_AT + 2 * usize::from(at.max(1))
    }
}

impl Notes {
    pub(crate) fn write(&self) -> Bytes {
        let mut writer = Writer::with_capacity(11 + 13 * self.hops.len());
        writer.u64_be(self.salt).u8(self.hops.len() as u8);
        for hop in &self.hops {
            writer.u16_be(hop.out).u16_be(hop.back).u8(hop.class.byte()).u16_be(hop.cost).bytes(&hop.tag);
        }
        if let Some(out) = self.out {
            writer.u16_be(out).u8(self.wander);
        }
        writer.finish()
    }

    /// Reads the notes of a PROBE (`on_the_way`) or TRACE.
    pub(crate) fn parse(bytes: &[u8], on_the_way: bool) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let salt = r.u64_be()?;
        let count = usize::from(r.u8()?);
        if count > HOPS_MAX {
            return Err(Malformed::Invalid("hops"));
        }
        let label = |r: &mut Reader<'_>| match r.u16_be()? {
            label if label < LABEL_BOUND => Ok(label),
            _ => Err(Malformed::Invalid("label")),
        };
        let hop = |r: &mut Reader<'_>| {
            Ok(Noted {
                out: label(r)?,
                back: label(r)?,
                class: Class::from_byte(r.u8()?).ok_or(Malformed::Invalid("class"))?,
                cost: r.u16_be()?,
                tag: r.array()?,
            })
        };
        let hops = (0..count).map(|_| hop(r)).collect::<Result<_, Malformed>>()?;
        let (out, wander) = if on_the_way { (Some(label(r)?), r.u8()?) } else { (None, 0) };
        reader.finish()?;
        Ok(Self { salt, hops, out, wander })
    }

    /// The labels from the far end home.
    pub(crate) fn home(&self) -> Vec<u16> {
        self.hops.iter().rev().map(|hop| hop.back).take(WAY_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use byway_network::Cost;
    use proptest::prelude::*;

    use super::*;
    use crate::frame::tests::coords;

    fn steered() -> Steered {
        let to = ShortId([7; 8]);
        Steered { plane: Plane::Any, ttl: 128, mask: 5, remaining: 900, to, coords: coords() }
    }

    fn notes() -> Notes {
        let class = Class::UDP;
        let cost = Cost::from_units(60).encode();
        let hop = |at: u16| Noted { out: at, back: 100 + at, class, cost, tag: [at as u8; 6] };
        Notes { salt: 1 << 63, hops: (1..4).map(hop).collect(), out: Some(4), wander: 2 }
    }

    #[test]
    fn a_steered_frame_is_read_as_it_was_written_and_changes_in_place() {
        let frame = steered().emit(DATA, b"payload");
        assert_eq!(Steered::parse(&frame, Family::Ip), Ok((steered(), frame.len() - 7)));
        let shared = frame.clone();
        let passed = Steered::passed_on(frame, 127, 4, 800);
        let (head, at) = Steered::parse(&passed, Family::Ip).expect("it is a frame");
        assert_eq!(head, Steered { ttl: 127, mask: 4, remaining: 800, ..steered() });
        assert_eq!(&passed[at..], b"payload");
        assert_eq!(Steered::parse(&shared, Family::Ip).expect("it is a frame").0, steered());
    }

    #[test]
    fn a_led_frame_brings_the_way_home_with_it() {
        let head = Led::start(Plane::Quiet, vec![10, 20, 30]);
        let mut frame = head.emit(ROUTED, b"payload");
        // The node behind the first link, which it calls 11, sends it on over 20; the next one, which calls that 21, over 30.
        for (from, out) in [(11, 20), (21, 30)] {
            let (head, _) = Led::parse(&frame, Family::Tor).expect("it is a frame");
            assert_eq!(head.next(), Some(out));
            frame = Led::passed_on(frame, head.ttl - 1, head.at, from);
        }
        let (mut head, at) = Led::parse(&frame, Family::Tor).expect("it is a frame");
        assert_eq!(head.next(), None);
        head.note(31);
        assert_eq!(head.home(), [31, 21, 11]);
        assert_eq!((head.ttl, &frame[at..]), (126, &b"payload"[..]));
    }

    #[test]
    fn notes_are_read_as_they_were_written() {
        let on_the_way = notes();
        assert_eq!(Notes::parse(&on_the_way.write(), true), Ok(on_the_way.clone()));
        let done = Notes { out: None, wander: 0, ..on_the_way.clone() };
        assert_eq!(Notes::parse(&done.write(), false), Ok(done));
        assert!(Notes::parse(&on_the_way.write(), false).is_err());
        assert_eq!(on_the_way.home(), [103, 102, 101]);
    }

    #[test]
    fn a_packet_outside_its_plane_is_refused_before_the_rest_is_looked_at() {
        let nonsense = [DATA, Plane::Anon.byte(), 0xff, 0xff];
        assert_eq!(Steered::parse(&nonsense, Family::Ip).err(), Some(FrameError::Plane));
        assert_eq!(Led::parse(&nonsense, Family::Ip).err(), Some(FrameError::Plane));
    }

    proptest! {
        #[test]
        fn packets_of_any_bytes_are_read_without_harm(bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let _ = Steered::parse(&bytes, Family::Tor);
            let _ = Led::parse(&bytes, Family::Tor);
            let _ = Notes::parse(&bytes, true);
            let samples = [
                steered().emit(DATA, &notes().write()),
                Led::start(Plane::Any, vec![1, 2, 3]).emit(ROUTED, b"payload"),
            ];
            for sample in samples {
                let mut sample = sample.to_vec();
                let at = at.index(sample.len());
                sample[at] = byte;
                if let Ok((head, at)) = Steered::parse(&sample, Family::Ip) {
                    prop_assert_eq!(&head.emit(sample[0], &sample[at..])[..], &sample[..]);
                }
                if let Ok((head, at)) = Led::parse(&sample, Family::Ip) {
                    prop_assert_eq!(&head.emit(sample[0], &sample[at..])[..], &sample[..]);
                }
            }
        }
    }
}
