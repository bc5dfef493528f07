//! `byway routes`.

use byway_api::body::RouteInfo;
use serde::Serialize;

use super::{Context, Watch};
use crate::failure::Failure;
use crate::out::millis;

/// Lists the known routes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Serialize)]
struct Answer {
    routes: Vec<RouteInfo>,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    args.watch
        .run(context, async |service, out| {
            let routes = service.routes().await?;
            if out.json {
                return out.object(&Answer { routes });
            }
            out.table(
                &["TO", "PLANE", "NEXT", "FAMILY", "HOPS", "COST"],
                &routes.iter().map(row).collect::<Vec<_>>(),
            )
        })
        .await
}

fn row(item: &RouteInfo) -> Vec<String> {
    vec![
        item.to.to_string(),
        item.plane.clone(),
        item.next.to_string(),
        item.family.clone(),
        item.hops.map_or("-".into(), |hops| hops.to_string()),
        millis(Some(item.cost_ms)),
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
        assert_eq!(value["routes"].as_array().map(Vec::len), Some(1), "{json}");
    }
}
