//! `byway peers`.

use byway_api::Service;
use byway_api::body::PeerInfo;

use super::list::{List, or_dash};
use super::{Context, Watch};
use crate::failure::Failure;

/// Lists the peers, and whether they are linked.
///
/// A peer is another daemon that this one keeps a link to; `byway peer` adds and removes them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) watch: Watch,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    LIST.run(args.watch, context, async |service: &dyn Service| service.peers().await).await
}

const LIST: List<PeerInfo> = List {
    name: "peers",
    none: "there are no peers: `byway peer add ADDR ENDPOINT` adds one",
    columns: &[
        ("ADDRESS", |peer| peer.addr.to_string()),
        ("NAME", |peer| or_dash(peer.name.as_ref())),
        ("STATE", |peer| peer.state.clone()),
        ("LINKS", |peer| peer.links.to_string()),
        ("ENDPOINTS", |peer| endpoints(peer)),
        ("TROUBLE", |peer| or_dash(peer.trouble.as_ref())),
    ],
};

fn endpoints(peer: &PeerInfo) -> String {
    if peer.endpoints.is_empty() { "(dials in)".to_owned() } else { peer.endpoints.join(" ") }
}
