//! `byway config`.

use std::path::PathBuf;

use byway_daemon::config::{Config, DEFAULT};

use super::Context;
use crate::failure::Failure;
use crate::out::Out;

/// Checks, shows and reloads the configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Tells every fault of a configuration file with its line.
    Check {
        /// The file; without it the one that `byway up` reads.
        file: Option<PathBuf>,
    },
    /// Prints a commented configuration with every default.
    Default,
    /// Makes the running daemon read its configuration anew, and tells what needs a restart.
    Reload,
}

impl Args {
    /// Whether it talks to the daemon.
    pub(crate) fn needs_daemon(&self) -> bool {
        matches!(self.action, Action::Reload)
    }
}

/// Runs what needs no daemon.
pub(crate) fn run(args: &Args, out: &mut Out<'_>) -> Result<(), Failure> {
    match &args.action {
        Action::Default => out.bytes(DEFAULT.as_bytes()),
        Action::Check { file } => {
            let file = file.clone().unwrap_or_else(|| byway_daemon::Paths::of_user().config);
            let text =
                byway_daemon::config::read(&file).map_err(|error| Failure::could_not(error.to_string()))?;
            Config::parse(&text, &file.display().to_string())
                .map_err(|faults| Failure::could_not(faults.to_string()))?;
            out.note(format!("{}: in order", file.display()));
            Ok(())
        }
        Action::Reload => Err(Failure::could_not("reloading needs the daemon")),
    }
}

/// Asks the daemon to reload.
pub(crate) async fn reload(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let applied = context.service.reload().await?;
    if context.out.json {
        return context.out.object(&applied);
    }
    applied.iter().try_for_each(|line| context.out.line(line))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn check(text: &str) -> Result<(), Failure> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("byway.toml");
        std::fs::write(&file, text).expect("written");
        let args = Args { action: Action::Check { file: Some(file) } };
        run(&args, &mut Out::new(&mut Vec::new(), &mut Vec::new()))
    }

    #[test]
    fn the_default_is_in_order_and_faults_come_all_at_once() {
        let mut data = Vec::new();
        run(&Args { action: Action::Default }, &mut Out::new(&mut data, &mut Vec::new())).expect("printed");
        assert!(check(&String::from_utf8_lossy(&data)).is_ok());

        let faults = check("[node]\nkye = \"x\"\n[portal]\nmtu = \"big\"\n").expect_err("two faults");
        let (status, text) = faults.status();
        let text = text.expect("the faults");
        assert_eq!((status, text.lines().count()), (2, 2), "{text}");
        assert!(text.contains("byway.toml:2:1") && text.contains("byway.toml:4:7"), "{text}");
    }

    #[tokio::test]
    async fn reload_prints_what_the_daemon_says() {
        let fake = Fake::new();
        assert_eq!(fake.run(async |context| reload(context).await).await.data(), "peers: applied\n");
    }
}
