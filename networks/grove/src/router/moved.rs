//! News of where a node is now, for those who have sent something to where it was.
//!
//! A node does not know who sends to it, and its neighbours do not either: each knows the links that the last frames came over.
//! So news goes back over these links, from node to node, to whoever still sends, and no one learns more than before.

use byway_identity::{Prefix, PublicKey};

use super::*;
use crate::seek::Question;

/// Whoever has sent something along a way in this time is told, but no more than so many.
const LATELY: Duration = Duration::from_secs(60);
const BACKS_MAX: usize = 16;
/// The number in an answer that nobody has asked for.
pub(super) const UNASKED: u64 = 0;

impl Router {
    /// Tells those who have lately sent something here where this node is, if it has moved since.
    pub(super) fn tell_moved(&mut self, now: Instant, out: &mut Outbox) {
        if !self.elsewhere || !self.moves.take(now) {
            return;
        }
        self.elsewhere = false;
        for plane in Plane::ALL.into_iter().filter(|plane| self.coords.mask(*plane) != 0).collect::<Vec<_>>()
        {
            // Nothing is signed unless there is somebody to tell.
            let since = now.checked_sub(LATELY).unwrap_or(self.started);
            let backs = self.backs.lately(since, plane, BACKS_MAX);
            if backs.is_empty() && !self.trail.has(self.own.id, plane) {
                continue;
            }
            let location = self.location(plane);
            let labels = self.trail.tell(self.own.id, plane, news_of(&location));
            self.send_moved(&labels, byway_network::HOP_LIMIT, &location, out);
            for mut way in backs {
                // The first label is this node's own; FOUND takes the others off from the back.
                way.reverse();
                let hop = way.pop().and_then(|label| self.labels.get(&label));
                if let Some(hop) = hop.filter(|hop| plane.has(hop.family)) {
                    let location = Box::new(location.clone());
                    out.send(*hop, Frame::Found { plane, nonce: UNASKED, way, location }.emit());
                }
            }
        }
    }

    /// A frame came over `hop` for a place where this node is no more.
    pub(super) fn correct(&mut self, now: Instant, hop: Hop, plane: Plane, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(&hop) else { return };
        peer.misled |= 1 << plane.byte();
        // Whoever else is misled by then is told with them.
        let ready = peer.moves.ready(now);
        if ready <= now {
            self.correct_again(now, hop, out);
        } else {
            self.wake = Some(self.wake.map_or(ready, |wake| wake.min(ready)));
        }
    }

    /// Tells a neighbour what is due for frames that came for a place where this node is no more.
    pub(super) fn correct_again(&mut self, now: Instant, hop: Hop, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(&hop).filter(|peer| peer.misled != 0) else { return };
        if !peer.moves.take(now) {
            return;
        }
        let (misled, label) = (std::mem::take(&mut peer.misled), peer.label);
        for plane in Plane::ALL.into_iter().filter(|plane| misled & 1 << plane.byte() != 0) {
            let location = self.location(plane);
            self.send_moved(&[label], byway_network::HOP_LIMIT, &location, out);
        }
    }

    fn send_moved(&self, labels: &[u16], ttl: u8, location: &Location, out: &mut Outbox) {
        let hops = labels.iter().filter_map(|label| self.labels.get(label));
        for hop in hops.filter(|hop| location.plane.has(hop.family)) {
            out.send(*hop, Frame::Moved { ttl, location: Box::new(location.clone()) }.emit());
        }
    }

    pub(super) fn hear_moved(
        &mut self,
        now: Instant,
        hop: Hop,
        ttl: u8,
        location: &Location,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let Some(peer) = self.peers.get_mut(&hop) else { return Err(FrameError::NotUp) };
        let (label, plane, addr) = (peer.label, location.plane, location.addr);
        if !peer.complaints.take(now) {
            return Err(FrameError::Excess);
        }
        if addr == self.own.addr {
            return Ok(());
        }
        let mut labels = self.trail.tell(short_id(&addr), plane, news_of(location));
        labels.retain(|other| *other != label);
        let known = self.remotes.get(&addr, plane).map(|remote| remote.seq);
        let is_news = known.is_some_and(|known| known < location.seq);
        if labels.is_empty() && !is_news {
            return Ok(());
        }
        let peer = self.peers.get_mut(&hop).ok_or(FrameError::NotUp)?;
        if !peer.checks.take(now) {
            return Err(FrameError::Excess);
        }
        if !location.is_genuine(&self.own.network) {
            return Err(FrameError::Forged);
        }
        let Ok(key) = PublicKey::from_raw(&location.key) else { return Err(FrameError::Forged) };
        if let Some(ttl) = ttl.checked_sub(1).filter(|ttl| *ttl > 0) {
            self.send_moved(&labels, ttl, location, out);
        }
        self.memory.learn(now, location.clone());
        if is_news && self.remotes.learn(now, location.clone()) {
            let question = Question::new(plane, Prefix::whole(addr));
            self.serve(now, question, key, location, out);
        }
        Ok(())
    }
}

/// Stands for what a location says.
fn news_of(location: &Location) -> u64 {
    location.seq.boot ^ location.seq.counter.rotate_left(32)
}
