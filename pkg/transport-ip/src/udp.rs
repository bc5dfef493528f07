//! UDP: one socket, many peers.
//!
//! Frames of equal size to the same place leave in one call (UDP_SEGMENT), and what the kernel joined on the way in
//! (UDP_GRO) is taken apart again. Datagrams are never fragmented by IP: the core finds out which length passes
//! (spec/30-link.md, section 6). Whatever goes wrong with one destination ends with that frame.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_link::{
    DialError, DialId, Endpoint, Event, Place, Profile, Remote, Scheme, Transport, TransportId,
};
use byway_network::Class;
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::lookup::Lookups;

/// Links over UDP.
pub struct Udp {
    id: TransportId,
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    lookups: Lookups<Vec<SocketAddr>>,
    /// Answers that need no lookup.
    answers: VecDeque<Event>,
    /// One per datagram, or per train of datagrams that the kernel joined.
    buffers: Vec<Vec<u8>>,
    /// Frames of one train, side by side.
    train: Vec<u8>,
    counters: UdpCounters,
}

/// What a UDP transport counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpCounters {
    /// Datagrams sent.
    pub sent: u64,
    /// Calls that sent them.
    pub sends: u64,
    /// Datagrams received.
    pub received: u64,
    /// Dropped: longer than the interface carries.
    pub too_long: u64,
    /// Dropped: the system's queues were full.
    pub no_buffer: u64,
    /// Dropped: the destination cannot be reached from here, or is none.
    pub unreachable: u64,
}

/// What a 1,500-byte underlay leaves for a UDP payload.
const MTU_V4: u16 = 1_472;
const MTU_V6: u16 = 1_452;
/// Room for whole trains: 30 of them at the longest.
const RECEIVE_BUFFER: usize = 32 << 20;
const SEND_BUFFER: usize = 16 << 20;
/// What an unprivileged process may usually ask for.
const PLAIN_BUFFER: usize = 4 << 20;
/// Trains taken in one call.
const BATCH: usize = 8;
const DATAGRAM_MAX: usize = 65_535;
/// Bytes of one train: what fits an IP packet, less its headers.
const TRAIN_MAX: usize = 65_000;
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
        match open(address) {
            Err(why)
                if address.ip().is_unspecified()
                    && address.is_ipv6()
                    && why.raw_os_error() == Some(NO_IPV6) =>
            {
                Self::from_std(id, open((Ipv4Addr::UNSPECIFIED, address.port()).into())?)
            }
            opened => Self::from_std(id, opened?),
        }
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
        socket.set_nonblocking(true)?;
        enlarge_buffers(&socket);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let local = socket.local_addr()?;
        Ok(Self {
            id,
            socket: UdpSocket::from_std(socket)?,
            state,
            local,
            lookups: Lookups::new(),
            answers: VecDeque::new(),
            buffers: vec![vec![0; DATAGRAM_MAX]; BATCH],
            train: Vec::new(),
            counters: UdpCounters::default(),
        })
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What was counted since the start.
    pub fn counters(&self) -> UdpCounters {
        self.counters
    }

    /// The place of a source or destination: IPv4 is IPv4, however the socket writes it, and labels without meaning are gone.
    fn place(&self, address: SocketAddr) -> Place {
        let (address, mtu) = match address {
            SocketAddr::V4(_) => (address, MTU_V4),
            SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
                Some(ip) => ((ip, v6.port()).into(), MTU_V4),
                None => {
                    let scope = if v6.ip().is_unicast_link_local() { v6.scope_id() } else { 0 };
                    (SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope).into(), MTU_V6)
                }
            },
        };
        Place { transport: self.id, remote: Remote::Ip(address), mtu }
    }

    /// How the socket names a destination; `None` if nothing can be sent there.
    fn destination(&self, place: Place) -> Option<SocketAddr> {
        let Remote::Ip(address) = place.remote else { return None };
        let is_no_host = match address.ip() {
            IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
        };
        let lacks_scope =
            matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0);
        if is_no_host || lacks_scope || address.port() == 0 {
            return None;
        }
        match (address, self.local) {
            (SocketAddr::V4(v4), SocketAddr::V6(_)) => Some((v4.ip().to_ipv6_mapped(), v4.port()).into()),
            (SocketAddr::V6(_), SocketAddr::V4(_)) => None,
            _ => Some(address),
        }
    }

    fn resolved(&self, addresses: Vec<SocketAddr>) -> Result<Vec<Place>, DialError> {
        let mut places: Vec<Place> = Vec::new();
        for address in addresses {
            let place = self.place(address);
            if self.destination(place).is_some() && !places.contains(&place) {
                places.push(place);
            }
        }
        if places.is_empty() { Err(DialError::Unreachable) } else { Ok(places) }
    }

    /// How many frames at the front of `batch` can leave in one call: to one place, of one size, but for a shorter last one.
    fn train_length(&self, batch: &VecDeque<(Place, Bytes)>) -> usize {
        let Some((place, first)) = batch.front() else { return 0 };
        let most = self.state.max_gso_segments().min(TRAIN_MAX / first.len().max(1)).max(1);
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

    /// Sends the first `count` frames of `batch`, which are a train. `WouldBlock`: none left.
    fn send_train(&mut self, count: usize, batch: &mut VecDeque<(Place, Bytes)>) -> io::Result<()> {
        let Some((place, first)) = batch.front() else { return Ok(()) };
        let Some(destination) = self.destination(*place) else {
            self.counters.unreachable += count as u64;
            batch.drain(..count);
            return Ok(());
        };
        let segment = first.len();
        let result = if count == 1 {
            self.send(destination, first, None)
        } else {
            self.train.clear();
            for (_, frame) in batch.iter().take(count) {
                self.train.extend_from_slice(frame);
            }
            self.send(destination, &self.train, Some(segment))
        };
        match result {
            Ok(()) => {
                self.counters.sends += 1;
                self.counters.sent += count as u64;
            }
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Err(why),
            Err(_) if count > 1 => return self.send_singly(count, destination, batch),
            Err(why) => self.count_failure(&why),
        }
        batch.drain(..count);
        Ok(())
    }

    /// A train did not leave, be it that segments are not supported or too long for the interface: one by one it shows.
    fn send_singly(
        &mut self,
        count: usize,
        destination: SocketAddr,
        batch: &mut VecDeque<(Place, Bytes)>,
    ) -> io::Result<()> {
        let mut any_too_long = false;
        for done in 0..count {
            let Some((_, frame)) = batch.front() else { break };
            match self.send(destination, frame, None) {
                Ok(()) => {
                    self.counters.sends += 1;
                    self.counters.sent += 1;
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    return if done > 0 { Ok(()) } else { Err(why) };
                }
                Err(why) => {
                    any_too_long |= quinn_udp::is_msg_size_err(&why);
                    self.count_failure(&why);
                }
            }
            batch.pop_front();
        }
        if any_too_long {
            self.restore();
        }
        Ok(())
    }

    fn send(&self, destination: SocketAddr, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        self.socket
            .try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.socket), &transmit))
    }

    fn count_failure(&mut self, why: &io::Error) {
        if quinn_udp::is_msg_size_err(why) {
            self.counters.too_long += 1;
        } else if why.kind() == io::ErrorKind::OutOfMemory || why.raw_os_error() == Some(NO_BUFFER) {
            self.counters.no_buffer += 1;
        } else {
            self.counters.unreachable += 1;
            self.restore();
        }
    }

    /// The library gives up segments for good at the first EINVAL, which one odd destination or a narrow interface can cause.
    fn restore(&mut self) {
        if self.state.max_gso_segments() == 1
            && let Ok(state) = UdpSocketState::new(UdpSockRef::from(&self.socket))
        {
            self.state = state;
        }
    }

    /// Takes what has come, once. The number of datagrams, which may be 0.
    fn receive(&mut self, batch: &mut Vec<Event>) -> io::Result<usize> {
        let mut metas = [RecvMeta::default(); BATCH];
        let (socket, state) = (&self.socket, &self.state);
        let mut slices: Vec<IoSliceMut<'_>> =
            self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let trains = socket
            .try_io(Interest::READABLE, || state.recv(UdpSockRef::from(socket), &mut slices, &mut metas))?;
        drop(slices);
        let before = batch.len();
        for (buffer, meta) in self.buffers.iter().zip(&metas).take(trains) {
            let place = self.place(meta.addr);
            // Each frame gets memory of its own: one that is kept must not keep the whole train.
            for frame in buffer[..meta.len.min(buffer.len())].chunks(meta.stride.max(1)) {
                batch.push(Event::Frame { place, frame: BytesMut::from(frame) });
            }
        }
        let count = batch.len() - before;
        self.counters.received += count as u64;
        Ok(count)
    }
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
        vec![Endpoint::udp(self.local)]
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
            let count = self.train_length(batch);
            match self.send_train(count, batch) {
                Ok(()) => {}
                Err(_) if batch.len() < before => break,
                // The readiness that was known is used up; this asks for the next, or finds that there is some.
                Err(_) => ready!(self.socket.poll_send_ready(cx))?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) -> Poll<io::Result<()>> {
        let before = batch.len();
        batch.extend(self.answers.drain(..));
        while let Poll::Ready((id, result)) = self.lookups.poll(cx) {
            let result = result.and_then(|addresses| self.resolved(addresses));
            batch.push(Event::Dialled { id, result });
        }
        for _ in 0..ATTEMPTS {
            match self.receive(batch) {
                Ok(0) => {}
                Ok(_) => return Poll::Ready(Ok(())),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    if batch.len() > before {
                        return Poll::Ready(Ok(()));
                    }
                    ready!(self.socket.poll_recv_ready(cx))?;
                }
                // An earlier frame could not be delivered: nothing that concerns the others.
                Err(_) => {}
            }
        }
        if batch.len() > before {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Never shows where the socket is.
impl fmt::Debug for Udp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udp").field("id", &self.id).field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// Errors or empty datagrams in a row before others get their turn.
const ATTEMPTS: usize = 64;
const NO_IPV6: i32 = nix::errno::Errno::EAFNOSUPPORT as i32;
const NO_BUFFER: i32 = nix::errno::Errno::ENOBUFS as i32;

fn open(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// As large as the system lets: a burst of trains must not be lost while the daemon is busy.
fn enlarge_buffers(socket: &std::net::UdpSocket) {
    // Beyond the system's limit only with CAP_NET_ADMIN; without it the plain option takes what is allowed.
    let plain = socket2::SockRef::from(socket);
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = plain.set_recv_buffer_size(PLAIN_BUFFER);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        let _ = plain.set_send_buffer_size(PLAIN_BUFFER);
    }
}
