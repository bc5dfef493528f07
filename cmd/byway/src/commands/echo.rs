//! `byway echo`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use byway_api::{Code, Incoming, Kind, Node, Outgoing, Request};
use byway_identity::Addr;
use serde::Serialize;
use tokio::sync::mpsc;

use super::Context;
use crate::failure::Failure;

/// A node that sends every message back; prints its address first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Key file of the node; without it a new address each time.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Serialize)]
struct Started {
    addr: Addr,
}

#[cfg(test)]
impl Args {
    /// A new address.
    pub(crate) fn ephemeral() -> Self {
        Self { key: None }
    }
}

/// Messages that wait for one sender's way back.
const QUEUE: usize = 1_024;
/// Senders with a queue of their own.
const SENDERS: usize = 1_024;
/// How long a full queue may hold up the others.
const PATIENCE: Duration = Duration::from_secs(1);
/// A sender is forgotten after this silence.
const FORGET: Duration = Duration::from_secs(60);

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let node = super::open(context, args.key.as_deref()).await?;
    let started = Started { addr: node.addr() };
    if context.out.json {
        context.out.object(&started)?;
    } else {
        context.out.line(started.addr)?;
    }
    let (refusals, mut refused) = mpsc::channel(1);
    let mut echo = Echo { node, request: context.request(), senders: HashMap::new(), refusals };
    let mut told = false;
    loop {
        let incoming = tokio::select! {
            biased;
            () = context.stop.wait() => break,
            Some(refusal) = refused.recv(), if !told => {
                context.out.note(format!("nothing is sent back: {refusal}"));
                told = true;
                continue;
            }
            incoming = echo.node.recv(Kind::Message) => incoming?,
        };
        echo.answer(incoming).await;
    }
    echo.node.close();
    Ok(())
}

/// One queue for each sender, so that one that cannot be reached does not hold up the rest.
struct Echo {
    node: Arc<dyn Node>,
    request: Request,
    senders: HashMap<Addr, mpsc::Sender<Outgoing>>,
    /// What the daemon says when the level allows no way; one of these is enough.
    refusals: mpsc::Sender<String>,
}

impl Echo {
    async fn answer(&mut self, incoming: Incoming) {
        let Incoming { from, payload } = incoming;
        let outgoing = Outgoing { to: from, kind: Kind::Message, payload, request: self.request };
        let outgoing = match self.senders.get(&from) {
            Some(queue) => match queue.send_timeout(outgoing, PATIENCE).await {
                Ok(()) => return,
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => return,
                Err(mpsc::error::SendTimeoutError::Closed(outgoing)) => outgoing,
            },
            None => outgoing,
        };
        self.senders.retain(|_, queue| !queue.is_closed());
        if self.senders.len() >= SENDERS {
            return;
        }
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let _ = queue.try_send(outgoing);
        self.senders.insert(from, queue);
        let (node, refusals) = (Arc::clone(&self.node), self.refusals.clone());
        tokio::spawn(async move {
            while let Ok(Some(outgoing)) = tokio::time::timeout(FORGET, waiting.recv()).await {
                // A sender that is gone gets no echo; there is nobody to tell. A refusal concerns the user here.
                if let Err(error) = node.send(outgoing).await
                    && error.code == Code::ManconUnsatisfied
                {
                    let _ = refusals.try_send(error.detail);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use byway_api::{ManCon, OpenNode};

    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn the_address_comes_first_and_messages_come_back_in_order() {
        let fake = Fake::new();
        let mut ran = fake.start(async move |context| run(&Args { key: None }, context).await);
        let addr: Addr = ran.line().await.parse().expect("an address");
        let node = fake.service().open(OpenNode::default()).await.expect("a node");
        for number in 0..100u8 {
            let payload = Bytes::from(vec![number]);
            let outgoing = Outgoing { to: addr, kind: Kind::Message, payload, request: Request::default() };
            node.send(outgoing).await.expect("room");
        }
        for number in 0..100u8 {
            let incoming = node.recv(Kind::Message).await.expect("an echo");
            assert_eq!((incoming.from, incoming.payload.as_ref()), (addr, [number].as_slice()));
        }
        fake.stop();
        assert_eq!(ran.end().await, 0);
    }

    #[tokio::test]
    async fn a_level_without_a_way_is_told_and_does_not_end_it() {
        let fake = Fake::new();
        fake.refuse_above(ManCon::Medium);
        let mut ran = fake.start(async move |context| {
            context.level = Some(ManCon::High);
            run(&Args { key: None }, context).await
        });
        let to: Addr = ran.line().await.parse().expect("an address");
        let low = OpenNode { mancon: Some(ManCon::Low), ..OpenNode::default() };
        let node = fake.service().open(low).await.expect("a node");
        let outgoing =
            Outgoing { to, kind: Kind::Message, payload: Bytes::new(), request: Request::default() };
        node.send(outgoing.clone()).await.expect("room");
        let note = ran.note().await;
        assert!(note.starts_with("nothing is sent back: "), "{note}");
        node.send(outgoing).await.expect("it goes on");
        fake.stop();
        assert_eq!(ran.end().await, 0);
    }
}
