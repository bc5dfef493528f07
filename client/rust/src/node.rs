//! A node in a daemon, from afar.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use byway_api::exchange::Secret;
use byway_api::{ApiError, BoxFuture, Code, Incoming, Kind, MESSAGE_MAX, Node, Outgoing, Request, Sent};
use byway_identity::{Addr, Prefix, PublicKey};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client::{Client, Local};
use crate::flow::{Flow, Step};
use crate::inbox::Inbox;
use crate::pump;

/// What fits one frame everywhere; the daemon knows better, but only it.
pub(crate) const PATH_MTU: usize = 1_280;

/// How much longer than the daemon the client waits for an outcome.
const GRACE: Duration = Duration::from_secs(2);

/// A node that this process has in a daemon; it ends when this is dropped.
///
/// [`Node::send`] waits for the daemon's answer only until the receiver is known to take messages; from then on it waits for
/// room in a window, and an error is told by the next send to the same receiver. [`Node::close`] lets what was sent reach the
/// daemon first; see [`Client::settle`].
pub struct RemoteNode {
    client: Client,
    key: PublicKey,
    addr: Addr,
    token: Secret,
    shared: Arc<Shared>,
}

/// What the node's handle and its background task share.
#[derive(Default)]
pub(crate) struct Shared {
    flow: Mutex<Flow>,
    pub(crate) inbox: Inbox,
    /// Something is to be written.
    pub(crate) wanted: Notify,
    /// The window may have room.
    pub(crate) room: Notify,
}

impl Shared {
    pub(crate) fn flow(&self) -> MutexGuard<'_, Flow> {
        // A panic in between could only come from a fault in this crate, and leaves counts that end the node sooner.
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RemoteNode {
    pub(crate) async fn attach(client: Client, key: PublicKey, token: Secret) -> Result<Self, ApiError> {
        let (addr, shared) = (key.addr(), Arc::<Shared>::default());
        pump::start(&client, addr, token.reveal(), Arc::clone(&shared)).await?;
        Ok(Self { client, key, addr, token, shared })
    }

    fn local(&self) -> Local<'_> {
        Local { addr: self.addr, token: Some(self.token.reveal()) }
    }

    async fn send_now(&self, outgoing: Outgoing) -> Result<Sent, ApiError> {
        let length = outgoing.payload.len();
        if length > MESSAGE_MAX {
            return Err(ApiError::new(
                Code::TooLong,
                format!("a message has at most {MESSAGE_MAX} bytes, not {length}"),
            ));
        }
        let mut until = None;
        loop {
            let mut room = std::pin::pin!(self.shared.room.notified());
            room.as_mut().enable();
            let step = self.shared.flow().send(&outgoing);
            match step {
                Step::Done(result) => {
                    self.shared.wanted.notify_one();
                    return result;
                }
                Step::Wait(outcome) => {
                    self.shared.wanted.notify_one();
                    return match tokio::time::timeout(outgoing.request.wait() + GRACE, outcome).await {
                        Ok(Ok(result)) => result,
                        Ok(Err(_)) => Err(ended()),
                        Err(_) => Err(ApiError::new(
                            Code::NoWay,
                            "the daemon did not say what became of the message",
                        )),
                    };
                }
                Step::Full => {
                    let until = *until.get_or_insert_with(|| Instant::now() + outgoing.request.wait());
                    if tokio::time::timeout_at(until, room).await.is_err() {
                        let text = format!("the queue to {} stayed full until the deadline", outgoing.to);
                        return Err(ApiError::new(Code::Busy, text));
                    }
                }
            }
        }
    }

    /// Gives the daemon back what the application has taken.
    fn took(&self) {
        if let Some(cost) = self.shared.inbox.credit() {
            self.shared.flow().put(&byway_api::frame::Record::Credit { cost });
            self.shared.wanted.notify_one();
        }
    }
}

impl Node for RemoteNode {
    fn addr(&self) -> Addr {
        self.addr
    }

    fn public_key(&self) -> PublicKey {
        self.key
    }

    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Sent, ApiError>> {
        Box::pin(self.send_now(outgoing))
    }

    fn recv(&self, kind: Kind) -> BoxFuture<'_, Result<Incoming, ApiError>> {
        Box::pin(async move {
            let incoming = self.shared.inbox.take(kind).await;
            self.took();
            incoming.ok_or_else(|| self.shared.flow().ended.clone().unwrap_or_else(ended))
        })
    }

    fn try_recv(&self, kind: Kind) -> Option<Incoming> {
        let incoming = self.shared.inbox.try_take(kind)?;
        self.took();
        Some(incoming)
    }

    fn find(&self, prefix: Prefix, request: Request) -> BoxFuture<'_, Result<Addr, ApiError>> {
        Box::pin(self.client.find(self.local(), prefix, request))
    }

    fn lookup(&self, addr: Addr, request: Request) -> BoxFuture<'_, Result<PublicKey, ApiError>> {
        Box::pin(self.client.key_behind(self.local(), addr, request))
    }

    fn ping(&self, to: Addr, request: Request) -> BoxFuture<'_, Result<Duration, ApiError>> {
        Box::pin(self.client.ping_from(Some(self.local()), to, request))
    }

    fn path_mtu(&self, _: Addr) -> usize {
        PATH_MTU
    }

    fn close(&self) {
        self.shared.flow().closing = true;
        self.shared.wanted.notify_one();
    }
}

impl Drop for RemoteNode {
    fn drop(&mut self) {
        self.close();
    }
}

pub(crate) fn ended() -> ApiError {
    ApiError::new(Code::Closed, "the node has ended")
}
