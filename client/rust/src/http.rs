//! One request, one answer, one connection: a local connection is cheap, and a kept one could be stale.

use std::time::Duration;

use bytes::Bytes;
use byway_api::exchange::Problem;
use byway_api::{ApiError, Code};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;

/// Most bytes of an answer.
const ANSWER_MAX: usize = 64 << 20;

/// How much longer than the daemon the client waits, so that the daemon's own reason is heard.
const GRACE: Duration = Duration::from_secs(2);

/// A request to be sent.
pub(crate) struct Call<'c> {
    client: &'c Client,
    method: Method,
    path: String,
    /// The token of a node.
    node: Option<&'c str>,
    wait: Duration,
    body: Option<Vec<u8>>,
}

impl<'c> Call<'c> {
    pub(crate) fn new(client: &'c Client, method: Method, path: impl Into<String>) -> Self {
        Self { client, method, path: path.into(), node: None, wait: byway_api::DEFAULT_DEADLINE, body: None }
    }

    pub(crate) fn node(mut self, token: &'c str) -> Self {
        self.node = Some(token);
        self
    }

    /// How long the daemon may take.
    pub(crate) fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    pub(crate) fn body(mut self, body: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(body);
        self.body =
            Some(body.map_err(|error| ApiError::new(Code::BadRequest, format!("no JSON body: {error}")))?);
        Ok(self)
    }

    /// The answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        let place = self.client.endpoint().clone();
        let answer = self.bytes().await?;
        serde_json::from_slice(&answer).map_err(|error| {
            ApiError::new(
                Code::Internal,
                format!("the answer of {place} is not understood; is it a byway daemon? {error}"),
            )
        })
    }

    /// Just whether it worked.
    pub(crate) async fn done(self) -> Result<(), ApiError> {
        self.bytes().await.map(drop)
    }

    /// The answer as it is.
    pub(crate) async fn bytes(self) -> Result<Bytes, ApiError> {
        let (place, wait) = (self.client.endpoint().clone(), self.wait + GRACE);
        match tokio::time::timeout(wait, self.exchange()).await {
            Ok(answer) => answer,
            Err(_) => {
                let text = format!("the daemon at {place} did not answer within {} s", wait.as_secs_f32());
                Err(ApiError::new(Code::NoWay, text))
            }
        }
    }

    async fn exchange(self) -> Result<Bytes, ApiError> {
        let place = self.client.endpoint();
        let broken = |error: &dyn std::fmt::Display| {
            ApiError::new(Code::Closed, format!("the connection to the daemon at {place} broke: {error}"))
        };
        let io = TokioIo::new(place.open().await?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|error| broken(&error))?;
        let request = self.request()?;
        let mut exchange = std::pin::pin!(async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            Ok::<_, ApiError>((status, body.map_err(|error| broken(&error))?.to_bytes()))
        });
        let mut connection = std::pin::pin!(connection);
        let mut open = true;
        let (status, body) = loop {
            tokio::select! {
                biased;
                answer = &mut exchange => break answer?,
                // It may end before the answer was looked at; the answer says what came of it.
                _ = &mut connection, if open => open = false,
            }
        };
        if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, ApiError> {
        let mut path = self.path.clone();
        let mut bearer = self.client.token();
        // The header holds what the listener asks for, so a node's token gives way to it.
        match (bearer, self.node) {
            (Some(_), Some(node)) => {
                path.push_str(if path.contains('?') { "&token=" } else { "?token=" });
                path.push_str(node);
            }
            (None, node) => bearer = node,
            (Some(_), None) => {}
        }
        let mut request = Request::builder()
            .method(&self.method)
            .uri(path)
            .header(header::HOST, self.client.endpoint().host())
            .header(header::CONNECTION, "close");
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::from(self.body.clone().unwrap_or_default());
        request.body(body).map_err(|error| ApiError::new(Code::BadRequest, format!("no request: {error}")))
    }
}

/// What a status and a body other than success mean.
pub(crate) fn refused(status: StatusCode, body: &[u8]) -> ApiError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.into(),
        Err(_) if status == StatusCode::SERVICE_UNAVAILABLE => {
            ApiError::new(Code::Busy, "the daemon has as many connections as it takes")
        }
        Err(_) => ApiError::new(Code::Internal, format!("the daemon answered {status} without a reason")),
    }
}
