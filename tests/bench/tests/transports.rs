//! The benchmark of transports in a short form: every figure is there. How fast is not judged here.

use std::time::Duration;

use anyhow::{Result, ensure};
use byway_bench::transports::Plan;
use byway_testbed::Kind;

#[test]
fn each_transport_that_is_asked_for_has_its_row() -> Result<()> {
    let plan = Plan {
        kinds: vec![Kind::Udp, Kind::Tls],
        bytes: 1_000_000,
        transfers: 1,
        pings: 3,
        idle: Duration::ZERO,
        command: "cargo xtask bench transports".to_owned(),
    };
    let report = plan.run("byway".to_owned(), |row| println!("{row:?}"))?;
    for row in &report.rows {
        let figures = [row.joined_s, row.rtt_ms, row.mbits, row.rss_mib, row.back_s[0], row.back_s[1]];
        ensure!(figures.iter().all(|figure| *figure > 0.0), "{row:?}");
    }
    let text = report.section();
    ensure!(text.contains("| udp |") && text.contains("| tls |"), "{text}");
    Ok(())
}
