//! Frames that go on: sealed again where they lie, for the next link.

use std::sync::Arc;

use byway_session::frame;

use crate::inward::{Front, Train, Unsealed};
use crate::{Link, Sink};

/// Most frames of one train.
const FRAMES: usize = 64;
/// Most bytes of one train.
const LONGEST: usize = 65_507;

/// Frames side by side that go to the same link.
#[derive(Default)]
pub(crate) struct Forwarding {
    next: Option<Arc<Link>>,
    frames: Vec<Waiting>,
}

struct Waiting {
    /// By which index it came.
    index: u32,
    unsealed: Unsealed,
    before: Front,
}

impl Forwarding {
    /// Takes a frame whose payload is what goes on; its length is one that `next` carries.
    pub(crate) fn add<S: Sink + ?Sized>(
        &mut self,
        train: &mut Train<'_, S>,
        index: u32,
        next: &Arc<Link>,
        unsealed: &Unsealed,
        before: Front,
        bytes: &mut [u8],
    ) {
        let range = &unsealed.frame;
        let fits = match (&self.next, self.frames.first(), self.frames.last()) {
            (Some(mine), Some(first), Some(last)) => {
                let (first, last) = (&first.unsealed.frame, &last.unsealed.frame);
                Arc::ptr_eq(mine, next)
                    && last.end == range.start
                    && last.len() == first.len()
                    && range.len() <= first.len()
                    && self.frames.len() < FRAMES
                    && range.end - first.start <= LONGEST
            }
            _ => false,
        };
        if !fits {
            self.flush(train, bytes);
            self.next = Some(next.clone());
        }
        let unsealed = Unsealed { frame: range.clone(), payload: unsealed.payload.clone(), ..*unsealed };
        self.frames.push(Waiting { index, unsealed, before });
    }

    /// Seals and transmits what waits.
    pub(crate) fn flush<S: Sink + ?Sized>(&mut self, train: &mut Train<'_, S>, bytes: &mut [u8]) {
        let Some(next) = self.next.take() else { return };
        let (Some(first), Some(last)) = (self.frames.first(), self.frames.last()) else { return };
        let (start, end, segment) =
            (first.unsealed.frame.start, last.unsealed.frame.end, first.unsealed.frame.len());
        let Some(mut sealer) = next.outbound.take(train.now, self.frames.len() as u32) else {
            for Waiting { index, unsealed, before } in self.frames.drain(..) {
                before.restore(&mut bytes[unsealed.payload.clone()]);
                train.hand_over(index, &unsealed, bytes);
            }
            return;
        };
        let count = self.frames.len() as u64;
        for Waiting { unsealed, .. } in self.frames.drain(..) {
            // There is a counter for each, and a frame that opened has room for the same payload.
            let payload = unsealed.payload.len();
            let _ = sealer.seal(frame::MESSAGE, 0, payload, &mut bytes[unsealed.frame]);
        }
        let train_bytes = &bytes[start..end];
        next.outbound.note_sent(train.now, count, train_bytes.len() as u64);
        train.sink.transmit(crate::Train {
            port: next.port,
            to: next.to,
            ecn: train.ecn,
            bytes: train_bytes,
            segment,
        });
    }
}
