//! `byway nodes`.

use byway_api::body::NodeInfo;
use serde::Serialize;

use super::{Context, Watch};
use crate::failure::Failure;

/// Lists the nodes that this daemon hosts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Serialize)]
struct Answer {
    nodes: Vec<NodeInfo>,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    args.watch
        .run(context, async |service, out| {
            let nodes = service.nodes().await?;
            if out.json {
                return out.object(&Answer { nodes });
            }
            out.table(
                &["ADDRESS", "IPV6", "KIND", "HELD", "QUEUED", "DROPPED"],
                &nodes.iter().map(row).collect::<Vec<_>>(),
            )
        })
        .await
}

fn row(item: &NodeInfo) -> Vec<String> {
    vec![
        item.addr.to_string(),
        item.ipv6.clone().unwrap_or_else(|| "-".into()),
        if item.main { "daemon" } else { "program" }.into(),
        item.held.to_string(),
        item.queued.to_string(),
        item.dropped.to_string(),
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
        assert_eq!(value["nodes"].as_array().map(Vec::len), Some(1), "{json}");
    }
}
