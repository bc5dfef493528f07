//! The same client against real daemons: processes, with their keys, sessions and routing.

use std::time::Duration;

use byway_interop::{Daemon, inet256_vectors, run_inet256_client};

/// Real sessions take their handshakes, and these tests share the machine with others.
const WAIT: Duration = Duration::from_secs(180);

async fn check(names: &[&str]) {
    let daemon = Daemon::start().await.expect("it starts");
    let arguments = [&["check"], names].concat();
    if let Err(error) = run_inet256_client(&[daemon.api()], &arguments, WAIT).await {
        panic!("{error:#}\nthe daemon said:\n{}", daemon.log());
    }
}

#[tokio::test]
async fn the_service_suite_passes_on_two_linked_daemons() {
    let (one, other) = Daemon::pair().await.expect("they are linked");
    let arguments = ["check", "SendMultiple", "FindAddr", "LookupPublicKey", "Sizes", "SentAtOnce"];
    if let Err(error) = run_inet256_client(&[one.api(), other.api()], &arguments, WAIT).await {
        panic!("{error:#}\nthe daemons said:\n{}\n{}", one.log(), other.log());
    }
}

#[tokio::test]
async fn the_service_suite_passes_on_a_real_daemon() {
    check(&[
        "Send",
        "SendMultiple",
        "TestLoopback",
        "FindAddr",
        "FindAddrSevenBits",
        "LookupPublicKey",
        "ReOpen",
    ])
    .await;
}

#[tokio::test]
async fn a_real_daemon_takes_the_very_bytes_of_the_vectors() {
    let (daemon, vectors) = (Daemon::start().await.expect("it starts"), inet256_vectors());
    let arguments = ["open-vector", vectors.to_str().expect("the path is text")];
    if let Err(error) = run_inet256_client(&[daemon.api()], &arguments, WAIT).await {
        panic!("{error:#}\nthe daemon said:\n{}", daemon.log());
    }
}

#[tokio::test]
async fn a_real_daemon_carries_a_hundred_nodes() {
    check(&["ServerCreateDrop"]).await;
}

#[tokio::test]
async fn a_real_daemon_carries_messages_of_every_size_and_those_sent_at_once() {
    check(&["Sizes", "SentAtOnce"]).await;
}

#[tokio::test]
async fn a_real_daemon_bears_clients_that_break_the_rules() {
    check(&["OneKey", "Silent", "BadInput", "Deaf", "Admin"]).await;
}
