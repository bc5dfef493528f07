//! What the routing protocol of a daemon has said so far, as the daemon counts it.

use std::collections::BTreeMap;
use std::path::Path;

use byway_netns::get;

/// Since a daemon began.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    /// For how long it has run, in seconds.
    pub(super) seconds: f64,
    /// Bytes of each kind of frame.
    pub(super) bytes: BTreeMap<u8, u64>,
}

impl Said {
    /// Asks the daemon whose API is there.
    pub(super) fn of(api: &Path) -> Option<Self> {
        Self::read(&get(api, "/metrics").ok()?)
    }

    fn read(text: &str) -> Option<Self> {
        let mut said = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            if name == "byway_uptime_seconds" {
                said.seconds = value.parse().ok()?;
            } else if name.starts_with("byway_routing_bytes_total{") {
                let kind = name.split_once("kind=\"")?.1.split_once('"')?.0;
                *said.bytes.entry(kind.parse().ok()?).or_default() += value.parse::<u64>().ok()?;
            }
        }
        (said.seconds > 0.0).then_some(said)
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_metrics_of_a_daemon_are_read_and_those_of_its_nodes_added_up() {
        let text = "# HELP byway_uptime_seconds x\nbyway_uptime_seconds 12\n\
            byway_routing_bytes_total{node=\"a\",kind=\"2\"} 100\nbyway_routing_bytes_total{node=\"b\",kind=\"2\"} 11\n\
            byway_routing_bytes_total{node=\"a\",kind=\"8\"} 7\nbyway_routing_frames_total{node=\"a\",kind=\"8\"} 1\n";
        let said = Said::read(text).unwrap();
        assert_eq!((said.seconds, said.bytes), (12.0, BTreeMap::from([(2, 111), (8, 7)])));
        assert_eq!(Said::read("byway_uptime_seconds 0\n"), None);
        assert_eq!(Said::read(""), None);
    }
}
