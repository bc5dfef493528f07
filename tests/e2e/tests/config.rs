//! Configuration and keys: what is wrong is told whole, and never guessed around.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use byway_e2e::{World, binary, run};

#[tokio::test]
async fn all_faults_of_a_configuration_are_told_at_once_and_nothing_starts() {
    let world = World::new();
    let file = world.path("byway.toml");
    let text = "[node]\nkye = \"x\"\n[mancon]\ndefault = \"hihg\"\n[portal]\nmtu = 99999\n[links]\nudp.listen = [\"nowhere\"]\n\
                tor.mode = \"embedded\"\n[[peers]]\naddr = \"x\"\nendpoints = [\"lan://eth0\"]\n";
    fs::write(&file, text).expect("ours");
    let path = file.display().to_string();
    let state = world.path("state").display().to_string();
    for args in [vec!["config", "check", &path], vec!["up", "--config", &path, "--state", &state]] {
        let ran = world.byway(&args).await;
        assert_eq!(ran.status, Some(2), "{ran:?}");
        for (line, what) in [
            (2, "node.kye: no such key; did you mean \"key\"?"),
            (4, "mancon.default: \"hihg\" is not known here; did you mean \"high\"?"),
            (6, "portal.mtu: 99999 is out of range"),
            (8, "links.udp.listen[0]"),
            (9, "links.tor.mode: a tor of Byway's own is not built into this version yet"),
            (11, "peers[0].addr: an address has 43 characters"),
            (12, "peers[0].endpoints[0]: the transport lan is not built into this version yet"),
        ] {
            let found = ran
                .notes
                .lines()
                .any(|told| told.starts_with(&format!("{path}:{line}:")) && told.contains(what));
            assert!(found, "{line} {what}\nin {}", ran.notes);
        }
        assert_eq!(ran.notes.lines().count(), 7, "{}", ran.notes);
        assert!(ran.data.is_empty());
    }
    assert!(!world.path("state").exists(), "a refused start leaves nothing behind");
}

#[tokio::test]
async fn the_default_configuration_passes_its_own_check() {
    let world = World::new();
    let ran = world.byway(&["config", "default"]).await;
    assert_eq!(ran.status, Some(0));
    let file = world.path("default.toml");
    fs::write(&file, &ran.data).expect("ours");
    let ran = world.byway(&["config", "check", &file.display().to_string()]).await;
    assert_eq!((ran.status, ran.data.as_str()), (Some(0), ""), "{ran:?}");
}

#[tokio::test]
async fn a_configuration_that_was_named_and_is_not_there_is_a_failure() {
    let world = World::new();
    let nowhere = world.path("nowhere.toml").display().to_string();
    let ran = world.byway(&["up", "--config", &nowhere]).await;
    assert!(ran.status == Some(2) && ran.notes.contains("nowhere.toml"), "{ran:?}");
}

#[tokio::test]
async fn key_files_that_cannot_be_trusted_are_refused_with_the_remedy() {
    let world = World::new();
    let daemon = world.daemon("ann", "");
    let key = daemon.state().join("identity.pem");
    let (config, state) = (daemon.config().display().to_string(), daemon.state().display().to_string());
    let up = ["up", "--config", &config, "--state", &state];

    let good = fs::read(&key).expect("ours");
    fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).expect("ours");
    let ran = world.byway(&up).await;
    assert!(ran.status == Some(2) && ran.notes.contains("chmod 600"), "{ran:?}");
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("ours");

    for rubbish in [b"hello".as_slice(), &good[..good.len() / 2], b""] {
        fs::write(&key, rubbish).expect("ours");
        let ran = world.byway(&up).await;
        assert!(ran.status == Some(2) && ran.notes.contains("key"), "{ran:?}");
        assert_eq!(fs::read(&key).expect("ours"), rubbish, "what is there is never overwritten");
    }

    fs::remove_file(&key).expect("ours");
    fs::create_dir(&key).expect("ours");
    let ran = world.byway(&up).await;
    assert!(ran.status == Some(2) && ran.notes.contains("not a regular file"), "{ran:?}");
}

#[tokio::test]
async fn an_encrypted_key_opens_with_its_passphrase_alone() {
    let world = World::new();
    let mut daemon = world.daemon("ann", "");
    let key = daemon.state().join("identity.pem");
    fs::remove_file(&key).expect("ours");
    let key = key.display().to_string();
    let right = [("BYWAY_PASSPHRASE", "correct horse")];
    let ran = run(&["keygen", "--passphrase", "--out", &key], &right, b"").await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let addr = run(&["addr", &key], &right, b"").await;
    assert!(ran.notes.contains(addr.data.trim()), "{ran:?} {addr:?}");

    let wrong = run(&["addr", &key], &[("BYWAY_PASSPHRASE", "cow")], b"").await;
    assert!(wrong.status == Some(2) && wrong.notes.contains("passphrase does not fit"), "{wrong:?}");
    let client = daemon.start_with(&[], &right).await;
    assert_eq!(client.status().await.expect("it runs").addr.to_string(), addr.data.trim());
}

#[tokio::test]
async fn keys_addresses_and_their_ipv6_forms_agree_whatever_the_file_form() {
    let world = World::new();
    for form in [&[][..], &["--inet256"]] {
        let key = world.path(&format!("key{}", form.len())).display().to_string();
        let mut args = vec!["keygen", "--out", &key];
        args.extend(form);
        assert_eq!(world.byway(&args).await.status, Some(0));
        assert_eq!(world.byway(&args).await.status, Some(2), "never over a key that is there");
        let addr = world.byway(&["addr", &key]).await.data;
        let of_key = world.byway(&["ip6", &key]).await.data;
        let of_addr = world.byway(&["ip6", addr.trim()]).await.data;
        assert_eq!((of_key.as_str(), addr.trim().len()), (of_addr.as_str(), 43));
        assert!(of_key.trim().parse::<std::net::Ipv6Addr>().is_ok(), "{of_key}");
    }
}

#[tokio::test]
async fn completions_manual_and_help_come_from_the_same_definitions() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = world.byway(&["completions", shell]).await;
        assert!(
            ran.status == Some(0) && ran.data.contains("keygen") && ran.data.contains("mancon"),
            "{shell}"
        );
    }
    let manual = world.byway(&["man"]).await;
    assert!(manual.status == Some(0) && manual.data.contains(".TH byway 1"));
    for command in [
        "up",
        "down",
        "demo",
        "config",
        "keygen",
        "addr",
        "ip6",
        "status",
        "peers",
        "links",
        "routes",
        "nodes",
        "sessions",
        "peer",
        "ping",
        "trace",
        "echo",
        "nc",
        "dial",
        "listen",
        "find",
        "lookup",
        "completions",
        "man",
    ] {
        let help = world.byway(&[command, "--help"]).await;
        assert!(help.status == Some(0) && help.data.contains("Usage: byway"), "{command}: {help:?}");
    }
}

#[tokio::test]
async fn bad_usage_and_a_missing_daemon_are_failures_to_run() {
    let world = World::new();
    for args in [&["nonsense"][..], &["ping"], &["--mancon", "hihg", "status"], &["listen", "--to", "here"]] {
        assert_eq!(world.byway(args).await.status, Some(2), "{args:?}");
    }
    let nowhere = format!("unix:{}", world.path("none.sock").display());
    let ran = world.byway(&["--api", &nowhere, "status"]).await;
    assert!(ran.status == Some(2) && ran.notes.contains("byway up"), "{ran:?}");
}

#[tokio::test]
async fn a_closed_pipe_is_success() {
    let script = format!("\"{}\" config default | true; exit ${{PIPESTATUS[0]}}", binary().display());
    for _ in 0..10 {
        let status =
            tokio::process::Command::new("bash").args(["-c", &script]).status().await.expect("a shell");
        assert_eq!(status.code(), Some(0));
    }
}
