//! A very small web server and browser: HTTP/1.0, one page.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A page that was fetched.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Page {
    /// What was asked for.
    pub(crate) url: String,
    /// The server's answer, like `200 OK`.
    pub(crate) status: String,
    /// The title of the page.
    pub(crate) title: String,
    /// From the first packet to the last byte, in milliseconds.
    pub(crate) took_ms: f64,
}

const TITLE: &str = "bob's page, fetched through Byway";
/// How long a browser waits for each step.
const WAIT: Duration = Duration::from_secs(5);
/// Longest request or page.
const LENGTH_MAX: u64 = 64 * 1024;

/// What a browser says first.
pub(crate) fn request(host: &str) -> String {
    format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")
}

/// Reads status and title out of an answer.
pub(crate) fn parse(answer: &str) -> Option<(String, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.lines().next()?.strip_prefix("HTTP/1.0 ")?;
    let (_, title) = body.split_once("<title>")?;
    let (title, _) = title.split_once("</title>")?;
    Some((status.to_owned(), title.to_owned()))
}

/// Serves the page for ever, one visitor after the other.
pub(crate) fn serve(listener: &TcpListener) {
    for visitor in listener.incoming() {
        // Visitors come and go as they like.
        let _ = visitor.and_then(answer);
    }
}

fn answer(mut visitor: TcpStream) -> io::Result<()> {
    visitor.set_read_timeout(Some(WAIT))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") && request.len() as u64 <= LENGTH_MAX {
        match visitor.read(&mut buffer)? {
            0 => break,
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    let body = format!(
        "<!doctype html><title>{TITLE}</title><p>It came over two hops, encrypted from end to end.\n"
    );
    write!(
        visitor,
        "HTTP/1.0 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Fetches the page at `address` as any program would.
pub(crate) fn fetch(address: SocketAddr) -> io::Result<Page> {
    let began = std::time::Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.write_all(request(&address.to_string()).as_bytes())?;
    let mut text = String::new();
    stream.take(LENGTH_MAX).read_to_string(&mut text)?;
    let (status, title) = parse(&text).ok_or_else(|| io::Error::other("this is no web page"))?;
    Ok(Page {
        url: format!("http://{address}/"),
        status,
        title,
        took_ms: began.elapsed().as_secs_f64() * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_sees_what_the_server_says() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || serve(&listener));
        let page = fetch(address).expect("it is served");
        assert_eq!((page.status.as_str(), page.title.as_str()), ("200 OK", TITLE));
        assert_eq!(page.url, format!("http://{address}/"));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in ["", "HTTP/1.0 200 OK\r\n\r\n", "<title>x</title>", "SSH-2.0\r\n\r\n<title>x</title>"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
