//! The state of a running core, as the bodies of the API show it.

use byway_api::ManCon;
use byway_api::body::{
    LinkInfo, Map, MapLink, NodeInfo, PathInfo, PeerInfo, RouteInfo, SessionInfo, Trace, TraceHop,
    TransportInfo, TreeInfo,
};
use byway_identity::{Addr, Ipv6Range};
use byway_link::{Condition, LinkStatus, PeerState, Role, Scheme};
use byway_network::{Cost, Hop, Network, Path, Plane, Tree};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::driver::Driver;

/// Routes that are listed at most.
const ROUTES_MAX: usize = 10_000;

pub(crate) fn peers(driver: &mut Driver) -> Vec<PeerInfo> {
    driver
        .core
        .links()
        .peers()
        .into_iter()
        .map(|peer| PeerInfo {
            addr: peer.addr,
            name: driver.names.get(&peer.addr).cloned(),
            endpoints: peer.endpoints.iter().map(ToString::to_string).collect(),
            state: match peer.state {
                PeerState::Up => "up",
                PeerState::Connecting => "connecting",
                PeerState::Down => "down",
            }
            .to_owned(),
            links: peer.links,
            trouble: peer.trouble,
        })
        .collect()
}

pub(crate) fn transports(driver: &mut Driver) -> Vec<TransportInfo> {
    let info = |slot: &crate::driver::Slot| {
        let (state, percent, detail) = match slot.transport.condition() {
            Condition::Ready => ("ready", None, None),
            Condition::Starting { percent, doing } => ("starting", percent, Some(doing)),
            Condition::Failing { why } => ("failing", None, Some(why)),
        };
        TransportInfo {
            kind: slot.transport.schemes().first().copied().map_or("", Scheme::name).to_owned(),
            state: state.to_owned(),
            percent,
            detail,
            endpoints: slot.transport.listening().iter().map(ToString::to_string).collect(),
        }
    };
    driver.slots.iter().map(info).collect()
}

pub(crate) fn links(driver: &mut Driver) -> Vec<LinkInfo> {
    let now = Instant::now();
    let since = |since| now.saturating_duration_since(since).as_secs();
    let open = driver.core.links().links();
    let mut links: Vec<LinkInfo> = open
        .into_iter()
        .map(|link| LinkInfo {
            peer: link.peer,
            endpoint: describe(driver, &link),
            class: link.class.to_string(),
            role: match link.role {
                Role::Active => "active",
                Role::Standby => "standby",
            }
            .to_owned(),
            state: link.state.0.name().to_owned(),
            state_s: since(link.state.1),
            why: None,
            rtt_ms: link.rtt.map(milliseconds),
            loss: link.loss,
            cost_ms: cost_ms(link.cost),
            mtu: link.place.mtu.into(),
            sent: link.sent.1,
            received: link.received.1,
            up_s: since(link.since),
        })
        .collect();
    // What is wanted and not open stands behind what is.
    links.extend(driver.core.links().ways().into_iter().map(|way| LinkInfo {
        peer: way.peer,
        endpoint: way.endpoint.to_string(),
        class: way.class.to_string(),
        role: "none".to_owned(),
        state: way.state.name().to_owned(),
        state_s: since(way.since),
        why: way.why,
        rtt_ms: None,
        loss: 0.0,
        cost_ms: cost_ms(way.cost),
        mtu: 0,
        sent: 0,
        received: 0,
        up_s: 0,
    }));
    links
}

pub(crate) fn routes(driver: &mut Driver) -> Vec<RouteInfo> {
    let links = driver.core.links().links();
    let router = router(driver);
    let whole = |route: &byway_network::Route| {
        let paths = router.map_or_else(Vec::new, |router| router.paths(&route.to));
        paths.iter().filter(|path| path.plane == route.plane).count()
    };
    driver
        .core
        .routes(ROUTES_MAX)
        .into_iter()
        .map(|route| RouteInfo {
            to: route.to,
            plane: route.plane.name().to_owned(),
            next: route.next.peer,
            family: route.next.family.name().to_owned(),
            class: best_link(&links, route.next)
                .map_or_else(|| route.next.family.name().to_owned(), |link| link.class.to_string()),
            hops: route.hops,
            cost_ms: cost_ms(route.cost),
            paths: whole(&route),
        })
        .collect()
}

/// What the daemon's own node knows of the network.
pub(crate) fn map(driver: &mut Driver, limit: usize) -> Map {
    let addr = driver.core.main();
    // One more than wanted tells whether there is more.
    let known = router(driver).map_or_else(Default::default, |router| router.map(limit.saturating_add(1)));
    let mut cut = known.nodes.len() > limit || known.links.len() > limit;
    // Its own first, then the router's order.
    let mut shown = BTreeSet::new();
    let mut nodes = Vec::new();
    for node in std::iter::once(addr).chain(known.nodes).take(limit.saturating_add(1)) {
        if nodes.len() < limit && shown.insert(node) {
            nodes.push(node);
        }
    }
    let mut links = Vec::new();
    for link in known.links {
        // A link to a node that is not shown would hang in the air.
        if links.len() < limit && shown.contains(&link.a) && shown.contains(&link.b) {
            links.push(MapLink {
                a: link.a,
                b: link.b,
                class: link.class.to_string(),
                cost_ms: cost_ms(link.cost),
                in_tree: link.in_tree,
            });
        } else {
            cut = true;
        }
    }
    Map { addr, trees: known.trees.iter().map(tree).collect(), nodes, links, cut }
}

fn tree(tree: &Tree) -> TreeInfo {
    TreeInfo {
        plane: tree.plane.name().to_owned(),
        index: tree.index,
        root: tree.root,
        parent: tree.parent.map(|hop| hop.peer),
        family: tree.parent.map(|hop| hop.family.name().to_owned()),
        cost_ms: cost_ms(tree.cost),
        coordinates: tree.coordinates.clone(),
        children: tree.children.iter().map(|hop| hop.peer).collect(),
    }
}

pub(crate) fn sessions(driver: &mut Driver) -> Vec<SessionInfo> {
    let now = Instant::now();
    driver
        .core
        .sessions()
        .into_iter()
        .map(|(local, session, rtt)| SessionInfo {
            local,
            remote: session.remote,
            plane: Plane::from_byte(session.plane).map_or("?", Plane::name).to_owned(),
            cipher: session.cipher.to_owned(),
            rtt_ms: rtt.map(milliseconds),
            age_s: now.saturating_duration_since(session.since).as_secs(),
            sent: session.sent,
            received: session.received,
        })
        .collect()
}

pub(crate) fn nodes(driver: &mut Driver) -> Vec<NodeInfo> {
    let main = driver.core.main();
    driver
        .core
        .nodes()
        .into_iter()
        .map(|node| {
            let (queued, dropped) = driver
                .nodes
                .get(&node.addr)
                .map_or((0, 0), |shared| shared.inbox(byway_api::Kind::Message).load());
            NodeInfo {
                addr: node.addr,
                ipv6: Ipv6Range::default().ipv6(&node.addr).ok().map(|ipv6| ipv6.to_string()),
                main: node.addr == main,
                held: node.held,
                queued,
                dropped,
            }
        })
        .collect()
}

/// The way that requests of the daemon's own node take now, as far as it knows it, and the others that it knows.
pub(crate) fn trace(driver: &mut Driver, to: Addr, mancon: ManCon, plane: Plane) -> Option<Trace> {
    let own = Trace {
        to,
        mancon,
        plane: plane.name().to_owned(),
        hops: Vec::new(),
        complete: true,
        why: None,
        distance: Some(0),
        cost_ms: Some(0.0),
        rtt_ms: None,
        paths: Vec::new(),
    };
    if to == driver.core.main() {
        return Some(own);
    }
    let mut paths = router(driver).map_or_else(Vec::new, |router| router.paths(&to));
    paths.retain(|path| path.plane == plane);
    let known: Vec<PathInfo> = paths.iter().map(whole).collect();
    if let Some(used) = known.iter().find(|path| path.in_use) {
        return Some(Trace {
            hops: used.hops.clone(),
            distance: u8::try_from(used.hops.len()).ok(),
            cost_ms: Some(used.cost_ms),
            paths: known,
            ..own
        });
    }
    let next = driver.core.next_hop(to, plane)?;
    let route =
        driver.core.routes(ROUTES_MAX).into_iter().find(|route| route.to == to && route.plane == plane);
    let links = driver.core.links().links();
    let link = best_link(&links, next);
    let hop = TraceHop {
        addr: Some(next.peer),
        class: link.map_or_else(|| next.family.name().to_owned(), |link| link.class.to_string()),
        cost_ms: link.map_or(cost_ms(Cost::LOOPBACK), |link| cost_ms(link.cost)),
    };
    let complete = next.peer == to;
    let why = match (complete, known.is_empty()) {
        (true, _) => None,
        (false, true) => Some("each node on the way knows just the next hop; no whole way is known here"),
        (false, false) => {
            Some("messages go from hop to hop now; the whole ways that are known are not in use")
        }
    };
    Some(Trace {
        hops: vec![hop],
        complete,
        why: why.map(str::to_owned),
        distance: route.as_ref().and_then(|route| route.hops).or(complete.then_some(1)),
        cost_ms: route.as_ref().map(|route| cost_ms(route.cost)),
        paths: known,
        ..own
    })
}

fn whole(path: &Path) -> PathInfo {
    let hops = path.steps.iter().map(|step| TraceHop {
        addr: step.node,
        class: step.class.to_string(),
        cost_ms: cost_ms(step.cost),
    });
    PathInfo { in_use: path.in_use, cost_ms: cost_ms(path.cost), hops: hops.collect() }
}

/// The router of the daemon's own node.
fn router(driver: &Driver) -> Option<&dyn Network> {
    driver.core.local(&driver.core.main()).map(|local| &*local.router)
}

fn best_link(links: &[LinkStatus], hop: Hop) -> Option<&LinkStatus> {
    let usable = links.iter().filter(|link| link.peer == hop.peer && link.class.family() == hop.family);
    // Which of one family carries is not a matter of cost alone.
    usable.min_by_key(|link| (link.role == Role::Standby, link.cost))
}

pub(crate) fn describe(driver: &Driver, link: &LinkStatus) -> String {
    let slot = driver.slots.get(usize::from(link.place.transport.0));
    slot.map_or_else(String::new, |slot| slot.transport.describe(link.place))
}

fn cost_ms(cost: Cost) -> f64 {
    f64::from(cost.units()) / 10.0
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
