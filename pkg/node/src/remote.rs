//! What a local node keeps of one remote node in one plane: the queue to it, its session, and signs of life.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{Kind, ManCon};
use byway_link::Carried;
use byway_session::SessionId;

use crate::flow::{ReceiveWindow, SendWindow, cost};
use crate::way::SAFE_MTU;

/// Messages held for one remote node, by cost. Senders wait outside for more room.
pub(crate) const HELD_MAX: u64 = 2 * 1024 * 1024;
/// Packets held for one remote node while a session is made.
const HELD_PACKETS_MAX: usize = 16;
/// How long a packet is held.
const HELD_PACKET_LIFE: Duration = Duration::from_secs(3);
/// Pings that wait for an answer from one remote node.
const PINGS_MAX: usize = 64;
/// An unanswered session is asked for a sign of life after this, or three round trips if that is longer.
const SILENCE: Duration = Duration::from_secs(1);
const PROBE_PAUSE: Duration = Duration::from_millis(300);
const PROBES: u8 = 3;
/// How often threads are looked at while they carry something.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// How far the way to a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing is wanted, or a session is up.
    Rest,
    /// The network is asked for the node's key, again at this time.
    Finding(Instant),
    /// A handshake is under way.
    Connecting,
}

/// A payload that waits.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
    pub(crate) level: ManCon,
    pub(crate) until: Instant,
}

/// A ping that was asked for.
#[derive(Debug)]
pub(crate) struct Ping {
    pub(crate) question: u64,
    pub(crate) sent: Option<Instant>,
    pub(crate) until: Instant,
}

/// What happened to a session that does not answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Vital {
    /// It should be asked for a sign of life.
    Probe,
    /// It is dead.
    Dead,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) stage: Stage,
    pub(crate) session: Option<SessionId>,
    pub(crate) send_window: SendWindow,
    pub(crate) receive_window: ReceiveWindow,
    pub(crate) pings: Vec<Ping>,
    /// Largest payload that fits one frame.
    pub(crate) mtu: u16,
    pub(crate) used: Instant,
    /// Whether the local side ever sent it something: such a remote node is not forgotten for a stranger.
    pub(crate) spoken_to: bool,
    pub(crate) rtt: Option<Duration>,
    held: VecDeque<Held>,
    held_cost: u64,
    held_packets: usize,
    /// No held payload expires before this.
    earliest: Option<Instant>,
    unanswered_since: Option<Instant>,
    heard_at: Instant,
    probes: u8,
    probed: Option<Instant>,
}

impl Remote {
    pub(crate) fn new(now: Instant, stream: u32) -> Self {
        Self {
            stage: Stage::Rest,
            session: None,
            send_window: SendWindow::new(stream),
            receive_window: ReceiveWindow::default(),
            pings: Vec::new(),
            mtu: SAFE_MTU,
            used: now,
            spoken_to: false,
            rtt: None,
            held: VecDeque::new(),
            held_cost: 0,
            held_packets: 0,
            earliest: None,
            unanswered_since: None,
            heard_at: now,
            probes: 0,
            probed: None,
        }
    }

    /// Keeps a payload until it can leave; false when there is no room.
    pub(crate) fn hold(&mut self, now: Instant, mut held: Held) -> bool {
        match held.kind {
            Kind::Packet if self.held_packets == HELD_PACKETS_MAX => return false,
            Kind::Packet => {
                self.held_packets += 1;
                held.until = held.until.min(now + HELD_PACKET_LIFE);
            }
            Kind::Message if self.held_cost + cost(held.payload.len()) > HELD_MAX => return false,
            Kind::Message => {
                self.held_cost += cost(held.payload.len());
            }
        }
        self.earliest = Some(self.earliest.map_or(held.until, |earliest| earliest.min(held.until)));
        self.held.push_back(held);
        true
    }

    /// Whether payloads wait.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// How many payloads wait.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether somebody waits for a session.
    pub(crate) fn wants_session(&self) -> bool {
        self.session.is_none() && (self.holds() || !self.pings.is_empty())
    }

    /// The next payload that may leave: messages in their order while the window is open; packets do not wait for it.
    pub(crate) fn next(&mut self) -> Option<Held> {
        let front = self.held.front()?;
        if front.kind == Kind::Message && !self.send_window.open() {
            if self.held_packets == 0 {
                return None;
            }
            let at = self.held.iter().position(|held| held.kind == Kind::Packet)?;
            return self.take(at);
        }
        self.take(0)
    }

    fn take(&mut self, at: usize) -> Option<Held> {
        let held = self.held.remove(at)?;
        match held.kind {
            Kind::Message => self.held_cost -= cost(held.payload.len()),
            Kind::Packet => self.held_packets -= 1,
        }
        Some(held)
    }

    /// Takes out what `unwanted` says, in order.
    pub(crate) fn take_out(&mut self, unwanted: impl Fn(&Held) -> bool) -> Vec<Held> {
        let mut taken = Vec::new();
        while let Some(at) = self.held.iter().position(&unwanted) {
            taken.extend(self.take(at));
        }
        taken
    }

    /// Takes out what has waited too long.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Held> {
        if self.earliest? > now {
            return None;
        }
        let at = self.held.iter().position(|held| held.until <= now);
        if at.is_none() {
            self.earliest = self.held.iter().map(|held| held.until).min();
        }
        self.take(at?)
    }

    /// Adds a ping; false when too many wait.
    pub(crate) fn ask(&mut self, ping: Ping) -> bool {
        let room = self.pings.len() < PINGS_MAX;
        if room {
            self.pings.push(ping);
        }
        room
    }

    /// Something left that ought to be answered some time.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.used = now;
        self.spoken_to = true;
        self.unanswered_since.get_or_insert(now);
    }

    /// Something came.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.used = now;
        self.heard_at = now;
        self.unanswered_since = None;
        self.probes = 0;
        self.probed = None;
    }

    /// Threads have done this since the last look at them, at `since`.
    pub(crate) fn carried(&mut self, since: Instant, carried: &Carried) {
        let used = [carried.sent_at, carried.received_at].into_iter().flatten();
        self.used = used.fold(self.used, Instant::max);
        if let Some(at) = carried.received_at.filter(|at| carried.received.0 > 0 && *at > self.heard_at) {
            let used = self.used;
            self.heard(at);
            self.used = used;
        }
        if let Some(at) = carried.sent_at.filter(|at| carried.sent.0 > 0 && *at > self.heard_at) {
            self.spoken_to = true;
            // When the first of them left is not known: the earliest that it is likely to have been counts.
            let earliest = at.checked_sub(LOOK).unwrap_or(at).max(since).max(self.heard_at);
            self.unanswered_since.get_or_insert(earliest);
        }
    }

    fn next_vital(&self) -> Option<Instant> {
        let since = self.unanswered_since?;
        self.session?;
        Some(match self.probed {
            Some(at) => at + PROBE_PAUSE.max(self.rtt.unwrap_or_default() * 2),
            None => since + SILENCE.max(self.rtt.unwrap_or_default() * 3),
        })
    }

    /// Whether the session should be probed now, or is dead.
    pub(crate) fn vital(&mut self, now: Instant) -> Option<Vital> {
        if self.next_vital()? > now {
            return None;
        }
        if self.probes == PROBES {
            self.heard(now);
            return Some(Vital::Dead);
        }
        self.probes += 1;
        self.probed = Some(now);
        Some(Vital::Probe)
    }

    /// When something is due here next.
    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        let finding = match self.stage {
            Stage::Finding(at) => Some(at),
            _ => None,
        };
        let pings = self.pings.iter().map(|ping| ping.until).min();
        let window = if self.session.is_some() { self.send_window.next_timeout() } else { None };
        [finding, self.earliest, pings, window, self.next_vital()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(kind: Kind, length: usize, until: Instant) -> Held {
        Held { kind, payload: Bytes::from(vec![0; length]), level: ManCon::Low, until }
    }

    #[test]
    fn the_queue_is_bounded_for_messages_and_for_packets() {
        let now = Instant::now();
        let until = now + Duration::from_secs(60);
        let mut remote = Remote::new(now, 1);
        let messages =
            (0..1_000).take_while(|_| remote.hold(now, held(Kind::Message, 65_535, until))).count();
        assert_eq!(messages as u64, HELD_MAX / cost(65_535));
        let packets = (0..1_000).take_while(|_| remote.hold(now, held(Kind::Packet, 1_280, until))).count();
        assert_eq!(packets, HELD_PACKETS_MAX);
        assert!(remote.expired(now + HELD_PACKET_LIFE).is_some_and(|held| held.kind == Kind::Packet));
    }

    #[test]
    fn packets_pass_messages_that_wait_for_the_window() {
        let now = Instant::now();
        let mut remote = Remote::new(now, 1);
        while remote.send_window.open() {
            remote.send_window.sent(now, cost(1_280));
        }
        assert!(remote.hold(now, held(Kind::Message, 1, now + SILENCE)));
        assert!(remote.hold(now, held(Kind::Packet, 1, now + SILENCE)));
        assert_eq!(remote.next().map(|held| held.kind), Some(Kind::Packet));
        assert!(remote.next().is_none());
        assert_eq!(remote.held(), 1);
    }

    #[test]
    fn a_silent_session_is_probed_three_times_and_then_dead() {
        let mut now = Instant::now();
        let mut remote = Remote::new(now, 1);
        remote.session = Some(SessionId(1));
        remote.sent(now);
        assert_eq!(remote.vital(now), None);
        for _ in 0..3 {
            now = remote.next_heartbeat().expect("a probe is due");
            assert_eq!(remote.vital(now), Some(Vital::Probe));
        }
        now = remote.next_heartbeat().expect("the end is due");
        assert_eq!(remote.vital(now), Some(Vital::Dead));
        assert_eq!(remote.next_heartbeat(), None);
    }
}
