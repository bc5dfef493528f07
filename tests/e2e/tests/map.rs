//! What a chain of daemons shows of the network: ways, trees, and a picture.

use std::path::Path;

use byway_api::{OpenNode, Service};
use byway_e2e::{Process, World, peer, until};

/// Daemons in a row, each linked with the one before and the one behind it.
async fn chain(world: &World, protocol: &str, length: usize) -> Vec<Process> {
    let network = format!("[network]\nprotocol = \"{protocol}\"\n");
    let mut daemons: Vec<Process> = (0..length).map(|at| world.daemon(&format!("n{at}"), "")).collect();
    let addrs: Vec<_> = daemons.iter().map(|daemon| daemon.addr).collect();
    let mut before: Option<String> = None;
    for at in 0..length {
        let mut config = network.clone();
        if let Some(endpoint) = before.take() {
            config += &peer(&format!("n{}", at - 1), &addrs[at - 1], &endpoint);
        }
        if at + 1 < length {
            // This one dials in.
            config += &format!("[[peers]]\nname = \"n{}\"\naddr = \"{}\"\n", at + 1, addrs[at + 1]);
        }
        daemons[at].configure(&config);
        let client = daemons[at].start().await;
        before = client.status().await.expect("it runs").endpoints.pop();
    }
    let last = addrs[length - 1].to_string();
    until("a ping from end to end", async || {
        (daemons[0].byway(&["ping", "-c", "1", "-W", "2", &last]).await.status == Some(0)).then_some(())
    })
    .await;
    daemons
}

async fn json(daemon: &Process, args: &[&str]) -> serde_json::Value {
    let ran = daemon.byway(args).await;
    serde_json::from_str(&ran.data).unwrap_or_else(|_| panic!("{args:?}: {ran:?}"))
}

/// What an XML parser reads of a picture: the tooltips.
fn tooltips(text: &str) -> Vec<String> {
    let picture = roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let titles = picture.descendants().filter(|node| node.tag_name().name() == "title");
    titles.filter_map(|title| title.text().map(str::to_owned)).collect()
}

#[tokio::test]
async fn with_beacon_a_trace_names_the_next_hop_and_says_why_no_more_is_known() {
    let world = World::new();
    let daemons = chain(&world, "beacon", 4).await;
    let (next, last) = (daemons[1].addr.to_string(), daemons[3].addr.to_string());
    let trace = daemons[0].byway(&["trace", &last]).await;
    assert!(trace.status == Some(0) && trace.data.contains("way in use: 3 hops, cost "), "{trace:?}");
    assert!(trace.data.contains(&format!("  1  {next}  ")), "{trace:?}");
    assert!(trace.data.contains("each node on the way knows just the next hop"), "{trace:?}");
    assert!(trace.data.contains("answered in "), "{trace:?}");
    let trace = json(&daemons[0], &["trace", "--json", &last]).await;
    assert_eq!((&trace["complete"], &trace["paths"]), (&serde_json::json!(false), &serde_json::json!([])));
    let trace = json(&daemons[0], &["trace", "--json", "n1"]).await;
    assert_eq!((&trace["complete"], &trace["why"]), (&serde_json::json!(true), &serde_json::Value::Null));

    let routes = json(&daemons[0], &["routes", "--json"]).await;
    assert_eq!(routes["routes"].as_array().map(Vec::len), Some(3), "{routes}");
    assert_eq!(routes["trees"], serde_json::json!([]), "beacons have no trees");

    // Nodes beyond the neighbour are known by their ways alone.
    let picture = daemons[0].byway(&["status", "--map", "-"]).await;
    assert_eq!(picture.status, Some(0), "{picture:?}");
    let tooltips = tooltips(&picture.data);
    let about = |what: &str| tooltips.iter().filter(|text| text.contains(what)).count();
    assert_eq!((about(": this node"), about(": a neighbour"), about(": its links are not known")), (1, 1, 2));
}

#[tokio::test]
async fn with_grove_trees_and_places_in_them_are_shown() {
    let world = World::new();
    let daemons = chain(&world, "grove", 4).await;
    let last = daemons[3].addr.to_string();
    let trace = json(&daemons[0], &["trace", "--json", &last]).await;
    let hops = trace["hops"].as_array().cloned().unwrap_or_default();
    assert_eq!(hops.first().and_then(|hop| hop["addr"].as_str()), Some(daemons[1].addr.to_string().as_str()));
    let whole = trace["complete"] == serde_json::json!(true);
    assert_eq!((whole, trace["why"].is_null()), (hops.len() == 3, hops.len() == 3), "{trace}");
    let routes = json(&daemons[0], &["routes", "--json"]).await;
    let to: Vec<_> = routes["routes"].as_array().into_iter().flatten().map(|route| &route["to"]).collect();
    assert!(to.contains(&&serde_json::json!(last)), "{routes}");
    let trees = routes["trees"].as_array().expect("a list");
    assert!(!trees.is_empty(), "{routes}");
    for tree in trees {
        let deep = tree["coordinates"].as_array().map_or(0, Vec::len);
        assert!(deep <= 3 && tree["parent"].is_null() == (deep == 0), "{tree}");
    }
}

#[tokio::test]
async fn with_grove_a_whole_way_is_shown_once_it_has_been_probed() {
    let world = World::new();
    let daemons = chain(&world, "grove", 4).await;
    let last = daemons[3].addr.to_string();
    let trace = until("the whole way", async || {
        // Ways are probed while they are used.
        daemons[0].byway(&["ping", "-c", "1", "-W", "2", &last]).await;
        let trace = json(&daemons[0], &["trace", "--json", &last]).await;
        (trace["complete"] == serde_json::json!(true)).then_some(trace)
    })
    .await;
    let used = &trace["paths"][0];
    assert_eq!(
        (&used["in_use"], used["hops"].as_array().map(Vec::len)),
        (&serde_json::json!(true), Some(3)),
        "{trace}"
    );
    assert_eq!(trace["hops"], used["hops"]);
    let sum: f64 =
        used["hops"].as_array().into_iter().flatten().filter_map(|hop| hop["cost_ms"].as_f64()).sum();
    let whole = used["cost_ms"].as_f64().expect("a number");
    assert!((sum - whole).abs() < 0.05 * whole + 0.5, "{sum} of {whole}: {trace}");
    let text = daemons[0].byway(&["trace", &last]).await.data;
    assert!(text.contains("way in use: 3 hops") && !text.contains('…'), "{text}");
}

#[tokio::test]
async fn a_picture_is_written_whole_and_what_cannot_be_is_said_clearly() {
    let world = World::new();
    let mut daemons = chain(&world, "grove", 3).await;
    let daemon = &daemons[0];
    let file = world.path("map.svg");
    let name = file.to_str().expect("a readable path");
    for _ in 0..2 {
        let ran = daemon.byway(&["status", "--map", name]).await;
        assert!(ran.status == Some(0) && ran.data.is_empty() && ran.notes.contains("map.svg: "), "{ran:?}");
        let text = std::fs::read_to_string(&file).expect("it was written");
        let tooltips = tooltips(&text);
        for other in &daemons[..2] {
            assert!(tooltips.iter().any(|about| about.starts_with(&other.addr.to_string())), "{text}");
        }
        assert!(
            !text.contains("127.0.0.1") && !text.contains("udp://"),
            "nothing of where nodes are: {text}"
        );
    }
    for (args, why) in [
        (["status", "--map", "/nowhere/at/all.svg"].as_slice(), "there is no folder /nowhere/at"),
        (&["status", "--map", "/"], "is a directory"),
        (&["status", "--map", "-", "--watch"], "cannot be used with"),
        (&["status", "--map"], "value is required"),
        (&["trace", "nobody-of-that-name"], "nobody-of-that-name"),
        (&["trace"], "required"),
    ] {
        let ran = daemon.byway(args).await;
        assert!(ran.status == Some(2) && ran.notes.contains(why), "{args:?}: {ran:?}");
    }
    assert!(!Path::new("/nowhere").exists());
    daemons[0].kill().await;
    let ran = daemons[0].byway(&["status", "--map", name]).await;
    assert!(ran.status == Some(2) && ran.notes.contains("no daemon"), "{ran:?}");
    assert!(std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with("</svg>\n")), "the old one stays");
}

#[tokio::test]
async fn overlay_addresses_of_daemons_and_of_programs_nodes_are_found_from_the_other_end() {
    for protocol in ["beacon", "grove"] {
        let world = World::new();
        let mut daemons = chain(&world, protocol, 3).await;
        let client = daemons[2].client().await;
        let program = Service::open(&client, OpenNode::default()).await.expect("room for a node");
        for addr in [daemons[2].addr, program.addr()] {
            // One address in some thousand has no IPv6 form.
            let Ok(ip) = addr.ipv6() else { continue };
            let ip = ip.to_string();
            until("the whole address", async || {
                let found = daemons[0].byway(&["find", &ip, "--wait", "3"]).await;
                (found.status == Some(0))
                    .then(|| assert_eq!(found.data.trim(), addr.to_string(), "{protocol}"))
            })
            .await;
        }
    }
}
