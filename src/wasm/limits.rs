//! What bounds the memories and tables of one instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

use super::engine::{MEMORIES, TABLE_ELEMENTS, TABLES};
use super::instance::GLUED_MAX;

/// Counts what the memories and tables of one store take together, and denies what is past the bound.
pub(super) struct Limits {
    /// Bytes of all linear memories.
    memory: Meter,
    /// Bytes of the memories of all instances of the plugin, these among them.
    together: Arc<AtomicU64>,
    /// Elements of all tables.
    tables: Meter,
    /// The last growth that was denied in the call that runs.
    denied: Option<Denied>,
}

/// What a guest wanted and did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Memories of so many bytes together.
    Memory { wanted: usize },
    /// Tables of so many elements together.
    Tables { wanted: usize },
}

#[derive(Clone, Copy)]
struct Meter {
    max: usize,
    used: usize,
    /// The last growth that was granted: taken back if it then fails.
    last: usize,
}

impl Meter {
    /// Takes what a growth needs, or says what it would all have come to.
    fn grow(&mut self, current: usize, desired: usize) -> Result<(), usize> {
        let more = desired.saturating_sub(current);
        self.last = 0;
        let wanted = self.used.saturating_add(more);
        if wanted > self.max {
            return Err(wanted);
        }
        self.used = wanted;
        self.last = more;
        Ok(())
    }

    fn failed(&mut self) {
        self.used -= std::mem::take(&mut self.last);
    }
}

impl Limits {
    /// Bounds for one instance; `memory` in bytes. What it takes of that is added to `together` while it lives.
    pub(super) fn new(memory: u64, together: Arc<AtomicU64>) -> Self {
        let max = usize::try_from(memory).unwrap_or(usize::MAX);
        let meter = |max| Meter { max, used: 0, last: 0 };
        Limits { memory: meter(max), together, tables: meter(TABLE_ELEMENTS), denied: None }
    }

    /// A call begins.
    pub(super) fn begin(&mut self) {
        self.denied = None;
    }

    /// What was denied last since the call began.
    pub(super) fn denied(&self) -> Option<Denied> {
        self.denied
    }

    /// Bytes of all linear memories now.
    pub(super) fn memory_used(&self) -> usize {
        self.memory.used
    }

    /// The bound on them.
    pub(super) fn memory_max(&self) -> usize {
        self.memory.max
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.together.fetch_sub(self.memory.used as u64, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let grown = self.memory.grow(current, desired).map_err(|wanted| self.denied = Some(Denied::Memory { wanted }));
        if grown.is_ok() {
            self.together.fetch_add(self.memory.last as u64, Ordering::Relaxed);
        }
        Ok(grown.is_ok())
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.together.fetch_sub(self.memory.last as u64, Ordering::Relaxed);
        self.memory.failed();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let grown = self.tables.grow(current, desired).map_err(|wanted| self.denied = Some(Denied::Tables { wanted }));
        Ok(grown.is_ok())
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.tables.failed();
        Ok(())
    }

    fn instances(&self) -> usize {
        1 + GLUED_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_share_one_bound_and_a_failed_growth_is_taken_back() {
        let together = Arc::new(AtomicU64::new(7));
        let mut limits = Limits::new(100, together.clone());
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.memory_growing(0, 41, None).unwrap());
        assert_eq!(limits.denied(), Some(Denied::Memory { wanted: 101 }));
        assert!(limits.memory_growing(0, 40, None).unwrap());
        limits.memory_grow_failed(wasmtime::Error::msg("the system has no room")).unwrap();
        assert_eq!((limits.memory_used(), together.load(Ordering::Relaxed)), (60, 67));
        limits.begin();
        assert!(limits.memory_growing(60, 100, None).unwrap() && limits.denied().is_none());
        assert_eq!(together.load(Ordering::Relaxed), 107);
        drop(limits);
        assert_eq!(together.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn tables_are_bounded_beside_it() {
        let mut limits = Limits::new(0, Arc::default());
        assert!(limits.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert!(!limits.table_growing(0, 1, None).unwrap());
        assert_eq!(limits.denied(), Some(Denied::Tables { wanted: TABLE_ELEMENTS + 1 }));
    }
}
