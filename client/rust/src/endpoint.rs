//! Where a daemon listens.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use byway_api::{ApiError, Code};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    /// `host:port`, a name of this machine.
    Tcp(String),
}

impl Endpoint {
    /// Reads `unix:///path`, `unix:/path`, `tcp://host:port` and `http://host:port`; the latter two may end in `?token=`.
    pub(crate) fn parse(url: &str) -> Result<(Self, Option<String>), ApiError> {
        let bad = |why: &str| {
            let forms = "unix:///run/byway/api.sock or tcp://127.0.0.1:2560";
            Err(ApiError::new(Code::BadRequest, format!("{why}; an API is at a place like {forms}")))
        };
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') {
                Ok((Self::Unix(path.into()), None))
            } else {
                bad("the path of a socket begins with /")
            };
        }
        let Some(rest) = url.strip_prefix("tcp://").or_else(|| url.strip_prefix("http://")) else {
            return bad("the URL begins with none of unix:, tcp: and http:");
        };
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let place = place.strip_suffix('/').unwrap_or(place);
        let token = match query.map(|query| query.strip_prefix("token=")) {
            None => None,
            Some(Some(token)) => Some(token.to_owned()),
            Some(None) => return bad("only ?token= may follow"),
        };
        let Some((host, port)) = place.rsplit_once(':') else {
            return bad("the port is missing");
        };
        if port.parse::<u16>().is_err() {
            return bad("the port is no number from 0 to 65535");
        }
        // The token would go over the network in clear, and the daemon refuses other names anyway.
        if !["localhost", "127.0.0.1", "[::1]"].contains(&host) {
            return bad("the API is reached on this machine only: localhost, 127.0.0.1 or [::1]");
        }
        Ok((Self::Tcp(place.to_owned()), token))
    }

    /// What the `Host` header says.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Tcp(place) => place,
        }
    }

    pub(crate) async fn open(&self) -> Result<Connection, ApiError> {
        let opened = match self {
            Self::Unix(path) => UnixStream::connect(path).await.map(Connection::Unix),
            Self::Tcp(place) => TcpStream::connect(place).await.and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(Connection::Tcp(stream))
            }),
        };
        opened.map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => ApiError::new(
                Code::Unauthorized,
                format!("{self} belongs to another user, who runs that daemon"),
            ),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                ApiError::new(Code::Closed, format!("no daemon at {self}; start one with `byway up`"))
            }
            _ => ApiError::new(Code::Closed, format!("no daemon answers at {self}: {error}")),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(place) => write!(f, "tcp://{place}"),
        }
    }
}

/// An open connection of either kind.
pub(crate) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_place_on_this_machine() {
        for url in ["unix:///run/byway/api.sock", "unix:/run/byway/api.sock"] {
            assert_eq!(Endpoint::parse(url), Ok((Endpoint::Unix("/run/byway/api.sock".into()), None)));
        }
        for url in ["tcp://127.0.0.1:2560", "http://127.0.0.1:2560/"] {
            assert_eq!(Endpoint::parse(url), Ok((Endpoint::Tcp("127.0.0.1:2560".into()), None)));
        }
        let (endpoint, token) = Endpoint::parse("tcp://[::1]:80?token=secret").expect("it is whole");
        assert_eq!((endpoint.host(), token.as_deref()), ("[::1]:80", Some("secret")));
    }

    #[test]
    fn other_urls_are_refused_in_words() {
        for url in [
            "",
            "api.sock",
            "unix:api.sock",
            "https://localhost:1",
            "tcp://localhost",
            "tcp://10.0.0.1:2560",
            "tcp://localhost:99999",
            "tcp://localhost:1?x=y",
        ] {
            let error = Endpoint::parse(url).expect_err(url);
            assert!(error.code == Code::BadRequest && error.detail.contains("unix:///"), "{url}: {error}");
        }
    }
}
