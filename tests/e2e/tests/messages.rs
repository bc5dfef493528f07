//! Messages, pings and streams between two daemons, by the commands that people use.

use std::time::Duration;

use byway_e2e::{Process, World, until};
use byway_identity::Addr;

async fn echo(at: &Process) -> (byway_e2e::Background, String) {
    let mut echo = at.background(&["echo"]);
    let addr = echo.line().await;
    assert!(addr.parse::<Addr>().is_ok(), "{addr}");
    (echo, addr)
}

#[tokio::test]
async fn ten_thousand_lines_come_back_in_order_and_none_is_lost() {
    let world = World::new();
    let (ann, bob) = world.pair().await;
    let (echo, addr) = echo(&bob).await;
    let input: String = (0..10_000).map(|number| format!("line number {number}\n")).collect();
    let ran = ann.byway_with(&["nc", &addr], input.as_bytes()).await;
    assert_eq!(ran.status, Some(0), "{}", ran.notes);
    assert_eq!(ran.data.lines().count(), 10_000);
    assert!(ran.data == input, "the order is kept");
    assert_eq!(echo.interrupt().await, Some(0));
}

#[tokio::test]
async fn ten_thousand_lines_to_a_listener_arrive_though_nothing_comes_back() {
    let world = World::new();
    let (ann, bob) = world.pair().await;
    let key = world.path("listener.pem").display().to_string();
    assert_eq!(world.byway(&["keygen", "--out", &key]).await.status, Some(0));
    let addr = world.byway(&["addr", &key]).await.data.trim().to_owned();
    let listener = {
        let (api, key) = (bob.api(), key.clone());
        tokio::spawn(async move {
            let args = ["nc", "-l", "--key", &key, "--count", "10000"];
            byway_e2e::run(&args, &[("BYWAY_API", &api)], b"").await
        })
    };
    let client = byway_client::Client::new(&bob.api()).expect("a good URL");
    until("the listener", async || {
        let nodes = client.nodes().await.expect("it runs");
        nodes.iter().any(|node| node.addr.to_string() == addr).then_some(())
    })
    .await;
    let input: String = (0..10_000).map(|number| format!("{number}\n")).collect();
    let ran = ann.byway_with(&["nc", &addr], input.as_bytes()).await;
    assert_eq!(ran.status, Some(0), "{}", ran.notes);
    let listened = listener.await.expect("no panic");
    assert_eq!(listened.status, Some(0), "{}", listened.notes);
    assert!(listened.data == input, "{} lines", listened.data.lines().count());
}

#[tokio::test]
async fn empty_and_long_lines_are_messages_too_and_raw_cuts_what_is_longer() {
    let world = World::new();
    let (ann, bob) = world.pair().await;
    let (_echo, addr) = echo(&bob).await;
    let input = format!("\n{}\n\nlast", "x".repeat(65_535));
    let ran = ann.byway_with(&["nc", &addr], input.as_bytes()).await;
    assert_eq!(ran.status, Some(0), "{}", ran.notes);
    assert!(ran.data == format!("{input}\n"), "{} bytes", ran.data.len());

    let long = "y".repeat(300_000);
    let ran = ann.byway_with(&["nc", &addr], long.as_bytes()).await;
    assert!(ran.status == Some(2) && ran.notes.contains("--raw"), "{}", ran.notes);
    let ran = ann.byway_with(&["nc", "--raw", &addr], long.as_bytes()).await;
    assert!(ran.status == Some(0) && ran.data == long, "{} bytes {}", ran.data.len(), ran.notes);
}

#[tokio::test]
async fn ping_counts_answers_and_says_no_when_there_is_none() {
    let world = World::new();
    let (ann, bob) = world.pair().await;
    let ran = ann.byway(&["ping", "-c", "5", "-i", "0.01", "bob"]).await;
    assert!(ran.status == Some(0) && ran.data.contains("5 sent, 5 answered, 0.0% lost; min"), "{ran:?}");

    let ran = ann.byway(&["--json", "ping", "-c", "3", "-i", "0.01", &bob.addr.to_string()]).await;
    let lines: Vec<serde_json::Value> =
        ran.data.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!((lines[3]["received"].as_u64(), lines[3]["loss"].as_f64()), (Some(3), Some(0.0)));

    let nobody = Addr::from_bytes([0x5a; 32]).to_string();
    let ran = ann.byway(&["ping", "-c", "2", "-i", "0.01", "-W", "0.3", &nobody]).await;
    assert!(ran.status == Some(1) && ran.data.contains("2 sent, 0 answered, 100.0% lost"), "{ran:?}");
    let ran = ann.byway(&["ping", "-c", "1", "--mancon", "high", "bob"]).await;
    assert!(ran.status == Some(1) && ran.notes.contains("no transport"), "{ran:?}");

    let mut endless = ann.background(&["ping", "-i", "0.01", "bob"]);
    assert!(endless.line().await.starts_with("answer 1"));
    assert_eq!(endless.interrupt().await, Some(0), "Ctrl-C ends it cleanly");
}

#[tokio::test]
async fn ping_reports_loss_when_the_other_daemon_goes_away() {
    let world = World::new();
    let (ann, mut bob) = world.pair().await;
    assert_eq!(ann.byway(&["ping", "-c", "1", "bob"]).await.status, Some(0));
    bob.kill().await;
    let ran = ann.byway(&["ping", "-c", "2", "-i", "0.01", "-W", "0.3", "bob"]).await;
    assert!(ran.status == Some(1) && ran.data.contains("100.0% lost"), "{ran:?}");
}

#[tokio::test]
async fn find_lookup_and_trace_tell_what_the_network_knows() {
    let world = World::new();
    let (ann, bob) = world.pair().await;
    let whole = bob.addr.to_string();
    let found = ann.byway(&["find", &whole[..8]]).await;
    assert_eq!((found.status, found.data.trim()), (Some(0), whole.as_str()), "{found:?}");
    if let Ok(ip) = bob.addr.ipv6() {
        let found = ann.byway(&["find", &ip.to_string()]).await;
        assert_eq!((found.status, found.data.trim()), (Some(0), whole.as_str()), "{found:?}");
    }
    let key = ann.byway(&["lookup", "bob"]).await;
    assert!(key.status == Some(0) && key.data.starts_with("ed25519 "), "{key:?}");

    let nobody = Addr::from_bytes([0x5a; 32]).to_string();
    for args in [["find", &nobody[..8], "--wait", "0.3"], ["lookup", &nobody, "--wait", "0.3"]] {
        let began = std::time::Instant::now();
        let ran = ann.byway(&args).await;
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "it does not wait for ever");
    }

    let trace = ann.byway(&["trace", "--json", "bob"]).await;
    let trace: serde_json::Value = serde_json::from_str(&trace.data).unwrap_or_else(|_| panic!("{trace:?}"));
    assert_eq!(
        (trace["distance"].as_u64(), trace["hops"][0]["addr"].as_str()),
        (Some(1), Some(whole.as_str()))
    );
}

#[tokio::test]
async fn listings_name_the_neighbour() {
    let world = World::new();
    let (ann, bob) = world.pair().await;
    assert_eq!(ann.byway(&["ping", "-c", "1", "bob"]).await.status, Some(0));
    let whole = bob.addr.to_string();
    for command in ["peers", "links", "routes", "sessions"] {
        let ran = ann.byway(&[command]).await;
        assert!(ran.status == Some(0) && ran.data.contains(&whole), "{command}: {ran:?}");
        let json = ann.byway(&[command, "--json"]).await;
        let value: serde_json::Value =
            serde_json::from_str(&json.data).unwrap_or_else(|_| panic!("{json:?}"));
        assert!(value[command].as_array().is_some_and(|list| !list.is_empty()), "{command}: {json:?}");
    }
    let nodes = ann.byway(&["nodes"]).await;
    assert!(nodes.data.contains(&ann.addr.to_string()), "{nodes:?}");

    let mut watching = ann.background(&["links", "--watch", "--json"]);
    for _ in 0..2 {
        assert!(watching.line().await.contains(&whole), "a line for each look");
    }
    assert_eq!(watching.interrupt().await, Some(0));
}

#[tokio::test]
async fn dial_and_listen_carry_twenty_megabytes_unchanged() {
    let world = World::new();
    let (ann, bob) = world.pair().await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let target = format!("tcp:127.0.0.1:{}", server.local_addr().expect("bound").port());
    // The server sends everything back, reversed in chunks, so that both directions are full.
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = server.accept().await.expect("a connection");
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                tokio::io::copy(&mut read, &mut write).await.expect("it is read");
            });
        }
    });
    let mut listener = bob.background(&["listen", "--to", &target, "--service", "mirror"]);
    let addr = listener.line().await;
    let mut seed = 1u32;
    let input: String = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b' ' + (seed >> 24) as u8 % 95)
    })
    .take(20_000_000)
    .collect();
    let ran = ann.byway_with(&["dial", &addr, "--service", "mirror"], input.as_bytes()).await;
    assert_eq!(ran.status, Some(0), "{}", ran.notes);
    assert_eq!(ran.data.len(), input.len());
    assert!(hash(&ran.data) == hash(&input), "what came back is what was sent");

    let refused = ann.byway(&["dial", &addr, "--service", "other"]).await;
    assert!(refused.status == Some(1) && refused.notes.contains("refuses"), "{refused:?}");
    assert_eq!(listener.interrupt().await, Some(0));
}

fn hash(text: &str) -> [u8; 32] {
    byway_identity::shake256(&[text.as_bytes()])
}

#[tokio::test]
async fn the_demo_shows_a_ping_a_page_and_the_path_and_leaves_nothing_behind() {
    let world = World::new();
    let place = world.path("tmp");
    std::fs::create_dir(&place).expect("ours");
    let variables = [("TMPDIR", place.to_str().expect("plain"))];
    for args in [&["demo", "--json"][..], &["demo", "--json", "--no-tun"]] {
        let began = std::time::Instant::now();
        let ran = byway_e2e::run(args, &variables, b"").await;
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert!(began.elapsed() < Duration::from_secs(20));
        let seen: serde_json::Value = serde_json::from_str(&ran.data).unwrap_or_else(|_| panic!("{ran:?}"));
        assert_eq!(seen["page"]["status"], "200 OK");
        assert_eq!(seen["trace"]["distance"], 2);
        assert!(seen["trace"]["cost_ms"].as_f64().is_some_and(|cost| cost > 0.0), "{seen}");
        let path: Vec<_> = seen["path"].as_array().into_iter().flatten().collect();
        let addrs: Vec<_> = path.iter().map(|hop| &hop["addr"]).collect();
        assert_eq!(addrs, [&seen["nodes"][1]["addr"], &seen["nodes"][2]["addr"]], "relay, bob: {seen}");
        for hop in path {
            assert!(hop["class"].as_str().is_some_and(|class| !class.is_empty()), "{seen}");
            assert!(hop["cost_ms"].as_f64().is_some_and(|cost| cost > 0.0), "{seen}");
        }
        assert_eq!(seen["ping_ms"].as_array().map(Vec::len), Some(3));
        assert_eq!(std::fs::read_dir(&place).expect("ours").count(), 0, "nothing is left");
    }
}
