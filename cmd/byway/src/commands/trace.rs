//! `byway trace`.

use byway_api::body::Trace;

use super::Context;
use crate::failure::Failure;
use crate::out::{Out, millis};
use crate::target::resolve;

/// Shows the hops, classes and costs of the way to a node.
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
pub(crate) fn show(trace: &Trace, out: &mut Out<'_>) -> Result<(), Failure> {
    let distance = match trace.distance {
        Some(1) => ", 1 hop".to_owned(),
        Some(hops) => format!(", {hops} hops"),
        None => String::new(),
    };
    let cost = trace.cost_ms.map_or(String::new(), |cost| format!(", cost {cost:.1} ms"));
    out.line(format!("to {} at {}{distance}{cost}", trace.to, trace.mancon))?;
    for (index, hop) in trace.hops.iter().enumerate() {
        let cost = millis(Some(hop.cost_ms));
        out.line(format!("{:3}  {}  {}  cost {cost}", index + 1, hop.addr, hop.class))?;
    }
    if !trace.complete {
        out.line("  …  the hops beyond are known to the nodes on the way only")?;
    }
    match trace.rtt_ms {
        Some(rtt) => out.line(format!("answered in {rtt:.1} ms")),
        None => out.line("no answer over it yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn the_way_is_shown_hop_by_hop() {
        let fake = Fake::new();
        let args = Args { addr: fake.addr().to_string() };
        let text = fake.run(async |context| run(&args, context).await).await.data();
        assert!(text.contains("2 hops, cost 3.0 ms") && text.contains("the hops beyond"), "{text}");
        let json = fake.json(async |context| run(&args, context).await).await.data();
        assert!(serde_json::from_str::<Trace>(&json).is_ok(), "{json}");
    }
}
