//! `byway status`.

use byway_api::body::Status;

use super::{Context, Watch};
use crate::failure::Failure;
use crate::out::{Out, Paint};

/// Shows the daemon's address, level, links, and what is missing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watch: Watch,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    args.watch
        .run(context, async |service, out| {
            let status = service.status().await?;
            if out.json { out.object(&status) } else { show(&status, out) }
        })
        .await
}

fn show(status: &Status, out: &mut Out<'_>) -> Result<(), Failure> {
    let mut row = |name: &str, value: String| {
        let name = out.paint(Paint::Head, format!("{name:10}"));
        out.line(format!("{name}{value}"))
    };
    row("address", status.addr.to_string())?;
    row("ipv6", status.ipv6.clone().unwrap_or_else(|| "none".into()))?;
    row("version", format!("{}, started {}", status.version, status.started))?;
    row("network", format!("{} ({})", status.network, status.protocol))?;
    let direct = if status.direct { "allowed at low and medium" } else { "off" };
    row("level", format!("{}, floor {}; clear links {direct}", status.mancon, status.floor))?;
    match status.endpoints.as_slice() {
        [] => row("listens", "nowhere".into())?,
        endpoints => endpoints.iter().try_for_each(|endpoint| row("listens", endpoint.clone()))?,
    }
    row("peers", format!("{} of {} linked", status.peers_up, status.peers))?;
    row("nodes", status.nodes.to_string())?;
    row("portal", status.portal.clone().unwrap_or_else(|| "none".into()))?;
    for warning in &status.warnings {
        let mark = out.paint(Paint::Odd, "warning");
        out.line(format!("{mark}   {warning}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn people_see_address_and_warnings_and_programs_see_everything() {
        let fake = Fake::new();
        let args = Args { watch: Watch { watch: false } };
        let text = fake.run(async |context| run(&args, context).await).await.data();
        assert!(text.contains(&fake.addr().to_string()) && text.contains("warning   no peers"), "{text}");

        let json = fake.json(async |context| run(&args, context).await).await.data();
        let status: Status = serde_json::from_str(&json).expect("one object");
        assert_eq!(status.addr, fake.addr());
    }
}
