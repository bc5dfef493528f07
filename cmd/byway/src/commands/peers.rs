//! `byway peers`.

use byway_api::body::PeerInfo;
use serde::Serialize;

use super::{Context, Watch};
use crate::failure::Failure;

/// Lists the peers, and whether they are linked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Serialize)]
struct Answer {
    peers: Vec<PeerInfo>,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    args.watch
        .run(context, async |service, out| {
            let peers = service.peers().await?;
            if out.json {
                return out.object(&Answer { peers });
            }
            out.table(
                &["ADDRESS", "NAME", "STATE", "LINKS", "ENDPOINTS", "TROUBLE"],
                &peers.iter().map(row).collect::<Vec<_>>(),
            )
        })
        .await
}

fn row(item: &PeerInfo) -> Vec<String> {
    vec![
        item.addr.to_string(),
        item.name.clone().unwrap_or_else(|| "-".into()),
        item.state.clone(),
        item.links.to_string(),
        if item.endpoints.is_empty() { "(dials in)".into() } else { item.endpoints.join(" ") },
        item.trouble.clone().unwrap_or_default(),
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
        assert_eq!(value["peers"].as_array().map(Vec::len), Some(1), "{json}");
    }
}
