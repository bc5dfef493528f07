//! Where the nodes of a map are drawn: this node in the middle, each other one on the ring of its distance in hops, inside
//! the sector of the node that it is reached by. Such a tree has no crossings, and however many nodes there are, none
//! covers another: the rings grow until all have room.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::f64::consts::TAU;

use byway_api::body::{Map, MapLink, RouteInfo};
use byway_identity::Addr;

/// Least distance between two rings.
const RING: f64 = 120.0;
/// Least length of arc that a node has to itself.
pub(super) const ROOM: f64 = 16.0;

/// A node in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spot {
    /// Direction from the middle.
    pub(super) angle: f64,
    /// Distance from the middle.
    pub(super) radius: f64,
    /// On which ring, 0 being the middle.
    pub(super) ring: usize,
    /// What joins it to the node that it is drawn behind.
    pub(super) joint: Joint,
}

/// How a node is joined to the one that it is drawn behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Joint {
    /// It is the node in the middle.
    Middle,
    /// By a link: its number in the map.
    Link(usize),
    /// By a way that begins with that node, a neighbour; its number among the routes. None of its links is known.
    Way(usize),
    /// By nothing that is known.
    Nothing,
}

impl Spot {
    pub(super) fn x(&self) -> f64 {
        self.radius * self.angle.cos()
    }

    pub(super) fn y(&self) -> f64 {
        self.radius * self.angle.sin()
    }
}

/// Places the node in the middle, the nodes of `map`, and the ends of its links.
pub(super) fn layout(map: &Map, routes: &[RouteInfo]) -> BTreeMap<Addr, Spot> {
    let places = Tree::new(map, routes).places;
    // What each node and those behind it need of the circle, were rings RING apart. Parents come before children.
    let (mut needs, mut inner) = (vec![0.0; places.len()], vec![0.0; places.len()]);
    for (at, place) in places.iter().enumerate().skip(1).rev() {
        needs[at] = f64::max(inner[at], ROOM / (place.ring as f64 * RING));
        inner[place.parent] += needs[at];
    }
    let ring = RING * f64::max(1.0, inner[0] / TAU);
    // The first neighbour is on the right.
    let first = needs.get(1).map_or(0.0, |need| TAU * need / inner[0]);
    let mut sectors = vec![(-first / 2.0, TAU); places.len()];
    // Where the sectors of children begin that have not got theirs yet.
    let mut free = vec![-first / 2.0; places.len()];
    for (at, place) in places.iter().enumerate().skip(1) {
        let width = sectors[place.parent].1 * needs[at] / inner[place.parent];
        sectors[at] = (free[place.parent], width);
        free[at] = free[place.parent];
        free[place.parent] += width;
    }
    let spot = |(place, (from, width)): (&Place, &(f64, f64))| {
        let (angle, radius) = (from + width / 2.0, place.ring as f64 * ring);
        (place.addr, Spot { angle, radius, ring: place.ring, joint: place.joint })
    };
    places.iter().zip(&sectors).map(spot).collect()
}

/// Who is drawn behind whom.
struct Tree {
    places: Vec<Place>,
    at: HashMap<Addr, usize>,
}

struct Place {
    addr: Addr,
    parent: usize,
    ring: usize,
    joint: Joint,
}

impl Tree {
    fn new(map: &Map, routes: &[RouteInfo]) -> Self {
        let mut links: BTreeMap<Addr, Vec<(Addr, usize)>> = BTreeMap::new();
        for (number, link) in map.links.iter().enumerate() {
            links.entry(link.a).or_default().push((link.b, number));
            links.entry(link.b).or_default().push((link.a, number));
        }
        for ends in links.values_mut() {
            ends.sort_by(|(_, one), (_, other)| better(&map.links[*one], &map.links[*other]));
        }
        let mut tree = Self { places: Vec::new(), at: HashMap::new() };
        tree.grow(Place { addr: map.addr, parent: 0, ring: 0, joint: Joint::Middle }, &links);
        let nodes: HashSet<Addr> = map.nodes.iter().copied().collect();
        let mut ways: Vec<usize> = (0..routes.len()).collect();
        ways.sort_by(|one, other| {
            let (one, other) = (&routes[*one], &routes[*other]);
            one.hops.cmp(&other.hops).then(one.cost_ms.total_cmp(&other.cost_ms)).then(one.to.cmp(&other.to))
        });
        for way in ways {
            let route = &routes[way];
            // A neighbour's way begins here.
            let by = if route.next == route.to { &map.addr } else { &route.next };
            if nodes.contains(&route.to)
                && let Some(parent) = tree.at.get(by).copied()
            {
                let beyond = usize::from(route.hops.unwrap_or(2)).saturating_sub(1).clamp(1, RINGS_MAX);
                let ring = tree.places[parent].ring + beyond;
                tree.grow(Place { addr: route.to, parent, ring, joint: Joint::Way(way) }, &links);
            }
        }
        for addr in map.nodes.iter().chain(links.keys()).copied() {
            tree.grow(Place { addr, parent: 0, ring: 2, joint: Joint::Nothing }, &links);
        }
        tree
    }

    /// Places a node, unless it has its place, and whoever is linked to it.
    fn grow(&mut self, place: Place, links: &BTreeMap<Addr, Vec<(Addr, usize)>>) {
        let mut open = VecDeque::from([place]);
        while let Some(place) = open.pop_front() {
            let (addr, ring, parent) = (place.addr, place.ring, self.places.len());
            if self.at.contains_key(&addr) {
                continue;
            }
            self.at.insert(addr, parent);
            self.places.push(place);
            let ends = links.get(&addr).into_iter().flatten();
            open.extend(ends.filter(|(end, _)| !self.at.contains_key(end)).map(|(end, link)| Place {
                addr: *end,
                parent,
                ring: ring + 1,
                joint: Joint::Link(*link),
            }));
        }
    }
}

/// Which link is drawn as part of the tree: one that frames are likelier to take.
fn better(one: &MapLink, other: &MapLink) -> std::cmp::Ordering {
    let order = other.in_tree.cmp(&one.in_tree).then(one.cost_ms.total_cmp(&other.cost_ms));
    order.then_with(|| (one.a, one.b).cmp(&(other.a, other.b)))
}

/// A way of which just its length is known is drawn over no more rings than these.
const RINGS_MAX: usize = 4;
