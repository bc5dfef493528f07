//! Counters and gauges of a running core, in the text form of OpenMetrics.
//!
//! Labels name overlay addresses, which the owner of the daemon may see; they never name a transport's address.

use std::fmt::Write;

use byway_api::Kind;
use byway_link::{LinkStatus, Role};
use byway_session::Counters;

use crate::driver::Driver;
use crate::types::NodeStatus;

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
    sessions(&mut text, driver);
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
    let labels: Vec<_> = links.iter().map(link_labels).collect();
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
    let mut active = gauge(text, "byway_link_active", "Whether a link carries what may go any way.");
    for (labels, link) in each() {
        active.value(labels, u64::from(link.role == Role::Active));
    }
    let mut handshakes =
        counter(text, "byway_link_handshakes", "Handshakes of a link that became sessions, by occasion.");
    for (labels, link) in each() {
        handshakes.value(&format!("{labels},occasion=\"dial\""), link.handshakes.saturating_sub(link.rekeys));
        handshakes.value(&format!("{labels},occasion=\"rekey\""), link.rekeys);
    }
    let mut drops =
        counter(text, "byway_link_dropped", "Datagrams and frames that a link dropped, by reason.");
    for (labels, link) in each() {
        for (reason, count) in [
            ("forged", link.dropped.forged),
            ("replayed", link.dropped.replayed),
            ("malformed", link.dropped.malformed),
            ("early", link.dropped.early),
            ("too-long", link.dropped.too_long),
        ] {
            drops.value(&format!("{labels},reason=\"{reason}\""), count);
        }
    }
    all_links(text, driver);
}

/// What names a link for as long as it lasts: the lane tells apart two links of one class to the same peer.
fn link_labels(link: &LinkStatus) -> String {
    format!("peer=\"{}\",class=\"{}\",lane=\"{}\"", link.peer, link.class, link.lane)
}

/// Most of what strangers send belongs to no link, and a link's own counters end with it.
fn all_links(text: &mut String, driver: &Driver) {
    let counters = driver.core.links().counters();
    let mut handshakes =
        counter(text, "byway_links_handshakes", "Handshakes of all links so far, by how far they came.");
    handshake_values(&mut handshakes, "", &counters.session);
    let mut frames = counter(text, "byway_links_frames", "Datagrams of all links so far.");
    frame_values(&mut frames, "", &counters.session);
    let help = "Datagrams dropped for all links so far and for no link, by reason.";
    let mut drops = counter(text, "byway_links_dropped_datagrams", help);
    drop_values(&mut drops, "", &counters.session);
    let help = "Frames and peers that all links so far dropped, by reason.";
    let mut drops = counter(text, "byway_links_dropped_frames", help);
    for (reason, count) in [
        ("not-up", counters.dropped.not_up),
        ("forbidden", counters.dropped.forbidden),
        ("other-network", counters.dropped.other_network),
        ("other-protocol", counters.dropped.other_protocol),
        ("unlisted", counters.dropped.unlisted),
        ("disagreed", counters.dropped.disagreed),
        ("too-long", counters.dropped.too_long),
        ("early", counters.dropped.early),
        ("malformed", counters.dropped.malformed),
    ] {
        drops.value(&format!("reason=\"{reason}\""), count);
    }
}

/// End-to-end sessions of the hosted nodes.
fn sessions(text: &mut String, driver: &Driver) {
    let nodes = driver.core.nodes();
    let each = || nodes.iter().map(|node| (format!("node=\"{}\",", node.addr), &node.sessions));
    let help = "End-to-end handshakes of a hosted node, by how far they came.";
    let mut handshakes = counter(text, "byway_session_handshakes", help);
    for (labels, counters) in each() {
        handshake_values(&mut handshakes, &labels, counters);
    }
    let mut frames = counter(text, "byway_session_frames", "End-to-end frames sealed and opened.");
    for (labels, counters) in each() {
        frame_values(&mut frames, &labels, counters);
    }
    let help = "End-to-end datagrams that a hosted node dropped, by reason.";
    let mut drops = counter(text, "byway_session_dropped_datagrams", help);
    for (labels, counters) in each() {
        drop_values(&mut drops, &labels, counters);
    }
}

fn handshake_values(family: &mut Family<'_>, labels: &str, counters: &Counters) {
    family.value(&format!("{labels}state=\"started\""), counters.handshakes);
    family.value(&format!("{labels}state=\"established\""), counters.established);
}

fn frame_values(family: &mut Family<'_>, labels: &str, counters: &Counters) {
    family.value(&format!("{labels}direction=\"sealed\""), counters.sealed);
    family.value(&format!("{labels}direction=\"opened\""), counters.opened);
}

fn drop_values(family: &mut Family<'_>, labels: &str, counters: &Counters) {
    for (reason, count) in [
        ("unknown", counters.unknown),
        ("forged", counters.forged),
        ("replayed", counters.replayed),
        ("malformed", counters.malformed),
        ("overload", counters.overload),
    ] {
        family.value(&format!("{labels}reason=\"{reason}\""), count);
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
    routed(text, &nodes);
    let mut drops = counter(text, "byway_node_dropped", "What a hosted node dropped, by reason.");
    for (labels, node) in each() {
        for (reason, count) in [
            ("expired", node.counters.expired),
            ("overflow", node.counters.overflow),
            ("window-ignored", node.counters.pressed),
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

/// What the routing protocol of each hosted node sent; frames that threads pass on are not among it.
fn routed(text: &mut String, nodes: &[NodeStatus]) {
    let kinds = || {
        nodes.iter().flat_map(|node| {
            let used = node.counters.routed.iter().enumerate().filter(|(_, (frames, _))| *frames > 0);
            used.map(|(kind, counts)| (format!("node=\"{}\",kind=\"{kind}\"", node.addr), counts))
        })
    };
    let help = "Frames that the routing protocol of a hosted node sent, by their first byte.";
    let mut frames = counter(text, "byway_routing_frames", help);
    kinds().for_each(|(labels, (count, _))| frames.value(&labels, *count));
    let mut bytes = counter(text, "byway_routing_bytes", "Bytes of these frames.");
    kinds().for_each(|(labels, (_, count))| bytes.value(&labels, *count));
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
