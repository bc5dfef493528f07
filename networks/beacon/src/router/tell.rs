//! What neighbours are told, and when.

use super::*;

impl Router {
    /// Tells others what changed on the way to `addr`.
    pub(super) fn act(&mut self, now: Instant, plane: Plane, addr: Addr, change: Change, out: &mut Outbox) {
        match change {
            Change::None => {}
            Change::Lost => self.complain(now, &[(plane, addr)], None, out),
            Change::Gained => {
                let Some(way) = self.way(plane, addr) else { return };
                let (Some(via), Some(advert)) = (way.via(), way.announce(now)) else { return };
                let claim = way.claim().clone();
                let beacon = Frame::Beacon { plane, advert, claim: (*claim).clone() }.emit();
                if advert.hops < HOP_LIMIT && !advert.left.is_zero() {
                    for hop in self.full_hops(plane).filter(|hop| hop.peer != via.peer && hop.peer != addr) {
                        out.send(hop, beacon.clone());
                    }
                }
                for Ask { hop, prefix, .. } in self.asks.take(now, plane, addr) {
                    match hop {
                        Some(hop) => out.send(hop, Frame::Tell { plane, claim: (*claim).clone() }.emit()),
                        None => out.push(found(prefix, &claim)),
                    }
                }
            }
        }
    }

    pub(super) fn greet(&self, hop: Hop, answer: bool, out: &mut Outbox) {
        let claim = (**self.own.claim()).clone();
        out.send(hop, Frame::Hello { leaf: false, answer, claim }.emit());
    }

    /// Makes an own beacon due soon, out of turn.
    pub(super) fn hurry(&mut self, now: Instant) {
        let at = self.hurried.ready(now, self.hurried_pause()).max(self.spoke + BREATH);
        self.speak_at = self.speak_at.min(at);
    }

    pub(super) fn hurried_pause(&self) -> Duration {
        (self.period / 4).min(HURRIED_PAUSE_MAX)
    }

    /// Sends a new own beacon to everyone.
    pub(super) fn speak(&mut self, now: Instant, out: &mut Outbox) {
        if now < self.spoke + self.period / 2 {
            self.hurried.take(now, self.hurried_pause());
        }
        self.period = self.period_now();
        self.own.renew(self.period);
        self.spoke = now;
        // Up to a tenth early, so that nodes that started together do not speak together for ever.
        let early = self.entropy.below(self.period.as_millis() as u64 / 10 + 1);
        self.speak_at = now + self.period - Duration::from_millis(early);
        for (hop, neighbour) in &self.hops {
            match neighbour.role {
                Role::Full => {
                    for plane in Plane::ALL.into_iter().filter(|plane| plane.has(hop.family)) {
                        out.send(*hop, self.own_beacon(plane));
                    }
                }
                Role::Leaf => self.greet(*hop, false, out),
                Role::Unknown => {}
            }
        }
    }

    pub(super) fn own_beacon(&self, plane: Plane) -> Bytes {
        let claim = (**self.own.claim()).clone();
        let advert = Advert { hops: 0, cost: Cost::ZERO, left: claim.life() };
        Frame::Beacon { plane, advert, claim }.emit()
    }

    /// The time between two own beacons that keeps all that this node sends and passes on within the budget.
    pub(super) fn period_now(&self) -> Duration {
        let full = || self.hops.iter().filter(|(_, neighbour)| neighbour.role == Role::Full);
        let peers = full().count().max(1) as u64;
        let outside =
            |plane: &Plane| full().any(|(hop, _)| hop.family != Family::Loopback && plane.has(hop.family));
        let planes = Plane::ALL.iter().filter(|plane| outside(plane)).count().max(1) as u64;
        let bytes = (self.nodes.len() as u64 + 1) * peers * planes * BEACON_SIZE;
        Duration::from_millis(bytes * 1_000 / self.budget).clamp(PERIOD_MIN, PERIOD_MAX)
    }

    pub(super) fn send_portion(&mut self, now: Instant, hop: Hop, table: Table, out: &mut Outbox) {
        let after = table.after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let portion = self.nodes.range_mut((after, std::ops::Bound::Unbounded)).take(PORTION);
        let mut last = None;
        let mut count = 0;
        for (addr, node) in portion {
            last = Some(*addr);
            count += 1;
            for plane in Plane::ALL.into_iter().filter(|plane| plane.has(hop.family)) {
                if let Some(way) = &mut node.ways[usize::from(plane.byte())]
                    && *addr != hop.peer
                    && way.via().is_some_and(|via| via.peer != hop.peer)
                    && let Some(advert) = way.announce(now)
                    && advert.hops < HOP_LIMIT
                {
                    out.send(hop, Frame::Beacon { plane, advert, claim: (**way.claim()).clone() }.emit());
                }
            }
        }
        if let Some(neighbour) = self.hops.get_mut(&hop) {
            let more = count == PORTION;
            neighbour.table = more.then_some(Table { at: now + PORTION_PAUSE, after: last });
        }
    }
}
