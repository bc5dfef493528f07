//! The way to one node in one plane: which neighbours promise what, and which of them is used.
//!
//! Why no loop can last: for each claim a node remembers the lowest cost that it ever announced, its *bound*, and uses a
//! neighbour only if the neighbour announced less for the same claim. So the bound falls at each hop; a neighbour with
//! a newer claim starts a new count. That is the feasibility condition of Babel (RFC 8966, section 2.4).
//!
//! Why traffic does not flap: each period brings a new claim, and its copies race. The hop in use gets
//! [`PATIENCE`] to deliver its copy before another one takes over; nothing is announced meanwhile, so the rule above holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use byway_network::{Cost, Hop};

use crate::claim::{Claim, Seq};
use crate::frame::Advert;

/// Most neighbours that are remembered for one way.
pub(crate) const COPIES_MAX: usize = 4;
/// How long the hop in use may be late with a new claim.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);
/// How long after a new claim any better copy is taken; later it must be better by a tenth.
const SETTLING: Duration = Duration::from_millis(500);

/// What one neighbour promised for the claim at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) hop: Hop,
    pub(crate) advert: Advert,
    /// The neighbour's cost and the link's.
    pub(crate) total: Cost,
}

/// A newer claim, while the hop in use gets time to deliver its copy.
#[derive(Debug)]
struct Pending {
    claim: Arc<Claim>,
    copies: Vec<Copy>,
    until: Instant,
}

/// The way to one node in one plane.
#[derive(Debug)]
pub(crate) struct Way {
    claim: Arc<Claim>,
    bound: Cost,
    via: Option<Hop>,
    /// Whether the hop in use has changed since somebody asked.
    moved: bool,
    copies: Vec<Copy>,
    expires: Instant,
    adopted: Instant,
    /// Whether the hop in use was so before the claim, and deserves to be kept.
    settled: bool,
    pending: Option<Pending>,
    /// When the loss of the way was last passed on.
    pub(crate) asked: Option<Instant>,
    /// When to complain again that the way is lost, and how often.
    pub(crate) retry: Option<(Instant, u8)>,
}

/// What an offer or a loss changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing that others need to know.
    None,
    /// There is a way, with news in it: tell the neighbours.
    Gained,
    /// The last way is gone.
    Lost,
}

impl Way {
    /// The first that is heard of a node in a plane.
    pub(crate) fn new(now: Instant, claim: Arc<Claim>, copy: Copy) -> Self {
        let mut way = Self {
            expires: now,
            adopted: now,
            bound: Cost::MAX,
            via: None,
            moved: false,
            copies: Vec::new(),
            settled: false,
            pending: None,
            asked: None,
            retry: None,
            claim: claim.clone(),
        };
        way.adopt(now, claim, vec![copy]);
        way
    }

    /// The claim that the way rests on.
    pub(crate) fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    /// The hop in use.
    pub(crate) fn via(&self) -> Option<Hop> {
        self.via
    }

    /// Whether the hop in use has changed since this was asked last.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    fn set_via(&mut self, via: Option<Hop>) {
        self.moved |= self.via != via;
        self.via = via;
    }

    /// The copy in use.
    pub(crate) fn current(&self) -> Option<&Copy> {
        self.copies.iter().find(|copy| Some(copy.hop) == self.via)
    }

    /// Every copy of the claim at hand that may be used without a risk of loops.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &Copy> {
        self.copies.iter().filter(|copy| copy.advert.cost < self.bound)
    }

    pub(crate) fn expires(&self) -> Instant {
        self.expires
    }

    /// When [`Way::settle`] should be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.until)
    }

    /// A neighbour offers a way, by a claim that has been found genuine.
    pub(crate) fn offer(&mut self, now: Instant, claim: &Arc<Claim>, copy: Copy) -> Change {
        if claim.seq < self.claim.seq {
            return Change::None;
        }
        if claim.seq == self.claim.seq {
            if self.via == Some(copy.hop) && copy.advert.cost >= self.bound {
                // No node that remembers its bound says so: it started anew, and its way may lead through us.
                return self.withdraw(now, copy.hop, claim.seq);
            }
            insert(&mut self.copies, copy);
            self.expires = self.expires.max(now + copy.advert.left.min(claim.life()));
            return self.reselect(now);
        }
        match &mut self.pending {
            Some(pending) if pending.claim.seq > claim.seq => return Change::None,
            Some(pending) if pending.claim.seq == claim.seq => insert(&mut pending.copies, copy),
            pending => {
                *pending = Some(Pending { claim: claim.clone(), copies: vec![copy], until: now + PATIENCE });
            }
        }
        // A node that started anew may have moved; what the hop in use knows is of its former life.
        let restarted = claim.seq.boot > self.claim.seq.boot;
        if restarted || self.via.is_none_or(|via| via == copy.hop) {
            self.take_pending(now)
        } else {
            Change::None
        }
    }

    /// Takes a newer claim whose time to wait is over.
    pub(crate) fn settle(&mut self, now: Instant) -> Change {
        if self.due().is_some_and(|due| due <= now) { self.take_pending(now) } else { Change::None }
    }

    /// The neighbour `hop` has no way any more, as far as claims up to `upto` go.
    pub(crate) fn withdraw(&mut self, now: Instant, hop: Hop, upto: Seq) -> Change {
        if let Some(pending) = &mut self.pending
            && pending.claim.seq <= upto
        {
            pending.copies.retain(|copy| copy.hop != hop);
            if pending.copies.is_empty() {
                self.pending = None;
            }
        }
        if self.claim.seq <= upto {
            self.copies.retain(|copy| copy.hop != hop);
        }
        if self.via.is_none() || self.current().is_some() {
            return Change::None;
        }
        self.set_via(None);
        if self.pending.is_some() {
            return self.take_pending(now);
        }
        match self.best().map(|best| best.hop) {
            Some(best) => {
                self.set_via(Some(best));
                Change::None
            }
            None => Change::Lost,
        }
    }

    /// The link to `hop` costs `link` now.
    pub(crate) fn reprice(&mut self, now: Instant, hop: Hop, link: Cost) -> Change {
        let pending = self.pending.iter_mut().flat_map(|pending| &mut pending.copies);
        for copy in self.copies.iter_mut().chain(pending).filter(|copy| copy.hop == hop) {
            copy.total = copy.advert.cost.plus(link);
        }
        self.reselect(now)
    }

    /// What to announce to neighbours now. Having announced it, the way never uses a neighbour that is not nearer.
    pub(crate) fn announce(&mut self, now: Instant) -> Option<Advert> {
        let current = self.current()?;
        let hops = current.advert.hops + 1;
        let cost = round_up(current.total);
        let left = self.expires.saturating_duration_since(now);
        self.bound = self.bound.min(cost);
        Some(Advert { hops, cost, left })
    }

    fn take_pending(&mut self, now: Instant) -> Change {
        let Some(pending) = self.pending.take() else { return Change::None };
        self.adopt(now, pending.claim, pending.copies);
        Change::Gained
    }

    fn adopt(&mut self, now: Instant, claim: Arc<Claim>, copies: Vec<Copy>) {
        let left = copies.iter().map(|copy| copy.advert.left).max().unwrap_or_default();
        self.expires = now + left.min(claim.life());
        self.adopted = now;
        self.claim = claim;
        self.copies = copies;
        self.pending = None;
        self.retry = None;
        self.asked = None;
        self.bound = Cost::MAX;
        let best = self.best().map(|copy| (copy.hop, copy.total));
        let kept = self
            .current()
            .is_some_and(|current| best.is_some_and(|(_, best)| !is_much_better(best, current.total)));
        if !kept {
            self.set_via(best.map(|(hop, _)| hop));
        }
        self.settled = kept;
        self.bound = self.current().map_or(Cost::MAX, |current| round_up(current.total));
    }

    /// Changes to a better copy, if it is worth it.
    fn reselect(&mut self, now: Instant) -> Change {
        let Some(best) = self.best().copied() else { return Change::None };
        let Some(current) = self.current() else {
            self.set_via(Some(best.hop));
            self.retry = None;
            return Change::Gained;
        };
        let settling = !self.settled && now < self.adopted + SETTLING;
        if best.total < current.total && (settling || is_much_better(best.total, current.total)) {
            self.set_via(Some(best.hop));
        }
        Change::None
    }

    fn best(&self) -> Option<&Copy> {
        self.usable().min_by_key(|copy| (copy.total, copy.hop))
    }
}

/// Keeps one copy of each hop, and the cheapest ones if there are too many.
fn insert(copies: &mut Vec<Copy>, copy: Copy) {
    match copies.iter_mut().find(|known| known.hop == copy.hop) {
        Some(known) => *known = copy,
        None => copies.push(copy),
    }
    if copies.len() > COPIES_MAX
        && let Some(worst) = (0..copies.len()).max_by_key(|at| (copies[*at].advert.cost, copies[*at].hop))
    {
        copies.remove(worst);
    }
}

/// Better by more than a tenth.
fn is_much_better(new: Cost, old: Cost) -> bool {
    u64::from(new.units()) * 10 < u64::from(old.units()) * 9
}

/// What the wire form can hold, never less than `cost`: else two nodes in a row might announce the same.
pub(crate) fn round_up(cost: Cost) -> Cost {
    let down = Cost::decode(cost.encode());
    if down >= cost {
        return down;
    }
    let next = Cost::from_units(cost.units().saturating_add(cost.units() >> 10));
    Cost::decode(next.encode())
}

#[cfg(test)]
mod tests {
    use byway_identity::{Addr, SigningKey};
    use byway_network::{Family, NetworkId};
    use proptest::prelude::*;

    use super::*;
    use crate::claim::Own;

    fn hop(number: u8) -> Hop {
        Hop { peer: Addr::from_bytes([number; 32]), family: Family::Ip }
    }

    fn copy(number: u8, advertised: u32, link: u32) -> Copy {
        let cost = Cost::from_units(advertised);
        let advert = Advert { hops: 1, cost, left: Duration::from_secs(8) };
        Copy { hop: hop(number), advert, total: cost.plus(Cost::from_units(link)) }
    }

    fn own() -> Own {
        let key = SigningKey::from_seed(&[1; 32]);
        Own::new(key, NetworkId::new("test", None), [0; 32], 1, Duration::from_secs(2))
    }

    fn next(own: &mut Own) -> Arc<Claim> {
        own.renew(Duration::from_secs(2));
        own.claim().clone()
    }

    #[test]
    fn a_better_copy_replaces_a_worse_one_without_telling_anyone() {
        let (now, claim) = (Instant::now(), own().claim().clone());
        let mut way = Way::new(now, claim.clone(), copy(1, 50, 10));
        assert_eq!(way.offer(now, &claim, copy(2, 40, 15)), Change::None);
        assert_eq!(way.via(), Some(hop(2)));
        assert_eq!(way.offer(now + SETTLING, &claim, copy(3, 30, 24)), Change::None);
        assert_eq!(way.via(), Some(hop(2)), "later on, a little better is not enough");
        assert_eq!(way.offer(now + SETTLING, &claim, copy(3, 10, 24)), Change::None);
        assert_eq!(way.via(), Some(hop(3)));
    }

    #[test]
    fn a_neighbour_that_is_not_nearer_is_no_alternative() {
        let (now, claim) = (Instant::now(), own().claim().clone());
        let mut way = Way::new(now, claim.clone(), copy(1, 50, 10));
        way.offer(now, &claim, copy(2, 60, 1));
        assert_eq!(way.withdraw(now, hop(1), Seq::NOTHING_KNOWN), Change::Lost);
        assert_eq!(way.via(), None);
        assert_eq!(way.offer(now, &claim, copy(2, 60, 1)), Change::None);
        assert_eq!(way.offer(now, &claim, copy(3, 59, 1)), Change::Gained);
    }

    #[test]
    fn a_nearer_neighbour_takes_over_at_once() {
        let (now, claim) = (Instant::now(), own().claim().clone());
        let mut way = Way::new(now, claim.clone(), copy(1, 50, 10));
        way.offer(now, &claim, copy(2, 55, 100));
        assert_eq!(way.withdraw(now, hop(1), Seq::NOTHING_KNOWN), Change::None);
        assert_eq!(way.via(), Some(hop(2)));
    }

    #[test]
    fn a_hop_in_use_that_has_forgotten_its_bound_is_used_no_more() {
        let (now, claim) = (Instant::now(), own().claim().clone());
        let mut way = Way::new(now, claim.clone(), copy(1, 50, 10));
        assert_eq!(way.offer(now, &claim, copy(1, 55, 10)), Change::None);
        assert_eq!(way.via(), Some(hop(1)), "further than before, but still nearer than this node");
        assert_eq!(way.offer(now, &claim, copy(1, 60, 10)), Change::Lost);
        assert_eq!(way.via(), None);
    }

    #[test]
    fn an_announcement_makes_the_bound_tighter_for_good() {
        let (now, claim) = (Instant::now(), own().claim().clone());
        let mut way = Way::new(now, claim.clone(), copy(1, 50, 10));
        way.offer(now, &claim, copy(2, 20, 10));
        way.offer(now, &claim, copy(3, 40, 10));
        assert_eq!(way.announce(now).map(|advert| advert.cost), Some(Cost::from_units(30)));
        assert_eq!(
            way.withdraw(now, hop(2), Seq::NOTHING_KNOWN),
            Change::Lost,
            "40 was announced by hop 3, and 30 by us"
        );
    }

    #[test]
    fn the_hop_in_use_may_be_late_with_a_new_claim() {
        let (now, mut own) = (Instant::now(), own());
        let mut way = Way::new(now, own.claim().clone(), copy(1, 50, 10));
        let second = next(&mut own);
        assert_eq!(way.offer(now, &second, copy(2, 50, 10)), Change::None);
        assert_eq!(way.via(), Some(hop(1)));
        assert_eq!(way.offer(now, &second, copy(1, 52, 10)), Change::Gained);
        assert_eq!(way.via(), Some(hop(1)), "a little worse than the copy that came first, and kept");

        let third = next(&mut own);
        assert_eq!(way.offer(now, &third, copy(2, 50, 10)), Change::None);
        assert_eq!(way.settle(now), Change::None);
        assert_eq!(way.settle(now + PATIENCE), Change::Gained);
        assert_eq!(way.via(), Some(hop(2)), "it did not deliver in time");
        assert_eq!(way.offer(now, &second, copy(1, 1, 1)), Change::None, "an old claim is worth nothing");
        assert_eq!(way.via(), Some(hop(2)));
    }

    #[test]
    fn losing_the_hop_in_use_takes_a_claim_that_waits() {
        let (now, mut own) = (Instant::now(), own());
        let mut way = Way::new(now, own.claim().clone(), copy(1, 50, 10));
        way.offer(now, &next(&mut own), copy(2, 500, 10));
        assert_eq!(way.withdraw(now, hop(1), Seq::NOTHING_KNOWN), Change::Gained);
        assert_eq!(way.via(), Some(hop(2)));
    }

    #[test]
    fn a_copy_can_shorten_no_life_and_a_claim_bounds_it() {
        let (now, claim) = (Instant::now(), own().claim().clone());
        let mut way = Way::new(now, claim.clone(), copy(1, 50, 10));
        let mut forever = copy(2, 10, 10);
        forever.advert.left = Duration::from_secs(6_000);
        way.offer(now, &claim, forever);
        assert_eq!(way.expires(), now + claim.life());
    }

    proptest! {
        #[test]
        fn an_announced_cost_is_no_less_than_the_real_one_and_fits_the_wire(units in 1u32..u32::MAX / 2) {
            let cost = Cost::from_units(units);
            let up = round_up(cost);
            prop_assert!(up >= cost);
            prop_assert_eq!(Cost::decode(up.encode()), up);
            prop_assert!(up.units() - units <= units / 256);
        }

        /// Nodes in a mesh take copies, announce and lose neighbours in any order; the next hops never form a loop.
        #[test]
        fn next_hops_never_form_a_loop(steps: Vec<(u8, u8, u8)>) {
            const NODES: usize = 6;
            let (now, mut own) = (Instant::now(), own());
            let mut claims = vec![own.claim().clone()];
            let mut ways: Vec<Option<Way>> = (0..NODES).map(|_| None).collect();
            for (kind, from, at) in steps {
                let (from, at) = (usize::from(from) % (NODES + 1), usize::from(at) % NODES);
                let link = Cost::from_units(1 + u32::from(kind) % 7);
                match kind % 5 {
                    0 => claims.push(next(&mut own)),
                    1 => {
                        if let Some(way) = &mut ways[at] {
                            way.withdraw(now, hop(from as u8), Seq::NOTHING_KNOWN);
                        }
                    }
                    _ if from == at => {}
                    _ => {
                        let offer = if from == NODES {
                            let advert = Advert { hops: 0, cost: Cost::ZERO, left: Duration::from_secs(8) };
                            claims.last().map(|claim| (claim.clone(), advert))
                        } else {
                            ways[from].as_mut().and_then(|way| Some((way.claim.clone(), way.announce(now)?)))
                        };
                        if let Some((claim, advert)) = offer {
                            let copy = Copy { hop: hop(from as u8), advert, total: advert.cost.plus(link) };
                            match &mut ways[at] {
                                Some(way) => { way.offer(now, &claim, copy); }
                                way => *way = Some(Way::new(now, claim, copy)),
                            }
                        }
                    }
                }
                for start in 0..NODES {
                    let (mut here, mut hops) = (start, 0);
                    while let Some(via) = ways.get(here).and_then(Option::as_ref).and_then(Way::via) {
                        here = usize::from(via.peer.as_bytes()[0]);
                        hops += 1;
                        prop_assert!(hops <= NODES, "a loop from {}", start);
                    }
                }
            }
        }
    }
}
