//! What is kept for each hop.

use std::time::{Duration, Instant};

use byway_identity::Addr;
use byway_network::{Class, Cost};

use crate::limit::Allowance;

/// What a neighbour is, as far as it has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has not said yet, and gets no flood.
    Unknown,
    /// A node that passes on what it hears.
    Full,
    /// A node that has only us.
    Leaf,
}

/// A greeting is repeated until it is answered, with growing pauses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Greeting {
    at: Instant,
    pause: Duration,
}

/// Sends what is known of all nodes, in small portions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// When the next portion is due.
    pub(crate) at: Instant,
    /// The last node of the portion before.
    pub(crate) after: Option<Addr>,
}

/// One hop of a full node.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) class: Class,
    pub(crate) link: Cost,
    pub(crate) role: Role,
    pub(crate) greeting: Option<Greeting>,
    pub(crate) table: Option<Table>,
    table_from: Option<Instant>,
    newcomers: Allowance,
    checks: Allowance,
    losses: Allowance,
    complaints: Allowance,
}

impl Greeting {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(8);

    /// One greeting has just been sent.
    pub(crate) fn new(now: Instant) -> Self {
        Self { at: now + Self::FIRST, pause: Self::FIRST }
    }

    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Whether to greet again now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.at <= now;
        if due {
            self.pause = (self.pause * 2).min(Self::LONGEST);
            self.at = now + self.pause;
        }
        due
    }
}

impl Neighbour {
    pub(crate) fn new(now: Instant, class: Class, link: Cost) -> Self {
        Self {
            class,
            link: link.max(Cost::LOOPBACK),
            role: Role::Unknown,
            greeting: Some(Greeting::new(now)),
            table: None,
            table_from: None,
            newcomers: Allowance::new(now, 256),
            checks: Allowance::new(now, 1_024),
            losses: Allowance::new(now, 1_024),
            complaints: Allowance::new(now, 32),
        }
    }

    /// Whether it may introduce one more node: 256 at once, then 32 per second.
    pub(crate) fn may_introduce(&mut self, now: Instant) -> bool {
        self.newcomers.take(now, Duration::from_millis(1_000 / 32))
    }

    /// Whether a signature may be checked on its behalf: 1,024 at once, then 64 per second. What holds up goes on to other
    /// neighbours, so this also bounds what one neighbour can make this node send.
    pub(crate) fn may_be_checked(&mut self, now: Instant) -> bool {
        self.checks.take(now, Duration::from_millis(1_000 / 64))
    }

    /// Whether one more LOST is listened to: 1,024 at once (a daemon closes all its nodes), then 200 per second.
    pub(crate) fn may_lose(&mut self, now: Instant) -> bool {
        self.losses.take(now, Duration::from_millis(5))
    }

    /// Whether to tell it once more that a frame of its had no way: 32 at once, then 20 per second.
    pub(crate) fn may_be_told(&mut self, now: Instant) -> bool {
        self.complaints.take(now, Duration::from_millis(50))
    }

    /// It asked for the table, which it gets at most once per second.
    pub(crate) fn wants_table(&mut self, now: Instant) {
        if self.table.is_none_or(|table| table.after.is_some()) {
            let at = self.table_from.map_or(now, |from| now.max(from + Duration::from_secs(1)));
            self.table_from = Some(at);
            self.table = Some(Table { at, after: None });
        }
    }
}
