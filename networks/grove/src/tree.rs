//! One tree as a node sees it: who its parent is, and when it takes another one.

use std::time::{Duration, Instant};

use byway_identity::Addr;
use byway_network::{Hop, NetworkId};

use crate::cert::{Pulse, Seq};
use crate::filter::Bits;
use crate::names::{Rank, TreeId, rank};

/// Between two pulses of a root.
pub(crate) const PULSE_PERIOD: Duration = Duration::from_secs(30);
/// Without a new pulse for so long a root is dead.
const PULSE_LIFE: Duration = Duration::from_secs(105);
/// A link of this cost carries less than 1 kbit/s: pulses go over it this seldom, and below it a root lives so much longer.
pub(crate) const SLOW: u32 = 90_000;
pub(crate) const SLOW_PERIOD: Duration = Duration::from_secs(600);
const SLOW_LIFE: Duration = Duration::from_secs(2_100);
/// Between two changes of parent for cost alone; the first one after a change of root comes sooner.
const CALM: Duration = Duration::from_secs(30);
const FIRST_CALM: Duration = Duration::from_millis(500);
/// After a loss: when any parent under the same root will do, and when any root.
const SOON: Duration = Duration::from_millis(100);
const FREE: Duration = Duration::from_millis(500);
/// Whoever has been under a root for so long has not just passed by it.
const ESTABLISHED: Duration = Duration::from_secs(5);
/// A root that has vanished is not believed in for so long.
const GHOST: Duration = Duration::from_secs(1);
/// A penalty loses one in this time.
const FORGIVEN: Duration = Duration::from_secs(3_600);
/// Most roots whose past is remembered.
const ROOTS_MAX: usize = 32;
/// Most roots whose rank is remembered.
const RANKS_MAX: usize = 16;
/// A root that nobody follows for so long, though there are others, follows another one for a while.
const LONELY: Duration = Duration::from_secs(10);
const HUMBLE: Duration = Duration::from_secs(600);

/// A peer that would be a parent, with a whole chain that this node is not on.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) hop: Hop,
    pub(crate) root: Addr,
    pub(crate) rank: Rank,
    /// From the root to the peer.
    pub(crate) there: u32,
    /// From the root to this node.
    pub(crate) total: u32,
}

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    Keep,
    Parent(Candidate),
    Root,
}

/// The root that was lost.
#[derive(Clone, Copy, Debug)]
struct Lost {
    root: Addr,
    rank: Rank,
    /// For how long this node was under it.
    followed: Duration,
    feasible: u32,
    soon: Instant,
    free: Instant,
}

/// What is remembered of a root.
#[derive(Clone, Copy, Debug)]
struct Past {
    root: Addr,
    /// Since when some peer is under it, without a break.
    seen: Option<Instant>,
    vanished: u32,
    banned_until: Option<Instant>,
    /// Until when whoever offers it may not have heard of its end.
    ghost_until: Instant,
}

/// One tree.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) id: TreeId,
    pub(crate) parent: Option<Hop>,
    /// The number of the own certificate.
    pub(crate) seq: Seq,
    /// The root, as of the last look, since when, and its rank.
    pub(crate) root: Addr,
    rooted_at: Instant,
    rank: Rank,
    /// From the root to this node, and the lowest that was announced under this root.
    total: u32,
    feasible: u32,
    calm_until: Instant,
    lost: Option<Lost>,
    penalty: f64,
    penalty_at: Instant,
    pasts: Vec<Past>,
    lonely_since: Option<Instant>,
    humble_until: Option<Instant>,
    due: Option<Instant>,
    /// Ranks that were worked out lately.
    ranks: Vec<(Addr, Rank)>,

    pub(crate) pulse: Option<Pulse>,
    pub(crate) pulse_at: Instant,

    /// The summary that the parent was told.
    pub(crate) told: Bits,
    pub(crate) told_count: u64,
    pub(crate) told_version: u32,
    pub(crate) told_to: Option<Hop>,
    pub(crate) whole_at: Instant,
    pub(crate) summary_due: bool,
}

impl Tree {
    /// A tree in which the node is its own root.
    pub(crate) fn new(now: Instant, id: TreeId, own: Addr, rank: Rank, seq: Seq) -> Self {
        Self {
            id,
            parent: None,
            seq,
            root: own,
            rooted_at: now,
            rank,
            total: 0,
            feasible: 0,
            calm_until: now,
            lost: None,
            penalty: 0.0,
            penalty_at: now,
            pasts: Vec::new(),
            lonely_since: None,
            humble_until: None,
            due: None,
            ranks: Vec::new(),
            pulse: None,
            pulse_at: now,
            told: Bits::default(),
            told_count: 0,
            told_version: 0,
            told_to: None,
            whole_at: now,
            summary_due: true,
        }
    }

    /// The rank of a node as root.
    pub(crate) fn rank_of(&mut self, network: &NetworkId, root: &Addr) -> Rank {
        if let Some((_, rank)) = self.ranks.iter().find(|(addr, _)| addr == root) {
            return *rank;
        }
        let rank = rank(network, self.id, root);
        if self.ranks.len() >= RANKS_MAX {
            self.ranks.remove(0);
        }
        self.ranks.push((*root, rank));
        rank
    }

    /// When a decision may be another one though nothing was heard.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the root has been silent for too long.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.parent.is_some() && now >= self.pulse_at + self.pulse_life()
    }

    /// Without a new pulse for so long the root is dead. Whoever is far below may be below a slow link.
    pub(crate) fn pulse_life(&self) -> Duration {
        if self.total < SLOW { PULSE_LIFE } else { SLOW_LIFE }
    }

    /// The first tree of a plane is the one that always joins what can be joined; the others are allowed to be slow.
    fn is_first(&self) -> bool {
        self.id.index() == 0
    }

    /// What to do, given all candidates. `followed` says whether any peer is under this node; `jitter` is a random
    /// share, from 0 to 255.
    pub(crate) fn decide(
        &mut self,
        now: Instant,
        own: (Addr, Rank),
        candidates: &[Candidate],
        followed: bool,
        jitter: u8,
    ) -> Choice {
        self.due = None;
        self.note_roots(now, candidates);
        let current = self.parent.and_then(|hop| candidates.iter().find(|candidate| candidate.hop == hop));
        let choice = match (self.parent, current) {
            (Some(_), None) => self.broken(now, candidates, jitter),
            (Some(_), Some(current)) => self.follow(now, current, candidates, jitter),
            (None, _) => self.rooted(now, own, candidates, followed),
        };
        match &choice {
            Choice::Parent(chosen) => self.joined(now, chosen),
            Choice::Root => {
                (self.root, self.rank, self.total, self.feasible) = (own.0, own.1, 0, 0);
                self.parent = None;
            }
            Choice::Keep => {}
        }
        choice
    }

    /// The parent is gone, or its chain is no chain any more.
    fn broken(&mut self, now: Instant, candidates: &[Candidate], jitter: u8) -> Choice {
        self.lose(now, jitter);
        self.regain(now, candidates).map_or(Choice::Root, Choice::Parent)
    }

    fn follow(&mut self, now: Instant, current: &Candidate, candidates: &[Candidate], jitter: u8) -> Choice {
        if current.root != self.root {
            if current.rank > self.rank {
                // The parent has lost its root; the old one may still be there, by another way.
                self.lose(now, jitter);
            } else {
                self.lost = self.lost.filter(|lost| lost.rank < current.rank);
            }
            (self.root, self.rank) = (current.root, current.rank);
            self.rooted_at = now;
            self.feasible = current.total;
            self.pulse_at = now;
            self.pulse = None;
            self.calm_until = now + FIRST_CALM;
        }
        self.total = current.total;
        if let Some(chosen) = self.regain(now, candidates) {
            return Choice::Parent(chosen);
        }
        if let Some(better) = self.better(now, current.rank, candidates) {
            return Choice::Parent(better);
        }
        self.feasible = self.feasible.min(current.total);
        let cheaper = |candidate: &&Candidate| {
            candidate.root == current.root
                && candidate.there < self.feasible
                && u64::from(candidate.total) * 10 < u64::from(current.total) * 9
        };
        let best = candidates.iter().filter(cheaper).min_by_key(|candidate| (candidate.total, candidate.hop));
        match best {
            Some(best) if now >= self.calm_until => Choice::Parent(best.clone()),
            Some(_) => {
                self.wake(self.calm_until);
                Choice::Keep
            }
            None => Choice::Keep,
        }
    }

    fn rooted(
        &mut self,
        now: Instant,
        own: (Addr, Rank),
        candidates: &[Candidate],
        followed: bool,
    ) -> Choice {
        if let Some(chosen) = self.regain(now, candidates) {
            return Choice::Parent(chosen);
        }
        if self.lost.is_some() && !self.humble(now) {
            // Holding down: only a root that is better than the lost one is known not to be news of the past.
            let rank = self.lost.map_or(own.1, |lost| lost.rank);
            return self.better(now, rank.min(own.1), candidates).map_or(Choice::Keep, Choice::Parent);
        }
        let rank = if self.humble(now) { Rank::WORST } else { own.1 };
        if let Some(better) = self.better(now, rank, candidates) {
            return Choice::Parent(better);
        }
        if candidates.is_empty() || followed {
            self.lonely_since = None;
            return Choice::Keep;
        }
        let since = *self.lonely_since.get_or_insert(now);
        if now < since + LONELY {
            self.wake(since + LONELY);
            return Choice::Keep;
        }
        self.lonely_since = None;
        self.humble_until = Some(now + HUMBLE);
        self.better(now, Rank::WORST, candidates).map_or(Choice::Keep, Choice::Parent)
    }

    fn humble(&self, now: Instant) -> bool {
        self.humble_until.is_some_and(|until| now < until)
    }

    fn lose(&mut self, now: Instant, jitter: u8) {
        let more = u32::from(jitter);
        self.lost.get_or_insert(Lost {
            root: self.root,
            rank: self.rank,
            followed: now.saturating_duration_since(self.rooted_at),
            feasible: self.feasible,
            soon: now + SOON + Duration::from_micros(100) * more,
            free: now + FREE + Duration::from_micros(490) * more,
        });
    }

    /// After a loss: a parent under the same root, if it is known not to be below this node, or soon any.
    fn regain(&mut self, now: Instant, candidates: &[Candidate]) -> Option<Candidate> {
        let lost = self.lost?;
        if now >= lost.free {
            self.lost = None;
            self.vanished(now, &lost);
            return None;
        }
        let fits = |candidate: &&Candidate| {
            candidate.root == lost.root && (candidate.there < lost.feasible || now >= lost.soon)
        };
        let best = candidates.iter().filter(fits).min_by_key(|candidate| (candidate.total, candidate.hop));
        if best.is_none() {
            self.wake(if now < lost.soon { lost.soon } else { lost.free });
        }
        best.cloned()
    }

    /// A candidate under a better root than one of `rank`, as far as damping lets it.
    fn better(&mut self, now: Instant, rank: Rank, candidates: &[Candidate]) -> Option<Candidate> {
        let mut better: Vec<&Candidate> =
            candidates.iter().filter(|candidate| candidate.rank < rank).collect();
        better.sort_by_key(|candidate| (candidate.rank, candidate.total, candidate.hop));
        for candidate in better {
            match self.waits_until(now, &candidate.root) {
                Some(at) if at > now => self.wake(at),
                _ => return Some(candidate.clone()),
            }
        }
        None
    }

    /// Until when a change to `root` has to wait.
    fn waits_until(&self, now: Instant, root: &Addr) -> Option<Instant> {
        let past = self.pasts.iter().find(|past| past.root == *root)?;
        let penalty = self.penalty_now(now);
        let seen = past.seen.unwrap_or(now);
        let damped = (penalty >= 2.0).then(|| {
            let grown = 2f64.powf(penalty.min(10.0) - 2.0);
            seen + if self.is_first() {
                Duration::from_secs_f64(grown.min(2.0))
            } else {
                Duration::from_secs_f64((60.0 * grown).min(3_600.0))
            }
        });
        damped.max(past.banned_until.filter(|_| !self.is_first())).max(Some(past.ghost_until))
    }

    fn penalty_now(&self, now: Instant) -> f64 {
        let hours = now.saturating_duration_since(self.penalty_at).as_secs_f64() / FORGIVEN.as_secs_f64();
        (self.penalty - hours).max(0.0)
    }

    /// The root is lost for good.
    fn vanished(&mut self, now: Instant, lost: &Lost) {
        let root = lost.root;
        // While a tree is built anew many claim to be its root for a moment: that is no flapping yet.
        let established = lost.followed >= ESTABLISHED;
        self.penalty = self.penalty_now(now) + if established { 1.0 } else { 0.25 };
        self.penalty_at = now;
        if let Some(past) = self.pasts.iter_mut().find(|past| past.root == root) {
            past.vanished += 1;
            // The first time may be anyone's bad luck, but until all have heard of it somebody always offers the dead root again.
            past.ghost_until = now + if established { GHOST } else { GHOST / 4 };
            let minutes = if past.vanished < 2 { 0 } else { 1 << (past.vanished - 2).min(11) };
            past.banned_until = Some(now + Duration::from_secs(60 * minutes.min(24 * 60)));
        }
    }

    fn joined(&mut self, now: Instant, chosen: &Candidate) {
        if chosen.root == self.root && self.lost.is_none() {
            self.calm_until = now + CALM;
        } else {
            if chosen.root != self.root {
                self.pulse_at = now;
                self.pulse = None;
                self.rooted_at = now;
            }
            self.feasible = u32::MAX;
            self.calm_until = now + FIRST_CALM;
        }
        self.lost = None;
        self.lonely_since = None;
        (self.root, self.rank) = (chosen.root, chosen.rank);
        self.total = chosen.total;
        self.feasible = self.feasible.min(chosen.total);
        self.parent = Some(chosen.hop);
        self.wake(self.calm_until);
    }

    fn note_roots(&mut self, now: Instant, candidates: &[Candidate]) {
        for past in &mut self.pasts {
            if !candidates.iter().any(|candidate| candidate.root == past.root) {
                past.seen = None;
            }
        }
        for candidate in candidates {
            match self.pasts.iter_mut().find(|past| past.root == candidate.root) {
                Some(past) => {
                    past.seen.get_or_insert(now);
                }
                None => {
                    if self.pasts.len() >= ROOTS_MAX {
                        // The one that matters least: not there, and with the least on its record.
                        let least = self.pasts.iter().enumerate().min_by_key(|(_, past)| {
                            (past.seen.is_some(), past.banned_until.is_some_and(|at| at > now), past.vanished)
                        });
                        if let Some((at, _)) = least {
                            self.pasts.swap_remove(at);
                        }
                    }
                    let past = Past {
                        root: candidate.root,
                        seen: Some(now),
                        vanished: 0,
                        banned_until: None,
                        ghost_until: now,
                    };
                    self.pasts.push(past);
                }
            }
        }
    }

    fn wake(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
