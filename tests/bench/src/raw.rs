//! A client of INET256's local API, to measure its reference and ours through the same door.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use byway_api::exchange::Secret;
use byway_api::inet256::{Frame, OpenBody, decode};
use byway_identity::{Addr, Entropy, OsEntropy, SigningKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Duration, interval};

/// How often a client must show that it lives.
const KEEP: Duration = Duration::from_secs(1);
/// Longest head of an answer.
const HEAD_MAX: usize = 8 * 1024;

/// A node that was opened with `CONNECT /nodes/{id}`.
pub struct RawNode {
    addr: Addr,
    read: Mutex<(OwnedReadHalf, BytesMut)>,
    write: std::sync::Arc<Mutex<OwnedWriteHalf>>,
    keeper: AbortHandle,
}

impl RawNode {
    /// Opens a node with a new key at the daemon behind the socket `api`.
    pub async fn open(api: &Path) -> Result<Self> {
        let key = SigningKey::generate(&mut OsEntropy as &mut dyn Entropy);
        let addr = key.public().addr();
        let body = serde_json::to_string(&OpenBody { private_key: Secret::from_key(&key) })?;
        let mut stream = UnixStream::connect(api).await.with_context(|| api.display().to_string())?;
        let head = format!(
            "CONNECT /nodes/{addr} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let rest = answer(&mut stream).await?;
        let (read, write) = stream.into_split();
        let write = std::sync::Arc::new(Mutex::new(write));
        let keeper = tokio::spawn(keep(std::sync::Arc::clone(&write))).abort_handle();
        Ok(Self { addr, read: Mutex::new((read, rest)), write, keeper })
    }

    /// Its address.
    pub fn addr(&self) -> Addr {
        self.addr
    }

    /// Sends a message; waits while the socket is full, which is all the back-pressure that this API has.
    pub async fn send(&self, to: Addr, payload: Bytes) -> Result<()> {
        let mut bytes = BytesMut::new();
        Frame::Data { addr: to, payload }.encode(&mut bytes);
        Ok(self.write.lock().await.write_all(&bytes).await?)
    }

    /// The next message, with its sender. May be given up at any time.
    pub async fn recv(&self) -> Result<(Addr, Bytes)> {
        let mut guard = self.read.lock().await;
        let (read, buffer) = &mut *guard;
        loop {
            while let Some(frame) = decode(buffer)? {
                if let Frame::Data { addr, payload } = frame {
                    return Ok((addr, payload));
                }
            }
            if buffer.capacity() - buffer.len() < 64 * 1024 {
                buffer.reserve(256 * 1024);
            }
            if read.read_buf(buffer).await? == 0 {
                bail!("the daemon has closed the node");
            }
        }
    }
}

impl Drop for RawNode {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(write: std::sync::Arc<Mutex<OwnedWriteHalf>>) {
    let mut bytes = BytesMut::new();
    Frame::Keep.encode(&mut bytes);
    let mut ticks = interval(KEEP);
    loop {
        ticks.tick().await;
        if write.lock().await.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Reads the head of the answer, which must say 200; what came after it.
async fn answer(stream: &mut UnixStream) -> Result<BytesMut> {
    let mut buffer = BytesMut::new();
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = buffer.split_to(end + 4);
            if !head.starts_with(b"HTTP/1.1 200") {
                bail!(
                    "the daemon refuses: {}",
                    String::from_utf8_lossy(&head).lines().next().unwrap_or_default()
                );
            }
            return Ok(buffer);
        }
        if buffer.len() > HEAD_MAX || stream.read_buf(&mut buffer).await? == 0 {
            bail!("the daemon gave no answer");
        }
    }
}
