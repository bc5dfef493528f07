//! One hosted node: an address with its router, its end-to-end sessions, and its queues.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_api::{ApiError, Code, Kind};
use byway_identity::{Addr, Entropy, Prefix, PublicKey};
use byway_network::{Action, Constraint, Found, Hop, Network, Outbox, Plane, To, Unroutable};
use byway_session::{CloseReason, Connect, Endpoint, Event, FrameKind, SessionId, SessionStatus};

use crate::control::{Control, Mark};
use crate::core::{Answer, Disposition, Output, Question, SendRequest};
use crate::flow::cost;
use crate::remote::{Held, Ping, Remote, Stage, Vital};
use crate::way::{SAFE_MTU, Way};

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
    pub(crate) frames: Vec<(Addr, Hop, Bytes)>,
    /// Ways whose frame size is wanted: local node, remote node, plane.
    pub(crate) sizes: Vec<(Addr, Addr, Plane)>,
    /// What the driver is to do.
    pub(crate) outputs: Vec<Output>,
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
    /// End-to-end frames that had no way.
    pub unroutable: u64,
    /// Frames of neighbours that the router refused.
    pub refused: u64,
    /// Control frames that were none.
    pub malformed: u64,
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
        let held = Held { kind, payload: request.payload, until: request.until };
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

    /// Does what routers and sessions want done, until there is nothing more.
    fn pump(&mut self, now: Instant, effects: &mut Effects) {
        loop {
            let mut outbox = std::mem::take(&mut self.outbox);
            let mut events = std::mem::take(&mut self.events);
            if outbox.is_empty() && events.is_empty() {
                (self.outbox, self.events) = (outbox, events);
                return;
            }
            for action in outbox.drain() {
                self.on_action(now, action, effects);
            }
            for event in events.drain(..) {
                self.on_event(now, event, effects);
            }
            // Keep the larger buffers, unless the calls above have filled new ones.
            if self.outbox.is_empty() {
                self.outbox = outbox;
            }
            if self.events.is_empty() {
                self.events = events;
            }
        }
    }

    fn on_action(&mut self, now: Instant, action: Action, effects: &mut Effects) {
        match action {
            Action::Send { hop, frame } => effects.frames.push((self.addr, hop, frame)),
            Action::Deliver { plane, payload, back } => {
                let payload = payload.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                self.endpoint.handle(now, Way::back(plane, back), payload, &mut self.events);
            }
            Action::Found(found) => self.on_found(now, &found, effects),
            Action::Unroutable { to, why } => self.on_unroutable(to, why),
        }
    }

    fn on_event(&mut self, now: Instant, event: Event<Way>, effects: &mut Effects) {
        match event {
            Event::Transmit { place, bytes } => self.transmit(now, place, bytes),
            Event::Up { session, remote, place, .. } => {
                self.on_up(now, session, remote, place.plane, effects)
            }
            Event::Received { session, remote, place, kind, payload } => {
                self.on_received(now, (session, remote, place.plane), kind, payload, effects);
            }
            Event::Down { remote, plane, session, why } => {
                if let Some(plane) = Plane::from_byte(plane) {
                    self.on_down(now, session, remote, plane, why, effects);
                }
            }
            Event::Failed { remote, place, why } => self.on_failed(now, remote, place.plane, why),
            Event::Early { .. } | Event::Moved { .. } => {}
        }
    }

    fn transmit(&mut self, now: Instant, way: Way, bytes: Bytes) {
        let Some(to) = way.to else {
            self.counters.unroutable += 1;
            return;
        };
        let by = Constraint::in_plane(way.plane);
        if let Err(why) = self.router.handle_above(now, to, bytes, &by, &mut self.outbox) {
            self.on_unroutable(to, why);
        }
    }

    fn on_unroutable(&mut self, to: To, why: Unroutable) {
        self.counters.unroutable += 1;
        tracing::trace!(node = ?self.addr, ?to, %why, "an end-to-end frame has no way");
    }

    fn on_found(&mut self, now: Instant, found: &Found, effects: &mut Effects) {
        let addr = found.key.addr();
        self.pending.retain(|pending| {
            let answers = pending.prefix.matches(&addr);
            if answers {
                effects.outputs.push(Output::Answer { id: pending.id, answer: Ok(Answer::Found(found.key)) });
            }
            !answers
        });
        for plane in Plane::ALL {
            let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { continue };
            if let Stage::Finding(_) = remote.stage {
                remote.stage = Stage::Connecting;
                let place = Way::to(plane, addr, remote.mtu);
                let connect = Connect { remote: addr, place, token: None, digest: Some(found.digest) };
                self.endpoint.connect(now, connect, &mut self.events);
                effects.sizes.push((self.addr, addr, plane));
            }
        }
    }

    fn on_up(&mut self, now: Instant, session: SessionId, addr: Addr, plane: Plane, effects: &mut Effects) {
        let Ok(remote) = self.remote(now, addr, plane) else {
            self.endpoint.close(now, session, &mut self.events);
            return;
        };
        remote.session = Some(session);
        remote.stage = Stage::Rest;
        remote.heard(now);
        let mtu = remote.mtu;
        let to = self.endpoint.place(session).and_then(|way| way.to).unwrap_or(To::Node(addr));
        self.endpoint.set_place(session, Way { plane, to: Some(to), mtu });
        effects.sizes.push((self.addr, addr, plane));
        self.refresh_at.get_or_insert(now + REFRESH);
        self.tell_ready(addr, plane, effects);
        self.send_pings(now, addr, plane);
        self.flush(now, addr, plane, effects);
    }

    fn on_down(
        &mut self,
        now: Instant,
        session: SessionId,
        addr: Addr,
        plane: Plane,
        why: CloseReason,
        effects: &mut Effects,
    ) {
        tracing::debug!(node = ?self.addr, remote = ?addr, %why, "an end-to-end session ended");
        let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
        if remote.session.is_some_and(|current| current != session) {
            return;
        }
        remote.session = None;
        self.tell_ready(addr, plane, effects);
        self.seek(now, addr, plane);
    }

    fn on_failed(&mut self, now: Instant, addr: Addr, plane: Plane, why: CloseReason) {
        tracing::debug!(node = ?self.addr, remote = ?addr, %why, "an end-to-end handshake failed");
        if let Some(remote) = self.remotes.get_mut(&(addr, plane)) {
            remote.stage =
                if remote.wants_session() { Stage::Finding(now + RETRY_PAUSE) } else { Stage::Rest };
        }
    }

    fn on_received(
        &mut self,
        now: Instant,
        (session, addr, plane): (SessionId, Addr, Plane),
        kind: FrameKind,
        payload: Bytes,
        effects: &mut Effects,
    ) {
        let Ok(remote) = self.remote(now, addr, plane) else { return };
        remote.heard(now);
        match kind {
            FrameKind::Message => {
                remote.receive_window.received(cost(payload.len()));
                self.deliver(addr, plane, Kind::Message, payload, effects);
            }
            FrameKind::Packet => self.deliver(addr, plane, Kind::Packet, payload, effects),
            FrameKind::Control => match Control::parse(&payload) {
                Ok(control) => self.on_control(now, (session, addr, plane), control, effects),
                Err(_) => self.counters.malformed += 1,
            },
            _ => self.counters.malformed += 1,
        }
    }

    fn on_control(
        &mut self,
        now: Instant,
        (session, addr, plane): (SessionId, Addr, Plane),
        control: Control,
        effects: &mut Effects,
    ) {
        let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
        match control {
            Control::Ping(id) => self.control(now, session, Control::Pong(id)),
            Control::Pong(id) => {
                if let Some(at) =
                    remote.pings.iter().position(|ping| ping.question == id && ping.sent.is_some())
                {
                    let ping = remote.pings.swap_remove(at);
                    let rtt = now.saturating_duration_since(ping.sent.unwrap_or(now));
                    remote.rtt = Some(remote.rtt.map_or(rtt, |known| (known * 7 + rtt) / 8));
                    effects.outputs.push(Output::Answer { id, answer: Ok(Answer::Pong(rtt)) });
                }
            }
            Control::Mark(mark) => {
                let window = remote.receive_window.mark(mark);
                self.control(now, session, Control::Window(window));
            }
            Control::Window(window) => {
                remote.send_window.window(now, window);
                self.flush(now, addr, plane, effects);
            }
        }
    }

    /// Starts to look for a session if one is wanted.
    fn seek(&mut self, now: Instant, addr: Addr, plane: Plane) {
        let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
        if remote.stage == Stage::Rest && remote.wants_session() {
            remote.stage = Stage::Finding(now + FIND_PAUSE);
            self.router.find(now, Prefix::whole(addr), &Constraint::in_plane(plane), &mut self.outbox);
        }
    }

    /// Sends what waits, as far as session and window allow.
    fn flush(&mut self, now: Instant, addr: Addr, plane: Plane, effects: &mut Effects) {
        loop {
            let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
            let Some(session) = remote.session else { return };
            let Some(held) = remote.next() else {
                if remote.holds() {
                    remote.send_window.wait(now);
                } else {
                    let mark = remote.send_window.drained(now);
                    remote.send_window.rest();
                    self.mark(now, session, mark);
                }
                return;
            };
            self.seal(now, addr, plane, session, held.kind, &held.payload);
            self.release(addr, plane, &held, effects);
        }
    }

    fn seal(
        &mut self,
        now: Instant,
        addr: Addr,
        plane: Plane,
        session: SessionId,
        kind: Kind,
        payload: &[u8],
    ) {
        let frame_kind = match kind {
            Kind::Message => FrameKind::Message,
            Kind::Packet => FrameKind::Packet,
        };
        if let Err(error) = self.endpoint.send(now, session, frame_kind, payload, &mut self.events) {
            tracing::debug!(node = ?self.addr, remote = ?addr, %error, "a payload was not sealed");
            return;
        }
        self.count_sent(payload.len());
        let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
        remote.sent(now);
        if kind == Kind::Message {
            let mark = remote.send_window.sent(now, cost(payload.len()));
            self.mark(now, session, mark);
        }
    }

    fn mark(&mut self, now: Instant, session: SessionId, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.control(now, session, Control::Mark(mark));
        }
    }

    fn control(&mut self, now: Instant, session: SessionId, control: Control) {
        // A session that has ended meanwhile needs no control frame.
        let _ended = self.endpoint.send(now, session, FrameKind::Control, &control.emit(), &mut self.events);
    }

    fn send_pings(&mut self, now: Instant, addr: Addr, plane: Plane) {
        let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
        let Some(session) = remote.session else { return };
        let mut ids = Vec::new();
        for ping in remote.pings.iter_mut().filter(|ping| ping.sent.is_none()) {
            ping.sent = Some(now);
            ids.push(ping.question);
        }
        if !ids.is_empty() {
            remote.sent(now);
        }
        for id in ids {
            self.control(now, session, Control::Ping(id));
        }
    }

    /// What is due for one remote node.
    fn attend(&mut self, now: Instant, addr: Addr, plane: Plane, effects: &mut Effects) {
        let key = (addr, plane);
        while let Some(held) = self.remotes.get_mut(&key).and_then(|remote| remote.expired(now)) {
            self.counters.expired += 1;
            self.release(addr, plane, &held, effects);
        }
        let Some(remote) = self.remotes.get_mut(&key) else { return };
        let no_session = remote.session.is_none();
        remote.pings.retain(|ping| {
            let late = ping.until <= now;
            if late {
                effects
                    .outputs
                    .push(Output::Answer { id: ping.question, answer: Err(in_vain(addr, no_session)) });
            }
            !late
        });
        if let Stage::Finding(at) = remote.stage
            && at <= now
        {
            remote.stage =
                if remote.wants_session() { Stage::Finding(now + FIND_PAUSE) } else { Stage::Rest };
            if remote.stage != Stage::Rest {
                self.router.find(now, Prefix::whole(addr), &Constraint::in_plane(plane), &mut self.outbox);
            }
        }
        let Some(remote) = self.remotes.get_mut(&key) else { return };
        let Some(session) = remote.session else { return };
        match remote.vital(now) {
            Some(Vital::Probe) => {
                let id = self.entropy.next_u64() | 1 << 63;
                self.control(now, session, Control::Ping(id));
            }
            Some(Vital::Dead) => {
                tracing::debug!(node = ?self.addr, remote = ?addr, "an end-to-end session does not answer");
                self.endpoint.close(now, session, &mut self.events);
                return;
            }
            None => {}
        }
        let Some(remote) = self.remotes.get_mut(&key) else { return };
        let mark = if remote.holds() { remote.send_window.timeout(now) } else { None };
        if !remote.holds() {
            remote.send_window.rest();
        }
        self.mark(now, session, mark);
    }

    fn repeat_questions(&mut self, now: Instant, effects: &mut Effects) {
        self.pending.retain(|pending| {
            let late = pending.until <= now;
            if late {
                let error = ApiError::new(Code::Unknown, "no node with such an address answered in time");
                effects.outputs.push(Output::Answer { id: pending.id, answer: Err(error) });
            }
            !late
        });
        for pending in self.pending.iter_mut().filter(|pending| pending.next <= now) {
            pending.next = now + FIND_PAUSE;
            self.router.find(now, pending.prefix, &pending.by, &mut self.outbox);
        }
    }

    /// Looks up the frame sizes of ways in use, and forgets remote nodes that are not.
    fn refresh(&mut self, now: Instant, effects: &mut Effects) {
        self.remotes.retain(|(addr, plane), remote| {
            let idle = remote.session.is_none() && !remote.wants_session();
            let keep = !idle || remote.used + REMOTE_LIFE > now;
            if !keep {
                effects.outputs.push(Output::Forgotten { local: self.addr, remote: *addr, plane: *plane });
            }
            keep
        });
        for ((addr, plane), remote) in &self.remotes {
            if remote.session.is_some() && remote.used + REFRESH * 2 > now {
                effects.sizes.push((self.addr, *addr, *plane));
            }
        }
        self.refresh_at = if self.remotes.is_empty() { None } else { Some(now + REFRESH) };
    }

    fn remote(&mut self, now: Instant, addr: Addr, plane: Plane) -> Result<&mut Remote, ApiError> {
        if self.remotes.len() >= REMOTES_MAX && !self.remotes.contains_key(&(addr, plane)) {
            return Err(ApiError::new(Code::Busy, "this node talks to too many others at once"));
        }
        let entropy = &mut self.entropy;
        self.refresh_at.get_or_insert(now + REFRESH);
        Ok(self.remotes.entry((addr, plane)).or_insert_with(|| Remote::new(now, entropy.next_u32())))
    }

    fn tell_ready(&self, addr: Addr, plane: Plane, effects: &mut Effects) {
        let Some(remote) = self.remotes.get(&(addr, plane)) else { return };
        let mtu = remote
            .session
            .and_then(|session| self.endpoint.payload_mtu(session))
            .unwrap_or(usize::from(SAFE_MTU) - Endpoint::<Way>::OVERHEAD);
        effects.outputs.push(Output::Ready {
            local: self.addr,
            remote: addr,
            plane,
            ready: remote.session.is_some(),
            mtu,
        });
    }

    fn release(&self, addr: Addr, plane: Plane, held: &Held, effects: &mut Effects) {
        if held.kind == Kind::Message {
            let cost = cost(held.payload.len());
            effects.outputs.push(Output::Released { local: self.addr, remote: addr, plane, cost });
        }
    }

    fn deliver(&mut self, from: Addr, plane: Plane, kind: Kind, payload: Bytes, effects: &mut Effects) {
        self.counters.received.0 += 1;
        self.counters.received.1 += payload.len() as u64;
        effects.outputs.push(Output::Deliver { local: self.addr, from, plane, kind, payload });
    }

    fn count_sent(&mut self, bytes: usize) {
        self.counters.sent.0 += 1;
        self.counters.sent.1 += bytes as u64;
    }
}

fn in_vain(addr: Addr, no_session: bool) -> ApiError {
    if no_session {
        ApiError::new(Code::NoWay, format!("no way to {addr} was found in time"))
    } else {
        ApiError::new(Code::Down, format!("{addr} did not answer in time"))
    }
}
