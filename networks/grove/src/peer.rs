//! What is kept for each hop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use byway_identity::Addr;
use byway_network::{Class, Cost, Family};

use crate::blame::Blame;
use crate::cert::Terms;
use crate::coords::{Coords, Step};
use crate::few::Few;
use crate::filter::Bits;
use crate::frame::{Seen, Told};
use crate::limit::Allowance;
use crate::names::{ShortId, short_id};
use crate::sketch::Sketch;

/// What a neighbour is, as far as it has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has not said yet.
    Unknown,
    /// A node that carries for others.
    Full,
    /// A node that has only us.
    Leaf,
}

/// Something that is repeated until it is answered, with growing pauses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Again {
    pub(crate) at: Instant,
    pause: Duration,
}

impl Again {
    const LONGEST: Duration = Duration::from_secs(8);

    pub(crate) fn after(now: Instant, pause: Duration) -> Self {
        Self { at: now + pause, pause }
    }

    /// Whether to do it again now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.at <= now;
        if due {
            self.pause = (self.pause * 2).min(Self::LONGEST);
            self.at = now + self.pause;
        }
        due
    }
}

/// The summary that a child has told.
#[derive(Clone, Debug)]
pub(crate) struct Below {
    pub(crate) version: u32,
    pub(crate) count: u64,
    pub(crate) bits: Bits,
}

/// One entry of a view as it was told.
///
/// Nearly all peers are shown the same others: of which that is, they share one list. It has the cheapest peers, some more than
/// a view has, and each peer is shown the first of them that are not itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shown {
    pub(crate) id: ShortId,
    pub(crate) family: Family,
    pub(crate) label: u16,
    pub(crate) look_at: u64,
}

/// What a view tells of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Look {
    pub(crate) class: Option<Class>,
    pub(crate) cost: u16,
    pub(crate) carries: bool,
    pub(crate) sketch: Sketch,
    /// Of which coordinates, its own and the teller's, the sketch is: by the router's count.
    pub(crate) of: (u64, u64),
}

/// What both ends compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Sums {
    pub(crate) certs: u64,
    pub(crate) filters: u32,
    pub(crate) view: u32,
}

/// One hop.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) class: Class,
    pub(crate) id: ShortId,
    /// The name of the link on this side.
    pub(crate) label: u16,
    pub(crate) role: Role,
    /// Its key, once it has said, and whether it wants to know ours.
    pub(crate) key: Option<[u8; 32]>,
    pub(crate) key_due: bool,
    /// The start of the peer, once it has said.
    pub(crate) boot: Option<u64>,
    /// What this side announces that the link costs, and what it has measured since and when.
    pub(crate) measured: u16,
    pub(crate) drift: Option<(u16, Instant)>,
    /// What the other side announces.
    pub(crate) theirs: u16,
    pub(crate) heard: Instant,
    /// Nothing has come from it for long.
    pub(crate) silent: bool,
    pub(crate) hello_at: Instant,
    pub(crate) greeting: Option<Again>,

    pub(crate) offer_in: Option<Box<Terms>>,
    pub(crate) offer_out: Option<Box<Terms>>,
    /// The certificates that it has for sure, by id.
    pub(crate) knows: Vec<u64>,
    /// The state of the own chains, and the offer, that it was last told.
    pub(crate) told_at: Option<(u64, u64)>,
    /// What it should have got, and what it says it has.
    pub(crate) told: Sums,
    pub(crate) has: Sums,
    /// When to say that what it sent has come.
    pub(crate) acknowledge_at: Option<Instant>,
    pub(crate) retry: Option<Again>,

    /// Its places in the trees: by the certificates, or, of a hub, as it said.
    pub(crate) coords: Coords,
    /// When its chains last changed, by the store's count.
    pub(crate) coords_at: u64,
    /// When they last changed, by the router's count.
    pub(crate) placed_at: u64,
    /// Of a hub: the link from there to here.
    pub(crate) step: Option<Step>,
    pub(crate) below: Few<Below>,
    /// Over a slow link: when it was last given a pulse of each tree in which it is a child.
    pub(crate) pulsed: Few<Instant>,
    pub(crate) view: Arc<Vec<Seen>>,
    /// The view as it was told, in the same order.
    pub(crate) sights: Vec<Told>,
    pub(crate) blame: Blame,
    pub(crate) view_version: u32,
    /// How it looks to others, and when that last changed, by the router's count.
    pub(crate) look: Look,
    pub(crate) look_at: u64,
    /// What it has been shown, and up to which look of all peers: see [`Shown`].
    pub(crate) shown: Arc<[Shown]>,
    pub(crate) shown_at: u64,
    pub(crate) show_at: Option<Instant>,
    pub(crate) shows: Allowance<4, 1_000>,

    pub(crate) newcomers: Allowance<1_024, 31>,
    pub(crate) checks: Allowance<2_048, 5>,
    pub(crate) lookups: Allowance<2_048, 5>,
    pub(crate) probes: Allowance<1_024, 20>,
    pub(crate) complaints: Allowance<256, 10>,
    pub(crate) moves: Allowance<2, 500>,
    /// Planes in which it gave a frame for a place where this node is no more, and has not been told.
    pub(crate) misled: u8,
    pub(crate) summaries: Allowance<256, 100>,
}

impl Peer {
    pub(crate) fn new(now: Instant, addr: &Addr, class: Class, cost: Cost, label: u16) -> Self {
        Self {
            class,
            id: short_id(addr),
            label,
            role: Role::Unknown,
            key: None,
            key_due: false,
            boot: None,
            measured: announced(cost),
            drift: None,
            theirs: 0,
            heard: now,
            silent: false,
            hello_at: now + hello_period(class.family()),
            greeting: Some(Again::after(now, Duration::from_millis(250))),
            offer_in: None,
            offer_out: None,
            knows: Vec::new(),
            told_at: None,
            told: Sums::default(),
            has: Sums::default(),
            acknowledge_at: None,
            retry: None,
            coords: Coords::default(),
            coords_at: 0,
            placed_at: 0,
            step: None,
            below: Few::default(),
            pulsed: Few::default(),
            view: Arc::default(),
            sights: Vec::new(),
            blame: Blame::default(),
            view_version: 0,
            look: Look::default(),
            look_at: 0,
            shown: Arc::default(),
            shown_at: 0,
            show_at: None,
            shows: Allowance::new(now),
            newcomers: Allowance::new(now),
            checks: Allowance::new(now),
            lookups: Allowance::new(now),
            probes: Allowance::new(now),
            moves: Allowance::new(now),
            misled: 0,
            complaints: Allowance::new(now),
            summaries: Allowance::new(now),
        }
    }

    /// Whether frames may be given to it: it has said who it is, and has not been silent for long.
    pub(crate) fn is_usable(&self) -> bool {
        self.role != Role::Unknown && !self.silent
    }

    /// The same, of a node that carries for others.
    pub(crate) fn carries(&self) -> bool {
        self.role == Role::Full && self.is_usable()
    }

    /// Reads the view again, now that the places of this peer are others.
    pub(crate) fn look_again(&mut self) {
        self.view = Arc::new(self.sights.iter().map(|told| told.resolve(&self.coords)).collect());
    }

    /// When it has been silent for too long.
    pub(crate) fn silent_at(&self) -> Instant {
        self.heard + hello_period(self.class.family()) * 7 / 2
    }

    /// What the link costs, as both ends say: the larger value counts.
    pub(crate) fn cost(&self) -> u16 {
        self.measured.max(self.theirs).max(1)
    }

    pub(crate) fn units(&self) -> u32 {
        Cost::decode(self.cost()).units().max(1)
    }

    /// Notes that it has the certificate with this id. False if it is known to have it.
    pub(crate) fn learns(&mut self, id: u64) -> bool {
        let at = self.knows.binary_search(&id);
        if let Err(at) = at {
            self.knows.insert(at, id);
        }
        at.is_err()
    }

    /// It has sent something that it wants to know of whether it came: one answer serves for all that comes in a short while.
    pub(crate) fn acknowledge_soon(&mut self, now: Instant) {
        self.acknowledge_at.get_or_insert(now + ACKNOWLEDGE);
    }

    /// How long to wait for an answer.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(250)
            + ACKNOWLEDGE
            + Duration::from_micros(400 * u64::from(self.units().min(100_000)))
    }
}

/// How long an answer waits for more to answer.
const ACKNOWLEDGE: Duration = Duration::from_millis(50);

/// The wire form of a cost, never 0.
pub(crate) fn announced(cost: Cost) -> u16 {
    cost.max(Cost::LOOPBACK).encode()
}

/// How often something is said on a link of `family`, if there is nothing else to say.
pub(crate) fn hello_period(family: Family) -> Duration {
    Duration::from_secs(match family {
        Family::Ethernet | Family::Ip => 5,
        Family::Tor | Family::I2p => 15,
        Family::Loopback | Family::Mesh => 60,
    })
}
