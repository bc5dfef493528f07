//! Probes: what the ways to a node are like.

use super::*;
use crate::names::tag;
use crate::packet::{HOPS_MAX, Led, Noted, Notes, PROBE, Steered, TRACE};
use crate::paths::Paths;
use crate::remote::Echo;
use crate::steer::{Best, Goal};

/// Between two rounds of probes to a node that is in use.
const PERIOD: Duration = Duration::from_secs(30);
/// Nobody uses what has not been used for so long: more than a round, or whoever sends something now and then would always
/// find what the last round has shown just forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// What is asked by a clock is asked only if somebody has sent something in this time; else it waits for the next payload. A
/// network in which nobody speaks is quiet.
pub(super) const RECENT: Duration = Duration::from_secs(3);
/// Neighbours that a round begins with, besides the best of each tree.
const FIRST_HOPS: usize = 4;
/// Probes that wander in each round until one has shown nothing better.
const WANDERERS: u8 = 8;
/// How long the answers of a round may take.
const ROUND: Duration = Duration::from_secs(3);
/// Payloads after which a node is worth probing.
pub(super) const PROBED_AFTER: u32 = 3;

impl Router {
    /// When the next round of probes is due.
    pub(super) fn probe_wake(&self) -> Option<Instant> {
        self.remotes
            .iter()
            .filter_map(|(_, _, remote)| {
                remote
                    .round_until
                    .into_iter()
                    .chain(remote.probe_at)
                    .chain(remote.echo.map(|echo| echo.at))
                    .min()
            })
            .min()
    }

    /// Sends probes to nodes where it is time.
    pub(super) fn probe_again(&mut self, now: Instant, out: &mut Outbox) {
        let mut starts = BTreeMap::new();
        let mut moved = false;
        for (addr, plane, remote) in self.remotes.iter_mut() {
            if remote.round_until.is_none_or(|until| until > now) {
                continue;
            }
            remote.round_until = None;
            let Some(paths) = &mut remote.paths else { continue };
            if paths.end() {
                self.unsure.insert((*addr, plane));
                moved = true;
            }
            // No frame has been all along a way made of several probes.
            let news =
                paths.chosen.first().filter(|path| paths.steady == 0 || !path.sure).map(|path| path.id);
            remote.echo =
                news.map(|path| Echo { at: now, tries: 0, nonce: 0, sent: now, path }).or(remote.echo);
            if paths.barren == 0 {
                starts.extend(paths.starts.iter().map(|(label, answered)| (*label, *answered)));
            }
            let pause = match (paths.barren, paths.steady) {
                (0, steady) => PERIOD * (1 << steady.min(3)),
                (barren, _) => (ROUND / 2 * (1 << barren.min(5))).min(PERIOD),
            };
            remote.probe_at = remote.probe_at.map(|_| now + pause - ROUND);
        }
        for (label, answered) in starts {
            let peer = self.labels.get(&label).and_then(|hop| self.peers.get_mut(hop));
            let Some(peer) = peer else { continue };
            moved |= if answered { peer.blame.answered() } else { peer.blame.swallowed(now) };
        }
        if moved {
            self.remotes.moved();
        }
        let due: Vec<(Addr, Plane)> = self
            .remotes
            .iter()
            .filter(|(_, _, remote)| remote.probe_at.is_some_and(|at| at <= now))
            .map(|(addr, plane, _)| (*addr, plane))
            .collect();
        for (addr, plane) in due {
            self.probe(now, addr, plane, out);
        }
    }

    /// One round: a probe for each tree, and one over each of the best neighbours.
    fn probe(&mut self, now: Instant, addr: Addr, plane: Plane, out: &mut Outbox) {
        let salt = self.entropy.next_u64();
        let Some(remote) = self.remotes.get_mut(&addr, plane) else { return };
        if remote.used + IDLE < now {
            // Nobody uses it: what is known of the ways would only grow old.
            (remote.probe_at, remote.round_until, remote.sent) = (None, None, 0);
            (remote.paths, remote.echo, remote.lapsed) = (None, None, false);
            self.remotes.moved();
            return;
        }
        let has_looked = remote.paths.as_ref().is_some_and(|paths| paths.have_looked());
        if has_looked && remote.used + RECENT < now {
            let forgotten = remote.used + IDLE + Duration::from_millis(1);
            (remote.probe_at, remote.lapsed) = (Some(forgotten), true);
            return;
        }
        remote.probe_at = Some(now + PERIOD);
        remote.round_until = Some(now + ROUND);
        let own = self.own.addr;
        let paths = remote.paths.get_or_insert_with(|| Box::new(Paths::new(salt, &own, &addr)));
        let salt = paths.salt;
        paths.begin();
        let first_hops = FIRST_HOPS * (1 + paths.barren.min(3) as usize);
        // The first looks are wide ones; later ones confirm what these have shown.
        let wanderers = paths.wanderers(WANDERERS);
        let (id, coords) = (remote.id, remote.coords.fitting(plane, &self.coords));
        let all = coords.mask(plane);
        let by = Constraint::in_plane(plane);
        let mut starts: Vec<(u8, Hop, u32)> = Vec::new();
        let mut promise = u32::MAX;
        if self.own.leaf {
            let Some(hub) = self.hub(&by) else { return };
            starts.extend(coords.iter().map(|place| (place.tree.bit(), hub, u32::MAX)));
            starts.push((all, hub, u32::MAX));
        } else {
            let goal = Goal { to: id, coords: &coords, plane };
            for mask in coords.iter().map(|place| place.tree.bit()) {
                let best = self.promising(&goal, mask).into_iter().next();
                starts.extend(best.map(|best| (mask, best.hop, best.value - best.link)));
            }
            // The trees may all begin with one neighbour; what the others promise is worth a look.
            let others = self.promising(&goal, all);
            promise = others.first().map_or(u32::MAX, |best| best.value);
            let others = others.into_iter().take(first_hops);
            starts.extend(others.map(|best| (all, best.hop, best.value - best.link)));
        }
        starts.sort_unstable();
        starts.dedup();
        let labels = starts.iter().filter_map(|(_, hop, _)| Some((self.peers.get(hop)?.label, false)));
        if let Some(paths) = self.remotes.get_mut(&addr, plane).and_then(|remote| remote.paths.as_mut()) {
            paths.starts = labels.collect();
        }
        let ttl = HOPS_MAX as u8;
        for (mask, hop, remaining) in starts {
            let Some(peer) = self.peers.get(&hop) else { continue };
            let notes = Notes { salt, hops: Vec::new(), out: Some(peer.label), wander: 0 };
            let coords = coords.only(mask);
            let head = Steered { plane, ttl, mask, remaining, to: id, coords };
            out.send(hop, head.emit(PROBE, &notes.write()));
        }
        if self.own.leaf {
            return;
        }
        for wander in wanderers {
            let coords = coords.clone();
            let remaining = promise.saturating_add(promise / 4);
            let head = Steered { plane, ttl, mask: all, remaining, to: id, coords };
            let Some((hop, remaining)) = self.wander(&head, wander, salt, None) else { continue };
            let Some(peer) = self.peers.get(&hop) else { continue };
            let notes = Notes { salt, hops: Vec::new(), out: Some(peer.label), wander };
            out.send(hop, Steered { remaining, ..head }.emit(PROBE, &notes.write()));
        }
    }

    /// Where a probe goes that wanders: to any neighbour from which the target is no farther than what remains, near ones more
    /// likely. What remains falls by what the link costs alone, so a probe may turn aside as long as it gets there within a
    /// quarter more than the best neighbour has promised at first. Many of them show how ways cross that are shorter than any promise.
    fn wander(&self, head: &Steered, wander: u8, salt: u64, from: Option<Hop>) -> Option<(Hop, u32)> {
        let goal = Goal { to: head.to, coords: &head.coords, plane: head.plane };
        let fits = |best: &Best| best.value <= head.remaining && Some(best.hop) != from;
        let chance = |best: &Best| {
            let what = [&salt.to_be_bytes()[..], &[wander], best.hop.peer.as_bytes()].concat();
            let hash = byway_identity::labelled_hash("grove/wander", &[&what]);
            u64::from(best.value) * (1_024 + u64::from(u16::from_be_bytes([hash[0], hash[1]]) >> 7))
        };
        let candidates = self.promising(&goal, head.mask).into_iter().filter(fits);
        let best = candidates.min_by_key(|best| (chance(best), best.hop))?;
        Some((best.hop, head.remaining - best.link))
    }

    pub(super) fn hear_probe(
        &mut self,
        now: Instant,
        hop: Hop,
        label: u16,
        bytes: &Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let (head, at) = Steered::parse(bytes, hop.family)?;
        let mut notes = Notes::parse(&bytes[at..], true)?;
        let Some(peer) = self.peers.get_mut(&hop) else { return Err(FrameError::NotUp) };
        if !peer.probes.take(now) {
            return Err(FrameError::Excess);
        }
        if head.ttl <= 1 || notes.hops.len() >= HOPS_MAX {
            return Err(FrameError::HopLimit);
        }
        notes.hops.push(Noted {
            out: notes.out.take().unwrap_or_default(),
            back: label,
            class: peer.class,
            cost: peer.cost(),
            tag: tag(notes.salt, &self.own.addr),
        });
        if head.to == self.own.id {
            let home = Led::start(head.plane, notes.home());
            out.send(hop, home.emit(TRACE, &notes.write()));
            return Ok(());
        }
        if self.own.leaf {
            return Err(FrameError::NoWay);
        }
        let (next, mask, remaining) = if notes.wander > 0 {
            let (next, remaining) =
                self.wander(&head, notes.wander, notes.salt, Some(hop)).ok_or(FrameError::NoWay)?;
            (next, head.mask, remaining)
        } else {
            let (best, mask, remaining) = self.steer(&head).ok_or(FrameError::NoWay)?;
            (best.hop, mask, remaining)
        };
        notes.out = self.peers.get(&next).map(|peer| peer.label);
        let head = Steered { ttl: head.ttl - 1, mask, remaining, ..head };
        out.send(next, head.emit(PROBE, &notes.write()));
        Ok(())
    }

    pub(super) fn hear_trace(
        &mut self,
        now: Instant,
        hop: Hop,
        label: u16,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let (head, at) = Led::parse(&bytes, hop.family)?;
        if let Some(next) = head.next() {
            return self.lead_on(hop, label, &head, next, bytes, out);
        }
        let notes = Notes::parse(&bytes[at..], false)?;
        let peer = self.peers.get_mut(&hop).ok_or(FrameError::NotUp)?;
        if !peer.probes.take(now) {
            return Err(FrameError::Excess);
        }
        let inside = notes.hops.iter().all(|hop| head.plane.has(hop.class.family()));
        let Some(last) = notes.hops.last().filter(|_| inside) else { return Err(FrameError::Plane) };
        let mut used = None;
        let mut next = self.next_path;
        let fresh = || {
            next += 1;
            PathId(next)
        };
        for (addr, plane, remote) in self.remotes.iter_mut() {
            // The salt is this node's own and known to the nodes on the way alone; the last tag must be the target's.
            if let Some(paths) = &mut remote.paths
                && paths.salt == notes.salt
                && plane == head.plane
                && last.tag == paths.target
            {
                let began = remote.round_until.map_or(now, |until| until - ROUND);
                let took = now.saturating_duration_since(began);
                paths.add(now, &notes.hops, took, fresh);
                if remote.echo.is_none() {
                    used = Some((*addr, plane));
                }
                break;
            }
        }
        self.next_path = next;
        self.remotes.moved();
        if let Some((addr, plane)) = used {
            self.mind_way(now + super::echo::PERIOD, &addr, plane);
        }
        Ok(())
    }
}
