//! The goals and their bounds, from the table in `docs/routing.md`.

use byway_sim::Kind;

/// Up to so many nodes the bounds for 1,000 nodes count.
pub(super) const SMALL: usize = 3_000;

/// A node has as many links as this, or fewer, if it is to be held against a bound of memory.
pub(super) const PEERS: usize = 64;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Mean stretch of the first payload between strangers.
    FirstFrameMean,
    /// The stretch that 99 of 100 first payloads stay below.
    FirstFrameP99,
    /// Share of first payloads that arrived.
    FirstFrameDelivered,
    /// Mean stretch once probes have come back.
    ProbedMean,
    /// The stretch that 99 of 100 then stay below.
    ProbedP99,
    /// Share of payloads that then arrived.
    ProbedDelivered,
    /// Share of payloads that arrive right after one node in fifty has died.
    DeathsDelivered,
    /// One node dies: until all trees are whole, the worst of 16.
    OneDeath,
    /// One node in twenty dies: until all trees are whole.
    ManyDeaths,
    /// A root dies: until its tree is whole, the worst of all trees.
    RootDeath,
    /// All nodes start at once: until all trees are whole.
    ColdStart,
    /// Certificates that a node holds, on average.
    Certificates,
    /// Bytes that a node sends in a second while nodes come and go.
    ChurnBytes,
    /// The same while nothing changes.
    IdleBytes,
    /// Frames that carry the question of one lookup.
    LookupFrames,
    /// Frames that carry its answers.
    AnswerFrames,
    /// Memory of one router, the largest of those looked at that have at most 64 links.
    Memory,
    /// Memory of the router with the most links.
    MemoryBusiest,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// So much and no more.
    Most(f64),
    /// So much and no less.
    Least(f64),
}

impl Bound {
    /// Whether `value` keeps it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::Most(most) => value <= most,
            Self::Least(least) => value >= least,
        }
    }

    /// The number.
    pub fn value(self) -> f64 {
        match self {
            Self::Most(value) | Self::Least(value) => value,
        }
    }
}

/// Bounds in the order overlay, ba, tree, rgg, grid: for 1,000 nodes and for 10,000.
type Row = ([f64; 5], [f64; 5]);

impl Goal {
    /// The unit of its values.
    pub fn unit(self) -> &'static str {
        match self {
            Self::FirstFrameMean | Self::FirstFrameP99 | Self::ProbedMean | Self::ProbedP99 => "ratio",
            Self::FirstFrameDelivered | Self::ProbedDelivered | Self::DeathsDelivered => "share",
            Self::OneDeath | Self::ManyDeaths | Self::RootDeath | Self::ColdStart => "s",
            Self::Certificates => "certificates",
            Self::ChurnBytes | Self::IdleBytes => "B/s",
            Self::LookupFrames | Self::AnswerFrames => "frames",
            Self::Memory | Self::MemoryBusiest => "B",
        }
    }

    /// In words, for the table.
    pub fn words(self) -> &'static str {
        match self {
            Self::FirstFrameMean => "first frame: mean stretch",
            Self::FirstFrameP99 => "first frame: p99 stretch",
            Self::FirstFrameDelivered => "first frame: delivered",
            Self::ProbedMean => "after probing: mean stretch",
            Self::ProbedP99 => "after probing: p99 stretch",
            Self::ProbedDelivered => "after probing: delivered",
            Self::DeathsDelivered => "2 % of nodes die: delivered before any repair",
            Self::OneDeath => "one node dies: trees whole again, worst of 16",
            Self::ManyDeaths => "5 % die at once: trees whole again",
            Self::RootDeath => "a root dies: its tree whole again, worst tree",
            Self::ColdStart => "cold start of all nodes",
            Self::Certificates => "certificates held per node",
            Self::ChurnBytes => "control per node, sessions of 1 h mean",
            Self::IdleBytes => "control per node, nothing changes",
            Self::LookupFrames => "frames per lookup: the question",
            Self::AnswerFrames => "frames per lookup: answers on their way back",
            Self::Memory => "memory of a node with up to 64 links, largest of 24",
            Self::MemoryBusiest => "memory of the node with the most links",
        }
    }

    /// What it is held against on a network of `kind`.
    pub fn bound(self, kind: Kind, nodes: usize, trees: u8) -> Option<Bound> {
        let column = Kind::ALL.iter().position(|other| *other == kind)?;
        let large = nodes > SMALL;
        if trees == 8 {
            // Held against on the large radio meshes only.
            let most = match (self, kind, large) {
                (Self::FirstFrameMean, Kind::Rgg, true) => 1.06,
                (Self::FirstFrameP99, Kind::Rgg, true) => 1.45,
                (Self::FirstFrameMean, Kind::Grid, true) => 1.10,
                (Self::FirstFrameP99, Kind::Grid, true) => 2.8,
                _ => return None,
            };
            return Some(Bound::Most(most));
        }
        let row: Row = match self {
            Self::FirstFrameMean => ([1.05, 1.05, 1.05, 1.15, 1.10], [1.08, 1.06, 1.05, 1.20, 1.35]),
            Self::FirstFrameP99 => ([1.35, 1.3, 1.4, 3.3, 2.5], [1.5, 1.45, 1.5, 2.4, 5.3]),
            Self::ProbedMean => ([1.02, 1.02, 1.02, 1.08, 1.02], [1.03, 1.03, 1.03, 1.13, 1.30]),
            Self::ProbedP99 => ([1.15, 1.15, 1.2, 2.6, 1.2], [1.25, 1.25, 1.3, 1.9, 5.1]),
            Self::FirstFrameDelivered | Self::ProbedDelivered => return Some(Bound::Least(0.999)),
            Self::DeathsDelivered => {
                let least = [0.99, 0.92, 0.99, 0.96, 0.92][column];
                return (!large).then_some(Bound::Least(least));
            }
            Self::OneDeath => ([1.0, 1.0, 1.5, 2.0, 2.0], [1.0, 1.0, 1.5, 2.0, 2.0]),
            Self::ManyDeaths => ([2.0, 2.0, 3.0, 4.0, 4.0], [2.0, 2.0, 3.0, 4.0, 4.0]),
            Self::RootDeath => ([2.0, 2.0, 4.0, 5.0, 5.0], [4.0, 4.0, 6.0, 10.0, 10.0]),
            Self::ColdStart => ([1.0, 1.0, 2.0, 3.0, 3.0], [2.0, 2.0, 3.0, 6.0, 8.0]),
            Self::Certificates => ([60.0, 60.0, 60.0, 140.0, 150.0], [90.0, 80.0, 90.0, 300.0, 400.0]),
            Self::ChurnBytes => {
                ([300.0, 300.0, 300.0, 800.0, 800.0], [300.0, 300.0, 500.0, 1_500.0, 1_500.0])
            }
            Self::IdleBytes => ([100.0; 5], [100.0; 5]),
            Self::AnswerFrames | Self::MemoryBusiest => return None,
            Self::LookupFrames => ([10.0, 10.0, 15.0, 30.0, 40.0], [15.0, 18.0, 25.0, 120.0, 150.0]),
            Self::Memory => ([f64::from(1 << 20); 5], [f64::from(1 << 20); 5]),
        };
        Some(Bound::Most(if large { row.1[column] } else { row.0[column] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_network_and_its_size() {
        let bound = |goal: Goal, kind, nodes| goal.bound(kind, nodes, 4);
        assert_eq!(bound(Goal::FirstFrameP99, Kind::Grid, 10_000), Some(Bound::Most(5.3)));
        assert_eq!(bound(Goal::LookupFrames, Kind::Overlay, 1_000), Some(Bound::Most(10.0)));
        assert_eq!(bound(Goal::DeathsDelivered, Kind::Ba, 1_000), Some(Bound::Least(0.92)));
        assert_eq!(bound(Goal::DeathsDelivered, Kind::Ba, 10_000), None);
        assert_eq!(Goal::FirstFrameMean.bound(Kind::Rgg, 10_000, 8), Some(Bound::Most(1.06)));
        assert_eq!(Goal::ChurnBytes.bound(Kind::Rgg, 10_000, 8), None);
        assert!(Bound::Most(1.0).holds(1.0) && !Bound::Most(1.0).holds(1.1));
        assert!(Bound::Least(1.0).holds(1.0) && !Bound::Least(1.0).holds(0.9));
        assert!(!Bound::Most(1.0).holds(f64::NAN) && !Bound::Least(1.0).holds(f64::NAN));
    }
}
