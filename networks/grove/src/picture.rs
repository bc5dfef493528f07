//! What a node does with DATA and ROUTED, for threads that do not own it.
//!
//! Both follow one rule (`steer`), and a test holds the picture to the router. Whatever the router would refuse, complain of
//! or learn from is left to it: frames whose mask changes, frames from neighbours that were silent, ways that end here.
//!
//! What is delivered here tells the router nothing. A payload that came along a way has a way back, which the router notes
//! for the frames that it sees itself: those that begin sessions, and all others that threads have no entry for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use byway_network::{FRONT_MAX, Hop, Picture, Plane, Step};

use crate::coords::Coords;
use crate::frame::Seen;
use crate::names::ShortId;
use crate::packet::{DATA, Led, ROUTED, Steered};
use crate::peer::Role;
use crate::steer::{Near, steer};
use crate::trail::Trail;

/// Most decisions that are remembered.
pub(crate) const MEMO_MAX: usize = 1_024;

/// What one node sees at one moment.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) own: ShortId,
    pub(crate) leaf: bool,
    pub(crate) coords: Coords,
    /// Neighbours that frames are given to.
    pub(crate) usable: Vec<Neighbour>,
    /// Those of `usable` by label.
    pub(crate) labels: HashMap<u16, Hop>,
    /// Neighbours that frames are taken from, and what their links are called here.
    pub(crate) heard: HashMap<Hop, u16>,
    pub(crate) trail: Arc<Trail>,
    pub(crate) memo: Memo,
}

/// What is known of a neighbour.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) hop: Hop,
    pub(crate) link: u32,
    pub(crate) role: Role,
    pub(crate) id: ShortId,
    pub(crate) coords: Coords,
    pub(crate) view: Arc<Vec<Seen>>,
}

/// Decisions by what they depend on: frames of one flow have equal heads, and looking through all views takes long.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    decisions: Mutex<HashMap<Box<[u8]>, Decision>>,
}

#[derive(Clone, Copy, Debug)]
enum Decision {
    Here,
    Next { hop: Hop, remaining: u32 },
}

impl Memo {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.decisions.lock().map_or(0, |decisions| decisions.len())
    }

    /// What has been decided for a head like this, or else is now.
    fn of(&self, head: &[u8], decide: impl FnOnce() -> Option<Decision>) -> Option<Decision> {
        // All of it but the type and the hop limit.
        let (plane, rest) = (head.get(1)?, head.get(3..)?);
        let mut key = [0; crate::packet::OVERHEAD];
        let key = key.get_mut(..rest.len() + 1)?;
        key[0] = *plane;
        key[1..].copy_from_slice(rest);
        let lock = || self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(key) {
            return Some(*known);
        }
        let decision = decide()?;
        let mut decisions = lock();
        if decisions.len() >= MEMO_MAX {
            decisions.clear();
        }
        decisions.insert(key.into(), decision);
        Some(decision)
    }
}

impl Picture for Scene {
    fn carry(&self, from: Hop, frame: &mut [u8]) -> Step {
        let Some(label) = self.heard.get(&from) else { return Step::Core };
        let step = match frame.first() {
            Some(&DATA) => self.carry_data(from, *label, frame),
            Some(&ROUTED) => self.carry_routed(from, *label, frame),
            _ => None,
        };
        step.unwrap_or(Step::Core)
    }
}

impl Scene {
    fn carry_data(&self, from: Hop, label: u16, frame: &mut [u8]) -> Option<Step> {
        let at = Steered::head_length(frame)?;
        let head = frame.get(..at)?;
        let plane = Plane::from_byte(head[1]).filter(|plane| plane.has(from.family))?;
        let decision = self.memo.of(head, || {
            let (head, _) = Steered::parse(head, from.family).ok()?;
            if head.to == self.own {
                // Whoever has an old place of this node is told by the router.
                return (!self.coords.denies(&head.coords)).then_some(Decision::Here);
            }
            let (best, mask, remaining) = steer(&self.coords, || self.nears(plane), &head)?;
            (!self.leaf && mask == head.mask).then_some(Decision::Next { hop: best.hop, remaining })
        })?;
        let ttl = Steered::hop_limit(head)?;
        match decision {
            Decision::Here => {
                self.trail.note(None, self.own, plane, label);
                Some(Step::Deliver { plane, at })
            }
            Decision::Next { .. } if ttl <= 1 => None,
            Decision::Next { hop, remaining } => {
                self.trail.note(None, Steered::target(head)?, plane, label);
                let mask = head[3];
                Steered::pass_on(frame, ttl - 1, mask, remaining);
                Some(Step::Forward { hop, head: at })
            }
        }
    }

    fn carry_routed(&self, from: Hop, label: u16, frame: &mut [u8]) -> Option<Step> {
        let led = Led::skim(frame, from.family).ok()?;
        let to = frame.get(led.length..led.length + 4)?;
        let Some(next) = led.next else {
            let for_us = to == self.own.front() || to == [0; 4];
            return for_us.then_some(Step::Deliver { plane: led.plane, at: led.length + 4 });
        };
        let hop = *self.labels.get(&next)?;
        let fits = led.plane.has(hop.family) && hop != from;
        if led.ttl <= 1 || self.leaf || !fits || Led::changes_to(led.at) > FRONT_MAX {
            return None;
        }
        Led::pass_on(frame, led.ttl - 1, led.at, label);
        Some(Step::Forward { hop, head: led.length })
    }

    fn nears(&self, plane: Plane) -> impl Iterator<Item = Near<'_>> {
        self.usable.iter().filter(move |near| plane.has(near.hop.family)).map(|near| Near {
            hop: near.hop,
            link: near.link,
            handicap: 0,
            role: near.role,
            id: near.id,
            coords: &near.coords,
            view: &near.view,
        })
    }
}
