//! eventfds: doorbells, interrupt lines, and the word that the VM has ended.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// A new one, non-blocking.
pub(crate) fn new() -> io::Result<EventFd> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
}

/// Another descriptor for the same eventfd.
pub(crate) fn duplicate(eventfd: &EventFd) -> io::Result<OwnedFd> {
    borrow(eventfd).try_clone_to_owned()
}

/// The eventfd's descriptor.
pub(crate) fn borrow(eventfd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as `eventfd` lives, and the borrow ends before.
    unsafe { BorrowedFd::borrow_raw(eventfd.as_raw_fd()) }
}
