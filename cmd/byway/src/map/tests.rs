//! Pictures of chains, stars, meshes and odd maps.

use std::collections::BTreeSet;

use byway_api::body::{Map, MapLink, RouteInfo};
use byway_identity::Addr;

use super::draw::Drawing;
use super::layout::{Joint, ROOM, layout};
use super::*;

fn addr(number: usize) -> Addr {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..16].copy_from_slice(&(number as u64).to_be_bytes());
    Addr::from_bytes(bytes)
}

fn link(a: usize, b: usize) -> MapLink {
    let class = ["ip/udp", "ip/quic", "tor/onion", "ethernet/lan", "1dn/lora"][(a + b) % 5];
    let cost_ms = [0.4, 12.0, 60.0, 400.0][(a * 7 + b) % 4];
    MapLink { a: addr(a), b: addr(b), class: class.into(), cost_ms, in_tree: !a.is_multiple_of(3) }
}

fn map(nodes: usize, links: Vec<MapLink>) -> Map {
    Map { addr: addr(0), trees: vec![], nodes: (0..nodes).map(addr).collect(), links, cut: false }
}

fn route(to: usize, next: usize, hops: Option<u8>) -> RouteInfo {
    let (plane, family, class) = ("any".into(), "ip".into(), "ip/udp".into());
    RouteInfo { to: addr(to), plane, next: addr(next), family, class, hops, cost_ms: 9.0, paths: 0 }
}

/// Numbers from a seed, as topologies need them.
fn numbers(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below.max(1)
    }
}

fn random(nodes: usize, extra: usize, seed: u64) -> Map {
    let mut next = numbers(seed);
    let mut links: Vec<_> = (1..nodes).map(|node| link(next(node), node)).collect();
    links.extend((0..extra).map(|_| link(next(nodes), next(nodes))));
    map(nodes, links)
}

/// The picture, as an XML parser reads it: the addresses of nodes by their tooltips, and how many links.
fn read(text: &str) -> (BTreeSet<String>, usize) {
    let document = roxmltree::Document::parse(text).expect("it is well-formed XML");
    assert_eq!(document.root_element().tag_name().namespace(), Some("http://www.w3.org/2000/svg"));
    let titles = |tag: &'static str| {
        let groups =
            document.descendants().filter(move |node| node.has_tag_name(("http://www.w3.org/2000/svg", tag)));
        groups
            .filter_map(|shape| shape.prev_sibling_element())
            .filter_map(|title| title.text().map(str::to_owned))
    };
    for element in document.descendants() {
        for attribute in element.attributes() {
            assert!(
                !attribute.value().contains("NaN") && !attribute.value().contains("inf"),
                "{attribute:?}"
            );
        }
    }
    let nodes = titles("circle").filter_map(|title| title.split_once(':').map(|(addr, _)| addr.to_owned()));
    (nodes.collect(), titles("path").count())
}

fn drawn(map: &Map, routes: &[RouteInfo]) -> (Drawing, String) {
    draw(map, routes, 500)
}

#[test]
fn every_node_and_every_link_is_in_the_picture() {
    for (nodes, extra) in [(1, 0), (2, 0), (5, 3), (40, 60), (500, 500)] {
        let map = random(nodes, extra, nodes as u64);
        let (drawing, text) = drawn(&map, &[]);
        let (seen, links) = read(&text);
        assert_eq!(seen, map.nodes.iter().map(ToString::to_string).collect(), "{nodes} nodes");
        // A node that is linked to itself is not drawn so.
        let real = map.links.iter().filter(|link| link.a != link.b).count();
        assert_eq!((links, drawing), (real, Drawing { nodes, links: real, cut: false }), "{nodes} nodes");
        assert!(text.len() < 400 * (nodes + real) + 6_000, "{} bytes for {nodes} nodes", text.len());
    }
}

#[test]
fn no_node_covers_another_in_whatever_network() {
    let chain = map(500, (1..500).map(|node| link(node - 1, node)).collect());
    let star = map(500, (1..500).map(|node| link(0, node)).collect());
    let hub = map(500, (1..500).map(|node| link(node.min(2) - 1, node)).collect());
    let mut all = vec![chain, star, hub];
    all.extend((0..20).map(|seed| random(5 + 25 * seed, 30, seed as u64)));
    for (number, map) in all.iter().enumerate() {
        let spots: Vec<_> = layout(map, &[]).into_values().collect();
        assert_eq!(spots.len(), map.nodes.len());
        for (at, one) in spots.iter().enumerate() {
            for other in &spots[..at] {
                let apart = (one.x() - other.x()).hypot(one.y() - other.y());
                assert!(apart > 0.6 * ROOM, "map {number}: {one:?} and {other:?} are {apart} apart");
            }
        }
    }
}

#[test]
fn rings_are_hops_and_this_node_is_in_the_middle() {
    let map = map(4, vec![link(0, 1), link(1, 2), link(2, 3)]);
    let spots = layout(&map, &[]);
    let rings: Vec<_> = (0..4).map(|node| spots[&addr(node)].ring).collect();
    assert_eq!(rings, [0, 1, 2, 3]);
    assert_eq!((spots[&addr(0)].radius, spots[&addr(0)].joint), (0.0, Joint::Middle));
    assert_eq!(spots[&addr(3)].joint, Joint::Link(2));
}

#[test]
fn nodes_without_known_links_are_drawn_behind_the_neighbour_that_leads_to_them() {
    // 2 is three hops away by 1; of 3 nothing is known but its address, and a link to 4.
    let map = map(4, vec![link(0, 1), link(3, 4)]);
    let routes = [route(1, 1, Some(1)), route(2, 1, Some(3)), route(5, 1, None), route(6, 6, Some(1))];
    let (drawing, text) = drawn(&map, &routes);
    assert_eq!(drawing.nodes, 7, "the target of a route is a known node");
    let (seen, links) = read(&text);
    assert_eq!((seen.len(), links), (7, 2));
    assert!(text.contains("way, its links not known") && text.contains("just its address known"), "{text}");
    let spots = layout(&map, &routes);
    assert_eq!((spots[&addr(2)].ring, spots[&addr(2)].joint), (3, Joint::Way(1)));
    let map = Map { nodes: vec![addr(6)], ..map };
    assert_eq!(
        (layout(&map, &routes)[&addr(6)].ring, layout(&map, &routes)[&addr(6)].joint),
        (1, Joint::Way(3))
    );
    assert_eq!((spots[&addr(3)].joint, spots[&addr(4)].joint), (Joint::Nothing, Joint::Link(1)));
}

#[test]
fn programs_of_this_machine_are_not_shown() {
    let own = MapLink { a: addr(7), b: addr(0), class: "loopback".into(), cost_ms: 0.1, in_tree: true };
    let mut map = map(2, vec![link(0, 1), own]);
    map.nodes.push(addr(7));
    let program = RouteInfo { class: "loopback".into(), ..route(8, 8, Some(1)) };
    let (drawing, text) = drawn(&map, &[program]);
    assert_eq!(drawing, Drawing { nodes: 2, links: 1, cut: false });
    for hidden in [7, 8] {
        assert!(!text.contains(&addr(hidden).to_string()), "{text}");
    }
}

#[test]
fn a_map_that_is_too_large_is_cut_and_says_so() {
    let map = random(300, 0, 1);
    let routes: Vec<_> = (300..400).map(|to| route(to, 0, Some(3))).collect();
    let (drawing, text) = draw(&map, &routes, 100);
    assert!(
        drawing.nodes == 100 && drawing.cut && text.contains("more is known than is drawn"),
        "{drawing:?}"
    );
    assert_eq!(read(&text).0.len(), 100);
}

#[test]
fn odd_texts_and_numbers_of_a_daemon_do_no_harm() {
    let class = "<script>alert(1)</script>&\"".to_owned();
    let odd = |cost_ms| MapLink { a: addr(0), b: addr(1), class: class.clone(), cost_ms, in_tree: false };
    let map = map(2, vec![odd(f64::MAX), odd(0.0), odd(-1.0)]);
    let (_, text) = drawn(&map, &[route(1, 9, Some(255)), route(9, 9, Some(0))]);
    let document = roxmltree::Document::parse(&text).expect("it is well-formed XML");
    assert!(document.descendants().all(|node| node.tag_name().name() != "script"), "{text}");
}

#[test]
fn the_same_map_gives_the_same_file() {
    let map = random(60, 30, 5);
    assert_eq!(drawn(&map, &[]).1, drawn(&map, &[]).1);
}
