//! What strangers see of a listener that hides, and what dialling tells when it fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use byway_identity::{Addr, Entropy, SeededEntropy};
use byway_link::{DialError, DialId, Endpoint, Event, Place, Transport, TransportId};
use byway_transport_ip::{Certificate, Front, Look, Proxy, Site, Web};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const ME: Addr = Addr::from_bytes([7; 32]);
const LIMIT: Duration = Duration::from_secs(60);

/// A web site of somebody else's making; its answers depend on the request alone.
async fn site() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(async |request: Request<hyper::body::Incoming>| {
                let text =
                    format!("you asked for {} with {:?}", request.uri(), request.headers().get("cookie"));
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
            });
            tokio::spawn(async move {
                let mut http = hyper::server::conn::http1::Builder::new();
                // Strangers end badly; that is theirs.
                let _ = http
                    .auto_date_header(false)
                    .half_close(true)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

/// A listener in front of `upstream`, and its endpoint.
fn hidden(look: Look, upstream: SocketAddr, certificate: Option<Certificate>) -> (Web, Endpoint) {
    let mut web = Web::new(TransportId(0), look, None);
    let front = Front { me: ME, site: Site::Upstream(upstream), path: "/secret".into(), certificate };
    web.hide("127.0.0.1:0".parse().unwrap(), front).unwrap();
    let endpoint = web.listening().remove(0);
    (web, endpoint)
}

async fn dial(web: &mut Web, peer: Addr, endpoint: &str) -> Result<Place, DialError> {
    web.dial_peer(DialId(1), &peer, &endpoint.parse().unwrap());
    let told = tokio::time::timeout(LIMIT, async {
        loop {
            let mut events = Vec::new();
            poll_fn(|cx| web.poll_recv(cx, &mut events)).await.unwrap();
            for event in events {
                if let Event::Dialled { result, .. } = event {
                    return result.map(|places| places[0]);
                }
            }
        }
    });
    told.await.expect("an answer")
}

/// Whether a connection was taken in as one that frames may go over, among those that came so far.
async fn opened(web: &mut Web) -> bool {
    let mut events = Vec::new();
    let polled = poll_fn(|cx| std::task::Poll::Ready(web.poll_recv(cx, &mut events)));
    let _ = polled.await;
    events.iter().any(|event| matches!(event, Event::Opened { .. }))
}

/// All that `stream` says to `bytes` until it ends.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Vec<u8> {
    let talk = async {
        let mut answer = Vec::new();
        // The other side may have heard enough, or close with bytes unread; what it said before counts.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    tokio::time::timeout(LIMIT, talk).await.expect("an end")
}

async fn connect(at: SocketAddr) -> TcpStream {
    TcpStream::connect(at).await.unwrap()
}

/// A connection through which everything goes that is sent to the first address, and the record of what clients said.
async fn relay(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, record) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&record);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = connect(to).await;
            tokio::spawn(recorded(near, far, Arc::clone(&kept)));
        }
    });
    (address, record)
}

async fn recorded<A, B>(near: A, far: B, record: Arc<Mutex<Vec<u8>>>)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (mut from_near, mut to_near) = tokio::io::split(near);
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let there = async {
        let mut buffer = vec![0; 4_096];
        loop {
            let count = from_near.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                return;
            }
            record.lock().unwrap().extend_from_slice(&buffer[..count]);
            if to_far.write_all(&buffer[..count]).await.is_err() || to_far.flush().await.is_err() {
                return;
            }
        }
    };
    let back = tokio::io::copy(&mut from_far, &mut to_near);
    tokio::select! {
        () = there => {}
        _ = back => {}
    }
}

/// The plaintext of one genuine first request to a WebSocket listener.
async fn genuine(client: &mut Web, endpoint: &Endpoint) -> Vec<u8> {
    let (at, record) = relay(endpoint.socket_addr().unwrap()).await;
    dial(client, ME, &format!("ws://{at}/secret")).await.unwrap();
    let record = record.lock().unwrap();
    let end = record.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    record[..end].to_vec()
}

/// What probes try: noise, pieces of requests, and what they have heard, whole, cut and changed.
fn probe(entropy: &mut SeededEntropy, heard: &[u8]) -> Vec<u8> {
    let mut noise = vec![0; 1 + entropy.below(300) as usize];
    entropy.fill(&mut noise);
    let mut packet = heard.to_vec();
    match entropy.below(6) {
        0 => noise,
        1 => packet,
        2 => {
            packet.truncate(entropy.below(heard.len() as u64) as usize);
            packet
        }
        3 => {
            let at = entropy.below(heard.len() as u64) as usize;
            packet[at] ^= 1 << entropy.below(8);
            packet
        }
        4 => [&b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"[..], &noise].concat(),
        _ => [&packet[..], &noise].concat(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_and_replayed_first_packets_get_what_the_site_says() {
    let site = site().await;
    let (mut server, endpoint) = hidden(Look::WebSocket, site, None);
    let heard = genuine(&mut Web::new(TransportId(0), Look::WebSocket, None), &endpoint).await;
    assert!(opened(&mut server).await, "the genuine one counts");
    let at = endpoint.socket_addr().unwrap();
    let seed = 11;
    let mut entropy = SeededEntropy::new(seed);
    let mut answered = 0;
    for round in 0..200 {
        let packets: Vec<_> = (0..50).map(|_| probe(&mut entropy, &heard)).collect();
        let mut asked = tokio::task::JoinSet::new();
        for packet in packets {
            asked.spawn(async move {
                let answers =
                    tokio::join!(ask(connect(at).await, &packet), ask(connect(site).await, &packet));
                (packet, answers)
            });
        }
        while let Some(asked) = asked.join_next().await {
            let (packet, (here, there)) = asked.unwrap();
            let text = String::from_utf8_lossy;
            assert_eq!(text(&here), text(&there), "seed {seed}, round {round}, to {:?}", text(&packet));
            answered += usize::from(!here.is_empty());
        }
    }
    assert!(answered > 5_000, "the site answers most of them: {answered}");
    assert!(!opened(&mut server).await, "none of them was taken in");
}

/// The DER of certificate and key.
fn der(certificate: &Certificate) -> (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let bytes = certificate.to_bytes();
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (
        CertificateDer::from(bytes[2..2 + length].to_vec()),
        PrivatePkcs8KeyDer::from(bytes[2 + length..].to_vec()),
    )
}

/// TLS of a client that trusts `certificate` as it is.
fn tls_client(certificate: &Certificate) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(certificate).0).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn who_sits_in_the_middle_with_the_servers_own_key_gets_only_the_site() {
    let site = site().await;
    let certificate = Certificate::generate("localhost").unwrap();
    let copy = Certificate::from_bytes(&certificate.to_bytes()).unwrap();
    let (connector, (chain, key)) = (tls_client(&certificate), der(&certificate));
    let (mut server, endpoint) = hidden(Look::Tls, site, Some(copy));
    let at = endpoint.socket_addr().unwrap();

    // It ends the client's TLS with the stolen key and passes on what it reads.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let middle = listener.local_addr().unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![chain], key.into()).unwrap()));
    let record = Arc::new(Mutex::new(Vec::new()));
    let (kept, outward) = (Arc::clone(&record), connector.clone());
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let near = acceptor.accept(near).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let far = outward.connect(name, connect(at).await).await.unwrap();
        recorded(near, far, kept).await;
    });
    let mut client = Web::new(TransportId(0), Look::Tls, None);
    let pin = Addr::from_bytes(endpoint.pin().unwrap());
    let told = dial(&mut client, ME, &format!("tls://{middle}?pin={pin}")).await;
    assert_eq!(told, Err(DialError::Site));
    assert!(!opened(&mut server).await);

    // What it has read is worth nothing afterwards either; nor is anything else.
    let heard = record.lock().unwrap().clone();
    assert!(heard.starts_with(b"GET / HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&heard));
    let mut entropy = SeededEntropy::new(3);
    for number in 0..100 {
        let packet = if number == 0 { heard.clone() } else { probe(&mut entropy, &heard) };
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, connect(at).await).await.unwrap();
        let (here, there) = (ask(stream, &packet).await, ask(connect(site).await, &packet).await);
        assert_eq!(String::from_utf8_lossy(&here), String::from_utf8_lossy(&there), "packet {number}");
    }
    assert!(!opened(&mut server).await);
    dial(&mut client, ME, &endpoint.to_string()).await.unwrap();
    assert!(opened(&mut server).await, "who knows the address is taken in all the while");
}

#[tokio::test]
async fn dialling_tells_why_it_failed() {
    let site = site().await;
    let (_ws, ws) = hidden(Look::WebSocket, site, None);
    let (_tls, tls) = hidden(Look::Tls, site, Some(Certificate::generate("localhost").unwrap()));
    let (at, tls_at) = (ws.socket_addr().unwrap(), tls.socket_addr().unwrap());
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let other = Addr::from_bytes([9; 32]);
    for (look, peer, endpoint, expected) in [
        (Look::WebSocket, other, ws.to_string(), DialError::Site),
        (Look::WebSocket, ME, format!("ws://{at}/other"), DialError::Site),
        (Look::WebSocket, ME, format!("ws://{at}/secret?token={other}"), DialError::Site),
        (Look::Tls, other, tls.to_string(), DialError::Site),
        (Look::Tls, ME, format!("tls://{gone}?pin={other}"), DialError::Unreachable),
        (Look::Tcp, ME, format!("tcp://{gone}"), DialError::Unreachable),
        (Look::Tcp, ME, "tcp://no-such-host.invalid:1".to_owned(), DialError::Name),
        (Look::Tcp, ME, tls.to_string(), DialError::Unsupported),
    ] {
        let mut web = Web::new(TransportId(0), look, None);
        assert_eq!(dial(&mut web, peer, &endpoint).await, Err(expected), "{endpoint}");
    }
    for (query, says) in [(format!("?pin={other}"), "not the one of pin="), (String::new(), "add ?pin=")] {
        let mut web = Web::new(TransportId(0), Look::Tls, None);
        let told = dial(&mut web, ME, &format!("tls://{tls_at}{query}")).await.unwrap_err().to_string();
        assert!(told.contains(says), "{query}: {told}");
    }
}

/// A proxy of either kind for one connection; what it was asked for.
async fn proxy(kind: &'static str, to: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 1_024];
        let asked = if kind == "http" {
            let mut count = 0;
            while !buffer[..count].ends_with(b"\r\n\r\n") {
                count += near.read(&mut buffer[count..]).await.unwrap();
            }
            near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            String::from_utf8(buffer[..count].to_vec()).unwrap()
        } else {
            // RFC 1928: method 2, user and password, then CONNECT by name.
            near.read_exact(&mut buffer[..2]).await.unwrap();
            let methods = usize::from(buffer[1]);
            near.read_exact(&mut buffer[..methods]).await.unwrap();
            assert!(buffer[..methods].contains(&2), "it offers a password");
            near.write_all(&[5, 2]).await.unwrap();
            near.read_exact(&mut buffer[..2]).await.unwrap();
            let user = usize::from(buffer[1]);
            near.read_exact(&mut buffer[..user + 1]).await.unwrap();
            let password = usize::from(buffer[user]);
            let login = String::from_utf8(buffer[..user].to_vec()).unwrap();
            near.read_exact(&mut buffer[..password]).await.unwrap();
            let login = format!("{login}:{}", String::from_utf8_lossy(&buffer[..password]));
            near.write_all(&[1, 0]).await.unwrap();
            near.read_exact(&mut buffer[..5]).await.unwrap();
            assert_eq!(buffer[..4], [5, 1, 0, 3], "a name, not an address");
            let name = usize::from(buffer[4]);
            near.read_exact(&mut buffer[..name + 2]).await.unwrap();
            near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            format!("{login} {}", String::from_utf8_lossy(&buffer[..name]))
        };
        let mut far = connect(to).await;
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        asked
    });
    (address, asked)
}

#[tokio::test]
async fn links_go_out_through_a_proxy_that_alone_resolves_the_name() {
    let site = site().await;
    let (mut server, endpoint) = hidden(Look::Tls, site, Some(Certificate::generate("localhost").unwrap()));
    let pin = Addr::from_bytes(endpoint.pin().unwrap());
    for (kind, expected) in [
        ("socks5", "ann:secret no-such-host.invalid"),
        ("http", "CONNECT no-such-host.invalid:443 HTTP/1.1\r\n"),
    ] {
        let (at, asked) = proxy(kind, endpoint.socket_addr().unwrap()).await;
        let proxy: Proxy = format!("{kind}://ann:secret@{at}").parse().unwrap();
        let mut client = Web::new(TransportId(0), Look::Tls, Some(proxy));
        dial(&mut client, ME, &format!("tls://no-such-host.invalid:443?pin={pin}")).await.unwrap();
        assert!(opened(&mut server).await);
        let asked = asked.await.unwrap();
        assert!(asked.starts_with(expected), "{asked}");
        assert_eq!(asked.contains("\r\nProxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"), kind == "http");
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy: Proxy = format!("socks5://{gone}").parse().unwrap();
    let mut client = Web::new(TransportId(0), Look::Tls, Some(proxy));
    assert_eq!(
        dial(&mut client, ME, &endpoint.to_string()).await,
        Err(DialError::Proxy),
        "and none goes past it"
    );
}

/// Types of the records in `bytes`, and the contents of those that are neither secret nor random.
fn records(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let (content, rest) =
            rest.split_at(rest.len().min(usize::from(u16::from_be_bytes([head[3], head[4]]))));
        let shown = if matches!(head[0], 20 | 21) { content.to_vec() } else { Vec::new() };
        records.push((head[0], shown));
        bytes = rest;
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_and_replayed_packets_before_tls_get_what_a_server_without_a_secret_says() {
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    let site = site().await;
    let certificate = Certificate::generate("localhost").unwrap();
    let (chain, key) = der(&certificate);
    let (mut server, endpoint) = hidden(Look::Tls, site, Some(certificate));
    let at = endpoint.socket_addr().unwrap();

    // The same certificate and the same site, and nothing behind them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap();
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1];
    let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider));
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![chain], key.into()).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut near) = acceptor.accept(stream).await {
                    let mut far = connect(site).await;
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });

    let (middle, record) = relay(at).await;
    let pin = Addr::from_bytes(endpoint.pin().unwrap());
    let mut client = Web::new(TransportId(0), Look::Tls, None);
    dial(&mut client, ME, &format!("tls://{middle}?pin={pin}")).await.unwrap();
    assert!(opened(&mut server).await, "the genuine one counts");
    let heard = record.lock().unwrap().clone();
    let seed = 5;
    let mut entropy = SeededEntropy::new(seed);
    let mut replayed = 0;
    for round in 0..1_000 {
        let packet = if round < 20 { heard.clone() } else { probe(&mut entropy, &heard) };
        let (here, there) = tokio::join!(ask(connect(at).await, &packet), ask(connect(plain).await, &packet));
        assert_eq!(records(&here), records(&there), "seed {seed}, packet {round}: {packet:02x?}");
        replayed += usize::from(here.first() == Some(&22));
    }
    assert!(replayed > 100, "some are good hellos: {replayed}");
    assert!(!opened(&mut server).await, "none of them was taken in");
}

#[cfg(feature = "quic")]
#[tokio::test]
async fn over_quic_strangers_hear_nothing_and_a_replay_is_a_strangers() {
    use tokio::net::UdpSocket;
    let mut server = Web::new(TransportId(0), Look::Quic, None);
    let certificate = Some(Certificate::generate("localhost").unwrap());
    let front = Front { me: ME, site: Site::Empty, path: "/".into(), certificate };
    server.hide("127.0.0.1:0".parse().unwrap(), front).unwrap();
    let endpoint = server.listening().remove(0);
    let (at, pin) = (endpoint.socket_addr().unwrap(), Addr::from_bytes(endpoint.pin().unwrap()));

    // Somebody on the way hears all of a genuine client.
    let (near, far) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let middle = near.local_addr().unwrap();
    let record = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&record);
    let relay = tokio::spawn(async move {
        let (mut there, mut back, mut client) = ([0; 2_048], [0; 2_048], None);
        loop {
            tokio::select! {
                heard = near.recv_from(&mut there) => {
                    let (count, from) = heard.unwrap();
                    client = Some(from);
                    kept.lock().unwrap().push(there[..count].to_vec());
                    far.send_to(&there[..count], at).await.unwrap();
                }
                heard = far.recv(&mut back) => {
                    near.send_to(&back[..heard.unwrap()], client.unwrap()).await.unwrap();
                }
            }
        }
    });
    let mut client = Web::new(TransportId(0), Look::Quic, None);
    dial(&mut client, ME, &format!("quic://{middle}?pin={pin}")).await.unwrap();
    let heard = record.lock().unwrap().clone();
    assert!(heard[0].len() >= 1_200 && heard[0][0] & 0xc0 == 0xc0, "it begins as QUIC does");

    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut entropy = SeededEntropy::new(9);
    for number in 0..2_000 {
        let mut packet = match number {
            0..20 => heard[number % heard.len()].clone(),
            _ => probe(&mut entropy, &heard[number % heard.len()]),
        };
        if number % 7 == 0 {
            // What any server of HTTP/3 answers with the versions that it speaks.
            packet.resize(1_200, 0);
            packet[..5].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a]);
        }
        stranger.send_to(&packet, at).await.unwrap();
        if number % 50 == 49 {
            // Who is answered has been heard, and so have those before: nothing waits in the queue of the system.
            dial(&mut client, ME, &endpoint.to_string()).await.unwrap();
        }
    }
    let mut answer = [0; 2_048];
    let said = stranger.try_recv(&mut answer).map_err(|why| why.kind());
    assert_eq!(said, Err(std::io::ErrorKind::WouldBlock), "strangers hear nothing");
    let other = Addr::from_bytes([9; 32]);
    assert_eq!(dial(&mut client, other, &endpoint.to_string()).await, Err(DialError::Unreachable));
    let told = dial(&mut client, ME, &format!("quic://{at}?pin={other}")).await.unwrap_err().to_string();
    assert!(told.contains("pin="), "{told}");
    relay.abort();
}
