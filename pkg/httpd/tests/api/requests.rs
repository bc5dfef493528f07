//! Requests, good and bad: each gets an answer that says what is wrong.

use crate::common::{World, ask};
use byway_api::ManCon;
use byway_httpd::Options;
use byway_identity::Addr;

async fn world() -> World {
    World::new(Options::default()).await
}

#[test]
fn the_description_that_is_kept_is_the_one_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/openapi.json");
    let mut text = byway_httpd::openapi().to_pretty_json().expect("it has a JSON form");
    text.push('\n');
    if std::env::var_os("BYWAY_REWRITE").is_some() {
        std::fs::write(path, &text).expect("the checkout can be written");
    }
    let kept = std::fs::read_to_string(path).expect("it is kept");
    assert!(kept == text, "spec/openapi.json is not what the code says; BYWAY_REWRITE=1 writes it anew");
}

#[tokio::test]
async fn the_description_is_served_and_names_every_path() {
    let answer = world().await.ask("GET", "/v1/openapi.json", "").await.json();
    let paths = answer["paths"].as_object().expect("there are paths");
    for path in [
        "/v1/status",
        "/v1/peers",
        "/v1/peers/{addr}",
        "/v1/links",
        "/v1/routes",
        "/v1/map",
        "/v1/sessions",
        "/v1/nodes",
        "/v1/nodes/{addr}",
        "/v1/nodes/{addr}/messages",
        "/v1/nodes/{addr}/find/{prefix}",
        "/v1/nodes/{addr}/keys/{target}",
        "/v1/ping",
        "/v1/trace",
        "/v1/reload",
        "/v1/shutdown",
        "/metrics",
        "/healthz",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    assert_eq!(paths.len(), 18);
    assert!(answer["components"]["schemas"]["Problem"]["properties"]["code"].is_object());
}

#[tokio::test]
async fn bad_requests_get_problem_documents_with_stable_codes() {
    let world = world().await;
    let (addr, token) = world.open().await;
    let messages = format!("/v1/nodes/{addr}/messages?token={token}");
    let nobody = Addr::NOBODY;
    let long = "A".repeat(200_000);
    let too_long = format!(r#"{{"to":"{addr}","payload":"{}"}}"#, "AAAA".repeat(21_846));
    let cases = [
        ("GET", "/nowhere".to_owned(), String::new(), 404, "unknown"),
        ("PUT", "/v1/status".into(), String::new(), 405, "bad-request"),
        ("POST", "/v1/nodes".into(), "{".into(), 400, "bad-request"),
        ("POST", "/v1/nodes".into(), r#"{"persit":true}"#.into(), 400, "bad-request"),
        ("POST", "/v1/nodes".into(), r#"{"mancon":"HIGH"}"#.into(), 400, "bad-request"),
        ("POST", "/v1/nodes".into(), r#"{"key":"AAAA"}"#.into(), 400, "bad-request"),
        ("POST", "/v1/nodes".into(), long, 413, "too-long"),
        ("GET", format!("/v1/nodes/{nobody}"), String::new(), 404, "unknown"),
        ("DELETE", format!("/v1/nodes/{nobody}?token=x"), String::new(), 404, "unknown"),
        ("DELETE", format!("/v1/nodes/{addr}"), String::new(), 401, "unauthorized"),
        ("DELETE", format!("/v1/nodes/{addr}?token={}", &token[1..]), String::new(), 401, "unauthorized"),
        ("DELETE", "/v1/nodes/short".into(), String::new(), 400, "bad-request"),
        (
            "POST",
            format!("/v1/nodes/{addr}/messages"),
            format!(r#"{{"to":"{addr}","payload":""}}"#),
            401,
            "unauthorized",
        ),
        ("POST", messages.clone(), "{}".into(), 400, "bad-request"),
        ("POST", messages.clone(), format!(r#"{{"to":"{addr}","payload":"?"}}"#), 400, "bad-request"),
        ("POST", messages.clone(), too_long, 413, "too-long"),
        ("POST", messages.clone(), format!(r#"{{"to":"{nobody}","payload":""}}"#), 404, "unknown"),
        (
            "POST",
            messages.clone(),
            format!(r#"{{"to":"{addr}","payload":"","deadline_ms":9999999}}"#),
            400,
            "bad-request",
        ),
        ("GET", messages, String::new(), 400, "bad-request"),
        ("GET", format!("/v1/nodes/{addr}/find/-?token={token}&bits=7"), String::new(), 400, "bad-request"),
        ("GET", format!("/v1/nodes/{addr}/find/!?token={token}"), String::new(), 400, "bad-request"),
        ("GET", format!("/v1/nodes/{addr}/find/{nobody}?token={token}"), String::new(), 404, "unknown"),
        ("GET", format!("/v1/nodes/{addr}/find/{nobody}"), String::new(), 401, "unauthorized"),
        ("GET", format!("/v1/nodes/{addr}/keys/{nobody}?token={token}"), String::new(), 404, "unknown"),
        (
            "GET",
            format!("/v1/nodes/{addr}/keys/{nobody}?token={token}&mancon=most"),
            String::new(),
            400,
            "bad-request",
        ),
        ("POST", "/v1/peers".into(), r#"{"addr":"x"}"#.into(), 400, "bad-request"),
        ("DELETE", format!("/v1/peers/{nobody}"), String::new(), 404, "unknown"),
        ("GET", "/v1/map?limit=10001".into(), String::new(), 400, "bad-request"),
        ("GET", "/v1/map?limit=-1".into(), String::new(), 400, "bad-request"),
        ("GET", "/v1/map?limit=all".into(), String::new(), 400, "bad-request"),
        ("POST", "/v1/ping".into(), format!(r#"{{"to":"{nobody}"}}"#), 404, "unknown"),
        ("POST", "/v1/ping".into(), format!(r#"{{"to":"{nobody}","from":"{addr}"}}"#), 401, "unauthorized"),
        ("POST", "/v1/trace".into(), format!(r#"{{"to":"{nobody}"}}"#), 404, "unknown"),
    ];
    for (method, path, body, status, code) in cases {
        let answer = world.ask(method, &path, &body).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{method} {path} {answer:?}");
    }
}

#[tokio::test]
async fn a_level_that_cannot_be_had_is_a_conflict() {
    let world = world().await;
    world.realm.refuse_above(ManCon::Medium);
    let (addr, token) = world.open().await;
    let path = format!("/v1/nodes/{addr}/messages?token={token}");
    let answer = world.ask("POST", &path, &format!(r#"{{"to":"{addr}","payload":"aGk="}}"#)).await;
    assert_eq!(answer.problem(), (409, "mancon-unsatisfied".into()));
    let answer =
        world.ask("POST", &path, &format!(r#"{{"to":"{addr}","payload":"aGk=","mancon":"low"}}"#)).await;
    assert_eq!(
        (answer.status, answer.text("state"), answer.text("mancon")),
        (202, "sent".into(), "low".into())
    );
}

#[tokio::test]
async fn a_deadline_is_kept_and_says_what_was_missing() {
    let world = world().await;
    let (addr, token) = world.open().await;
    let path = format!("/v1/nodes/{addr}/messages?token={token}");
    let body = format!(r#"{{"to":"{addr}","payload":"","deadline_ms":50}}"#);
    let mut last = world.ask("POST", &path, &body).await;
    for _ in 0..100 {
        if last.status != 202 {
            break;
        }
        last = world.ask("POST", &path, &body).await;
    }
    let (status, code) = last.problem();
    assert!([(503, "busy"), (504, "no-way")].contains(&(status, code.as_str())), "{last:?}");
    assert!(last.body.contains("0.05 s") || last.body.contains("deadline"), "{last:?}");
}

#[tokio::test]
async fn on_tcp_the_token_and_the_host_are_asked_for() {
    let world = world().await;
    let (addr, token) = world.open().await;
    let (right, port) = (format!("Authorization: Bearer {}", world.token.reveal()), world.port);
    let hosts =
        [format!("Host: 127.0.0.1:{port}"), format!("Host: localhost:{port}"), format!("Host: [::1]:{port}")];
    for host in &hosts {
        assert_eq!(
            ask(world.tcp().await, "GET", "/v1/status", &[host, &right], b"").await.status,
            200,
            "{host}"
        );
    }
    let here = hosts[0].as_str();
    for host in ["Host: evil.example", "Host: 127.0.0.1:1", "Host: ", "X: no host"] {
        let answer = ask(world.tcp().await, "GET", "/v1/status", &[host, &right], b"").await;
        assert!(answer.status == 421 || answer.status == 400, "{host}: {answer:?}");
    }
    for wrong in ["X: none", "Authorization: Bearer x", "Authorization: Basic eDp5", "Authorization:"] {
        let answer = ask(world.tcp().await, "GET", "/v1/status", &[here, wrong], b"").await;
        assert_eq!(answer.problem(), (401, "unauthorized".into()), "{wrong}");
        assert!(answer.head.contains("www-authenticate: bearer"));
    }
    assert_eq!(ask(world.tcp().await, "GET", "/healthz", &[here], b"").await.body, "byway\n");

    // The token of a node opens this node, and nothing else.
    let node = format!("Authorization: Bearer {token}");
    let keys = format!("/v1/nodes/{addr}/keys/{addr}");
    assert_eq!(ask(world.tcp().await, "GET", &keys, &[here, &node], b"").await.status, 200);
    assert_eq!(
        ask(world.tcp().await, "GET", &format!("{keys}?token={token}"), &[here], b"").await.status,
        200
    );
    assert_eq!(ask(world.tcp().await, "GET", "/v1/status", &[here, &node], b"").await.status, 401);
    assert_eq!(ask(world.tcp().await, "POST", "/v1/shutdown", &[here, &node], b"").await.status, 401);
    // And the listener's token does not open other people's nodes.
    let answer = ask(world.tcp().await, "DELETE", &format!("/v1/nodes/{addr}"), &[here, &right], b"").await;
    assert_eq!(answer.problem(), (401, "unauthorized".into()));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_used_ends_after_a_minute_unless_it_persists() {
    let world = world().await;
    let (unused, _) = world.open().await;
    let kept = world.ask("POST", "/v1/nodes", r#"{"persist":true}"#).await.text("addr");
    tokio::time::sleep(std::time::Duration::from_secs(50)).await;
    assert_eq!(world.ask("GET", &format!("/v1/nodes/{unused}"), "").await.status, 200);
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    assert_eq!(world.ask("GET", &format!("/v1/nodes/{unused}"), "").await.problem(), (404, "unknown".into()));
    assert_eq!(world.ask("GET", &format!("/v1/nodes/{kept}"), "").await.status, 200);
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_end_once() {
    let world = world().await;
    world.ask("GET", "/v1/peers", "").await;
    world.ask("GET", "/made/up/by/the/client", "").await;
    let text = world.ask("GET", "/metrics", "").await;
    assert!(text.head.contains("content-type: application/openmetrics-text"));
    assert!(
        text.body.contains("byway_api_requests_total{method=\"GET\",route=\"/v1/peers\",status=\"200\"} 1\n")
    );
    assert!(text.body.contains("byway_api_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1\n"));
    assert!(text.body.contains("byway_node_queued{node=") && !text.body.contains("made"));
    assert!(text.body.ends_with("\n# EOF\n") && text.body.matches("# EOF").count() == 1);
}
