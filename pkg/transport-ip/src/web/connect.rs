//! Dialling: to the host, through a proxy if there is one, into TLS, and past the web site.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use byway_identity::{Addr, Entropy, OsEntropy};
use byway_link::{DialError, Endpoint, Scheme};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::carry::{Carrier, Established, Framing};
use super::head::{self, Reply};
use super::knock::{Channel, Secret};
use super::{Io, Proxy, exported, tls};

/// Dials endpoints of one kind.
pub(crate) struct Dialler {
    pub(crate) proxy: Option<Proxy>,
    /// Read when they are first needed: most peers are pinned.
    roots: OnceLock<Arc<RootCertStore>>,
    #[cfg(feature = "quic")]
    quic: std::sync::Mutex<Option<quinn::Endpoint>>,
}

/// Between attempts at the addresses of one name.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// How far clocks may differ before that is told as the reason.
const CLOCKS: i64 = 240;

impl Dialler {
    pub(crate) fn new(proxy: Option<Proxy>) -> Self {
        Self {
            proxy,
            roots: OnceLock::new(),
            #[cfg(feature = "quic")]
            quic: std::sync::Mutex::default(),
        }
    }

    /// A connection to `peer` at `endpoint` over which frames may go.
    pub(crate) async fn establish(
        self: Arc<Self>,
        peer: Addr,
        endpoint: Endpoint,
    ) -> Result<Established, DialError> {
        let (host, port) = endpoint.host_port().ok_or(DialError::Unsupported)?;
        #[cfg(feature = "quic")]
        if endpoint.scheme() == Scheme::Quic {
            let addresses = addresses(&endpoint, &host, port).await?;
            let socket = self.quic().map_err(|_| DialError::Unreachable)?;
            let config = super::quic::client(&endpoint, &self.roots_for(&endpoint))?;
            let connected =
                super::quic::connect(&socket, addresses, (&peer, &endpoint, host.as_str()), config).await;
            return connected.map(|it| Established { carrier: Carrier::Quic(it), name: bare(&endpoint) });
        }
        let stream = match &self.proxy {
            Some(proxy) => proxy.connect(&host, port).await?,
            None => fastest(addresses(&endpoint, &host, port).await?).await?,
        };
        // Without it small frames only come later.
        let _ = stream.set_nodelay(true);
        let (stream, channel) = match endpoint.scheme() {
            Scheme::Tls => {
                let stream = self.secure(stream, &endpoint, &host, &[b"h2", b"http/1.1"]).await?;
                let channel = exported(stream.get_ref().1).ok_or(DialError::Unreachable)?;
                (Box::new(stream) as Box<dyn Io>, channel)
            }
            // A browser asks for no HTTP/2 when it opens a WebSocket; and whoever ends the TLS over there may not be the peer.
            Scheme::Wss => {
                (Box::new(self.secure(stream, &endpoint, &host, &[b"http/1.1"]).await?) as _, Channel::Any)
            }
            Scheme::Ws => (Box::new(stream) as _, Channel::Any),
            _ => {
                let carrier =
                    Carrier::Stream { stream: Box::new(stream), framing: Framing::Length, early: Vec::new() };
                return Ok(Established { carrier, name: bare(&endpoint) });
            }
        };
        knock(stream, channel, &peer, &endpoint, &host, port).await
    }

    /// The authorities that count for `endpoint`; none where a pin does.
    fn roots_for(&self, endpoint: &Endpoint) -> Arc<RootCertStore> {
        match endpoint.pin() {
            Some(_) => Arc::new(RootCertStore::empty()),
            None => Arc::clone(self.roots.get_or_init(|| Arc::new(tls::roots()))),
        }
    }

    /// The socket of connections over QUIC, opened for the first of them.
    #[cfg(feature = "quic")]
    fn quic(&self) -> std::io::Result<quinn::Endpoint> {
        let mut kept = self.quic.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if kept.is_none() {
            *kept = Some(super::quic::dialler()?);
        }
        kept.clone().ok_or_else(|| std::io::ErrorKind::NotConnected.into())
    }

    async fn secure(
        &self,
        stream: TcpStream,
        endpoint: &Endpoint,
        host: &str,
        protocols: &[&[u8]],
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, DialError> {
        let name = endpoint.sni().unwrap_or(host).trim_end_matches('.').to_owned();
        let name = ServerName::try_from(name).map_err(|_| DialError::Name)?;
        let roots = self.roots_for(endpoint);
        let config = tls::client(endpoint.pin(), &roots, protocols)?;
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| tls::fault(&error))
    }
}

/// The addresses that an endpoint stands for.
async fn addresses(endpoint: &Endpoint, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    if let Some(address) = endpoint.socket_addr() {
        return Ok(vec![address]);
    }
    let found = tokio::net::lookup_host((host, port)).await.map_err(|_| DialError::Name)?;
    Ok(found.take(ADDRESSES_MAX).collect())
}

/// Proves that the server's address is known, and waits for what it says to that.
async fn knock(
    mut stream: Box<dyn Io>,
    channel: Channel,
    peer: &Addr,
    endpoint: &Endpoint,
    host: &str,
    port: u16,
) -> Result<Established, DialError> {
    let is_tls = endpoint.scheme() != Scheme::Ws;
    let host = endpoint.sni().map_or_else(
        || if host.contains(':') { format!("[{host}]") } else { host.to_owned() },
        str::to_owned,
    );
    let host = if port == if is_tls { 443 } else { 80 } { host } else { format!("{host}:{port}") };
    let path = if endpoint.url_path().is_empty() { "/" } else { endpoint.url_path() };
    let (mut nonce, mut key) = ([0; 16], [0; 16]);
    OsEntropy.fill(&mut nonce);
    OsEntropy.fill(&mut key);
    let key = head::websocket_key(key);
    let proof = Secret::new(peer, endpoint.token()).knock(channel, unix_ms(), nonce);
    let request = head::request(&host, path, is_tls, &proof, &key);
    stream.write_all(request.as_bytes()).await.map_err(|_| DialError::Unreachable)?;
    stream.flush().await.map_err(|_| DialError::Unreachable)?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await.map_err(|_| DialError::Unreachable)? == 0 {
            return Err(if answer.is_empty() { DialError::Unreachable } else { DialError::Site });
        }
        match head::reply(&answer, &key) {
            Reply::More => {}
            Reply::Site(date) => {
                return Err(date.as_deref().and_then(clocks_differ).unwrap_or(DialError::Site));
            }
            Reply::Welcome(early) => {
                let is_tls = endpoint.scheme() == Scheme::Tls;
                let framing = if is_tls { Framing::Length } else { Framing::WebSocket(Role::Client) };
                let carrier = Carrier::Stream { stream, framing, early };
                return Ok(Established { carrier, name: bare(endpoint) });
            }
        }
    }
}

/// The connection that is there first. Each address has a head start over the next one.
async fn fastest(addresses: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
    if addresses.is_empty() {
        return Err(DialError::Name);
    }
    let mut attempts: FuturesUnordered<_> = (0u32..)
        .zip(addresses)
        .map(|(number, address)| async move {
            tokio::time::sleep(STAGGER * number).await;
            TcpStream::connect(address).await
        })
        .collect();
    while let Some(attempt) = attempts.next().await {
        if let Ok(stream) = attempt {
            return Ok(stream);
        }
    }
    Err(DialError::Unreachable)
}

/// An endpoint as `byway links` shows it, without what only dialling needs.
fn bare(endpoint: &Endpoint) -> String {
    let text = endpoint.to_string();
    text.split('?').next().unwrap_or_default().to_owned()
}

/// Whether the server's `Date` is far from our time.
fn clocks_differ(date: &str) -> Option<DialError> {
    let theirs = httpdate::parse_http_date(date).ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let ahead = i64::try_from(theirs).ok()? - i64::try_from(unix_ms() / 1_000).ok()?;
    (ahead.abs() > CLOCKS).then_some(DialError::Clock(ahead))
}

/// Unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_and_one_that_is_near_is_not() {
        let date = |ahead: i64| {
            let now = SystemTime::now();
            let offset = Duration::from_secs(ahead.unsigned_abs());
            httpdate::fmt_http_date(if ahead < 0 { now - offset } else { now + offset })
        };
        for ahead in [-86_400, 86_400, 300] {
            let Some(DialError::Clock(found)) = clocks_differ(&date(ahead)) else { panic!("{ahead}") };
            assert!((found - ahead).abs() <= 2, "{found} for {ahead}");
        }
        assert_eq!(clocks_differ(&date(100)), None);
        assert_eq!(clocks_differ("yesterday"), None);
    }
}
