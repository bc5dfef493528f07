//! What handlers take: bodies, paths and queries, each with a clear refusal.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use byway_api::Code;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::reply::Failure;

/// Most bytes of a body: the longest message in base64, and some air.
pub(crate) const BODY_MAX: usize = 128 << 10;

/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// A JSON body, whatever its content type is said to be; an empty one is `{}`.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let body = read(request).await?;
        let text = if body.is_empty() { b"{}" } else { &body[..] };
        serde_json::from_slice(text).map(Self).map_err(|error| {
            Failure::new(Code::BadRequest, format!("the body is not the JSON that is wanted here: {error}"))
        })
    }
}

/// The whole body, within bounds of size and time.
pub(crate) async fn read(request: Request) -> Result<Bytes, Failure> {
    let body = Limited::new(request.into_body(), BODY_MAX).collect();
    match tokio::time::timeout(BODY_WAIT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Failure::new(Code::TooLong, format!("a body has at most {BODY_MAX} bytes")))
        }
        Ok(Err(_)) => Err(Failure::new(Code::BadRequest, "the body ended early")),
        Err(_) => {
            let text = format!("the body did not arrive within {} s", BODY_WAIT.as_secs());
            Err(Failure::new(Code::BadRequest, text).with_status(StatusCode::REQUEST_TIMEOUT))
        }
    }
}

/// The variable parts of the path.
pub(crate) struct InPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(error) => Err(Failure::new(Code::BadRequest, error.body_text())),
        }
    }
}

/// The query.
pub(crate) struct InQuery<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(Failure::new(Code::BadRequest, error.body_text())),
        }
    }
}
