//! What a busy daemon tells at its most talkative.

use std::fs;

use byway_e2e::{World, peer, until};

#[tokio::test]
async fn a_log_at_its_most_talkative_shows_no_ip_address_key_or_payload() {
    let world = World::new();
    let mut bob = world.daemon("bob", "");
    let mut ann = world.daemon("ann", "");
    bob.configure(&format!("[[peers]]\nname = \"ann\"\naddr = \"{}\"\n", ann.addr));
    let endpoint = bob.start_with(&["-vv"], &[]).await.status().await.expect("it runs").endpoints.remove(0);
    let dead = byway_identity::Addr::from_bytes([9; 32]);
    let peers = peer("bob", &bob.addr, &endpoint) + &peer("dead", &dead, "udp://127.66.77.88:9");
    ann.configure(&peers);
    let client = ann.start_with(&["-vv"], &[]).await;
    until("the link", async || (client.status().await.expect("it runs").peers_up == 1).then_some(())).await;

    let secret = "a-secret-that-nobody-may-read";
    let mut echo = bob.background(&["echo"]);
    let addr = echo.line().await;
    let input = format!("{secret}\n").repeat(50);
    assert_eq!(ann.byway_with(&["nc", &addr], input.as_bytes()).await.status, Some(0));
    assert_eq!(ann.byway(&["trace", "bob"]).await.status, Some(0));
    assert_eq!(ann.byway(&["links"]).await.status, Some(0));
    assert_eq!(ann.byway(&["peer", "add", &addr, "udp://127.66.77.89:9"]).await.status, Some(0));
    assert_eq!(ann.byway(&["config", "reload"]).await.status, Some(0));
    drop(echo);
    // Whatever is told about the end of a link belongs to it.
    bob.kill().await;
    until("the loss of the link", async || {
        (client.status().await.expect("it runs").peers_up == 0).then_some(())
    })
    .await;

    let port = endpoint.rsplit(':').next().expect("a port");
    for daemon in [&ann, &bob] {
        let log = daemon.log();
        assert!(log.lines().count() > 5, "it tells something: {log}");
        let key = fs::read_to_string(daemon.state().join("identity.pem")).expect("ours");
        let key = key.lines().nth(1).expect("a PEM file has a body");
        for (what, text) in [("payload", secret), ("key", key), ("port", &format!(":{port}"))] {
            assert!(!log.contains(text), "the log of {} tells a {what}:\n{log}", daemon.name);
        }
        let shown = log.lines().find(|line| holds_ip(line));
        assert_eq!(shown, None, "the log of {} tells an IP address", daemon.name);
    }
}

/// Whether a word of `line`, past its time, is an IP address with or without a port.
fn holds_ip(line: &str) -> bool {
    let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || ".:".contains(c))).skip(1);
    words.into_iter().any(|word| {
        let word = word.trim_matches(|c| c == '.' || c == ':');
        let host = word.rsplit_once(':').map_or(word, |(host, _)| host);
        [word, host].iter().any(|text| {
            text.parse::<std::net::Ipv4Addr>().is_ok()
                || (text.matches(':').count() >= 2 && text.parse::<std::net::Ipv6Addr>().is_ok())
        })
    })
}

#[test]
fn the_search_for_addresses_finds_addresses() {
    for line in ["x 10.1.2.3 y", "x udp://10.1.2.3:9 y", "x [2001:db8::1]:9", "x from=127.0.0.1:80,"] {
        assert!(holds_ip(line), "{line}");
    }
    for line in ["2026-11-21T14:40:06.648888Z INFO byway_link::core: linked", "x 1.5 ms, core::time"] {
        assert!(!holds_ip(line), "{line}");
    }
}
