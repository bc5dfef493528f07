//! What is due when, in the order in which it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Plans of a world: a heap of small keys over a slab, so that nothing large is moved and nothing is allocated for long.
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    planned: u32,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), planned: 0 }
    }

    /// Plans `event` for `at`, in nanoseconds since the world began.
    pub(crate) fn push(&mut self, at: u64, event: E) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(event);
        self.heap.push(Reverse((at, self.planned, slot)));
        // After 2^32 events one of the same instant may come before its elder; the same seed still runs the same.
        self.planned = self.planned.wrapping_add(1);
    }

    /// When the next event is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next event out, if it is due by `until`.
    pub(crate) fn pop(&mut self, until: u64) -> Option<(u64, E)> {
        self.next().filter(|at| *at <= until)?;
        let Reverse((at, _, slot)) = self.heap.pop()?;
        let event = self.slots[slot as usize].take()?;
        self.free.push(slot);
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_planning() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b')] {
            queue.push(at, event);
        }
        assert_eq!(queue.pop(2), Some((1, 'a')));
        assert_eq!(queue.pop(2), None);
        queue.push(5, 'e');
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop(9)).collect();
        assert_eq!(rest, [(3, 'b'), (5, 'c'), (5, 'd'), (5, 'e')]);
        assert_eq!(queue.slots.len(), 4, "a slot is used again");
    }
}
