//! The API on TCP, as a program that is not ours would meet it.

use std::fs;

use byway_e2e::{Process, World, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends `request` as it is: the status and the whole answer.
async fn raw(port: u16, request: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    tokio::time::timeout(byway_e2e::PATIENCE, stream.read_to_string(&mut answer))
        .await
        .expect("an answer in time")
        .expect("text");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: {answer:?}")), answer)
}

async fn on_tcp(world: &World) -> (Process, u16, String) {
    let mut daemon = world.daemon("ann", "");
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        free.local_addr().expect("bound").port()
    };
    let text = daemon.minimal().replace("api.sock\"]", &format!("api.sock\", \"tcp:127.0.0.1:{port}\"]"));
    fs::write(daemon.config(), text).expect("ours");
    daemon.start().await;
    let token = fs::read_to_string(daemon.state().join("api.token")).expect("it was made");
    (daemon, port, token.trim().to_owned())
}

#[tokio::test]
async fn tcp_asks_for_the_token_and_checks_the_host() {
    let world = World::new();
    let (_daemon, port, token) = on_tcp(&world).await;
    let get = |path: &str, host: &str, authorization: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Connection: close\r\n\r\n")
    };
    let here = format!("127.0.0.1:{port}");
    let with = format!("Authorization: Bearer {token}\r\n");

    assert_eq!(raw(port, &get("/v1/status", &here, &with)).await.0, 200);
    for wrong in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic abc\r\n"] {
        let (status, answer) = raw(port, &get("/v1/status", &here, wrong)).await;
        assert!(status == 401 && answer.contains("unauthorized"), "{wrong:?}: {answer}");
    }
    // A page in a browser can make it connect here, but not lie about its own name.
    let rebound = raw(port, &get("/v1/status", "evil.example", &with)).await;
    assert!(matches!(rebound.0, 400..=499), "{}", rebound.1);
    assert_eq!(raw(port, &get("/healthz", &here, "")).await.0, 200);
}

#[tokio::test]
async fn commands_reach_a_daemon_over_tcp_with_its_token() {
    let world = World::new();
    let (daemon, port, token) = on_tcp(&world).await;
    let url = format!("http://127.0.0.1:{port}");
    let ran = run(&["--api", &url, "status"], &[("BYWAY_API_TOKEN", &token)], b"").await;
    assert!(ran.status == Some(0) && ran.data.contains(&daemon.addr.to_string()), "{ran:?}");
    let ran = run(&["--api", &url, "status"], &[("BYWAY_API_TOKEN", "wrong")], b"").await;
    assert!(ran.status == Some(2) && ran.notes.contains("api.token"), "{ran:?}");
}

#[tokio::test]
async fn an_address_that_is_not_loopback_is_refused_before_anything_starts() {
    let world = World::new();
    let daemon = world.daemon("ann", "");
    let text = daemon.minimal().replace("api.sock\"]", "api.sock\", \"tcp:0.0.0.0:0\"]");
    fs::write(daemon.config(), text).expect("ours");
    let ran = world.byway(&["config", "check", &daemon.config().display().to_string()]).await;
    assert!(ran.status == Some(2) && ran.notes.contains("loopback"), "{ran:?}");
}

/// The values of all samples of `name` whose labels hold all of `labels`.
fn values(text: &str, name: &str, labels: &[&str]) -> Vec<f64> {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let own = series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label));
        own.then(|| value.parse().expect("a number"))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let world = World::new();
    let (ann, bob) = world.pair().await;
    assert_eq!(ann.byway(&["ping", "-c", "3", "-i", "0.01", "bob"]).await.status, Some(0));
    let client = byway_client::Client::new(&ann.api()).expect("a good URL").connect().await.expect("it runs");
    let status = byway_api::Service::status(&client).await.expect("it runs");
    let udp = status.endpoints[0].strip_prefix("udp://").expect("UDP alone").to_owned();
    let metrics = async || byway_api::Service::metrics(&client).await.expect("it runs");
    let before = metrics().await;
    assert!(before.ends_with("# EOF\n") && before.matches("# EOF").count() == 1, "{before}");
    let peer = format!("peer=\"{}\"", bob.addr);
    for direction in ["direction=\"sent\"", "direction=\"received\""] {
        for (name, least) in [("byway_link_frames_total", 3.0), ("byway_link_bytes_total", 3.0 * 32.0)] {
            let seen = values(&before, name, &[&peer, direction]);
            assert!(seen.iter().sum::<f64>() >= least, "{name} {direction} {seen:?} in {before}");
        }
    }
    for name in ["byway_link_handshakes_total", "byway_links_handshakes_total"] {
        let labels = if name.contains("links") { ["state=\"established\""] } else { [peer.as_str()] };
        assert!(values(&before, name, &labels).iter().sum::<f64>() >= 1.0, "{name} in {before}");
    }
    let own = format!("node=\"{}\"", ann.addr);
    assert_eq!(values(&before, "byway_node_queue", &[&own, "queue=\"held\""]), [0.0], "{before}");

    // A message to a node of its own is counted once on each side.
    let node = byway_api::Service::open(&client, byway_api::OpenNode::default()).await.expect("room");
    let (kind, request) = (byway_api::Kind::Message, byway_api::Request::default());
    let message = byway_api::Outgoing { to: node.addr(), kind, payload: vec![7; 100].into(), request };
    node.send(message).await.expect("it is taken");
    node.recv(kind).await.expect("it arrives");
    let text = metrics().await;
    let own = format!("node=\"{}\"", node.addr());
    for direction in ["direction=\"sent\"", "direction=\"received\""] {
        assert_eq!(values(&text, "byway_node_payloads_total", &[&own, direction]), [1.0], "{text}");
        assert_eq!(values(&text, "byway_node_bytes_total", &[&own, direction]), [100.0], "{text}");
    }

    // What strangers throw at the port is dropped and counted.
    let dropped = |text: &str| values(text, "byway_links_dropped_datagrams_total", &[]).iter().sum::<f64>();
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    for length in [1, 20, 64, 600] {
        stranger.send_to(&vec![0xa5; length], &udp).await.expect("loopback takes it");
    }
    byway_e2e::until("the drops", async || {
        (dropped(&metrics().await) >= dropped(&before) + 1.0).then_some(())
    })
    .await;
}
