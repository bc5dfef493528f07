//! Receiver indices of a whole daemon: one table tells whose frame it is that comes in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which endpoint has which receiver index. Clones share one table.
///
/// Endpoints that share it never give out the same index, so the first four bytes of a frame name its session, whether it
/// is a link's or goes end to end.
#[derive(Clone, Default)]
pub struct Indices(Arc<Mutex<HashMap<u32, u32>>>);

impl Indices {
    /// The tag of the endpoint that has `index`.
    pub fn owner(&self, index: u32) -> Option<u32> {
        self.lock().get(&index).copied()
    }

    /// How many indices are given out.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is given out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives `index` to the owner of `tag`, unless somebody has it.
    pub(crate) fn claim(&self, index: u32, tag: u32) -> bool {
        let mut table = self.lock();
        let is_free = !table.contains_key(&index);
        if is_free {
            table.insert(index, tag);
        }
        is_free
    }

    pub(crate) fn free(&self, index: u32) {
        self.lock().remove(&index);
    }

    /// Each change is whole, so a panic elsewhere leaves the table as good as it was.
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
