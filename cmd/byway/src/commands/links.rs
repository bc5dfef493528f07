//! `byway links`.

use byway_api::body::LinkInfo;

use super::list::List;
use super::status::doing;
use super::{Context, Watch};
use crate::failure::Failure;
use crate::out::{millis, size, span};

/// Lists links to peers, and those that are wanted and not open.
///
/// ROLE: `active` carries what may go any way, `standby` is open for when it is needed (or for what must go by its family),
/// `none` is not open; then STATE says how it is doing, for how long, and a line on stderr why.
/// RTT is there and back, LOSS of the link's own probes. COST is in milliseconds one way, and counts loss and the time to send
/// 1,200 bytes too: ways are chosen by it. MTU is the longest frame that passes whole. Transports that are not ready are named on
/// stderr, with what helps.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) watch: Watch,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    args.watch
        .run(context, async |service, out| {
            let links = service.links().await?;
            if out.json {
                return out.object(&serde_json::Map::from_iter([LIST.json(&links)?]));
            }
            LIST.show(&links, out)?;
            for link in &links {
                if let Some(why) = &link.why {
                    out.note(format!("{} ({}): {why}", link.peer, link.class));
                }
            }
            // A transport without links may be what people look for here.
            for transport in service.status().await?.transports {
                if transport.state != "ready" {
                    out.note(format!("{}: {}", transport.kind, doing(&transport)));
                }
            }
            Ok(())
        })
        .await
}

const LIST: List<LinkInfo> = List {
    name: "links",
    none: "there are no links",
    columns: &[
        ("PEER", |link| link.peer.to_string()),
        ("ENDPOINT", |link| link.endpoint.clone()),
        ("CLASS", |link| link.class.clone()),
        ("ROLE", |link| link.role.clone()),
        ("STATE", |link| format!("{} {}", link.state, span(link.state_s))),
        ("RTT", |link| millis(link.rtt_ms)),
        ("LOSS", |link| format!("{:.1}%", link.loss * 100.0)),
        ("COST", |link| millis(Some(link.cost_ms))),
        ("MTU", |link| link.mtu.to_string()),
        ("SENT", |link| size(link.sent)),
        ("RECEIVED", |link| size(link.received)),
        ("UP", |link| span(link.up_s)),
    ],
};

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn a_transport_that_is_not_ready_is_named_beside_the_links() {
        let args = Args { watch: Watch { watch: false } };
        let fake = Fake::new();
        let ran = fake.run(async |context| run(&args, context).await).await;
        assert_eq!(ran.notes(), "tor: starting 45%: asking for relays\n");
        assert!(!ran.data().contains("asking"), "data is links alone");
    }
}
