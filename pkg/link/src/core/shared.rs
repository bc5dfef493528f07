//! One source of randomness for the core and the endpoints that it owns.

use std::sync::{Arc, Mutex, PoisonError};

use byway_identity::Entropy;

/// A handle on the randomness that was handed in.
#[derive(Clone)]
pub(super) struct SharedEntropy(Arc<Mutex<Box<dyn Entropy>>>);

impl SharedEntropy {
    pub(super) fn new(entropy: Box<dyn Entropy>) -> Self {
        Self(Arc::new(Mutex::new(entropy)))
    }
}

impl Entropy for SharedEntropy {
    fn fill(&mut self, buffer: &mut [u8]) {
        // A source has no state that a panic elsewhere could have left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer);
    }
}
