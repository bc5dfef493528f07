//! `byway trace`.

use byway_api::body::{Trace, TraceHop};

use super::Context;
use crate::failure::Failure;
use crate::out::{Out, Paint, millis};
use crate::target::resolve;

/// Shows the ways to a node, hop by hop, with the class and the cost of each link.
///
/// The way in use comes first, then the others that are known from end to end. Where only the next hop is known, the output
/// says why. A cost is in milliseconds one way, and counts loss and the time on a slow link too; the answer's time is there
/// and back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address or petname.
    #[arg(allow_hyphen_values = true)]
    addr: String,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let to = resolve(context.service, &args.addr).await?;
    let trace = context.service.trace(to, context.request()).await?;
    if context.out.json {
        return context.out.object(&trace);
    }
    show(&trace, context.out)
}

/// Prints `trace` for people.
fn show(trace: &Trace, out: &mut Out<'_>) -> Result<(), Failure> {
    out.line(format!("to {} at level {}, plane {}", trace.to, trace.mancon, trace.plane))?;
    if trace.hops.is_empty() {
        out.line("this is the daemon's own node")?;
    } else if !trace.paths.iter().any(|path| path.in_use) {
        let length = trace.distance.map_or("unknown length".to_owned(), hops);
        let cost = trace.cost_ms.map_or_else(String::new, |cost| format!(", cost {cost:.1} ms"));
        out.line("")?;
        let head = out.paint(Paint::Head, "way in use");
        out.line(format!("{head}: {length}{cost}"))?;
        steps(&trace.hops, out)?;
        if let Some(why) = &trace.why {
            out.line(format!("  …  {why}"))?;
        }
    }
    for path in &trace.paths {
        out.line("")?;
        let head = out.paint(Paint::Head, if path.in_use { "way in use" } else { "other way" });
        let length = u8::try_from(path.hops.len()).map_or("more hops than a frame makes".to_owned(), hops);
        out.line(format!("{head}: {length}, cost {:.1} ms", path.cost_ms))?;
        steps(&path.hops, out)?;
    }
    out.line("")?;
    match trace.rtt_ms {
        Some(rtt) => out.line(format!("answered in {rtt:.1} ms, there and back")),
        None => out.line("no answer over it yet"),
    }
}

/// A line for each hop; the last column is what it costs up to there.
fn steps(hops: &[TraceHop], out: &mut Out<'_>) -> Result<(), Failure> {
    let mut total = 0.0;
    let rows: Vec<_> = (1..)
        .zip(hops)
        .map(|(number, hop)| {
            total += hop.cost_ms;
            let node = hop.addr.map_or("unknown node".to_owned(), |addr| addr.to_string());
            vec![
                format!("{number:3}"),
                node,
                hop.class.clone(),
                millis(Some(hop.cost_ms)),
                millis(Some(total)),
            ]
        })
        .collect();
    out.table(&["HOP", "NODE", "CLASS", "COST", "IN ALL"], &rows)
}

fn hops(number: u8) -> String {
    if number == 1 { "1 hop".to_owned() } else { format!("{number} hops") }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FAR, Fake, OTHER};
    use super::*;

    async fn traced(addr: byway_identity::Addr) -> (String, String) {
        let fake = Fake::new();
        let args = Args { addr: addr.to_string() };
        let text = fake.run(async |context| run(&args, context).await).await.data();
        (text, fake.json(async |context| run(&args, context).await).await.data())
    }

    #[tokio::test]
    async fn where_only_the_next_hop_is_known_it_is_named_and_why() {
        let (text, json) = traced(OTHER).await;
        assert!(text.contains("way in use: 2 hops, cost 3.0 ms\n"), "{text}");
        assert!(text.contains(&format!("  1  {OTHER}  ip/udp  1.5 ms  1.5 ms\n")), "{text}");
        assert!(text.contains("  …  each node on the way knows just the next hop\n"), "{text}");
        assert!(text.contains("answered in 3.5 ms, there and back"), "{text}");
        assert!(serde_json::from_str::<Trace>(&json).is_ok(), "{json}");
    }

    #[tokio::test]
    async fn every_whole_way_is_shown_hop_by_hop_with_what_it_costs_so_far() {
        let (text, json) = traced(FAR).await;
        let (used, other) = text.split_once("other way: 2 hops, cost 6.0 ms\n").expect("two ways");
        let rows: Vec<Vec<&str>> = used
            .lines()
            .filter(|line| line.starts_with("  "))
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
            .collect();
        let (near, far) = (OTHER.to_string(), FAR.to_string());
        assert_eq!(
            rows,
            [
                ["1", near.as_str(), "ip/udp", "1.5 ms", "1.5 ms"],
                ["2", "unknown node", "tor/onion", "1.5 ms", "3.0 ms"],
                ["3", far.as_str(), "ip/udp", "1.5 ms", "4.5 ms"],
            ],
            "{text}"
        );
        assert!(used.contains("way in use: 3 hops, cost 4.5 ms"), "{text}");
        assert!(other.contains("i2p/stream") && other.contains(&far), "{text}");
        let trace: Trace = serde_json::from_str(&json).expect("one object");
        assert_eq!((trace.paths.len(), trace.hops[1].addr, trace.complete), (2, None, true));
    }
}
