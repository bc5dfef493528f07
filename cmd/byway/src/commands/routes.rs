//! `byway routes`.

use byway_api::body::{RouteInfo, TreeInfo};

use super::list::{List, or_dash};
use super::{Context, Watch};
use crate::failure::Failure;
use crate::out::millis;

/// Lists the nodes that a way is known to, and this node's place in the trees of the routing protocol.
///
/// NEXT is the neighbour that frames to TO are handed to, CLASS the link to it. COST is that of the whole way, in milliseconds
/// one way. PATHS counts the ways known from end to end, which `byway trace TO` shows; with 0, each node on the way knows just
/// the next hop.
///
/// Trees lead messages to nodes far away. PLACE is the way down from the ROOT, by the numbers of links; COST is the cost to the
/// root, BELOW counts the neighbours that this node is the parent of. A protocol without trees lists none.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) watch: Watch,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    args.watch
        .run(context, async |service, out| {
            let (routes, trees) = (service.routes().await?, service.map(0).await?.trees);
            if out.json {
                let members = [ROUTES.json(&routes)?, TREES.json(&trees)?];
                return out.object(&serde_json::Map::from_iter(members));
            }
            ROUTES.show(&routes, out)?;
            if trees.is_empty() {
                return Ok(());
            }
            out.line("")?;
            TREES.show(&trees, out)
        })
        .await
}

const ROUTES: List<RouteInfo> = List {
    name: "routes",
    none: "no way to any node is known: are peers linked? (byway peers)",
    columns: &[
        ("TO", |route| route.to.to_string()),
        ("PLANE", |route| route.plane.clone()),
        ("NEXT", |route| if route.next == route.to { "(direct)".to_owned() } else { route.next.to_string() }),
        ("CLASS", |route| route.class.clone()),
        ("HOPS", |route| or_dash(route.hops)),
        ("COST", |route| millis(Some(route.cost_ms))),
        ("PATHS", |route| route.paths.to_string()),
    ],
};

const TREES: List<TreeInfo> = List {
    name: "trees",
    none: "",
    columns: &[
        ("TREE", |tree| format!("{}/{}", tree.plane, tree.index)),
        ("ROOT", |tree| tree.root.to_string()),
        ("PARENT", parent),
        ("FAMILY", |tree| or_dash(tree.family.as_ref())),
        ("COST", |tree| millis(Some(tree.cost_ms))),
        ("PLACE", place),
        ("BELOW", |tree| tree.children.len().to_string()),
    ],
};

fn parent(tree: &TreeInfo) -> String {
    match tree.parent {
        Some(parent) if parent == tree.root => "(the root)".to_owned(),
        Some(parent) => parent.to_string(),
        None if tree.coordinates.is_empty() => "(this node is the root)".to_owned(),
        None => "-".to_owned(),
    }
}

/// The labels of the links down from the root, like the folders of a path.
fn place(tree: &TreeInfo) -> String {
    let labels: Vec<_> = tree.coordinates.iter().map(u16::to_string).collect();
    format!("/{}", labels.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FAR, Fake, OTHER};
    use super::*;

    #[tokio::test]
    async fn trees_are_shown_with_this_nodes_place_in_them() {
        let fake = Fake::new();
        let args = Args { watch: Watch { watch: false } };
        let text = fake.run(async |context| run(&args, context).await).await.data();
        assert!(text.contains(&format!("{OTHER}  any    (direct)  ip/udp  1     1.5 ms  0\n")), "{text}");
        assert!(text.contains(&format!("any/0  {FAR}  {OTHER}  ip      3.0 ms  /4/17  0\n")), "{text}");
        let json = fake.json(async |context| run(&args, context).await).await.data();
        let value: serde_json::Value = serde_json::from_str(&json).expect("one object");
        assert_eq!(value["trees"][0]["coordinates"], serde_json::json!([4, 17]), "{json}");
    }
}
