//! Bars in SVG, readable on light and on dark pages.

use std::fmt::Write as _;

use crate::side::measure;
use crate::side::page::share;
use crate::side::record::{Campaign, Kind};

/// One panel of bars.
struct Panel {
    title: &'static str,
    bars: Vec<(String, f64)>,
    digits: usize,
}

/// A picture of a campaign; none if it has nothing to show.
pub fn campaign(campaign: &Campaign) -> Option<String> {
    let medians = |title: &'static str, key: &str, hosts: usize, profile: &str, digits: usize| {
        let bars = campaign.peers().into_iter().filter_map(|peer| {
            Some((peer.to_owned(), campaign.median(peer, hosts, profile, key).filter(|value| *value > 0.0)?))
        });
        Panel { title, bars: bars.collect(), digits }
    };
    let shares = |title: &'static str, profile: &str| {
        let peers = campaign.peers().into_iter();
        Panel {
            title,
            bars: peers.filter_map(|peer| Some((peer.to_owned(), share(campaign, peer, profile)?))).collect(),
            digits: 2,
        }
    };
    let panels = match campaign.kind {
        Kind::Direct | Kind::NoOffload => vec![
            medians("TCP, 1 stream: Mbit/s (more is better)", measure::TCP1, 2, "", 0),
            medians("TCP, 4 streams: Mbit/s (more is better)", measure::TCP4, 2, "", 0),
            medians("CPU of both daemons: s per GB (less is better)", measure::CPU, 2, "", 2),
            medians("UDP of 256 B: packets/s (more is better)", measure::UDP256, 2, "", 0),
            medians("RTT idle: µs (less is better)", measure::RTT, 2, "", 0),
            medians("RTT under TCP load: µs (less is better)", measure::LOADED, 2, "", 0),
        ],
        Kind::Wire => vec![
            shares("0.25 % loss, 0.5 % reordered: share kept", "loss025"),
            shares("1 % loss: share kept", "loss1"),
            shares("30 ms each way: share kept", "delay30"),
            medians("clean wire: Mbit/s", measure::TCP1, 2, "clean", 0),
        ],
        Kind::Relay => vec![
            medians("direct, TCP 1 stream: Mbit/s", measure::TCP1, 2, "", 0),
            medians("through a relay, TCP 1 stream: Mbit/s", measure::TCP1, 3, "", 0),
        ],
    };
    let panels: Vec<_> = panels.into_iter().filter(|panel| !panel.bars.is_empty()).collect();
    (!panels.is_empty()).then(|| draw(&panels))
}

const WIDTH: usize = 440;
const LABEL: usize = 110;
const NUMBER: usize = 60;
const LINE: usize = 20;
const HEAD: usize = 34;
const GAP: usize = 16;

const STYLE: &str = "<style>\n\
    text { font: 12px system-ui, sans-serif; fill: #1f2328; }\n\
    .title { font-weight: 600; }\n\
    .ours { fill: #0969da; }\n\
    .theirs { fill: #8c959f; }\n\
    @media (prefers-color-scheme: dark) {\n  \
    text { fill: #e6edf3; }\n  \
    .ours { fill: #4493f8; }\n  \
    .theirs { fill: #6e7681; }\n\
    }\n</style>\n";

/// Two panels side by side, as many rows as needed.
fn draw(panels: &[Panel]) -> String {
    let height =
        |pair: &[Panel]| HEAD + GAP + LINE * pair.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
    let total: usize = panels.chunks(2).map(height).sum();
    let width = 2 * WIDTH + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {total}\" width=\"{width}\" height=\"{total}\" role=\"img\">\n{STYLE}"
    );
    let mut top = 0;
    for pair in panels.chunks(2) {
        for (column, panel) in pair.iter().enumerate() {
            draw_panel(&mut svg, panel, column * (WIDTH + GAP), top);
        }
        top += height(pair);
    }
    svg + "</svg>\n"
}

fn draw_panel(svg: &mut String, panel: &Panel, left: usize, top: usize) {
    let most = panel.bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let _ =
        writeln!(svg, "<text class=\"title\" x=\"{}\" y=\"{}\">{}</text>", left + 4, top + 20, panel.title);
    let room = (WIDTH - LABEL - NUMBER) as f64;
    for (index, (name, value)) in panel.bars.iter().enumerate() {
        let y = top + HEAD + index * LINE;
        let class = if name.starts_with("byway") { "ours" } else { "theirs" };
        let length = (value / most * room).max(1.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{}\">{value:.*}</text>",
            left + LABEL - 6,
            y + 14,
            left + LABEL,
            y + 3,
            LINE - 6,
            (left + LABEL) as f64 + length + 5.0,
            y + 14,
            panel.digits,
        );
    }
}
