use std::collections::BTreeMap;

use super::*;
use crate::side::aead::Speed;
use crate::side::goals::{Bound, goals};
use crate::side::record::{Machine, Row};

fn row(peer: &str, hosts: usize, profile: &str, samples: &[(&str, f64)]) -> Row {
    Row {
        peer: peer.into(),
        version: "1".into(),
        mtu: Some(1420),
        hosts,
        profile: profile.into(),
        samples: samples.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
        ..Row::default()
    }
}

fn campaign(kind: Kind, rows: Vec<Row>) -> Campaign {
    Campaign {
        kind,
        began: "2026-11-21T12:00:00Z".into(),
        seconds: 60.0,
        interrupted: false,
        command: "cargo xtask bench peers".into(),
        seed: 1,
        repetitions: 1,
        tcp_seconds: 4,
        machine: Machine {
            processor: "P".into(),
            cores: 2,
            kernel: "6".into(),
            memory: 1,
            tools: BTreeMap::new(),
        },
        congestion: "cubic".into(),
        wire_rate: None,
        aead: vec![Speed { cipher: "aes-256-gcm".into(), size: 1424, seal: 0.3, open: 0.3 }],
        rows,
    }
}

fn direct() -> Campaign {
    let mut theirs =
        row("wireguard-go", 2, "", &[(measure::TCP1, 1000.0), (measure::TCP4, 1000.0), (measure::CPU, 5.0)]);
    theirs.failed.insert("load".into(), "more\nno ping was answered\n".into());
    campaign(
        Kind::Direct,
        vec![
            row(RAW, 2, "", &[(measure::TCP1, 10_000.0), (measure::TCP4, 10_000.0), (measure::CPU, 0.0)]),
            row("byway", 2, "", &[(measure::TCP1, 4500.0), (measure::TCP4, 3000.0), (measure::CPU, 1.5)]),
            theirs,
        ],
    )
}

#[test]
fn a_section_is_replaced_and_all_others_stay_in_their_order() {
    let mut page =
        Page::parse("# Benchmarks\n\nold words\n\n## Messages\n\nm\n\n### part\n\nof it\n\n## Notes\n\nn\n");
    page.put("Byte streams", "b");
    page.put("Goals", "g\n\n");
    page.put("Byte streams", "c");
    let titles: Vec<_> = page.sections.iter().map(|(title, _)| title.as_str()).collect();
    assert_eq!(titles, ["Goals", "Messages", "Byte streams", "Notes"]);
    let text = page.text();
    assert!(
        text.contains("## Messages\n\nm\n\n### part\n\nof it\n\n## Byte streams\n\nc\n\n## Notes\n\nn\n"),
        "{text}"
    );
    assert_eq!(Page::parse(&text), page);
}

#[test]
fn goals_are_ratios_of_medians_with_a_verdict_each() {
    let goals = goals(&[direct()]);
    let find = |what: &str| goals.iter().find(|goal| goal.what == what).unwrap();
    // The worse of 4.5 and 3.
    let tcp = find("TCP, 1 and 4 streams, over wireguard-go");
    assert_eq!((tcp.value, tcp.verdict()), (Some(3.0), "reached"));
    let cost = find("daemons' CPU s/GB over wireguard-go's");
    assert_eq!((cost.shown(), cost.verdict()), ("0.30".to_owned(), "reached"));
    let alone = find("daemons' CPU s/GB over AES-256-GCM alone");
    assert_eq!((alone.shown(), alone.must), ("2.50".to_owned(), Bound::Most(3.0)));
    assert_eq!(find("TCP, 1 stream, over the veth alone").verdict(), "beyond the stretch");
    assert_eq!(find("idle RTT over wireguard-go's").verdict(), "not measured");
    assert!(goals_section(&goals).contains("| 3.00 | ≥ 2.5 | ≥ 4 | reached |"));
}

#[test]
fn a_goal_that_is_not_reached_is_called_missed() {
    let goal =
        Goal { what: "x".into(), value: Some(0.5), must: Bound::Least(1.0), stretch: Bound::Least(2.0) };
    assert_eq!(goal.verdict(), "missed");
}

#[test]
fn the_section_has_a_line_for_each_peer_the_command_and_what_failed() {
    let (title, text) = section(&direct());
    assert_eq!(title, "Peers side by side");
    assert!(text.contains("| byway | 1 | 1420 | 4500 | 3000 | 1.50 |"), "{text}");
    assert!(text.contains("| veth-raw | 1 | 1420 | 10000 | 10000 | – |"), "{text}");
    assert!(text.contains("```sh\ncargo xtask bench peers\n```"), "{text}");
    assert!(text.contains("- wireguard-go failed in turn 1 at load : no ping was answered\n"), "{text}");
}

#[test]
fn shares_of_wires_and_relays_are_told() {
    let rows = vec![
        row("byway", 2, "clean", &[(measure::TCP1, 200.0)]),
        row("byway", 2, "loss1", &[(measure::TCP1, 120.0)]),
    ];
    let (_, text) = section(&campaign(Kind::Wire, rows));
    assert!(text.contains("| byway | 1 | 200 | – | 0.60 | – |"), "{text}");
    let rows = vec![
        row("byway", 2, "", &[(measure::TCP1, 200.0)]),
        row("byway", 3, "", &[(measure::TCP1, 150.0), (measure::CPU_END, 1.0), (measure::CPU_RELAY, 0.5)]),
    ];
    let relay = campaign(Kind::Relay, rows);
    assert!(section(&relay).1.contains("| byway | 200 | 150 | 0.75 |"));
    let goals = goals(&[relay]);
    let kept = goals.iter().find(|goal| goal.what == "through one relay, over direct").unwrap();
    assert_eq!((kept.shown(), kept.verdict()), ("0.75".to_owned(), "reached"));
}

#[test]
fn json_keeps_every_sample_and_leads_back() {
    let before = direct();
    let text = json(&before).unwrap();
    let after: Campaign = serde_json::from_str(&text).unwrap();
    assert_eq!(after.rows.len(), 3);
    assert_eq!(after.rows[1].samples, before.rows[1].samples);
    assert_eq!(text.lines().filter(|line| line.contains("\"peer\"")).count(), 3);
}

#[test]
fn the_plot_has_a_bar_for_each_peer_and_nothing_for_nothing() {
    let svg = plot::campaign(&direct()).unwrap();
    assert!(
        svg.contains(">byway</text>")
            && svg.contains(">4500</text>")
            && svg.contains("prefers-color-scheme: dark")
    );
    // Two throughputs of three peers, and what two daemons cost.
    assert_eq!(svg.matches("<rect").count(), 8);
    assert!(plot::campaign(&campaign(Kind::Direct, Vec::new())).is_none());
}
