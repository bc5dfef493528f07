//! The running daemon as [`Service`]: the core's handle, and what the daemon keeps beside it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use byway_api::body::{LinkInfo, Map, NodeInfo, PeerInfo, PeerSpec, RouteInfo, SessionInfo, Status, Trace};
use byway_api::{ApiError, BoxFuture, Code, ManCon, Node, OpenNode, Request, Service};
use byway_identity::Addr;
use byway_node::Handle;
use byway_portal::Portal;
use tokio::sync::watch;

use crate::config::{self, Config, Peer};
use crate::fast::Fast;
use crate::log::{self, Verbosity};
use crate::peers::{self, PEERS_MAX, PeersError, RuntimePeers};

/// What the daemon is started with and cannot change while it runs.
pub(crate) struct Fixed {
    /// The configuration file, whether it exists or not.
    pub(crate) config_file: PathBuf,
    /// Where peers of run time are kept.
    pub(crate) peers_file: PathBuf,
    /// What the command line says goes before the configuration.
    pub(crate) overrides: Overrides,
    /// Overlay IPv6 address of the daemon's own node.
    pub(crate) ipv6: Option<String>,
    /// When it started.
    pub(crate) started: String,
    /// Whether clear links were opened at the start.
    pub(crate) direct: bool,
    /// What could not be done at the start, in words.
    pub(crate) troubles: Vec<String>,
}

/// What the command line says goes before the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overrides {
    pub(crate) direct: bool,
    pub(crate) no_portal: bool,
    pub(crate) mancon: Option<ManCon>,
    pub(crate) log: Verbosity,
}

impl Overrides {
    pub(crate) fn apply(self, config: &mut Config) {
        config.mancon.direct |= self.direct;
        config.portal.enabled &= !self.no_portal;
        config.mancon.default = self.mancon.unwrap_or(config.mancon.default);
        config.log = self.log.over(config.log);
    }
}

/// The daemon. Clones are the same daemon.
#[derive(Clone)]
pub(crate) struct Daemon(Arc<Inner>);

struct Inner {
    handle: Handle,
    portal: Option<Portal>,
    fast: Fast,
    /// Why the portal ended before the daemon, for example since somebody deleted its device.
    portal_lost: OnceLock<String>,
    fixed: Fixed,
    live: Mutex<Live>,
    /// One change of peers or configuration at a time, disk included.
    turn: tokio::sync::Mutex<()>,
    stop: watch::Sender<bool>,
}

/// What changes while it runs.
struct Live {
    config: Config,
    /// Whether the configuration file was named or has been read: its absence is an error then, not a wish for defaults.
    has_file: bool,
    runtime: RuntimePeers,
}

impl Daemon {
    pub(crate) fn new(
        handle: Handle,
        portal: Option<Portal>,
        fast: Fast,
        config: Config,
        has_file: bool,
        runtime: RuntimePeers,
        fixed: Fixed,
    ) -> Self {
        let live = Mutex::new(Live { config, has_file, runtime });
        let (turn, stop) = (tokio::sync::Mutex::default(), watch::Sender::new(false));
        let portal_lost = OnceLock::new();
        Self(Arc::new(Inner { handle, portal, fast, portal_lost, fixed, live, turn, stop }))
    }

    /// Notes that the portal has ended; `why` is for whoever asks for the status.
    pub(crate) fn portal_lost(&self, why: String) {
        // It ends once.
        let _ = self.0.portal_lost.set(why);
    }

    /// Ends the threads of the fast path.
    pub(crate) async fn stop_fast(&self) {
        self.0.fast.stop().await;
    }

    /// Waits until someone has asked the daemon to stop.
    pub(crate) async fn asked_to_stop(&self) {
        // The sender lives in `self`, so waiting ends only with the value that is waited for.
        let _ = self.0.stop.subscribe().wait_for(|stop| *stop).await;
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Nothing that is done with it can panic half way.
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn status_now(&self) -> Result<Status, ApiError> {
        let handle = &self.0.handle;
        let peers = handle.peers().await?;
        let nodes = handle.nodes().await?.len();
        let endpoints = handle.listening().await?;
        let transports = handle.transports().await?;
        let (config, hidden) = {
            let live = self.live();
            (live.config.clone(), live.runtime.hidden(&live.config.peers))
        };
        let mut warnings = self.0.fixed.troubles.clone();
        if self.0.fixed.direct && !config.mancon.direct {
            let text = "mancon.direct is false now: no request uses a clear link, but those that are open stay open until a restart";
            warnings.push(text.into());
        } else {
            warnings.extend(level_warnings(&config));
        }
        let lost = self.0.portal_lost.get();
        if let Some(why) = lost {
            warnings
                .push(format!("the portal has ended, and comes back with a restart of the daemon: {why}"));
        }
        warnings.extend(self.0.fast.warnings());
        if peers.is_empty() {
            warnings.push("there are no peers: `byway peer add ADDR ENDPOINT` adds one".into());
        }
        if hidden > 0 {
            warnings.push(format!("{hidden} configured peers are not used, since `byway peer rm` removed them; `byway peer add` brings them back"));
        }
        Ok(Status {
            addr: handle.main().addr(),
            ipv6: self.0.fixed.ipv6.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            started: self.0.fixed.started.clone(),
            protocol: config.network.protocol.name().into(),
            network: config.network.name,
            mancon: config.mancon.default.max(config.mancon.floor),
            floor: config.mancon.floor,
            direct: config.mancon.direct,
            endpoints,
            peers_up: peers.iter().filter(|peer| peer.state == "up").count(),
            peers: peers.len(),
            nodes,
            portal: self
                .0
                .portal
                .as_ref()
                .filter(|_| lost.is_none())
                .map(|portal| portal.device().to_owned()),
            fast: self.0.fast.info(),
            transports,
            warnings,
        })
    }

    async fn add_peer_now(&self, spec: PeerSpec) -> Result<(), ApiError> {
        let _turn = self.0.turn.lock().await;
        let peer = peers::peer(&spec)?;
        if peer.addr == self.0.handle.main().addr() {
            return Err(ApiError::new(Code::BadRequest, "this is the daemon's own address"));
        }
        let (mut runtime, known) = {
            let live = self.live();
            (live.runtime.clone(), live.runtime.over(&live.config.peers))
        };
        if known.len() >= PEERS_MAX && !known.contains_key(&peer.addr) {
            let text = format!("the daemon keeps {PEERS_MAX} peers, and no more; remove one (byway peer rm)");
            return Err(ApiError::new(Code::Busy, text));
        }
        let namesake =
            |other: &&Peer| peer.name.is_some() && other.name == peer.name && other.addr != peer.addr;
        if let Some(other) = known.values().find(namesake) {
            let text = format!("{} has this petname; choose another", other.addr);
            return Err(ApiError::new(Code::Conflict, text));
        }
        runtime.add(peer.clone());
        // The configuration first: if it cannot be written, nothing has changed.
        if spec.save {
            let file = self.0.fixed.config_file.clone();
            let saved = peer.clone();
            blocking(move || peers::save(&file, &saved)).await??;
            self.live().has_file = true;
        }
        let added = async {
            self.store(runtime).await?;
            self.0.handle.add_peer(peers::spec(&peer)).await
        };
        added.await.map_err(|error: ApiError| match spec.save {
            true => ApiError::new(
                error.code,
                format!(
                    "the peer is in the configuration file, but not in use until `byway config reload`: {}",
                    error.detail
                ),
            ),
            false => error,
        })?;
        if spec.save {
            let mut live = self.live();
            live.config.peers.retain(|known| known.addr != peer.addr);
            live.config.peers.push(peer);
        }
        Ok(())
    }

    async fn remove_peer_now(&self, addr: Addr) -> Result<(), ApiError> {
        let _turn = self.0.turn.lock().await;
        let runtime = {
            let live = self.live();
            if !live.runtime.over(&live.config.peers).contains_key(&addr) {
                return Err(ApiError::new(Code::Unknown, format!("{addr} is no peer of this daemon")));
            }
            let mut runtime = live.runtime.clone();
            runtime.remove(addr, &live.config.peers);
            runtime
        };
        self.store(runtime).await?;
        self.0.handle.remove_peer(addr).await
    }

    /// To disk first: what was answered with success survives `kill -9`.
    async fn store(&self, runtime: RuntimePeers) -> Result<(), ApiError> {
        let (file, written) = (self.0.fixed.peers_file.clone(), runtime.clone());
        blocking(move || written.store(&file)).await?.map_err(|error: PeersError| {
            ApiError::new(Code::Internal, format!("nothing was changed, since it cannot be kept: {error}"))
        })?;
        self.live().runtime = runtime;
        Ok(())
    }

    /// Reads the configuration anew: what was applied and what needs a restart, in words.
    pub(crate) async fn reload_now(&self) -> Result<Vec<String>, ReloadError> {
        let _turn = self.0.turn.lock().await;
        let file = self.0.fixed.config_file.clone();
        let read = blocking(move || load(&file)).await.map_err(ReloadError::Api)??;
        let has_file = self.live().has_file || read.is_some();
        let mut new = match read {
            Some(new) => new,
            // Defaults would drop all peers and the floor because of a file that is away for a moment.
            None if has_file => {
                return Err(ReloadError::Gone(self.0.fixed.config_file.clone()));
            }
            None => Config::default(),
        };
        self.0.fixed.overrides.apply(&mut new);
        let (old, runtime) = {
            let live = self.live();
            (live.config.clone(), live.runtime.clone())
        };
        let own = self.0.handle.main().addr();
        let strip = |mut peers: BTreeMap<Addr, Peer>| {
            peers.remove(&own);
            peers
        };
        let mut said =
            self.apply_peers(strip(runtime.over(&old.peers)), strip(runtime.over(&new.peers))).await?;
        // Links were opened, or not, at the start: requests must not rely on what is not so. What is forbidden now holds
        // for requests at once, though it takes a restart to close the links.
        let started = self.0.fixed.direct;
        let levels = config::Levels { direct: started && new.mancon.direct, ..new.mancon };
        if levels != old.mancon {
            self.0.handle.set_levels(core_levels(levels)).await.map_err(ReloadError::Api)?;
            let clear = match (old.mancon.direct, levels.direct) {
                (true, false) => ", no clear links for requests",
                (false, true) => ", clear links for requests",
                _ => "",
            };
            said.push(format!("mancon: default {}, floor {}{clear}", levels.default, levels.floor));
        }
        if let Some(portal) = self.0.portal.as_ref().filter(|_| new.portal.allow != old.portal.allow) {
            portal.set_allow(new.portal.allow.clone());
            said.push(format!("portal.allow: {} rules", new.portal.allow.len()));
        }
        if new.log != old.log {
            log::log_at(new.log);
            said.push(format!("log.level: {}", new.log.name()));
        }
        let mancon = config::Levels { direct: started, ..old.mancon };
        let waiting = needs_restart(&Config { mancon, ..old.clone() }, &new);
        if !waiting.is_empty() {
            said.push(format!("needs a restart: {}", waiting.join(", ")));
        }
        if said.is_empty() {
            said.push("nothing has changed".into());
        }
        // What waits for a restart stays as it is, so that the next reload names it again.
        let portal = config::Portal { allow: new.portal.allow, ..old.portal.clone() };
        let mut live = self.live();
        live.config = Config { log: new.log, mancon: levels, peers: new.peers, portal, ..old };
        live.has_file = has_file;
        Ok(said)
    }

    async fn apply_peers(
        &self,
        old: BTreeMap<Addr, Peer>,
        new: BTreeMap<Addr, Peer>,
    ) -> Result<Vec<String>, ReloadError> {
        let handle = &self.0.handle;
        let (mut added, mut changed, mut removed) = (0, 0, 0);
        for addr in old.keys().filter(|addr| !new.contains_key(addr)) {
            handle.remove_peer(*addr).await.map_err(ReloadError::Api)?;
            removed += 1;
        }
        for (addr, peer) in &new {
            match old.get(addr) {
                Some(known) if known == peer => continue,
                Some(_) => changed += 1,
                None => added += 1,
            }
            handle.add_peer(peers::spec(peer)).await.map_err(ReloadError::Api)?;
        }
        let mut said = Vec::new();
        if added + changed + removed > 0 {
            said.push(format!("peers: {added} added, {changed} changed, {removed} removed"));
        }
        Ok(said)
    }

    async fn metrics_now(&self) -> Result<String, ApiError> {
        let mut text = self.0.handle.metrics().await?;
        if let Some(portal) = &self.0.portal {
            portal_metrics(&portal.counters(), &mut text);
        }
        if let Some(counters) = self.0.fast.counters() {
            fast_metrics(&counters, &mut text);
        }
        text.push_str("# EOF\n");
        Ok(text)
    }
}

/// Why nothing was reloaded; the daemon runs on as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error(transparent)]
    Read(#[from] config::ReadError),
    #[error("{0}")]
    Faults(#[from] config::Faults),
    #[error("the configuration {} is not there any more: put it back, or restart the daemon to go on without it", .0.display())]
    Gone(PathBuf),
    #[error("{0}")]
    Api(ApiError),
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Api(error) => error,
            other => Self::new(Code::BadRequest, format!("{other}\nnothing was changed")),
        }
    }
}

/// The configuration in `file`; none if there is no such file.
pub(crate) fn load(file: &std::path::Path) -> Result<Option<Config>, ReloadError> {
    match config::read(file) {
        Ok(text) => Ok(Some(Config::parse(&text, &file.display().to_string())?)),
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn core_levels(levels: config::Levels) -> byway_node::Levels {
    byway_node::Levels { default: levels.default, floor: levels.floor, direct: levels.direct }
}

/// What the levels rule out, while no transport but clear ones is on.
pub(crate) fn level_warnings(config: &Config) -> Vec<String> {
    let level = config.mancon.default.max(config.mancon.floor);
    if config.links.tor.is_some() || config.links.i2p.is_some() {
        return Vec::new();
    }
    if !config.mancon.direct {
        return vec![
            "no clear links are opened (mancon.direct is false), and no other transport is on, so nothing leaves this machine: \
             turn one on (links.tor.mode, links.i2p.mode), or, where being seen is harmless, `byway up --direct`"
                .into(),
        ];
    }
    if level > ManCon::Medium {
        let remedy = if config.mancon.floor > ManCon::Medium {
            "lower mancon.floor"
        } else {
            "give --mancon medium (or low) where being seen is harmless, or set mancon.default"
        };
        return vec![format!(
            "requests at {level}, the level of those that name none, use no clear link, and no other transport is \
             on: turn one on (links.tor.mode, links.i2p.mode), or {remedy}"
        )];
    }
    Vec::new()
}

fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let portal = |get: fn(&config::Portal) -> String| get(&old.portal) != get(&new.portal);
    [
        ("node.key", old.key != new.key),
        ("api.listen", old.api.listen != new.api.listen),
        ("api.inet256_mancon", old.api.inet256_mancon != new.api.inet256_mancon),
        ("network", old.network != new.network),
        ("mancon.direct", old.mancon.direct != new.mancon.direct),
        ("portal.enabled", old.portal.enabled != new.portal.enabled),
        ("portal.device", portal(|portal| portal.device.clone())),
        ("portal.prefix", portal(|portal| portal.prefix.to_string())),
        ("portal.mtu", portal(|portal| portal.mtu.to_string())),
        ("portal.mancon", old.portal.mancon != new.portal.mancon),
        ("portal.threads", portal(|portal| portal.threads.to_string())),
        ("portal.offload", portal(|portal| portal.offload.to_string())),
        ("links", old.links != new.links),
        ("session", old.session != new.session),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// Writes one family of counters.
fn counters_of(text: &mut String, name: &str, help: &str, values: &[(&str, u64)]) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# TYPE {name} counter\n# HELP {name} {help}");
    for (labels, value) in values {
        let _ = writeln!(text, "{name}_total{{{labels}}} {value}");
    }
}

fn fast_metrics(counters: &byway_portal::fast::Counters, text: &mut String) {
    let device = [("direction=\"out\"", counters.reads), ("direction=\"in\"", counters.writes)];
    counters_of(
        text,
        "byway_fast_packets",
        "Packets and super-packets that threads took from the device, or gave it.",
        &device,
    );
    let (outward, inward) = (&counters.outward, &counters.inward);
    let drops = [
        ("reason=\"device\"", counters.write_errors),
        ("reason=\"portal-overrun\"", counters.portal_overrun),
        ("reason=\"send-overrun\"", counters.send_overrun),
        ("reason=\"odd\"", outward.odd),
        ("reason=\"queue-full\"", outward.overflowed),
        ("reason=\"queue-delay\"", outward.left_out),
        ("reason=\"forged\"", inward.forged),
        ("reason=\"replayed\"", inward.replayed),
        ("reason=\"malformed\"", inward.malformed),
        ("reason=\"ended\"", inward.ended),
        ("reason=\"plane\"", inward.plane),
        ("reason=\"refused\"", inward.refused),
        ("reason=\"congested\"", inward.congested),
    ];
    counters_of(text, "byway_fast_drops", "What threads dropped.", &drops);
    let marked = [("direction=\"out\"", outward.marked)];
    counters_of(text, "byway_fast_marked", "Packets marked since they waited too long.", &marked);
}

fn portal_metrics(counters: &byway_portal::Counters, text: &mut String) {
    let mut family = |name: &str, help: &str, values: &[(&str, u64)]| {
        counters_of(text, &format!("byway_portal_{name}"), help, values);
    };
    let (outwards, inwards) = ("direction=\"out\"", "direction=\"in\"");
    family(
        "packets",
        "Packets that passed.",
        &[(outwards, counters.packets_out), (inwards, counters.packets_in)],
    );
    family("bytes", "Their bytes.", &[(outwards, counters.bytes_out), (inwards, counters.bytes_in)]);
    family("finds", "Addresses that the network was asked for.", &[("", counters.finds)]);
    let notices = [("told=\"yes\"", counters.notices), ("told=\"no\"", counters.notices_suppressed)];
    family("notices", "ICMPv6 errors for programs, and those that the limit kept back.", &notices);
    let labels: Vec<_> =
        counters.drops().map(|(reason, count)| (format!("reason=\"{}\"", reason.name()), count)).collect();
    let drops: Vec<_> = labels.iter().map(|(label, count)| (label.as_str(), *count)).collect();
    family("drops", "Packets that did not pass.", &drops);
}

/// Disk work, away from the threads that move messages.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::new(Code::Internal, "the daemon was interrupted at its disk work"))
}

impl Service for Daemon {
    fn open(&self, options: OpenNode) -> BoxFuture<'_, Result<Arc<dyn Node>, ApiError>> {
        Box::pin(self.0.handle.open(options))
    }

    fn main(&self) -> Arc<dyn Node> {
        self.0.handle.main()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, ApiError>> {
        Box::pin(self.status_now())
    }

    fn peers(&self) -> BoxFuture<'_, Result<Vec<PeerInfo>, ApiError>> {
        Box::pin(self.0.handle.peers())
    }

    fn links(&self) -> BoxFuture<'_, Result<Vec<LinkInfo>, ApiError>> {
        Box::pin(self.0.handle.links())
    }

    fn routes(&self) -> BoxFuture<'_, Result<Vec<RouteInfo>, ApiError>> {
        Box::pin(self.0.handle.routes())
    }

    fn sessions(&self) -> BoxFuture<'_, Result<Vec<SessionInfo>, ApiError>> {
        Box::pin(self.0.handle.sessions())
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeInfo>, ApiError>> {
        Box::pin(self.0.handle.nodes())
    }

    fn add_peer(&self, peer: PeerSpec) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(self.add_peer_now(peer))
    }

    fn remove_peer(&self, addr: Addr) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(self.remove_peer_now(addr))
    }

    fn map(&self, limit: usize) -> BoxFuture<'_, Result<Map, ApiError>> {
        Box::pin(self.0.handle.map(limit))
    }

    fn trace(&self, to: Addr, request: Request) -> BoxFuture<'_, Result<Trace, ApiError>> {
        Box::pin(self.0.handle.trace(to, request))
    }

    fn metrics(&self) -> BoxFuture<'_, Result<String, ApiError>> {
        Box::pin(self.metrics_now())
    }

    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, ApiError>> {
        Box::pin(async { Ok(self.reload_now().await?) })
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async {
            self.0.stop.send_replace(true);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_while_running_is_named() {
        let old = Config::default();
        let mut new = old.clone();
        assert!(needs_restart(&old, &new).is_empty());
        new.links.udp.clear();
        new.portal.mtu = 1_280;
        new.mancon.direct = true;
        new.mancon.floor = ManCon::High;
        assert_eq!(needs_restart(&old, &new), ["mancon.direct", "portal.mtu", "links"]);
    }

    #[test]
    fn levels_that_no_link_satisfies_are_warned_of_with_a_remedy() {
        let mut config = Config::default();
        assert!(level_warnings(&config)[0].contains("--direct"));
        config.mancon.direct = true;
        assert!(level_warnings(&config)[0].contains("--mancon medium"));
        config.mancon.default = ManCon::Low;
        assert!(level_warnings(&config).is_empty());
        config.mancon.floor = ManCon::High;
        assert!(level_warnings(&config)[0].contains("lower mancon.floor"));
        config.links.tor = Some(config::Tor::default());
        assert!(level_warnings(&config).is_empty());
    }
}
