//! Errors as answers, once for all handlers, and deadlines.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use byway_api::exchange::Problem;
use byway_api::{ApiError, Code};

/// An error on its way to the client, as a problem document.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Problem);

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        ApiError::new(code, detail).into()
    }

    /// With a status that says more than the one of its code.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status.as_u16();
        self.0.title = status.canonical_reason().unwrap_or("Error").into();
        self
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self.0).expect("a problem has only texts and numbers");
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What `call` answers, if it does within `wait`; `missing` says what was waited for.
pub(crate) async fn within<T>(
    wait: Duration,
    missing: &str,
    call: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(wait, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let seconds = wait.as_secs_f64();
            Err(Failure::new(
                Code::NoWay,
                format!("{missing} within {seconds} s; the node may be away, or the way to it slow"),
            ))
        }
    }
}
