//! One link: the way to one peer over one kind of transport, and what is known of it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_network::{Class, Family};
use byway_session::SessionId;

use crate::liveness::{Liveness, Pace};
use crate::meter::Meter;
use crate::path::PathLength;
use crate::serialise::Serialise;
use crate::{LinkDropped, Place, Profile, Remote};

/// One link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) greetings: Greetings,
    /// Where frames go, with the length that the transport carries there.
    pub(crate) place: Place,
    /// What both ends take the link for, once they have greeted.
    pub(crate) class: Option<Class>,
    pub(crate) their_class: Option<Class>,
    /// The start of the other end that the greeting named.
    pub(crate) boot: Option<u64>,
    pub(crate) liveness: Liveness,
    pub(crate) meter: Meter,
    /// No round trip counts as shorter when silence is judged.
    calm: Duration,
    /// Whether frames on it may be lost or reordered (false: a stream).
    lossy: bool,
    pub(crate) path: PathLength,
    pub(crate) since: Instant,
    pub(crate) sent: (u64, u64),
    pub(crate) received: (u64, u64),
    /// Frames and bytes that threads have counted, and that are counted here as well, if at all.
    pub(crate) handed: (u64, u64),
    /// What the link itself dropped; its sessions count for themselves.
    pub(crate) dropped: LinkDropped,
    /// Frames that overtook the greeting.
    pub(crate) early: VecDeque<Bytes>,
}

/// How far the two ends have greeted. Each new session asks for it anew, since the other end may have started anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Greetings {
    /// Ours is known to have arrived.
    pub(crate) ours: bool,
    /// The session in which theirs came.
    pub(crate) theirs: Option<SessionId>,
    pub(crate) first_sent: Instant,
    pub(crate) tries: u32,
    pub(crate) next: Instant,
}

/// Frames kept until the greeting comes, and bytes of them: strangers by the thousand may be at that point.
pub(crate) const EARLY_MAX: usize = 16;
const EARLY_BYTES_MAX: usize = 32 * 1024;
/// A larger share of lost probes is worth a word.
const DEGRADED_LOSS: f64 = 0.1;
/// Pause between greetings, and how many are sent before the session is given up.
pub(crate) const GREETING_PAUSE: Duration = Duration::from_millis(250);
pub(crate) const GREETINGS_MAX: u32 = 24;

impl Link {
    /// Whether a frame of `length` bytes that came before the greeting is kept.
    pub(crate) fn keeps_early(&self, length: usize) -> bool {
        let bytes: usize = self.early.iter().map(Bytes::len).sum();
        self.early.len() < EARLY_MAX && bytes + length <= EARLY_BYTES_MAX
    }

    /// A link over which nothing but a handshake has gone.
    pub(crate) fn new(now: Instant, place: Place, profile: &Profile) -> Self {
        Self {
            greetings: Greetings::new(now),
            place,
            class: None,
            their_class: None,
            boot: None,
            liveness: Liveness::new(now, pace(profile.class.family(), true)),
            meter: meter(now, profile),
            calm: calm(profile.class.family()),
            lossy: profile.lossy,
            path: PathLength::new(now, place.mtu, profile.lossy),
            since: now,
            sent: (0, 0),
            received: (0, 0),
            handed: (0, 0),
            dropped: LinkDropped::default(),
            early: VecDeque::new(),
        }
    }

    /// Whether both ends have greeted.
    pub(crate) fn is_greeted(&self) -> bool {
        self.class.is_some()
    }

    /// Whether frames may go over it.
    pub(crate) fn is_up(&self) -> bool {
        self.is_greeted() && !self.liveness.is_silent()
    }

    /// Whether frames for `family` may go over it.
    pub(crate) fn carries(&self, family: Family) -> bool {
        self.is_up() && self.class.is_some_and(|class| class.family() == family)
    }

    /// What counts when links of one family are compared: the cost, and more for what hides from it.
    ///
    /// A datagram that is lost on a stream holds up all behind it, and TCP inside of TCP answers that with losses of its
    /// own; a connection for datagrams takes twice the work of a socket, and no thread but the core's sends on it.
    pub(crate) fn weight(&self) -> u64 {
        let cost = u64::from(self.meter.cost().units());
        match (self.place.remote, self.lossy) {
            (Remote::Ip(_), _) => 4 * cost,
            (Remote::Connection(_), true) => 5 * cost + 20,
            (Remote::Connection(_), false) => 7 * cost + 40,
        }
    }

    /// Whether it is up, but much worse than such links usually are.
    pub(crate) fn is_degraded(&self) -> bool {
        self.meter.loss() > DEGRADED_LOSS || self.meter.is_slow()
    }

    /// The round trip by which silence is judged.
    pub(crate) fn round_trip(&self) -> Duration {
        self.meter.round_trip().max(self.calm)
    }

    /// When something is due next.
    pub(crate) fn due(&self) -> Option<Instant> {
        let greeting = (!self.greetings.ours).then_some(self.greetings.next);
        let alive = self.is_greeted().then(|| self.liveness.due(self.round_trip()));
        let path = if self.is_up() { self.path.due() } else { None };
        let long = self.meter.serialise.as_ref().filter(|_| self.is_up()).map(Serialise::due);
        [greeting, alive, path, long].into_iter().flatten().min()
    }
}

impl Greetings {
    fn new(now: Instant) -> Self {
        Self { ours: false, theirs: None, first_sent: now, tries: 0, next: now }
    }

    /// There is a new session: ours is to be said in it.
    pub(crate) fn again(&mut self, now: Instant) {
        *self = Self { theirs: self.theirs, ..Self::new(now) };
    }
}

/// Measures a link of `profile`. How long frames take on the wire is found out where that is neither known nor lost in what
/// else delays them: on datagrams over IP and Ethernet.
fn meter(now: Instant, profile: &Profile) -> Meter {
    let mut meter = Meter::new(now, profile.typical_rtt, profile.rate);
    let is_clear = matches!(profile.class.family(), Family::Ip | Family::Ethernet);
    if profile.rate.is_none() && profile.lossy && is_clear {
        meter.serialise = Some(Serialise::new(now));
    }
    meter
}

/// How often a link of `family` is probed; those that stand by while another carries need less, so that what is kept in
/// reserve costs little. A NAT keeps a UDP flow for 30 s and more.
pub(crate) fn pace(family: Family, is_needed: bool) -> Pace {
    let seconds = Duration::from_secs;
    let (keepalive, silent) = match (family, is_needed) {
        (Family::Loopback | Family::Ethernet | Family::Ip, true) => (5, (120, 1)),
        (Family::Loopback | Family::Ethernet | Family::Ip, false) => (15, (10, 5)),
        (Family::Tor | Family::I2p, true) => (15, (120, 1)),
        (Family::Tor | Family::I2p, false) => (30, (10, 15)),
        (Family::Mesh, true) => (60, (120, 1)),
        (Family::Mesh, false) => (60, (10, 60)),
    };
    Pace { keepalive: seconds(keepalive), silent: (seconds(silent.0), seconds(silent.1)) }
}

/// Circuits and tunnels stand still for seconds when somebody on the way is busy; that must not count as their end.
fn calm(family: Family) -> Duration {
    match family {
        Family::Tor | Family::I2p => Duration::from_millis(500),
        Family::Loopback | Family::Ethernet | Family::Ip | Family::Mesh => Duration::ZERO,
    }
}

/// What this end takes a link to `remote` for: clear IP to a neighbour on the same LAN is [`Class::LAN`].
pub(crate) fn class_here(class: Class, remote: Remote) -> Class {
    match remote {
        Remote::Ip(address) if class.family() == Family::Ip && is_nearby(address.ip()) => Class::LAN,
        Remote::Ip(_) | Remote::Connection(_) => class,
    }
}

/// What both ends take a link for, or `None` if they cannot agree.
///
/// Only the clear families are open to what the other end says, and of these the one that counts as farther wins: no peer can
/// make a clear link pass for one that hides something.
pub(crate) fn agree(here: Class, there: Class) -> Option<Class> {
    let is_clear = |class: Class| matches!(class.family(), Family::Ethernet | Family::Ip);
    (here.family() == there.family() || is_clear(here) && is_clear(there)).then(|| here.max(there))
}

fn is_nearby(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_addresses_count_as_lan() {
        for (address, near) in [
            ("127.0.0.1:1", true),
            ("10.1.2.3:1", true),
            ("192.168.1.1:1", true),
            ("172.31.0.1:1", true),
            ("172.32.0.1:1", false),
            ("169.254.1.1:1", true),
            ("8.8.8.8:1", false),
            ("[::1]:1", true),
            ("[fe80::1]:1", true),
            ("[fd00::1]:1", true),
            ("[::ffff:10.0.0.1]:1", true),
            ("[::ffff:8.8.8.8]:1", false),
            ("[2001:db8::1]:1", false),
        ] {
            let class = class_here(Class::UDP, Remote::Ip(address.parse().unwrap()));
            assert_eq!(class == Class::LAN, near, "{address}");
        }
        assert_eq!(class_here(Class::MEMORY, Remote::Ip("10.0.0.1:1".parse().unwrap())), Class::MEMORY);
    }

    #[test]
    fn a_circuit_that_stands_still_is_not_dead_as_soon_as_a_datagram_path_is() {
        let now = Instant::now();
        let link = |class| {
            let profile = Profile { class, typical_rtt: Duration::from_millis(10), rate: None, lossy: false };
            let remote = Remote::Connection(1);
            Link::new(now, Place { transport: crate::TransportId(0), remote, mtu: 1_200 }, &profile)
        };
        assert!(link(Class::new(Family::Tor, 0)).round_trip() == Duration::from_millis(500));
        assert!(link(Class::UDP).round_trip() < Duration::from_millis(50));
    }

    #[test]
    fn no_peer_can_make_a_clear_link_pass_for_a_hidden_one() {
        let onion = Class::new(Family::Tor, 0);
        assert_eq!(agree(Class::UDP, onion), None);
        assert_eq!(agree(Class::LAN, Class::LOOPBACK), None);
        assert_eq!(agree(onion, Class::UDP), None);
        assert_eq!(agree(Class::LAN, Class::UDP), Some(Class::UDP));
        assert_eq!(agree(Class::UDP, Class::LAN), Some(Class::UDP));
        assert_eq!(agree(onion, onion), Some(onion));
    }
}
