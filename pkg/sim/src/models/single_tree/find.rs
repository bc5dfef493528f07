//! Where other nodes are: lookups that follow the filters, and answers that follow the tree.

use std::time::Instant;

use bytes::Bytes;
use byway_identity::Addr;
use byway_network::{Action, HOP_LIMIT, Outbox, Plane};
use byway_wire::VARINT_MAX;

use super::frame::{Frame, Ports, Steered};
use super::{LOOKUP_PAUSE, PATH_LIFE, Remote, SingleTree, bloom};

impl SingleTree {
    /// Sends a payload of this node, or looks for its target first.
    pub(super) fn send(&mut self, now: Instant, target: Addr, payload: Bytes, out: &mut Outbox) {
        if target == self.own {
            out.push(Action::Deliver { plane: Plane::Any, payload, back: None });
            return;
        }
        let remote = self.remotes.entry(target).or_insert_with(|| Remote {
            path: None,
            seq: 0,
            asked: None,
            broken: false,
            waiting: None,
            forget_at: now + PATH_LIFE,
        });
        // Kept until a path is known, and while there is one, for the case that it turns out to be broken.
        remote.waiting = Some(payload.clone());
        match remote.path.clone() {
            Some(path) => {
                let head = Steered { path, watermark: VARINT_MAX, source: self.own, target };
                let from = self.path(self.own);
                self.pass_traffic(now, head, from, payload, out);
            }
            None => self.look(now, target, out),
        }
    }

    fn look(&mut self, now: Instant, target: Addr, out: &mut Outbox) {
        let Some(remote) = self.remotes.get_mut(&target) else { return };
        if remote.asked.is_some_and(|asked| asked + LOOKUP_PAUSE > now) {
            return;
        }
        remote.asked = Some(now);
        if remote.path.is_none() {
            remote.forget_at = now + PATH_LIFE;
        }
        let lookup = Frame::Lookup { ttl: HOP_LIMIT, source: self.own, target, from: self.path(self.own) };
        self.spread(now, None, &lookup, out);
    }

    /// Sends a lookup on over all links of the tree whose filter matches, and answers it if it is for this node.
    pub(super) fn spread(&mut self, now: Instant, came_from: Option<Addr>, frame: &Frame, out: &mut Outbox) {
        let Frame::Lookup { source, target, from, .. } = frame else { return };
        let positions = bloom::positions(target);
        for (addr, peer) in &self.peers {
            if peer.in_tree && Some(*addr) != came_from && peer.filter_in.has(&positions) {
                out.send(peer.hop, frame.emit());
            }
        }
        if *target == self.own {
            self.said += 1;
            let head =
                Steered { path: from.clone(), watermark: VARINT_MAX, source: self.own, target: *source };
            let place = self.path(self.own);
            self.pass_notify(now, head, self.said, place, out);
        }
    }

    /// An answer on its way to who asked.
    pub(super) fn pass_notify(
        &mut self,
        now: Instant,
        mut head: Steered,
        seq: u64,
        from: Ports,
        out: &mut Outbox,
    ) {
        if let Some(hop) = self.nearer(&head.path, &mut head.watermark) {
            out.send(hop, Frame::Notify { head, seq, from }.emit());
            return;
        }
        let own = self.own;
        let Some(remote) = self.remotes.get_mut(&head.source).filter(|_| head.target == own) else { return };
        if remote.path.is_some() && (seq <= remote.seq || remote.path.as_ref() == Some(&from)) {
            return;
        }
        remote.path = Some(from);
        (remote.seq, remote.broken, remote.forget_at) = (seq, false, now + PATH_LIFE);
        if let Some(payload) = remote.waiting.take() {
            self.send(now, head.source, payload, out);
        }
    }

    /// A payload on its way.
    pub(super) fn pass_traffic(
        &mut self,
        now: Instant,
        mut head: Steered,
        from: Ports,
        payload: Bytes,
        out: &mut Outbox,
    ) {
        if let Some(hop) = self.nearer(&head.path, &mut head.watermark) {
            out.send(hop, Frame::Traffic { head, from, payload }.emit());
        } else if head.target == self.own {
            if let Some(remote) = self.remotes.get_mut(&head.source).filter(|remote| !remote.broken) {
                remote.forget_at = now + PATH_LIFE;
            }
            out.push(Action::Deliver { plane: Plane::Any, payload, back: None });
        } else {
            let (source, target) = (head.source, head.target);
            self.pass_broken(now, Steered { path: from, watermark: VARINT_MAX, source, target }, out);
        }
    }

    /// The news that a path has ended, on its way to the source.
    pub(super) fn pass_broken(&mut self, now: Instant, mut head: Steered, out: &mut Outbox) {
        if let Some(hop) = self.nearer(&head.path, &mut head.watermark) {
            out.send(hop, Frame::Broken(head).emit());
        } else if head.source == self.own
            && let Some(remote) = self.remotes.get_mut(&head.target).filter(|remote| remote.path.is_some())
        {
            remote.broken = true;
            self.look(now, head.target, out);
        }
    }
}
