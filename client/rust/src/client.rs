//! A client: where a daemon is, and a typed call for each request of `/v1`.

use std::sync::Arc;
use std::time::Duration;

use byway_api::body::{LinkInfo, Map, NodeInfo, PeerInfo, PeerSpec, RouteInfo, SessionInfo, Status, Trace};
use byway_api::exchange::{
    FindAnswer, KeyAnswer, OpenNodeAnswer, OpenNodeRequest, PingAnswer, ReachRequest, ReloadAnswer, Secret,
    SendAnswer, SendMessage, prefix_text,
};
use byway_api::{ApiError, DEFAULT_DEADLINE, OpenNode, Request};
use byway_identity::{Addr, Prefix, PublicKey};
use hyper::Method;
use tokio::sync::watch;

use crate::daemon::Daemon;
use crate::endpoint::Endpoint;
use crate::http::Call;
use crate::node::RemoteNode;

/// Where a daemon is. Making one opens nothing; clones share what is under way.
#[derive(Clone)]
pub struct Client {
    endpoint: Endpoint,
    token: Option<Secret>,
    /// How many streams are open or ending.
    streams: Arc<watch::Sender<usize>>,
}

/// A node and the token that opens it, as the calls of [`Client`] take them.
#[derive(Clone, Copy)]
pub(crate) struct Local<'a> {
    pub(crate) addr: Addr,
    pub(crate) token: Option<&'a str>,
}

impl Client {
    /// A client of the daemon at `url`: `unix:///path`, `tcp://host:port` or `http://host:port`, the latter two on this
    /// machine, with `?token=` or [`Client::with_token`].
    ///
    /// # Errors
    ///
    /// [`Code::BadRequest`](byway_api::Code::BadRequest) when the text is no such URL.
    pub fn new(url: &str) -> Result<Self, ApiError> {
        let (endpoint, token) = Endpoint::parse(url)?;
        Ok(Self { endpoint, token: token.map(Secret::new), streams: Arc::new(watch::Sender::new(0)) })
    }

    /// The same with the token that a listener on TCP asks for; it is in `STATE/api.token`.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(Secret::new(token.trim()));
        self
    }

    /// The daemon, if it answers.
    ///
    /// # Errors
    ///
    /// [`Code::Closed`](byway_api::Code::Closed) when no daemon is there: the text says what to do.
    pub async fn connect(&self) -> Result<Daemon, ApiError> {
        let addr = self.status().await?.addr;
        let key = self.key_behind(Local { addr, token: None }, addr, Request::default()).await?;
        Ok(Daemon::new(self.clone(), addr, key))
    }

    /// Waits until the streams of closed nodes have ended, so that what they had to send is with the daemon.
    ///
    /// To be called before the process ends; at most for 2 s.
    pub async fn settle(&self) {
        let mut streams = self.streams.subscribe();
        let _ = tokio::time::timeout(Duration::from_secs(2), streams.wait_for(|open| *open == 0)).await;
    }

    /// `GET /v1/status`
    pub async fn status(&self) -> Result<Status, ApiError> {
        self.get("/v1/status").json().await
    }

    /// `GET /v1/peers`
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, ApiError> {
        self.get("/v1/peers").json().await
    }

    /// `POST /v1/peers`
    pub async fn add_peer(&self, peer: &PeerSpec) -> Result<(), ApiError> {
        self.post("/v1/peers").body(peer)?.done().await
    }

    /// `DELETE /v1/peers/{addr}`
    pub async fn remove_peer(&self, addr: Addr) -> Result<(), ApiError> {
        Call::new(self, Method::DELETE, format!("/v1/peers/{addr}")).done().await
    }

    /// `GET /v1/links`
    pub async fn links(&self) -> Result<Vec<LinkInfo>, ApiError> {
        self.get("/v1/links").json().await
    }

    /// `GET /v1/routes`
    pub async fn routes(&self) -> Result<Vec<RouteInfo>, ApiError> {
        self.get("/v1/routes").json().await
    }

    /// `GET /v1/sessions`
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, ApiError> {
        self.get("/v1/sessions").json().await
    }

    /// `GET /v1/nodes`
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, ApiError> {
        self.get("/v1/nodes").json().await
    }

    /// `POST /v1/nodes`, and the WebSocket of the new node; it ends with the last handle.
    ///
    /// # Errors
    ///
    /// [`Code::Conflict`](byway_api::Code::Conflict) when a node with the same key is open.
    pub async fn open(&self, options: &OpenNode) -> Result<RemoteNode, ApiError> {
        let key = options.key.as_ref().map(Secret::from_key);
        let opened = self.open_node(&OpenNodeRequest { key, mancon: options.mancon, persist: false }).await?;
        let local = Local { addr: opened.addr, token: Some(opened.token.reveal()) };
        let key = match &options.key {
            Some(key) => key.public(),
            None => self.key_behind(local, opened.addr, Request::default()).await?,
        };
        RemoteNode::attach(self.clone(), key, opened.token).await
    }

    /// `POST /v1/nodes` alone.
    pub async fn open_node(&self, request: &OpenNodeRequest) -> Result<OpenNodeAnswer, ApiError> {
        self.post("/v1/nodes").body(request)?.json().await
    }

    /// The WebSocket of a node that [`Client::open_node`] opened.
    pub async fn attach(&self, node: &OpenNodeAnswer) -> Result<RemoteNode, ApiError> {
        let local = Local { addr: node.addr, token: Some(node.token.reveal()) };
        let key = self.key_behind(local, node.addr, Request::default()).await?;
        RemoteNode::attach(self.clone(), key, node.token.clone()).await
    }

    /// `DELETE /v1/nodes/{addr}`
    pub async fn close_node(&self, node: &OpenNodeAnswer) -> Result<(), ApiError> {
        let path = format!("/v1/nodes/{}", node.addr);
        Call::new(self, Method::DELETE, path).node(node.token.reveal()).done().await
    }

    /// `POST /v1/nodes/{addr}/messages`
    pub async fn send_message(
        &self,
        node: &OpenNodeAnswer,
        message: &SendMessage,
    ) -> Result<SendAnswer, ApiError> {
        let wait = message.deadline_ms.map_or(DEFAULT_DEADLINE, Duration::from_millis);
        let call = self.post(format!("/v1/nodes/{}/messages", node.addr));
        call.node(node.token.reveal()).wait(wait).body(message)?.json().await
    }

    /// `POST /v1/ping` from the daemon's own node: the round-trip time.
    pub async fn ping(&self, to: Addr, request: Request) -> Result<Duration, ApiError> {
        self.ping_from(None, to, request).await
    }

    /// `GET /v1/map`: at most `limit` nodes and `limit` links.
    pub async fn map(&self, limit: usize) -> Result<Map, ApiError> {
        self.get(format!("/v1/map?limit={limit}")).json().await
    }

    /// `POST /v1/trace`
    pub async fn trace(&self, to: Addr, request: Request) -> Result<Trace, ApiError> {
        self.post("/v1/trace").wait(request.wait()).body(&reach(to, None, request))?.json().await
    }

    /// `GET /metrics`
    pub async fn metrics(&self) -> Result<String, ApiError> {
        let text = self.get("/metrics").bytes().await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// `POST /v1/reload`: what was applied, and what needs a restart.
    pub async fn reload(&self) -> Result<Vec<String>, ApiError> {
        self.post("/v1/reload").json::<ReloadAnswer>().await.map(|answer| answer.notes)
    }

    /// `POST /v1/shutdown`
    pub async fn shutdown(&self) -> Result<(), ApiError> {
        self.post("/v1/shutdown").done().await
    }

    /// `GET /healthz`: whether a daemon answers.
    pub async fn healthz(&self) -> Result<(), ApiError> {
        self.get("/healthz").done().await
    }

    /// `GET /v1/openapi.json`
    pub async fn openapi(&self) -> Result<serde_json::Value, ApiError> {
        self.get("/v1/openapi.json").json().await
    }

    pub(crate) async fn ping_from(
        &self,
        from: Option<Local<'_>>,
        to: Addr,
        request: Request,
    ) -> Result<Duration, ApiError> {
        let mut call = self.post("/v1/ping").wait(request.wait());
        if let Some(token) = from.and_then(|from| from.token) {
            call = call.node(token);
        }
        let answer: PingAnswer = call.body(&reach(to, from.map(|from| from.addr), request))?.json().await?;
        Duration::try_from_secs_f64(answer.rtt_ms / 1e3).map_err(|_| {
            ApiError::new(byway_api::Code::Internal, "the daemon measured no time that there can be")
        })
    }

    pub(crate) async fn find(
        &self,
        from: Local<'_>,
        prefix: Prefix,
        request: Request,
    ) -> Result<Addr, ApiError> {
        if prefix.bits() == 0 {
            return Err(ApiError::new(byway_api::Code::BadRequest, "every address begins with no bits"));
        }
        let query = format!("bits={}{}", prefix.bits(), query(request));
        let path = format!("/v1/nodes/{}/find/{}?{query}", from.addr, prefix_text(prefix));
        let answer: FindAnswer = self.ask(from, path, request).await?;
        Ok(answer.addr)
    }

    pub(crate) async fn key_behind(
        &self,
        from: Local<'_>,
        addr: Addr,
        request: Request,
    ) -> Result<PublicKey, ApiError> {
        let path = format!("/v1/nodes/{}/keys/{addr}?{}", from.addr, query(request).trim_start_matches('&'));
        let answer: KeyAnswer = self.ask(from, path, request).await?;
        Ok(answer.public_key.0)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        from: Local<'_>,
        path: String,
        request: Request,
    ) -> Result<T, ApiError> {
        let call = self.get(path).wait(request.wait());
        match from.token {
            Some(token) => call.node(token).json().await,
            None => call.json().await,
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(Secret::reveal)
    }

    pub(crate) fn streams(&self) -> Arc<watch::Sender<usize>> {
        Arc::clone(&self.streams)
    }

    fn get(&self, path: impl Into<String>) -> Call<'_> {
        Call::new(self, Method::GET, path)
    }

    fn post(&self, path: impl Into<String>) -> Call<'_> {
        Call::new(self, Method::POST, path)
    }
}

fn reach(to: Addr, from: Option<Addr>, request: Request) -> ReachRequest {
    ReachRequest { to, from, mancon: request.mancon, deadline_ms: request.deadline.map(millis) }
}

fn query(request: Request) -> String {
    let level = request.mancon.map(|level| format!("&mancon={level}"));
    let deadline = request.deadline.map(|deadline| format!("&deadline_ms={}", millis(deadline)));
    [level, deadline].into_iter().flatten().collect()
}

/// A deadline as the API writes it; less than a millisecond still is one.
pub(crate) fn millis(deadline: Duration) -> u64 {
    u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX).max(1)
}
