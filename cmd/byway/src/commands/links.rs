//! `byway links`.

use byway_api::Service;
use byway_api::body::LinkInfo;

use super::list::List;
use super::{Context, Watch};
use crate::failure::Failure;
use crate::out::{millis, size, span};

/// Lists the open links.
///
/// RTT is there and back, LOSS of the link's own probes. COST is in milliseconds one way, and counts loss and the time to send
/// 1,200 bytes too: ways are chosen by it. MTU is the longest frame that passes whole.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) watch: Watch,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    LIST.run(args.watch, context, async |service: &dyn Service| service.links().await).await
}

const LIST: List<LinkInfo> = List {
    name: "links",
    none: "there are no open links",
    columns: &[
        ("PEER", |link| link.peer.to_string()),
        ("ENDPOINT", |link| link.endpoint.clone()),
        ("CLASS", |link| link.class.clone()),
        ("RTT", |link| millis(link.rtt_ms)),
        ("LOSS", |link| format!("{:.1}%", link.loss * 100.0)),
        ("COST", |link| millis(Some(link.cost_ms))),
        ("MTU", |link| link.mtu.to_string()),
        ("SENT", |link| size(link.sent)),
        ("RECEIVED", |link| size(link.received)),
        ("UP", |link| span(link.up_s)),
    ],
};
