//! The nodes that clients opened: who may use them, and when they end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use byway_api::{ApiError, Code, Node};
use byway_identity::Addr;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::token::Token;

/// How long a node without a stream is kept after its last use, unless it persists.
pub(crate) const IDLE: Duration = Duration::from_secs(60);

/// How often that is looked at.
const SWEEP: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Hosted {
    nodes: Mutex<HashMap<Addr, Place>>,
    /// Told whenever a node ends.
    ended: Notify,
}

struct Place {
    node: Arc<dyn Node>,
    /// None: only its stream uses it.
    token: Option<Token>,
    persist: bool,
    streams: usize,
    used: Instant,
}

/// A stream's hold on a node, which ends with the last of them unless it persists.
pub(crate) struct Lease {
    hosted: Arc<Hosted>,
    node: Arc<dyn Node>,
}

impl Lease {
    pub(crate) fn node(&self) -> &dyn Node {
        &*self.node
    }
}

impl Hosted {
    /// Takes a node in, to be used with `token` or, if there is none, by the stream that [`Hosted::lease`] is called for.
    pub(crate) fn insert(&self, node: Arc<dyn Node>, token: Option<Token>, persist: bool) {
        let place = Place { token, persist, streams: 0, used: Instant::now(), node };
        if let Some(old) = self.lock().insert(place.node.addr(), place) {
            // Its key is free again, as the service has given it to the new one; what is left is a dead handle.
            old.node.close();
        }
    }

    /// The node, if `token` is the one that was given out for it.
    pub(crate) fn get(&self, addr: Addr, token: Option<&str>) -> Result<Arc<dyn Node>, ApiError> {
        let mut nodes = self.lock();
        let place = nodes.get_mut(&addr).ok_or_else(|| unknown(addr))?;
        match (&place.token, token) {
            (Some(right), Some(shown)) if right.matches(shown) => {
                place.used = Instant::now();
                Ok(Arc::clone(&place.node))
            }
            (None, _) => Err(ApiError::new(
                Code::Unauthorized,
                "this node belongs to the INET256 client that opened it",
            )),
            (Some(_), _) => Err(ApiError::new(
                Code::Unauthorized,
                "the node's token is missing or wrong; POST /v1/nodes gave it to who opened the node",
            )),
        }
    }

    /// A stream's hold on `node`.
    pub(crate) fn lease(self: &Arc<Self>, node: &Arc<dyn Node>) -> Result<Lease, ApiError> {
        let mut nodes = self.lock();
        match nodes.get_mut(&node.addr()).filter(|place| Arc::ptr_eq(&place.node, node)) {
            Some(place) => {
                place.streams += 1;
                Ok(Lease { hosted: Arc::clone(self), node: Arc::clone(node) })
            }
            None => Err(unknown(node.addr())),
        }
    }

    /// Ends the node, whoever uses it; false if there is none.
    pub(crate) fn end(&self, addr: Addr) -> bool {
        let place = self.lock().remove(&addr);
        if let Some(place) = &place {
            place.node.close();
            self.ended.notify_waiters();
        }
        place.is_some()
    }

    /// Waits until some node ends, at most for `wait`.
    pub(crate) async fn some_end(&self, wait: Duration) {
        let _ = tokio::time::timeout(wait, self.ended.notified()).await;
    }

    /// Ends, for ever, the nodes that nobody has used for [`IDLE`].
    pub(crate) async fn sweep(hosted: std::sync::Weak<Self>) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            let Some(hosted) = hosted.upgrade() else { return };
            let mut gone = Vec::new();
            hosted.lock().retain(|_, place| {
                let keep = place.persist || place.streams > 0 || place.used.elapsed() < IDLE;
                if !keep {
                    gone.push(Arc::clone(&place.node));
                }
                keep
            });
            for node in gone {
                node.close();
                hosted.ended.notify_waiters();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Addr, Place>> {
        // Each change is one call on the map, so a panic elsewhere cannot leave it half changed.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut nodes = self.hosted.lock();
        let Entry::Occupied(mut entry) = nodes.entry(self.node.addr()) else {
            return;
        };
        let place = entry.get_mut();
        if !Arc::ptr_eq(&place.node, &self.node) {
            return;
        }
        place.streams -= 1;
        place.used = Instant::now();
        if place.streams == 0 && !place.persist {
            entry.remove();
            drop(nodes);
            self.node.close();
            self.hosted.ended.notify_waiters();
        }
    }
}

fn unknown(addr: Addr) -> ApiError {
    ApiError::new(Code::Unknown, format!("no client has the node {addr} open"))
}
