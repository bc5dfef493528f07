//! The web site that strangers get.
//!
//! Every byte of a stranger goes to one of these as it comes, and every byte of the answer comes from there. So a listener
//! that hides something behaves like the site alone, down to what it says to nonsense and when it loses patience.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::DuplexStream;
use tokio::net::TcpStream;

use super::Io;

/// What a listener answers to those who do not know what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Site {
    /// Nothing is found, whatever is asked for.
    Empty,
    /// One page of HTML at `/`; nothing else is found.
    Page(Bytes),
    /// Another server, which gets the bytes as they come and knows nothing of TLS.
    Upstream(SocketAddr),
}

/// How long a head may take, and how long a connection may be idle, at the built-in sites.
const HEAD: Duration = Duration::from_secs(30);
/// How long the other server may take to accept.
const UPSTREAM: Duration = Duration::from_secs(5);
/// Bytes between a connection and a built-in site.
const PIPE: usize = 16 * 1_024;
const PAGE_MAX: usize = 1 << 20;

impl Site {
    /// One page of HTML.
    ///
    /// # Errors
    ///
    /// When it has more than a mebibyte: strangers without number could make this machine send it.
    pub fn page(bytes: Bytes) -> io::Result<Self> {
        if bytes.len() > PAGE_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a page has at most 1 MiB"));
        }
        Ok(Self::Page(bytes))
    }

    /// A new connection to the site.
    pub(crate) async fn open(&self) -> Box<dyn Io> {
        if let Self::Upstream(address) = self {
            let connected = tokio::time::timeout(UPSTREAM, TcpStream::connect(address)).await;
            if let Ok(Ok(stream)) = connected {
                // Small answers shall not wait; without it they only come later.
                let _ = stream.set_nodelay(true);
                return Box::new(stream);
            }
        }
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(serve(far, self.clone()));
        Box::new(near)
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        let status = match self {
            Self::Page(page) if request.uri().path() == "/" => match *request.method() {
                Method::GET | Method::HEAD => {
                    response
                        .headers_mut()
                        .insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
                    *response.body_mut() = Full::new(page.clone());
                    StatusCode::OK
                }
                _ => {
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
                    StatusCode::METHOD_NOT_ALLOWED
                }
            },
            Self::Empty | Self::Page(_) => StatusCode::NOT_FOUND,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
        };
        *response.status_mut() = status;
        response
    }
}

async fn serve(stream: DuplexStream, site: Site) {
    let service = service_fn(async |request| Ok::<_, Infallible>(site.answer(&request)));
    // However it ends, it is over.
    let _: Result<(), hyper::Error> = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(site: &Site, request: &str) -> String {
        let mut stream = site.open().await;
        stream.write_all(request.as_bytes()).await.expect("it listens");
        stream.shutdown().await.expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    }

    #[tokio::test]
    async fn a_page_is_given_at_the_root_and_nowhere_else() {
        let site = Site::page(Bytes::from_static(b"<p>Hello")).expect("it is small");
        let answer = ask(&site, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n<p>Hello"),
            "{answer}"
        );
        assert!(answer.contains("text/html") && answer.to_lowercase().contains("\r\ndate: "), "{answer}");
        let answer = ask(&site, "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.contains("content-length: 8") && answer.ends_with("\r\n\r\n"), "{answer}");
        for (request, status) in [("GET /x", "404"), ("POST /", "405")] {
            let answer =
                ask(&site, &format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        assert!(ask(&site, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        assert!(Site::page(Bytes::from(vec![0; 2 << 20])).is_err());
    }

    #[tokio::test]
    async fn without_its_upstream_a_site_is_a_bad_gateway() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = gone.local_addr().expect("it is bound");
        drop(gone);
        let answer =
            ask(&Site::Upstream(address), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
}
