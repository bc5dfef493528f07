//! The side-by-side benchmark in a short form, with Byway alone: every figure is there. How fast is not judged here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::time::Duration;

use byway_bench::side::campaign::{Plan, Profile, Test};
use byway_bench::side::measure;
use byway_bench::side::page;
use byway_bench::side::peer::{Byway, Peer, Programs, Raw};
use byway_bench::side::record::{Campaign, Kind};
use clap::ValueEnum as _;

fn plan(kind: Kind, tests: &[Test]) -> Plan {
    Plan {
        kind,
        peers: vec![Box::new(Byway::with("byway", &[]).unwrap())],
        tests: tests.to_vec(),
        profiles: Vec::new(),
        wire_rate: 50_000_000,
        repetitions: 1,
        seconds: 1,
        udp_seconds: 0.1,
        udp_loss: 0.01,
        pings: 50,
        wait_quiet: Duration::ZERO,
        quiet: 0.1,
        seed: 1,
        programs: Programs::default(),
        command: "cargo xtask bench peers".into(),
    }
}

fn run(plan: &Plan) -> Campaign {
    let campaign = plan.run(|row| println!("{row:?}")).unwrap();
    for row in &campaign.rows {
        assert!(row.failed.is_empty(), "{row:?}");
    }
    campaign
}

/// All of them are there; those that a busy machine does not bring down to nothing are more than that.
fn has(campaign: &Campaign, hosts: usize, profile: &str, keys: &[&str]) {
    for key in keys {
        let value = campaign.median("byway", hosts, profile, key);
        let may_be_nothing = key.contains("udp") || key.contains("cpu");
        assert!(value.is_some_and(|value| value > 0.0 || may_be_nothing && value == 0.0), "{key}: {value:?}");
    }
}

#[test]
fn a_campaign_has_every_figure_of_every_test_and_a_page_of_them() {
    let campaign = run(&plan(Kind::Direct, Test::value_variants()));
    let columns: Vec<_> = measure::THROUGHPUT.iter().chain(measure::SMALL).map(|column| column.key).collect();
    let figures: Vec<_> = columns.into_iter().filter(|key| *key != measure::OTHERS).collect();
    has(&campaign, 2, "", &figures);
    assert_eq!(campaign.aead.len(), 2);
    assert!(campaign.rows[0].mtu.is_some_and(|mtu| mtu >= 1280), "{:?}", campaign.rows[0]);

    let (_, text) = page::section(&campaign);
    assert!(text.contains("| byway |"), "{text}");
    let again: Campaign = serde_json::from_str(&page::json(&campaign).unwrap()).unwrap();
    assert_eq!(again.rows[0].samples, campaign.rows[0].samples);
}

#[test]
fn wires_with_faults_and_lines_of_three_hosts_have_their_figures() {
    let mut wire = plan(Kind::Wire, &[Test::Tcp1]);
    wire.profiles = vec![Profile::Clean, Profile::Loss1];
    let campaign = run(&wire);
    for profile in ["clean", "loss1"] {
        has(&campaign, 2, profile, &[measure::TCP1]);
    }
    assert!(page::share(&campaign, "byway", "loss1").is_some_and(|share| share > 0.0));

    let campaign = run(&plan(Kind::Relay, &[Test::Tcp1]));
    has(&campaign, 2, "", &[measure::TCP1, measure::CPU_END]);
    has(&campaign, 3, "", &[measure::TCP1, measure::CPU_END, measure::CPU_RELAY]);
}

#[test]
fn a_peer_whose_configuration_is_refused_is_told_and_does_not_end_the_campaign() {
    let mut plan = plan(Kind::Direct, &[Test::Rtt]);
    let broken = Byway::with("byway-broken", &["no.such_key=1".to_owned()]).unwrap();
    plan.peers = vec![Box::new(broken) as Box<dyn Peer>, Box::new(Raw)];
    let campaign = plan.run(|_| ()).unwrap();
    assert!(campaign.rows[0].failed["start"].contains("no"), "{:?}", campaign.rows[0].failed);
    assert!(campaign.rows[1].failed.is_empty(), "{:?}", campaign.rows[1]);
}
