//! QUIC: frames in datagrams, and what is too long for one in a stream.
//!
//! ```text
//!  socket ─► Gate ─► quinn ─► connection ─► datagrams: one frame each
//!              └─ strangers: nothing          └─ one stream each way: length u16 · frame
//! ```

mod gate;

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use byway_identity::{Addr, Entropy, OsEntropy};
use byway_link::{DialError, Endpoint};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{
    AsyncUdpSocket, ConnectError, Connection, ConnectionError, ConnectionId, Incoming, SendDatagramError,
    TokioRuntime, TransportConfig, UdpPoller, VarInt,
};
use tokio::sync::{Semaphore, mpsc};

use super::carry::{Carrier, Established, MTU, Note, Queue, read_lengths};
use super::connect::unix_ms;
use super::knock::Secret;
use super::tls::{self, Certificate};
use gate::{Gate, Own};

/// What both sides say they speak.
const ALPN: &[u8] = b"h3";
/// How long a handshake may take. A server that has just started ignores who knocked before that, so it is not long.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Without a sign of life for this long a connection is over; links ask for signs much sooner.
const IDLE: Duration = Duration::from_secs(40);
/// Bytes of datagrams that wait to be sent, or to be read.
const DATAGRAMS: usize = 256 << 10;
/// Bytes of a stream that wait to be read.
const STREAM: u32 = 512 << 10;
/// Handshakes at once.
const HANDSHAKES_MAX: usize = 256;

/// Listens at `address` for those who know `secret`; where it does, and what runs it.
pub(crate) fn listen(
    address: SocketAddr,
    secret: Secret,
    certificate: &Certificate,
    established: mpsc::Sender<Established>,
) -> io::Result<(SocketAddr, impl Future<Output = ()> + use<>)> {
    let crypto = QuicServerConfig::try_from(certificate.server(&[ALPN])?).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport()).max_incoming(HANDSHAKES_MAX);
    let endpoint = open(UdpSocket::bind(address)?, Some(secret), Some(config))?;
    let at = endpoint.local_addr()?;
    Ok((at, async move {
        let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        while let Some(incoming) = endpoint.accept().await {
            let Ok(seat) = Arc::clone(&room).try_acquire_owned() else {
                incoming.ignore();
                continue;
            };
            let established = established.clone();
            tokio::spawn(async move {
                if let Some(connection) = accept(incoming).await {
                    // Whoever knows us is bounded as a link is.
                    let _ = established.send(connection).await;
                }
                drop(seat);
            });
        }
    }))
}

async fn accept(incoming: Incoming) -> Option<Established> {
    let name = Endpoint::at(byway_link::Scheme::Quic, crate::shared::canonical(incoming.remote_address()));
    let connecting = incoming.accept().ok()?;
    let connection = tokio::time::timeout(HANDSHAKE, connecting).await.ok()?.ok()?;
    Some(Established { carrier: Carrier::Quic(connection), name: name.to_string() })
}

/// The socket that connections to others use.
pub(crate) fn dialler() -> io::Result<quinn::Endpoint> {
    let six = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    open(six.or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?, None, None)
}

/// A connection to `peer` at one of `addresses`, which are those of `endpoint`.
pub(crate) async fn connect(
    socket: &quinn::Endpoint,
    addresses: Vec<SocketAddr>,
    (peer, endpoint, host): (&Addr, &Endpoint, &str),
    config: Arc<rustls::ClientConfig>,
) -> Result<Connection, DialError> {
    let crypto = QuicClientConfig::try_from(config).map_err(|_| DialError::Unreachable)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let secret = Secret::new(peer, endpoint.token());
    config.initial_dst_cid_provider(Arc::new(move || {
        let mut nonce = [0; 6];
        OsEntropy.fill(&mut nonce);
        ConnectionId::new(&gate::knock(&secret, unix_ms(), nonce))
    }));
    config.transport_config(transport());
    let name = endpoint.sni().unwrap_or(host);
    let mut last = DialError::Name;
    for address in addresses {
        last = match socket.connect_with(config.clone(), address, name) {
            Ok(connecting) => match tokio::time::timeout(HANDSHAKE, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(why)) => fault(why),
                Err(_) => DialError::Unreachable,
            },
            Err(ConnectError::InvalidServerName(_)) => return Err(DialError::Name),
            Err(_) => DialError::Unreachable,
        };
    }
    Err(last)
}

/// What a failed handshake means for who dials.
fn fault(why: ConnectionError) -> DialError {
    let ConnectionError::TransportError(error) = why else { return DialError::Unreachable };
    // quinn keeps the reason as words only; the number is that of a TLS alert (RFC 9001, section 4.8).
    match u64::from(error.code) {
        0x12a..=0x12e | 0x130 | 0x131 => DialError::Certificate(
            "does not fit: it is not the one of pin=, has expired, is for another name, or of no authority that this machine trusts",
        ),
        _ => DialError::Unreachable,
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(STREAM))
        .receive_window(VarInt::from_u32(STREAM))
        .send_window(u64::from(STREAM))
        .max_idle_timeout(IDLE.try_into().ok())
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS);
    Arc::new(config)
}

fn open(
    socket: UdpSocket,
    secret: Option<Secret>,
    server: Option<quinn::ServerConfig>,
) -> io::Result<quinn::Endpoint> {
    use quinn::Runtime;
    let runtime = Arc::new(TokioRuntime);
    let own = Own::new();
    let gate = Mutex::new(Gate::new(secret, own.clone(), unix_ms()));
    let socket = Arc::new(Gated { inner: runtime.wrap_udp_socket(socket)?, gate });
    let mut config = quinn::EndpointConfig::default();
    config.cid_generator(move || Box::new(own.clone()));
    quinn::Endpoint::new_with_abstract_socket(config, server, socket, runtime)
}

/// A socket that shows quinn only what the gate lets in.
struct Gated {
    inner: Arc<dyn AsyncUdpSocket>,
    gate: Mutex<Gate>,
}

impl AsyncUdpSocket for Gated {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        let (now, unix_ms) = (Instant::now(), unix_ms());
        // A gate has no state that a panic elsewhere could have left half changed.
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        for (buffer, meta) in bufs.iter_mut().zip(meta).take(count) {
            let datagrams = &mut buffer[..meta.len];
            meta.len =
                keep(datagrams, meta.stride, |datagram| gate.admits(now, unix_ms, meta.addr, datagram));
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gated")
    }
}

/// Moves those of the datagrams in `train`, `stride` bytes each but for the last, that `admits` takes to its front; their bytes.
fn keep(train: &mut [u8], stride: usize, mut admits: impl FnMut(&[u8]) -> bool) -> usize {
    let (mut kept, mut at) = (0, 0);
    while at < train.len() {
        let end = train.len().min(at + stride.max(1));
        if admits(&train[at..end]) {
            train.copy_within(at..end, kept);
            kept += end - at;
        }
        at = end;
    }
    kept
}

/// Carries frames over `connection` until it ends, or nothing more is to be sent.
pub(super) async fn carry(
    number: u64,
    connection: Connection,
    notes: &mpsc::Sender<Note>,
    queue: Queue,
) -> io::Result<()> {
    let over = tokio::select! {
        over = read_datagrams(number, &connection, notes) => over,
        over = read_stream(number, &connection, notes) => over,
        over = write(&connection, queue) => over,
    };
    connection.close(VarInt::from_u32(0x100), b"");
    over
}

async fn read_datagrams(number: u64, connection: &Connection, notes: &mpsc::Sender<Note>) -> io::Result<()> {
    loop {
        let frame = connection.read_datagram().await?;
        if !frame.is_empty()
            && notes.send(Note::Frames(number, vec![BytesMut::from(&frame[..])])).await.is_err()
        {
            return Ok(());
        }
    }
}

async fn read_stream(number: u64, connection: &Connection, notes: &mpsc::Sender<Note>) -> io::Result<()> {
    let stream = connection.accept_uni().await?;
    read_lengths(number, stream, BytesMut::new(), notes).await
}

async fn write(connection: &Connection, mut queue: Queue) -> io::Result<()> {
    let (mut batch, mut stream) = (Vec::new(), None);
    while queue.take(&mut batch).await {
        for frame in &batch {
            match connection.send_datagram(frame.clone()) {
                Ok(()) => {}
                Err(SendDatagramError::TooLarge) => {
                    let stream = match &mut stream {
                        Some(stream) => stream,
                        none => none.insert(connection.open_uni().await?),
                    };
                    write_long(stream, frame).await?;
                }
                Err(_) => return Err(io::ErrorKind::Unsupported.into()),
            }
        }
        queue.written(&batch);
    }
    Ok(())
}

async fn write_long(stream: &mut quinn::SendStream, frame: &Bytes) -> io::Result<()> {
    let Ok(length @ 1..=MTU) = u16::try_from(frame.len()) else { return Ok(()) };
    let mut bytes = BytesMut::with_capacity(2 + frame.len());
    bytes.put_u16(length);
    bytes.put_slice(frame);
    stream.write_chunk(bytes.freeze()).await.map_err(io::Error::from)
}

/// What a client needs to check the certificate of `endpoint`.
pub(crate) fn client(
    endpoint: &Endpoint,
    roots: &Arc<rustls::RootCertStore>,
) -> Result<Arc<rustls::ClientConfig>, DialError> {
    tls::client(endpoint.pin(), roots, &[ALPN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_keeps_only_what_is_let_in() {
        let mut train: Vec<u8> = [[1; 10], [2; 10], [3; 10]].concat();
        train.extend([1; 4]);
        let kept = keep(&mut train, 10, |datagram| datagram[0] != 2);
        assert_eq!(train[..kept], [&[1; 10][..], &[3; 10], &[1; 4]].concat());
        assert_eq!(keep(&mut [], 0, |_| true), 0);
        assert_eq!(keep(&mut [9; 7], 10, |datagram| datagram.len() != 7), 0);
    }
}
