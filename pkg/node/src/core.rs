//! All of a daemon's nodes and links as one value: time, frames and requests in, [`Output`]s out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use byway_api::{ApiError, Code, ManCon};
use byway_identity::{Addr, Entropy, SigningKey};
use byway_link::{Action, Event, LINK_TAG, PeerConfig, Profile, Scheme, TransportId};
use byway_network::{
    Class, ClassSet, Constraint, Cost, Family, Hop, Network, NetworkId, Plane, Route, Setup, To,
};
use byway_session::{Endpoint, Indices, SessionStatus, Use};

use crate::Levels;
use crate::local::{Effects, Frame, Local};
use crate::types::{Config, Disposition, NodeStatus, Output, Question, SendRequest};
use crate::way::SAFE_MTU;

/// All nodes and links of one daemon.
pub struct Core {
    config: Config,
    network: NetworkId,
    entropy: Box<dyn FnMut() -> Box<dyn Entropy> + Send>,
    links: byway_link::Core,
    families: ClassSet,
    main: Addr,
    locals: BTreeMap<Addr, Local>,
    /// When each hosted node wants its heartbeat.
    timers: BTreeSet<(Instant, Addr)>,
    scheduled: BTreeMap<Addr, Instant>,
    actions: Vec<Action>,
    unix: (Instant, u64),
    /// Whose receiver index is whose, in the whole daemon.
    indices: Indices,
    /// Hosted nodes by their tag in there.
    tags: HashMap<u32, Addr>,
    next_tag: u32,
    /// Grows with what the snapshot shows and nobody else counts.
    changes: u64,
    /// When threads were looked at last.
    looked: Option<Instant>,
}

/// Nodes that one daemon hosts.
pub const NODES_MAX: usize = 1_024;

/// Frame size between nodes of one daemon.
const LOOPBACK_MTU: u16 = 16 * 1024;

impl Core {
    /// A core with the daemon's own node, and no transport yet. `entropy` makes one generator for each part.
    pub fn new(
        now: Instant,
        config: Config,
        mut entropy: Box<dyn FnMut() -> Box<dyn Entropy> + Send>,
    ) -> Self {
        let network = NetworkId::new(&config.network, config.group_key.as_ref());
        let mut links = byway_link::Core::new(
            now,
            byway_link::Config {
                key: config.key.clone(),
                protocol: config.protocol.name(),
                network,
                group_key: config.group_key,
                accept: config.accept,
                boot: config.boot,
                unix: config.unix,
                ratchet: config.ratchet,
                ciphers: config.ciphers,
            },
            entropy(),
        );
        let indices = Indices::default();
        links.share_indices(indices.clone());
        let main = config.key.public().addr();
        let unix = (now, config.unix);
        let key = config.key.clone();
        let mut core = Self {
            config,
            network,
            entropy,
            links,
            families: ClassSet::EMPTY,
            main,
            locals: BTreeMap::new(),
            timers: BTreeSet::new(),
            scheduled: BTreeMap::new(),
            actions: Vec::new(),
            unix,
            indices,
            tags: HashMap::new(),
            next_tag: 0,
            changes: 0,
            looked: None,
        };
        let local = core.make_local(now, &key, false);
        core.locals.insert(main, local);
        core.schedule(main);
        core
    }

    /// The daemon's own node.
    pub fn main(&self) -> Addr {
        self.main
    }

    /// A transport is there from now on.
    pub fn add_transport(&mut self, now: Instant, id: TransportId, profile: Profile, schemes: &[Scheme]) {
        let mut families: Vec<_> =
            Family::ALL.into_iter().filter(|family| self.families.has(*family)).collect();
        families.push(profile.class.family());
        self.families = ClassSet::of(&families);
        self.links.add_transport(now, id, profile, schemes);
    }

    /// Dials the configured peers; call it once the transports are there.
    pub fn connect_peers(&mut self, now: Instant, out: &mut Vec<Output>) {
        for (peer, _) in std::mem::take(&mut self.config.peers) {
            self.add_peer(now, peer, out);
        }
    }

    /// Adds a peer, or replaces its endpoints.
    pub fn add_peer(&mut self, now: Instant, peer: PeerConfig, out: &mut Vec<Output>) {
        self.links.add_peer(now, peer, &mut self.actions);
        self.settle(now, Effects::default(), out);
    }

    /// Removes a peer and its links; false if there was none.
    pub fn remove_peer(&mut self, now: Instant, peer: &Addr, out: &mut Vec<Output>) -> bool {
        let known = self.links.remove_peer(now, peer, &mut self.actions);
        self.settle(now, Effects::default(), out);
        known
    }

    /// Opens a node of its own for `key`.
    ///
    /// # Errors
    ///
    /// [`Code::Conflict`] when it is open already, [`Code::Busy`] when there are [`NODES_MAX`].
    pub fn open(&mut self, now: Instant, key: &SigningKey, out: &mut Vec<Output>) -> Result<Addr, ApiError> {
        let addr = key.public().addr();
        if self.locals.contains_key(&addr) {
            return Err(ApiError::new(Code::Conflict, format!("the node {addr} is open already")));
        }
        if self.locals.len() >= NODES_MAX {
            return Err(ApiError::new(Code::Busy, "this daemon hosts as many nodes as it can"));
        }
        let local = self.make_local(now, key, true);
        self.locals.insert(addr, local);
        let mut effects = Effects::default();
        for (node, peer) in [(addr, self.main), (self.main, addr)] {
            let hop = Hop { peer, family: Family::Loopback };
            if let Some(local) = self.locals.get_mut(&node) {
                local.route(now, &mut effects, |router, outbox| {
                    router.peer_up(now, hop, Class::LOOPBACK, Cost::LOOPBACK, outbox);
                });
            }
        }
        self.schedule(addr);
        self.schedule(self.main);
        self.settle(now, effects, out);
        Ok(addr)
    }

    /// Ends a node; the daemon's own cannot be ended.
    pub fn close(&mut self, now: Instant, addr: &Addr, out: &mut Vec<Output>) {
        if *addr == self.main {
            return;
        }
        let mut effects = Effects::default();
        if let Some(local) = self.locals.get_mut(addr) {
            local.close(now, &mut effects);
        }
        self.settle(now, effects, out);
        let Some(gone) = self.locals.remove(addr) else { return };
        self.tags.retain(|_, tagged| tagged != addr);
        // What it counted is no more part of the sum.
        self.changes = self.changes.wrapping_add(gone.endpoint().generation()).wrapping_add(1);
        if let Some(at) = self.scheduled.remove(addr) {
            self.timers.remove(&(at, *addr));
        }
        let hop = Hop { peer: *addr, family: Family::Loopback };
        self.on_main(now, out, |router, outbox| router.peer_down(now, hop, outbox));
    }

    /// Sends a payload from the hosted node `from`.
    ///
    /// # Errors
    ///
    /// [`Code::Closed`] for an unknown node, [`Code::ManconUnsatisfied`] when no link may carry it, [`Code::Busy`]
    /// when the queue is full; then nothing was taken.
    pub fn send(
        &mut self,
        now: Instant,
        from: &Addr,
        request: SendRequest,
        out: &mut Vec<Output>,
    ) -> Result<Disposition, ApiError> {
        self.permit(request.level, request.plane, Some(&request.to))?;
        let local = self.locals.get_mut(from).ok_or_else(|| closed(from))?;
        let mut effects = Effects::default();
        let result = local.send(now, request, &mut effects);
        self.schedule(*from);
        self.settle(now, effects, out);
        result
    }

    /// Asks a question on behalf of the hosted node `from`; one [`Output::Answer`] with `id` follows.
    pub fn ask(
        &mut self,
        now: Instant,
        from: &Addr,
        (id, question, level): (u64, Question, ManCon),
        until: Instant,
        out: &mut Vec<Output>,
    ) {
        let (plane, target) = match question {
            Question::Find { prefix, plane } => (plane, prefix.addr()),
            Question::Ping { to, plane } => (plane, Some(to)),
        };
        let permitted = match self.hosted(&question) {
            true => Ok(()),
            false => self.permit(level, plane, target.as_ref()),
        };
        let mut effects = Effects::default();
        match (permitted, self.locals.get_mut(from)) {
            (Err(error), _) => out.push(Output::Answer { id, answer: Err(error) }),
            (Ok(()), None) => out.push(Output::Answer { id, answer: Err(closed(from)) }),
            (Ok(()), Some(local)) => local.ask(now, id, question, until, &mut effects),
        }
        self.schedule(*from);
        self.settle(now, effects, out);
    }

    /// The application behind `local` took messages of `from` that count `cost`.
    pub fn consumed(
        &mut self,
        now: Instant,
        local: &Addr,
        (from, plane): (Addr, Plane),
        cost: u64,
        out: &mut Vec<Output>,
    ) {
        let mut effects = Effects::default();
        if let Some(node) = self.locals.get_mut(local) {
            node.consumed(now, from, plane, cost, &mut effects);
        }
        self.settle(now, effects, out);
    }

    /// There was no room at `local` for a message of `from` that counts `cost`.
    pub fn dropped(&mut self, local: &Addr, (from, plane): (Addr, Plane), cost: u64) {
        if let Some(node) = self.locals.get_mut(local) {
            node.dropped(from, plane, cost);
        }
    }

    /// A transport tells something; frames may be hostile.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Output>) {
        if let Some(event) = self.handle_past_network(now, event, out) {
            self.links.handle(now, event, &mut self.actions);
            self.settle(now, Effects::default(), out);
        }
    }

    /// The wall clock is told again.
    pub fn set_clock(&mut self, now: Instant, unix: u64) {
        self.unix = (now, unix);
        self.links.set_clock(now, unix);
        for local in self.locals.values_mut() {
            local.set_clock(now, unix);
        }
    }

    /// Says goodbye to peers and to remote ends of sessions.
    pub fn shutdown(&mut self, now: Instant, out: &mut Vec<Output>) {
        let mut effects = Effects::default();
        for local in self.locals.values_mut() {
            local.close(now, &mut effects);
        }
        self.settle(now, effects, out);
        self.links.shutdown(now, &mut self.actions);
        self.settle(now, Effects::default(), out);
    }

    /// Does what is due at `now`.
    pub fn heartbeat(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.links.heartbeat(now, &mut self.actions);
        let mut effects = Effects::default();
        while let Some((at, addr)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            self.scheduled.remove(&addr);
            if let Some(local) = self.locals.get_mut(&addr) {
                local.heartbeat(now, &mut effects);
            }
            // What is due again at once waits for the next call, so that this loop ends.
            self.schedule_after(addr, now);
        }
        self.settle(now, effects, out);
    }

    /// When [`Core::heartbeat`] should be called next, if ever.
    pub fn next_heartbeat(&self) -> Option<Instant> {
        let local = self.timers.first().map(|(at, _)| *at);
        [local, self.links.next_heartbeat()].into_iter().flatten().min()
    }

    /// The levels of requests.
    pub fn levels(&self) -> Levels {
        self.config.levels
    }

    /// The one-hop core, for its state.
    pub fn links(&self) -> &byway_link::Core {
        &self.links
    }

    /// Ways that the daemon's own node knows.
    pub fn routes(&self, limit: usize) -> Vec<Route> {
        self.locals.get(&self.main).map_or_else(Vec::new, |local| local.router.routes(limit))
    }

    /// The neighbour that requests of the daemon's own node to `to` are handed to.
    pub fn next_hop(&self, to: Addr, plane: Plane) -> Option<Hop> {
        self.locals.get(&self.main)?.router.next_hop(To::Node(to), &Constraint::in_plane(plane))
    }

    /// Hosted nodes, the daemon's own among them.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.locals
            .values()
            .map(|local| NodeStatus {
                addr: local.addr,
                held: local.held(),
                counters: local.counters,
                sessions: local.session_counters(),
            })
            .collect()
    }

    /// End-to-end sessions with their round-trip times, by hosted node.
    pub fn sessions(&self) -> Vec<(Addr, SessionStatus, Option<Duration>)> {
        self.locals
            .values()
            .flat_map(|local| local.sessions().into_iter().map(|(status, rtt)| (local.addr, status, rtt)))
            .collect()
    }

    /// Whether a request of `level` for `target` may be carried by what is there.
    pub fn permit(&self, level: ManCon, plane: Plane, target: Option<&Addr>) -> Result<(), ApiError> {
        if target.is_some_and(|target| self.locals.contains_key(target)) {
            return Ok(());
        }
        self.config.levels.plane(level)?;
        if !self.config.levels.allows(level, plane) {
            return Err(ApiError::new(
                Code::ManconUnsatisfied,
                format!("requests at {level} are no longer allowed as they were; ask again"),
            ));
        }
        self.config.levels.unsatisfied(level, plane, self.families).map_or(Ok(()), Err)
    }

    fn hosted(&self, question: &Question) -> bool {
        match question {
            Question::Find { prefix, .. } => self.locals.keys().any(|addr| prefix.matches(addr)),
            Question::Ping { to, .. } => self.locals.contains_key(to),
        }
    }

    fn make_local(&mut self, now: Instant, key: &SigningKey, leaf: bool) -> Local {
        let unix = self.unix.1 + now.saturating_duration_since(self.unix.0).as_secs();
        // A node that is opened again has to beat what it said the last time.
        let since_start = now.saturating_duration_since(self.unix.0).as_millis() as u64;
        let boot = self.config.boot + since_start;
        let endpoint = Endpoint::new(
            now,
            byway_session::Config {
                usage: Use::EndToEnd,
                key: key.clone(),
                group_key: self.config.group_key,
                boot,
                unix,
                ratchet: self.config.ratchet,
                ciphers: self.config.ciphers,
            },
            (self.entropy)(),
        );
        let setup = Setup {
            key: key.clone(),
            network: self.network,
            digest: endpoint.record_digest(),
            boot,
            leaf,
            entropy: (self.entropy)(),
        };
        let router = self.config.protocol.start(now, setup);
        let mut local = Local::new(key.public(), router, endpoint, (self.entropy)());
        // Tags come round again only after four thousand million nodes, most of which have gone by then.
        while self.tags.contains_key(&self.next_tag) {
            self.next_tag = (self.next_tag + 1) % LINK_TAG;
        }
        self.tags.insert(self.next_tag, local.addr);
        local.share_indices(self.indices.clone(), self.next_tag);
        self.next_tag = (self.next_tag + 1) % LINK_TAG;
        local
    }

    pub(crate) fn locals(&self) -> impl Iterator<Item = &Local> {
        self.locals.values()
    }

    pub(crate) fn local(&self, addr: &Addr) -> Option<&Local> {
        self.locals.get(addr)
    }

    pub(crate) fn local_mut(&mut self, addr: &Addr) -> Option<&mut Local> {
        self.locals.get_mut(addr)
    }

    /// The hosted node whose receiver indices stand under `tag`.
    pub(crate) fn tagged(&mut self, tag: u32) -> Option<&mut Local> {
        self.locals.get_mut(self.tags.get(&tag)?)
    }

    pub(crate) fn indices(&self) -> &Indices {
        &self.indices
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Threads are looked at now; when they were last.
    pub(crate) fn looked(&mut self, now: Instant) -> Instant {
        self.looked.replace(now).unwrap_or(now)
    }

    pub(crate) fn on_links<T>(
        &mut self,
        now: Instant,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut byway_link::Core, &mut Vec<Action>) -> T,
    ) -> T {
        let result = act(&mut self.links, &mut self.actions);
        self.settle(now, Effects::default(), out);
        result
    }

    fn on_main(
        &mut self,
        now: Instant,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut dyn Network, &mut byway_network::Outbox),
    ) {
        let mut effects = Effects::default();
        if let Some(local) = self.locals.get_mut(&self.main) {
            local.route(now, &mut effects, act);
        }
        self.schedule(self.main);
        self.settle(now, effects, out);
    }

    /// Carries effects from node to node and to the links until nothing is left inside.
    pub(crate) fn settle(&mut self, now: Instant, mut effects: Effects, out: &mut Vec<Output>) {
        let mut frames = VecDeque::new();
        loop {
            out.append(&mut effects.outputs);
            frames.extend(effects.frames.drain(..));
            for (local, remote, plane) in std::mem::take(&mut effects.sizes) {
                let mtu = self.way_mtu(local, remote, plane);
                if let Some(node) = self.locals.get_mut(&local) {
                    node.set_mtu(remote, plane, mtu, &mut effects);
                }
            }
            if let Some(frame) = frames.pop_front() {
                self.carry(now, frame, &mut effects);
                continue;
            }
            if !self.actions.is_empty() {
                let mut actions = std::mem::take(&mut self.actions);
                for action in actions.drain(..) {
                    self.on_link_action(now, action, &mut effects, out);
                }
                if self.actions.is_empty() {
                    self.actions = actions;
                }
                continue;
            }
            if effects.outputs.is_empty() && effects.frames.is_empty() && effects.sizes.is_empty() {
                return;
            }
        }
    }

    /// A frame of the hosted node `from` goes to its neighbour: another node of this daemon, or a peer.
    fn carry(&mut self, now: Instant, frame: Frame, effects: &mut Effects) {
        let Frame { from, hop, bytes, bare } = frame;
        if hop.family == Family::Loopback
            && let Some(local) = self.locals.get_mut(&hop.peer)
        {
            local.frame(now, Hop { peer: from, family: Family::Loopback }, bytes, effects);
            self.schedule(hop.peer);
        } else if from == self.main {
            let bare = bare.and_then(|at| (at <= bytes.len()).then(|| bytes.slice(at..)));
            let left = bare.is_some_and(|bare| self.links.send_bare(now, hop, &bare, &mut self.actions));
            if !left {
                self.links.send(now, hop, &bytes, &mut self.actions);
            }
        }
    }

    fn on_link_action(&mut self, now: Instant, action: Action, effects: &mut Effects, out: &mut Vec<Output>) {
        let Some(main) = self.locals.get_mut(&self.main) else { return };
        match action {
            Action::Transmit { place, frame } => return out.push(Output::Transmit { place, frame }),
            Action::Dial { id, transport, peer, endpoint } => {
                return out.push(Output::Dial { id, transport, peer, endpoint });
            }
            Action::HangUp { place } => return out.push(Output::HangUp { place }),
            Action::Up { hop, class, cost } => main.route(now, effects, |router, outbox| {
                router.peer_up(now, hop, class, cost, outbox);
            }),
            Action::Cost { hop, class, cost } => main.route(now, effects, |router, outbox| {
                router.peer_cost(now, hop, class, cost, outbox);
            }),
            Action::Down { hop } => {
                main.route(now, effects, |router, outbox| router.peer_down(now, hop, outbox));
            }
            Action::Received { hop, frame } => main.frame(now, hop, frame, effects),
        }
        self.schedule(self.main);
    }

    /// Largest payload that goes from `local` towards `remote` in one datagram of the first link.
    fn way_mtu(&self, local: Addr, remote: Addr, plane: Plane) -> u16 {
        let by = Constraint::in_plane(plane);
        // What the sender puts in front of its frames stays there all the way.
        let front = |node: &Local| {
            let header = node.router.header(To::Node(remote), &by);
            header.map_or(node.router.overhead(), |(_, header)| header.len())
        };
        let overhead = self.locals.get(&local).map_or(0, front);
        let mut node = local;
        // Two steps at most: from a hosted node to the daemon's own, from there to a peer or another hosted node.
        for _ in 0..2 {
            let Some(state) = self.locals.get(&node) else { break };
            let Some(hop) = state.router.next_hop(To::Node(remote), &by) else { break };
            if self.locals.contains_key(&hop.peer) && hop.family == Family::Loopback {
                if hop.peer == remote {
                    return LOOPBACK_MTU;
                }
                node = hop.peer;
                continue;
            }
            if hop.peer == remote
                && node == self.main
                && local == self.main
                && let Some(bare) = self.links.bare_mtu(hop)
            {
                return bare;
            }
            let Some(frame) = self.links.frame_mtu(hop) else { break };
            return u16::try_from(frame.saturating_sub(overhead)).unwrap_or(u16::MAX).max(SAFE_MTU);
        }
        SAFE_MTU
    }

    pub(crate) fn schedule(&mut self, addr: Addr) {
        let next = self.locals.get(&addr).and_then(Local::next_heartbeat);
        self.reschedule(addr, next);
    }

    fn schedule_after(&mut self, addr: Addr, now: Instant) {
        let next = self.locals.get(&addr).and_then(Local::next_heartbeat);
        self.reschedule(addr, next.map(|at| at.max(now + Duration::from_millis(1))));
    }

    fn reschedule(&mut self, addr: Addr, next: Option<Instant>) {
        if self.scheduled.get(&addr).copied() == next {
            return;
        }
        if let Some(old) = self.scheduled.remove(&addr) {
            self.timers.remove(&(old, addr));
        }
        if let Some(next) = next {
            self.scheduled.insert(addr, next);
            self.timers.insert((next, addr));
        }
    }
}

impl Core {
    /// Replaces the levels of requests from now on. What is held and would now leave by too weak a way is given up.
    pub fn set_levels(&mut self, now: Instant, levels: Levels, out: &mut Vec<Output>) {
        self.config.levels = levels;
        self.changes = self.changes.wrapping_add(1);
        let mut effects = Effects::default();
        for local in self.locals.values_mut() {
            local.restrict(&levels, &mut effects);
        }
        self.settle(now, effects, out);
    }
}

fn closed(addr: &Addr) -> ApiError {
    ApiError::new(Code::Closed, format!("the node {addr} is not open on this daemon"))
}
