//! Listeners and connections.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use byway_api::{Code, Service};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use crate::access::{Guard, guard};
use crate::app::{App, Options};
use crate::counters::Counters;
use crate::reply::Failure;
use crate::token::Token;
use crate::{compat, v1};

/// The API of one daemon, on any number of listeners. Clones are the same API.
///
/// A task that serves can be dropped at any time, which closes its connections.
#[derive(Clone)]
pub struct Httpd {
    app: Arc<App>,
}

/// How long the head of a request may take, and a connection be idle between two.
const HEAD_WAIT: Duration = Duration::from_secs(30);

/// How long requests that are being answered have when the API ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A connection's right to exist; streams that outlive their HTTP request keep it.
#[derive(Clone)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
    _open: Arc<Open>,
}

struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Httpd {
    /// Prepares to serve `service`.
    pub fn new(service: Arc<dyn Service>, options: Options) -> Self {
        Self { app: Arc::new(App::new(service, options)) }
    }

    /// Serves whoever can open the socket (see [`bind_unix`](crate::bind_unix)), until [`Httpd::close`].
    ///
    /// # Errors
    ///
    /// When the listener is broken; running out of files is waited for.
    pub async fn serve_unix(&self, listener: UnixListener) -> io::Result<()> {
        self.serve(self.router(), listener).await
    }

    /// Serves clients on this machine that show `token`, until [`Httpd::close`].
    ///
    /// # Errors
    ///
    /// When the listener's address is not a loopback one, or it is broken.
    pub async fn serve_tcp(&self, listener: TcpListener, token: Token) -> io::Result<()> {
        let local = listener.local_addr()?;
        if !local.ip().is_loopback() {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "the API listens on loopback addresses only",
            ));
        }
        let state = Arc::new(Guard { app: Arc::clone(&self.app), token, port: local.port() });
        let router = self.router().layer(middleware::from_fn_with_state(state, guard));
        self.serve(router, listener).await
    }

    /// Ends everything: no new connections, streams are closed, nodes that clients opened end, requests have 2 s.
    pub fn close(&self) {
        self.app.end();
    }

    fn router(&self) -> Router {
        let (v1, _) = v1::router().split_for_parts();
        v1.merge(compat::router())
            .fallback(|| async {
                Failure::new(
                    Code::Unknown,
                    "there is no such path; GET /v1/openapi.json lists those that are",
                )
            })
            .method_not_allowed_fallback(|| async {
                Failure::new(Code::BadRequest, "the path does not take this method")
                    .with_status(StatusCode::METHOD_NOT_ALLOWED)
            })
            .layer(middleware::from_fn_with_state(Arc::clone(&self.app), count))
            .with_state(Arc::clone(&self.app))
    }

    async fn serve(&self, router: Router, listener: impl Listener) -> io::Result<()> {
        let mut stop = self.app.stop();
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = listener.next() => stream,
                Some(_) = connections.join_next() => continue,
                () = stop.wait() => break,
            };
            match stream {
                Ok(stream) => {
                    connections.spawn(connection(Arc::clone(&self.app), router.clone(), stream));
                }
                Err(error) if is_passing(&error) => {
                    // The client went away, or files are short: others must end first, and they do.
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
        let _ = tokio::time::timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} })
            .await;
        Ok(())
    }
}

/// Where connections come from. (An async closure would do, if its future were known to be `Send`.)
trait Listener: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // Small answers should not wait for more; where it cannot be set they just come later.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

fn is_passing(error: &io::Error) -> bool {
    // ENFILE and EMFILE have no kind of their own.
    matches!(error.raw_os_error(), Some(23 | 24))
        || matches!(
            error.kind(),
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
        )
}

async fn connection<I>(app: Arc<App>, router: Router, mut stream: I)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(permit) = Arc::clone(&app.places).try_acquire_owned() else {
        app.counters.turned_away.fetch_add(1, Ordering::Relaxed);
        let text = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: 1\r\n\r\n";
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(text)).await;
        return;
    };
    app.counters.connections.fetch_add(1, Ordering::Relaxed);
    let place = Place { _permit: Arc::new(permit), _open: Arc::new(Open(Arc::clone(&app.counters))) };
    let mut stop = app.stop();
    drop(app);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(place.clone());
        router.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients may go away at any time; what they said is not logged.
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    app.counters.request(&method, route, response.status().as_u16());
    response
}
