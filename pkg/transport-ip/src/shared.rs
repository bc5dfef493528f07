//! One UDP socket for many peers and several threads: trains out and in, with whatever the kernel has to carry them.
//!
//! The best way is one system call for a train (UDP_SEGMENT, UDP_GRO); where that is missing, or refused on the way to one
//! destination, one call for many datagrams (sendmmsg, recvmmsg); and where that is missing too, one for each.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use byway_fastpath::{Ecn, Head, Trains};
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, sendmsg, setsockopt, sockopt,
};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

/// Which help of the kernel's a socket uses. Asked for, it means "where there is"; asked of a socket, what is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// One call sends a train (UDP_SEGMENT).
    pub segment: bool,
    /// One call receives a train (UDP_GRO).
    pub gro: bool,
    /// One call sends or receives many datagrams (sendmmsg, recvmmsg).
    pub mmsg: bool,
}

/// How a socket is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What it may use.
    pub offload: Offload,
    /// Whether others of this process may be bound to the same address ([`SharedUdp::sibling`]).
    pub reuse_port: bool,
}

/// What a UDP socket, or a transport with its siblings, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpCounters {
    /// Datagrams sent.
    pub sent: u64,
    /// Calls that sent them.
    pub sends: u64,
    /// Datagrams received.
    pub received: u64,
    /// Calls that received them.
    pub receives: u64,
    /// Dropped: longer than the interface carries.
    pub too_long: u64,
    /// Dropped: the system's queues were full.
    pub no_buffer: u64,
    /// Dropped: the destination cannot be reached from here, or is none.
    pub unreachable: u64,
    /// Trains that a device would not cut up, and that left in pieces.
    pub refused: u64,
    /// Dropped: the core's queue was full.
    pub unread: u64,
}

/// A UDP socket with methods that any thread may call.
pub struct SharedUdp {
    socket: std::net::UdpSocket,
    /// Knows how to receive; sending is done here, since the library gives segments up for all at the first odd destination.
    state: UdpSocketState,
    local: SocketAddr,
    options: Options,
    segment: bool,
    gro: bool,
    mmsg: AtomicBool,
    pauses: Pauses,
    counters: Counts,
}

/// Longest train, in datagrams: more would be refused (UDP_MAX_SEGMENTS of older kernels).
const SEGMENTS_MAX: usize = 64;
/// Bytes of one train: what fits an IPv4 packet, less its headers.
const TRAIN_MAX: usize = 65_507;
/// Trains taken in one call.
const BATCH: usize = 32;
/// Room for whole trains: 30 of them at the longest.
const RECEIVE_BUFFER: usize = 32 << 20;
const SEND_BUFFER: usize = 16 << 20;
/// What an unprivileged process may usually ask for.
const PLAIN_BUFFER: usize = 4 << 20;

impl SharedUdp {
    /// A socket bound to `address`; `[::]` takes IPv4 too. Where the machine has no IPv6, `[::]` becomes `0.0.0.0`.
    ///
    /// # Errors
    ///
    /// As `socket` and `bind` of the system: most often that the address is in use.
    pub fn bind(address: SocketAddr, options: Options) -> io::Result<Self> {
        match open(address, options.reuse_port) {
            Err(why)
                if address.ip().is_unspecified()
                    && address.is_ipv6()
                    && why.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) =>
            {
                let address = (Ipv4Addr::UNSPECIFIED, address.port()).into();
                Self::from_std(open(address, options.reuse_port)?, options)
            }
            opened => Self::from_std(opened?, options),
        }
    }

    /// On a socket that was bound elsewhere; it becomes non-blocking.
    ///
    /// # Errors
    ///
    /// As the options that are set on the socket.
    pub fn from_std(socket: std::net::UdpSocket, options: Options) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        enlarge_buffers(&socket);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let local = socket.local_addr()?;
        // The library asks for the time of each packet, which has the kernel look at the clock for each; nobody reads it.
        let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &false);
        let gro = options.offload.gro && state.gro_segments() > 1;
        if !gro && state.gro_segments() > 1 {
            setsockopt(&socket, sockopt::UdpGroSegment, &false)?;
        }
        Ok(Self {
            segment: options.offload.segment && state.max_gso_segments() > 1,
            gro,
            mmsg: AtomicBool::new(options.offload.mmsg),
            pauses: Pauses::new(),
            counters: Counts::default(),
            socket,
            state,
            local,
            options,
        })
    }

    /// Another socket at the same address; the kernel shares datagrams out by source. For a pair of threads of its own.
    ///
    /// # Errors
    ///
    /// If this one was opened without [`Options::reuse_port`], and as [`bind`](Self::bind).
    pub fn sibling(&self) -> io::Result<Self> {
        if !self.options.reuse_port {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Self::from_std(open(self.local, true)?, self.options)
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What is in use.
    pub fn offload(&self) -> Offload {
        Offload { segment: self.segment, gro: self.gro, mmsg: self.mmsg.load(Ordering::Relaxed) }
    }

    /// What was counted since the start.
    pub fn counters(&self) -> UdpCounters {
        self.counters.read()
    }

    /// Sends frames of `segment` bytes side by side, of which the last may be shorter; how many bytes are done with, be they
    /// sent or, where that is impossible, dropped and counted.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) alone: the queue is full, and nothing left.
    pub fn send(&self, to: SocketAddr, ecn: Ecn, train: &[u8], segment: usize) -> io::Result<usize> {
        if segment == 0 || train.is_empty() {
            return Ok(train.len());
        }
        let Some(destination) = self.destination(to) else {
            self.counters.unreachable.add(train.len().div_ceil(segment));
            return Ok(train.len());
        };
        let call = Call::new(self.socket.as_raw_fd(), destination, ecn, segment);
        let most = SEGMENTS_MAX.min(TRAIN_MAX / segment).max(1) * segment;
        let mut done = 0;
        while done < train.len() {
            let part = &train[done..(done + most).min(train.len())];
            match self.send_part(&call, part) {
                Ok(sent) => {
                    done += sent;
                    if sent < part.len() {
                        break;
                    }
                }
                Err(Errno::EAGAIN) if done == 0 => return Err(io::ErrorKind::WouldBlock.into()),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Takes what has come: a head for each buffer in turn that a train filled. Wrong datagrams are passed over as empty trains.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock): nothing has come. Any other tells of a frame that was sent before.
    pub fn receive(&self, trains: &mut Trains) -> io::Result<()> {
        let (buffers, heads) = trains.fill();
        let most = if self.mmsg.load(Ordering::Relaxed) { buffers.len().min(BATCH) } else { 1 };
        let mut metas = [RecvMeta::default(); BATCH];
        let mut buffers = buffers.iter_mut();
        let mut slices: [IoSliceMut<'_>; BATCH] = std::array::from_fn(|_| match buffers.next() {
            Some(buffer) => IoSliceMut::new(buffer),
            None => IoSliceMut::new(&mut []),
        });
        let came =
            self.state.recv(UdpSockRef::from(&self.socket), &mut slices[..most], &mut metas[..most])?;
        let mut datagrams = 0;
        for meta in &metas[..came] {
            let stride = meta.stride.max(1);
            datagrams += meta.len.div_ceil(stride);
            let ecn = Ecn::from_bits(meta.ecn.map_or(0, |ecn| ecn as u8));
            heads.push(Head { from: canonical(meta.addr), ecn, length: meta.len, stride });
        }
        self.counters.receives.add(1);
        self.counters.received.add(datagrams);
        Ok(())
    }

    /// How the socket names a destination; `None` if nothing can be sent there.
    pub(crate) fn destination(&self, address: SocketAddr) -> Option<SocketAddr> {
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

    /// A descriptor by which the runtime says when the socket can be read or written.
    pub(crate) fn watched(&self) -> io::Result<tokio::net::UdpSocket> {
        tokio::net::UdpSocket::from_std(self.socket.try_clone()?)
    }

    /// Dropped by whoever should have handed it to the core.
    pub(crate) fn count_unread(&self, frames: usize) {
        self.counters.unread.add(frames);
    }

    /// Dropped since no socket can send it.
    pub(crate) fn count_unreachable(&self, frames: usize) {
        self.counters.unreachable.add(frames);
    }

    /// Sends a train that one call may carry; how many bytes are done with. An error: none, and `EAGAIN` is the only one.
    fn send_part(&self, call: &Call, part: &[u8]) -> Result<usize, Errno> {
        let frames = part.len().div_ceil(call.segment);
        if frames > 1 && !(self.segment && self.pauses.allow(call.destination)) {
            return self.send_pieces(call, part).map(|(done, _)| done);
        }
        let segment = u16::try_from(call.segment).ok().filter(|_| frames > 1);
        match call.send(part, segment) {
            Ok(()) => {
                self.counters.sends.add(1);
                self.counters.sent.add(frames);
                Ok(part.len())
            }
            Err(Errno::EAGAIN) => Err(Errno::EAGAIN),
            Err(why) if frames == 1 => {
                self.count_failure(why, 1);
                Ok(part.len())
            }
            // Be it that segments are not supported or too long for the interface: piece by piece it shows.
            Err(why) => {
                let (done, lost) = self.send_pieces(call, part)?;
                if lost == 0 && matches!(why, Errno::EIO | Errno::EINVAL | Errno::EOPNOTSUPP) {
                    self.counters.refused.add(1);
                    self.pauses.pause(call.destination);
                }
                Ok(done)
            }
        }
    }

    /// Sends the frames of a train one by one, by as few calls as there may be; how many bytes are done with, and how many frames were lost.
    fn send_pieces(&self, call: &Call, part: &[u8]) -> Result<(usize, usize), Errno> {
        let (mut done, mut lost) = (0, 0);
        while done < part.len() {
            let rest = &part[done..];
            let first = &rest[..call.segment.min(rest.len())];
            let sent = if self.mmsg.load(Ordering::Relaxed) && rest.len() > first.len() {
                call.send_many(rest)
            } else {
                call.send(first, None).map(|()| 1)
            };
            match sent {
                Ok(frames) => {
                    self.counters.sends.add(1);
                    self.counters.sent.add(frames);
                    done += (frames * call.segment).min(rest.len());
                }
                Err(Errno::EAGAIN) if done == 0 => return Err(Errno::EAGAIN),
                Err(Errno::EAGAIN) => break,
                Err(Errno::ENOSYS | Errno::EPERM) if self.mmsg.swap(false, Ordering::Relaxed) => {}
                Err(Errno::EMSGSIZE) => {
                    // All of this length are too long; a shorter last one may not be.
                    let whole = (rest.len() / call.segment).max(1);
                    self.count_failure(Errno::EMSGSIZE, whole);
                    lost += whole;
                    done += (whole * call.segment).min(rest.len());
                }
                Err(why) => {
                    self.count_failure(why, 1);
                    lost += 1;
                    done += first.len();
                }
            }
        }
        Ok((done, lost))
    }

    fn count_failure(&self, why: Errno, frames: usize) {
        let counter = match why {
            Errno::EMSGSIZE => &self.counters.too_long,
            Errno::ENOMEM | Errno::ENOBUFS => &self.counters.no_buffer,
            _ => &self.counters.unreachable,
        };
        counter.add(frames);
    }
}

impl AsFd for SharedUdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for SharedUdp {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Never shows where the socket is.
impl fmt::Debug for SharedUdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedUdp")
            .field("offload", &self.offload())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Default for Offload {
    fn default() -> Self {
        Self { segment: true, gro: true, mmsg: true }
    }
}

/// What the calls that send one train have in common.
struct Call {
    fd: RawFd,
    destination: SocketAddr,
    to: SockaddrStorage,
    /// For IPv4.
    tos: u8,
    /// For IPv6.
    class: i32,
    is_four: bool,
    segment: usize,
}

impl Call {
    fn new(fd: RawFd, destination: SocketAddr, ecn: Ecn, segment: usize) -> Self {
        let is_four = match destination.ip() {
            IpAddr::V4(_) => true,
            IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
        };
        let (tos, class) = (ecn.bits(), ecn.bits().into());
        Self { fd, destination, to: destination.into(), tos, class, is_four, segment }
    }

    /// One message: a datagram, or with `segment` a train of such.
    fn send(&self, bytes: &[u8], segment: Option<u16>) -> Result<(), Errno> {
        let contents = [IoSlice::new(bytes)];
        let with = |messages: &[ControlMessage<'_>]| loop {
            match sendmsg(self.fd, &contents, messages, MsgFlags::empty(), Some(&self.to)) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop),
            }
        };
        match (segment.as_ref(), self.tos) {
            (None, 0) => with(&[]),
            (None, _) => with(&[self.class()]),
            (Some(segment), 0) => with(&[ControlMessage::UdpGsoSegments(segment)]),
            (Some(segment), _) => with(&[self.class(), ControlMessage::UdpGsoSegments(segment)]),
        }
    }

    /// One call for all the datagrams of `train`; how many left.
    fn send_many(&self, train: &[u8]) -> Result<usize, Errno> {
        let frames: Vec<[IoSlice<'_>; 1]> =
            train.chunks(self.segment).map(|frame| [IoSlice::new(frame)]).collect();
        let to = vec![Some(self.to); frames.len()];
        let class = [self.class()];
        let (messages, space) = match self.tos {
            0 => (&class[..0], None),
            _ => (&class[..], Some(nix::cmsg_space!(i32))),
        };
        let mut headers = MultiHeaders::preallocate(frames.len(), space);
        loop {
            match sendmmsg(self.fd, &mut headers, &frames, &to, messages, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Err(why) => return Err(why),
                Ok(results) => return Ok(results.count()),
            }
        }
    }

    fn class(&self) -> ControlMessage<'_> {
        if self.is_four {
            ControlMessage::Ipv4Tos(&self.tos)
        } else {
            ControlMessage::Ipv6TClass(&self.class)
        }
    }
}

/// Destinations that refused a train a moment ago though its frames passed: some devices cannot cut trains up.
///
/// A table of fixed size: two destinations that share an entry share the pause, which costs speed and nothing else.
struct Pauses {
    start: Instant,
    /// Milliseconds after the start until which no train is tried.
    until: [AtomicU64; Self::SIZE],
}

impl Pauses {
    const SIZE: usize = 64;
    /// Milliseconds: what a device can do changes with a route at most.
    const LENGTH: u64 = 10_000;

    fn new() -> Self {
        Self { start: Instant::now(), until: [const { AtomicU64::new(0) }; Self::SIZE] }
    }

    fn slot(&self, destination: SocketAddr) -> &AtomicU64 {
        let bits = match destination.ip() {
            IpAddr::V4(ip) => u64::from(u32::from(ip)),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ ip.to_bits() as u64,
        };
        // Multiplying spreads neighbours (Knuth, "The Art of Computer Programming", 6.4).
        &self.until[(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize]
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn allow(&self, destination: SocketAddr) -> bool {
        let until = self.slot(destination).load(Ordering::Relaxed);
        // Without a pause, which is nearly always, nobody looks at the clock.
        until == 0 || self.now() >= until
    }

    fn pause(&self, destination: SocketAddr) {
        self.slot(destination).store(self.now().saturating_add(Self::LENGTH), Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, number: usize) {
        if number > 0 {
            self.0.fetch_add(number as u64, Ordering::Relaxed);
        }
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Counts {
    sent: Count,
    sends: Count,
    received: Count,
    receives: Count,
    too_long: Count,
    no_buffer: Count,
    unreachable: Count,
    refused: Count,
    unread: Count,
}

impl Counts {
    fn read(&self) -> UdpCounters {
        UdpCounters {
            sent: self.sent.read(),
            sends: self.sends.read(),
            received: self.received.read(),
            receives: self.receives.read(),
            too_long: self.too_long.read(),
            no_buffer: self.no_buffer.read(),
            unreachable: self.unreachable.read(),
            refused: self.refused.read(),
            unread: self.unread.read(),
        }
    }
}

/// IPv4 is IPv4, however the socket writes it, and labels without meaning are gone.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => (ip, v6.port()).into(),
            None => {
                let scope = if v6.ip().is_unicast_link_local() { v6.scope_id() } else { 0 };
                SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope).into()
            }
        },
    }
}

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if reuse_port {
        socket.set_reuse_port(true)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_that_refuses_trains_has_a_pause_and_others_have_none() {
        let pauses = Pauses::new();
        let (odd, other) = (([192, 0, 2, 1], 9).into(), ([192, 0, 2, 2], 9).into());
        assert!(pauses.allow(odd));
        pauses.pause(odd);
        assert!(!pauses.allow(odd) && pauses.allow(other));
        // It ends: as if it had been told long ago.
        pauses.slot(odd).store(1, Ordering::Relaxed);
        let past = Pauses { start: Instant::now() - std::time::Duration::from_millis(2), ..pauses };
        assert!(past.allow(odd));
    }

    #[test]
    fn labels_without_meaning_are_gone() {
        let canonical = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(canonical("[::ffff:192.0.2.1]:9"), "192.0.2.1:9");
        assert_eq!(canonical("[2001:db8::1%5]:9"), "[2001:db8::1]:9");
        assert_eq!(canonical("[fe80::1%5]:9"), "[fe80::1%5]:9");
    }
}
