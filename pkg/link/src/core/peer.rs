//! What is known of one neighbour.

use std::collections::BTreeMap;
use std::time::Instant;

use byway_network::{Class, Cost, Family};

use crate::Endpoint;
use crate::config::PeerState;
use crate::dialler::Dialler;
use crate::link::Link;

/// One neighbour.
pub(super) struct Peer {
    pub(super) listed: bool,
    pub(super) endpoints: Vec<Endpoint>,
    /// By lane.
    pub(super) slots: BTreeMap<usize, Slot>,
    /// What the node was told.
    pub(super) up: BTreeMap<Family, (Class, Cost)>,
    pub(super) trouble: Option<String>,
    /// Not to be linked before: it was of another network.
    pub(super) refused_until: Option<Instant>,
    pub(super) armed: Option<Instant>,
}

/// A peer on one lane.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) link: Option<Link>,
    pub(super) dialler: Dialler,
}

impl Peer {
    pub(super) fn stranger() -> Self {
        Self {
            listed: false,
            endpoints: Vec::new(),
            slots: BTreeMap::new(),
            up: BTreeMap::new(),
            trouble: None,
            refused_until: None,
            armed: None,
        }
    }

    pub(super) fn links(&self) -> impl Iterator<Item = (usize, &Link)> {
        self.slots.iter().filter_map(|(lane, slot)| slot.link.as_ref().map(|link| (*lane, link)))
    }

    /// The best link of a family that is up.
    pub(super) fn best(&self, family: Family) -> Option<(usize, &Link)> {
        let of_family =
            |link: &Link| link.is_up() && link.class.is_some_and(|class| class.family() == family);
        self.links().filter(|(_, link)| of_family(link)).min_by_key(|(_, link)| link.meter.cost())
    }

    pub(super) fn best_mut(&mut self, family: Family) -> Option<(usize, &mut Link)> {
        let lane = self.best(family)?.0;
        Some((lane, self.slots.get_mut(&lane)?.link.as_mut()?))
    }

    pub(super) fn link_mut(&mut self, lane: usize) -> Option<&mut Link> {
        self.slots.get_mut(&lane)?.link.as_mut()
    }

    pub(super) fn state(&self) -> PeerState {
        let busy = |slot: &Slot| {
            slot.dialler.is_dialling() || slot.link.as_ref().is_some_and(|link| !link.is_greeted())
        };
        if self.links().any(|(_, link)| link.is_up()) {
            PeerState::Up
        } else if self.slots.values().any(busy) {
            PeerState::Connecting
        } else {
            PeerState::Down
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let slots = self.slots.values();
        slots.flat_map(|slot| [slot.link.as_ref().and_then(Link::due), slot.dialler.due()]).flatten().min()
    }
}
