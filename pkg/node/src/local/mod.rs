//! One hosted node: an address with its router, its end-to-end sessions, and its queues.

mod delivery;
mod events;
mod shared;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{ApiError, Code, Kind};
use byway_identity::{Addr, Entropy, Prefix, PublicKey};
use byway_link::Watch;
use byway_network::{Constraint, Hop, Network, Outbox, Plane, To};
use byway_session::{Endpoint, Event, SessionId, SessionStatus};

use crate::control::Control;
use crate::flow::cost;
use crate::level::Levels;
use crate::remote::{Held, Ping, Remote};
use crate::types::{Answer, Disposition, Output, Question, SendRequest};
use crate::way::Way;

/// Remote nodes that one local node keeps in mind.
pub(crate) const REMOTES_MAX: usize = 4_096;
/// A remote node without a session and without payloads is forgotten after this.
const REMOTE_LIFE: Duration = Duration::from_secs(600);
/// Questions that wait for an answer.
const QUESTIONS_MAX: usize = 1_024;
/// The network is asked again after this.
const FIND_PAUSE: Duration = Duration::from_millis(200);
/// After a handshake without an answer, the next one starts after this.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Ways change: the frame size of those in use is looked up again after this.
const REFRESH: Duration = Duration::from_secs(1);

/// Effects of a call that reach beyond the node itself.
#[derive(Default)]
pub(crate) struct Effects {
    /// Frames to neighbours: other nodes of this daemon, or peers.
    pub(crate) frames: Vec<Frame>,
    /// Ways whose frame size is wanted: local node, remote node, plane.
    pub(crate) sizes: Vec<(Addr, Addr, Plane)>,
    /// What the driver is to do.
    pub(crate) outputs: Vec<Output>,
}

/// A frame of the network, on its way to a neighbour.
pub(crate) struct Frame {
    /// The hosted node that sends it.
    pub(crate) from: Addr,
    /// The neighbour.
    pub(crate) hop: Hop,
    pub(crate) bytes: Bytes,
    /// Behind so many bytes a frame of a session with the neighbour itself follows, which may as well go without them.
    pub(crate) bare: Option<usize>,
}

/// What a node counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounters {
    /// Payloads sent, and their bytes.
    pub sent: (u64, u64),
    /// Payloads received, and their bytes.
    pub received: (u64, u64),
    /// Payloads that waited in vain for a way.
    pub expired: u64,
    /// Packets that found a full queue.
    pub overflow: u64,
    /// Messages of senders that ignored their window.
    pub pressed: u64,
    /// End-to-end frames that had no way.
    pub unroutable: u64,
    /// Frames of neighbours that the router refused.
    pub refused: u64,
    /// Control frames that were none.
    pub malformed: u64,
    /// Frames that the routing protocol sent to neighbours, and their bytes, by the low four bits of their first byte:
    /// what kind they are, which each protocol says for itself.
    pub routed: [(u64, u64); 16],
}

struct Pending {
    id: u64,
    prefix: Prefix,
    by: Constraint,
    until: Instant,
    next: Instant,
}

/// See the module.
pub(crate) struct Local {
    pub(crate) addr: Addr,
    pub(crate) public: PublicKey,
    pub(crate) router: Box<dyn Network>,
    pub(crate) counters: NodeCounters,
    endpoint: Endpoint<Way>,
    digest: [u8; 32],
    remotes: HashMap<(Addr, Plane), Remote>,
    pending: Vec<Pending>,
    entropy: Box<dyn Entropy>,
    outbox: Outbox,
    events: Vec<Event<Way>>,
    refresh_at: Option<Instant>,
    /// Remote nodes that gave way to others, until the driver is told.
    forgotten: Vec<(Addr, Plane)>,
    /// What threads have done in its sessions.
    watched: HashMap<SessionId, (Addr, Plane, Watch)>,
    /// Frames and bytes of payload that threads have counted, and that are counted here as well, if at all.
    handed: (u64, u64),
}

impl Local {
    pub(crate) fn new(
        public: PublicKey,
        router: Box<dyn Network>,
        endpoint: Endpoint<Way>,
        entropy: Box<dyn Entropy>,
    ) -> Self {
        Self {
            addr: public.addr(),
            public,
            router,
            counters: NodeCounters::default(),
            digest: endpoint.record_digest(),
            endpoint,
            remotes: HashMap::new(),
            pending: Vec::new(),
            entropy,
            outbox: Outbox::default(),
            events: Vec::new(),
            refresh_at: None,
            forgotten: Vec::new(),
            watched: HashMap::new(),
            handed: (0, 0),
        }
    }

    /// Lets `act` tell the router something, then does what follows.
    pub(crate) fn route(
        &mut self,
        now: Instant,
        effects: &mut Effects,
        act: impl FnOnce(&mut dyn Network, &mut Outbox),
    ) {
        act(&mut *self.router, &mut self.outbox);
        self.pump(now, effects);
    }

    /// A neighbour sent a frame.
    pub(crate) fn frame(&mut self, now: Instant, hop: Hop, frame: Bytes, effects: &mut Effects) {
        if let Err(error) = self.router.handle_below(now, hop, frame, &mut self.outbox) {
            self.counters.refused += 1;
            tracing::trace!(node = ?self.addr, peer = ?hop.peer, %error, "refused a neighbour's frame");
        }
        self.pump(now, effects);
    }

    /// Sends a payload, or holds it until there is a session and room.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        request: SendRequest,
        effects: &mut Effects,
    ) -> Result<Disposition, ApiError> {
        if request.to == self.addr {
            self.count_sent(request.payload.len());
            self.deliver(self.addr, request.plane, request.kind, request.payload, effects);
            return Ok(Disposition::Sent);
        }
        let remote = self.remote(now, request.to, request.plane)?;
        if let (Some(session), false) = (remote.session, remote.holds()) {
            if request.kind == Kind::Packet || remote.send_window.open() {
                self.seal(now, request.to, request.plane, session, request.kind, &request.payload);
                self.pump(now, effects);
                return Ok(Disposition::Sent);
            }
            remote.send_window.wait(now);
        }
        let kind = request.kind;
        let held = Held { kind, payload: request.payload, level: request.level, until: request.until };
        if !remote.hold(now, held) {
            self.counters.overflow += u64::from(kind == Kind::Packet);
            return Err(ApiError::new(Code::Busy, format!("the queue to {} is full", request.to)));
        }
        self.seek(now, request.to, request.plane);
        self.flush(now, request.to, request.plane, effects);
        self.pump(now, effects);
        Ok(Disposition::Held)
    }

    /// Asks for a node, or for a sign of life of one.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        id: u64,
        question: Question,
        until: Instant,
        effects: &mut Effects,
    ) {
        let refusal = match question {
            Question::Find { prefix, .. } if prefix.bits() == 0 => {
                Some(ApiError::new(Code::BadRequest, "an empty prefix fits every address"))
            }
            Question::Find { prefix, .. } if prefix.matches(&self.addr) => {
                effects.outputs.push(Output::Answer { id, answer: Ok(Answer::Found(self.public)) });
                None
            }
            Question::Find { prefix, plane } => self.ask_network(now, id, prefix, plane, until),
            Question::Ping { to, .. } if to == self.addr => {
                effects.outputs.push(Output::Answer { id, answer: Ok(Answer::Pong(Duration::ZERO)) });
                None
            }
            Question::Ping { to, plane } => self.ask_remote(now, id, to, plane, until),
        };
        if let Some(error) = refusal {
            effects.outputs.push(Output::Answer { id, answer: Err(error) });
        }
        self.pump(now, effects);
    }

    fn ask_network(
        &mut self,
        now: Instant,
        id: u64,
        prefix: Prefix,
        plane: Plane,
        until: Instant,
    ) -> Option<ApiError> {
        if self.pending.len() == QUESTIONS_MAX {
            return Some(ApiError::new(Code::Busy, "too many questions wait for an answer"));
        }
        let by = Constraint::in_plane(plane);
        self.pending.push(Pending { id, prefix, by: by.clone(), until, next: now + FIND_PAUSE });
        self.router.find(now, prefix, &by, &mut self.outbox);
        None
    }

    fn ask_remote(
        &mut self,
        now: Instant,
        id: u64,
        to: Addr,
        plane: Plane,
        until: Instant,
    ) -> Option<ApiError> {
        let remote = match self.remote(now, to, plane) {
            Ok(remote) => remote,
            Err(error) => return Some(error),
        };
        if !remote.ask(Ping { question: id, sent: None, until }) {
            return Some(ApiError::new(Code::Busy, "too many pings wait for an answer"));
        }
        self.seek(now, to, plane);
        self.send_pings(now, to, plane);
        None
    }

    /// The application took messages of `from` that count `cost`.
    pub(crate) fn consumed(
        &mut self,
        now: Instant,
        from: Addr,
        plane: Plane,
        cost: u64,
        effects: &mut Effects,
    ) {
        let Some(remote) = self.remotes.get_mut(&(from, plane)) else { return };
        if let (Some(window), Some(session)) = (remote.receive_window.consumed(cost), remote.session) {
            self.control(now, session, Control::Window(window));
            self.pump(now, effects);
        }
    }

    /// The way to a remote node carries `mtu` bytes in one frame.
    pub(crate) fn set_mtu(&mut self, remote: Addr, plane: Plane, mtu: u16, effects: &mut Effects) {
        let Some(state) = self.remotes.get_mut(&(remote, plane)) else { return };
        if state.mtu == mtu {
            return;
        }
        state.mtu = mtu;
        if let Some(session) = state.session {
            let to = self.endpoint.place(session).and_then(|way| way.to).unwrap_or(To::Node(remote));
            self.endpoint.set_place(session, Way { plane, to: Some(to), mtu });
            self.tell_ready(remote, plane, effects);
        }
    }

    /// Does what is due.
    pub(crate) fn heartbeat(&mut self, now: Instant, effects: &mut Effects) {
        self.endpoint.heartbeat(now, &mut self.events);
        self.router.heartbeat(now, &mut self.outbox);
        let digest = self.endpoint.record_digest();
        if digest != self.digest {
            self.digest = digest;
            self.router.set_digest(now, digest, &mut self.outbox);
        }
        self.repeat_questions(now, effects);
        let due: Vec<_> = self
            .remotes
            .iter()
            .filter(|(_, remote)| remote.next_heartbeat().is_some_and(|at| at <= now))
            .map(|(key, _)| *key)
            .collect();
        for (addr, plane) in due {
            self.attend(now, addr, plane, effects);
        }
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh(now, effects);
        }
        self.pump(now, effects);
    }

    /// When [`Local::heartbeat`] should be called next.
    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        let remotes = self.remotes.values().filter_map(Remote::next_heartbeat).min();
        let pending = self.pending.iter().map(|pending| pending.next.min(pending.until)).min();
        [self.endpoint.next_heartbeat(), self.router.next_heartbeat(), remotes, pending, self.refresh_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The levels were raised: what is held and may not leave any more by the plane that it waits for is given up.
    pub(crate) fn restrict(&mut self, levels: &Levels, effects: &mut Effects) {
        for ((addr, plane), remote) in &mut self.remotes {
            for held in remote.take_out(|held| !levels.allows(held.level, *plane)) {
                self.counters.expired += 1;
                if held.kind == Kind::Message {
                    let cost = cost(held.payload.len());
                    let (local, remote, plane) = (self.addr, *addr, *plane);
                    effects.outputs.push(Output::Released { local, remote, plane, cost });
                }
            }
        }
    }

    pub(crate) fn set_clock(&mut self, now: Instant, unix: u64) {
        self.endpoint.set_clock(now, unix);
    }

    /// Tells the remote ends of all sessions that it is over.
    pub(crate) fn close(&mut self, now: Instant, effects: &mut Effects) {
        let sessions: Vec<_> = self.remotes.values().filter_map(|remote| remote.session).collect();
        for session in sessions {
            self.endpoint.close(now, session, &mut self.events);
        }
        self.pump(now, effects);
    }

    /// Payloads that wait for a way.
    pub(crate) fn held(&self) -> usize {
        self.remotes.values().map(Remote::held).sum()
    }

    /// Sessions, with the round-trip time where it was measured.
    pub(crate) fn sessions(&self) -> Vec<(SessionStatus, Option<Duration>)> {
        let rtt = |status: &SessionStatus| {
            let plane = Plane::from_byte(status.plane)?;
            let remote = self.remotes.get(&(status.remote, plane))?;
            remote.rtt.or(remote.send_window.rtt())
        };
        self.endpoint
            .sessions()
            .into_iter()
            .map(|status| (rtt(&status), status))
            .map(|(rtt, status)| (status, rtt))
            .collect()
    }

    pub(crate) fn session_counters(&self) -> byway_session::Counters {
        self.endpoint.counters()
    }

    /// What is kept of `addr` in `plane`. When too many are kept, the one longest out of use gives way, those first that were
    /// never spoken to: whoever makes addresses by the thousand pushes out his own.
    pub(super) fn remote(&mut self, now: Instant, addr: Addr, plane: Plane) -> Result<&mut Remote, ApiError> {
        if self.remotes.len() >= REMOTES_MAX && !self.remotes.contains_key(&(addr, plane)) {
            let idle = |remote: &Remote| !remote.holds() && remote.pings.is_empty();
            let least = self.remotes.iter().filter(|(_, remote)| idle(remote));
            let least = least.min_by_key(|(_, remote)| (remote.spoken_to, remote.used)).map(|(key, _)| *key);
            let busy = || ApiError::new(Code::Busy, "this node talks to too many others at once");
            let key = least.ok_or_else(busy)?;
            if let Some(session) = self.remotes.remove(&key).and_then(|remote| remote.session) {
                self.endpoint.close(now, session, &mut self.events);
            }
            self.forgotten.push(key);
        }
        let entropy = &mut self.entropy;
        self.refresh_at.get_or_insert(now + REFRESH);
        Ok(self.remotes.entry((addr, plane)).or_insert_with(|| Remote::new(now, entropy.next_u32())))
    }
}

#[cfg(test)]
mod tests {
    use byway_identity::{SeededEntropy, SigningKey, labelled_hash};
    use byway_network::{NetworkId, Setup};

    use super::*;

    fn local(now: Instant) -> Local {
        let key = SigningKey::from_seed(&[1; 32]);
        let config = byway_session::Config {
            usage: byway_session::Use::EndToEnd,
            key: key.clone(),
            group_key: None,
            boot: 1,
            unix: 1_800_000_000,
            ratchet: Duration::from_secs(120),
            ciphers: byway_session::Ciphers::AES,
        };
        let endpoint = Endpoint::new(now, config, Box::new(SeededEntropy::new(1)));
        let setup = Setup {
            key: key.clone(),
            network: NetworkId::new("test", None),
            digest: endpoint.record_digest(),
            boot: 1,
            leaf: false,
            entropy: Box::new(SeededEntropy::new(2)),
        };
        let router = Box::new(byway_beacon::Beacon::new(now, setup));
        Local::new(key.public(), router, endpoint, Box::new(SeededEntropy::new(3)))
    }

    fn stranger(number: u32) -> Addr {
        Addr::from_bytes(labelled_hash("test", &[&number.to_be_bytes()]))
    }

    #[test]
    fn strangers_by_the_thousand_push_out_each_other_and_not_whom_we_spoke_to() {
        let now = Instant::now();
        let mut local = local(now);
        let friend = stranger(u32::MAX);
        local.remote(now, friend, Plane::Any).expect("room").sent(now);
        for number in 0..3 * REMOTES_MAX as u32 {
            let now = now + Duration::from_millis(number.into());
            local.remote(now, stranger(number), Plane::Any).expect("somebody gives way");
        }
        assert_eq!(local.remotes.len(), REMOTES_MAX);
        assert!(local.remotes.contains_key(&(friend, Plane::Any)));
        let mut effects = Effects::default();
        local.pump(now, &mut effects);
        let forgotten =
            effects.outputs.iter().filter(|output| matches!(output, Output::Forgotten { .. })).count();
        assert_eq!(forgotten, 2 * REMOTES_MAX + 1);
    }
}
