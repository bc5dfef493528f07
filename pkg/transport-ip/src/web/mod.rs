//! TCP, TLS and WebSocket: links that pass where only the web does.
//!
//! All three are one transport with another look. Connections are made, secured and told from strangers in tasks of their
//! own; what reaches the transport are frames.
//!
//! ```text
//!  dial ──► connect ─┐                      ┌─► carry ◄─► frames
//!                    ├─► Established ─► Web ┤
//!  listen ─► accept ─┘                      └─► Opened, Closed
//!              └─► site, for strangers
//! ```

mod accept;
mod carry;
mod connect;
mod head;
mod knock;
mod proxy;
#[cfg(feature = "quic")]
mod quic;
mod site;
mod tls;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use byway_identity::Addr;
use byway_link::{
    DialError, DialId, Endpoint, Event, Place, Profile, Remote, Scheme, Transport, TransportId,
};
use byway_network::{Class, Family};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::lookup::Lookups;
use accept::{Door, Guests, Listener};
use carry::{Established, Framing, MTU, Note, Outgoing, carry};
use connect::Dialler;
use knock::{Book, Channel, Secret};

pub use proxy::Proxy;
pub use site::Site;
pub use tls::Certificate;

/// What its links look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing in particular.
    Tcp,
    /// A browser and a web server.
    Tls,
    /// The same, through reverse proxies where there are any.
    WebSocket,
    /// A browser and a web server over HTTP/3, which only those see who know the server.
    #[cfg(feature = "quic")]
    Quic,
}

/// What a listener that hides needs.
pub struct Front {
    /// The address of this daemon, which clients must know.
    pub me: Addr,
    /// What strangers get; over QUIC nothing.
    pub site: Site,
    /// The path at which clients ask for a link; others belong to the site.
    pub path: String,
    /// For TLS; without it a reverse proxy takes care of that.
    pub certificate: Option<Certificate>,
}

/// Links over TCP, TLS or WebSocket.
pub struct Web {
    id: TransportId,
    look: Look,
    dialler: Arc<Dialler>,
    dials: Lookups<Established>,
    lines: HashMap<u64, Outgoing>,
    next: u64,
    notes: (mpsc::Sender<Note>, mpsc::Receiver<Note>),
    accepted: (mpsc::Sender<Established>, mpsc::Receiver<Established>),
    pending: VecDeque<Event>,
    listening: Vec<Endpoint>,
    /// They end with the transport.
    listeners: JoinSet<()>,
    guests: Arc<Guests>,
    counters: WebCounters,
}

/// What such a transport counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebCounters {
    /// Frames sent.
    pub sent: u64,
    /// Frames received.
    pub received: u64,
    /// Dropped: the other side does not take them, or is gone.
    pub dropped: u64,
    /// Connections that were refused since there were too many, or ended for bytes that are no frame.
    pub refused: u64,
}

/// A connection of any kind.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Connections over which frames go.
const CONNECTIONS_MAX: usize = 1_024;
/// Batches of frames, and new connections, that wait for the transport.
const NOTES: usize = 64;
/// How long dialling may take, and how long through a proxy, which may lead far.
const DIAL: Duration = Duration::from_secs(10);
const DIAL_BY_PROXY: Duration = Duration::from_secs(30);
/// Events given in one turn.
const TURN: usize = 512;

impl Web {
    /// A transport that only dials, through `proxy` if there is one.
    pub fn new(id: TransportId, look: Look, proxy: Option<Proxy>) -> Self {
        Self {
            id,
            look,
            dialler: Arc::new(Dialler::new(proxy)),
            dials: Lookups::new(),
            lines: HashMap::new(),
            next: 0,
            notes: mpsc::channel(NOTES),
            accepted: mpsc::channel(NOTES),
            pending: VecDeque::new(),
            listening: Vec::new(),
            listeners: JoinSet::new(),
            guests: Arc::default(),
            counters: WebCounters::default(),
        }
    }

    /// Listens at `address` for whoever comes.
    ///
    /// # Errors
    ///
    /// As `bind` of the system.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<()> {
        let endpoint = self.add(address, Scheme::Tcp, None, None)?;
        self.listening.push(endpoint);
        Ok(())
    }

    /// Listens at `address`, and is a web site to all who do not know this daemon's address.
    ///
    /// # Errors
    ///
    /// As `bind` of the system; also for a certificate that TLS cannot use, or a path that is none.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn hide(&mut self, address: SocketAddr, front: Front) -> io::Result<()> {
        let Front { me, site, path, certificate } = front;
        #[cfg(feature = "quic")]
        if self.look == Look::Quic {
            let certificate = certificate.ok_or(io::ErrorKind::InvalidInput)?;
            let established = self.accepted.0.clone();
            let (at, run) = quic::listen(address, Secret::new(&me, None), &certificate, established)?;
            self.listeners.spawn(run);
            self.listening.push(Endpoint::at(Scheme::Quic, at).with_pin(certificate.pin()));
            return Ok(());
        }
        let is_end_to_end = self.look == Look::Tls;
        let scheme = match (self.look, &certificate) {
            (Look::Tls, Some(_)) => Scheme::Tls,
            (Look::WebSocket, Some(_)) => Scheme::Wss,
            (Look::WebSocket, None) => Scheme::Ws,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let pin = certificate.as_ref().and_then(Certificate::pin);
        let tls = certificate.map(|certificate| certificate.server(&[b"http/1.1"])).transpose()?;
        let framing = if is_end_to_end { Framing::Length } else { Framing::WebSocket(Role::Server) };
        let book = Mutex::new(Book::new(Secret::new(&me, None), connect::unix_ms()));
        let odd = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let path = if is_end_to_end { "/".to_owned() } else { path };
        let door = Door { book, site, path: path.clone(), framing, is_end_to_end };
        let endpoint = self.add(address, scheme, tls.map(TlsAcceptor::from), Some(Arc::new(door)))?;
        let endpoint = endpoint.with_pin(pin);
        self.listening.push(if is_end_to_end {
            endpoint
        } else {
            endpoint.with_url_path(&path).map_err(odd)?
        });
        Ok(())
    }

    /// What was counted since the start.
    pub fn counters(&self) -> WebCounters {
        self.counters
    }

    fn add(
        &mut self,
        address: SocketAddr,
        scheme: Scheme,
        tls: Option<TlsAcceptor>,
        door: Option<Arc<Door>>,
    ) -> io::Result<Endpoint> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let endpoint = Endpoint::at(scheme, socket.local_addr()?);
        let listener = Listener {
            socket: tokio::net::TcpListener::from_std(socket)?,
            scheme: scheme.name(),
            tls,
            door,
            guests: Arc::clone(&self.guests),
            established: self.accepted.0.clone(),
        };
        self.listeners.spawn(listener.run());
        Ok(endpoint)
    }

    /// Gives a connection its number, and a task that carries its frames.
    fn open(&mut self, connection: Established) -> Option<Place> {
        if self.lines.len() >= CONNECTIONS_MAX {
            self.counters.refused += 1;
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.lines.insert(number, carry(number, connection, self.notes.0.clone()));
        Some(self.place(number))
    }

    fn place(&self, number: u64) -> Place {
        Place { transport: self.id, remote: Remote::Connection(number), mtu: MTU }
    }

    fn note(&mut self, note: Note, batch: &mut Vec<Event>) {
        match note {
            // What was still on its way when the transport hung up is nobody's any more.
            Note::Frames(number, _) if !self.lines.contains_key(&number) => {}
            Note::Frames(number, frames) => {
                self.counters.received += frames.len() as u64;
                let place = self.place(number);
                batch.extend(frames.into_iter().map(|frame| Event::Frame { place, frame }));
            }
            Note::Closed(number, is_nonsense) => {
                self.counters.refused += u64::from(is_nonsense);
                if self.lines.remove(&number).is_some() {
                    batch.push(Event::Closed { place: self.place(number) });
                }
            }
        }
    }
}

impl Transport for Web {
    fn profile(&self) -> Profile {
        let kind = match self.look {
            Look::Tcp => 2,
            Look::Tls => 3,
            Look::WebSocket => 4,
            #[cfg(feature = "quic")]
            Look::Quic => 1,
        };
        let class = Class::new(Family::Ip, kind);
        // Datagrams are lost as any are; what is too long for one never is, so lengths need no search.
        Profile { class, typical_rtt: Duration::from_millis(50), rate: None, lossy: false }
    }

    fn schemes(&self) -> &'static [Scheme] {
        match self.look {
            Look::Tcp => &[Scheme::Tcp],
            Look::Tls => &[Scheme::Tls],
            Look::WebSocket => &[Scheme::Ws, Scheme::Wss],
            #[cfg(feature = "quic")]
            Look::Quic => &[Scheme::Quic],
        }
    }

    fn dial(&mut self, id: DialId, _endpoint: &Endpoint) {
        // Without knowing whom, nothing but a stranger's answer would come.
        self.pending.push_back(Event::Dialled { id, result: Err(DialError::Unsupported) });
    }

    fn dial_peer(&mut self, id: DialId, peer: &Addr, endpoint: &Endpoint) {
        let started = if self.dials(endpoint) {
            let patience = if self.dialler.proxy.is_some() { DIAL_BY_PROXY } else { DIAL };
            let connect = Arc::clone(&self.dialler).establish(*peer, endpoint.clone());
            self.dials.start(id, patience, DialError::Unreachable, connect)
        } else {
            Err(DialError::Unsupported)
        };
        if let Err(why) = started {
            self.pending.push_back(Event::Dialled { id, result: Err(why) });
        }
    }

    fn hang_up(&mut self, place: Place) {
        if let Remote::Connection(number) = place.remote {
            self.lines.remove(&number);
        }
    }

    fn listening(&self) -> Vec<Endpoint> {
        self.listening.clone()
    }

    fn describe(&self, place: Place) -> String {
        match place.remote {
            Remote::Connection(number) => self.lines.get(&number).map(|line| line.name.clone()),
            Remote::Ip(_) => None,
        }
        .unwrap_or_default()
    }

    fn poll_send(
        &mut self,
        _cx: &mut Context<'_>,
        batch: &mut VecDeque<(Place, Bytes)>,
    ) -> Poll<io::Result<()>> {
        for (place, frame) in batch.drain(..) {
            let Remote::Connection(number) = place.remote else { continue };
            if self.lines.get(&number).is_some_and(|line| line.send(frame)) {
                self.counters.sent += 1;
            } else {
                self.counters.dropped += 1;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) -> Poll<io::Result<()>> {
        let before = batch.len();
        batch.extend(self.pending.drain(..));
        while let Poll::Ready((id, result)) = self.dials.poll(cx) {
            let result = result.and_then(|connection| self.open(connection).ok_or(DialError::Unreachable));
            batch.push(Event::Dialled { id, result: result.map(|place| vec![place]) });
        }
        // Neither channel can close, since this holds a sender of each.
        while let Poll::Ready(Some(connection)) = self.accepted.1.poll_recv(cx) {
            if let Some(place) = self.open(connection) {
                batch.push(Event::Opened { place });
            }
        }
        while batch.len() - before < TURN {
            let Poll::Ready(Some(note)) = self.notes.1.poll_recv(cx) else { break };
            self.note(note, batch);
        }
        if batch.len() > before { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// Never shows where it listens, or to whom it is linked.
impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web")
            .field("id", &self.id)
            .field("look", &self.look)
            .field("connections", &self.lines.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// What both ends of a TLS connection know of it, and nobody else (RFC 9266). Before TLS 1.3 that takes more than is checked here.
fn exported<D>(connection: &rustls::ConnectionCommon<D>) -> Option<Channel> {
    if connection.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3) {
        return None;
    }
    let key = connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).ok()?;
    Some(Channel::Tls(key))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::carry::Carrier;
    use super::*;

    fn connection() -> (Established, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let carrier = Carrier::Stream { stream: Box::new(near), framing: Framing::Length, early: Vec::new() };
        (Established { carrier, name: String::new() }, far)
    }

    #[tokio::test]
    async fn connections_with_frames_are_bounded_and_their_room_is_given_back() {
        let mut web = Web::new(TransportId(0), Look::Tcp, None);
        let mut ends = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let (connection, end) = connection();
            assert!(web.open(connection).is_some());
            ends.push(end);
        }
        assert_eq!(web.open(connection().0), None);
        assert_eq!(web.counters().refused, 1);
        // One ends by itself, one is hung up.
        drop(ends.pop());
        let mut events = Vec::new();
        poll_fn(|cx| web.poll_recv(cx, &mut events)).await.expect("it never fails");
        assert!(matches!(events[..], [Event::Closed { .. }]), "{events:?}");
        web.hang_up(web.place(0));
        for _ in 0..2 {
            assert!(web.open(connection().0).is_some());
        }
        assert_eq!(web.open(connection().0), None);
    }
}
