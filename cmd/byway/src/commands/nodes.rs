//! `byway nodes`.

use byway_api::Service;
use byway_api::body::NodeInfo;

use super::list::{List, or_dash};
use super::{Context, Watch};
use crate::failure::Failure;

/// Lists the nodes that this daemon hosts: its own, and those that programs have opened.
///
/// HELD counts what waits for a way, QUEUED what waits for the program to take it, DROPPED what the program did not take.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) watch: Watch,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    LIST.run(args.watch, context, async |service: &dyn Service| service.nodes().await).await
}

const LIST: List<NodeInfo> = List {
    name: "nodes",
    none: "there are no nodes",
    columns: &[
        ("ADDRESS", |node| node.addr.to_string()),
        ("IPV6", |node| or_dash(node.ipv6.as_ref())),
        ("KIND", |node| if node.main { "daemon" } else { "program" }.to_owned()),
        ("HELD", |node| node.held.to_string()),
        ("QUEUED", |node| node.queued.to_string()),
        ("DROPPED", |node| node.dropped.to_string()),
    ],
};
