//! The local API of INET256 (v0.0.8), so that programs written for its client run with `INET256_API` pointing here.
//!
//! Where its reference fails silently, this one answers: errors are problem documents, a drop drops, and a second client
//! with the same key is refused rather than given half of the messages.

mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{connect, get};
use axum::{Extension, Json, Router};
use byway_api::inet256::OpenBody;
use byway_api::{ApiError, Code, DEFAULT_DEADLINE, Node, OpenNode};
use byway_identity::{Addr, SigningKey};
use hyper_util::rt::TokioIo;
use serde::Serialize;

use crate::app::App;
use crate::extract::{InPath, read};
use crate::reply::{Failure, within};
use crate::server::Place;

/// How long a second open waits for the first one's end, as one that follows a close at once may overtake it.
const OVERTAKEN: Duration = Duration::from_millis(500);

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new().route("/nodes/{id}", connect(open).delete(drop_node)).route("/admin/status", get(status))
}

/// `CONNECT /nodes/{id}`: opens a node; what follows on the connection are its frames.
async fn open(
    State(app): State<Arc<App>>,
    InPath(addr): InPath<Addr>,
    place: Option<Extension<Place>>,
    mut request: Request,
) -> Result<StatusCode, Failure> {
    let upgrade = hyper::upgrade::on(&mut request);
    let key = key(addr, request).await?;
    let node = within(DEFAULT_DEADLINE, "the node did not open", open_node(&app, &key)).await?;
    app.hosted.insert(Arc::clone(&node), None, false);
    let lease = app.hosted.lease(&node)?;
    drop(node);
    app.sweep();
    let (stop, counters) = (app.stop(), Arc::clone(&app.counters));
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                counters.streams.fetch_add(1, Ordering::Relaxed);
                stream::run(TokioIo::new(upgraded), lease.node(), &counters, stop).await;
                counters.streams.fetch_sub(1, Ordering::Relaxed);
            }
            Err(error) => tracing::debug!(%error, "the connection ended before the stream began"),
        }
        drop((lease, place));
    });
    Ok(StatusCode::OK)
}

/// `DELETE /nodes/{id}`: ends the node, if it is open. Who has the key may do so.
async fn drop_node(
    State(app): State<Arc<App>>,
    InPath(addr): InPath<Addr>,
    request: Request,
) -> Result<StatusCode, Failure> {
    key(addr, request).await?;
    if app.service.main().addr() == addr {
        return Err(Failure::new(Code::Conflict, "this is the daemon's own node; `byway down` ends it"));
    }
    app.hosted.end(addr);
    Ok(StatusCode::OK)
}

/// The key in the body, which must be the one behind `addr`.
async fn key(addr: Addr, request: Request) -> Result<SigningKey, Failure> {
    let body = read(request).await?;
    let open: OpenBody = serde_json::from_slice(&body).map_err(|error| {
        Failure::new(Code::BadRequest, format!("the body is not {{\"private_key\": base64}}: {error}"))
    })?;
    let key = open.private_key.to_key()?;
    if key.public().addr() == addr {
        Ok(key)
    } else {
        Err(Failure::new(Code::BadRequest, "the private key belongs to another id than the one in the path"))
    }
}

async fn open_node(app: &App, key: &SigningKey) -> Result<Arc<dyn Node>, ApiError> {
    let options = || OpenNode { key: Some(key.clone()), mancon: app.options.inet256_mancon };
    let until = tokio::time::Instant::now() + OVERTAKEN;
    loop {
        match app.service.open(options()).await {
            Err(error) if error.code == Code::Conflict => {
                let left = until.saturating_duration_since(tokio::time::Instant::now());
                if left.is_zero() {
                    return Err(error);
                }
                app.hosted.some_end(left.min(Duration::from_millis(50))).await;
            }
            outcome => return outcome,
        }
    }
}

/// The body of `GET /admin/status`; the case of the fields is theirs.
#[derive(Serialize)]
struct AdminStatus {
    main_addr: Addr,
    transport_addrs: Vec<String>,
    peers: Vec<AdminPeer>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AdminPeer {
    addr: Addr,
    last_seen: BTreeMap<String, Tai64n>,
    uploaded: u64,
    downloaded: u64,
}

/// A time as TAI64N; `s` has the offset of 2⁶² + 10 that the libraries in use have.
#[derive(Clone, Copy, Serialize)]
struct Tai64n {
    s: u64,
    ns: u32,
}

async fn status(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Failure> {
    let asked = async {
        let (status, peers) = (app.service.status().await?, app.service.peers().await?);
        Ok((status, peers, app.service.links().await?))
    };
    let (status, peers, links) = within(DEFAULT_DEADLINE, "the daemon did not answer", asked).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Tai64n { s: (1 << 62) + 10 + now.as_secs(), ns: now.subsec_nanos() };
    let peers = peers.into_iter().map(|peer| {
        let links = links.iter().filter(|link| link.peer == peer.addr && link.role != "none");
        AdminPeer {
            addr: peer.addr,
            // A link that is open is heard of all the time, else it would be closed.
            last_seen: links.clone().map(|link| (link.endpoint.clone(), now)).collect(),
            uploaded: links.clone().map(|link| link.sent).sum(),
            downloaded: links.map(|link| link.received).sum(),
        }
    });
    Ok(Json(AdminStatus {
        main_addr: status.addr,
        transport_addrs: status.endpoints,
        peers: peers.collect(),
    }))
}
