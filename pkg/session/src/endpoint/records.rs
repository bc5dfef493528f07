//! Records of others, the newest of each: a record older than one that was seen is refused.

use std::collections::{HashMap, VecDeque};

use byway_identity::Addr;

use crate::record::Record;

const MOST: usize = 1024;

/// A cache that forgets what was learnt first.
#[derive(Default)]
pub(super) struct Records {
    records: HashMap<Addr, Record>,
    order: VecDeque<Addr>,
}

impl Records {
    pub(super) fn get(&self, addr: &Addr) -> Option<&Record> {
        self.records.get(addr)
    }

    /// Whether nothing newer than `record` is known that still counts at `unix`.
    pub(super) fn is_newest(&self, record: &Record, unix: u64) -> bool {
        self.records
            .get(&record.addr)
            .is_none_or(|known| known.rank() <= record.rank() || known.content.until < unix)
    }

    /// Keeps `record`; a short form does not replace the whole one of the same record.
    pub(super) fn keep(&mut self, record: Record) {
        let addr = record.addr;
        match self.records.get_mut(&addr) {
            Some(known) if known.digest == record.digest && known.is_whole() && !record.is_whole() => {}
            Some(known) => *known = record,
            None => {
                if self.order.len() >= MOST
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.records.remove(&oldest);
                }
                self.order.push_back(addr);
                self.records.insert(addr, record);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}
