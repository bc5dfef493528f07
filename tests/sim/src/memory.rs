//! How much memory is in use, counted where it is given out.
//!
//! A program or test that wants to know makes [`Counting`] its global allocator. Without that all counts are 0.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, with a count.
pub struct Counting;

thread_local! {
    static IN_USE: Cell<i64> = const { Cell::new(0) };
}

/// Bytes that this thread has asked for and not given back. Below zero, if it gives back what others have asked for.
pub fn in_use() -> i64 {
    IN_USE.with(Cell::get)
}

/// Bytes that come free when `value` is dropped: all that it alone holds.
pub fn freed_by<T>(value: T) -> u64 {
    let before = in_use();
    drop(value);
    u64::try_from(before - in_use()).unwrap_or(0)
}

/// Most bytes that this process has had in memory, if the system tells.
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

fn count(bytes: i64) {
    // While a thread ends there is nothing left to count with; what it does then is not asked for.
    let _ = IN_USE.try_with(|in_use| in_use.set(in_use.get() + bytes));
}

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; each call is passed to the system's as it came"
)]
// SAFETY: the system's allocator does the work; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps the promises that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
