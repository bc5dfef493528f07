//! `byway sessions`.

use byway_api::Service;
use byway_api::body::SessionInfo;

use super::list::List;
use super::{Context, Watch};
use crate::failure::Failure;
use crate::out::{millis, span};

/// Lists the end-to-end sessions of the nodes on this daemon.
///
/// RTT is there and back; AGE counts from the last handshake; SENT and RECEIVED are messages and packets.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) watch: Watch,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    LIST.run(args.watch, context, async |service: &dyn Service| service.sessions().await).await
}

const LIST: List<SessionInfo> = List {
    name: "sessions",
    none: "there are no end-to-end sessions: they begin with the first message, and end when they are not used",
    columns: &[
        ("LOCAL", |session| session.local.to_string()),
        ("REMOTE", |session| session.remote.to_string()),
        ("PLANE", |session| session.plane.clone()),
        ("CIPHER", |session| session.cipher.clone()),
        ("RTT", |session| millis(session.rtt_ms)),
        ("AGE", |session| span(session.age_s)),
        ("SENT", |session| session.sent.to_string()),
        ("RECEIVED", |session| session.received.to_string()),
    ],
};
