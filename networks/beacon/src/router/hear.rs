//! What neighbours say, and how much of it is believed.

use super::*;

impl Router {
    #[expect(clippy::too_many_arguments, reason = "the fields of one frame")]
    pub(super) fn carry(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        ttl: u8,
        target: Addr,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if target == self.own.addr() {
            out.push(Action::Deliver { plane, payload: bytes.slice(DATA_OVERHEAD..), back: None });
            return Ok(());
        }
        if ttl == 1 {
            return Err(FrameError::HopLimit);
        }
        let next = self.way_of(plane, target).and_then(Way::via).filter(|next| next.peer != hop.peer);
        let Some(next) = next else {
            self.complain_to(now, hop, plane, target, out);
            return Err(FrameError::NoWay);
        };
        out.send(next, frame::with_ttl(bytes, ttl - 1));
        Ok(())
    }

    pub(super) fn hear_beacon(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        advert: Advert,
        claim: Claim,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if let Some(neighbour) = self.hops.get_mut(&hop)
            && neighbour.role == Role::Unknown
        {
            neighbour.role = Role::Full;
        }
        if advert.hops >= HOP_LIMIT {
            return Err(FrameError::HopLimit);
        }
        if claim.addr == self.own.addr() {
            return self.hear_echo(now, hop, &claim);
        }
        if self.is_stale(plane, &claim) || advert.left.is_zero() {
            return Ok(());
        }
        let claim = self.believe(now, hop, claim, advert.hops == 0)?;
        if let Some(claim) = claim {
            self.offer(now, hop, plane, advert, &claim, out);
        }
        Ok(())
    }

    pub(super) fn hear_hello(
        &mut self,
        now: Instant,
        hop: Hop,
        leaf: bool,
        answer: bool,
        claim: Claim,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if claim.addr != hop.peer {
            return Err(FrameError::Forged);
        }
        // What an old claim says is no news, but the greeting itself came just now, over an authenticated link.
        let claim = self.believe(now, hop, claim, true)?;
        let Some(neighbour) = self.hops.get_mut(&hop) else { return Err(FrameError::NotUp) };
        let first = neighbour.greeting.take().is_some();
        neighbour.role = if leaf { Role::Leaf } else { Role::Full };
        if answer && !leaf {
            neighbour.wants_table(now);
        }
        if answer {
            self.greet(hop, false, out);
        }
        if let Some(claim) = claim {
            let advert = Advert { hops: 0, cost: Cost::ZERO, left: claim.life() };
            for plane in Plane::ALL.into_iter().filter(|plane| plane.has(hop.family)) {
                self.offer(now, hop, plane, advert, &claim, out);
            }
        }
        if first && !leaf {
            self.hurry(now);
        }
        Ok(())
    }

    /// Our own claim came back. One that we did not just make shows that this start's number is too low.
    pub(super) fn hear_echo(&mut self, now: Instant, hop: Hop, claim: &Claim) -> Result<(), FrameError> {
        if claim.seq < self.own.claim().seq || claim.bytes == self.own.claim().bytes {
            return Ok(());
        }
        self.check(now, hop, claim)?;
        if self.own.outbid(claim, self.period) {
            self.hurry(now);
        }
        Ok(())
    }

    pub(super) fn hear_ask(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        prefix: Prefix,
        out: &mut Outbox,
    ) {
        let own = || prefix.matches(&self.own.addr()).then(|| self.own.claim());
        let others = || self.matching(prefix, plane).find(|claim| claim.addr != hop.peer);
        match others().or_else(own) {
            Some(claim) => out.send(hop, Frame::Tell { plane, claim: (**claim).clone() }.emit()),
            None => self.asks.add(now, Ask { hop: Some(hop), plane, prefix }),
        }
    }

    /// Checks a claim unless just that one has been checked before, and makes room for the node. `None`: there is no room.
    pub(super) fn believe(
        &mut self,
        now: Instant,
        hop: Hop,
        claim: Claim,
        neighbour: bool,
    ) -> Result<Option<Arc<Claim>>, FrameError> {
        if let Some(node) = self.nodes.get(&claim.addr) {
            let known = node.ways.iter().flatten().map(Way::claim).chain([&node.newest]);
            if let Some(same) = known.into_iter().find(|known| known.bytes == claim.bytes) {
                return Ok(Some(same.clone()));
            }
            self.check(now, hop, &claim)?;
            let claim = Arc::new(claim);
            let Some(node) = self.nodes.get_mut(&claim.addr) else { return Ok(None) };
            if node.newest.seq < claim.seq {
                // Not the neighbour's fault: it, too, believed that node.
                if !node.news.take(now, NEWS_PAUSE) {
                    return Ok(None);
                }
                node.newest = claim.clone();
            }
            return Ok(Some(claim));
        }
        let introduced = self.nodes.values().filter(|node| node.introduced_by == hop).count();
        let may = |neighbour: &mut Neighbour| neighbour.may_introduce(now);
        if introduced >= NODES_PER_HOP || !self.hops.get_mut(&hop).is_some_and(may) {
            return Err(FrameError::Excess);
        }
        self.check(now, hop, &claim)?;
        if self.nodes.len() >= NODES_MAX && !self.make_room(neighbour) {
            return Ok(None);
        }
        let newest = Arc::new(claim);
        let node = Node {
            newest: newest.clone(),
            introduced_by: hop,
            news: Allowance::new(now, NEWS),
            ways: [const { None }; 4],
        };
        self.nodes.insert(newest.addr, node);
        if self.hops.get(&hop).is_some_and(|neighbour| neighbour.role == Role::Full) {
            self.speak_at = self.speak_at.min(now.max(self.spoke + self.period / 4));
        }
        Ok(Some(newest))
    }

    /// Whether a newer claim is known than this one, be it from another plane; only more copies of the claim in use still help.
    pub(super) fn is_stale(&self, plane: Plane, claim: &Claim) -> bool {
        let in_use = |way: &Way| way.claim().seq == claim.seq;
        self.nodes.get(&claim.addr).is_some_and(|node| node.newest.seq > claim.seq)
            && !self.way_of(plane, claim.addr).is_some_and(in_use)
    }

    pub(super) fn check(&mut self, now: Instant, hop: Hop, claim: &Claim) -> Result<(), FrameError> {
        if !self.hops.get_mut(&hop).is_some_and(|neighbour| neighbour.may_be_checked(now)) {
            return Err(FrameError::Excess);
        }
        if claim.is_genuine(self.own.network()) { Ok(()) } else { Err(FrameError::Forged) }
    }

    /// Forgets a node that has no way; for a neighbour, at need one of those that came from the hop which brought most.
    pub(super) fn make_room(&mut self, for_neighbour: bool) -> bool {
        let is_lost = |node: &Node| node.ways.iter().flatten().all(|way| way.via().is_none());
        let mut victim = self.nodes.iter().find(|(_, node)| is_lost(node)).map(|(addr, _)| *addr);
        if victim.is_none() && for_neighbour {
            let mut brought = BTreeMap::<Hop, (usize, Addr)>::new();
            for (addr, node) in &self.nodes {
                if node.introduced_by.peer != *addr {
                    brought.entry(node.introduced_by).or_insert((0, *addr)).0 += 1;
                }
            }
            victim = brought.values().max().map(|(_, addr)| *addr);
        }
        let gone = victim.and_then(|addr| self.nodes.remove(&addr));
        self.moved |= gone.is_some();
        gone.is_some()
    }

    pub(super) fn offer(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        advert: Advert,
        claim: &Arc<Claim>,
        out: &mut Outbox,
    ) {
        let Some(link) = self.hops.get(&hop).map(|neighbour| neighbour.link) else { return };
        let copy = Copy { hop, advert, total: advert.cost.plus(link) };
        if round_up(copy.total) < copy.total {
            return; // More than the wire form can tell others: as good as no way.
        }
        if self.is_stale(plane, claim) {
            return;
        }
        let Some(node) = self.nodes.get_mut(&claim.addr) else { return };
        let change = match &mut node.ways[usize::from(plane.byte())] {
            Some(way) => way.offer(now, claim, copy),
            way => {
                *way = Some(Way::new(now, claim.clone(), copy));
                Change::Gained
            }
        };
        self.act(now, plane, claim.addr, change, out);
    }
}
