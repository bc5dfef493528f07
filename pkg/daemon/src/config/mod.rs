//! The configuration: one TOML file, read whole, so that every fault is told at once.
//!
//! Each key has a default, and [`DEFAULT`] is a file that spells all of them out. A key that asks for something
//! that this version does not have is refused rather than ignored: whoever writes `tor.mode = "embedded"` relies
//! on it.

mod fault;
mod links;
mod parse;
mod read;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use byway_api::ManCon;
use byway_identity::{Addr, Ipv6Range};
use byway_link::{Accept, Allowed, Endpoint, PeerConfig, Scheme};
use byway_portal::Allow;
use byway_transport_i2p::Tunnels;
use byway_transport_ip::Proxy;
use byway_transport_tor::ControlPlace;

pub use fault::{Fault, Faults};
pub(crate) use parse::{known_peers, petname};

/// The endpoint that `text` is; else what is wrong, in words.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
    parse::read_endpoint(text)
        .map_err(|(what, help)| help.map_or(what.clone(), |help| format!("{what}; {help}")))
}

/// The kind of links that `text` names; else what is wrong, in words.
pub(crate) fn transport(text: &str) -> Result<Scheme, String> {
    parse::read_transport(text)
        .map_err(|(what, help)| help.map_or(what.clone(), |help| format!("{what}; {help}")))
}

/// A commented file that says what happens when nothing is configured.
pub const DEFAULT: &str = include_str!("default.toml");

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[node]`: the file of the daemon's own key; relative paths start at the state directory.
    pub key: PathBuf,
    /// `[log] level`.
    pub log: LogLevel,
    /// `[api]`.
    pub api: Api,
    /// `[network]`.
    pub network: Network,
    /// `[mancon]`.
    pub mancon: Levels,
    /// `[portal]`.
    pub portal: Portal,
    /// `[links]`.
    pub links: Links,
    /// `[session]`.
    pub session: Session,
    /// `[[peers]]`.
    pub peers: Vec<Peer>,
}

/// How much the daemon tells about itself on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what went wrong for good.
    Error,
    /// What somebody should look at, too.
    Warn,
    /// What happens now and then, too.
    Info,
    /// What a developer wants to know, too.
    Debug,
    /// Everything.
    Trace,
}

/// The local API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Where it listens.
    pub listen: Vec<Listen>,
    /// Level of INET256 clients, whose requests carry none; none: the default of all.
    pub inet256_mancon: Option<ManCon>,
}

/// One place where the API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// The socket where commands look for it.
    Default,
    /// A Unix socket at this path; relative paths start at the state directory.
    Unix(PathBuf),
    /// TCP on a loopback address, with a token.
    Tcp(SocketAddr),
}

/// Which network this node belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// How it finds ways; all of its nodes must agree.
    pub protocol: Protocol,
    /// Its name, which both ends of a link must have in common.
    pub name: String,
    /// The file with the key of a closed group; relative paths start at the state directory.
    pub group_key_file: Option<PathBuf>,
}

/// A routing protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// By several spanning trees at once: for networks of any size.
    Grove,
    /// By flooded beacons: for up to 200 nodes.
    Beacon,
}

/// What requests need, and what the user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Level of requests that carry none.
    pub default: ManCon,
    /// No request goes below it.
    pub floor: ManCon,
    /// Whether clear IP and LAN links are opened at all.
    pub direct: bool,
}

/// IPv6 for ordinary programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// Whether there is one.
    pub enabled: bool,
    /// Name of the device.
    pub device: String,
    /// Overlay addresses are made under this prefix.
    pub prefix: Ipv6Range,
    /// MTU of the device in bytes; 0: 1420.
    pub mtu: u16,
    /// Level of packets; none: the default of all.
    pub mancon: Option<ManCon>,
    /// Threads that move packets, of this machine and of others: 1, 2 or more pairs.
    pub threads: u16,
    /// Whether device and UDP sockets may have the kernel join packets, where it can (TSO, USO, UDP_SEGMENT, UDP_GRO).
    pub offload: bool,
    /// Who may open flows to this machine.
    pub allow: Vec<Allow>,
}

/// Links to other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// Who may link to this node.
    pub accept: Accept,
    /// Where UDP listens.
    pub udp: Vec<SocketAddr>,
    /// What TCP, TLS and WebSocket go out through.
    pub proxy: Option<Proxy>,
    /// Where QUIC listens.
    pub quic: Vec<SocketAddr>,
    /// Where TCP listens.
    pub tcp: Vec<SocketAddr>,
    /// `[links.tls]`.
    pub tls: Tls,
    /// `[links.websocket]`.
    pub websocket: WebSocket,
    /// Sockets of this machine at which other daemons of the same user may link; relative paths start at the state directory.
    pub unix: Vec<PathBuf>,
    /// `links.tor`, unless its mode is `off`.
    pub tor: Option<Tor>,
    /// `links.i2p`, unless its mode is `off`.
    pub i2p: Option<I2p>,
}

/// Links that look like a browser and a web server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// What strangers get, at WebSocket's listeners too.
    pub site: Site,
    /// Files with a chain of certificates and its key, as PEM; none: made by the daemon, and kept.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// What strangers get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Site {
    /// Nothing is found.
    #[default]
    Empty,
    /// The page in this file; relative paths start at the state directory.
    Page(PathBuf),
    /// What this server says.
    Upstream(SocketAddr),
}

/// Links over WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSocket {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// The path at which links begin.
    pub path: String,
    /// Whether it speaks TLS itself; else a reverse proxy does.
    pub tls: bool,
}

/// Links through an I2P router that runs on this machine (`mode = "sam"`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct I2p {
    /// Its SAM bridge.
    pub sam: SocketAddr,
    /// The tunnels of this node's session.
    pub tunnels: Tunnels,
}

/// Links through a tor that runs on this machine (`mode = "system"`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tor {
    /// Its SOCKS port.
    pub socks: SocketAddr,
    /// Its control port; none: others cannot dial this node over Tor.
    pub control: Option<ControlPlace>,
    /// The file with the control port's password; none: tor's cookie. Relative paths start at the state directory.
    pub password_file: Option<PathBuf>,
    /// The port of the onion service.
    pub port: u16,
}

/// Encryption, on links and end to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Ciphers that are offered besides ChaCha20-Poly1305, which always is.
    pub ciphers: Vec<Cipher>,
    /// Time between key ratchets.
    pub ratchet: Duration,
}

/// A cipher that is faster than ChaCha20-Poly1305 where the machine has instructions for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-256-GCM.
    Aes,
    /// AEGIS-128L: taken before all others where both ends offer it.
    Aegis,
}

/// A peer to keep a link to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub addr: Addr,
    /// Its petname.
    pub name: Option<String>,
    /// Where it can be dialled; empty: it may only dial in.
    pub endpoints: Vec<Endpoint>,
    /// By what links to it may go, whoever dials; empty: by all.
    pub transports: Vec<Scheme>,
}

impl Peer {
    /// What the links' core is told.
    pub(crate) fn link(&self) -> PeerConfig {
        let allowed = match &self.transports[..] {
            [] => Allowed::ALL,
            schemes => Allowed::only(schemes.iter().copied()),
        };
        PeerConfig { addr: self.addr, endpoints: self.endpoints.clone(), allowed }
    }
}

impl Config {
    /// Reads `text`; `file` is how the user knows it. Either everything is in order, or all faults are told.
    ///
    /// ```
    /// use byway_daemon::config::Config;
    ///
    /// let config = Config::parse("[mancon]\ndefault = \"low\"\n", "byway.toml")?;
    /// assert_eq!(config.mancon.default.name(), "low");
    ///
    /// let faults = Config::parse("[mancon]\ndefault = 5\nflor = \"low\"\n", "byway.toml").unwrap_err();
    /// assert_eq!(faults.faults.len(), 2);
    /// assert!(faults.to_string().contains("did you mean \"floor\"?"));
    /// # Ok::<(), byway_daemon::config::Faults>(())
    /// ```
    pub fn parse(text: &str, file: &str) -> Result<Self, Faults> {
        parse::config(text, file)
    }
}

/// The text of the configuration file at `path`, which is refused when it is absurdly long.
pub fn read(path: &Path) -> Result<String, ReadError> {
    let error = |source| ReadError { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(error)?;
    let length = file.take(LENGTH_MAX + 1).read_to_string(&mut text).map_err(error)?;
    if length as u64 > LENGTH_MAX {
        return Err(error(std::io::Error::other("longer than any configuration")));
    }
    Ok(text)
}

/// Why a configuration file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the configuration {}: {source}", .path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub source: std::io::Error,
}

/// Longest configuration that is read, in bytes.
const LENGTH_MAX: u64 = 4 * 1024 * 1024;

impl Default for Config {
    fn default() -> Self {
        Self {
            key: "identity.pem".into(),
            log: LogLevel::Info,
            api: Api { listen: vec![Listen::Default], inet256_mancon: None },
            network: Network { protocol: Protocol::Grove, name: "byway".into(), group_key_file: None },
            mancon: Levels { default: ManCon::High, floor: ManCon::Low, direct: false },
            portal: Portal {
                enabled: true,
                device: "byway0".into(),
                prefix: Ipv6Range::default(),
                mtu: 0,
                mancon: None,
                threads: 2,
                offload: true,
                allow: Vec::new(),
            },
            links: Links {
                accept: Accept::Peers,
                udp: vec![SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 2561))],
                proxy: None,
                quic: Vec::new(),
                tcp: Vec::new(),
                tls: Tls::default(),
                websocket: WebSocket::default(),
                unix: Vec::new(),
                tor: None,
                i2p: None,
            },
            session: Session { ciphers: vec![Cipher::Aes], ratchet: Duration::from_secs(120) },
            peers: Vec::new(),
        }
    }
}

impl Default for I2p {
    fn default() -> Self {
        Self { sam: SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 7656)), tunnels: Tunnels::default() }
    }
}

impl Default for Tor {
    fn default() -> Self {
        Self {
            socks: SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 9050)),
            control: Some(ControlPlace::Unix("/run/tor/control".into())),
            password_file: None,
            port: 2561,
        }
    }
}

impl Protocol {
    /// What makes nodes of it.
    pub const fn network(self) -> byway_network::Protocol {
        match self {
            Self::Grove => byway_grove::PROTOCOL,
            Self::Beacon => byway_beacon::PROTOCOL,
        }
    }

    /// The name in the file.
    pub const fn name(self) -> &'static str {
        self.network().name()
    }
}

impl LogLevel {
    /// The name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
