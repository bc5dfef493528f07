//! `byway demo`: two daemons and a relay on this machine, without root.
//!
//! Where the kernel allows it, each daemon gets a network namespace of its own, joined to the relay's by a virtual cable,
//! and a TUN device, so that the web page goes through the overlay as ordinary TCP of an ordinary program. Elsewhere the
//! daemons talk over loopback, and the page goes through a stream as `dial` and `listen` make it. It says which.

mod loopback;
mod scene;
mod stage;
mod web;

use std::time::{Duration, Instant};

use byway_api::body::{Trace, TraceHop};
use byway_api::{ManCon, Request, Service};
use byway_identity::Addr;
use serde::Serialize;

pub(crate) use stage::helper;

use self::scene::Scene;
use crate::failure::Failure;
use crate::out::{Out, Paint};
use crate::stop::Stop;

/// Shows a ping and a web page going through two daemons and a relay on this machine; needs no root.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leaves everything running until Ctrl-C, to try other commands with.
    #[arg(long)]
    keep: bool,
    /// Uses loopback and streams even where namespaces and TUN devices are allowed.
    #[arg(long)]
    no_tun: bool,
}

/// The three daemons, in the order of the path.
pub(crate) const NAMES: [&str; 3] = ["ann", "relay", "bob"];
/// How long everything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pings that are shown.
const PINGS: usize = 3;
/// What the demo asks for: it opens clear links, on this machine only.
const REQUEST: Request = Request { mancon: Some(ManCon::Low), deadline: Some(Duration::from_secs(5)) };

/// What was seen.
#[derive(Serialize)]
struct Seen {
    way: &'static str,
    nodes: Vec<Node>,
    linked_ms: f64,
    ping_ms: Vec<f64>,
    page: web::Page,
    trace: Trace,
    /// Every hop from ann to bob: what ann knows of the way, and then what the relay knows.
    path: Vec<TraceHop>,
    took_ms: f64,
}

#[derive(Serialize)]
struct Node {
    name: &'static str,
    addr: Addr,
    ipv6: Option<String>,
}

/// Runs it.
pub(crate) async fn run(args: &Args, out: &mut Out<'_>, mut stop: Stop) -> Result<(), Failure> {
    let began = Instant::now();
    let mut scene = None;
    let mut interrupted = false;
    let outcome = tokio::select! {
        biased;
        () = stop.wait() => {
            interrupted = true;
            Err(Failure::no("interrupted"))
        }
        outcome = tokio::time::timeout(PATIENCE, play(args, out, began, &mut scene)) => {
            outcome.unwrap_or_else(|_| Err(Failure::no(format!("the demo is not through after {} s", PATIENCE.as_secs()))))
        }
    };
    let Some(scene) = scene else { return outcome };
    if outcome.is_ok() && args.keep {
        keep(&scene, out)?;
        stop.wait().await;
    }
    let failed = outcome.is_err() && !interrupted;
    if let (true, Some(log)) = (failed, scene.last_words()) {
        out.note(log);
    }
    scene.end().await;
    if !failed {
        out.note("stopped everything and cleaned up");
    }
    outcome
}

async fn play(
    args: &Args,
    out: &mut Out<'_>,
    began: Instant,
    place: &mut Option<Scene>,
) -> Result<(), Failure> {
    out.note("ann — relay — bob: three daemons on this machine, at level low with direct links");
    let scene = place.insert(Scene::open(args.no_tun, out).await?);
    let to = scene.services()[2].main().addr();
    let linked = linked(scene.services()).await;
    let ann = scene.services()[0];
    // The first ping finds the way and sets the end-to-end session up; the ones that are shown use them.
    while ann.main().ping(to, REQUEST).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut ping_ms = Vec::new();
    for _ in 0..PINGS {
        ping_ms.push(ann.main().ping(to, REQUEST).await?.as_secs_f64() * 1e3);
    }
    let page = scene.fetch().await?;
    let trace = scene.services()[0].trace(to, REQUEST).await?;
    let path = path(scene.services(), &trace).await?;
    let mut nodes = Vec::new();
    for (name, service) in NAMES.into_iter().zip(scene.services()) {
        let status = service.status().await?;
        nodes.push(Node { name, addr: status.addr, ipv6: status.ipv6 });
    }
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let (linked_ms, took_ms) = (millis(linked.duration_since(began)), millis(began.elapsed()));
    let seen = Seen { way: scene.way(), nodes, linked_ms, ping_ms, page, trace, path, took_ms };
    if out.json { out.object(&seen) } else { show(&seen, out) }
}

/// All hops of ann's way: a daemon knows the next one, and this demo can ask the one there for its own.
async fn path(services: [&dyn Service; 3], trace: &Trace) -> Result<Vec<TraceHop>, Failure> {
    let mut path = trace.hops.clone();
    for service in &services[1..] {
        let last = path.last().and_then(|hop| hop.addr);
        if last.is_some_and(|last| last != trace.to && last == service.main().addr()) {
            path.extend(service.trace(trace.to, REQUEST).await?.hops);
        }
    }
    Ok(path)
}

/// Waits until the relay has both links.
async fn linked(services: [&dyn Service; 3]) -> Instant {
    loop {
        if services[1].status().await.is_ok_and(|status| status.peers_up == 2) {
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn show(seen: &Seen, out: &mut Out<'_>) -> Result<(), Failure> {
    let name = |addr: &Addr| {
        let node = seen.nodes.iter().find(|node| node.addr == *addr);
        node.map_or_else(|| addr.to_string(), |node| node.name.to_owned())
    };
    let head = |out: &Out<'_>, name: &str| out.paint(Paint::Head, format!("{name:8}"));
    for node in &seen.nodes {
        let ip = node.ipv6.as_deref().unwrap_or("no IPv6 form");
        out.line(format!("{}{}  {ip}", head(out, node.name), node.addr))?;
    }
    out.line(format!("{}{:.0} ms after the start, {}", head(out, "linked"), seen.linked_ms, seen.way))?;
    let pings: Vec<_> = seen.ping_ms.iter().map(|rtt| format!("{rtt:.2} ms")).collect();
    out.line(format!("{}ann to bob and back: {}", head(out, "ping"), pings.join(", ")))?;
    let page = &seen.page;
    out.line(format!("{}{}: {} in {:.1} ms", head(out, "page"), page.url, page.status, page.took_ms))?;
    out.line(format!("        {:?}", page.title))?;
    let mut path = "ann".to_owned();
    for hop in &seen.path {
        let name = hop.addr.as_ref().map_or("a node unknown".into(), name);
        path += &format!(" ─ {}, {:.2} ms ─ {name}", hop.class, hop.cost_ms);
    }
    if seen.path.last().is_some_and(|hop| hop.addr != Some(seen.trace.to)) {
        path += &format!(" ─ … ─ {}", name(&seen.trace.to));
    }
    out.line(format!("{}{path}", head(out, "path")))?;
    let hops = seen.trace.distance.map_or("unknown".into(), |hops| hops.to_string());
    let cost = seen.trace.cost_ms.map_or("unknown".into(), |cost| format!("{cost:.2} ms"));
    out.line(format!("{}{cost} for the whole path of {hops} hops", head(out, "cost")))?;
    out.line(format!("{}{:.1} s", head(out, "took"), seen.took_ms / 1e3))
}

fn keep(scene: &Scene, out: &mut Out<'_>) -> Result<(), Failure> {
    let bob = scene.services()[2].main().addr();
    let ann = scene.socket("ann");
    out.note("everything runs on until Ctrl-C; for example, in another terminal:");
    out.line(format!("byway --api unix:{} ping --mancon low {bob}", ann.display()))?;
    out.line(format!("byway --api unix:{} status", scene.socket("relay").display()))
}
