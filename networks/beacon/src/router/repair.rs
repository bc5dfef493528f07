//! What happens when a way is lost.
//!
//! The node that lost it says so (LOST). A neighbour that used it does the same in turn; one that has another way offers
//! that, and hands the complaint on towards the target, which answers with a new beacon. So the news of a loss and the way
//! around it travel at the speed of the links, not of the beacons.

use super::*;
use crate::frame::LOST_MAX;

/// Least time between passing on two complaints about one way.
const ECHO: Duration = Duration::from_millis(200);
/// A loss that this node saw itself is told again after this time, then after twice that, …
const RETRY: Duration = Duration::from_millis(250);
/// … so often.
const RETRIES: u8 = 4;

impl Router {
    /// `hop` is gone; nothing goes there any more.
    pub(super) fn part(&mut self, now: Instant, hop: Hop, out: &mut Outbox) {
        let Some(gone) = self.hops.remove(&hop) else { return };
        self.moved = true;
        self.asks.forget(hop);
        let lost = self.change_ways(now, hop, out, |way| way.withdraw(now, hop, Seq::NOTHING_KNOWN));
        for (plane, addr) in lost {
            let is_leaf = gone.role == Role::Leaf && addr == hop.peer;
            if let Some(way) = self.way(plane, addr).filter(|_| !is_leaf) {
                way.retry = Some((now + RETRY, 1));
            }
        }
        if gone.role == Role::Full {
            self.hurry(now);
        }
    }

    /// Changes all ways that may concern `hop`, tells others, and returns those that were lost.
    pub(super) fn change_ways(
        &mut self,
        now: Instant,
        hop: Hop,
        out: &mut Outbox,
        mut change: impl FnMut(&mut Way) -> Change,
    ) -> Vec<(Plane, Addr)> {
        let mut lost = Vec::new();
        for (plane, addr) in self.all_ways(|_, _| true) {
            if !plane.has(hop.family) {
                continue;
            }
            match self.way(plane, addr).map_or(Change::None, &mut change) {
                Change::Lost => lost.push((plane, addr)),
                changed => self.act(now, plane, addr, changed, out),
            }
        }
        self.complain(now, &lost, None, out);
        lost
    }

    /// Tells all neighbours but `except` that there is no way by us to these any more.
    pub(super) fn complain(
        &mut self,
        now: Instant,
        lost: &[(Plane, Addr)],
        except: Option<Addr>,
        out: &mut Outbox,
    ) {
        for plane in Plane::ALL {
            let mut said = Vec::new();
            for (_, addr) in lost.iter().filter(|(of, _)| *of == plane) {
                if let Some(way) = self.way(plane, *addr) {
                    way.asked = Some(now);
                    said.push(Lost { target: *addr, seq: way.claim().seq });
                }
            }
            for chunk in said.chunks(LOST_MAX) {
                let frame = Frame::Lost { plane, lost: chunk.to_vec() }.emit();
                for hop in self.full_hops(plane).filter(|hop| Some(hop.peer) != except) {
                    out.send(hop, frame.clone());
                }
            }
        }
    }

    /// Tells `hop` that a frame of its to `target` had no way: what it believes of us is out of date.
    pub(super) fn complain_to(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        target: Addr,
        out: &mut Outbox,
    ) {
        let seq = self.way_of(plane, target).map_or(Seq::NOTHING_KNOWN, |way| way.claim().seq);
        if self.hops.get_mut(&hop).is_some_and(|neighbour| neighbour.may_be_told(now)) {
            out.send(hop, Frame::Lost { plane, lost: vec![Lost { target, seq }] }.emit());
        }
    }

    /// Complains again about losses that nobody has mended.
    pub(super) fn complain_again(&mut self, now: Instant, out: &mut Outbox) {
        let due = self.all_ways(|_, way| way.retry.is_some_and(|(at, _)| at <= now));
        for (plane, addr) in &due {
            if let Some(way) = self.way(*plane, *addr) {
                way.retry = match way.retry {
                    Some((_, times)) if times < RETRIES => Some((now + RETRY * (1 << times), times + 1)),
                    _ => None,
                };
            }
        }
        self.complain(now, &due, None, out);
    }

    pub(super) fn hear_lost(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        lost: &[Lost],
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if !self.hops.get_mut(&hop).is_some_and(|neighbour| neighbour.may_lose(now)) {
            return Err(FrameError::Excess);
        }
        let mut also_lost = Vec::new();
        for entry in lost {
            if entry.target == self.own.addr() {
                if entry.seq < self.own.claim().seq || entry.seq == Seq::NOTHING_KNOWN {
                    out.send(hop, self.own_beacon(plane));
                } else {
                    self.hurry(now);
                }
            } else if self.hear_one_lost(now, hop, plane, entry, out) {
                also_lost.push((plane, entry.target));
            }
        }
        self.complain(now, &also_lost, Some(hop.peer), out);
        Ok(())
    }

    /// True when this node has no way to the target either, and should pass the complaint on.
    fn hear_one_lost(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        entry: &Lost,
        out: &mut Outbox,
    ) -> bool {
        let Some(way) = self.way(plane, entry.target) else { return false };
        let change = way.withdraw(now, hop, entry.seq);
        let echo = way.asked.is_some_and(|asked| now < asked + ECHO);
        let Some(via) = way.via() else { return change == Change::Lost || !echo };
        let known = way.claim().seq;
        let helps = entry.seq == Seq::NOTHING_KNOWN || known > entry.seq;
        if !helps && !echo {
            way.asked = Some(now);
            let lost = vec![Lost { target: entry.target, seq: entry.seq.max(known) }];
            out.send(via, Frame::Lost { plane, lost }.emit());
        }
        if change == Change::Gained {
            self.act(now, plane, entry.target, change, out);
        } else if via.peer != hop.peer
            && let Some(way) = self.way(plane, entry.target)
            && let Some(advert) = way.announce(now)
            && advert.hops < HOP_LIMIT
        {
            out.send(hop, Frame::Beacon { plane, advert, claim: (**way.claim()).clone() }.emit());
        }
        false
    }
}
