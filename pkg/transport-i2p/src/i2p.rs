//! Links over I2P as a [`Transport`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use byway_link::{
    Condition, DialError, DialId, Dials, Endpoint, Event, Place, Profile, Remote, Scheme, StreamCounters,
    Streams, Transport, TransportId,
};
use byway_network::{Class, Family};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::I2pName;
use crate::keeper::{Opened, Session, Status, connect, keep};
use crate::sam::Tunnels;

/// Which router to use, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its SAM bridge. The private key goes there as it is: an address of this machine.
    pub sam: SocketAddr,
    /// The folder that keeps the destination's key.
    pub folder: PathBuf,
    /// The session's tunnels.
    pub tunnels: Tunnels,
}

/// Links over I2P.
pub struct I2p {
    id: TransportId,
    sam: SocketAddr,
    streams: Streams<TcpStream>,
    dials: Dials<Opened>,
    opened: mpsc::Receiver<Opened>,
    status: watch::Receiver<Status>,
    keeper: AbortHandle,
}

/// Bytes that wait for a peer that does not read: at I2P's speed more would be seconds old.
const OUTGOING_MAX: usize = 256 << 10;
/// How long a dial may take, the pause and the wait for a session included.
const PATIENCE: Duration = Duration::from_secs(300);
/// Streams that others opened and the transport has not looked at yet.
const OPENED_MAX: usize = 16;

impl I2p {
    /// Links through the router of `config`. Nothing is asked of it before this returns, so a dead one delays nobody.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(id: TransportId, config: Config) -> Self {
        let (sender, status) = watch::channel(Status::starting("asking the I2P router"));
        let (arrivals, opened) = mpsc::channel(OPENED_MAX);
        let sam = config.sam;
        let keeper = tokio::spawn(keep(config, sender, arrivals)).abort_handle();
        let (streams, dials) = (Streams::new(id, OUTGOING_MAX), Dials::new());
        Self { id, sam, streams, dials, opened, status, keeper }
    }

    /// What was counted since the start.
    pub fn counters(&self) -> StreamCounters {
        self.streams.counters()
    }
}

impl Transport for I2p {
    fn profile(&self) -> Profile {
        let class = Class::new(Family::I2p, 0);
        Profile { class, typical_rtt: Duration::from_millis(1_200), rate: None, lossy: false }
    }

    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::I2p]
    }

    fn dial(&mut self, id: DialId, endpoint: &Endpoint) {
        let text = endpoint.opaque().filter(|_| endpoint.scheme() == Scheme::I2p);
        let name = text
            .ok_or(DialError::Unsupported)
            .and_then(|text| text.parse::<I2pName>().map_err(|why| DialError::Wrong(why.to_string())));
        let name = match name {
            Ok(name) => name,
            Err(why) => return self.dials.refuse(id, why),
        };
        let (sam, mut status) = (self.sam, self.status.clone());
        let until = self.dials.not_before(endpoint);
        let dial = async move {
            if let Some(until) = until {
                // What failed for want of a session need not wait once there is one.
                tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = becomes_ready(status.clone()) => {}
                }
            }
            let session = session(&mut status).await?;
            connect(sam, &session, name).await
        };
        let late = DialError::Told("I2P did not reach the destination in time".to_owned());
        self.dials.start(id, endpoint, PATIENCE, late, dial);
    }

    fn hang_up(&mut self, place: Place) {
        self.streams.hang_up(place);
    }

    fn listening(&self) -> Vec<Endpoint> {
        let status = self.status.borrow();
        let endpoint =
            status.session.iter().filter_map(|session| format!("i2p://{}", session.name).parse().ok());
        endpoint.collect()
    }

    fn condition(&self) -> Condition {
        self.status.borrow().condition.clone()
    }

    fn describe(&self, place: Place) -> String {
        match (self.streams.endpoint(place), place.remote) {
            (Some(endpoint), _) => endpoint.clone().with_token(None).to_string(),
            (None, Remote::Connection(number)) => format!("i2p #{number}"),
            (None, Remote::Ip(_)) => "i2p".to_owned(),
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<(Place, Bytes)>,
    ) -> Poll<io::Result<()>> {
        self.streams.send(cx, batch);
        Poll::Ready(Ok(()))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) -> Poll<io::Result<()>> {
        let before = batch.len();
        while let Poll::Ready((id, result)) = self.dials.poll(cx) {
            let result = result.and_then(|((stream, early), endpoint)| {
                let place = self.streams.dialled(stream, endpoint, early);
                place.map(|place| vec![place]).ok_or(DialError::Unreachable)
            });
            batch.push(Event::Dialled { id, result });
        }
        while let Poll::Ready(Some((stream, early))) = self.opened.poll_recv(cx) {
            if let Some(place) = self.streams.accepted(stream, early) {
                batch.push(Event::Opened { place });
            }
        }
        self.streams.receive(cx, batch);
        if batch.len() > before { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Drop for I2p {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Shows counts alone.
impl std::fmt::Debug for I2p {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("I2p").field("id", &self.id).field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// The session, waited for while the router builds it; why there is none, where that is known.
async fn session(status: &mut watch::Receiver<Status>) -> Result<Session, DialError> {
    let is_decided = |status: &Status| !matches!(status.condition, Condition::Starting { .. });
    let decided = status.wait_for(is_decided).await.map_err(|_| DialError::Unsupported)?;
    let (session, condition) = (decided.session.clone(), decided.condition.clone());
    session.ok_or(match condition {
        Condition::Failing { why } => DialError::Told(why),
        _ => DialError::Unreachable,
    })
}

/// Waits until there is a session after there was none; for ever where nobody tells.
async fn becomes_ready(mut status: watch::Receiver<Status>) {
    status.mark_unchanged();
    while status.changed().await.is_ok() {
        if status.borrow_and_update().condition == Condition::Ready {
            return;
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
#[path = "i2p_tests.rs"]
mod tests;
