//! The goals of the fast path, as ratios between medians of campaigns.

use crate::side::measure;
use crate::side::page::share;
use crate::side::peer::RAW;
use crate::side::record::{Campaign, Kind};

/// A goal, with what was reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// What is compared.
    pub what: String,
    /// What was reached, if it was measured.
    pub value: Option<f64>,
    /// What must be reached.
    pub must: Bound,
    /// What would be better still.
    pub stretch: Bound,
}

/// A limit of a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// At least this.
    Least(f64),
    /// At most this.
    Most(f64),
    /// No limit.
    None,
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::Least(least) => value >= least,
            Self::Most(most) => value <= most,
            Self::None => false,
        }
    }

    /// For people.
    pub fn words(self) -> String {
        match self {
            Self::Least(least) => format!("≥ {least}"),
            Self::Most(most) => format!("≤ {most}"),
            Self::None => String::new(),
        }
    }
}

impl Goal {
    /// What was reached, for people.
    pub fn shown(&self) -> String {
        self.value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
    }

    /// What that means.
    pub fn verdict(&self) -> &'static str {
        match self.value {
            None => "not measured",
            Some(value) if self.stretch.holds(value) => "beyond the stretch",
            Some(value) if self.must.holds(value) => "reached",
            Some(_) => "missed",
        }
    }
}

const OURS: &str = "byway";
const CHACHA: &str = "byway-chacha";
const FASTEST: &str = "wireguard-go";

/// All goals, from whatever was measured.
pub fn goals(campaigns: &[Campaign]) -> Vec<Goal> {
    let of = |kind| campaigns.iter().find(|campaign| campaign.kind == kind);
    let mut goals = direct_goals(of(Kind::Direct));
    goals.extend(wire_goals(of(Kind::Wire)));
    goals.extend(relay_goals(of(Kind::Relay)));
    goals.extend(no_offload_goals(of(Kind::NoOffload)));
    goals
}

fn direct_goals(campaign: Option<&Campaign>) -> Vec<Goal> {
    use Bound::{Least, Most};

    let value = |peer: &str, key: &str| campaign?.median(peer, 2, "", key);
    let ratio = |ours: &str, theirs: &str, key: &str| Some(value(ours, key)? / value(theirs, key)?);
    // The worse of one and four connections.
    let both = |ours: &str, theirs: &str| {
        Some(ratio(ours, theirs, measure::TCP1)?.min(ratio(ours, theirs, measure::TCP4)?))
    };
    let cipher = |name: &str| campaign.and_then(|campaign| campaign.cipher(name));
    let mut goals = vec![
        goal("TCP, 1 and 4 streams, over wireguard-go", both(OURS, FASTEST), Least(2.5), Least(4.0)),
        goal("the same with ChaCha20-Poly1305", both(CHACHA, FASTEST), Least(1.6), Least(2.5)),
    ];
    let others = others(campaign);
    for peer in &others {
        let stretch = if *peer == "boringtun" { Least(12.0) } else { Bound::None };
        let must = if *peer == "boringtun" { Least(8.0) } else { Least(1.0) };
        goals.push(goal(
            &format!("TCP, 1 stream, over {peer}"),
            ratio(OURS, peer, measure::TCP1),
            must,
            stretch,
        ));
    }
    let loaded = |peer: &str| value(peer, measure::LOADED);
    goals.extend([
        goal("TCP, 1 stream, over the veth alone", ratio(OURS, RAW, measure::TCP1), Least(0.30), Least(0.45)),
        goal(
            "TCP, 4 streams, over the veth alone",
            ratio(OURS, RAW, measure::TCP4),
            Least(0.30),
            Least(0.40),
        ),
        goal(
            "daemons' CPU s/GB over wireguard-go's",
            ratio(OURS, FASTEST, measure::CPU),
            Most(0.40),
            Most(0.25),
        ),
        goal(
            "daemons' CPU s/GB over AES-256-GCM alone",
            value(OURS, measure::CPU).zip(cipher("aes-256-gcm")).map(|(ours, alone)| ours / alone),
            Most(3.0),
            Most(2.0),
        ),
        goal("idle RTT over wireguard-go's", ratio(OURS, FASTEST, measure::RTT), Most(0.6), Most(0.3)),
        goal(
            "RTT under TCP load over wireguard-go's",
            ratio(OURS, FASTEST, measure::LOADED),
            Most(0.5),
            Bound::None,
        ),
        goal(
            "RTT under TCP load over yggdrasil's",
            loaded(OURS).zip(loaded("yggdrasil")).map(|(ours, theirs)| ours / theirs),
            Bound::None,
            Most(1.0),
        ),
        goal(
            "UDP of 256 B, packets/s, over wireguard-go",
            ratio(OURS, FASTEST, measure::UDP256),
            Least(2.5),
            Least(4.0),
        ),
        goal(
            "`ping -f`, answers/s, over wireguard-go",
            ratio(OURS, FASTEST, measure::PING_FLOOD),
            Least(1.0),
            Bound::None,
        ),
    ]);
    goals
}

fn wire_goals(campaign: Option<&Campaign>) -> Vec<Goal> {
    let kept = |profile| share(campaign?, OURS, profile);
    vec![
        goal("share of goodput kept at 1 % loss", kept("loss1"), Bound::Least(0.3), Bound::Least(0.5)),
        goal(
            "the same at 0.25 % loss and 0.5 % reordering",
            kept("loss025"),
            Bound::Least(0.3),
            Bound::Least(0.5),
        ),
    ]
}

fn relay_goals(campaign: Option<&Campaign>) -> Vec<Goal> {
    let value = |peer: &str, hosts, key: &str| campaign?.median(peer, hosts, "", key);
    let tcp = |peer: &str, hosts| value(peer, hosts, measure::TCP1);
    let kept = tcp(OURS, 3).zip(tcp(OURS, 2)).map(|(relayed, direct)| relayed / direct);
    let price = value(OURS, 3, measure::CPU_RELAY).zip(value(OURS, 3, measure::CPU_END));
    let best = others(campaign).into_iter().filter_map(|peer| tcp(peer, 3)).reduce(f64::max);
    vec![
        goal("through one relay, over direct", kept, Bound::Least(0.5), Bound::Least(0.85)),
        goal(
            "through one relay, over the best peer that relays",
            tcp(OURS, 3).zip(best).map(|(ours, best)| ours / best),
            Bound::Least(1.0),
            Bound::None,
        ),
        goal(
            "CPU s/GB of the relay over an end's",
            price.map(|(relay, end)| relay / end),
            Bound::Most(1.0),
            Bound::None,
        ),
    ]
}

fn no_offload_goals(campaign: Option<&Campaign>) -> Vec<Goal> {
    let best = |key: &str| {
        let campaign = campaign?;
        let peers = others(Some(campaign)).into_iter().chain([FASTEST]);
        let best = peers.filter_map(|peer| campaign.median(peer, 2, "", key)).reduce(f64::max)?;
        Some(campaign.median(OURS, 2, "", key)? / best)
    };
    vec![
        goal(
            "veth without offloads, TCP 1 stream, over the best peer",
            best(measure::TCP1),
            Bound::Least(1.0),
            Bound::Least(2.0),
        ),
        goal(
            "veth without offloads, TCP 4 streams, over the best peer",
            best(measure::TCP4),
            Bound::Least(1.0),
            Bound::Least(2.0),
        ),
    ]
}

fn goal(what: &str, value: Option<f64>, must: Bound, stretch: Bound) -> Goal {
    Goal { what: what.to_owned(), value, must, stretch }
}

/// Peers that are neither ours nor the kernel nor wireguard-go, which has goals of its own.
fn others(campaign: Option<&Campaign>) -> Vec<&str> {
    let peers = campaign.map(Campaign::peers).unwrap_or_default();
    peers.into_iter().filter(|peer| !peer.starts_with(OURS) && *peer != RAW && *peer != FASTEST).collect()
}
