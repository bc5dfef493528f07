//! Which neighbour is next, and what comes through.

use byway_network::{Action, ClassSet};

use super::*;
use crate::packet::{BROKEN, DATA, Led, ROUTED, Steered};
use crate::picture::{Memo, Neighbour, Scene};
use crate::seek::Question;
use crate::steer::{Best, Goal, Near, steer};

impl Router {
    /// The neighbours that frames of `plane` may be given to, over links of `allowed` families.
    pub(super) fn nears(&self, plane: Plane, allowed: ClassSet) -> impl Iterator<Item = Near<'_>> {
        let fits = move |hop: &Hop, peer: &Peer| {
            plane.has(hop.family) && allowed.has(hop.family) && peer.is_usable()
        };
        self.peers.iter().filter(move |(hop, peer)| fits(hop, peer)).map(|(hop, peer)| Near {
            hop: *hop,
            link: peer.units(),
            handicap: peer.blame.handicap(),
            role: peer.role,
            id: peer.id,
            coords: &peer.coords,
            view: &peer.view,
        })
    }

    /// Where a frame of this node goes first: to the neighbour that promises the shortest rest of the way, two hops ahead.
    pub(super) fn best(&self, goal: &Goal<'_>, mask: u8, allowed: ClassSet) -> Option<Best> {
        let nears = self.nears(goal.plane, allowed);
        let candidates: Vec<Best> = nears.filter_map(|near| near.candidate(goal, mask)).collect();
        let least = candidates.iter().map(|best| best.value).min()?;
        // A detour for what neighbours have swallowed must not lead back here: its rest is shorter than the way by this node.
        let leads_on =
            |best: &&Best| best.value == least || best.value - best.link < best.link.saturating_add(least);
        candidates.iter().filter(leads_on).min_by_key(|best| (best.rated, best.hop)).copied()
    }

    /// The neighbours that promise anything over the trees in `mask`, the best first.
    pub(super) fn promising(&self, goal: &Goal<'_>, mask: u8) -> Vec<Best> {
        let nears = self.nears(goal.plane, ClassSet::ALL);
        let mut promising: Vec<Best> = nears.filter_map(|near| near.candidate(goal, mask)).collect();
        promising.sort_by_key(|best| (best.rated, best.hop));
        promising
    }

    /// Where a frame goes next, with the mask and the remaining cost that it leaves with; nowhere if nothing is left.
    pub(super) fn steer(&self, head: &Steered) -> Option<(Best, u8, u32)> {
        steer(&self.coords, || self.nears(head.plane, ClassSet::ALL), head)
    }

    /// What threads need to know of all this.
    pub(crate) fn picture(&self) -> Arc<Scene> {
        self.scene.get_or_init(|| Arc::new(self.draw())).clone()
    }

    fn draw(&self) -> Scene {
        let usable = self.peers.iter().filter(|(_, peer)| peer.is_usable());
        let heard = self.peers.iter().filter(|(_, peer)| !peer.silent);
        Scene {
            own: self.own.id,
            leaf: self.own.leaf,
            coords: self.coords.clone(),
            labels: usable.clone().map(|(hop, peer)| (peer.label, *hop)).collect(),
            usable: usable
                .map(|(hop, peer)| Neighbour {
                    hop: *hop,
                    link: peer.units(),
                    role: peer.role,
                    id: peer.id,
                    coords: peer.coords.clone(),
                    view: Arc::clone(&peer.view),
                })
                .collect(),
            heard: heard.map(|(hop, peer)| (*hop, peer.label)).collect(),
            trail: Arc::clone(&self.trail),
            memo: Memo::default(),
        }
    }

    /// DATA or ROUTED.
    pub(super) fn pass(
        &mut self,
        now: Instant,
        hop: Hop,
        label: u16,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if bytes.first() == Some(&DATA) {
            self.hear_data(now, hop, label, bytes, out)
        } else {
            self.hear_routed(now, hop, label, bytes, out)
        }
    }

    fn hear_data(
        &mut self,
        now: Instant,
        hop: Hop,
        label: u16,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let (head, at) = Steered::parse(&bytes, hop.family)?;
        if head.to == self.own.id {
            self.note_trail(now, head.to, head.plane, label);
            if self.coords.denies(&head.coords) {
                self.correct(now, hop, head.plane, out);
            }
            out.push(Action::Deliver { plane: head.plane, payload: bytes.slice(at..), back: None });
            return Ok(());
        }
        if self.own.leaf {
            return Err(FrameError::NoWay);
        }
        if head.ttl <= 1 {
            return Err(FrameError::HopLimit);
        }
        self.note_trail(now, head.to, head.plane, label);
        let Some((best, mask, remaining)) = self.steer(&head) else {
            self.complain(now, hop, head.plane, Broken { to: head.to, label: LOST }, &bytes[at..], out);
            self.mislaid(now, head.to, head.plane, LOST, out);
            return Err(FrameError::NoWay);
        };
        if mask != head.mask {
            self.complain(now, hop, head.plane, Broken { to: head.to, label: DETOUR }, &[], out);
            self.mislaid(now, head.to, head.plane, DETOUR, out);
        }
        out.send(best.hop, Steered::passed_on(bytes, head.ttl - 1, mask, remaining));
        Ok(())
    }

    /// Remembers where the last frame for a target came from, so that bad news finds its way back.
    fn note_trail(&mut self, now: Instant, to: ShortId, plane: Plane, label: u16) {
        if self.trail.is_empty() {
            self.tidy_later(now);
            self.wake = self.wake.map_or(Some(self.housekeeping), |wake| Some(wake.min(self.housekeeping)));
        }
        self.trail.note(Some(now), to, plane, label);
    }

    /// Tells the neighbour that gave a frame that it led nowhere, with the payload, or that it led on by a detour alone.
    fn complain(
        &mut self,
        now: Instant,
        hop: Hop,
        plane: Plane,
        broken: Broken,
        payload: &[u8],
        out: &mut Outbox,
    ) {
        if let Some(peer) = self.peers.get_mut(&hop)
            && peer.complaints.take(now)
        {
            let what = [&broken.write()[..], payload].concat();
            out.send(hop, Led { at: 0, ..Led::start(plane, Vec::new()) }.emit(BROKEN, &what));
        }
    }

    fn hear_routed(
        &mut self,
        now: Instant,
        hop: Hop,
        label: u16,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let (mut head, at) = Led::parse(&bytes, hop.family)?;
        let to = bytes.get(at..at + 4).ok_or(byway_wire::Malformed::Truncated)?;
        let Some(next) = head.next() else {
            head.note(label);
            if *to != self.own.id.front() && *to != [0; 4] {
                // The way leads to somebody else by now.
                self.complain_home(now, hop, &head, 0, out);
                return Err(FrameError::NoWay);
            }
            let path = self.next_path + 1;
            let back = self.backs.note(now, head.plane, head.home(), || PathId(path));
            self.next_path = self.next_path.max(back.0);
            let payload = bytes.slice(at + 4..);
            out.push(Action::Deliver { plane: head.plane, payload, back: Some(back) });
            return Ok(());
        };
        let led = self.lead_on(hop, label, &head, next, bytes, out);
        if led == Err(FrameError::NoWay) && !self.own.leaf {
            head.note(label);
            self.complain_home(now, hop, &head, next, out);
        }
        led
    }

    /// Passes a frame that came over the link `label` on over the link `next`.
    pub(super) fn lead_on(
        &self,
        from: Hop,
        label: u16,
        head: &Led,
        next: u16,
        frame: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        if head.ttl <= 1 {
            return Err(FrameError::HopLimit);
        }
        let onwards = self.led_hop(next, head.plane, from).filter(|_| !self.own.leaf);
        out.send(onwards.ok_or(FrameError::NoWay)?, Led::passed_on(frame, head.ttl - 1, head.at, label));
        Ok(())
    }

    /// Tells whoever sent a frame along a way that it ends here: at the link `next`, or, with 0, at the wrong node.
    pub(super) fn complain_home(&mut self, now: Instant, hop: Hop, head: &Led, next: u16, out: &mut Outbox) {
        if let Some(peer) = self.peers.get_mut(&hop)
            && peer.complaints.take(now)
        {
            let broken = Broken { to: ShortId([0; 8]), label: next };
            out.send(hop, Led::start(head.plane, head.home()).emit(BROKEN, &broken.write()));
        }
    }

    /// The link with this label, if a frame of `plane` that came from `from` may leave over it.
    fn led_hop(&self, label: u16, plane: Plane, from: Hop) -> Option<Hop> {
        let hop = *self.labels.get(&label)?;
        let peer = self.peers.get(&hop)?;
        (plane.has(hop.family) && peer.is_usable() && hop != from).then_some(hop)
    }

    pub(super) fn hear_broken(
        &mut self,
        now: Instant,
        hop: Hop,
        label: u16,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let (mut head, at) = Led::parse(&bytes, hop.family)?;
        let (broken, payload) = Broken::read(&bytes.slice(at..))?;
        let Some(peer) = self.peers.get_mut(&hop) else { return Err(FrameError::NotUp) };
        if !peer.complaints.take(now) {
            return Err(FrameError::Excess);
        }
        if head.ttl <= 1 {
            return Err(FrameError::HopLimit);
        }
        if head.labels.is_empty() {
            return self.hear_lost(now, hop, &head, &broken, &payload, out);
        }
        if let Some(next) = head.next() {
            return self.lead_on(hop, label, &head, next, bytes, out);
        }
        // The way that the bad news has come, from the back, is the way that broke.
        head.note(label);
        let mut way = head.home();
        if broken.label != 0 {
            way.push(broken.label);
        }
        let mut moved = false;
        for (addr, plane, remote) in self.remotes.iter_mut() {
            if let Some(paths) = &mut remote.paths
                && plane == head.plane
                && paths.broken(&way)
            {
                remote.probe_at = Some(now + Duration::from_secs(1));
                self.unsure.insert((*addr, plane));
                moved = true;
            }
        }
        if moved {
            self.remotes.moved();
        }
        self.backs.broken(&way);
        self.rest(now, out);
        Ok(())
    }

    /// A frame for `to` led nowhere: to whoever sent one last, and if that was this node, it asks anew, and tries once more with
    /// what has come back.
    fn hear_lost(
        &mut self,
        now: Instant,
        from: Hop,
        head: &Led,
        broken: &Broken,
        payload: &Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let to = broken.to;
        let before = self.trail.blame(to).and_then(|label| self.led_hop(label, head.plane, from));
        if let Some(before) = before {
            let head = Led { ttl: head.ttl - 1, ..head.clone() };
            out.send(before, head.emit(BROKEN, &[&broken.write()[..], payload].concat()));
        }
        self.mislaid(now, to, head.plane, broken.label, out);
        let kept =
            before.is_some() || payload.is_empty() || self.salvage(now, from, to, head.plane, payload, out);
        self.rest(now, out);
        if kept { Ok(()) } else { Err(FrameError::NoWay) }
    }

    /// Sends again what has come back, by where its target is now. Nothing tells under which constraint it was sent, but it was
    /// given to the neighbour `from`: so it may leave over links like that one. Whether it has left, or waits.
    fn salvage(
        &mut self,
        now: Instant,
        from: Hop,
        to: ShortId,
        plane: Plane,
        payload: &Bytes,
        out: &mut Outbox,
    ) -> bool {
        let Some(addr) = self.remotes.by_id(to) else { return false };
        let Some(remote) = self.remotes.get_mut(&addr, plane) else { return false };
        if remote.used + SALVAGED <= now || !remote.salvages.take(now) {
            return false;
        }
        let first_hop = match from.family {
            // What may go to a node beside this one may go anywhere: see `first_hops`.
            Family::Loopback => ClassSet::ALL,
            family => ClassSet::of(&[family]),
        };
        let by = Constraint { first_hop, ..Constraint::in_plane(plane) };
        self.carry(now, addr, payload, &by, true, out).is_ok()
    }

    /// A frame for `to` led nowhere, or on by a detour, here or further on: if this node has sent some there, it asks anew.
    fn mislaid(&mut self, now: Instant, to: ShortId, plane: Plane, label: u16, out: &mut Outbox) {
        let Some(addr) = self.remotes.by_id(to) else { return };
        self.memory.forget(&addr, plane);
        // After a detour the place is still good enough until a better one is known.
        let lost = label != DETOUR;
        let trusted = Duration::from_millis(if lost { 100 } else { 300 });
        if let Some(remote) = self.remotes.get(&addr, plane)
            && remote.learned + trusted <= now
        {
            if lost {
                self.remotes.doubt(&addr, plane);
            }
            let prefix = byway_identity::Prefix::whole(addr);
            self.ask(now, Question::new(plane, prefix), prefix, None, out);
            self.plan(now);
        }
    }

    /// DATA for a place, from here.
    pub(super) fn start_data(
        &self,
        by: &Constraint,
        to: ShortId,
        coords: &Coords,
        payload: &[u8],
    ) -> Option<(Hop, Bytes)> {
        let coords = coords.fitting(by.plane, &self.coords);
        let mask = coords.mask(by.plane);
        let (hop, remaining) = if self.own.leaf {
            // The hub knows what the way costs.
            (self.hub(by)?, u32::MAX)
        } else {
            let goal = Goal { to, coords: &coords, plane: by.plane };
            let best = self.best(&goal, mask, self.first_hops(by))?;
            (best.hop, best.value - best.link)
        };
        let head = Steered { plane: by.plane, ttl: byway_network::HOP_LIMIT, mask, remaining, to, coords };
        Some((hop, head.emit(DATA, payload)))
    }

    /// DATA for a neighbour over just this link.
    pub(super) fn start_direct(&self, plane: Plane, to: ShortId, payload: &[u8]) -> Bytes {
        let coords = Coords::default();
        Steered { plane, ttl: 1, mask: 0, remaining: 0, to, coords }.emit(DATA, payload)
    }

    /// ROUTED along `labels`, from here.
    pub(super) fn start_routed(
        &self,
        plane: Plane,
        labels: &[u16],
        to: [u8; 4],
        payload: &[u8],
    ) -> Option<(Hop, Bytes)> {
        let hop = *self.labels.get(labels.first()?)?;
        let usable = self.peers.get(&hop).is_some_and(|peer| peer.is_usable()) && plane.has(hop.family);
        let frame = || Led::start(plane, labels.to_vec()).emit(ROUTED, &[&to, payload].concat());
        usable.then(|| (hop, frame()))
    }
}

/// In BROKEN without a way: the frame led nowhere, or it led on, but not as its coordinates promise.
const LOST: u16 = 0;
const DETOUR: u16 = 1;

/// Length of what follows the head of BROKEN, without a payload.
const BROKEN_LENGTH: usize = 10;
/// What comes back later than this after the last payload was not sent from here.
const SALVAGED: Duration = Duration::from_secs(10);

/// What follows the head of BROKEN.
#[derive(Clone, Copy)]
pub(super) struct Broken {
    pub(super) to: ShortId,
    pub(super) label: u16,
}

impl Broken {
    pub(super) fn write(&self) -> Vec<u8> {
        [&self.to.0[..], &self.label.to_be_bytes()].concat()
    }

    /// With the payload that has come back, if it has.
    pub(super) fn read(bytes: &Bytes) -> Result<(Self, Bytes), byway_wire::Malformed> {
        let mut reader = byway_wire::Reader::new(bytes);
        let broken = Self { to: ShortId(reader.array()?), label: reader.u16_be()? };
        Ok((broken, bytes.slice(BROKEN_LENGTH..)))
    }
}
