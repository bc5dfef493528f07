//! How a map looks.

use std::collections::{BTreeMap, BTreeSet};

use byway_api::body::{Map, MapLink, RouteInfo};
use byway_identity::Addr;
use svg::Document;
use svg::node::element::path::Data;
use svg::node::element::{Circle, Group, Line, Path, Rectangle, Style, Text, Title};

use super::layout::{Joint, Spot, layout};

/// Air around everything.
const MARGIN: f64 = 24.0;
/// What the label of an outermost node takes.
const LABEL: f64 = 84.0;
/// Width of the legend, which stands on the left.
const LEGEND: f64 = 250.0;
/// Height of one line of it.
const LINE: f64 = 20.0;
/// With more links than these, costs are shown by width and in tooltips alone.
const COSTS_WRITTEN: usize = 40;
/// Characters of an address in the picture; the tooltip has all of them.
const SHORT: usize = 8;

/// Families and their colours, which stay apart for people who see fewer colours (after Okabe and Ito).
const COLOURS: [(&str, &str); 6] = [
    ("ip", "#0072b2"),
    ("ethernet", "#009e73"),
    ("tor", "#aa4499"),
    ("i2p", "#d55e00"),
    ("1dn", "#e69f00"),
    ("loopback", "#777777"),
];
/// Lines of the classes of one family, in the order of their names.
const DASHES: [&str; 6] = ["none", "9 3", "5 3", "9 3 2 3", "5 3 2 3", "2 2"];
/// Costs in milliseconds, up to and including, and how wide such a link is drawn.
const WIDTHS: [(f64, f64); 4] = [(5.0, 3.2), (25.0, 2.2), (100.0, 1.4), (f64::INFINITY, 0.8)];

const STYLE: &str = "text { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 11px; fill: #222 }\
    .halo { paint-order: stroke; stroke: #fff; stroke-width: 3px; stroke-linejoin: round }\
    .cost { font-size: 9px; fill: #555; text-anchor: middle }\
    .head { font-size: 14px; font-weight: bold }\
    .link { fill: none } .way { fill: none; stroke: #888; stroke-width: 1.2; stroke-dasharray: 1 4; stroke-linecap: round }\
    .beside { opacity: 0.45 }\
    .here { fill: #111 } .near { fill: #555 } .far { fill: #fff; stroke: #555; stroke-width: 1.5 }";

/// Draws `map`, with what `routes` tell of nodes of which no link is known. At most `limit` nodes are drawn.
///
/// Nodes of programs on this machine are left out: who gets the picture need not learn that they are one person's.
pub(crate) fn draw(map: &Map, routes: &[RouteInfo], limit: usize) -> (Drawing, String) {
    let map = shown(map, routes, limit);
    let spots = layout(&map, routes);
    let drawing = Drawing { nodes: spots.len(), links: map.links.len(), cut: map.cut };
    let legend = legend(&map, &spots, drawing);
    let air = LABEL + MARGIN;
    let reach = |place: fn(&Spot) -> f64| {
        let places = || spots.values().map(place);
        (places().fold(0.0, f64::min) - air, places().fold(0.0, f64::max) + air)
    };
    let ((left, right), (top, bottom)) = (reach(Spot::x), reach(Spot::y));
    let height = f64::max(bottom - top, legend.1 + 2.0 * MARGIN);
    let width = LEGEND + right - left;
    let down = (height - (bottom - top)) / 2.0 - top;
    let classes = Classes::new(&map.links);
    let mut picture = Group::new().set("transform", format!("translate({:.1} {down:.1})", LEGEND - left));
    for element in lines(&map, routes, &spots, &classes) {
        picture = picture.add(element);
    }
    for (addr, spot) in &spots {
        picture = picture.add(node(addr, spot, spots.len() == 1));
    }
    let document = Document::new()
        .set("viewBox", format!("0 0 {width:.0} {height:.0}"))
        .set("width", format!("{width:.0}"))
        .set("height", format!("{height:.0}"))
        .add(Title::new(format!("The network around {}", map.addr)))
        .add(Style::new(STYLE))
        .add(Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#fff"))
        .add(legend.0)
        .add(picture);
    (drawing, format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{document}\n"))
}

/// What was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Drawing {
    /// Nodes, the one in the middle included.
    pub(crate) nodes: usize,
    /// Links.
    pub(crate) links: usize,
    /// Whether more is known.
    pub(crate) cut: bool,
}

/// The map without programs of this machine, and with nodes to which just a way is known.
fn shown(map: &Map, routes: &[RouteInfo], limit: usize) -> Map {
    let is_program = |link: &&MapLink| link.class == "loopback" && (link.a == map.addr || link.b == map.addr);
    let programs: BTreeSet<Addr> = map
        .links
        .iter()
        .filter(is_program)
        .flat_map(|link| [link.a, link.b])
        .chain(routes.iter().filter(|route| route.class == "loopback").map(|route| route.to))
        .filter(|addr| *addr != map.addr)
        .collect();
    let ends = map.links.iter().flat_map(|link| [link.a, link.b]);
    let targets = routes.iter().map(|route| route.to);
    let mut nodes = vec![map.addr];
    let (mut known, mut cut) = (BTreeSet::from([map.addr]), map.cut);
    for addr in map.nodes.iter().copied().chain(ends).chain(targets).filter(|addr| !programs.contains(addr)) {
        if known.contains(&addr) {
            continue;
        }
        if nodes.len() < limit {
            known.insert(addr);
            nodes.push(addr);
        } else {
            cut = true;
        }
    }
    let links: Vec<MapLink> = map
        .links
        .iter()
        .filter(|link| link.a != link.b && known.contains(&link.a) && known.contains(&link.b))
        .cloned()
        .collect();
    Map { addr: map.addr, trees: map.trees.clone(), nodes, links, cut }
}

/// The classes that occur, and how each is drawn.
struct Classes(BTreeMap<String, (&'static str, &'static str)>);

impl Classes {
    fn new(links: &[MapLink]) -> Self {
        let names: BTreeSet<&str> = links.iter().map(|link| link.class.as_str()).collect();
        let mut used: BTreeMap<&str, usize> = BTreeMap::new();
        let style = |name: &str, nth: usize| (colour(name), DASHES[nth % DASHES.len()]);
        let styled = names.into_iter().map(|name| {
            let nth = used.entry(family(name)).or_default();
            *nth += 1;
            (name.to_owned(), style(name, *nth - 1))
        });
        Self(styled.collect())
    }

    fn line(&self, class: &str) -> (&'static str, &'static str) {
        self.0.get(class).copied().unwrap_or(("#777777", "none"))
    }
}

fn family(class: &str) -> &str {
    class.split_once('/').map_or(class, |(family, _)| family)
}

fn colour(class: &str) -> &'static str {
    let known = COLOURS.iter().find(|(name, _)| *name == family(class));
    known.map_or("#777777", |(_, colour)| *colour)
}

fn width(cost_ms: f64) -> f64 {
    let fits = WIDTHS.iter().find(|(up_to, _)| cost_ms <= *up_to);
    fits.map_or(WIDTHS[WIDTHS.len() - 1].1, |(_, width)| *width)
}

/// Links and ways, under the nodes.
fn lines(map: &Map, routes: &[RouteInfo], spots: &BTreeMap<Addr, Spot>, classes: &Classes) -> Vec<Group> {
    let joints: BTreeSet<usize> = spots
        .values()
        .filter_map(|spot| match spot.joint {
            Joint::Link(link) => Some(link),
            _ => None,
        })
        .collect();
    let has_trees = !map.trees.is_empty();
    let mut parallel: BTreeMap<(Addr, Addr), usize> = BTreeMap::new();
    let mut drawn = Vec::new();
    for (number, link) in map.links.iter().enumerate() {
        let (Some(a), Some(b)) = (spots.get(&link.a), spots.get(&link.b)) else { continue };
        let before = parallel.entry((link.a.min(link.b), link.a.max(link.b))).or_default();
        let curve = Curve::new(a, b, !joints.contains(&number), *before);
        *before += 1;
        let (colour, dash) = classes.line(&link.class);
        let path = Path::new()
            .set("class", if has_trees && !link.in_tree { "link beside" } else { "link" })
            .set("d", curve.data())
            .set("stroke", colour)
            .set("stroke-width", width(link.cost_ms))
            .set("stroke-dasharray", dash);
        let about = format!("{} – {}: {}, cost {:.1} ms", link.a, link.b, link.class, link.cost_ms);
        let mut group = Group::new().add(Title::new(about)).add(path);
        if map.links.len() <= COSTS_WRITTEN {
            let (x, y) = curve.label();
            let text = Text::new(format!("{:.1} ms", link.cost_ms)).set("class", "cost halo");
            group = group.add(text.set("x", one(x)).set("y", one(y + 3.0)));
        }
        drawn.push(group);
    }
    for (addr, spot) in spots {
        let Joint::Way(way) = spot.joint else { continue };
        let Some(route) = routes.get(way) else { continue };
        let by = if route.next == *addr { map.addr } else { route.next };
        let Some(next) = spots.get(&by) else { continue };
        let line = Line::new()
            .set("class", "way")
            .set("x1", one(next.x()))
            .set("y1", one(next.y()))
            .set("x2", one(spot.x()))
            .set("y2", one(spot.y()));
        let hops = route.hops.map_or("unknown length".to_owned(), |hops| format!("{hops} hops"));
        let about = format!("a way to {addr} by {by}: {hops}, cost {:.1} ms", route.cost_ms);
        drawn.push(Group::new().add(Title::new(about)).add(line));
    }
    drawn
}

/// The course of a link.
struct Curve {
    from: (f64, f64),
    bend: (f64, f64),
    to: (f64, f64),
    is_straight: bool,
}

impl Curve {
    /// From the inner spot to the outer one; links `beside` the tree bend to the middle, parallel ones away from each other.
    fn new(a: &Spot, b: &Spot, beside: bool, parallel: usize) -> Self {
        let (inner, outer) = if a.ring <= b.ring { (a, b) } else { (b, a) };
        let (from, to) = ((inner.x(), inner.y()), (outer.x(), outer.y()));
        let pull = if beside && inner.ring > 0 { 0.8 } else { 1.0 };
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy).max(1.0);
        let aside = 28.0 * parallel as f64 / length;
        let bend = ((from.0 + to.0) / 2.0 * pull - dy * aside, (from.1 + to.1) / 2.0 * pull + dx * aside);
        Self { from, bend, to, is_straight: pull == 1.0 && parallel == 0 }
    }

    fn data(&self) -> Data {
        let data = Data::new().move_to((one(self.from.0), one(self.from.1)));
        if self.is_straight {
            return data.line_to((one(self.to.0), one(self.to.1)));
        }
        data.quadratic_curve_to((one(self.bend.0), one(self.bend.1), one(self.to.0), one(self.to.1)))
    }

    /// Nearer to the outer end, where the label of the inner one does not reach, and below the line, as addresses are above.
    fn label(&self) -> (f64, f64) {
        let t = 0.72;
        let at = |from: f64, bend: f64, to: f64| {
            (1.0 - t) * (1.0 - t) * from + 2.0 * t * (1.0 - t) * bend + t * t * to
        };
        let (dx, dy) = (self.to.0 - self.from.0, self.to.1 - self.from.1);
        let aside = 9.0 / dx.hypot(dy).max(1.0) * if dx < 0.0 { -1.0 } else { 1.0 };
        let (x, y) = (at(self.from.0, self.bend.0, self.to.0), at(self.from.1, self.bend.1, self.to.1));
        (x - dy * aside, y + dx * aside)
    }
}

fn node(addr: &Addr, spot: &Spot, alone: bool) -> Group {
    let whole = addr.to_string();
    let short: String = whole.chars().take(SHORT).collect();
    let (class, size, about) = match (spot.ring, spot.joint) {
        (0, _) => ("here", 8.0, format!("{whole}: this node")),
        (1, _) => ("near", 5.5, format!("{whole}: a neighbour")),
        (_, Joint::Nothing) => ("far", 4.0, format!("{whole}: its links are not known")),
        (_, Joint::Way(_)) => ("far", 4.0, format!("{whole}: its links are not known, just a way to it")),
        (ring, _) => ("far", 4.0, format!("{whole}: {ring} links away")),
    };
    let circle = Circle::new().set("class", class).set("r", size);
    let text = Text::new(short).set("class", "halo");
    // Labels read outwards, and never upside down.
    let degrees = spot.angle.to_degrees().rem_euclid(360.0);
    let text = if spot.ring == 0 {
        let below = if alone { 24 } else { -14 };
        text.set("text-anchor", "middle").set("y", below).set("font-weight", "bold")
    } else if (90.0..270.0).contains(&degrees) {
        let turn = format!("rotate({:.1}) translate({:.1} -4)", degrees - 180.0, -(size + 4.0));
        text.set("text-anchor", "end").set("transform", turn)
    } else {
        text.set("transform", format!("rotate({degrees:.1}) translate({:.1} -4)", size + 4.0))
    };
    Group::new()
        .set("transform", format!("translate({:.1} {:.1})", spot.x(), spot.y()))
        .add(Title::new(about))
        .add(circle)
        .add(text)
}

/// What lines and circles mean, as far as they occur; and how high that is.
fn legend(map: &Map, spots: &BTreeMap<Addr, Spot>, drawing: Drawing) -> (Group, f64) {
    let mut rows: Vec<(Option<Group>, Text)> = Vec::new();
    let words = |text: &str| Text::new(text);
    let short: String = map.addr.to_string().chars().take(SHORT).collect();
    rows.push((None, words(&format!("Around {short}…")).set("class", "head")));
    let (nodes, links) = (counted(drawing.nodes, "node"), counted(drawing.links, "link"));
    rows.push((None, words(&format!("{nodes}, {links}"))));
    if drawing.cut {
        rows.push((None, words("more is known than is drawn")));
    }
    let circle = |class: &str, size: f64| {
        let circle = Circle::new().set("class", class).set("r", size);
        Some(Group::new().add(circle.set("cx", 18)))
    };
    rows.push((circle("here", 8.0), words("this node")));
    if spots.values().any(|spot| spot.ring == 1) {
        rows.push((circle("near", 5.5), words("neighbour")));
    }
    if spots.values().any(|spot| spot.ring > 1) {
        rows.push((circle("far", 4.0), words("node further away")));
    }
    let line = |colour: &str, width: f64, dash: &str| {
        let line = Line::new().set("x1", 2).set("x2", 34).set("stroke", colour).set("stroke-width", width);
        Some(Group::new().add(line.set("stroke-dasharray", dash)))
    };
    for (class, (colour, dash)) in Classes::new(&map.links).0 {
        rows.push((line(colour, 2.2, dash), words(&class)));
    }
    if !map.links.is_empty() {
        let mut above = 0.0;
        for (up_to, width) in WIDTHS {
            let text = if up_to.is_finite() {
                format!("cost up to {up_to:.0} ms")
            } else {
                format!("cost above {above:.0} ms")
            };
            above = up_to;
            rows.push((line("#444", width, "none"), words(&text)));
        }
    }
    if !map.trees.is_empty() && map.links.iter().any(|link| !link.in_tree) {
        rows.push((line("#bbb", 2.2, "none"), words("pale: in no tree of routing")));
    }
    if spots.values().any(|spot| matches!(spot.joint, Joint::Way(_))) {
        let way = Line::new().set("x1", 2).set("x2", 34).set("class", "way");
        rows.push((Some(Group::new().add(way)), words("way, its links not known")));
    }
    if spots.values().any(|spot| spot.joint == Joint::Nothing) {
        rows.push((None, words("no line: just its address known")));
    }
    let height = LINE * rows.len() as f64;
    let mut legend = Group::new().set("transform", format!("translate({MARGIN} {MARGIN})"));
    for (number, (sample, text)) in rows.into_iter().enumerate() {
        let x = if sample.is_some() { 46 } else { 0 };
        let mut row =
            Group::new().set("transform", format!("translate(0 {:.0})", LINE * (number as f64 + 0.5)));
        if let Some(sample) = sample {
            row = row.add(sample);
        }
        legend = legend.add(row.add(text.set("x", x).set("y", 4)));
    }
    (legend, height)
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// With one digit behind the point, so that files stay small.
fn one(value: f64) -> f64 {
    let rounded = (value * 10.0).round() / 10.0;
    // No minus in front of nothing.
    if rounded == 0.0 { 0.0 } else { rounded }
}
