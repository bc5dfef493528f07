//! `byway dial`.

use std::path::PathBuf;

use byway_api::ApiError;
use byway_stream::{ConnectError, Endpoint, EndpointConfig, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Context;
use crate::failure::Failure;
use crate::target::resolve;

/// The service that `dial` asks for and `listen` offers unless they are told another.
pub(crate) const SERVICE: &str = "stream";

/// Connects input and output to a service of another node, as `ssh -W` does.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address or petname.
    #[arg(allow_hyphen_values = true)]
    addr: String,
    /// Which service, as `byway listen` calls it.
    #[arg(long, value_name = "NAME", default_value = SERVICE)]
    service: String,
    /// Key file of the node; without it a new address each time.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Runs it: `input` goes there, and what comes back to `output`.
pub(crate) async fn run(
    args: &Args,
    context: &mut Context<'_, '_>,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> Result<(), Failure> {
    let to = resolve(context.service, &args.addr).await?;
    let node = super::open(context, args.key.as_deref()).await?;
    let config = EndpointConfig { accept: false, request: context.request(), ..EndpointConfig::default() };
    let endpoint = Endpoint::new(node, config);
    let connected = tokio::select! {
        biased;
        () = context.stop.wait() => Err(Failure::no("")),
        connected = endpoint.connect(to, &args.service) => connected.map_err(explain),
    };
    let outcome = match connected {
        Ok(stream) => {
            let outcome = tokio::select! {
                outcome = join(stream, input, output) => outcome,
                () = context.stop.wait() => Ok(()),
            };
            endpoint.close().await;
            outcome
        }
        // A farewell to somebody who has not answered would only take its time.
        Err(failure) => Err(failure),
    };
    endpoint.node().close();
    outcome
}

/// What usually is the matter when nothing answers: daemons take no streams, only `byway listen` does.
fn explain(error: ConnectError) -> Failure {
    match error {
        ConnectError::Timeout => Failure::no(
            "no answer in time; is it the address that `byway listen` prints, and does that still run?",
        ),
        other => ApiError::from(other).into(),
    }
}

/// Copies both ways until the other side has said its last word; the end of `input` is passed on.
async fn join(
    stream: Stream,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), Failure> {
    let (mut theirs, mut ours) = tokio::io::split(stream);
    let there = async {
        tokio::io::copy(&mut input, &mut ours).await?;
        ours.shutdown().await
    };
    let back = async {
        tokio::io::copy(&mut theirs, &mut output).await?;
        output.flush().await
    };
    tokio::pin!(there, back);
    // The other side may close early, as a web server does while our input is still a terminal.
    let outcome = tokio::select! {
        back = &mut back => back,
        there = &mut there => match there {
            Ok(()) => back.await,
            Err(error) => Err(error),
        },
    };
    outcome.map_err(|error| match Failure::from(error) {
        Failure::CouldNot(text) => Failure::no(format!("the stream broke: {text}")),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use byway_identity::Addr;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::super::fake::Fake;
    use super::super::listen;
    use super::*;

    #[tokio::test]
    async fn bytes_go_through_to_a_tcp_server_and_back() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = server.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let (mut socket, _) = server.accept().await.expect("a connection");
            let mut all = Vec::new();
            socket.read_to_end(&mut all).await.expect("the end");
            all.reverse();
            socket.write_all(&all).await.expect("room");
        });
        let fake = Fake::new();
        let listen = listen::Args::to(&format!("tcp:127.0.0.1:{port}"));
        let mut listener = fake.start(async move |context| listen::run(&listen, context).await);
        let addr: Addr = listener.line().await.parse().expect("an address");

        let sent: Vec<u8> = (0..200_000u32).map(|number| number as u8).collect();
        let mut back = Vec::new();
        let args = Args { addr: addr.to_string(), service: SERVICE.into(), key: None };
        let ran = fake.run(async |context| run(&args, context, sent.as_slice(), &mut back).await).await;
        assert_eq!(ran.status(), 0, "{}", ran.notes());
        assert!(back.iter().rev().eq(&sent));

        let other = Args { service: "other".into(), ..args };
        let ran = fake.run(async |context| run(&other, context, sent.as_slice(), &mut back).await).await;
        assert_eq!(ran.status(), 1, "{}", ran.notes());
        fake.stop();
        assert_eq!(listener.end().await, 0);
    }

    #[tokio::test]
    async fn ctrl_c_ends_the_waiting_for_an_answer() {
        let fake = Fake::new();
        fake.stop();
        // The daemon's own node is there, and takes no streams.
        let args = Args { addr: fake.addr().to_string(), service: SERVICE.into(), key: None };
        let ran = fake.run(async |context| run(&args, context, tokio::io::empty(), Vec::new()).await).await;
        assert_eq!((ran.status(), ran.notes()), (1, String::new()));
    }

    #[test]
    fn silence_is_explained() {
        let failure = explain(ConnectError::Timeout);
        assert!(
            failure.status().0 == 1 && failure.status().1.is_some_and(|text| text.contains("byway listen"))
        );
    }
}
