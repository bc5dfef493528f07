//! Daemons that link over I2P, through two i2pd routers of a private network.

use anyhow::{Context, Result, ensure};
use byway_netns::{Host, World};
use byway_testbed::{I2pNetwork, Node};

fn links(sam: u16) -> String {
    format!("i2p = {{ mode = \"sam\", sam = \"127.0.0.1:{sam}\", tunnel_length = 1, tunnel_count = 3 }}\n")
}

#[test]
fn two_daemons_link_over_i2p_and_show_no_private_key() -> Result<()> {
    let world = World::new()?;
    let host = world.host("i2p")?;
    let mut network = I2pNetwork::start(&host)?;
    let result = linked(&host, &network);
    result.with_context(|| format!("routers that died: {:#?}", network.dead()))
}

fn linked(host: &Host, network: &I2pNetwork) -> Result<()> {
    let begun = std::time::Instant::now();
    let mut ann = Node::new(host, "ann", &links(network.sam(0)))?;
    let mut bob = Node::new(host, "bob", &links(network.sam(1)))?;
    for node in [&mut ann, &mut bob] {
        node.start(host)?;
    }
    for node in [&ann, &bob] {
        node.becomes("i2p", "ready")?;
    }
    println!("both sessions are there after {:?}", begun.elapsed());
    let (ann_name, bob_name) = (ann.endpoint("i2p")?, bob.endpoint("i2p")?);
    ensure!(bob_name.ends_with(".b32.i2p"), "{bob_name}");
    ann.byway(&["peer", "add", &bob.addr, &bob_name])?;
    bob.byway(&["peer", "add", &ann.addr, &ann_name])?;
    println!("first answer after {:?}", ann.reaches(&bob)?);
    println!("the other way after {:?}", bob.reaches(&ann)?);
    let link = &ann.list("links")?[0];
    // Both dial; the link may go over either connection.
    let is_there = |name: &str| name == bob_name || name.starts_with("i2p #");
    ensure!(link["class"] == "i2p/stream" && link["endpoint"].as_str().is_some_and(is_there), "{link}");
    println!("round trip {} ms", link["rtt_ms"]);

    no_private_key_is_shown(&[&ann, &bob], &[&ann_name, &bob_name])
}

/// Neither logs at the level `debug` nor anything that the API says hold a part of a private key, or a name.
fn no_private_key_is_shown(nodes: &[&Node], names: &[&String]) -> Result<()> {
    for node in nodes {
        let log = node.log();
        ensure!(log.contains("DEBUG") || log.contains("INFO"), "nothing is logged:\n{log}");
        let mut shown = log.clone();
        for path in ["/v1/status", "/v1/links", "/v1/peers"] {
            shown += &node.json(path)?.to_string();
        }
        shown += &node.ran(&["links"])?.1;
        let key = std::fs::read_to_string(node.path("i2p/destination.key"))?;
        ensure!(key.len() > 800, "this is no private key");
        for at in 0..key.len() - 24 {
            ensure!(!shown.contains(&key[at..at + 24]), "a part of the private key is shown");
        }
        for secret in names.iter().filter_map(|name| name.get(6..20)).chain(["127.0.0.1"]) {
            let line = log.lines().find(|line| line.contains(secret));
            ensure!(line.is_none(), "the log shows {secret}: {line:?}");
        }
    }
    Ok(())
}
