//! Counters and gauges of a running core, in the text form of OpenMetrics.
//!
//! Labels name overlay addresses, which the owner of the daemon may see; they never name a transport's address.

use std::fmt::Write;

use byway_api::Kind;

use crate::driver::Driver;

/// One family of metrics under construction.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    suffix: &'static str,
}

/// All families, without the closing `# EOF`.
pub(crate) fn text(driver: &mut Driver) -> String {
    let mut text = String::new();
    process(&mut text, driver);
    links(&mut text, driver);
    handshakes(&mut text, driver);
    nodes(&mut text, driver);
    text
}

fn process(text: &mut String, driver: &Driver) {
    let mut uptime = gauge(text, "byway_uptime_seconds", "Time since the core started.");
    uptime.value("", driver.started.elapsed().as_secs());
    let mut waiting = gauge(text, "byway_transport_queue_frames", "Frames that wait for a transport.");
    for (number, slot) in driver.slots.iter().enumerate() {
        waiting.value(&format!("transport=\"{number}\""), slot.outgoing.len() as u64);
    }
    let mut dropped =
        counter(text, "byway_transport_dropped_frames", "Frames that found a transport's queue full.");
    for (number, slot) in driver.slots.iter().enumerate() {
        dropped.value(&format!("transport=\"{number}\""), slot.dropped);
    }
}

fn links(text: &mut String, driver: &Driver) {
    let links = driver.core.links().links();
    let labels: Vec<_> = links
        .iter()
        .enumerate()
        .map(|(number, link)| format!("link=\"{number}\",peer=\"{}\",class=\"{}\"", link.peer, link.class))
        .collect();
    let each = || labels.iter().zip(&links);
    let mut frames = counter(text, "byway_link_frames", "Frames on a link.");
    for (labels, link) in each() {
        frames.value(&format!("{labels},direction=\"sent\""), link.sent.0);
        frames.value(&format!("{labels},direction=\"received\""), link.received.0);
    }
    let mut bytes = counter(text, "byway_link_bytes", "Bytes of frames on a link.");
    for (labels, link) in each() {
        bytes.value(&format!("{labels},direction=\"sent\""), link.sent.1);
        bytes.value(&format!("{labels},direction=\"received\""), link.received.1);
    }
    let mut rtt = gauge(text, "byway_link_rtt_microseconds", "Smoothed round-trip time of a link.");
    for (labels, link) in each() {
        if let Some(measured) = link.rtt {
            rtt.value(labels, measured.as_micros() as u64);
        }
    }
    let dropped = driver.core.links().counters().dropped;
    let mut drops = counter(text, "byway_link_dropped_frames", "Frames that links dropped, by reason.");
    drops.value("reason=\"not-up\"", dropped.not_up);
    drops.value("reason=\"other-network\"", dropped.other_network);
    drops.value("reason=\"unlisted\"", dropped.unlisted);
}

fn handshakes(text: &mut String, driver: &Driver) {
    let mut users = vec![("link=\"all\"".to_owned(), driver.core.links().counters().session)];
    users.extend(
        driver.core.nodes().into_iter().map(|node| (format!("node=\"{}\"", node.addr), node.sessions)),
    );
    let mut started = counter(text, "byway_handshakes", "Handshakes, by how far they came.");
    for (labels, counters) in &users {
        started.value(&format!("{labels},state=\"started\""), counters.handshakes);
        started.value(&format!("{labels},state=\"established\""), counters.established);
    }
    let mut frames = counter(text, "byway_session_frames", "Frames sealed and opened.");
    for (labels, counters) in &users {
        frames.value(&format!("{labels},direction=\"sealed\""), counters.sealed);
        frames.value(&format!("{labels},direction=\"opened\""), counters.opened);
    }
    let mut dropped = counter(text, "byway_session_dropped_datagrams", "Datagrams dropped, by reason.");
    for (labels, counters) in &users {
        for (reason, count) in [
            ("unknown", counters.unknown),
            ("forged", counters.forged),
            ("replayed", counters.replayed),
            ("malformed", counters.malformed),
            ("overload", counters.overload),
        ] {
            dropped.value(&format!("{labels},reason=\"{reason}\""), count);
        }
    }
}

fn nodes(text: &mut String, driver: &Driver) {
    let nodes = driver.core.nodes();
    let each = || nodes.iter().map(|node| (format!("node=\"{}\"", node.addr), node));
    let mut payloads = counter(text, "byway_node_payloads", "Messages and packets of a hosted node.");
    for (labels, node) in each() {
        payloads.value(&format!("{labels},direction=\"sent\""), node.counters.sent.0);
        payloads.value(&format!("{labels},direction=\"received\""), node.counters.received.0);
    }
    let mut bytes = counter(text, "byway_node_bytes", "Bytes of messages and packets of a hosted node.");
    for (labels, node) in each() {
        bytes.value(&format!("{labels},direction=\"sent\""), node.counters.sent.1);
        bytes.value(&format!("{labels},direction=\"received\""), node.counters.received.1);
    }
    let mut drops = counter(text, "byway_node_dropped", "What a hosted node dropped, by reason.");
    for (labels, node) in each() {
        for (reason, count) in [
            ("expired", node.counters.expired),
            ("overflow", node.counters.overflow),
            ("unroutable", node.counters.unroutable),
            ("refused-frame", node.counters.refused),
            ("malformed", node.counters.malformed),
        ] {
            drops.value(&format!("{labels},reason=\"{reason}\""), count);
        }
        if let Some(shared) = driver.nodes.get(&node.addr) {
            let dropped = shared.inbox(Kind::Message).load().1 + shared.inbox(Kind::Packet).load().1;
            drops.value(&format!("{labels},reason=\"not-taken\""), dropped);
        }
    }
    let mut held = gauge(text, "byway_node_queue", "Payloads that wait, by queue.");
    for (labels, node) in each() {
        held.value(&format!("{labels},queue=\"held\""), node.held as u64);
        if let Some(shared) = driver.nodes.get(&node.addr) {
            held.value(&format!("{labels},queue=\"messages\""), shared.inbox(Kind::Message).load().0 as u64);
            held.value(&format!("{labels},queue=\"packets\""), shared.inbox(Kind::Packet).load().0 as u64);
        }
    }
}

fn counter<'a>(text: &'a mut String, name: &'static str, help: &str) -> Family<'a> {
    family(text, name, "counter", "_total", help)
}

fn gauge<'a>(text: &'a mut String, name: &'static str, help: &str) -> Family<'a> {
    family(text, name, "gauge", "", help)
}

fn family<'a>(
    text: &'a mut String,
    name: &'static str,
    kind: &str,
    suffix: &'static str,
    help: &str,
) -> Family<'a> {
    line(text, format_args!("# HELP {name} {help}"));
    line(text, format_args!("# TYPE {name} {kind}"));
    Family { text, name, suffix }
}

impl Family<'_> {
    fn value(&mut self, labels: &str, value: u64) {
        let (name, suffix) = (self.name, self.suffix);
        if labels.is_empty() {
            line(self.text, format_args!("{name}{suffix} {value}"));
        } else {
            line(self.text, format_args!("{name}{suffix}{{{labels}}} {value}"));
        }
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a string cannot fail");
}
