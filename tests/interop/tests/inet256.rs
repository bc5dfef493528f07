//! A client of INET256's local API in another language, against the API over realms in memory.

use std::sync::Arc;
use std::time::Duration;

use byway_api::memory::Realm;
use byway_httpd::{Httpd, Options, bind_unix};
use byway_interop::{inet256_vectors, run_inet256_client};

/// Two daemons of one realm, each served on a socket.
struct World {
    apis: Vec<String>,
    served: Vec<Httpd>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("the system has room");
        let realm = Realm::new();
        let (mut apis, mut served) = (Vec::new(), Vec::new());
        for (name, realm) in [("a", realm.neighbour()), ("b", realm)] {
            let path = folder.path().join(name);
            let httpd = Httpd::new(Arc::new(realm), Options::default());
            let (serving, listener) = (httpd.clone(), bind_unix(&path).expect("the place is free"));
            tokio::spawn(async move { serving.serve_unix(listener).await });
            apis.push(format!("unix://{}", path.display()));
            served.push(httpd);
        }
        Self { apis, served, _folder: folder }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for httpd in &self.served {
            httpd.close();
        }
    }
}

async fn check(names: &[&str]) {
    let world = World::new();
    let arguments = [&["check"], names].concat();
    run_inet256_client(&world.apis, &arguments, Duration::from_secs(120))
        .await
        .expect("the client is content");
}

#[tokio::test]
async fn the_client_itself_agrees_with_the_vectors() {
    let vectors = inet256_vectors();
    let arguments = ["vectors", vectors.to_str().expect("the path is text")];
    run_inet256_client(&[], &arguments, Duration::from_secs(30)).await.expect("the vectors hold");
}

#[tokio::test]
async fn the_very_bytes_of_the_vectors_open_a_node() {
    let (world, vectors) = (World::new(), inet256_vectors());
    let arguments = ["open-vector", vectors.to_str().expect("the path is text")];
    run_inet256_client(&world.apis[..1], &arguments, Duration::from_secs(60))
        .await
        .expect("the vectors hold");
}

#[tokio::test]
async fn the_service_suite_passes() {
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
async fn a_hundred_nodes_are_opened_used_and_dropped() {
    check(&["ServerCreateDrop"]).await;
}

#[tokio::test]
async fn messages_of_every_size_arrive_and_longer_ones_are_refused() {
    check(&["Sizes"]).await;
}

#[tokio::test]
async fn messages_sent_right_after_opening_all_arrive() {
    check(&["SentAtOnce"]).await;
}

#[tokio::test]
async fn a_second_client_with_the_same_key_is_refused() {
    check(&["OneKey"]).await;
}

#[tokio::test]
async fn a_client_silent_for_ten_seconds_is_given_up() {
    check(&["Silent"]).await;
}

#[tokio::test]
async fn bad_input_is_answered_or_ends_its_own_stream() {
    check(&["BadInput"]).await;
}

#[tokio::test]
async fn a_client_that_never_reads_slows_nobody() {
    check(&["Deaf"]).await;
}

#[tokio::test]
async fn status_and_health_are_told_in_their_form() {
    check(&["Admin"]).await;
}
