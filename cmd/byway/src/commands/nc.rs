//! `byway nc`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_api::{Code, Incoming, Kind, MESSAGE_MAX, Node, Outgoing, Request};
use byway_identity::Addr;
use serde::Serialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::watch;

use super::Context;
use crate::failure::Failure;
use crate::out::Out;
use crate::stop::Stop;
use crate::target::resolve;

/// Sends each line of its input as a message, in order, and prints what comes back.
///
/// At the end of the input it makes sure that the other side has been reached, waits until no answer has come for a
/// moment, and ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address or petname to talk to.
    #[arg(required_unless_present = "listen", allow_hyphen_values = true)]
    addr: Option<String>,
    /// Waits for messages of anybody instead, and answers whoever spoke last.
    #[arg(short, long, conflicts_with = "addr")]
    listen: bool,
    /// Chunks of the input as they come instead of lines; prints messages with nothing between them.
    #[arg(long)]
    raw: bool,
    /// Key file of the node; without it a new address each time.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Seconds without an answer, after the end of the input, that end it.
    #[arg(short, long, value_name = "S", default_value_t = 1.0)]
    wait: f64,
    /// Ends after so many messages have come.
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
}

/// Bytes of one message with `--raw`: a few of them fill any queue, and none is too long.
const CHUNK: usize = 16 * 1024;

/// Runs it; `input` is read to its end.
pub(crate) async fn run(
    args: &Args,
    context: &mut Context<'_, '_>,
    input: impl AsyncRead + Unpin,
) -> Result<(), Failure> {
    let to = match &args.addr {
        Some(addr) => Some(resolve(context.service, addr).await?),
        None => None,
    };
    let node = super::open(context, args.key.as_deref()).await?;
    let talk = Talk { node: Arc::clone(&node), request: context.request(), raw: args.raw };
    if to.is_none() {
        context.out.note(format!("listening at {}", node.addr()));
    }
    let (spoke, last) = watch::channel(to);
    let mut printer = Printer { out: context.out, raw: args.raw, left: args.count };
    let mut stop = context.stop.clone();
    let outcome = tokio::select! {
        outcome = talk.listen(&mut printer, &spoke) => outcome,
        outcome = async {
            talk.tell(input, last).await?;
            match to {
                // Whoever listens goes on doing so without an input.
                None => std::future::pending().await,
                Some(to) => talk.flush(to).await,
            }
        } => match outcome {
            Ok(()) => talk.rest(&mut printer, super::seconds(args.wait)?, &mut context.stop).await,
            Err(failure) => Err(failure),
        },
        () = stop.wait() => Ok(()),
    };
    node.close();
    outcome
}

struct Talk {
    node: Arc<dyn Node>,
    request: Request,
    raw: bool,
}

impl Talk {
    /// Sends the input to whom `last` names, and waits while it names nobody.
    async fn tell(
        &self,
        input: impl AsyncRead + Unpin,
        mut last: watch::Receiver<Option<Addr>>,
    ) -> Result<(), Failure> {
        let mut input = BufReader::with_capacity(64 * 1024, input);
        let mut number = 0u64;
        loop {
            let payload = if self.raw { chunk(&mut input).await? } else { line(&mut input).await? };
            let Some(payload) = payload else { return Ok(()) };
            number += 1;
            if payload.len() > MESSAGE_MAX {
                return Err(Failure::could_not(format!(
                    "line {number} has more than {MESSAGE_MAX} bytes, the most that a message holds; --raw cuts the input into chunks"
                )));
            }
            let Ok(to) = last.wait_for(Option::is_some).await.map(|to| *to) else { return Ok(()) };
            let Some(to) = to else { return Ok(()) };
            self.node.send(Outgoing { to, kind: Kind::Message, payload, request: self.request }).await?;
        }
    }

    /// Asks for a sign of life behind all that was sent: what was only queued would go with the node.
    async fn flush(&self, to: Addr) -> Result<(), Failure> {
        match self.node.ping(to, self.request).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::no(format!("not everything has arrived for sure: {}", error.detail))),
        }
    }

    async fn listen(
        &self,
        printer: &mut Printer<'_, '_>,
        spoke: &watch::Sender<Option<Addr>>,
    ) -> Result<(), Failure> {
        loop {
            let incoming = self.node.recv(Kind::Message).await?;
            spoke.send_if_modified(|last| {
                last.is_none_or(|last| last != incoming.from) && {
                    *last = Some(incoming.from);
                    true
                }
            });
            if printer.print(&incoming)? {
                return Ok(());
            }
        }
    }

    /// Prints answers until none has come for `quiet`.
    async fn rest(
        &self,
        printer: &mut Printer<'_, '_>,
        quiet: Duration,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        loop {
            let incoming = tokio::select! {
                incoming = tokio::time::timeout(quiet, self.node.recv(Kind::Message)) => incoming,
                () = stop.wait() => return Ok(()),
            };
            match incoming {
                Err(_) => return Ok(()),
                Ok(Err(error)) if error.code == Code::Closed => return Ok(()),
                Ok(incoming) => {
                    if printer.print(&incoming?)? {
                        return Ok(());
                    }
                }
            }
        }
    }
}

struct Printer<'a, 'w> {
    out: &'a mut Out<'w>,
    raw: bool,
    left: Option<u64>,
}

#[derive(Serialize)]
struct Message {
    from: Addr,
    /// The message, where it is a text.
    text: Option<String>,
    /// Otherwise its bytes in hexadecimal digits.
    hex: Option<String>,
}

impl Printer<'_, '_> {
    /// Prints a message; true if it was the last one wanted.
    fn print(&mut self, incoming: &Incoming) -> Result<bool, Failure> {
        let payload = &incoming.payload;
        if self.out.json {
            let text = std::str::from_utf8(payload).ok().map(str::to_owned);
            let hex = text.is_none().then(|| payload.iter().map(|byte| format!("{byte:02x}")).collect());
            self.out.object(&Message { from: incoming.from, text, hex })?;
        } else if self.raw {
            self.out.bytes(payload)?;
        } else {
            let mut line = BytesMut::with_capacity(payload.len() + 1);
            line.extend_from_slice(payload);
            line.extend_from_slice(b"\n");
            self.out.bytes(&line)?;
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(self.left == Some(0))
    }
}

async fn line(input: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Bytes>, Failure> {
    let mut line = Vec::new();
    // One byte more than fits, and the end of the line, show that a line is too long.
    let read = input.take(MESSAGE_MAX as u64 + 2).read_until(b'\n', &mut line).await?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok((read > 0).then(|| line.into()))
}

async fn chunk(input: &mut (impl AsyncRead + Unpin)) -> Result<Option<Bytes>, Failure> {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    let read = input.take(CHUNK as u64).read_buf(&mut chunk).await?;
    Ok((read > 0).then(|| chunk.freeze()))
}

#[cfg(test)]
mod tests {
    use super::super::echo;
    use super::super::fake::Fake;
    use super::*;

    fn args(addr: Addr) -> Args {
        Args { addr: Some(addr.to_string()), listen: false, raw: false, key: None, wait: 0.2, count: None }
    }

    #[tokio::test]
    async fn lines_go_through_an_echo_in_order_and_it_ends_at_the_end_of_the_input() {
        let fake = Fake::new();
        let mut echo = fake.start(async move |context| echo::run(&echo::Args::ephemeral(), context).await);
        let addr: Addr = echo.line().await.parse().expect("an address");
        let input: String = (0..2_000).map(|number| format!("line {number}\n")).collect();
        let ran = fake.run(async |context| run(&args(addr), context, input.as_bytes()).await).await;
        assert_eq!(ran.data(), input);
        assert_eq!(ran.status(), 0);
    }

    #[tokio::test]
    async fn a_node_that_cannot_be_reached_is_a_no() {
        let fake = Fake::new();
        let nobody = Addr::from_bytes([1; 32]);
        let ran = fake.run(async |context| run(&args(nobody), context, b"x\n".as_slice()).await).await;
        assert_eq!(ran.status(), 1);
    }

    #[tokio::test]
    async fn a_line_that_fits_in_no_message_is_refused_and_raw_cuts_it() {
        let fake = Fake::new();
        let mut echo = fake.start(async move |context| echo::run(&echo::Args::ephemeral(), context).await);
        let addr: Addr = echo.line().await.parse().expect("an address");
        let long = vec![b'x'; MESSAGE_MAX + 1];
        let ran = fake.run(async |context| run(&args(addr), context, long.as_slice()).await).await;
        assert_eq!(ran.status(), 2);
        assert!(ran.notes().contains("line 1 has more than 65535 bytes"), "{}", ran.notes());
        let raw = Args { raw: true, ..args(addr) };
        let ran = fake.run(async |context| run(&raw, context, long.as_slice()).await).await;
        assert_eq!(ran.data().len(), long.len());
    }

    #[tokio::test]
    async fn a_listener_prints_what_comes_and_answers_whoever_spoke() {
        let fake = Fake::new();
        let listen = Args { addr: None, listen: true, ..args(fake.addr()) };
        let mut listener =
            fake.start(async move |context| run(&listen, context, b"well met\n".as_slice()).await);
        let addr =
            listener.note().await.rsplit(' ').next().and_then(|addr| addr.parse().ok()).expect("an address");
        let ran = fake.run(async |context| run(&args(addr), context, b"hello\n".as_slice()).await).await;
        assert_eq!(listener.line().await, "hello");
        fake.stop();
        assert_eq!(listener.end().await, 0);
        assert_eq!(ran.data(), "well met\n");
    }
}
