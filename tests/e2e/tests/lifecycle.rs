//! Starting, stopping, reloading, and being killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use byway_e2e::{Process, World, peer, until};
use byway_identity::Addr;
use nix::sys::signal::Signal;

async fn peers(process: &Process) -> Vec<String> {
    let ran = process.byway(&["peers", "--json"]).await;
    let value: serde_json::Value = serde_json::from_str(&ran.data).unwrap_or_else(|_| panic!("{ran:?}"));
    let peers = value["peers"].as_array().expect("a list");
    let mut names: Vec<_> =
        peers.iter().map(|peer| peer["name"].as_str().unwrap_or("-").to_owned()).collect();
    names.sort();
    names
}

fn stranger(byte: u8) -> Addr {
    Addr::from_bytes([byte; 32])
}

#[tokio::test]
async fn the_first_start_makes_a_key_and_leaves_nothing_open_to_others() {
    let world = World::new();
    let mut daemon = world.daemon("ann", "");
    fs::remove_file(daemon.state().join("identity.pem")).expect("ours");
    let first = daemon.start().await.status().await.expect("it runs").addr;
    daemon.byway(&["peer", "add", &stranger(1).to_string(), "udp://127.0.0.1:9"]).await;
    for entry in fs::read_dir(daemon.state()).expect("ours") {
        let entry = entry.expect("ours");
        if entry.file_name() == "byway.toml" || entry.file_name() == "log" {
            continue;
        }
        let mode = entry.metadata().expect("ours").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{entry:?}");
    }
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await, Some(0));
    assert_eq!(daemon.start().await.status().await.expect("it runs").addr, first, "the key is kept");
}

#[tokio::test]
async fn two_daemons_never_share_a_state_directory_or_a_socket() {
    let world = World::new();
    let mut daemon = world.daemon("ann", "");
    daemon.start().await;
    let (config, state) = (daemon.config().display().to_string(), daemon.state().display().to_string());
    let ran = world.byway(&["up", "--config", &config, "--state", &state]).await;
    assert!(ran.status == Some(2) && ran.notes.contains(&format!("(process {})", daemon.pid())), "{ran:?}");
    let other = world.path("other").display().to_string();
    let ran = world.byway(&["up", "--config", &config, "--state", &other]).await;
    assert!(ran.status == Some(2) && ran.notes.contains("another daemon listens"), "{ran:?}");
    assert_eq!(daemon.byway(&["status"]).await.status, Some(0), "the first one is undisturbed");
}

#[tokio::test]
async fn sigterm_and_down_end_it_cleanly_and_its_socket_goes_with_it() {
    let world = World::new();
    let mut daemon = world.daemon("ann", "");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        daemon.start().await;
        daemon.signal(signal);
        assert_eq!(daemon.ended().await, Some(0), "{}", daemon.log());
        assert!(!daemon.socket().exists());
    }
    daemon.start().await;
    let ran = daemon.byway(&["down"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(daemon.ended().await, Some(0));
    let ran = daemon.byway(&["down"]).await;
    assert_eq!(ran.status, Some(2), "there is nothing to stop any more");
}

#[tokio::test]
async fn what_was_added_at_run_time_survives_kill_and_a_stale_socket_is_replaced() {
    let world = World::new();
    let configured = peer("configured", &stranger(1), "udp://127.0.0.1:9");
    let mut daemon = world.daemon("ann", &configured);
    daemon.start().await;
    let (two, three) = (stranger(2).to_string(), stranger(3).to_string());
    assert_eq!(
        daemon.byway(&["peer", "add", "--name", "added", &two, "udp://127.0.0.1:9"]).await.status,
        Some(0)
    );
    assert_eq!(daemon.byway(&["peer", "add", "--name", "gone", &three]).await.status, Some(0));
    assert_eq!(daemon.byway(&["peer", "rm", "gone"]).await.status, Some(0));
    assert_eq!(daemon.byway(&["peer", "rm", "configured"]).await.status, Some(0));
    assert_eq!(daemon.byway(&["peer", "rm", "gone"]).await.status, Some(2), "the petname is unknown now");
    assert_eq!(daemon.byway(&["peer", "rm", &three]).await.status, Some(1), "the address is no peer's");
    assert_eq!(peers(&daemon).await, ["added"]);

    daemon.kill().await;
    assert!(daemon.socket().exists(), "nobody could remove it");
    daemon.start().await;
    assert_eq!(peers(&daemon).await, ["added"]);
    let status = daemon.byway(&["status"]).await.data;
    assert!(status.contains("1 configured peers are not used"), "{status}");
    let one = stranger(1).to_string();
    assert_eq!(daemon.byway(&["peer", "add", "--name", "configured", &one]).await.status, Some(0));
    assert_eq!(peers(&daemon).await, ["added", "configured"]);
}

#[tokio::test]
async fn a_saved_peer_is_in_the_configuration_and_the_rest_of_it_untouched() {
    let world = World::new();
    let mut daemon = world.daemon("ann", "# a note of mine\n");
    daemon.start().await;
    let before = fs::read_to_string(daemon.config()).expect("ours");
    let two = stranger(2).to_string();
    let ran =
        daemon.byway(&["peer", "add", "--save", "--name", "two", &two, "udp://[2001:db8::1]:2561"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let after = fs::read_to_string(daemon.config()).expect("ours");
    assert!(after.starts_with(before.trim_end()) && after.contains(&two), "{after}");
    let file = daemon.config().display().to_string();
    assert_eq!(world.byway(&["config", "check", &file]).await.status, Some(0));
}

#[tokio::test]
async fn odd_peers_are_refused_and_nothing_is_kept_of_them() {
    let world = World::new();
    let mut daemon = world.daemon("ann", "");
    daemon.start().await;
    let (one, own) = (stranger(1).to_string(), daemon.addr.to_string());
    for (args, status) in [
        (vec!["peer", "add", "short"], 2),
        (vec!["peer", "add", &one, "upd://h:1"], 2),
        (vec!["peer", "add", &one, "lan://eth0"], 2),
        (vec!["peer", "add", "--name", "a b", &one], 2),
        (vec!["peer", "add", &own], 2),
    ] {
        let ran = daemon.byway(&args).await;
        assert_eq!(ran.status, Some(status), "{args:?} {ran:?}");
    }
    assert!(peers(&daemon).await.is_empty());
}

#[tokio::test]
async fn sighup_applies_what_is_live_and_a_bad_file_changes_nothing() {
    let world = World::new();
    let mut daemon = world.daemon("ann", &peer("one", &stranger(1), "udp://127.0.0.1:9"));
    daemon.start().await;
    daemon.configure(&peer("two", &stranger(2), "udp://127.0.0.1:9"));
    daemon.signal(Signal::SIGHUP);
    until("the new peer", async || (peers(&daemon).await == ["two"]).then_some(())).await;

    fs::write(daemon.config(), "[mancon]\ndefault = \"hihg\"\n[[peers]]\naddr = \"10.1.2.3\"\n")
        .expect("ours");
    daemon.signal(Signal::SIGHUP);
    until("the refusal", async || daemon.log().contains("nothing was reloaded").then_some(())).await;
    assert!(!daemon.log().contains("10.1.2.3"), "the log tells no addresses: {}", daemon.log());
    assert_eq!(peers(&daemon).await, ["two"]);
    let ran = daemon.byway(&["config", "reload"]).await;
    assert!(ran.status == Some(2) && ran.notes.contains("did you mean \"high\"?"), "{ran:?}");
    assert_eq!(ran.notes.lines().filter(|line| line.contains("byway.toml:")).count(), 2, "{ran:?}");
}

#[tokio::test]
async fn a_configuration_that_is_away_changes_nothing() {
    let world = World::new();
    let mut daemon = world.daemon("ann", "");
    let text = daemon.minimal().replace("default = \"low\"", "default = \"medium\"\nfloor = \"medium\"");
    fs::write(daemon.config(), text + &peer("one", &stranger(1), "udp://127.0.0.1:9")).expect("ours");
    let client = daemon.start().await;
    fs::rename(daemon.config(), world.path("away.toml")).expect("ours");
    let ran = daemon.byway(&["config", "reload"]).await;
    assert!(ran.status == Some(2) && ran.notes.contains("is not there any more"), "{ran:?}");
    daemon.signal(Signal::SIGHUP);
    until("the refusal", async || daemon.log().contains("nothing was reloaded").then_some(())).await;
    assert_eq!(peers(&daemon).await, ["one"]);
    let status = client.status().await.expect("it runs on");
    assert_eq!((status.mancon.name(), status.floor.name()), ("medium", "medium"));

    fs::rename(world.path("away.toml"), daemon.config()).expect("ours");
    assert_eq!(daemon.byway(&["config", "reload"]).await.data, "nothing has changed\n");
}

#[tokio::test]
async fn clear_links_that_are_forbidden_at_run_time_serve_no_request_any_more() {
    let world = World::new();
    let (mut ann, _bob) = world.pair().await;
    assert_eq!(ann.byway(&["ping", "-c", "1", "bob"]).await.status, Some(0));
    let before = fs::read_to_string(ann.config()).expect("ours");
    fs::write(ann.config(), before.replace("direct = true", "direct = false")).expect("ours");
    let said = ann.byway(&["config", "reload"]).await.data;
    assert!(said.contains("no clear links for requests"), "{said}");
    assert!(said.contains("needs a restart: mancon.direct"), "{said}");
    let ran = ann.byway(&["ping", "-c", "1", "bob"]).await;
    assert!(ran.status == Some(1) && ran.notes.contains("mancon.direct"), "{ran:?}");
    let status = ann.client().await.status().await.expect("it runs");
    assert!(!status.direct && status.warnings.iter().any(|warning| warning.contains("until a restart")));
    fs::write(ann.config(), before).expect("ours");
    assert_eq!(ann.byway(&["config", "reload"]).await.status, Some(0));
    assert_eq!(ann.byway(&["ping", "-c", "1", "bob"]).await.status, Some(0));
}

#[tokio::test]
async fn reload_says_what_was_applied_and_names_what_needs_a_restart() {
    let world = World::new();
    let mut daemon = world.daemon("ann", "");
    daemon.start().await;
    assert_eq!(daemon.byway(&["config", "reload"]).await.data, "nothing has changed\n");
    let text = daemon.minimal().replace("default = \"low\"", "default = \"medium\"\nfloor = \"medium\"");
    let text = text.replace("127.0.0.1:0", "127.0.0.2:0")
        + "[network]\nname = \"other\"\n[log]\nlevel = \"debug\"\n";
    fs::write(daemon.config(), text).expect("ours");
    let said = daemon.byway(&["config", "reload"]).await.data;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines,
        ["mancon: default medium, floor medium", "log.level: debug", "needs a restart: network, links"]
    );
    let again = daemon.byway(&["config", "reload"]).await.data;
    assert_eq!(again, "needs a restart: network, links\n");
    let status = daemon.byway(&["status"]).await.data;
    assert!(status.contains("medium, floor medium"), "{status}");
}

#[tokio::test]
async fn the_service_manager_hears_of_every_step() {
    let world = World::new();
    let path = world.path("notify.sock");
    let socket = tokio::net::UnixDatagram::bind(&path).expect("ours");
    let heard = async || {
        let mut buffer = [0; 4096];
        let received = tokio::time::timeout(byway_e2e::PATIENCE, socket.recv(&mut buffer)).await;
        let length = received.expect("a notice in time").expect("readable");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut daemon = world.daemon("ann", "");
    daemon.start_with(&[], &[("NOTIFY_SOCKET", &path.display().to_string())]).await;
    assert!(heard().await.contains("READY=1"));
    daemon.signal(Signal::SIGHUP);
    let reloading = heard().await;
    assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert!(heard().await.contains("READY=1"));
    daemon.signal(Signal::SIGTERM);
    assert!(heard().await.contains("STOPPING=1"));
    assert_eq!(daemon.ended().await, Some(0));
}

#[tokio::test]
async fn every_thread_has_given_up_its_privileges() {
    let world = World::new();
    let mut daemon = world.daemon("ann", "");
    daemon.start().await;
    for thread in fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs") {
        let status = fs::read_to_string(thread.expect("it runs").path().join("status")).expect("it runs");
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
                .expect("the kernel tells it")
        };
        for set in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set} without a portal nothing is needed");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        if nix::unistd::geteuid().is_root() {
            assert_eq!(field("CapBnd:"), "0000000000000000");
        }
    }
}

#[tokio::test]
async fn without_direct_no_clear_socket_is_open_and_status_says_what_that_means() {
    let world = World::new();
    let mut daemon = world.daemon("ann", "");
    let text = fs::read_to_string(daemon.config()).expect("ours").replace("direct = true", "direct = false");
    fs::write(daemon.config(), text).expect("ours");
    let status = daemon.start().await.status().await.expect("it runs");
    assert!(status.endpoints.is_empty() && !status.direct);
    assert!(status.warnings.iter().any(|warning| warning.contains("--direct")), "{:?}", status.warnings);
    let ran = daemon.byway(&["ping", "-c", "1", &stranger(1).to_string()]).await;
    assert!(ran.status == Some(1) && ran.notes.contains("mancon.direct"), "{ran:?}");
}
