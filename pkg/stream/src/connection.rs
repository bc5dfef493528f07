//! One QUIC connection to a remote, kept while streams use it and a little longer.

use std::sync::Arc;
use std::time::Duration;

use byway_identity::Addr;
use quinn::VarInt;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use crate::ConnectError;
use crate::endpoint::{Alive, Shared};
use crate::header::Answer;
use crate::stream::{Incoming, Stream};

/// Streams that a remote may have open at once before any was accepted, and after.
pub(crate) const STREAMS_STRANGER: u32 = 16;
const STREAMS: u32 = 256;
/// Bytes that a remote may send on all its streams together before any was accepted.
pub(crate) const WINDOW_STRANGER: u32 = 64 * 1024;
/// How long a connection that is used again may be silent before another is dialled.
const STALE: Duration = Duration::from_secs(2);
/// What the other side is told when a connection is closed because nobody uses it.
const UNUSED: VarInt = VarInt::from_u32(0);

/// A connection, and how many streams use it.
pub(crate) struct Connection {
    quinn: quinn::Connection,
    leases: watch::Sender<usize>,
    window: u32,
}

/// Keeps a connection, and the endpoint, from being closed as unused.
pub(crate) struct Lease {
    connection: Arc<Connection>,
    _alive: Arc<Alive>,
}

impl Lease {
    fn new(connection: &Arc<Connection>, alive: Arc<Alive>) -> Self {
        connection.leases.send_modify(|count| *count += 1);
        Self { connection: Arc::clone(connection), _alive: alive }
    }

    /// A stream of this connection was wanted: from now on it may use the full window.
    pub(crate) fn trust(&self) {
        self.connection.quinn.set_receive_window(VarInt::from_u32(self.connection.window));
        self.connection.quinn.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connection.leases.send_modify(|count| *count -= 1);
    }
}

impl Connection {
    /// `window`: bytes that the remote may have on the way once it is trusted.
    pub(crate) fn new(quinn: quinn::Connection, window: u32) -> Arc<Self> {
        Arc::new(Self { quinn, leases: watch::Sender::new(0), window })
    }

    /// Whether it was open a moment ago.
    pub(crate) fn is_open(&self) -> bool {
        self.quinn.close_reason().is_none()
    }

    /// Opens a stream to `service`. `reused`: the connection may have died unnoticed, so silence is not waited out.
    pub(crate) async fn open(
        self: &Arc<Self>,
        alive: Arc<Alive>,
        remote: Addr,
        header: &[u8],
        reused: bool,
    ) -> Result<Stream, ConnectError> {
        let lease = Lease::new(self, alive);
        let received = self.quinn.stats().udp_rx.datagrams;
        let answer = self.ask(lease, remote, header);
        tokio::pin!(answer);
        if reused {
            match timeout(STALE, &mut answer).await {
                Ok(answer) => return answer,
                Err(_) if self.quinn.stats().udp_rx.datagrams == received => {
                    return Err(ConnectError::Lost("no sign of life".into()));
                }
                // The remote is there, but who should accept takes time.
                Err(_) => {}
            }
        }
        answer.await
    }

    async fn ask(&self, lease: Lease, remote: Addr, header: &[u8]) -> Result<Stream, ConnectError> {
        let (mut send, mut recv) = self.quinn.open_bi().await?;
        let lost = |error: &dyn std::fmt::Display| ConnectError::Lost(error.to_string());
        send.write_all(header).await.map_err(|error| lost(&error))?;
        let mut answer = [0; 1];
        recv.read_exact(&mut answer).await.map_err(|error| lost(&error))?;
        match Answer::from_byte(answer[0]) {
            Some(Answer::Accepted) => Ok(Stream::new(send, recv, lease, remote)),
            Some(Answer::Refused) => Err(ConnectError::Refused),
            Some(Answer::Busy) => Err(ConnectError::Busy),
            None => Err(ConnectError::Lost("the other side speaks another version".into())),
        }
    }

    /// Takes the streams that the remote opens, until the connection ends or nobody has used it for `linger`.
    pub(crate) async fn serve(
        self: Arc<Self>,
        shared: Arc<Shared>,
        remote: Addr,
        linger: Duration,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        loop {
            tokio::select! {
                stream = self.quinn.accept_bi() => match stream {
                    Ok((send, recv)) => {
                        // Dropping the halves resets them, and the remote learns that its stream is not wanted.
                        let Some(alive) = shared.alive() else { break };
                        let stream = Stream::new(send, recv, Lease::new(&self, alive), remote);
                        tokio::spawn(offer(Arc::clone(&shared), stream));
                    }
                    Err(_) => break,
                },
                () = self.unused_for(linger) => {
                    self.quinn.close(UNUSED, b"unused");
                    break;
                }
            }
        }
        drop(permit);
    }

    async fn unused_for(&self, linger: Duration) {
        let mut leases = self.leases.subscribe();
        loop {
            if leases.wait_for(|count| *count == 0).await.is_err() {
                return;
            }
            // Marked as seen by `wait_for`; any lease taken from here on is a change.
            if timeout(linger, leases.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// Reads the header of a stream that the remote opened, and offers it to whoever accepts.
async fn offer(shared: Arc<Shared>, mut stream: Stream) {
    let deadline = shared.config.deadline;
    let Some(service) = stream.read_header(deadline).await else { return };
    let incoming = Incoming::new(stream, service);
    let Some(accepted) = &shared.accepted else { return incoming.refuse() };
    match timeout(deadline, accepted.reserve()).await {
        Ok(Ok(place)) => place.send(incoming),
        Ok(Err(_)) => incoming.refuse(),
        Err(_) => incoming.refuse_busy(),
    }
}
