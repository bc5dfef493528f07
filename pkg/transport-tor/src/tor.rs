//! Links over Tor as a [`Transport`].

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_identity::OsEntropy;
use byway_identity::keyfile::KeyFileError;
use byway_link::{
    Condition, DialError, DialId, Dials, Endpoint, Event, Place, Profile, Remote, Scheme, StreamCounters,
    Streams, Transport, TransportId,
};
use byway_network::{Class, Family};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::keeper::{Control, Status, keep};
use crate::{OnionAddress, OnionKey, Outlet};

/// Which tor to use, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its SOCKS port.
    pub socks: SocketAddr,
    /// How it is asked for an onion service, and the folder that keeps its key; none: others cannot dial this daemon over Tor.
    pub service: Option<(Control, PathBuf)>,
    /// The port of the onion service.
    pub port: u16,
}

/// Why links over Tor cannot be opened at all; what tor itself does or does not do shows later, as [`Transport::condition`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The key of the onion service cannot be used.
    #[error("the key of the onion service: {0}")]
    Key(#[from] KeyFileError),
    /// There is no port on loopback that tor could hand connections to.
    #[error("no port on loopback for the onion service: {0}")]
    Io(#[from] io::Error),
}

/// Links over Tor.
pub struct Tor {
    id: TransportId,
    outlet: Outlet,
    streams: Streams<TcpStream>,
    service: Option<Service>,
    dials: Dials<TcpStream>,
}

/// What lets others in.
struct Service {
    listener: TcpListener,
    endpoint: Endpoint,
    status: watch::Receiver<Status>,
    keeper: AbortHandle,
}

/// Bytes that wait for a peer that does not read: at Tor's speed more would be seconds old.
const OUTGOING_MAX: usize = 256 << 10;
/// How long a dial may take, the pause before it included.
const PATIENCE: Duration = Duration::from_secs(180);

impl Tor {
    /// Links through the tor of `config`. Nothing is asked of it before this returns, so a dead one delays nobody.
    ///
    /// # Errors
    ///
    /// When the key of the onion service cannot be read or made, or no port is free.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(id: TransportId, config: Config) -> Result<Self, OpenError> {
        let port = config.port;
        let service = config.service.map(|(control, folder)| Service::open(control, &folder, port));
        Ok(Self {
            id,
            outlet: Outlet::new(config.socks),
            streams: Streams::new(id, OUTGOING_MAX),
            service: service.transpose()?,
            dials: Dials::new(),
        })
    }

    /// Opens streams through the same tor, on circuits that no link shares.
    pub fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> StreamCounters {
        self.streams.counters()
    }

    fn accept(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) {
        while let Some(service) = &self.service {
            match service.listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, _))) => {
                    let _ = stream.set_nodelay(true);
                    if let Some(place) = self.streams.accepted(stream, BytesMut::new()) {
                        batch.push(Event::Opened { place });
                    }
                }
                // For lack of descriptors, for example: asked again with the next event.
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
        }
    }
}

impl Service {
    fn open(control: Control, folder: &std::path::Path, port: u16) -> Result<Self, OpenError> {
        let key = OnionKey::load_or_create(folder, &mut OsEntropy)?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let local = listener.local_addr()?.port();
        let endpoint = format!("tor://{}:{port}", key.address());
        let endpoint = endpoint.parse().expect("an onion name and a port make an endpoint");
        let condition = Condition::Starting { percent: None, doing: "asking tor".to_owned() };
        let (sender, status) = watch::channel(Status { condition, is_listening: false });
        let keeper = tokio::spawn(keep(control, key, (port, local), sender)).abort_handle();
        Ok(Self { listener: TcpListener::from_std(listener)?, endpoint, status, keeper })
    }
}

impl Transport for Tor {
    fn profile(&self) -> Profile {
        let class = Class::new(Family::Tor, 0);
        Profile { class, typical_rtt: Duration::from_millis(600), rate: None, lossy: false }
    }

    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::Tor]
    }

    fn dial(&mut self, id: DialId, endpoint: &Endpoint) {
        let text = endpoint.opaque().filter(|_| endpoint.scheme() == Scheme::Tor);
        let target = text.ok_or(DialError::Unsupported).and_then(|text| {
            OnionAddress::parse_with_port(text).map_err(|why| DialError::Wrong(why.to_string()))
        });
        let (address, port) = match target {
            Ok(target) => target,
            Err(why) => return self.dials.refuse(id, why),
        };
        let until = self.dials.not_before(endpoint);
        let ready = self.service.as_ref().map(|service| service.status.clone());
        let (outlet, host) = (self.outlet.clone(), address.to_string());
        let connect = async move {
            if let Some(until) = until {
                // What failed for want of a working tor need not wait once there is one.
                tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = becomes_ready(ready) => {}
                }
            }
            outlet.connect(&host, port, host.as_bytes()).await
        };
        let late = DialError::Told("Tor did not reach the onion service in time".to_owned());
        self.dials.start(id, endpoint, PATIENCE, late, connect);
    }

    fn hang_up(&mut self, place: Place) {
        self.streams.hang_up(place);
    }

    fn listening(&self) -> Vec<Endpoint> {
        let service = self.service.iter().filter(|service| service.status.borrow().is_listening);
        service.map(|service| service.endpoint.clone()).collect()
    }

    fn condition(&self) -> Condition {
        self.service.as_ref().map(|service| service.status.borrow().condition.clone()).unwrap_or_default()
    }

    fn describe(&self, place: Place) -> String {
        match (self.streams.endpoint(place), place.remote) {
            (Some(endpoint), _) => endpoint.clone().with_token(None).to_string(),
            (None, Remote::Connection(number)) => format!("tor #{number}"),
            (None, Remote::Ip(_)) => "tor".to_owned(),
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
            let result = result.and_then(|(stream, endpoint)| {
                let _ = stream.set_nodelay(true);
                let place = self.streams.dialled(stream, endpoint, BytesMut::new());
                place.map(|place| vec![place]).ok_or(DialError::Unreachable)
            });
            batch.push(Event::Dialled { id, result });
        }
        self.accept(cx, batch);
        self.streams.receive(cx, batch);
        if batch.len() > before { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Shows counts alone.
impl std::fmt::Debug for Tor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tor").field("id", &self.id).field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// Waits until tor is ready after it was not; for ever where nobody knows.
async fn becomes_ready(status: Option<watch::Receiver<Status>>) {
    if let Some(mut status) = status {
        status.mark_unchanged();
        while status.changed().await.is_ok() {
            if status.borrow_and_update().condition == Condition::Ready {
                return;
            }
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
#[path = "tor_tests.rs"]
mod tests;
