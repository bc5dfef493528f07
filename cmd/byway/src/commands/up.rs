//! `byway up`.

use std::path::PathBuf;

use byway_daemon::{Options, Paths, Verbosity};

use crate::cli::Global;
use crate::failure::Failure;
use crate::keys;

/// Runs the daemon in the foreground.
///
/// Without a configuration it makes a key and takes safe defaults. It tells systemd when it is ready, stops cleanly on
/// SIGTERM, and reads its configuration anew on SIGHUP.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration; without it the system's or the user's, if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where keys and what was learnt at run time are kept.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Opens clear IP links, which whoever watches sees; requests at low and medium use them.
    #[arg(long)]
    direct: bool,
    /// Makes no network device.
    #[arg(long)]
    no_portal: bool,
}

/// Runs it until the daemon has stopped. Makes its own threads: privileges are dropped before there are any.
pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let options = Options {
        config: args.config.clone(),
        state: args.state.clone(),
        paths: Paths::of_user(),
        direct: args.direct,
        no_portal: args.no_portal,
        mancon: global.mancon,
        log: Verbosity::of_flags(global.verbose, global.quiet),
        passphrase: || {
            keys::passphrase("Passphrase of the key: ")
                .map_err(|failure| failure.status().1.unwrap_or_default().to_owned())
        },
    };
    byway_daemon::run(options).map_err(|error| Failure::could_not(error.to_string()))
}
