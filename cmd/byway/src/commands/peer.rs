//! `byway peer`.

use byway_api::body::PeerSpec;
use byway_identity::Addr;

use super::Context;
use crate::failure::Failure;
use crate::target::resolve;

/// Adds and removes peers of the running daemon.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Adds a peer, or replaces its endpoints; kept over restarts in the state directory.
    Add {
        /// Its address.
        #[arg(allow_hyphen_values = true)]
        addr: Addr,
        /// Where to dial it, like udp://host.example:2561; none: it may only dial in.
        endpoints: Vec<String>,
        /// By what links to it may go, whoever dials, like tls or tor; may come several times. None: by all.
        #[arg(long = "transport", value_name = "TRANSPORT")]
        transports: Vec<String>,
        /// A petname, usable wherever an address is asked for.
        #[arg(long)]
        name: Option<String>,
        /// Writes it to the configuration file, too.
        #[arg(long)]
        save: bool,
    },
    /// Removes a peer and ends its links.
    Rm {
        /// Its address or petname.
        #[arg(allow_hyphen_values = true)]
        addr: String,
    },
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    match &args.action {
        Action::Add { addr, endpoints, transports, name, save } => {
            let spec = PeerSpec {
                addr: *addr,
                name: name.clone(),
                endpoints: endpoints.clone(),
                transports: transports.clone(),
                save: *save,
            };
            context.service.add_peer(spec).await?;
            context.out.note(format!("added {addr}"));
        }
        Action::Rm { addr } => {
            let addr = resolve(context.service, addr).await?;
            context.service.remove_peer(addr).await?;
            context.out.note(format!("removed {addr}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn what_is_added_is_there_until_it_is_removed_by_its_petname() {
        let fake = Fake::new();
        let addr = Addr::from_bytes([9; 32]);
        let endpoints = vec!["udp://192.0.2.1:2561".to_owned()];
        let (name, transports) = (Some("ann".to_owned()), vec!["udp".to_owned()]);
        let add = Action::Add {
            addr,
            endpoints: endpoints.clone(),
            transports: transports.clone(),
            name: name.clone(),
            save: true,
        };
        let add = Args { action: add };
        assert_eq!(fake.run(async |context| run(&add, context).await).await.status(), 0);
        let spec = fake.added().pop().expect("one was added");
        assert_eq!(spec, PeerSpec { addr, name, endpoints, transports, save: true });

        let rm = Args { action: Action::Rm { addr: "ann.byway".into() } };
        assert_eq!(fake.run(async |context| run(&rm, context).await).await.status(), 0);
        assert!(fake.added().is_empty());
        assert_eq!(
            fake.run(async |context| run(&rm, context).await).await.status(),
            2,
            "the petname is gone"
        );
    }
}
