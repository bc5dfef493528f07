//! One byte stream, and one that waits to be accepted.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use byway_identity::Addr;
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::connection::Lease;
use crate::header::{self, Answer};

/// What a side that gives up tells the other; it names no reason.
const ABANDONED: VarInt = VarInt::from_u32(1);

/// A reliable, ordered stream of bytes each way.
///
/// Shutting down the write half tells the other side that the stream ends here, and reading goes on. A stream that is
/// dropped without that breaks off: the other side gets an error, never a clean end, so that half a file is not taken for a
/// whole one. [`Stream::close`] waits until the other side has everything.
pub struct Stream {
    send: SendStream,
    recv: RecvStream,
    finished: bool,
    lease: Option<Lease>,
    remote: Addr,
}

impl Stream {
    pub(crate) fn new(send: SendStream, recv: RecvStream, lease: Lease, remote: Addr) -> Self {
        Self { send, recv, finished: false, lease: Some(lease), remote }
    }

    /// Who is at the other end, proven by the end-to-end session.
    pub fn remote(&self) -> Addr {
        self.remote
    }

    /// Ends the write half, waits until the other side has received every byte, and drops the read half.
    ///
    /// An error means that the connection broke or the other side stopped reading, so some bytes may be lost. That the other
    /// side's program has worked on them only an answer of its own can tell.
    pub async fn close(mut self) -> io::Result<()> {
        self.finish();
        match self.send.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the other side stopped reading")),
            Err(error) => Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
        }
    }

    /// The header of a stream that the remote opened: the service it wants; none: it sent none in time, or a bad one.
    pub(crate) async fn read_header(&mut self, deadline: Duration) -> Option<String> {
        timeout(deadline, header::read(&mut self.recv)).await.ok()?.ok()
    }

    fn finish(&mut self) {
        // The one error is that it was finished or stopped before, and then there is nothing more to end.
        let _ = self.send.finish();
        self.finished = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.finished {
            // Fails only where it has ended already.
            let _ = self.send.reset(ABANDONED);
            return;
        }
        // What was written is still delivered, for which the connection must not be taken for idle.
        if let (Some(lease), Ok(runtime)) = (self.lease.take(), tokio::runtime::Handle::try_current()) {
            let stopped = self.send.stopped();
            runtime.spawn(async move {
                let _ = stopped.await;
                drop(lease);
            });
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.recv.poll_read_buf(cx, buffer).map_err(|error| match error {
            quinn::ReadError::Reset(_) => {
                io::Error::new(io::ErrorKind::ConnectionReset, "the other side broke off")
            }
            quinn::ReadError::ConnectionLost(error) => lost(error),
            error => error.into(),
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, bytes).map_err(|error| match error {
            quinn::WriteError::Stopped(_) => stopped(),
            quinn::WriteError::ConnectionLost(error) => lost(error),
            error => error.into(),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("remote", &self.remote).finish_non_exhaustive()
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the other side stopped reading")
}

/// The kinds that TCP has for the same.
fn lost(error: ConnectionError) -> io::Error {
    let kind = match &error {
        ConnectionError::TimedOut => io::ErrorKind::TimedOut,
        ConnectionError::LocallyClosed => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, error)
}

/// A stream that a remote opened and that waits for an answer; dropping it refuses.
#[derive(Debug)]
pub struct Incoming {
    /// Who opened it, proven by the end-to-end session.
    pub from: Addr,
    /// The service that is asked for.
    pub service: String,
    waiting: Waiting,
}

impl Incoming {
    pub(crate) fn new(stream: Stream, service: String) -> Self {
        Self {
            from: stream.remote,
            service,
            waiting: Waiting { stream: Some(stream), answer: Answer::Refused },
        }
    }

    /// Takes the stream.
    pub async fn accept(mut self) -> io::Result<Stream> {
        let Some(mut stream) = self.waiting.stream.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if let Some(lease) = &stream.lease {
            lease.trust();
        }
        header::answer(&mut stream.send, Answer::Accepted).await?;
        Ok(stream)
    }

    /// Tells the other side that there is no such service, or not for it.
    pub fn refuse(self) {
        drop(self);
    }

    /// Tells the other side that nobody came for the stream.
    pub(crate) fn refuse_busy(mut self) {
        self.waiting.answer = Answer::Busy;
    }
}

#[derive(Debug)]
struct Waiting {
    stream: Option<Stream>,
    answer: Answer,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let answer = self.answer;
        runtime.spawn(async move {
            if header::answer(&mut stream.send, answer).await.is_ok() {
                stream.finish();
            }
        });
    }
}
