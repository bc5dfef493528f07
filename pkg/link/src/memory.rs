//! Links in memory: the simplest transport, for tests and for several nodes in one process.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_network::Class;
use tokio::sync::mpsc;

use crate::{DialError, DialId, Endpoint, Event, Place, Profile, Remote, Scheme, Transport, TransportId};

/// Where transports in memory find each other.
#[derive(Clone, Default)]
pub struct MemoryHub {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    listeners: HashMap<String, mpsc::Sender<Message>>,
    next: u64,
}

/// A transport in memory, dialled as `unix:///NAME`. A full queue loses frames, as a network does.
pub struct Memory {
    id: TransportId,
    name: String,
    class: Class,
    hub: MemoryHub,
    inbox: mpsc::Receiver<Message>,
    own: mpsc::Sender<Message>,
    /// Open connections: the other end's queue, and its number there.
    connections: HashMap<u64, (mpsc::Sender<Message>, u64)>,
    /// What happened here and has not been told.
    pending: VecDeque<Event>,
}

enum Message {
    Open { theirs: u64, here: u64, back: mpsc::Sender<Message> },
    Frame { here: u64, frame: Bytes },
    Close { here: u64 },
}

const QUEUE: usize = 1_024;
const MTU: u16 = 16_384;

impl MemoryHub {
    /// A hub without transports.
    pub fn new() -> Self {
        Self::default()
    }

    /// A transport that others reach as `unix:///NAME`, with links of `class`. A later one of the same name replaces it.
    pub fn transport(&self, id: TransportId, name: &str, class: Class) -> Memory {
        let (own, inbox) = mpsc::channel(QUEUE);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.listeners.insert(name.to_owned(), own.clone());
        drop(shared);
        let (connections, pending) = (HashMap::new(), VecDeque::new());
        Memory { id, name: name.to_owned(), class, hub: self.clone(), inbox, own, connections, pending }
    }
}

impl Memory {
    fn place(&self, number: u64) -> Place {
        Place { transport: self.id, remote: Remote::Connection(number), mtu: MTU }
    }

    fn open(&mut self, endpoint: &Endpoint) -> Result<Vec<Place>, DialError> {
        let name = endpoint.path().ok_or(DialError::Unsupported)?.trim_start_matches('/');
        let mut shared = self.hub.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (here, theirs) = (shared.next, shared.next + 1);
        shared.next += 2;
        let there = shared.listeners.get(name).cloned().ok_or(DialError::Unreachable)?;
        drop(shared);
        let open = Message::Open { theirs: here, here: theirs, back: self.own.clone() };
        there.try_send(open).map_err(|_| DialError::Unreachable)?;
        self.connections.insert(here, (there, theirs));
        Ok(vec![self.place(here)])
    }

    fn take(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Open { theirs, here, back } => {
                self.connections.insert(here, (back, theirs));
                Some(Event::Opened { place: self.place(here) })
            }
            Message::Frame { here, frame } => {
                let place = self.place(here);
                self.connections
                    .contains_key(&here)
                    .then(|| Event::Frame { place, frame: BytesMut::from(&frame[..]) })
            }
            Message::Close { here } => {
                self.connections.remove(&here).map(|_| Event::Closed { place: self.place(here) })
            }
        }
    }
}

impl Transport for Memory {
    fn profile(&self) -> Profile {
        Profile { class: self.class, typical_rtt: Duration::from_millis(1), rate: None, lossy: true }
    }

    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::Unix]
    }

    fn dial(&mut self, id: DialId, endpoint: &Endpoint) {
        let result = self.open(endpoint);
        self.pending.push_back(Event::Dialled { id, result });
    }

    fn hang_up(&mut self, place: Place) {
        if let Remote::Connection(number) = place.remote
            && let Some((there, theirs)) = self.connections.remove(&number)
        {
            // A full queue there: it will see that nothing answers.
            let _ = there.try_send(Message::Close { here: theirs });
        }
    }

    fn listening(&self) -> Vec<Endpoint> {
        Endpoint::unix(&format!("/{}", self.name)).into_iter().collect()
    }

    fn describe(&self, place: Place) -> String {
        match place.remote {
            Remote::Connection(number) => format!("memory #{number}"),
            Remote::Ip(_) => "memory".to_owned(),
        }
    }

    fn poll_send(
        &mut self,
        _cx: &mut Context<'_>,
        batch: &mut VecDeque<(Place, Bytes)>,
    ) -> Poll<io::Result<()>> {
        for (place, frame) in batch.drain(..) {
            if let Remote::Connection(number) = place.remote
                && let Some((there, here)) = self.connections.get(&number)
            {
                let _ = there.try_send(Message::Frame { here: *here, frame });
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) -> Poll<io::Result<()>> {
        let before = batch.len();
        batch.extend(self.pending.drain(..));
        while batch.len() < before + QUEUE {
            match self.inbox.poll_recv(cx) {
                Poll::Ready(Some(message)) => batch.extend(self.take(message)),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if batch.len() > before { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (there, here) in self.connections.values() {
            let _ = there.try_send(Message::Close { here: *here });
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("id", &self.id)
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryHub")
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn events(memory: &mut Memory) -> Vec<Event> {
        let mut batch = Vec::new();
        poll_fn(|cx| memory.poll_recv(cx, &mut batch)).await.unwrap();
        batch
    }

    async fn joined() -> (Memory, Place, Memory, Place) {
        let hub = MemoryHub::new();
        let mut a = hub.transport(TransportId(0), "a", Class::MEMORY);
        let mut b = hub.transport(TransportId(1), "b", Class::MEMORY);
        a.dial(DialId(1), &b.listening()[0]);
        let [Event::Dialled { result: Ok(places), .. }] = &events(&mut a).await[..] else {
            panic!("no answer")
        };
        let [Event::Opened { place }] = events(&mut b).await[..] else { panic!("not opened") };
        (a, places[0], b, place)
    }

    #[tokio::test]
    async fn frames_go_both_ways_and_an_end_is_told() {
        let (mut a, to_b, mut b, to_a) = joined().await;
        let mut batch = VecDeque::from([(to_b, Bytes::from_static(b"there"))]);
        poll_fn(|cx| a.poll_send(cx, &mut batch)).await.unwrap();
        assert!(
            matches!(&events(&mut b).await[..], [Event::Frame { place, frame }] if *place == to_a && frame == "there")
        );
        let mut batch = VecDeque::from([(to_a, Bytes::from_static(b"back"))]);
        poll_fn(|cx| b.poll_send(cx, &mut batch)).await.unwrap();
        assert!(matches!(&events(&mut a).await[..], [Event::Frame { frame, .. }] if frame == "back"));
        drop(a);
        assert!(matches!(events(&mut b).await[..], [Event::Closed { place }] if place == to_a));
    }

    #[tokio::test]
    async fn who_does_not_read_loses_frames_and_holds_up_nobody() {
        let (mut a, to_b, mut b, _) = joined().await;
        for _ in 0..3 * QUEUE {
            let mut batch = VecDeque::from([(to_b, Bytes::from_static(b"x"))]);
            poll_fn(|cx| a.poll_send(cx, &mut batch)).await.unwrap();
        }
        let mut count = 0;
        while count < QUEUE {
            count += events(&mut b).await.len();
        }
        let mut batch = Vec::new();
        let is_empty = poll_fn(|cx| Poll::Ready(b.poll_recv(cx, &mut batch).is_pending())).await;
        assert!(is_empty && count == QUEUE, "{count} and {}", batch.len());
    }

    #[tokio::test]
    async fn a_name_that_nobody_has_is_unreachable() {
        let mut a = MemoryHub::new().transport(TransportId(0), "a", Class::MEMORY);
        a.dial(DialId(1), &"unix:///nobody".parse().unwrap());
        assert!(matches!(
            events(&mut a).await[..],
            [Event::Dialled { result: Err(DialError::Unreachable), .. }]
        ));
    }
}
