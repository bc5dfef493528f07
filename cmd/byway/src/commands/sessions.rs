//! `byway sessions`.

use byway_api::body::SessionInfo;
use serde::Serialize;

use super::{Context, Watch};
use crate::failure::Failure;
use crate::out::{millis, span};

/// Lists the end-to-end sessions.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Serialize)]
struct Answer {
    sessions: Vec<SessionInfo>,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    args.watch
        .run(context, async |service, out| {
            let sessions = service.sessions().await?;
            if out.json {
                return out.object(&Answer { sessions });
            }
            out.table(
                &["LOCAL", "REMOTE", "PLANE", "CIPHER", "RTT", "AGE", "SENT", "RECEIVED"],
                &sessions.iter().map(row).collect::<Vec<_>>(),
            )
        })
        .await
}

fn row(item: &SessionInfo) -> Vec<String> {
    vec![
        item.local.to_string(),
        item.remote.to_string(),
        item.plane.clone(),
        item.cipher.clone(),
        millis(item.rtt_ms),
        span(item.age_s),
        item.sent.to_string(),
        item.received.to_string(),
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
        assert_eq!(value["sessions"].as_array().map(Vec::len), Some(1), "{json}");
    }
}
