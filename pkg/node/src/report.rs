//! The state of a running core, as the bodies of the API show it.

use byway_api::ManCon;
use byway_api::body::{LinkInfo, NodeInfo, PeerInfo, RouteInfo, SessionInfo, Trace, TraceHop};
use byway_identity::{Addr, Ipv6Range};
use byway_link::{LinkStatus, PeerState};
use byway_network::{Cost, Plane};
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

pub(crate) fn links(driver: &mut Driver) -> Vec<LinkInfo> {
    let now = Instant::now();
    driver
        .core
        .links()
        .links()
        .into_iter()
        .map(|link| LinkInfo {
            peer: link.peer,
            endpoint: describe(driver, &link),
            class: link.class.to_string(),
            rtt_ms: link.rtt.map(milliseconds),
            loss: link.loss,
            cost_ms: cost_ms(link.cost),
            mtu: link.place.mtu.into(),
            sent: link.sent.1,
            received: link.received.1,
            up_s: now.saturating_duration_since(link.since).as_secs(),
        })
        .collect()
}

pub(crate) fn routes(driver: &mut Driver) -> Vec<RouteInfo> {
    driver
        .core
        .routes(ROUTES_MAX)
        .into_iter()
        .map(|route| RouteInfo {
            to: route.to,
            plane: route.plane.name().to_owned(),
            next: route.next.peer,
            family: route.next.family.name().to_owned(),
            hops: route.hops,
            cost_ms: cost_ms(route.cost),
        })
        .collect()
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

/// The way that requests of the daemon's own node take now: the next hop, and what the router knows of the rest.
pub(crate) fn trace(driver: &mut Driver, to: Addr, mancon: ManCon, plane: Plane) -> Option<Trace> {
    let own = Trace {
        to,
        mancon,
        hops: Vec::new(),
        complete: true,
        distance: Some(0),
        cost_ms: Some(0.0),
        rtt_ms: None,
    };
    if to == driver.core.main() {
        return Some(own);
    }
    let next = driver.core.next_hop(to, plane)?;
    let route =
        driver.core.routes(ROUTES_MAX).into_iter().find(|route| route.to == to && route.plane == plane);
    let link = driver
        .core
        .links()
        .links()
        .into_iter()
        .filter(|link| link.peer == next.peer && link.class.family() == next.family)
        .min_by_key(|link| link.cost);
    let hop = TraceHop {
        addr: next.peer,
        class: link.as_ref().map_or_else(|| next.family.name().to_owned(), |link| link.class.to_string()),
        cost_ms: link.as_ref().map_or(cost_ms(Cost::LOOPBACK), |link| cost_ms(link.cost)),
    };
    Some(Trace {
        hops: vec![hop],
        complete: next.peer == to,
        distance: route.as_ref().and_then(|route| route.hops),
        cost_ms: route.as_ref().map(|route| cost_ms(route.cost)),
        ..own
    })
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
