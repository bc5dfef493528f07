//! Endpoint URLs: where a peer can be dialled.
//!
//! ```text
//! udp://203.0.113.7:2561   udp://[2001:db8::1]:2561   udp://[fe80::1%eth0]:2561   udp://host.example:2561?token=…
//! unix:///run/byway/link   tcp://host.example:2561    tls://203.0.113.7:443?pin=…&sni=host.example
//! wss://host.example:443/secret/path
//! ```
//!
//! One text for each endpoint: what is printed is read back as the same value. Texts that are almost right are refused
//! with the reason, since a guess would dial somebody else.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::str::FromStr;

use byway_identity::Addr;

/// The scheme of an endpoint URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `udp://host:port`
    Udp,
    /// `unix:///path`
    Unix,
    /// `quic://host:port`
    Quic,
    /// `tcp://host:port`
    Tcp,
    /// `tls://host:port`
    Tls,
    /// `ws://host:port/path`
    Ws,
    /// `wss://host:port/path`
    Wss,
    /// `tor://….onion:port`
    Tor,
    /// `i2p://….b32.i2p`
    I2p,
    /// `lan://interface`
    Lan,
    /// `serial:///dev/…`
    Serial,
}

/// Where a peer can be dialled, as a URL; `?token=`, `pin=` and `sni=` may follow, joined by `&`.
///
/// `Display` gives the URL, token included; `Debug` gives nothing away.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    target: Target,
    /// Of WebSocket alone; empty elsewhere.
    path: String,
    query: Query,
}

/// What may follow the question mark.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Query {
    token: Option<[u8; 32]>,
    pin: Option<[u8; 32]>,
    sni: Option<String>,
}

/// Where an endpoint leads within its scheme.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Target {
    Literal(IpEndpoint),
    Name {
        host: String,
        port: u16,
    },
    Path(String),
    /// Kept as it is for a transport that is not built in.
    Opaque(String),
}

/// An IP address with a port, and a zone where an IPv6 link-local address needs one: `10.0.0.1:9000`,
/// `[2001:db8::1]:9000`, `[fe80::1%eth0]:9000`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IpEndpoint {
    ip: IpAddr,
    zone: Option<String>,
    port: u16,
}

/// Why a text is no endpoint, in words for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

impl EndpointError {
    /// For what is written much like an endpoint and has faults of its own.
    pub fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

/// Longest endpoint text that is read.
const TEXT_MAX: usize = 1_024;
/// Longest host name (RFC 1035) and longest interface name that are read.
const NAME_MAX: usize = 253;
const ZONE_MAX: usize = 15;
/// Longest path of a WebSocket.
const URL_PATH_MAX: usize = 256;
/// Longest path of a Unix socket on Linux, without the closing zero.
const PATH_MAX: usize = 107;

impl Scheme {
    /// Every scheme that an endpoint may have.
    pub const ALL: [Self; 11] = [
        Self::Udp,
        Self::Unix,
        Self::Quic,
        Self::Tcp,
        Self::Tls,
        Self::Ws,
        Self::Wss,
        Self::Tor,
        Self::I2p,
        Self::Lan,
        Self::Serial,
    ];

    /// The text before `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Tor => "tor",
            Self::I2p => "i2p",
            Self::Lan => "lan",
            Self::Serial => "serial",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Endpoint {
    /// `udp://` and a socket address.
    pub fn udp(address: SocketAddr) -> Self {
        Self::at(Scheme::Udp, address)
    }

    /// An endpoint of `scheme` at a socket address, with nothing behind it; for schemes of hosts and ports.
    pub fn at(scheme: Scheme, address: SocketAddr) -> Self {
        let target = Target::Literal(IpEndpoint::from(address));
        Self { scheme, target, path: String::new(), query: Query::default() }
    }

    /// `unix://` and an absolute path.
    pub fn unix(path: &str) -> Result<Self, EndpointError> {
        format!("unix://{path}").parse()
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The link token that came with the endpoint.
    pub fn token(&self) -> Option<[u8; 32]> {
        self.query.token
    }

    /// SHA-256 of the key (SubjectPublicKeyInfo) that the server's certificate must have; without it, authorities count.
    pub fn pin(&self) -> Option<[u8; 32]> {
        self.query.pin
    }

    /// The server name to ask for and to find in the certificate, where it is not the host's.
    pub fn sni(&self) -> Option<&str> {
        self.query.sni.as_deref()
    }

    /// The path of a WebSocket, from its first `/` on; empty where there is none.
    pub fn url_path(&self) -> &str {
        &self.path
    }

    /// The same endpoint with another token, or none.
    #[must_use]
    pub fn with_token(mut self, token: Option<[u8; 32]>) -> Self {
        self.query.token = token;
        self
    }

    /// The same endpoint with another pin, or none.
    #[must_use]
    pub fn with_pin(mut self, pin: Option<[u8; 32]>) -> Self {
        self.query.pin = pin;
        self
    }

    /// The same endpoint with another path of a WebSocket.
    ///
    /// # Errors
    ///
    /// When it has characters that such paths have not, or too many.
    pub fn with_url_path(mut self, path: &str) -> Result<Self, EndpointError> {
        self.path = parse_url_path(path)?;
        Ok(self)
    }

    /// The host as a resolver takes it, without brackets and with its zone, and the port. `None`: the scheme has none.
    pub fn host_port(&self) -> Option<(String, u16)> {
        match &self.target {
            Target::Literal(literal) => Some((literal.host(), literal.port)),
            Target::Name { host, port } => Some((host.clone(), *port)),
            Target::Path(_) | Target::Opaque(_) => None,
        }
    }

    /// The socket address, where no resolver is needed: an IP address without a zone name.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match &self.target {
            Target::Literal(literal) => literal.socket_addr(),
            Target::Name { .. } | Target::Path(_) | Target::Opaque(_) => None,
        }
    }

    /// What follows `://` in an endpoint of a scheme that only its transport reads, without the token.
    pub fn opaque(&self) -> Option<&str> {
        match &self.target {
            Target::Opaque(text) => Some(text),
            Target::Literal(_) | Target::Name { .. } | Target::Path(_) => None,
        }
    }

    /// The path of a Unix socket.
    pub fn path(&self) -> Option<&str> {
        match &self.target {
            Target::Path(path) => Some(path),
            Target::Literal(_) | Target::Name { .. } | Target::Opaque(_) => None,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.len() > TEXT_MAX {
            return fail(format!("an endpoint has at most {TEXT_MAX} characters"));
        }
        if let Some(odd) = text.chars().find(|character| character.is_control() || character.is_whitespace())
        {
            return fail(format!("an endpoint has no {odd:?} in it"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return fail("an endpoint begins with a scheme, for example udp://host:port".to_owned());
        };
        let Some(scheme) = Scheme::ALL.into_iter().find(|known| known.name() == scheme) else {
            let known = Scheme::ALL.map(Scheme::name).join(" ");
            return fail(format!("the scheme {scheme:?} is not known; there are {known}"));
        };
        if rest.contains('#') {
            return fail("an endpoint has no fragment (#)".to_owned());
        }
        let (rest, query) = match rest.split_once('?') {
            None => (rest, Query::default()),
            Some((rest, query)) => (rest, parse_query(scheme, query)?),
        };
        let (rest, path) = match (scheme, rest.find('/')) {
            (Scheme::Ws | Scheme::Wss, Some(at)) => (&rest[..at], parse_url_path(&rest[at..])?),
            _ => (rest, String::new()),
        };
        let target = match scheme {
            Scheme::Udp | Scheme::Quic | Scheme::Tcp | Scheme::Tls | Scheme::Ws | Scheme::Wss => {
                parse_target(rest)?
            }
            Scheme::Unix => parse_path(rest)?,
            _ if rest.is_empty() => return fail(format!("nothing follows {scheme}://")),
            _ => Target::Opaque(rest.to_owned()),
        };
        Ok(Self { scheme, target, path, query })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        match &self.target {
            Target::Literal(literal) => fmt::Display::fmt(literal, f)?,
            Target::Name { host, port } => write!(f, "{host}:{port}")?,
            Target::Path(text) | Target::Opaque(text) => f.write_str(text)?,
        }
        f.write_str(&self.path)?;
        let Query { token, pin, sni } = &self.query;
        let parts = [
            token.map(|token| format!("token={}", Addr::from_bytes(token))),
            pin.map(|pin| format!("pin={}", Addr::from_bytes(pin))),
            sni.as_ref().map(|sni| format!("sni={sni}")),
        ];
        let mut mark = '?';
        for part in parts.into_iter().flatten() {
            write!(f, "{mark}{part}")?;
            mark = '&';
        }
        Ok(())
    }
}

/// Never shows where somebody is.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}, [redacted])", self.scheme)
    }
}

impl IpEndpoint {
    /// The socket address; `None` where a zone is a name, which only the system can turn into a number.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match (self.ip, &self.zone) {
            (IpAddr::V4(ip), _) => Some(SocketAddrV4::new(ip, self.port).into()),
            (IpAddr::V6(ip), None) => Some(SocketAddrV6::new(ip, self.port, 0, 0).into()),
            (IpAddr::V6(ip), Some(zone)) => {
                zone.parse().ok().map(|scope| SocketAddrV6::new(ip, self.port, 0, scope).into())
            }
        }
    }

    fn host(&self) -> String {
        match &self.zone {
            None => self.ip.to_string(),
            Some(zone) => format!("{}%{zone}", self.ip),
        }
    }
}

impl From<SocketAddr> for IpEndpoint {
    fn from(address: SocketAddr) -> Self {
        let zone = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id().to_string()),
            SocketAddr::V6(_) | SocketAddr::V4(_) => None,
        };
        Self { ip: address.ip(), zone, port: address.port() }
    }
}

impl FromStr for IpEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match parse_target(text)? {
            Target::Literal(literal) => Ok(literal),
            _ => fail("this is a host name, and an IP address is wanted".to_owned()),
        }
    }
}

impl fmt::Display for IpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            IpAddr::V4(ip) => write!(f, "{ip}:{}", self.port),
            IpAddr::V6(_) => write!(f, "[{}]:{}", self.host(), self.port),
        }
    }
}

/// Never shows where somebody is.
impl fmt::Debug for IpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IpEndpoint([redacted])")
    }
}

fn fail<T>(why: String) -> Result<T, EndpointError> {
    Err(EndpointError(why))
}

/// `host:port`, `address:port` or `[address%zone]:port`.
fn parse_target(text: &str) -> Result<Target, EndpointError> {
    if text.contains('@') {
        return fail("an endpoint has no user name".to_owned());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((inside, after)) = rest.split_once(']') else {
            return fail("the bracket [ is not closed".to_owned());
        };
        let (ip, zone) = match inside.split_once('%') {
            None => (inside, None),
            Some((ip, zone)) => (ip, Some(parse_zone(zone)?)),
        };
        let Ok(ip) = ip.parse() else {
            return fail("what stands in brackets is no IPv6 address".to_owned());
        };
        let port = parse_port(after.strip_prefix(':'), after.is_empty())?;
        return Ok(Target::Literal(IpEndpoint { ip: IpAddr::V6(ip), zone, port }));
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (text, None),
        Some((host, port)) => (host, Some(port)),
    };
    if host.contains(':') {
        return fail("an IPv6 address stands in brackets: [2001:db8::1]:2561".to_owned());
    }
    if host.is_empty() {
        return fail("the host is missing".to_owned());
    }
    let port = parse_port(port, port.is_none())?;
    if let Ok(ip) = host.parse() {
        return Ok(Target::Literal(IpEndpoint { ip: IpAddr::V4(ip), zone: None, port }));
    }
    Ok(Target::Name { host: parse_name(host)?, port })
}

fn parse_port(text: Option<&str>, missing: bool) -> Result<u16, EndpointError> {
    if missing {
        return fail("the port is missing: host:port".to_owned());
    }
    let digits = text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.filter(|text| !text.starts_with('0')).and_then(|text| text.parse().ok()) {
        Some(port) => Ok(port),
        None => fail("the port is a number from 1 to 65535 at the end, without leading zeros".to_owned()),
    }
}

fn parse_zone(zone: &str) -> Result<String, EndpointError> {
    // The percent sign stands for itself: RFC 6874's %25 could not be told from interface number 25.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if zone.is_empty() || zone.len() > ZONE_MAX || !zone.bytes().all(fits) {
        return fail("the zone after % is the name or number of an interface".to_owned());
    }
    Ok(zone.to_owned())
}

fn parse_name(host: &str) -> Result<String, EndpointError> {
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > NAME_MAX || !name.split('.').all(label_fits) {
        return fail("the host is neither an IP address nor a host name".to_owned());
    }
    // A last label of digits can only be a mistyped IPv4 address: no such top-level domain exists.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return fail("the host looks like an IPv4 address, but is none".to_owned());
    }
    Ok(name.to_ascii_lowercase())
}

fn parse_path(rest: &str) -> Result<Target, EndpointError> {
    if !rest.starts_with('/') || rest.len() < 2 {
        return fail("a Unix socket has an absolute path: unix:///path".to_owned());
    }
    if rest.len() > PATH_MAX {
        return fail(format!("the path of a Unix socket has at most {PATH_MAX} characters"));
    }
    Ok(Target::Path(rest.to_owned()))
}

/// A path of unreserved characters, of those that separate, and of escapes (RFC 3986, section 3.3).
fn parse_url_path(path: &str) -> Result<String, EndpointError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    if !path.starts_with('/') || path.len() > URL_PATH_MAX || !path.bytes().all(fits) {
        return fail(format!(
            "a path begins with / and has at most {URL_PATH_MAX} characters that URLs may have"
        ));
    }
    Ok(path.to_owned())
}

fn parse_query(scheme: Scheme, query: &str) -> Result<Query, EndpointError> {
    let has_certificate = matches!(scheme, Scheme::Quic | Scheme::Tls | Scheme::Wss);
    let mut read = Query::default();
    for part in query.split('&') {
        let twice = match part.split_once('=') {
            Some(("token", value)) => read.token.replace(parse_secret("token", value)?).is_some(),
            Some(("pin", value)) if has_certificate => {
                read.pin.replace(parse_secret("pin", value)?).is_some()
            }
            Some(("sni", value)) if has_certificate => read.sni.replace(parse_name(value)?).is_some(),
            _ if has_certificate => {
                return fail("after ? only token=…, pin=… and sni=… may follow".to_owned());
            }
            _ => return fail("after ? only token=… may follow".to_owned()),
        };
        if twice {
            return fail("after ? something stands twice".to_owned());
        }
    }
    Ok(read)
}

fn parse_secret(what: &str, text: &str) -> Result<[u8; 32], EndpointError> {
    match text.parse::<Addr>() {
        Ok(bytes) => Ok(*bytes.as_bytes()),
        Err(_) => fail(format!("a {what} has 43 characters of - 0-9 A-Z _ a-z; was it copied whole?")),
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
