//! Kinds of misbehaviour.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Entropy, SeededEntropy};
use byway_network::{Hop, Outbox};

use super::{Mischief, Oneself};
use crate::frames::{Cert, Item, Offer, certs, full_filter, items, kind, lookup};

fn kind_of(frame: &[u8]) -> u8 {
    frame.first().copied().unwrap_or(0)
}

/// What keeps up links and trees, and nothing that is to be carried on.
fn control(frame: Bytes) -> Option<Bytes> {
    (kind_of(&frame) < kind::LOOKUP).then_some(frame)
}

/// Keeps up its place in all trees, promises ways, and carries nothing: neither questions nor answers, neither payloads nor probes.
pub struct BlackHole;

impl Mischief for BlackHole {
    fn comes(&mut self, _: &Oneself, _: Instant, _: Hop, frame: Bytes, _: &mut Outbox) -> Option<Bytes> {
        control(frame)
    }
}

/// Tells its parents that everyone in the world is below it, and swallows the questions that come of it.
pub struct AllOnes;

/// More nodes than a filter can tell apart: so many explain a filter of ones.
const EVERYONE: u64 = 1 << 20;

impl Mischief for AllOnes {
    fn comes(&mut self, _: &Oneself, _: Instant, _: Hop, frame: Bytes, _: &mut Outbox) -> Option<Bytes> {
        (kind_of(&frame) != kind::LOOKUP).then_some(frame)
    }

    fn leaves(&mut self, _: &Oneself, _: Instant, _: Hop, frame: Bytes) -> Option<Bytes> {
        let head = frame.get(..6).filter(|head| head[0] == kind::FILTER);
        Some(match head {
            Some([_, tree, version @ ..]) => {
                let version = version.try_into().map_or(0, u32::from_be_bytes);
                full_filter(*tree, version, EVERYONE)
            }
            _ => frame,
        })
    }
}

/// Is the best root of a tree, and takes another parent and becomes the root again, again and again.
pub struct FlappingRoot {
    tree: u8,
    period: Duration,
    at: Instant,
    is_child: bool,
    offers: BTreeMap<Hop, Offer>,
    as_root: Option<Offer>,
    boot: u64,
    counter: u64,
}

impl FlappingRoot {
    /// Flaps in `tree` every `period`, from `at` on.
    pub fn new(tree: u8, period: Duration, at: Instant) -> Self {
        let (offers, as_root) = (BTreeMap::new(), None);
        Self { tree, period, at, is_child: false, offers, as_root, boot: 0, counter: 0 }
    }
}

impl Mischief for FlappingRoot {
    fn comes(&mut self, me: &Oneself, _: Instant, from: Hop, frame: Bytes, _: &mut Outbox) -> Option<Bytes> {
        let own = *me.key.public().as_raw();
        for item in items(&frame).unwrap_or_default() {
            if let Item::Offer(offer) = item
                && offer.child == own
            {
                self.offers.insert(from, offer);
            }
        }
        Some(frame)
    }

    fn leaves(&mut self, me: &Oneself, _: Instant, _: Hop, frame: Bytes) -> Option<Bytes> {
        let own = *me.key.public().as_raw();
        for item in items(&frame).unwrap_or_default() {
            if let Item::Cert(cert) = item
                && (cert.offer.child, cert.tree) == (own, self.tree)
            {
                (self.boot, self.counter) = (self.boot, self.counter).max((cert.boot, cert.counter));
                if cert.offer.parent == own {
                    self.as_root = Some(cert.offer);
                }
            }
        }
        Some(frame)
    }

    fn due(&self) -> Option<Instant> {
        Some(self.at)
    }

    fn acts(&mut self, me: &Oneself, now: Instant, out: &mut Outbox) {
        self.at = now + self.period;
        self.is_child = !self.is_child;
        let offer = if self.is_child {
            self.offers.iter().find(|(hop, _)| me.hops.contains(hop)).map(|(_, offer)| offer)
        } else {
            self.as_root.as_ref()
        };
        let Some(offer) = offer.cloned() else { return };
        self.counter += 1;
        let (boot, counter) = (self.boot, self.counter);
        let cert = Cert { offer, tree: self.tree, boot, counter, signature: [0; 64] };
        let frame = certs(&[Item::Cert(cert.signed(&me.key, &me.network))]);
        me.hops.iter().for_each(|hop| out.send(*hop, frame.clone()));
    }
}

/// Swallows what it should carry, and to have more of it, says that its neighbours and everyone of whom it hears are its children, and
/// says again what others have said long ago.
pub struct Forger {
    at: Instant,
    heard: BTreeMap<([u8; 32], u8), Vec<Cert>>,
    turn: usize,
}

/// Between two forgeries, and how many nodes each is about.
const FORGES: Duration = Duration::from_millis(500);
const VICTIMS: usize = 3;

impl Forger {
    /// Forges from `at` on.
    pub fn new(at: Instant) -> Self {
        Self { at, heard: BTreeMap::new(), turn: 0 }
    }
}

impl Mischief for Forger {
    fn comes(&mut self, _: &Oneself, _: Instant, _: Hop, frame: Bytes, _: &mut Outbox) -> Option<Bytes> {
        for item in items(&frame).unwrap_or_default() {
            if let Item::Cert(cert) = item {
                let heard = self.heard.entry((cert.offer.child, cert.tree)).or_default();
                if heard.len() < 16 {
                    heard.push(cert);
                }
            }
        }
        control(frame)
    }

    fn due(&self) -> Option<Instant> {
        Some(self.at)
    }

    fn acts(&mut self, me: &Oneself, now: Instant, out: &mut Outbox) {
        self.at = now + FORGES;
        let own = *me.key.public().as_raw();
        let turn = self.turn % self.heard.len().max(1);
        self.turn = turn + VICTIMS;
        for ((child, _), heard) in self.heard.iter().cycle().skip(turn).take(VICTIMS) {
            let (Some(oldest), Some(newest)) = (heard.first(), heard.last()) else { continue };
            if *child == own {
                continue;
            }
            // Below this node, by an offer of its own, in a certificate that it has signed for the victim.
            let offer = Offer { parent: own, ..newest.offer.clone() }.signed(&me.key, &me.network);
            let mine =
                Cert { offer, counter: newest.counter + 1, ..newest.clone() }.signed(&me.key, &me.network);
            // What the victim has signed, with something else in it.
            let other = Cert { counter: newest.counter + 2, ..newest.clone() };
            for cert in [mine, other, oldest.clone()] {
                // Each by itself, for one forged item spoils a frame.
                let frame = certs(&[Item::Cert(cert)]);
                me.hops.iter().for_each(|hop| out.send(*hop, frame.clone()));
            }
        }
    }
}

/// Gives all of its children the same label, so that those below different children have the same places.
pub struct LabelReuse;

/// The label that all get.
const LABEL: u64 = 7;

impl Mischief for LabelReuse {
    fn leaves(&mut self, me: &Oneself, _: Instant, _: Hop, frame: Bytes) -> Option<Bytes> {
        let Ok(mut items) = items(&frame) else { return Some(frame) };
        for item in &mut items {
            if let Item::Offer(offer) = item {
                *offer = Offer { label: LABEL, ..offer.clone() }.signed(&me.key, &me.network);
            }
        }
        Some(certs(&items))
    }

    fn comes(
        &mut self,
        me: &Oneself,
        _: Instant,
        from: Hop,
        frame: Bytes,
        out: &mut Outbox,
    ) -> Option<Bytes> {
        // The honest router does not know the children that it has got by this label: they would soon believe their root dead.
        let pulses: Vec<Item> = items(&frame)
            .unwrap_or_default()
            .into_iter()
            .filter(|item| matches!(item, Item::Pulse(_)))
            .collect();
        if !pulses.is_empty() {
            let others = me.hops.iter().filter(|hop| **hop != from);
            others.for_each(|hop| out.send(*hop, certs(&pulses)));
        }
        Some(frame)
    }
}

/// Asks for nodes that nobody knows, a thousand times a second over each link.
pub struct LookupFlood {
    at: Instant,
    entropy: SeededEntropy,
    trees: u8,
    disguised: bool,
}

/// So many at once, so often.
const BATCH: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(10);

impl LookupFlood {
    /// Asks in the first `trees` trees of plane `any`, from `at` on; `disguised` as one who passes on what many others ask.
    pub fn new(at: Instant, trees: u8, disguised: bool, seed: u64) -> Self {
        Self { at, entropy: SeededEntropy::new(seed), trees, disguised }
    }
}

impl Mischief for LookupFlood {
    fn due(&self) -> Option<Instant> {
        Some(self.at)
    }

    fn acts(&mut self, me: &Oneself, now: Instant, out: &mut Outbox) {
        self.at = now + BETWEEN;
        for hop in &me.hops {
            for _ in 0..BATCH {
                let mut addr = [0; 32];
                self.entropy.fill(&mut addr);
                let tree = self.entropy.below(u64::from(self.trees)) as u8;
                let way = [(); 2].map(|()| 1 + self.entropy.below(1_000) as u16);
                let way = if self.disguised { &way[..] } else { &[] };
                out.send(*hop, lookup(tree, &addr, self.entropy.next_u64(), way));
            }
        }
    }
}
