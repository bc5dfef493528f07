//! Daemons that link over onion services, through two tors of a private network.

use anyhow::{Context, Result, ensure};
use byway_netns::{Host, World, wait_for};
use byway_testbed::{Auth, Node, PATIENCE, TorClient, TorNetwork};
use nix::sys::signal::Signal;

const PASSWORD: &str = "open sesame";

fn links(client: &TorClient, more: &str) -> String {
    format!(
        "tor = {{ mode = \"system\", socks = \"127.0.0.1:{}\", control = \"127.0.0.1:{}\"{more} }}\n",
        client.socks, client.port
    )
}

#[test]
fn two_daemons_link_over_onion_services_and_find_each_other_again_whoever_restarts() -> Result<()> {
    let world = World::new()?;
    let host = world.host("tor")?;
    let begun = std::time::Instant::now();
    let network = TorNetwork::start(&host)?;
    let by_cookie = network.client(&host, 0, Auth::Cookie)?;
    let mut by_password = network.client(&host, 1, Auth::Password(PASSWORD))?;
    println!("the network is up after {:?}", begun.elapsed());

    let mut ann = Node::new(&host, "ann", &links(&by_cookie, ""))?;
    let mut bob = Node::new(&host, "bob", &links(&by_password, ", password_file = \"password\", port = 80"))?;
    std::fs::write(bob.path("password"), PASSWORD)?;
    for node in [&mut ann, &mut bob] {
        node.start(&host)?;
    }
    for node in [&ann, &bob] {
        node.becomes("tor", "ready")?;
    }
    let (ann_name, bob_name) = (ann.endpoint("tor")?, bob.endpoint("tor")?);
    ensure!(ann_name.ends_with(".onion:2561") && bob_name.ends_with(".onion:80"), "{ann_name} {bob_name}");
    ann.byway(&["peer", "add", &bob.addr, &bob_name])?;
    bob.byway(&["peer", "add", &ann.addr])?;
    println!("first answer after {:?}", ann.reaches(&bob)?);
    println!("the other way after {:?}", bob.reaches(&ann)?);

    let link = &ann.list("links")?[0];
    ensure!(link["class"] == "tor/onion" && link["endpoint"] == bob_name.as_str(), "{link}");
    println!("round trip {} ms", link["rtt_ms"]);
    own_circuits(&ann, &by_cookie)?;

    bob.end(Signal::SIGTERM)?;
    bob.start(&host)?;
    println!("who was dialled restarted: answer after {:?}", ann.reaches(&bob)?);
    bob.becomes("tor", "ready")?;
    ensure!(bob.endpoint("tor")? == bob_name, "the name is kept");
    ann.end(Signal::SIGKILL)?;
    ann.start(&host)?;
    println!("who dialled was killed and restarted: answer after {:?}", bob.reaches(&ann)?);

    by_password.stop()?;
    let told = bob.becomes("tor", "failing")?;
    ensure!(
        told["detail"].to_string().contains("is tor running")
            || told["detail"].to_string().contains("was it stopped"),
        "{told}"
    );
    by_password.start(&host)?;
    bob.becomes("tor", "ready")?;
    println!("tor restarted: answer after {:?}", ann.reaches(&bob)?);

    what_is_wrong_is_told(&host, &by_password, &mut bob)?;
    nothing_personal_is_logged(&[&ann, &bob], &[&ann_name, &bob_name])
}

/// The circuit to a peer is for its context alone, and a name that nobody has is told.
fn own_circuits(ann: &Node, tor: &TorClient) -> Result<()> {
    let circuits = tor.asks("GETINFO circuit-status")?;
    let to_peer = circuits.lines().find(|line| line.contains("PURPOSE=HS_CLIENT_REND"));
    let to_peer = to_peer.with_context(|| format!("no circuit to a service:\n{circuits}"))?;
    ensure!(to_peer.contains("SOCKS_USERNAME=\"byway\" SOCKS_PASSWORD=\""), "{to_peer}");
    // A name that is well formed, and nobody's: the example of Tor's specification.
    let nobody = "tor://pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion:1";
    let addr = "-".repeat(43);
    ann.byway(&["peer", "add", &addr, nobody])?;
    let mut trouble = String::new();
    let waited = wait_for(PATIENCE, "what is wrong with the peer", || {
        let peers = ann.list("peers").unwrap_or_default();
        let peers = peers.as_array().cloned().unwrap_or_default();
        let peer = peers.iter().find(|peer| peer["addr"] == addr.as_str());
        trouble = peer.map(|peer| peer["trouble"].to_string()).unwrap_or_default();
        trouble.contains("no such onion service")
    });
    waited.context(trouble)?;
    ann.byway(&["peer", "rm", &addr]).map(drop)
}

fn what_is_wrong_is_told(host: &Host, tor: &TorClient, bob: &mut Node) -> Result<()> {
    let mistyped = "tor://pg7mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion:1";
    let (is_ok, _, notes) = bob.ran(&["peer", "add", &"-".repeat(43), mistyped])?;
    ensure!(!is_ok && notes.contains("mistyped"), "{notes}");
    bob.end(Signal::SIGTERM)?;
    std::fs::write(bob.path("password"), "wrong")?;
    bob.start(host)?;
    let told = bob.becomes("tor", "failing")?;
    ensure!(told["detail"].to_string().contains("HashedControlPassword"), "{told}");
    let (is_ok, _, notes) = bob.ran(&["links"])?;
    ensure!(is_ok && notes.contains("tor: failing: tor refuses the control password"), "{notes}");
    bob.end(Signal::SIGTERM)?;
    bob.configure(&links(tor, "").replace(&tor.port.to_string(), "9"))?;
    bob.start(host)?;
    let told = bob.becomes("tor", "failing")?;
    ensure!(told["detail"].to_string().contains("links.tor.control says where it is"), "{told}");
    Ok(())
}

/// Logs at the level `debug` name no place, no onion and no key.
fn nothing_personal_is_logged(nodes: &[&Node], names: &[&String]) -> Result<()> {
    for node in nodes {
        let log = node.log();
        ensure!(log.contains("DEBUG") || log.contains("INFO"), "nothing is logged:\n{log}");
        let key = std::fs::read_to_string(node.path("tor/onion.pem"))?;
        let key = key.lines().nth(1).context("an empty key file")?;
        let mut forbidden = vec!["127.0.0.1", key, PASSWORD];
        forbidden.extend(names.iter().filter_map(|name| name.get(6..20)));
        for secret in forbidden {
            let line = log.lines().find(|line| line.contains(secret));
            ensure!(line.is_none(), "the log shows {secret}: {line:?}");
        }
    }
    Ok(())
}
