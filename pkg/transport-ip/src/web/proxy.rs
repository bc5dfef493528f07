//! Ways out through an upstream proxy.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use byway_link::{DialError, EndpointError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use zeroize::Zeroizing;

use super::head;

/// An upstream proxy: `socks5://[user:password@]host:port` or `http://[user:password@]host:port`.
///
/// It is given host names as they are: nothing is resolved on this side.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    login: Option<(String, Zeroizing<String>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Socks5,
    Connect,
}

impl Proxy {
    /// A connection to `host` and `port` through it.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|_| DialError::Proxy)?;
        match self.kind {
            Kind::Socks5 => self.socks5(stream, host, port).await,
            Kind::Connect => self.http(stream, host, port).await,
        }
    }

    async fn socks5(&self, stream: TcpStream, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let stream = match &self.login {
            None => Socks5Stream::connect_with_socket(stream, (host, port)).await,
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(stream, (host, port), user, password).await
            }
        };
        match stream {
            Ok(stream) => Ok(stream.into_inner()),
            Err(
                tokio_socks::Error::HostUnreachable
                | tokio_socks::Error::NetworkUnreachable
                | tokio_socks::Error::ConnectionRefused
                | tokio_socks::Error::GeneralSocksServerFailure
                | tokio_socks::Error::TtlExpired,
            ) => Err(DialError::Unreachable),
            Err(_) => Err(DialError::Proxy),
        }
    }

    async fn http(&self, mut stream: TcpStream, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut request =
            Zeroizing::new(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"));
        if let Some((user, password)) = &self.login {
            let login = Zeroizing::new(format!("{user}:{}", password.as_str()));
            let login = Zeroizing::new(STANDARD.encode(login.as_bytes()));
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&login);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|_| DialError::Proxy)?;
        let mut answer = Vec::new();
        loop {
            if stream.read_buf(&mut answer).await.map_err(|_| DialError::Proxy)? == 0 {
                return Err(DialError::Proxy);
            }
            match head::status(&answer) {
                None => {}
                Some(200..=299) => return Ok(stream),
                // The gateway could not reach it, and says so.
                Some(502..=504) => return Err(DialError::Unreachable),
                Some(_) => return Err(DialError::Proxy),
            }
        }
    }
}

impl FromStr for Proxy {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let fail = |why: &str| Err(EndpointError::new(why));
        let (kind, rest) = match text.split_once("://") {
            Some(("socks5", rest)) => (Kind::Socks5, rest),
            Some(("http", rest)) => (Kind::Connect, rest),
            _ => return fail("a proxy is written as socks5://host:port or http://host:port"),
        };
        let (login, place) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((login, place)) => match login.split_once(':') {
                Some((user, password)) if !user.is_empty() && user.len() < 256 && password.len() < 256 => {
                    (Some((user.to_owned(), Zeroizing::new(password.to_owned()))), place)
                }
                _ => return fail("before @ stand a user and a password: user:password@host:port"),
            },
        };
        // The rules for hosts and ports are those of endpoints.
        let endpoint: byway_link::Endpoint = format!("tcp://{}", place.trim_end_matches('/')).parse()?;
        let Some((host, port)) = endpoint.host_port() else { return fail("a proxy has a host and a port") };
        Ok(Self { kind, host, port, login })
    }
}

/// Never shows where it is, or a password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_with_and_without_a_login() {
        for (text, host, port, login) in [
            ("socks5://127.0.0.1:9050", "127.0.0.1", 9050, None),
            ("http://proxy.example:3128/", "proxy.example", 3128, None),
            ("socks5://ann:p@ss:word@[::1]:1080", "::1", 1080, Some(("ann", "p@ss:word"))),
        ] {
            let proxy: Proxy = text.parse().expect(text);
            assert_eq!((proxy.host.as_str(), proxy.port), (host, port));
            let read = proxy.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
            assert_eq!(read, login);
            assert!(!format!("{proxy:?}").contains(host));
        }
    }

    #[test]
    fn what_is_no_proxy_is_told() {
        for text in [
            "",
            "127.0.0.1:9050",
            "https://h:1",
            "socks5://h",
            "socks5://ann@h:1",
            "socks5://:p@h:1",
            "http://h:0",
        ] {
            assert!(text.parse::<Proxy>().is_err(), "{text}");
        }
    }
}
