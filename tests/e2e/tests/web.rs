//! Links that pass where only the web does, between real daemons.

use std::net::SocketAddr;
use std::path::Path;

use byway_api::Service;
use byway_client::Daemon;
use byway_e2e::{Process, World, peer, until};
use byway_identity::Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// What to write into `[links]` so that a daemon listens at `at`, and how its endpoint begins.
const KINDS: [(&str, &str, &str); 5] = [
    ("quic.listen = [\"AT\"]\n", "quic://", "ip/quic"),
    ("tcp.listen = [\"AT\"]\n", "tcp://", "ip/tcp"),
    ("tls.listen = [\"AT\"]\n", "tls://", "ip/tls"),
    ("websocket = { listen = [\"AT\"], path = \"/secret\" }\n", "ws://", "ip/websocket"),
    ("websocket = { listen = [\"AT\"], path = \"/secret\", tls = true }\n", "wss://", "ip/websocket"),
];

async fn linked(client: &Daemon, class: &str) {
    until(class, async || {
        let links = client.links().await.expect("it runs");
        links.iter().any(|link| link.class == class).then_some(())
    })
    .await;
}

async fn answers(ann: &Process) {
    let ran = ann.byway(&["ping", "-c", "3", "-i", "0.01", "bob"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}\n{}", ann.log());
}

async fn endpoint(client: &Daemon, scheme: &str) -> String {
    let endpoints = client.status().await.expect("it runs").endpoints;
    endpoints.into_iter().find(|endpoint| endpoint.starts_with(scheme)).expect("it listens")
}

/// The socket address in an endpoint.
fn place(endpoint: &str) -> SocketAddr {
    let place = endpoint.split("://").nth(1).expect("a scheme");
    let end = place.find(['/', '?']).unwrap_or(place.len());
    place[..end].parse().expect("an address")
}

#[tokio::test]
async fn two_daemons_link_over_each_web_like_transport_and_again_after_a_restart_of_either() {
    for (links, scheme, class) in KINDS {
        let world = World::new();
        let (mut ann, mut bob) = (world.daemon("ann", ""), world.daemon("bob", ""));
        let known = format!("[[peers]]\nname = \"ann\"\naddr = \"{}\"\n", ann.addr);
        bob.configure(&(links.replace("AT", "127.0.0.1:0") + &known));
        let at = endpoint(&bob.start().await, scheme).await;
        ann.configure(&peer("bob", &bob.addr, &at));
        let client = ann.start().await;
        linked(&client, class).await;
        answers(&ann).await;
        let shown = ann.byway(&["links"]).await.data;
        assert!(shown.contains(class) && shown.contains(scheme), "{shown}");

        // Whatever listened at a port that the system chose comes back at the same one.
        bob.kill().await;
        bob.configure(&(links.replace("AT", &place(&at).to_string()) + &known));
        assert_eq!(endpoint(&bob.start().await, scheme).await, at, "its certificate too is the same");
        until("the link after a restart", async || {
            let ran = ann.byway(&["ping", "-c", "1", "-W", "0.5", "bob"]).await;
            (ran.status == Some(0)).then_some(())
        })
        .await;
        ann.kill().await;
        let client = ann.start().await;
        linked(&client, class).await;
        answers(&ann).await;
    }
}

#[tokio::test]
async fn a_link_goes_out_through_a_socks5_proxy() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let at = proxy.local_addr().expect("it is bound");
    let served = tokio::spawn(async move {
        let (mut near, _) = proxy.accept().await.expect("somebody comes");
        let mut said = [0; 10];
        near.read_exact(&mut said[..3]).await.expect("a greeting");
        assert_eq!(said[..3], [5, 1, 0]);
        near.write_all(&[5, 0]).await.expect("it listens");
        near.read_exact(&mut said).await.expect("a request for an IPv4 address");
        assert_eq!(said[..4], [5, 1, 0, 1]);
        let to = ([said[4], said[5], said[6], said[7]], u16::from_be_bytes([said[8], said[9]]));
        let mut far = TcpStream::connect(SocketAddr::from(to)).await.expect("it listens");
        near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.expect("it listens");
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        SocketAddr::from(to)
    });
    let world = World::new();
    let (mut ann, mut bob) = (world.daemon("ann", ""), world.daemon("bob", ""));
    bob.configure(&format!(
        "tls.listen = [\"127.0.0.1:0\"]\n[[peers]]\nname = \"ann\"\naddr = \"{}\"\n",
        ann.addr
    ));
    let endpoint = endpoint(&bob.start().await, "tls://").await;
    ann.configure(&(format!("proxy = \"socks5://{at}\"\n") + &peer("bob", &bob.addr, &endpoint)));
    linked(&ann.start().await, "ip/tls").await;
    answers(&ann).await;
    assert_eq!(served.await.expect("it went through the proxy"), place(&endpoint));
}

#[tokio::test]
async fn who_does_not_know_the_address_gets_the_page_and_is_told_of_it() {
    let world = World::new();
    let (mut ann, mut bob) = (world.daemon("ann", ""), world.daemon("bob", ""));
    std::fs::write(bob.state().join("page.html"), "<p>Our garden</p>\n").expect("ours");
    bob.configure(&format!(
        "tls.site = \"page.html\"\nwebsocket = {{ listen = [\"127.0.0.1:0\"], path = \"/secret\" }}\n\
         [[peers]]\nname = \"ann\"\naddr = \"{}\"\n",
        ann.addr
    ));
    let endpoint = endpoint(&bob.start().await, "ws://").await;
    let mut stream = TcpStream::connect(place(&endpoint)).await.expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("<p>Our garden</p>\n"), "{answer}");

    let other = Addr::from_bytes([9; 32]);
    ann.configure(&peer("bob", &other, &endpoint));
    let client = ann.start().await;
    until("the reason", async || {
        let peers = client.peers().await.expect("it runs");
        let told = format!("{peers:?}");
        told.contains("answers as a web site").then_some(())
    })
    .await;
}

/// A port of loopback that was free a moment ago.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

/// What `script` prints, run by `sh` in `directory`.
async fn sh(directory: &Path, script: &str) -> Vec<u8> {
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().await;
    let output = output.expect("there is a shell");
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn a_link_passes_nginx_which_is_the_same_site_to_everybody_else() {
    let world = World::new();
    let (mut ann, mut bob) = (world.daemon("ann", ""), world.daemon("bob", ""));
    let (front, back) = (free_port().await, free_port().await);
    bob.configure(&format!(
        "tls.site = \"http://127.0.0.1:{back}\"\nwebsocket = {{ listen = [\"127.0.0.1:0\"], path = \"/secret\" }}\n\
         [[peers]]\nname = \"ann\"\naddr = \"{}\"\n",
        ann.addr
    ));
    let behind = place(&endpoint(&bob.start().await, "ws://").await);
    let directory = bob.state();
    sh(
        &directory,
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=www.example.org \
         -keyout nginx.key -out nginx.crt",
    )
    .await;
    let pin = "openssl x509 -in nginx.crt -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary";
    let pin = Addr::from_bytes(sh(&directory, pin).await.try_into().expect("32 bytes"));
    let at = directory.display();
    let config = format!(
        r#"daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.log; events {{}}
http {{
    access_log off; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;
    uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;
    server {{
        listen 127.0.0.1:{back};
        location / {{ return 200 "our garden: $request_uri"; }}
    }}
    server {{
        listen 127.0.0.1:{front} ssl http2; ssl_certificate {at}/nginx.crt; ssl_certificate_key {at}/nginx.key;
        location / {{ proxy_pass http://127.0.0.1:{back}; }}
        location = /secret {{
            proxy_pass http://{behind}; proxy_http_version 1.1; proxy_read_timeout 1h;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_set_header Host $host;
        }}
    }}
}}
"#
    );
    std::fs::write(directory.join("nginx.conf"), config).expect("ours");
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let nginx = Command::new("nginx")
        .env("PATH", path)
        .arg("-c")
        .arg(directory.join("nginx.conf"))
        .kill_on_drop(true)
        .spawn();
    let _nginx = nginx.expect("nginx is needed for this test");
    until("nginx", async || TcpStream::connect(("127.0.0.1", front)).await.ok()).await;

    let link = format!("wss://127.0.0.1:{front}/secret?pin={pin}&sni=www.example.org");
    ann.configure(&peer("bob", &bob.addr, &link));
    linked(&ann.start().await, "ip/websocket").await;
    answers(&ann).await;

    let ask =
        |path: &str| format!("curl -sk --http1.1 -D - https://127.0.0.1:{front}{path} | grep -v ^Date:");
    let site = String::from_utf8(sh(&directory, &ask("/secret2")).await).expect("text");
    assert!(
        site.starts_with("HTTP/1.1 200 OK\r\nServer: nginx")
            && site.ends_with("\r\n\r\nour garden: /secret2\n"),
        "{site}"
    );
    for headers in ["", " -H 'Upgrade: websocket' -H 'Connection: upgrade' -H 'Cookie: session=guess'"] {
        let secret =
            String::from_utf8(sh(&directory, &ask(&format!("/secret{headers}"))).await).expect("text");
        let same = site.replace("/secret2", "/secret").replace("Content-Length: 20", "Content-Length: 19");
        assert_eq!(secret, same, "with{headers}");
    }
}
