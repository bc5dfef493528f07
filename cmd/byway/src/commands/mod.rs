//! The commands, one file each: arguments, and a `run` that takes a client and a writer.

pub(crate) mod addr;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod dial;
pub(crate) mod down;
pub(crate) mod echo;
pub(crate) mod find;
pub(crate) mod ip6;
pub(crate) mod keygen;
pub(crate) mod links;
pub(crate) mod list;
pub(crate) mod listen;
pub(crate) mod lookup;
pub(crate) mod man;
pub(crate) mod nc;
pub(crate) mod nodes;
pub(crate) mod peer;
pub(crate) mod peers;
pub(crate) mod ping;
pub(crate) mod routes;
pub(crate) mod sessions;
pub(crate) mod status;
pub(crate) mod trace;
pub(crate) mod up;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use byway_api::{ManCon, Node, OpenNode, Request, Service};

use crate::failure::Failure;
use crate::out::Out;
use crate::stop::Stop;

/// What a command runs with.
pub(crate) struct Context<'a, 'w> {
    /// The daemon.
    pub(crate) service: &'a dyn Service,
    /// Where data and notes go.
    pub(crate) out: &'a mut Out<'w>,
    /// Level of what it sends.
    pub(crate) level: Option<ManCon>,
    /// The user's wish to end.
    pub(crate) stop: Stop,
}

impl Context<'_, '_> {
    /// A request at the level that the user named.
    pub(crate) fn request(&self) -> Request {
        Request { mancon: self.level, deadline: None }
    }
}

/// How a listing is shown.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Watch {
    /// Shows it again every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

impl Watch {
    /// Runs `show` once, or again and again.
    async fn run<F>(self, context: &mut Context<'_, '_>, mut show: F) -> Result<(), Failure>
    where
        F: AsyncFnMut(&dyn Service, &mut Out<'_>) -> Result<(), Failure>,
    {
        let mut stop = context.stop.clone();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                biased;
                () = stop.wait() => return Ok(()),
                _ = ticks.tick() => {}
            }
            if self.watch && !context.out.json {
                context.out.clear()?;
            }
            tokio::select! {
                shown = show(context.service, context.out) => shown?,
                () = stop.wait() => return Ok(()),
            }
            if !self.watch {
                return Ok(());
            }
        }
    }
}

/// Seconds that a user wrote, as a duration.
pub(crate) fn seconds(seconds: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= Duration::from_secs(86_400))
        .ok_or_else(|| Failure::could_not(format!("{seconds} is no number of seconds from 0 to 86400")))
}

/// Opens a node of this command's own: with the key in `file`, or a new key that nobody keeps.
pub(crate) async fn open(context: &Context<'_, '_>, file: Option<&Path>) -> Result<Arc<dyn Node>, Failure> {
    let key = file.map(crate::keys::read).transpose()?;
    Ok(context.service.open(OpenNode { key, mancon: context.level }).await?)
}

#[cfg(test)]
pub(crate) mod fake;
