//! One remote: its socket, its QUIC endpoint, and the connection that new streams use.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{ApiError, Code, Kind, Node, Outgoing};
use byway_identity::Addr;
use quinn::{ClientConfig, EndpointConfig as QuicConfig, ServerConfig, TransportConfig, VarInt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::ConnectError;
use crate::connection::{Connection, STREAMS_STRANGER, WINDOW_STRANGER};
use crate::endpoint::Shared;
use crate::socket::{DATAGRAM_MAX, DATAGRAM_MIN, Queues, REMOTE, Socket};
use crate::tls::{RandomIds, SERVER_NAME, reset_key};

/// Connections that one remote may hold open to us at once: more than one only while it restarts.
const CONNECTIONS: usize = 4;
/// Handshakes of one remote that wait for us.
const HANDSHAKES: usize = 8;
/// Stream windows that a connection may fill, so that one reader who stops does not stop the others.
const STREAM_WINDOWS: u32 = 4;

/// All that is kept for one remote.
pub(crate) struct Remote {
    addr: Addr,
    queues: Arc<Queues>,
    quinn: quinn::Endpoint,
    current: Mutex<Option<Arc<Connection>>>,
    dialling: tokio::sync::Mutex<()>,
    /// Why the node did not send last time; none: it did.
    failure: watch::Sender<Option<ApiError>>,
    used: Mutex<Instant>,
}

impl Remote {
    pub(crate) fn new(shared: &Arc<Shared>, addr: Addr) -> std::io::Result<Arc<Self>> {
        let queues = Arc::new(Queues::default());
        let mut quic = QuicConfig::new(reset_key(&shared.node.addr()));
        quic.cid_generator(|| Box::new(RandomIds));
        quic.max_udp_payload_size(DATAGRAM_MAX as u16).expect("it is above QUIC's least of 1200");
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            quic,
            Some(server_config(shared, addr)),
            Arc::new(Socket(Arc::clone(&queues))),
            Arc::new(quinn::TokioRuntime),
        )?;
        let failure = watch::Sender::new(None);
        let remote = Arc::new(Self {
            addr,
            queues: Arc::clone(&queues),
            quinn: quinn.clone(),
            current: Mutex::new(None),
            dialling: tokio::sync::Mutex::new(()),
            failure: failure.clone(),
            used: Mutex::new(Instant::now()),
        });
        tokio::spawn(pump(Arc::clone(shared), addr, queues, failure));
        tokio::spawn(listen(Arc::clone(shared), quinn, Arc::downgrade(&remote)));
        Ok(remote)
    }

    /// A message from the remote came in.
    pub(crate) fn receive(&self, datagram: Bytes) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if !self.queues.push_inbound(datagram) {
            tracing::trace!(remote = ?self.addr, "dropped a datagram: too long, or quinn lags behind");
        }
    }

    /// Whether no connection is open or being made.
    pub(crate) fn is_unused(self: &Arc<Self>) -> bool {
        // Whoever dials holds a clone.
        Arc::strong_count(self) == 1 && self.quinn.open_connections() == 0
    }

    /// Connections that are open or being made.
    pub(crate) fn connections(&self) -> usize {
        self.quinn.open_connections()
    }

    /// When a message came in last.
    pub(crate) fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection for a new stream, and whether it existed before. `fresh`: the one there is does not answer.
    pub(crate) async fn connection(
        &self,
        shared: &Arc<Shared>,
        fresh: Option<&Arc<Connection>>,
    ) -> Result<(Arc<Connection>, bool), ConnectError> {
        let usable = |current: &Option<Arc<Connection>>| {
            current
                .as_ref()
                .filter(|it| it.is_open() && !fresh.is_some_and(|dead| Arc::ptr_eq(dead, it)))
                .map(Arc::clone)
        };
        // One dials, the others wait and then share its connection.
        let _turn = self.dialling.lock().await;
        if let Some(current) = usable(&self.current()) {
            return Ok((current, true));
        }
        let connection = self.dial(shared).await?;
        Ok((self.adopt(shared, connection, None), false))
    }

    async fn dial(&self, shared: &Arc<Shared>) -> Result<quinn::Connection, ConnectError> {
        self.failure.send_replace(None);
        let mut failure = self.failure.subscribe();
        let mut client = ClientConfig::new(Arc::clone(&shared.tls.client) as _);
        let mut transport = transport(shared, self.addr);
        transport.receive_window(VarInt::from_u32(connection_window(shared)));
        client.transport_config(Arc::new(transport));
        let connecting = self
            .quinn
            .connect_with(client, REMOTE, SERVER_NAME)
            .map_err(|error| ConnectError::Lost(error.to_string()))?;
        tokio::select! {
            connection = connecting => Ok(connection?),
            Ok(failed) = failure.wait_for(|failure| failure.as_ref().is_some_and(is_final)) => {
                Err(failed.clone().map_or(ConnectError::Timeout, ConnectError::Unreachable))
            }
        }
    }

    /// Why the node could not send, if it could not when last it tried.
    pub(crate) fn failure(&self) -> Option<ApiError> {
        self.failure.borrow().clone()
    }

    fn adopt(
        &self,
        shared: &Arc<Shared>,
        connection: quinn::Connection,
        permit: Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> Arc<Connection> {
        let connection = Connection::new(connection, connection_window(shared));
        // Who dialled goes first, so that a stream is seldom opened on what the other side is closing.
        let linger = shared.config.linger * if permit.is_some() { 2 } else { 1 };
        tokio::spawn(Arc::clone(&connection).serve(Arc::clone(shared), self.addr, linger, permit));
        *self.current() = Some(Arc::clone(&connection));
        connection
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Arc<Connection>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node has ended.
    pub(crate) fn end(&self) {
        self.queues.end();
    }

    /// Closes every connection, and waits until the remote knows, or could have known.
    pub(crate) async fn close(&self) {
        self.quinn.close(VarInt::from_u32(0), b"closed");
        self.quinn.wait_idle().await;
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.quinn.close(VarInt::from_u32(0), b"closed");
    }
}

/// Carries datagrams from quinn to the node, at the pace of the node.
async fn pump(shared: Arc<Shared>, to: Addr, queues: Arc<Queues>, failure: watch::Sender<Option<ApiError>>) {
    let node: &Arc<dyn Node> = &shared.node;
    while let Some(payload) = queues.next_outbound().await {
        let request = shared.config.request;
        match node.send(Outgoing { to, kind: Kind::Message, payload, request }).await {
            Ok(_) => {
                failure.send_if_modified(|failure| failure.take().is_some());
            }
            Err(error) => {
                // The datagram is lost; QUIC sends its content again, or gives up in its own time.
                if error.code == Code::Closed {
                    queues.end();
                }
                failure.send_replace(Some(error));
            }
        }
    }
}

/// Takes the connections that the remote opens.
async fn listen(shared: Arc<Shared>, quinn: quinn::Endpoint, remote: Weak<Remote>) {
    while let Some(incoming) = quinn.accept().await {
        let Some(remote) = remote.upgrade() else { return };
        let permit = Arc::clone(&shared.strangers).try_acquire_owned();
        let Ok(permit) = permit else {
            incoming.refuse();
            continue;
        };
        if shared.accepted.is_none() || quinn.open_connections() >= CONNECTIONS {
            incoming.refuse();
            continue;
        }
        let config = Arc::new(server_config(&shared, remote.addr));
        let Ok(connecting) = incoming.accept_with(config) else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Ok(Ok(connection)) = timeout(shared.config.deadline, connecting).await {
                remote.adopt(&shared, connection, Some(permit));
            }
        });
    }
}

/// Whether trying again within the deadline is in vain.
fn is_final(error: &ApiError) -> bool {
    !matches!(error.code, Code::Busy | Code::NoWay | Code::Internal)
}

fn connection_window(shared: &Shared) -> u32 {
    shared.config.window.saturating_mul(STREAM_WINDOWS)
}

fn server_config(shared: &Shared, remote: Addr) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(Arc::clone(&shared.tls.server) as _);
    let mut transport = transport(shared, remote);
    transport.receive_window(VarInt::from_u32(WINDOW_STRANGER.min(connection_window(shared))));
    config
        .transport_config(Arc::new(transport))
        // The remote's only address is the one that stands for it.
        .migration(false)
        .max_incoming(HANDSHAKES)
        .incoming_buffer_size(8 * DATAGRAM_MAX as u64)
        .incoming_buffer_size_total(32 * DATAGRAM_MAX as u64);
    config
}

/// What both directions have in common.
fn transport(shared: &Shared, remote: Addr) -> TransportConfig {
    let config = &shared.config;
    // A datagram fits one frame where it can: the loss of one then costs one. Below QUIC's least, sessions fragment.
    let datagram = shared.node.path_mtu(remote).clamp(DATAGRAM_MIN, DATAGRAM_MAX) as u16;
    let idle = config.idle.clamp(Duration::from_secs(1), Duration::from_secs(3600));
    let mut transport = TransportConfig::default();
    transport
        .initial_mtu(datagram)
        .mtu_discovery_config(None)
        .max_idle_timeout(Some(idle.try_into().expect("an hour fits a QUIC time-out")))
        .keep_alive_interval(Some(idle / 4))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_STRANGER))
        .stream_receive_window(VarInt::from_u32(config.window))
        .send_window(u64::from(connection_window(shared)))
        .datagram_receive_buffer_size(None);
    transport
}
