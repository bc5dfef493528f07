//! Unix sockets: links between daemons on one machine.
//!
//! A connection is a stream of frames, each with its length before it (u16, most significant byte first). A peer that does
//! not read loses frames; nobody waits for it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use byway_link::{
    DialError, DialId, Endpoint, Event, Place, Profile, Remote, Scheme, Transport, TransportId,
};
use byway_network::Class;
use tokio::net::{UnixListener, UnixStream};

use crate::lookup::Lookups;

/// Links over Unix sockets.
pub struct Unix {
    id: TransportId,
    class: Class,
    listener: Option<Listener>,
    connections: HashMap<u64, Connection>,
    next: u64,
    dials: Lookups<UnixStream>,
    pending: VecDeque<Event>,
    counters: UnixCounters,
}

/// What a Unix transport counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixCounters {
    /// Frames sent.
    pub sent: u64,
    /// Frames received.
    pub received: u64,
    /// Dropped: the other side does not read, or is gone.
    pub dropped: u64,
    /// Connections that were refused since there were too many, or ended for a frame that is none.
    pub refused: u64,
}

struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Of the socket's name in the file system, so that a later one at the same path is left alone.
    inode: Option<u64>,
}

struct Connection {
    stream: UnixStream,
    incoming: BytesMut,
    outgoing: BytesMut,
}

/// Longest frame.
const MTU: u16 = 16_384;
const CONNECTIONS_MAX: usize = 256;
/// Bytes that wait for a peer that does not read.
const OUTGOING_MAX: usize = 1 << 20;
/// Bytes taken from one connection before the others get their turn.
const TURN: usize = 256 << 10;
const CONNECT: Duration = Duration::from_secs(5);

impl Unix {
    /// A transport that only dials.
    pub fn new(id: TransportId) -> Self {
        Self {
            id,
            class: Class::MEMORY,
            listener: None,
            connections: HashMap::new(),
            next: 0,
            dials: Lookups::new(),
            pending: VecDeque::new(),
            counters: UnixCounters::default(),
        }
    }

    /// A transport that listens at `path`, for its owner alone. A socket there that nobody listens at any more is replaced.
    ///
    /// # Errors
    ///
    /// As `bind` of the system: that somebody listens there, or that something else is there.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn listen(id: TransportId, path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        if std::fs::symlink_metadata(path).is_ok() && !is_stale(path) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Made in a directory of mode 0700 and renamed when its own mode is set: at no moment can others connect. The name
        // is short, since a socket's path has at most 108 bytes.
        let private = tempfile::Builder::new().prefix(".b").rand_bytes(6).tempdir_in(folder)?;
        let made = private.path().join("s");
        let socket = UnixListener::bind(&made)?;
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
        let inode = inode(&made);
        std::fs::rename(&made, path)?;
        let mut transport = Self::new(id);
        transport.listener = Some(Listener { socket, path: path.to_owned(), inode });
        Ok(transport)
    }

    /// The class of its links; [`Class::MEMORY`] unless said.
    #[must_use]
    pub fn with_class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// What was counted since the start.
    pub fn counters(&self) -> UnixCounters {
        self.counters
    }

    fn place(&self, number: u64) -> Place {
        Place { transport: self.id, remote: Remote::Connection(number), mtu: MTU }
    }

    fn add(&mut self, stream: UnixStream) -> Option<Place> {
        if self.connections.len() >= CONNECTIONS_MAX {
            self.counters.refused += 1;
            return None;
        }
        let number = self.next;
        self.next += 1;
        let connection = Connection { stream, incoming: BytesMut::new(), outgoing: BytesMut::new() };
        self.connections.insert(number, connection);
        Some(self.place(number))
    }

    fn accept(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) {
        while let Some(Listener { socket, .. }) = &self.listener {
            match socket.poll_accept(cx) {
                Poll::Ready(Ok((stream, _))) => {
                    if let Some(place) = self.add(stream) {
                        batch.push(Event::Opened { place });
                    }
                }
                // For lack of descriptors, for example: asked again with the next event.
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
        }
    }
}

impl Connection {
    /// Appends frames that came; an error when the connection is over.
    fn receive(&mut self, cx: &mut Context<'_>, mut take: impl FnMut(BytesMut)) -> io::Result<()> {
        let mut taken = 0;
        loop {
            while let Some(length) = self.incoming.first_chunk().copied().map(u16::from_be_bytes) {
                if length == 0 || length > MTU {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let whole = 2 + usize::from(length);
                if self.incoming.len() < whole {
                    break;
                }
                // Memory of its own: a frame that is kept must not keep what came with it.
                take(BytesMut::from(&self.incoming[2..whole]));
                self.incoming.advance(whole);
            }
            if taken >= TURN {
                cx.waker().wake_by_ref();
                return Ok(());
            }
            if self.stream.poll_read_ready(cx)?.is_pending() {
                return Ok(());
            }
            self.incoming.reserve(usize::from(MTU) + 2);
            match self.stream.try_read_buf(&mut self.incoming) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => taken += count,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Writes what waits, as far as it goes; an error when the connection is over.
    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.stream.try_write(&self.outgoing) {
                Ok(count) => self.outgoing.advance(count),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    if self.stream.poll_write_ready(cx)?.is_pending() {
                        return Ok(());
                    }
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }
}

impl Transport for Unix {
    fn profile(&self) -> Profile {
        Profile { class: self.class, typical_rtt: Duration::from_micros(200), rate: None, lossy: false }
    }

    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::Unix]
    }

    fn dial(&mut self, id: DialId, endpoint: &Endpoint) {
        let Some(path) = endpoint.path().map(PathBuf::from) else {
            self.pending.push_back(Event::Dialled { id, result: Err(DialError::Unsupported) });
            return;
        };
        let connect = async move { UnixStream::connect(path).await.map_err(|_| DialError::Unreachable) };
        if let Err(why) = self.dials.start(id, CONNECT, DialError::Unreachable, connect) {
            self.pending.push_back(Event::Dialled { id, result: Err(why) });
        }
    }

    fn hang_up(&mut self, place: Place) {
        if let Remote::Connection(number) = place.remote
            && let Some(connection) = self.connections.remove(&number)
        {
            // What still fits the system's buffer leaves, a goodbye for example.
            let _ = connection.stream.try_write(&connection.outgoing);
        }
    }

    fn listening(&self) -> Vec<Endpoint> {
        let path = self.listener.as_ref().and_then(|listener| listener.path.to_str());
        path.and_then(|path| Endpoint::unix(path).ok()).into_iter().collect()
    }

    fn describe(&self, place: Place) -> String {
        match place.remote {
            Remote::Connection(number) => format!("unix #{number}"),
            Remote::Ip(_) => "unix".to_owned(),
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<(Place, Bytes)>,
    ) -> Poll<io::Result<()>> {
        for (place, frame) in batch.drain(..) {
            let Remote::Connection(number) = place.remote else { continue };
            let length = u16::try_from(frame.len()).ok().filter(|length| (1..=MTU).contains(length));
            match (self.connections.get_mut(&number), length) {
                (Some(connection), Some(length)) if connection.outgoing.len() < OUTGOING_MAX => {
                    connection.outgoing.put_u16(length);
                    connection.outgoing.put_slice(&frame);
                    self.counters.sent += 1;
                }
                _ => self.counters.dropped += 1,
            }
        }
        for connection in self.connections.values_mut() {
            // An end is seen by the next look for what has come.
            let _ = connection.flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) -> Poll<io::Result<()>> {
        let before = batch.len();
        batch.extend(self.pending.drain(..));
        while let Poll::Ready((id, result)) = self.dials.poll(cx) {
            let result = result.and_then(|stream| self.add(stream).ok_or(DialError::Unreachable));
            batch.push(Event::Dialled { id, result: result.map(|place| vec![place]) });
        }
        self.accept(cx, batch);
        let id = self.id;
        let mut over = Vec::new();
        for (number, connection) in &mut self.connections {
            let place = Place { transport: id, remote: Remote::Connection(*number), mtu: MTU };
            let frames = batch.len();
            let received = connection.receive(cx, |frame| batch.push(Event::Frame { place, frame }));
            self.counters.received += (batch.len() - frames) as u64;
            if let Err(why) = received.and_then(|()| connection.flush(cx)) {
                self.counters.refused += u64::from(why.kind() == io::ErrorKind::InvalidData);
                over.push((*number, place));
            }
        }
        for (number, place) in over {
            self.connections.remove(&number);
            batch.push(Event::Closed { place });
        }
        if batch.len() > before { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        if let Some(Listener { path, inode: ours @ Some(_), .. }) = &self.listener
            && inode(path) == *ours
        {
            // Somebody else may have cleaned up already.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl fmt::Debug for Unix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unix")
            .field("id", &self.id)
            .field("connections", &self.connections.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|metadata| metadata.ino())
}

/// Whether `path` is a socket at which nobody listens.
fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket
        && std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|why| why.kind() == io::ErrorKind::ConnectionRefused)
}
