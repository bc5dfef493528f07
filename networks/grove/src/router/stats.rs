//! What a node holds, for those who measure.

use super::Router;
use crate::Stats;

impl Router {
    pub(crate) fn stats(&self) -> Stats {
        Stats { certs: self.store.len(), hops: self.peers.len() }
    }
}
