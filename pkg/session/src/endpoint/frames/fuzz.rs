//! What a remote with a key and bad manners can do, for the fuzz targets in `tests/fuzz`.

use std::time::Instant;

use crate::endpoint::Endpoint;
use crate::{Event, Place, SessionId};

impl<P: Place> Endpoint<P> {
    /// Seals a frame of any kind, with any flags and as much of `payload` as fits, in `session`; nothing happens where
    /// there is none. No honest side sends such frames.
    pub fn send_any_frame(
        &mut self,
        now: Instant,
        session: SessionId,
        (kind, flags): (u8, u8),
        payload: &[u8],
        out: &mut Vec<Event<P>>,
    ) {
        if let Some((session, mut sealing)) = self.sealing(now, session, out) {
            let place = session.place.clone();
            let payload = &payload[..payload.len().min(session.room())];
            // A session whose counters are used up sends nothing more.
            let _ = session.seal(&mut sealing, &place, kind, flags, [payload, &[]]);
        }
    }
}
