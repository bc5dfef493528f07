//! Nodes that misbehave: a whole router, and something beside it that changes, swallows and makes up frames.
//!
//! An adversary has a key and links like everyone, keeps up its place in the trees with an honest router, and does its mischief with
//! what the specification tells. See [`mischief`] for the kinds.

pub mod mischief;

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use byway_identity::{Addr, Prefix, SigningKey};
use byway_network::{
    Action, Class, Constraint, Cost, FrameError, Hop, Map, Network, NetworkId, Outbox, Path, Route, To,
    Unroutable,
};

/// What an adversary knows of itself.
pub struct Oneself {
    /// Its key.
    pub key: SigningKey,
    /// The network that it is in.
    pub network: NetworkId,
    /// Its neighbours.
    pub hops: BTreeSet<Hop>,
}

/// One kind of misbehaviour.
pub trait Mischief: Send {
    /// A frame has come: what of it, if anything, the honest router gets to see.
    fn comes(
        &mut self,
        _me: &Oneself,
        _now: Instant,
        _from: Hop,
        frame: Bytes,
        _out: &mut Outbox,
    ) -> Option<Bytes> {
        Some(frame)
    }

    /// The honest router wants to send a frame: what leaves instead, if anything.
    fn leaves(&mut self, _me: &Oneself, _now: Instant, _to: Hop, frame: Bytes) -> Option<Bytes> {
        Some(frame)
    }

    /// When it wants to act of itself.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Acts of itself, once it is due.
    fn acts(&mut self, _me: &Oneself, _now: Instant, _out: &mut Outbox) {}
}

/// A router with mischief around it.
pub struct Adversary {
    inner: Box<dyn Network>,
    me: Oneself,
    mischief: Box<dyn Mischief>,
    wants: Outbox,
}

impl Adversary {
    /// Puts `mischief` around an honest router, which has the same key.
    pub fn around(
        inner: Box<dyn Network>,
        key: SigningKey,
        network: NetworkId,
        mischief: impl Mischief + 'static,
    ) -> Self {
        let me = Oneself { key, network, hops: BTreeSet::new() };
        Self { inner, me, mischief: Box::new(mischief), wants: Outbox::default() }
    }

    /// Lets the honest router do something, and carries out what of it is wanted.
    fn let_it<R>(
        &mut self,
        now: Instant,
        out: &mut Outbox,
        call: impl FnOnce(&mut dyn Network, &mut Outbox) -> R,
    ) -> R {
        let result = call(self.inner.as_mut(), &mut self.wants);
        for action in self.wants.drain() {
            match action {
                Action::Send { hop, frame } => {
                    if let Some(frame) = self.mischief.leaves(&self.me, now, hop, frame) {
                        out.send(hop, frame);
                    }
                }
                other => out.push(other),
            }
        }
        result
    }
}

impl Network for Adversary {
    fn peer_up(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        self.me.hops.insert(hop);
        self.let_it(now, out, |inner, out| inner.peer_up(now, hop, class, cost, out));
    }

    fn peer_cost(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        self.let_it(now, out, |inner, out| inner.peer_cost(now, hop, class, cost, out));
    }

    fn peer_down(&mut self, now: Instant, hop: Hop, out: &mut Outbox) {
        self.me.hops.remove(&hop);
        self.let_it(now, out, |inner, out| inner.peer_down(now, hop, out));
    }

    fn handle_above(
        &mut self,
        now: Instant,
        to: To,
        payload: Bytes,
        by: &Constraint,
        out: &mut Outbox,
    ) -> Result<(), Unroutable> {
        self.let_it(now, out, |inner, out| inner.handle_above(now, to, payload, by, out))
    }

    fn handle_below(
        &mut self,
        now: Instant,
        hop: Hop,
        frame: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        match self.mischief.comes(&self.me, now, hop, frame, out) {
            Some(frame) => self.let_it(now, out, |inner, out| inner.handle_below(now, hop, frame, out)),
            None => Ok(()),
        }
    }

    fn find(&mut self, now: Instant, prefix: Prefix, by: &Constraint, out: &mut Outbox) {
        self.let_it(now, out, |inner, out| inner.find(now, prefix, by, out));
    }

    fn sample(&mut self, now: Instant, by: &Constraint, out: &mut Outbox) {
        self.let_it(now, out, |inner, out| inner.sample(now, by, out));
    }

    fn set_digest(&mut self, now: Instant, digest: [u8; 32], out: &mut Outbox) {
        self.let_it(now, out, |inner, out| inner.set_digest(now, digest, out));
    }

    fn heartbeat(&mut self, now: Instant, out: &mut Outbox) {
        if self.mischief.due().is_some_and(|due| due <= now) {
            self.mischief.acts(&self.me, now, out);
        }
        self.let_it(now, out, |inner, out| inner.heartbeat(now, out));
    }

    fn next_heartbeat(&self) -> Option<Instant> {
        self.inner.next_heartbeat().into_iter().chain(self.mischief.due()).min()
    }

    fn overhead(&self) -> usize {
        self.inner.overhead()
    }

    fn next_hop(&self, to: To, by: &Constraint) -> Option<Hop> {
        self.inner.next_hop(to, by)
    }

    fn routes(&self, limit: usize) -> Vec<Route> {
        self.inner.routes(limit)
    }

    fn map(&self, limit: usize) -> Map {
        self.inner.map(limit)
    }

    fn paths(&self, to: &Addr) -> Vec<Path> {
        self.inner.paths(to)
    }
}
