//! A served realm, and requests as raw bytes, so that nothing helpful stands in between.

use std::path::PathBuf;
use std::sync::Arc;

use byway_api::memory::Realm;
use byway_httpd::{Httpd, Options, Token, bind_unix};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// A realm that is served on a socket, and on loopback TCP with a token; it ends with this value.
pub(crate) struct World {
    pub(crate) realm: Realm,
    pub(crate) httpd: Httpd,
    pub(crate) socket: PathBuf,
    pub(crate) port: u16,
    pub(crate) token: Token,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("the system has room");
        let socket = folder.path().join("api.sock");
        let (realm, token) = (Realm::new(), Token::generate());
        let httpd = Httpd::new(Arc::new(realm.clone()), options);
        let (serving, listener) = (httpd.clone(), bind_unix(&socket).expect("the place is free"));
        tokio::spawn(async move { serving.serve_unix(listener).await });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let port = listener.local_addr().expect("it is bound").port();
        let (serving, shown) = (httpd.clone(), token.clone());
        tokio::spawn(async move { serving.serve_tcp(listener, shown).await });
        Self { realm, httpd, socket, port, token, _folder: folder }
    }

    pub(crate) async fn unix(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.expect("it is served")
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.expect("it is served")
    }

    /// A request over the Unix socket.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        ask(self.unix().await, method, path, &["Host: localhost"], body.as_bytes()).await
    }

    /// A node of the world's own: its address and token.
    pub(crate) async fn open(&self) -> (String, String) {
        let answer = self.ask("POST", "/v1/nodes", "{}").await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        (answer.text("addr"), answer.text("token"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.httpd.close();
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap_or_else(|| panic!("no {field}: {self:?}")).to_owned()
    }

    /// The status and the code, if this is a problem document as it should be.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{self:?}");
        assert!(problem["title"].is_string() && problem["type"] == "about:blank", "{self:?}");
        (self.status, self.text("code"))
    }
}

/// Sends a request on a connection of its own and reads until it is closed.
pub(crate) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> Answer {
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        head += header;
        head += "\r\n";
    }
    head += "\r\n";
    // A server that has seen enough may close before all is written; its answer is there all the same.
    let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).expect("answers are text");
    let (head, body) =
        text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}: {text:?}"));
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no status: {head:?}")),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}
