//! Who may do what: listeners on TCP ask for a token and check which host the client meant.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use byway_api::Code;
use serde::Deserialize;

use crate::app::App;
use crate::reply::Failure;
use crate::token::Token;

/// What a listener on TCP asks for. A Unix socket asks for nothing: who can open it is the user.
pub(crate) struct Guard {
    pub(crate) app: Arc<App>,
    pub(crate) token: Token,
    pub(crate) port: u16,
}

/// The token that the client shows for a node: `?token=`, else `Authorization: Bearer`.
pub(crate) struct NodeToken(pub(crate) Option<String>);

#[derive(Deserialize)]
struct TokenQuery {
    token: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for NodeToken {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<TokenQuery>::from_request_parts(parts, state).await;
        let from_query = query.ok().and_then(|Query(query)| query.token);
        Ok(Self(from_query.or_else(|| bearer(&parts.headers).map(str::to_owned))))
    }
}

/// Lets a request on a TCP listener through to the handlers, or not.
pub(crate) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match admit(&guard, &mut parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(failure) => failure.into_response(),
    }
}

async fn admit(guard: &Guard, parts: &mut Parts) -> Result<(), Failure> {
    // A page from elsewhere whose name was made to point here still says the name that it was loaded from.
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| meant_for_us(host, guard.port)) {
        let text = format!("this is localhost:{}, and the request was meant for another host", guard.port);
        return Err(Failure::new(Code::TargetForbidden, text).with_status(StatusCode::MISDIRECTED_REQUEST));
    }
    if parts.uri.path() == "/healthz"
        || bearer(&parts.headers).is_some_and(|shown| guard.token.matches(shown))
    {
        return Ok(());
    }
    // The token of a node opens that node, and nothing else.
    let node =
        parts.uri.path().strip_prefix("/v1/nodes/").and_then(|rest| rest.split('/').next()?.parse().ok());
    let NodeToken(shown) = NodeToken::from_request_parts(parts, &()).await?;
    match node {
        Some(addr) if guard.app.hosted.get(addr, shown.as_deref()).is_ok() => Ok(()),
        _ => Err(Failure::new(
            Code::Unauthorized,
            "show the token in STATE/api.token as `Authorization: Bearer TOKEN`",
        )),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn meant_for_us(host: &str, port: u16) -> bool {
    let (name, given) = match host.rsplit_once(':') {
        // The colons inside `[::1]` are no port's.
        Some((name, given)) if !given.contains(']') => (name, given.parse().ok()),
        _ => (host, Some(80)),
    };
    given == Some(port)
        && ["localhost", "127.0.0.1", "[::1]"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_with_our_port_are_ours() {
        for host in ["localhost:2560", "127.0.0.1:2560", "[::1]:2560", "LOCALHOST:2560"] {
            assert!(meant_for_us(host, 2560), "{host}");
        }
        for host in [
            "",
            "localhost",
            "[::1]",
            "localhost:80",
            "evil.example:2560",
            "localhost.evil:2560",
            "127.0.0.1:2560x",
            ":2560",
        ] {
            assert!(!meant_for_us(host, 2560), "{host}");
        }
        assert!(meant_for_us("[::1]", 80) && meant_for_us("localhost", 80));
    }
}
