//! What is known of one neighbour.

use std::collections::BTreeMap;
use std::time::Instant;

use byway_network::{Class, Cost, Family};

use crate::config::{PeerState, Role};
use crate::dialler::Dialler;
use crate::health::Health;
use crate::link::{Link, pace};
use crate::steadiness::Steadiness;
use crate::{Allowed, Endpoint};

/// One neighbour.
pub(super) struct Peer {
    pub(super) listed: bool,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) allowed: Allowed,
    /// By lane.
    pub(super) slots: BTreeMap<usize, Slot>,
    /// The lane whose link carries the frames of each family.
    active: BTreeMap<Family, usize>,
    /// The one of them that carries what may go any way.
    primary: Option<usize>,
    /// What the node was told.
    pub(super) up: BTreeMap<Family, (Class, Cost)>,
    pub(super) trouble: Option<String>,
    /// Not to be linked before: it was of another network.
    pub(super) refused_until: Option<Instant>,
    pub(super) armed: Option<Instant>,
}

/// A peer on one lane.
pub(super) struct Slot {
    pub(super) link: Option<Link>,
    pub(super) dialler: Dialler,
    pub(super) steadiness: Steadiness,
    pub(super) health: Health,
}

impl Slot {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            link: None,
            dialler: Dialler::default(),
            steadiness: Steadiness::default(),
            health: Health::new(now),
        }
    }

    /// Brings its health up to date.
    pub(super) fn judge(&mut self, now: Instant) -> bool {
        let open = self.link.as_ref().filter(|link| link.is_up());
        self.health.update(now, open.map(Link::is_degraded))
    }
}

impl Peer {
    pub(super) fn stranger() -> Self {
        Self {
            listed: false,
            endpoints: Vec::new(),
            allowed: Allowed::ALL,
            active: BTreeMap::new(),
            primary: None,
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

    /// The link that carries the frames of a family.
    pub(super) fn active(&self, family: Family) -> Option<(usize, &Link)> {
        let lane = *self.active.get(&family)?;
        let link = self.slots.get(&lane)?.link.as_ref()?;
        link.carries(family).then_some((lane, link))
    }

    pub(super) fn active_mut(&mut self, family: Family) -> Option<(usize, &mut Link)> {
        let lane = self.active(family)?.0;
        Some((lane, self.slots.get_mut(&lane)?.link.as_mut()?))
    }

    /// Chooses anew which link carries for each family, and gives all their pace.
    ///
    /// The one in use stays while it is up, unless another is better by a fifth that has not just come back.
    pub(super) fn choose(&mut self, now: Instant) {
        let mut active = BTreeMap::new();
        for family in Family::ALL {
            let candidates = || {
                self.slots.iter().filter_map(move |(lane, slot)| {
                    let link = slot.link.as_ref().filter(|link| link.carries(family))?;
                    Some((slot.steadiness.waits(now), link.weight(), link.class, *lane))
                })
            };
            let Some(best) = candidates().min() else { continue };
            let current = self.active.get(&family);
            let current = current.and_then(|lane| candidates().find(|candidate| candidate.3 == *lane));
            let stays = current.is_some_and(|current| best.0 || best.1 * 5 > current.1 * 4);
            let chosen = current.filter(|_| stays).unwrap_or(best);
            active.insert(family, chosen.3);
        }
        self.active = active;
        self.primary = self.cheapest(now);
        for (lane, slot) in &mut self.slots {
            if let Some(link) = &mut slot.link
                && let Some(class) = link.class
            {
                let is_needed = self.primary.is_none_or(|primary| primary == *lane);
                link.liveness.set_pace(now, pace(class.family(), is_needed));
            }
        }
    }

    /// What is to be told of each family: class and cost of the link that carries for it.
    ///
    /// Costs are told in the order in which the links are to be preferred: where a stream measures less than a datagram link,
    /// or one that has just come back less than one that has stayed, it is told as dearer by a quarter than that.
    pub(super) fn told(&self, now: Instant) -> BTreeMap<Family, (Class, Cost)> {
        let in_use = self.active.iter().filter_map(|(family, lane)| {
            let (_, link) = self.active(*family)?;
            let waits = self.slots.get(lane)?.steadiness.waits(now);
            Some((waits, link.weight(), *family, link.class?, link.meter.cost()))
        });
        let mut in_use: Vec<_> = in_use.collect();
        in_use.sort_unstable();
        let mut before = None;
        let in_order = in_use.into_iter().map(|(.., family, class, cost)| {
            let told = before.filter(|before| cost <= *before).map_or(cost, |before: Cost| {
                let dearer = before.plus(Cost::from_units(before.units() / 4 + 1));
                // As it goes over the wire, like all costs.
                Cost::decode(dearer.encode())
            });
            before = Some(told);
            (family, (class, told))
        });
        in_order.collect()
    }

    /// The lane of the family that is told as the cheapest.
    fn cheapest(&self, now: Instant) -> Option<usize> {
        let told = self.told(now);
        let (family, _) = told.iter().min_by_key(|(_, (class, cost))| (*cost, *class))?;
        self.active.get(family).copied()
    }

    pub(super) fn role(&self, lane: usize) -> Role {
        if self.primary == Some(lane) { Role::Active } else { Role::Standby }
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
        let of_slot =
            |slot: &Slot| [slot.link.as_ref().and_then(Link::due), slot.dialler.due(), slot.steadiness.due()];
        slots.flat_map(of_slot).flatten().min()
    }
}
