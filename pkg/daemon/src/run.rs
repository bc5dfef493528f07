//! From start to stop.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use byway_api::{ManCon, Service};
use byway_identity::keyfile::{self, KeyFileError};
use byway_identity::{Addr, OsEntropy, SigningKey};
use byway_portal::Portal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::api::Listeners;
use crate::config::{Cipher, Config, Faults, Listen, ReadError};
use crate::fast::Fast;
use crate::peers::{PeersError, RuntimePeers};
use crate::privileges::{self, Needs, PrivilegeError};
use crate::service::{Daemon, Fixed, Overrides, ReloadError, core_levels, load};
use crate::state::{StateDir, StateError};
use crate::{Paths, Verbosity, log, notify};

/// What to run.
pub struct Options {
    /// The configuration; none: the one of `paths`, if there is one.
    pub config: Option<PathBuf>,
    /// The state directory; none: the one of `paths`.
    pub state: Option<PathBuf>,
    /// Where things are unless somebody says otherwise.
    pub paths: Paths,
    /// Opens clear links whatever the configuration says.
    pub direct: bool,
    /// Opens no portal whatever the configuration says.
    pub no_portal: bool,
    /// Level of requests that carry none, whatever the configuration says.
    pub mancon: Option<ManCon>,
    /// How much to tell, whatever the configuration says.
    pub log: Verbosity,
    /// Where the passphrase of an encrypted key comes from; an error tells why there is none.
    pub passphrase: fn() -> Result<Zeroizing<String>, String>,
}

/// Why the daemon does not run; each text says what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The configuration has faults.
    #[error("{0}")]
    Config(#[from] Faults),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The list of peers cannot be read.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The key cannot be used.
    #[error("the key {}: {source}", .path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: KeyFileError,
    },
    /// There is no place for the state.
    #[error(
        "there is no home directory (HOME is not set): set it, or say where to keep keys and peers (--state DIR)"
    )]
    Home,
    /// The key is encrypted, and nobody gave its passphrase.
    #[error("the key: {0}")]
    Passphrase(String),
    /// The group key cannot be used.
    #[error("the group key {path}: {what}", path = .path.display())]
    GroupKey {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Privileges could not be given up.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// A place to listen at is not free, or not allowed.
    #[error("cannot listen at {place}: {source}{help}")]
    Listen {
        /// Which.
        place: String,
        /// What the system says.
        source: io::Error,
        /// What helps, after "; ", if that is known.
        help: &'static str,
    },
    /// A file that the configuration names cannot be used.
    #[error("{what}: {path}: {source}", path = .path.display())]
    File {
        /// What it is for.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// Links over Tor cannot be opened.
    #[error("links.tor: {0}")]
    Tor(#[from] byway_transport_tor::OpenError),
    /// The system refuses something else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How long closing everything may take before the rest is dropped.
const FAREWELL: Duration = Duration::from_secs(5);
/// First port that needs no privilege.
const LOW_PORTS_END: u16 = 1_024;

/// Runs a daemon until it is asked to stop.
///
/// To be called while the process has one thread: it gives up privileges, which are a thread's own, and then makes
/// threads.
pub fn run(options: Options) -> Result<(), StartError> {
    // Whatever is written from now on is for the owner alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let config_file = options.config.clone().unwrap_or_else(|| options.paths.config.clone());
    let loaded = if options.config.is_some() {
        Some(Config::parse(&crate::config::read(&config_file)?, &config_file.display().to_string())?)
    } else if config_file.is_relative() {
        // Without a home directory there is no default file; one in the working directory is not meant.
        None
    } else {
        load(&config_file).map_err(|error| match error {
            ReloadError::Read(error) => StartError::Read(error),
            ReloadError::Faults(faults) => StartError::Config(faults),
            other => StartError::Io(io::Error::other(other)),
        })?
    };
    let has_file = loaded.is_some();
    let mut config = loaded.unwrap_or_default();
    let Options { direct, no_portal, mancon, log: verbosity, .. } = options;
    let overrides = Overrides { direct, no_portal, mancon, log: verbosity };
    overrides.apply(&mut config);
    log::log_at(config.log);
    if options.state.is_none() && options.paths.state.is_relative() {
        return Err(StartError::Home);
    }
    let state = StateDir::open(options.state.as_deref().unwrap_or(&options.paths.state))?;
    let key = key(&state.resolve(&config.key), options.passphrase)?;
    let group_key = config.network.group_key_file.as_ref().map(|file| group_key(&state.resolve(file)));
    let group_key = group_key.transpose()?;
    let peers_file = state.path().join("peers.toml");
    let runtime_peers = RuntimePeers::load(&peers_file)?;
    let config_file = std::path::absolute(config_file)?;

    privileges::limit(Needs { portal: config.portal.enabled, low_ports: wants_low_ports(&config) })?;
    // Tokio's threads never get the right to low ports; the first thread, which opens them, drops it below.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("byway")
        .on_thread_start(|| {
            if let Err(error) = privileges::drop_low_ports() {
                tracing::error!(%error, "a thread keeps a privilege");
            }
        })
        .build()?;
    let start =
        Start { config, has_file, state, key, group_key, runtime_peers, config_file, peers_file, overrides };
    let socket = options.paths.socket;
    let outcome = runtime.block_on(serve(start, &socket));
    // A blocked thread must not keep a daemon that has said goodbye.
    runtime.shutdown_timeout(FAREWELL);
    outcome
}

struct Start {
    config: Config,
    has_file: bool,
    state: StateDir,
    key: SigningKey,
    group_key: Option<Zeroizing<[u8; 32]>>,
    runtime_peers: RuntimePeers,
    config_file: PathBuf,
    peers_file: PathBuf,
    overrides: Overrides,
}

async fn serve(start: Start, socket: &Path) -> Result<(), StartError> {
    let Start { config, has_file, state, key, group_key, runtime_peers, config_file, peers_file, overrides } =
        start;
    let own = key.public().addr();
    let mut signals = Signals::new()?;
    let listeners = Listeners::open(&config.api.listen, &state, socket).await?;
    let crate::transports::Opened { transports, ports } = crate::transports::open(&config, own, &state)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let peers = runtime_peers.over(&config.peers).into_values().filter(|peer| peer.addr != own);
    let core = byway_node::Config {
        key,
        protocol: config.network.protocol.network(),
        network: config.network.name.clone(),
        group_key: group_key.as_deref().copied(),
        accept: config.links.accept,
        levels: core_levels(config.mancon),
        peers: peers.map(|peer| (peer.link(), peer.name)).collect(),
        boot: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        unix: now.as_secs(),
        ratchet: config.session.ratchet,
        ciphers: ciphers(&config.session.ciphers),
    };
    let handle = byway_node::start(core, transports);
    let mut troubles = Vec::new();
    if runtime_peers.over(&config.peers).contains_key(&own) {
        troubles.push("this daemon's own address is among its peers; it is left out".into());
    }
    let portal = open_portal(&config, handle.main(), &mut troubles).await;
    privileges::drop_low_ports()?;
    let fast =
        Fast::start((config.portal.threads, config.portal.offload), &handle.tables(), ports, portal.as_ref());

    let fixed = Fixed {
        config_file,
        peers_file,
        overrides,
        ipv6: config.portal.prefix.ipv6(&own).ok().map(|ip| ip.to_string()),
        started: time::OffsetDateTime::now_utc()
            .truncate_to_second()
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_default(),
        direct: config.mancon.direct,
        troubles,
    };
    let inet256_mancon = config.api.inet256_mancon;
    let daemon = Daemon::new(handle.clone(), portal.clone(), fast, config, has_file, runtime_peers, fixed);
    let ended = watch::Sender::new(false);
    let mut tasks = JoinSet::new();
    if let Some(portal) = portal {
        let (mut ended, daemon) = (ended.subscribe(), daemon.clone());
        tasks.spawn(async move {
            let end = async move { drop(ended.wait_for(|ended| *ended).await) };
            if let Err(error) = portal.run(end).await {
                tracing::error!(%error, "the portal has ended; programs cannot reach the overlay until a restart");
                daemon.portal_lost(error.to_string());
            }
        });
    }
    let api = listeners.serve(daemon.clone(), inet256_mancon, &mut tasks);
    announce(&daemon).await;
    notify::ready("serving");

    loop {
        let wish = tokio::select! {
            wish = signals.next() => wish,
            () = daemon.asked_to_stop() => Wish::Stop,
        };
        match wish {
            Wish::Stop => break,
            Wish::Reload => reload(&daemon).await,
        }
    }
    tracing::info!("stopping");
    notify::stopping();
    ended.send_replace(true);
    let farewell = async {
        api.stop();
        daemon.stop_fast().await;
        handle.shutdown().await;
        while tasks.join_next().await.is_some() {}
    };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("not everything has ended in time; the rest is dropped");
    }
    drop(state);
    Ok(())
}

/// What the service manager and the user's terminal say.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

enum Wish {
    Stop,
    Reload,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

async fn reload(daemon: &Daemon) {
    notify::reloading();
    match daemon.reload_now().await {
        Ok(said) => said.iter().for_each(|line| tracing::info!("reloaded: {line}")),
        // The texts of faults quote the file, and so may tell where people are: the log gets their places only.
        Err(ReloadError::Faults(faults)) => {
            for fault in faults.faults {
                tracing::error!(line = fault.line, key = fault.key, "a fault in the configuration");
            }
            tracing::error!("nothing was reloaded; `byway config check` tells what is wrong");
        }
        Err(error) => tracing::error!(%error, "nothing was reloaded"),
    }
    notify::ready("serving");
}

/// The key in `file`; a new one is made where there is none.
fn key(file: &Path, passphrase: fn() -> Result<Zeroizing<String>, String>) -> Result<SigningKey, StartError> {
    let error = |source| StartError::Key { path: file.to_owned(), source };
    match keyfile::load(file, None) {
        Err(KeyFileError::Encrypted) => {
            let passphrase = passphrase().map_err(StartError::Passphrase)?;
            keyfile::load(file, Some(&passphrase)).map_err(error)
        }
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let key = SigningKey::generate(&mut OsEntropy);
            keyfile::create(file, &key, None).map_err(error)?;
            tracing::info!("made a new key");
            Ok(key)
        }
        key => key.map_err(error),
    }
}

/// 32 bytes in the text form of addresses, in a file that only its owner may read.
fn group_key(file: &Path) -> Result<Zeroizing<[u8; 32]>, StartError> {
    use std::os::unix::fs::PermissionsExt;
    let error = |what: String| StartError::GroupKey { path: file.to_owned(), what };
    let metadata = file.metadata().map_err(|source| error(source.to_string()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(error(format!(
            "others can read it (mode {mode:03o}): run `chmod 600 {}`",
            file.display()
        )));
    }
    if !metadata.is_file() || metadata.len() > 1_024 {
        return Err(error("it is no file with one key in it".into()));
    }
    let text =
        std::fs::read_to_string(file).map(Zeroizing::new).map_err(|source| error(source.to_string()))?;
    let key: Addr =
        text.trim().parse().map_err(|_| error("a group key is 32 bytes as 43 characters".into()))?;
    Ok(Zeroizing::new(*key.as_bytes()))
}

/// A portal, unless the configuration wants none; a machine that grants none gets along without.
async fn open_portal(
    config: &Config,
    node: std::sync::Arc<dyn byway_api::Node>,
    troubles: &mut Vec<String>,
) -> Option<Portal> {
    let portal = &config.portal;
    if !portal.enabled {
        return None;
    }
    let settings = byway_portal::Config {
        device: portal.device.clone(),
        range: portal.prefix,
        mtu: portal.mtu,
        allow: portal.allow.clone(),
        mancon: portal.mancon,
        threads: portal.threads.into(),
        queues: usize::from(portal.threads / 2).max(1),
        offload: portal.offload,
    };
    match Portal::open(settings, node).await {
        Ok(portal) => Some(portal),
        Err(error) => {
            // Announced with all the other warnings.
            troubles.push(format!("no portal: {error}"));
            None
        }
    }
}

/// Tells whoever started it what this daemon is and what is missing. Where it listens is for `byway status`: it
/// must not end in a log.
async fn announce(daemon: &Daemon) {
    let Ok(status) = daemon.status().await else { return };
    tracing::info!(address = %status.addr, mancon = %status.mancon, peers = status.peers, "ready");
    for warning in &status.warnings {
        tracing::warn!("{warning}");
    }
}

fn wants_low_ports(config: &Config) -> bool {
    let low = |port: u16| (1..LOW_PORTS_END).contains(&port);
    let links = &config.links;
    let listening = [&links.udp, &links.quic, &links.tcp, &links.tls.listen, &links.websocket.listen];
    let linked = config.mancon.direct && listening.into_iter().flatten().any(|address| low(address.port()));
    linked
        || config.api.listen.iter().any(|place| matches!(place, Listen::Tcp(address) if low(address.port())))
}

/// What is offered of what is wanted: only what this machine has instructions for.
fn ciphers(wanted: &[Cipher]) -> byway_session::Ciphers {
    byway_session::Ciphers {
        aes: wanted.contains(&Cipher::Aes) && has_aes(),
        aegis: wanted.contains(&Cipher::Aegis) && has_aegis(),
    }
}

/// Whether AEGIS-128L is fast here, which on x86 asks for more than AES.
fn has_aegis() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return has_aes() && std::arch::is_x86_feature_detected!("avx");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    return has_aes();
}

/// Whether AES is fast here.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn no_passphrase() -> Result<Zeroizing<String>, String> {
        Err("nobody is there to ask".into())
    }

    #[test]
    fn a_key_is_made_once_and_then_kept() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("identity.pem");
        let made = key(&file, no_passphrase).expect("made");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(key(&file, no_passphrase).expect("kept").public(), made.public());
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused_and_left_alone() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("identity.pem");
        std::fs::write(&file, "hello").expect("written");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("ours");
        let told = |result: Result<SigningKey, StartError>| result.err().map(|error| error.to_string());
        assert!(told(key(&file, no_passphrase)).is_some_and(|text| text.contains("chmod 600")));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("ours");
        assert!(told(key(&file, no_passphrase)).is_some_and(|text| text.contains("not a key file")));
        assert_eq!(std::fs::read(&file).expect("there"), b"hello");
    }

    #[test]
    fn an_encrypted_key_asks_for_its_passphrase() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("identity.pem");
        let made = SigningKey::generate(&mut OsEntropy);
        keyfile::create(&file, &made, Some("horse")).expect("written");
        assert!(matches!(key(&file, no_passphrase), Err(StartError::Passphrase(_))));
        let known = key(&file, || Ok(Zeroizing::new("horse".into()))).expect("it fits");
        assert_eq!(known.public(), made.public());
        let wrong = key(&file, || Ok(Zeroizing::new("cow".into())));
        assert!(matches!(wrong, Err(StartError::Key { source: KeyFileError::Passphrase, .. })));
    }

    #[test]
    fn a_group_key_is_43_characters_for_its_owner_alone() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("group");
        std::fs::write(&file, format!("{}\n", Addr::from_bytes([9; 32]))).expect("written");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("ours");
        assert_eq!(*group_key(&file).expect("a key"), [9; 32]);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).expect("ours");
        assert!(group_key(&file).expect_err("open").to_string().contains("chmod 600"));
        assert!(group_key(&place.path().join("none")).is_err());
    }

    #[test]
    fn low_ports_are_wanted_only_where_one_is_opened() {
        let mut config = Config::default();
        config.links.udp = vec![([0, 0, 0, 0], 443).into()];
        assert!(!wants_low_ports(&config), "without direct nothing is opened");
        config.mancon.direct = true;
        assert!(wants_low_ports(&config));
        config.links.udp = vec![([0, 0, 0, 0], 2_561).into(), ([0, 0, 0, 0], 0).into()];
        assert!(!wants_low_ports(&config));
    }
}
