//! UDP: one socket, many peers.
//!
//! Frames of equal size to the same place leave in one call (UDP_SEGMENT), and what the kernel joined on the way in
//! (UDP_GRO) is taken apart again. Datagrams are never fragmented by IP: the core finds out which length passes
//! (spec/30-link.md, section 6). Whatever goes wrong with one destination ends with that frame.
//!
//! ```text
//!  own:   socket ─► poll_recv ─► core            fed:  socket ─► a thread ─► Feed ─► poll_recv ─► core
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_fastpath::{Ecn, HandUp, Trains, Underlay};
use byway_link::{
    DialError, DialId, Endpoint, Event, Place, Profile, Remote, Scheme, Transport, TransportId,
};
use byway_network::Class;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::feed::{Fed, Feed, feed};
use crate::lookup::Lookups;
use crate::shared::{Options, SharedUdp, UdpCounters, canonical};

/// Links over UDP.
pub struct Udp {
    id: TransportId,
    shared: Arc<SharedUdp>,
    source: Source,
    lookups: Lookups<Vec<SocketAddr>>,
    /// Answers that need no lookup.
    answers: VecDeque<Event>,
    /// Frames of one train, side by side.
    train: Vec<u8>,
}

/// Where frames come from.
enum Source {
    /// The socket, which the runtime watches by another descriptor.
    Own { watched: UdpSocket, trains: Trains },
    /// Threads that read the socket. The runtime watches it only while a frame waits to be sent: it would be woken by every
    /// train of the threads otherwise.
    Fed { fed: Fed, blocked: Option<UdpSocket> },
}

/// What a thread needs of a UDP transport: its socket, or one beside it, and the way to the core.
#[derive(Clone, Debug)]
pub struct UdpPort {
    id: TransportId,
    shared: Arc<SharedUdp>,
    feed: Feed,
}

/// What a 1,500-byte underlay leaves for a UDP payload.
const MTU_V4: u16 = 1_472;
const MTU_V6: u16 = 1_452;
/// Trains taken in one call.
const BATCH: usize = 8;
/// Bytes of one train of control frames, and how many there may be: the socket cuts it up if need be.
const TRAIN_MAX: usize = 65_507;
const SEGMENTS_MAX: usize = 64;
const RESOLVE: Duration = Duration::from_secs(10);

impl Udp {
    /// A socket bound to `address`; `[::]` takes IPv4 too. Where the machine has no IPv6, `[::]` becomes `0.0.0.0`.
    ///
    /// # Errors
    ///
    /// As `socket` and `bind` of the system: most often that the address is in use.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn bind(id: TransportId, address: SocketAddr) -> io::Result<Self> {
        Self::bind_with(id, address, Options::default())
    }

    /// The same with other options.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn bind_with(id: TransportId, address: SocketAddr, options: Options) -> io::Result<Self> {
        Self::over(id, Arc::new(SharedUdp::bind(address, options)?))
    }

    /// A transport on a socket that was bound elsewhere.
    ///
    /// # Errors
    ///
    /// As the options that it sets on the socket.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn from_std(id: TransportId, socket: std::net::UdpSocket) -> io::Result<Self> {
        Self::over(id, Arc::new(SharedUdp::from_std(socket, Options::default())?))
    }

    fn over(id: TransportId, shared: Arc<SharedUdp>) -> io::Result<Self> {
        Ok(Self {
            id,
            source: Source::own(&shared)?,
            shared,
            lookups: Lookups::new(),
            answers: VecDeque::new(),
            train: Vec::new(),
        })
    }

    /// Lets threads read the socket from now on: what is for the core comes back by the port, of which the threads have clones.
    ///
    /// When the last clone is gone, the transport reads the socket itself again.
    pub fn share(&mut self) -> UdpPort {
        let (feed, fed) = feed();
        self.source = Source::Fed { fed, blocked: None };
        UdpPort { id: self.id, shared: Arc::clone(&self.shared), feed }
    }

    /// The socket, for whoever shows what it uses and counts.
    pub fn socket(&self) -> Arc<SharedUdp> {
        Arc::clone(&self.shared)
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> UdpCounters {
        self.shared.counters()
    }

    fn resolved(&self, addresses: Vec<SocketAddr>) -> Result<Vec<Place>, DialError> {
        let mut places: Vec<Place> = Vec::new();
        for address in addresses {
            let place = place(self.id, address);
            if self.shared.destination(address).is_some() && !places.contains(&place) {
                places.push(place);
            }
        }
        if places.is_empty() { Err(DialError::Unreachable) } else { Ok(places) }
    }

    /// Frames that threads handed over; without such threads, what the socket has.
    fn poll_source(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) -> Poll<io::Result<()>> {
        if let Source::Fed { fed, .. } = &self.source {
            if ready!(fed.poll(cx, batch)) {
                return Poll::Ready(Ok(()));
            }
            self.source = Source::own(&self.shared)?;
        }
        let Source::Own { watched, trains } = &mut self.source else { return Poll::Pending };
        for _ in 0..ATTEMPTS {
            match watched.try_io(Interest::READABLE, || self.shared.receive(trains)) {
                Ok(()) => {
                    let before = batch.len();
                    for (head, bytes) in trains.iter_mut() {
                        let place = place(self.id, head.from);
                        // Each frame gets memory of its own: one that is kept must not keep the whole train.
                        let frames = bytes.chunks(head.stride);
                        batch
                            .extend(frames.map(|frame| Event::Frame { place, frame: BytesMut::from(frame) }));
                    }
                    if batch.len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => ready!(watched.poll_recv_ready(cx))?,
                // An earlier frame could not be delivered: nothing that concerns the others.
                Err(_) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Source {
    fn own(shared: &SharedUdp) -> io::Result<Self> {
        Ok(Self::Own { watched: shared.watched()?, trains: Trains::new(BATCH) })
    }

    /// Ready when the socket may take more, which is to be tried.
    fn poll_writable(&mut self, cx: &mut Context<'_>, shared: &SharedUdp) -> Poll<io::Result<()>> {
        let socket = match self {
            Self::Own { watched, .. } => watched,
            Self::Fed { blocked: Some(socket), .. } => socket,
            Self::Fed { blocked, .. } => blocked.insert(shared.watched()?),
        };
        ready!(socket.poll_send_ready(cx))?;
        // Used up: so the next time asks for news.
        let used: io::Result<()> =
            socket.try_io(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into()));
        Poll::Ready(used.or(Ok(())))
    }

    /// Nothing waits to be sent any more.
    fn unblock(&mut self) {
        if let Self::Fed { blocked, .. } = self {
            *blocked = None;
        }
    }
}

impl UdpPort {
    /// The socket.
    pub fn socket(&self) -> &Arc<SharedUdp> {
        &self.shared
    }

    /// The same for another socket at the same address, which the kernel gives a share of the datagrams: for a thread of its own.
    ///
    /// # Errors
    ///
    /// As [`SharedUdp::sibling`].
    pub fn sibling(&self) -> io::Result<Self> {
        let shared = Arc::new(self.shared.sibling()?);
        Ok(Self { id: self.id, shared, feed: self.feed.clone() })
    }

    /// The way to the core.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }
}

impl Underlay for UdpPort {
    fn port(&self) -> u16 {
        self.id.0
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }

    fn send(&self, to: SocketAddr, ecn: Ecn, train: &[u8], segment: usize) -> io::Result<usize> {
        self.shared.send(to, ecn, train, segment)
    }

    fn receive(&self, trains: &mut Trains) -> io::Result<()> {
        self.shared.receive(trains)
    }

    fn hand_up(&self, batch: &mut Vec<HandUp>) {
        let events = batch.drain(..).map(|what| match what {
            HandUp::Datagram { from, bytes } => Event::Frame { place: place(self.id, from), frame: bytes },
            HandUp::Unsealed { from, index, kind, flags, payload } => {
                Event::Unsealed { place: place(self.id, from), index, kind, flags, payload }
            }
        });
        self.shared.count_unread(self.feed.push(events));
    }
}

/// The place of a source or destination.
fn place(transport: TransportId, address: SocketAddr) -> Place {
    let address = canonical(address);
    let mtu = if address.is_ipv4() { MTU_V4 } else { MTU_V6 };
    Place { transport, remote: Remote::Ip(address), mtu }
}

/// How many frames at the front of `batch` can leave in one call: to one place, of one size, but for a shorter last one.
fn train_length(batch: &VecDeque<(Place, Bytes)>) -> usize {
    let Some((place, first)) = batch.front() else { return 0 };
    let most = SEGMENTS_MAX.min(TRAIN_MAX / first.len().max(1)).max(1);
    let mut count = 1;
    for (other, frame) in batch.iter().skip(1).take(most - 1) {
        if other.remote != place.remote || frame.len() > first.len() || frame.is_empty() {
            break;
        }
        count += 1;
        if frame.len() < first.len() {
            break;
        }
    }
    count
}

/// Sends the train at the front of `batch`, or drops it where that is impossible. `WouldBlock`: nothing left.
fn send_front(
    shared: &SharedUdp,
    train: &mut Vec<u8>,
    batch: &mut VecDeque<(Place, Bytes)>,
) -> io::Result<()> {
    let count = train_length(batch);
    let Some((place, first)) = batch.front() else { return Ok(()) };
    let segment = first.len();
    let Remote::Ip(to) = place.remote else {
        shared.count_unreachable(count);
        batch.drain(..count);
        return Ok(());
    };
    let done = if count == 1 {
        shared.send(to, Ecn::NotEct, first, segment)?
    } else {
        train.clear();
        for (_, frame) in batch.iter().take(count) {
            train.extend_from_slice(frame);
        }
        shared.send(to, Ecn::NotEct, train, segment)?
    };
    let frames = if segment == 0 { count } else { done.div_ceil(segment) };
    batch.drain(..frames.min(count));
    Ok(())
}

impl Transport for Udp {
    fn profile(&self) -> Profile {
        Profile { class: Class::UDP, typical_rtt: Duration::from_millis(40), rate: None, lossy: true }
    }

    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::Udp]
    }

    fn dial(&mut self, id: DialId, endpoint: &Endpoint) {
        let started = match (endpoint.socket_addr(), endpoint.host_port()) {
            (Some(address), _) => {
                let result = self.resolved(vec![address]);
                self.answers.push_back(Event::Dialled { id, result });
                Ok(())
            }
            (None, Some(host)) => self.lookups.start(id, RESOLVE, DialError::Name, async move {
                let found = tokio::net::lookup_host(host).await.map_err(|_| DialError::Name)?;
                Ok(found.take(16).collect())
            }),
            (None, None) => Err(DialError::Unsupported),
        };
        if let Err(why) = started {
            self.answers.push_back(Event::Dialled { id, result: Err(why) });
        }
    }

    fn hang_up(&mut self, _place: Place) {}

    fn listening(&self) -> Vec<Endpoint> {
        vec![Endpoint::udp(self.local_addr())]
    }

    fn describe(&self, place: Place) -> String {
        match place.remote {
            Remote::Ip(address) => Endpoint::udp(address).to_string(),
            Remote::Connection(number) => format!("udp #{number}"),
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<(Place, Bytes)>,
    ) -> Poll<io::Result<()>> {
        let before = batch.len();
        while !batch.is_empty() {
            match send_front(&self.shared, &mut self.train, batch) {
                Ok(()) => {}
                Err(_) if batch.len() < before => return Poll::Ready(Ok(())),
                Err(_) => ready!(self.source.poll_writable(cx, &self.shared))?,
            }
        }
        self.source.unblock();
        Poll::Ready(Ok(()))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) -> Poll<io::Result<()>> {
        let before = batch.len();
        batch.extend(self.answers.drain(..));
        while let Poll::Ready((id, result)) = self.lookups.poll(cx) {
            let result = result.and_then(|addresses| self.resolved(addresses));
            batch.push(Event::Dialled { id, result });
        }
        match self.poll_source(cx, batch) {
            Poll::Pending if batch.len() > before => Poll::Ready(Ok(())),
            polled => polled,
        }
    }
}

/// Never shows where the socket is.
impl fmt::Debug for Udp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udp").field("id", &self.id).field("socket", &self.shared).finish_non_exhaustive()
    }
}

/// Errors or empty datagrams in a row before others get their turn.
const ATTEMPTS: usize = 64;
