//! Which of two threads looks after the device.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Handed to and fro between the thread that watches the sockets and the one that only sends.
///
/// While little leaves, the watcher reads the device too: a question and its answer then wake one thread, and nobody waits for
/// a second one to be scheduled. Once much leaves the sender takes the device, so that both directions have a processor each;
/// when nothing has left for a while it gives the device back.
///
/// ```text
///            much leaves: hand_over
///   watcher ────────────────────────► sender
///           ◄────────────────────────
///            a pause: give_back
/// ```
pub(super) struct Baton {
    is_senders: AtomicBool,
    /// Readable once the sender shall begin.
    sender: EventFd,
    /// Readable once the watcher shall look at the device again.
    watcher: EventFd,
}

impl Baton {
    /// The watcher has it.
    pub(super) fn new() -> io::Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        Ok(Self { is_senders: AtomicBool::new(false), sender: event()?, watcher: event()? })
    }

    /// Whether the device is the sender's.
    pub(super) fn is_senders(&self) -> bool {
        self.is_senders.load(Ordering::Acquire)
    }

    /// The watcher leaves the device to the sender.
    pub(super) fn hand_over(&self) {
        self.is_senders.store(true, Ordering::Release);
        wake(&self.sender);
    }

    /// The sender leaves the device to the watcher.
    pub(super) fn give_back(&self) {
        self.is_senders.store(false, Ordering::Release);
        wake(&self.watcher);
    }

    /// What the sender waits for while the device is not its own.
    pub(super) fn sender(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }

    /// What the watcher waits for besides all else.
    pub(super) fn watcher(&self) -> BorrowedFd<'_> {
        self.watcher.as_fd()
    }

    /// Forgets that the sender was called.
    pub(super) fn sender_came(&self) {
        sleep(&self.sender);
    }

    /// Forgets that the watcher was called.
    pub(super) fn watcher_came(&self) {
        sleep(&self.watcher);
    }
}

/// It cannot be full: the other thread reads it each time.
fn wake(event: &EventFd) {
    let _ = event.write(1);
}

/// It may be unset: then nobody called.
fn sleep(event: &EventFd) {
    let _ = event.read();
}
