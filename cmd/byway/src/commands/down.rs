//! `byway down`.

use super::Context;
use crate::failure::Failure;

/// Asks the daemon to stop, and waits until it has.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many seconds to wait for it.
    #[arg(long, value_name = "S", default_value_t = 30)]
    wait: u64,
}

/// How often to look whether it is gone.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    context.service.shutdown().await?;
    let gone = async {
        while context.service.status().await.is_ok() {
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(std::time::Duration::from_secs(args.wait), gone).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Failure::no(format!("the daemon still runs after {} s; its log says why", args.wait))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn it_waits_until_the_daemon_answers_no_more() {
        let fake = Fake::new();
        let args = Args { wait: 1 };
        assert_eq!(fake.run(async |context| run(&args, context).await).await.status(), 0);
        assert!(fake.is_down());
    }

    #[tokio::test]
    async fn a_daemon_that_stays_is_a_no() {
        let fake = Fake::new();
        fake.refuse_to_stop();
        let args = Args { wait: 0 };
        assert_eq!(fake.run(async |context| run(&args, context).await).await.status(), 1);
    }
}
