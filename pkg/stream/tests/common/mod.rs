//! Nodes in memory whose network can lose, reorder, delay and cut.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use byway_api::{ApiError, BoxFuture, Code, Incoming, Kind, Node, Outgoing, Request, Sent};
use byway_identity::{Addr, Prefix, PublicKey, SigningKey};
use tokio::sync::{mpsc, watch};

/// What the network does to messages.
#[derive(Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Messages lost, in a thousand.
    pub(crate) loss: u64,
    /// Messages that arrive after later ones, in a thousand.
    pub(crate) reorder: u64,
    /// How long each message is on its way.
    pub(crate) delay: Duration,
}

/// Messages that one node holds for its reader.
const QUEUE: usize = 256;

/// A network of [`Fake`] nodes.
pub(crate) struct Net {
    weather: Weather,
    random: AtomicU64,
    nodes: Mutex<HashMap<Addr, mpsc::Sender<Incoming>>>,
    /// Nothing passes while this is set.
    pub(crate) cut: AtomicBool,
    /// What every send is answered with, if anything.
    pub(crate) refusal: Mutex<Option<ApiError>>,
    /// Messages that were lost on purpose.
    pub(crate) lost: AtomicUsize,
    pub(crate) mtu: usize,
}

impl Net {
    pub(crate) fn new(seed: u64, weather: Weather) -> Arc<Self> {
        println!("seed {seed}");
        Arc::new(Self {
            weather,
            random: AtomicU64::new(seed),
            nodes: Mutex::default(),
            cut: AtomicBool::new(false),
            refusal: Mutex::new(None),
            lost: AtomicUsize::new(0),
            mtu: 1380,
        })
    }

    /// Opens a node; one with the same key takes the place of the first, as after a restart.
    pub(crate) fn open(self: &Arc<Self>, number: u8) -> Arc<Fake> {
        let key = SigningKey::from_seed(&[number; 32]);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let public = key.public();
        let addr = public.addr();
        self.nodes.lock().unwrap().insert(addr, sender);
        Arc::new(Fake {
            net: Arc::clone(self),
            addr,
            public,
            receiver: tokio::sync::Mutex::new(receiver),
            closed: watch::Sender::new(false),
            held: Mutex::new(None),
        })
    }

    /// SplitMix64, so that a seed says all.
    fn chance(&self, thousandths: u64) -> bool {
        let mut z = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % 1000 < thousandths
    }
}

/// A node in memory.
pub(crate) struct Fake {
    net: Arc<Net>,
    addr: Addr,
    public: PublicKey,
    receiver: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    closed: watch::Sender<bool>,
    /// A message that is overtaken by the next.
    held: Mutex<Option<(mpsc::Sender<Incoming>, Incoming)>>,
}

impl Fake {
    async fn carry(&self, outgoing: Outgoing) -> Result<Sent, ApiError> {
        let net = &self.net;
        if *self.closed.borrow() {
            return Err(ApiError::new(Code::Closed, "the node has ended"));
        }
        if let Some(error) = net.refusal.lock().unwrap().clone() {
            return Err(error);
        }
        let sent = Sent { mancon: byway_api::ManCon::Low, held: false };
        let way = net.nodes.lock().unwrap().get(&outgoing.to).cloned();
        if net.cut.load(Ordering::Relaxed) || net.chance(net.weather.loss) {
            net.lost.fetch_add(1, Ordering::Relaxed);
            return Ok(sent);
        }
        let Some(way) = way else { return Ok(sent) };
        let message = Incoming { from: self.addr, payload: outgoing.payload };
        if net.chance(net.weather.reorder) {
            let before = self.held.lock().unwrap().replace((way, message));
            if let Some((way, message)) = before {
                self.deliver(way, message).await;
            }
            return Ok(sent);
        }
        self.deliver(way, message).await;
        let held = self.held.lock().unwrap().take();
        if let Some((way, message)) = held {
            self.deliver(way, message).await;
        }
        Ok(sent)
    }

    async fn deliver(&self, way: mpsc::Sender<Incoming>, message: Incoming) {
        if self.net.weather.delay.is_zero() {
            // Waits while the receiver's queue is full: the back-pressure of a real node.
            let _ = way.send(message).await;
        } else {
            let delay = self.net.weather.delay;
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = way.try_send(message);
            });
        }
    }
}

impl Node for Fake {
    fn addr(&self) -> Addr {
        self.addr
    }

    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Sent, ApiError>> {
        Box::pin(self.carry(outgoing))
    }

    fn recv(&self, _kind: Kind) -> BoxFuture<'_, Result<Incoming, ApiError>> {
        Box::pin(async {
            let mut closed = self.closed.subscribe();
            let mut receiver = self.receiver.lock().await;
            tokio::select! {
                Some(message) = receiver.recv() => Ok(message),
                _ = closed.wait_for(|closed| *closed) => Err(ApiError::new(Code::Closed, "the node has ended")),
            }
        })
    }

    fn try_recv(&self, _kind: Kind) -> Option<Incoming> {
        None
    }

    fn find(&self, _prefix: Prefix, _request: Request) -> BoxFuture<'_, Result<Addr, ApiError>> {
        Box::pin(async { Err(ApiError::new(Code::Unknown, "not here")) })
    }

    fn lookup(&self, _addr: Addr, _request: Request) -> BoxFuture<'_, Result<PublicKey, ApiError>> {
        Box::pin(async { Err(ApiError::new(Code::Unknown, "not here")) })
    }

    fn ping(&self, _to: Addr, _request: Request) -> BoxFuture<'_, Result<Duration, ApiError>> {
        Box::pin(async { Err(ApiError::new(Code::Unknown, "not here")) })
    }

    fn path_mtu(&self, _to: Addr) -> usize {
        self.net.mtu
    }

    fn close(&self) {
        self.closed.send_replace(true);
    }
}

/// Bytes that differ at every place where a mistake could hide.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
