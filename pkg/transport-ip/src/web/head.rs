//! The first request of a connection: whether it could carry a proof, and the requests and answers that do.
//!
//! All that a stranger sends goes to the web site as it comes. [`Watch`] looks at it on the way, and only what completes a
//! request with a cookie of the right length is held until the proof has been looked at.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::knock::TEXT;

/// Looks at the first bytes of a connection.
pub(crate) struct Watch {
    bytes: Vec<u8>,
    path: String,
}

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// The beginning of a request, perhaps.
    More,
    /// No request with a proof, whatever may follow.
    Stranger,
    /// A whole request with something that may be a proof.
    Knock(Knock),
}

/// A request with something that may be a proof.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Knock {
    /// To be looked at.
    pub(crate) proof: String,
    /// Of the WebSocket handshake, to be answered.
    pub(crate) key: String,
    /// What came after the request.
    pub(crate) rest: Vec<u8>,
}

/// What a server answered to a knock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It has not said all.
    More,
    /// It takes us in; what came after its answer.
    Welcome(Vec<u8>),
    /// It answers as a web site, with the value of its `Date`, if there is one.
    Site(Option<String>),
}

/// Longest request and longest answer that are looked at.
const HEAD_MAX: usize = 8_192;
const HEADERS_MAX: usize = 64;
/// The cookie that carries the proof.
const COOKIE: &str = "session";
/// What a common browser says of itself.
const USER_AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

impl Watch {
    /// Looks for requests of `path`.
    pub(crate) fn new(path: &str) -> Self {
        Self { bytes: Vec::new(), path: path.to_owned() }
    }

    /// Takes what came next.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Sight {
        let known = self.bytes.len().saturating_sub(END.len() - 1);
        self.bytes.extend_from_slice(bytes);
        let Some(end) = end_of_head(&self.bytes, known) else {
            return if self.bytes.len() < HEAD_MAX { Sight::More } else { Sight::Stranger };
        };
        if end > HEAD_MAX {
            return Sight::Stranger;
        }
        let rest = self.bytes.split_off(end);
        self.knock(rest).map_or(Sight::Stranger, Sight::Knock)
    }

    fn knock(&self, rest: Vec<u8>) -> Option<Knock> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(&self.bytes).ok().filter(httparse::Status::is_complete)?;
        let is_asked = request.method == Some("GET")
            && request.path == Some(self.path.as_str())
            && request.version == Some(1);
        let value = |name: &str| header(request.headers, name);
        if !is_asked || !value("upgrade")?.eq_ignore_ascii_case("websocket") {
            return None;
        }
        let key = value("sec-websocket-key").filter(|key| key.len() == 24)?;
        let cookies = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("cookie"));
        let mut cookies =
            cookies.filter_map(|header| str::from_utf8(header.value).ok()).flat_map(|value| value.split(';'));
        let proof = cookies.find_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == COOKIE && value.len() == TEXT).then_some(value)
        })?;
        Some(Knock { proof: proof.to_owned(), key: key.to_owned(), rest })
    }
}

/// The request that carries `proof`, as a browser opens a WebSocket.
pub(crate) fn request(host: &str, path: &str, is_tls: bool, proof: &str, key: &str) -> String {
    let scheme = if is_tls { "https" } else { "http" };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\
         User-Agent: {USER_AGENT}\r\nUpgrade: websocket\r\nOrigin: {scheme}://{host}\r\nSec-WebSocket-Version: 13\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\nCookie: {COOKIE}={proof}\r\n\
         Sec-WebSocket-Key: {key}\r\n\r\n"
    )
}

/// The `Sec-WebSocket-Key` made of random bytes.
pub(crate) fn websocket_key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

/// The answer to a knock that is taken in.
pub(crate) fn welcome(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept(key)
    )
}

/// What `bytes`, all that came so far, say to a request with `key`.
pub(crate) fn reply(bytes: &[u8], key: &str) -> Reply {
    let Some(end) = end_of_head(bytes, 0) else {
        return if bytes.len() < HEAD_MAX { Reply::More } else { Reply::Site(None) };
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    if !response.parse(&bytes[..end]).is_ok_and(|status| status.is_complete()) {
        return Reply::Site(None);
    }
    let is_welcome =
        response.code == Some(101) && header(response.headers, "sec-websocket-accept") == Some(&accept(key));
    if is_welcome {
        Reply::Welcome(bytes[end..].to_vec())
    } else {
        Reply::Site(header(response.headers, "date").map(str::to_owned))
    }
}

/// The status of an answer to `CONNECT`; none: it has not said all. Zero: it is no answer.
pub(crate) fn status(bytes: &[u8]) -> Option<u16> {
    let Some(end) = end_of_head(bytes, 0) else {
        return (bytes.len() >= HEAD_MAX).then_some(0);
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    // What comes behind the head would be the server's first bytes, and no server here speaks first.
    let is_whole = end == bytes.len() && response.parse(bytes).is_ok_and(|status| status.is_complete());
    Some(if is_whole { response.code.unwrap_or(0) } else { 0 })
}

const END: &[u8] = b"\r\n\r\n";

/// Where the first head in `bytes` ends, if no end lies before `from`.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let at = bytes.get(from..)?.windows(END.len()).position(|window| window == END)?;
    Some(from + at + END.len())
}

fn header<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    str::from_utf8(header.value).ok()
}

fn accept(key: &str) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proof() -> String {
        "p".repeat(TEXT)
    }

    fn knock() -> String {
        request("host.example", "/path", true, &proof(), &websocket_key([1; 16]))
    }

    #[test]
    fn a_knock_is_found_however_it_is_cut_and_whatever_follows() {
        let request = knock() + "\x01\x02";
        for cut in 1..request.len() - 2 {
            let mut watch = Watch::new("/path");
            let first = watch.take(&request.as_bytes()[..cut]);
            let sight = match first {
                Sight::More => watch.take(&request.as_bytes()[cut..]),
                whole => whole,
            };
            let Sight::Knock(Knock { proof: found, key, rest }) = sight else { panic!("{cut}: {sight:?}") };
            assert_eq!((found, key, rest), (proof(), websocket_key([1; 16]), vec![1, 2]), "{cut}");
        }
    }

    #[test]
    fn a_knock_is_found_after_a_reverse_proxy_has_rewritten_it() {
        let request = format!(
            "GET /path HTTP/1.1\r\nupgrade: WebSocket\r\nconnection: upgrade\r\nhost: 127.0.0.1:8080\r\nx-forwarded-for: \
             192.0.2.1\r\ncookie: a=b; session={}; c=d\r\nsec-websocket-key: {}\r\n\r\n",
            proof(),
            websocket_key([2; 16])
        );
        assert!(matches!(Watch::new("/path").take(request.as_bytes()), Sight::Knock(_)));
    }

    #[test]
    fn other_requests_are_those_of_strangers() {
        let changed = [
            ("GET", "POST"),
            ("GET /path", "GET /other"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("session=", "sessions="),
            ("session=", "session=x"),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Kex"),
            ("Host:", "Ho st:"),
        ];
        for (from, to) in changed {
            let request = knock().replacen(from, to, 1);
            assert_ne!(request, knock(), "{from}");
            assert_eq!(Watch::new("/path").take(request.as_bytes()), Sight::Stranger, "{to}");
        }
    }

    #[test]
    fn a_head_without_end_is_a_strangers_before_it_grows_large() {
        let mut watch = Watch::new("/path");
        let mut taken = 0;
        while watch.take(&[b'a'; 100]) == Sight::More {
            taken += 100;
            assert!(taken < 2 * HEAD_MAX);
        }
        assert!(watch.bytes.len() <= HEAD_MAX + 100);
    }

    #[test]
    fn the_answer_must_fit_the_question() {
        let key = websocket_key([3; 16]);
        let bytes = welcome(&key) + "rest";
        assert_eq!(reply(bytes.as_bytes(), &key), Reply::Welcome(b"rest".to_vec()));
        assert_eq!(reply(bytes.as_bytes(), &websocket_key([4; 16])), Reply::Site(None));
        for cut in 0..welcome(&key).len() {
            assert_eq!(reply(&bytes.as_bytes()[..cut], &key), Reply::More, "{cut}");
        }
        let site = "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        assert_eq!(reply(site.as_bytes(), &key), Reply::Site(Some("Sun, 06 Nov 1994 08:49:37 GMT".into())));
    }

    #[test]
    fn a_proxy_says_yes_or_no() {
        assert_eq!(status(b"HTTP/1.1 200 Connection est"), None);
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407 Proxy Authentication Required\r\nA: b\r\n\r\n"), Some(407));
        assert_eq!(status(b"nonsense\r\n\r\n"), Some(0));
        assert_eq!(status(&[b'a'; HEAD_MAX]), Some(0));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(chunks in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                Just(b"GET /path HTTP/1.1\r\n".to_vec()),
                Just(b"Cookie: session=\r\n\r\n".to_vec()),
                Just(b"HTTP/1.1 101 X\r\n".to_vec()),
            ],
            0..8,
        )) {
            let mut watch = Watch::new("/path");
            for chunk in &chunks {
                if watch.take(chunk) != Sight::More {
                    break;
                }
            }
            let all = chunks.concat();
            let _ = (reply(&all, "k"), status(&all));
        }
    }
}
