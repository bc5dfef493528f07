//! `byway links`.

use byway_api::body::LinkInfo;
use serde::Serialize;

use super::{Context, Watch};
use crate::failure::Failure;
use crate::out::{millis, size, span};

/// Lists the open links.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Serialize)]
struct Answer {
    links: Vec<LinkInfo>,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    args.watch
        .run(context, async |service, out| {
            let links = service.links().await?;
            if out.json {
                return out.object(&Answer { links });
            }
            out.table(
                &["PEER", "ENDPOINT", "CLASS", "RTT", "LOSS", "COST", "MTU", "SENT", "RECEIVED", "UP"],
                &links.iter().map(row).collect::<Vec<_>>(),
            )
        })
        .await
}

fn row(item: &LinkInfo) -> Vec<String> {
    vec![
        item.peer.to_string(),
        item.endpoint.clone(),
        item.class.clone(),
        millis(item.rtt_ms),
        format!("{:.1}%", item.loss * 100.0),
        millis(Some(item.cost_ms)),
        item.mtu.to_string(),
        size(item.sent),
        size(item.received),
        span(item.up_s),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn each_has_a_line_and_the_json_holds_them_all() {
        let fake = Fake::new();
        let args = Args { watch: Watch { watch: false } };
        let text = fake.run(async |context| run(&args, context).await).await.data();
        assert_eq!(text.lines().count(), 2, "{text}");
        let json = fake.json(async |context| run(&args, context).await).await.data();
        let value: serde_json::Value = serde_json::from_str(&json).expect("one object");
        assert_eq!(value["links"].as_array().map(Vec::len), Some(1), "{json}");
    }
}
