//! A node of the realm.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use byway_identity::{Addr, Prefix, PublicKey};
use tokio::time::Instant;

use super::Medium;
use super::mailbox::{Mailbox, Refusal};
use crate::{ApiError, BoxFuture, Code, Incoming, Kind, MESSAGE_MAX, ManCon, Node, Outgoing, Request, Sent};

/// One address in memory; it ends with its last handle.
pub(super) struct MemoryNode {
    medium: Arc<Medium>,
    mailbox: Arc<Mailbox>,
    level: ManCon,
}

impl MemoryNode {
    pub(super) fn new(medium: Arc<Medium>, mailbox: Arc<Mailbox>, level: ManCon) -> Self {
        Self { medium, mailbox, level }
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    pub(super) fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// The level that a request gets, if this node may ask at all.
    fn admit(&self, request: &Request) -> Result<ManCon, ApiError> {
        if self.mailbox.is_closed() {
            return Err(ended());
        }
        self.medium.level(request.mancon.unwrap_or(self.level))
    }

    async fn send_now(&self, outgoing: Outgoing) -> Result<Sent, ApiError> {
        let mancon = self.admit(&outgoing.request)?;
        if outgoing.payload.len() > MESSAGE_MAX {
            let length = outgoing.payload.len();
            return Err(ApiError::new(
                Code::TooLong,
                format!("a message has at most {MESSAGE_MAX} bytes, not {length}"),
            ));
        }
        let to = self.mailbox_of(outgoing.to)?;
        let incoming = Incoming { from: self.addr(), payload: outgoing.payload };
        match outgoing.kind {
            Kind::Packet => to.put_packet(incoming),
            Kind::Message => {
                let put = to.put(incoming, Instant::now() + outgoing.request.wait());
                put.await.map_err(|refusal| match refusal {
                    Refusal::Full => ApiError::new(
                        Code::Busy,
                        format!("the queue to {} stayed full until the deadline", outgoing.to),
                    ),
                    Refusal::Closed => unknown(outgoing.to),
                })?;
            }
        }
        Ok(Sent { mancon, held: false })
    }

    fn mailbox_of(&self, addr: Addr) -> Result<Arc<Mailbox>, ApiError> {
        self.medium.mailbox(&addr).ok_or_else(|| unknown(addr))
    }
}

impl Node for MemoryNode {
    fn addr(&self) -> Addr {
        self.mailbox.addr()
    }

    fn public_key(&self) -> PublicKey {
        self.mailbox.public_key()
    }

    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Sent, ApiError>> {
        Box::pin(self.send_now(outgoing))
    }

    fn recv(&self, kind: Kind) -> BoxFuture<'_, Result<Incoming, ApiError>> {
        Box::pin(async move { self.mailbox.take(kind).await.ok_or_else(ended) })
    }

    fn try_recv(&self, kind: Kind) -> Option<Incoming> {
        self.mailbox.try_take(kind)
    }

    fn find(&self, prefix: Prefix, request: Request) -> BoxFuture<'_, Result<Addr, ApiError>> {
        Box::pin(async move {
            self.admit(&request)?;
            let nodes = self.medium.nodes.read().unwrap_or_else(PoisonError::into_inner);
            // Of several, the first: so that two callers get the same answer.
            nodes
                .keys()
                .filter(|addr| prefix.matches(addr))
                .min()
                .copied()
                .ok_or_else(|| ApiError::new(Code::Unknown, "no node has an address that begins so"))
        })
    }

    fn lookup(&self, addr: Addr, request: Request) -> BoxFuture<'_, Result<PublicKey, ApiError>> {
        Box::pin(async move {
            self.admit(&request)?;
            self.mailbox_of(addr).map(|mailbox| mailbox.public_key())
        })
    }

    fn ping(&self, to: Addr, request: Request) -> BoxFuture<'_, Result<Duration, ApiError>> {
        Box::pin(async move {
            let asked = Instant::now();
            self.admit(&request)?;
            self.mailbox_of(to)?;
            Ok(asked.elapsed())
        })
    }

    fn path_mtu(&self, _to: Addr) -> usize {
        MESSAGE_MAX
    }

    fn close(&self) {
        self.medium.leave(&self.mailbox);
        self.mailbox.close();
    }
}

impl Drop for MemoryNode {
    fn drop(&mut self) {
        self.close();
    }
}

fn ended() -> ApiError {
    ApiError::new(Code::Closed, "the node has ended")
}

fn unknown(addr: Addr) -> ApiError {
    ApiError::new(Code::Unknown, format!("there is no node {addr}"))
}
